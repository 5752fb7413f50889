package habits_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Zigbee2MQTT, which speaks through MQTT.js.
const (
	z2mConnect = "\x10\x4a" + // CONNECT, 74 bytes
		"\x00\x04MQTT\x04" + // 3.1.1
		"\x2e" + // will: retained, QoS 1; Clean Session
		"\x00\x3c" + // keep alive 60 s
		"\x00\x0fmqttjs_1f2e3d4c" +
		"\x00\x18zigbee2mqtt/bridge/state" + "\x00\x13{\"state\":\"offline\"}" // will

	// SUBSCRIBE to all that it publishes itself, with QoS 0, and SUBACK.
	z2mSubscribe = "\x82\x12" + "\x8c\x21" + "\x00\x0dzigbee2mqtt/#" + "\x00"
	z2mSuback    = "\x90\x03" + "\x8c\x21" + "\x00"

	z2mOnline = "\x31\x2c" + "\x00\x18zigbee2mqtt/bridge/state" + "{\"state\":\"online\"}" // PUBLISH, QoS 0, retained

	// CONNECT with 5.0: Clean Start, keep alive 60 s, properties: Maximum Packet Size 1 MiB.
	z2mConnect5 = "\x10\x21" + "\x00\x04MQTT\x05" + "\x02" + "\x00\x3c" +
		"\x05" + "\x27\x00\x10\x00\x00" + "\x00\x0fmqttjs_5a6b7c8d"
	z2mMaximum = 1 << 20

	z2mDevices = "zigbee2mqtt/bridge/devices"
)

// z2mDeviceList is a payload for bridge/devices of at least n bytes: a list of
// what every device of the house can do.
func z2mDeviceList(n int) string {
	var list strings.Builder
	list.WriteByte('[')
	for i := 0; list.Len() < n; i++ {
		fmt.Fprintf(&list, `{"ieee_address":"0x00158d%010x","type":"EndDevice","network_address":%d,"supported":true,"disabled":false,`+
			`"definition":{"model":"WSDCGQ11LM","vendor":"Aqara","exposes":[{"type":"numeric","name":"temperature","unit":"°C","access":1},`+
			`{"type":"numeric","name":"humidity","unit":"%%","access":1}]},"power_source":"Battery","interview_completed":true},`, i, i)
	}
	return strings.TrimSuffix(list.String(), ",") + "]"
}

// It hears everything that it says, and some of its users wait for that: the
// copy comes with the acknowledgement, in one write.
func TestZ2MHearsItself(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	d := plug(t, b)
	d.write(z2mConnect)
	d.expect(accepted)
	d.write(z2mSubscribe)
	d.expect(z2mSuback)
	d.write(z2mOnline)
	d.expect("\x30" + z2mOnline[1:]) // a new message: RETAIN is 0
	d.expectNothing()

	// PUBLISH, QoS 1, retained; the copy with QoS 0, and PUBACK.
	const topic, state = "\x00\x10zigbee2mqtt/lamp", "{\"state\":\"ON\"}"
	d.write("\x33\x22" + topic + "\x8c\x22" + state)
	chunk := make([]byte, 512)
	n, err := d.Read(chunk)
	require.NoError(t, err)
	require.Equal(t, "\x30\x20"+topic+state+"\x40\x02\x8c\x22", string(chunk[:n]))
	d.expectNothing()
}

// When it comes back it looks whether its own bridge/info is retained, and says
// everything again if not: so it gets what is retained before anything else,
// with RETAIN.
func TestZ2MFindsItsOwnInfo(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	const info = "\x00\x17zigbee2mqtt/bridge/info" + "{\"version\":\"2.14.1\"}"
	first := plug(t, b)
	first.write(z2mConnect)
	first.expect(accepted)
	first.write("\x31\x2d" + info) // PUBLISH, QoS 0, retained
	first.expectNothing()
	first.cut()

	again := plug(t, b)
	again.write(z2mConnect)
	again.expect(accepted)
	again.write(z2mSubscribe)
	again.expect(z2mSuback)
	in := intake{device: again, chunk: 512}
	var got []string
	for range 2 {
		p := in.next()
		require.Equal(t, byte(0x31), p.first)
		got = append(got, p.topicOf()+" "+string(p.payloadOf()))
	}
	require.ElementsMatch(t, []string{
		`zigbee2mqtt/bridge/info {"version":"2.14.1"}`,
		`zigbee2mqtt/bridge/state {"state":"offline"}`, // its will
	}, got)
	again.expectNothing()
}

// drops are the copies that were dropped.
type drops struct {
	mu   sync.Mutex
	list []petrel.Drop
}

func (d *drops) MessageDropped(_ context.Context, drop *petrel.Drop) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, *drop)
}

// take returns those since the last call.
func (d *drops) take() []petrel.Drop {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.list
	d.list = nil
	return list
}

// The list of its devices is a retained message of a megabyte. Whoever has said
// that this is too much does not get it, and gets everything else; all others do.
func TestZ2MMegabyte(t *testing.T) {
	var dropped drops
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{&dropped}})
	list := z2mDeviceList(z2mMaximum)
	tooLarge := []petrel.Drop{{ClientID: "mqttjs_5a6b7c8d", Topic: z2mDevices, QoS: petrel.AtMostOnce, Reason: petrel.DropTooLarge}}

	d := plug(t, b)
	d.write(z2mConnect)
	d.expect(accepted)
	d.write(z2mSubscribe)
	d.expect(z2mSuback)
	modest := z2mModest(t, b, "\x00")
	app := watcher(b, "app", packets.AtMostOnce, "zigbee2mqtt/#")

	d.write(frame(0x31, field(z2mDevices), list))
	d.expect(frame(0x30, field(z2mDevices), list)) // the device itself has no limit
	require.Equal(t, petrel.AtMostOnce, app.ExpectPublish(z2mDevices, list).QoS)
	modest.ExpectNothing()
	require.Equal(t, tooLarge, dropped.take())

	d.write(z2mOnline)
	modest.ExpectPublish("zigbee2mqtt/bridge/state", `{"state":"online"}`)
	app.ExpectPublish("zigbee2mqtt/bridge/state", `{"state":"online"}`)

	// The same with what is retained.
	late := watcher(b, "late", packets.AtMostOnce, z2mDevices)
	require.True(t, late.ExpectPublish(z2mDevices, list).Retain)
	modest.Subscribe(packets.AtMostOnce, z2mDevices, "zigbee2mqtt/bridge/state")
	modest.ExpectPublish("zigbee2mqtt/bridge/state", `{"state":"online"}`)
	modest.ExpectNothing()
	require.Equal(t, tooLarge, dropped.take())
	require.Equal(t, map[petrel.DropReason]uint64{petrel.DropTooLarge: 2}, b.Stats().Dropped)
}

// z2mModest is a client of 5.0 that takes packets of 1 MiB at most, and one
// message at a time.
func z2mModest(t *testing.T, b *brokertest.Broker, qos string) *brokertest.Client {
	c := b.Dial(packets.V5)
	c.SendRaw([]byte(z2mConnect5))
	require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](c).Reason)
	// SUBSCRIBE, without properties.
	c.SendRaw([]byte("\x82\x13" + "\x8c\x21" + "\x00" + "\x00\x0dzigbee2mqtt/#" + qos))
	require.False(t, brokertest.Expect[*packets.Suback](c).Reasons[0].IsError())
	return c
}

// What is allowed is the size of the whole packet, to the byte.
func TestZ2MMaximumPacketSize(t *testing.T) {
	for _, c := range []struct {
		name string
		qos  byte
		size int
		fits bool
	}{
		{"qos 0, one byte less", 0, z2mMaximum - 1, true},
		{"qos 0, exactly", 0, z2mMaximum, true},
		{"qos 0, one byte more", 0, z2mMaximum + 1, false},
		{"qos 1, exactly", 1, z2mMaximum, true},
		{"qos 1, one byte more", 1, z2mMaximum + 1, false},
		{"qos 2, one byte more", 2, z2mMaximum + 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var dropped drops
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{&dropped}})
			modest := z2mModest(t, b, string(c.qos))
			app := watcher(b, "app", packets.AtMostOnce, "zigbee2mqtt/#")
			sender := speaker(b, "sender")
			qos := packets.QoS(c.qos)

			head := 1 + 3 + 2 + len(z2mDevices) + 1 // first byte, Remaining Length, topic, property length
			if qos > packets.AtMostOnce {
				head += 2 // packet identifier
			}
			payload := z2mDeviceList(c.size)[:c.size-head]
			sender.Publish(z2mDevices, payload, qos)
			app.ExpectPublish(z2mDevices, payload)
			if c.fits {
				modest.Accept(modest.ExpectPublish(z2mDevices, payload))
				require.Empty(t, dropped.take())
			} else {
				require.Equal(t, []petrel.Drop{{ClientID: "mqttjs_5a6b7c8d", Topic: z2mDevices, QoS: qos, Reason: petrel.DropTooLarge}}, dropped.take())
			}
			modest.ExpectNothing()
			sender.Publish("zigbee2mqtt/lamp", "{}", qos)
			modest.Accept(modest.ExpectPublish("zigbee2mqtt/lamp", "{}"))
			modest.ExpectNothing()
			require.Equal(t, 3, b.Stats().ClientsConnected)
		})
	}
}
