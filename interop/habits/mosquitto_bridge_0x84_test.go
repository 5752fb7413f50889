package habits_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// A mosquitto 2.0 in a cottage with a bridge of the name "kitchen" to the broker:
// "topic sensors/# in 1", "topic alarms/# out 1".
const (
	bridgeState = "$SYS/broker/connection/cottage.kitchen/state"

	bridgeRest = "\x2c" + // will: retained, QoS 1; no Clean Session
		"\x00\x3c" + // keep alive 60 s
		"\x00\x0fcottage.kitchen" +
		"\x00\x2c" + bridgeState + "\x00\x010" // will

	// CONNECT, 76 bytes: first as a bridge, which is 3.1.1 with bit 7 set, then like everybody.
	bridgeConnect84 = "\x10\x4c" + "\x00\x04MQTT\x84" + bridgeRest
	bridgeConnect04 = "\x10\x4c" + "\x00\x04MQTT\x04" + bridgeRest
	// The same of a bridge that is configured for 3.1.
	bridgeConnect83 = "\x10\x4e" + "\x00\x06MQIsdp\x83" + bridgeRest
	bridgeConnect03 = "\x10\x4e" + "\x00\x06MQIsdp\x03" + bridgeRest

	bridgeRefused = "\x20\x02\x00\x01" // CONNACK, the protocol level is not supported

	// PUBLISH, QoS 1, retained: it tells the world that it is there. PUBACK.
	bridgeUp    = "\x33\x31" + "\x00\x2c" + bridgeState + "\x00\x01" + "1"
	bridgeUpAck = "\x40\x02\x00\x01"

	// SUBSCRIBE to what comes in, UNSUBSCRIBE from what only goes out, in one segment. SUBACK, UNSUBACK.
	bridgeTopics = "\x82\x0e" + "\x00\x02" + "\x00\x09sensors/#" + "\x01" +
		"\xa2\x0c" + "\x00\x03" + "\x00\x08alarms/#"
	bridgeTopicsAcks = "\x90\x03\x00\x02\x01" + "\xb0\x02\x00\x03"

	// PUBLISH, QoS 1, retained: what a neighbour of the bridge has said. PUBACK.
	bridgeAlarm    = "\x33\x0e" + "\x00\x08alarms/x" + "\x00\x04" + "hi"
	bridgeAlarmAck = "\x40\x02\x00\x04"
	// The same on a topic to which it has subscribed itself ("topic sensors/# both 1").
	bridgeSensor    = "\x33\x0f" + "\x00\x09sensors/x" + "\x00\x05" + "hi"
	bridgeSensorAck = "\x40\x02\x00\x05"
)

// bridged is a bridge at work, by the given CONNECT.
func bridged(t *testing.T, b *brokertest.Broker, connect, connack string) *device {
	d := plug(t, b)
	d.write(connect)
	d.expect(connack)
	d.write(bridgeUp)
	d.expect(bridgeUpAck)
	d.write(bridgeTopics)
	d.expect(bridgeTopicsAcks)
	return d
}

// A bridge whose protocol level is refused comes back with the one of everybody.
func TestMosquittoBridgeFallsBack(t *testing.T) {
	for _, c := range []struct {
		name            string
		connect, second string
	}{
		{"0x84, then 0x04", bridgeConnect84, bridgeConnect04},
		{"0x83, then 0x03", bridgeConnect83, bridgeConnect03},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			first := plug(t, b)
			first.write(c.connect)
			first.expect(bridgeRefused)
			first.expectEnd()
			require.Equal(t, uint64(1), b.Stats().BridgeLevels)
			require.Zero(t, b.Stats().Sessions)

			app := watcher(b, "app", packets.AtLeastOnce, "#", "$SYS/#")
			d := bridged(t, b, c.second, accepted)
			d.write(bridgeAlarm)
			d.expect(bridgeAlarmAck)
			p := app.ExpectPublish("alarms/x", "hi")
			require.False(t, p.Retain)
			app.Accept(p)
			d.write(bridgeSensor) // a client like any other gets what it says itself
			d.expect("\x32\x0f"+"\x00\x09sensors/x"+"\x00\x01"+"hi", bridgeSensorAck)
			d.write("\x40\x02\x00\x01")
			d.expectNothing()
		})
	}
}

// Its will and its first message go to a topic on which nobody but the broker
// speaks. That is no reason to refuse it, only not to pass them on.
func TestMosquittoBridgeSpeaksOnSYS(t *testing.T) {
	for _, c := range []struct {
		name    string
		options petrel.Options
		connect string
	}{
		{"as everybody", petrel.Options{}, bridgeConnect04},
		{"as a bridge", petrel.Options{TolerateBridgeLevel: true}, bridgeConnect84},
	} {
		t.Run(c.name, func(t *testing.T) {
			var dropped drops
			o := c.options
			o.Hooks = []petrel.Hook{&dropped}
			b := brokertest.New(t, o)
			app := watcher(b, "app", packets.AtLeastOnce, "#", "$SYS/#")
			reserved := []petrel.Drop{{Topic: bridgeState, QoS: petrel.AtLeastOnce, Reason: petrel.DropReserved}}

			d := bridged(t, b, c.connect, accepted)
			require.Equal(t, reserved, dropped.take(), "the first message")
			d.cut()
			require.Equal(t, reserved, dropped.take(), "the will")
			require.Equal(t, uint64(2), b.Stats().Dropped[petrel.DropReserved])
			require.Equal(t, "none", retained(b, "$SYS/#"))

			speaker(b, "sensor").Publish("sensors/y", "meanwhile", packets.AtLeastOnce)
			app.Accept(app.ExpectPublish("sensors/y", "meanwhile"))
			back := plug(t, b)
			back.write(c.connect)
			// Its session was kept, and so is what came meanwhile: PUBLISH, QoS 1.
			back.expect(resumed, "\x32\x16"+"\x00\x09sensors/y"+"\x00\x01"+"meanwhile")
			back.write("\x40\x02\x00\x01")
			back.expectNothing()
			app.ExpectNothing()
		})
	}
}

// Where it is let in as a bridge it gets back nothing of what it says, or two
// brokers would pass it to each other for ever, and it sees what was retained
// for the other side to retain it too.
func TestMosquittoBridgeAsBridge(t *testing.T) {
	for _, c := range []struct{ name, connect string }{
		{"0x84", bridgeConnect84},
		{"0x83", bridgeConnect83},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{TolerateBridgeLevel: true})
			app := watcher(b, "app", packets.AtMostOnce, "sensors/#", "alarms/#")
			sensor := speaker(b, "sensor")
			sensor.PublishWith(packets.Publish{Topic: []byte("sensors/old"), Payload: []byte("1"), QoS: packets.AtLeastOnce, Retain: true})
			app.ExpectPublish("sensors/old", "1")

			d := plug(t, b)
			d.write(c.connect)
			d.expect(accepted)
			require.Equal(t, uint64(1), b.Stats().BridgeLevels)
			d.write(bridgeUp, bridgeTopics)
			// SUBACK, what is retained with RETAIN, UNSUBACK.
			d.expect(bridgeUpAck, "\x90\x03\x00\x02\x01", "\x33\x10"+"\x00\x0bsensors/old"+"\x00\x01"+"1", "\xb0\x02\x00\x03")
			d.write("\x40\x02\x00\x01")

			d.write(bridgeAlarm)
			d.expect(bridgeAlarmAck)
			app.ExpectPublish("alarms/x", "hi")
			d.write(bridgeSensor)
			d.expect(bridgeSensorAck) // and no copy
			app.ExpectPublish("sensors/x", "hi")
			d.expectNothing()

			for _, m := range []struct {
				retain bool
				first  string
			}{{false, "\x30"}, {true, "\x31"}} { // RETAIN as published
				sensor.PublishWith(packets.Publish{Topic: []byte("sensors/new"), Payload: []byte("2"), QoS: packets.AtMostOnce, Retain: m.retain})
				d.expect(m.first + "\x0e" + "\x00\x0bsensors/new" + "2")
			}
		})
	}
}

// What a bridge has retained is retained here, and it does not get it back when
// it subscribes again.
func TestMosquittoBridgeComesBack(t *testing.T) {
	b := brokertest.New(t, petrel.Options{TolerateBridgeLevel: true})
	d := bridged(t, b, bridgeConnect84, accepted)
	d.write(bridgeSensor)
	d.expect(bridgeSensorAck)
	d.cut()
	require.Equal(t, "hi", retained(b, "sensors/x"))
	back := bridged(t, b, bridgeConnect84, resumed)
	back.expectNothing()
	require.True(t, watcher(b, "app", packets.AtMostOnce, "sensors/#").ExpectPublish("sensors/x", "hi").Retain)
}
