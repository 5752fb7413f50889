package habits_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// The AWS IoT SDK v2. Whoever uses it has configured no user name: this one is
// for the statistics of its maker.
const (
	awsUserName = "?SDK=IoTDeviceSDK/JS&Platform=Unix&Metadata=(CRTVersion=1.33.2;IoTSDKFeature=F/5,G/A;IoTSDKMetricsVersion=1)"

	awsConnect = "\x10\x7b" + // CONNECT, 123 bytes
		"\x00\x04MQTT\x05" + // 5.0
		"\x82" + // user name, no password; Clean Start
		"\x04\xb0" + // keep alive 1,200 s
		"\x00" + // no properties
		"\x00\x00" + // no client identifier
		"\x00\x6c" + awsUserName

	// SUBSCRIBE, "cmd/#" with QoS 1, and SUBACK.
	awsSubscribe = "\x82\x0b" + "\x00\x01" + "\x00" + "\x00\x05cmd/#" + "\x01"
	awsSuback    = "\x90\x04" + "\x00\x01" + "\x00" + "\x01"
)

// awsDurable is a CONNECT of a device with an identifier, a session that lasts
// and a will, by a library of the given version.
func awsDurable(library string) string {
	return frame(0x10, "\x00\x04MQTT\x05"+
		"\x8c"+ // user name, no password; will: not retained, QoS 1
		"\x04\xb0"+ // keep alive 1,200 s
		"\x05"+"\x11\x00\x00\x0e\x10", // properties: Session Expiry Interval 3,600 s
		field("sensor-7"),
		"\x00", field("sensors/7/gone"), field("power?"), // will, without properties
		field(strings.Replace(awsUserName, "1.33.2", library, 1)))
}

// A user name without a password is no attempt to prove anything. The broker
// hands it to the hook as what it is, and accepts the flags.
func TestAWSGhostUserName(t *testing.T) {
	var asked []petrel.ConnectRequest
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{
		petrel.AuthenticatorFunc(func(_ context.Context, r *petrel.ConnectRequest) error {
			asked = append(asked, *r)
			if r.HasPassword { // there are users, and there are guests
				return packets.BadUserNameOrPassword
			}
			return nil
		}),
	}})
	d := b.Dial(packets.V5)
	d.SendRaw([]byte(awsConnect))
	ack := brokertest.Expect[*packets.Connack](d)
	require.Equal(t, packets.Success, ack.Reason)
	require.NotEmpty(t, ack.AssignedClientID)
	require.False(t, ack.HasServerKeepAlive, "20 minutes are as good as any keep alive")

	require.Len(t, asked, 1)
	require.True(t, asked[0].HasUserName)
	require.Equal(t, awsUserName, asked[0].UserName)
	require.False(t, asked[0].HasPassword)
	require.Empty(t, asked[0].Password)
	require.True(t, asked[0].AssignedID)
	require.Equal(t, string(ack.AssignedClientID), asked[0].ClientID)
	require.Equal(t, 20*time.Minute, asked[0].KeepAlive)

	d.SendRaw([]byte(awsSubscribe))
	sub := brokertest.Expect[*packets.Suback](d)
	require.Equal(t, []packets.ReasonCode{packets.GrantedQoS1}, sub.Reasons)
	d.ExpectNothing()
}

// Two devices without identifiers are two devices, though they give the same
// user name.
func TestAWSGhostsAreNotOne(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	var ids []string
	for range 2 {
		d := b.Dial(packets.V5)
		d.SendRaw([]byte(awsConnect))
		ids = append(ids, string(brokertest.Expect[*packets.Connack](d).AssignedClientID))
	}
	require.NotEqual(t, ids[0], ids[1])
	require.Equal(t, 2, b.Stats().ClientsConnected)
	require.Zero(t, b.Stats().TakenOver)
}

// It ends by closing the connection: its session ends with it, and its will is
// published.
func TestAWSEndsWithoutDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		house := watcher(b, "house", packets.AtLeastOnce, "sensors/+/gone")
		without := plug(t, b)
		without.write(awsConnect)
		require.Equal(t, byte(0x20), (&intake{device: without, chunk: 512}).next().first)
		without.write(awsSubscribe)
		without.expect(awsSuback)
		require.Equal(t, 2, b.Stats().Sessions)
		without.cut()
		require.Equal(t, 1, b.Stats().Sessions)
		require.Equal(t, 1, b.Stats().Subscriptions)

		durable := b.Dial(packets.V5)
		durable.SendRaw([]byte(awsDurable("1.33.2")))
		require.False(t, brokertest.Expect[*packets.Connack](durable).SessionPresent)
		durable.SendRaw([]byte(awsSubscribe))
		brokertest.Expect[*packets.Suback](durable)
		stop := time.Now()
		durable.Drop()
		house.Accept(house.ExpectPublish("sensors/7/gone", "power?"))
		require.Zero(t, time.Since(stop))
		house.Publish("cmd/reboot", "now", packets.AtLeastOnce)

		time.Sleep(30 * time.Minute)
		back := b.Dial(packets.V5)
		back.SendRaw([]byte(awsDurable("1.33.2")))
		require.True(t, brokertest.Expect[*packets.Connack](back).SessionPresent)
		back.Accept(back.ExpectPublish("cmd/reboot", "now"))
		back.ExpectNothing()
	})
}

// The name changes with every version of the library. A host that lets guests
// in takes it from their identity, or else an update would lock the device out
// of its session.
func TestAWSUpdatesItsLibrary(t *testing.T) {
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{
		petrel.AuthenticatorFunc(func(_ context.Context, r *petrel.ConnectRequest) error {
			if !r.HasPassword {
				r.Identity = "" // a guest
			}
			return nil
		}),
	}})
	for n, library := range []string{"1.33.2", "1.34.0"} {
		d := b.Dial(packets.V5)
		d.SendRaw([]byte(awsDurable(library)))
		ack := brokertest.Expect[*packets.Connack](d)
		require.Equal(t, packets.Success, ack.Reason)
		require.Equal(t, n > 0, ack.SessionPresent)
		d.Drop()
	}
}
