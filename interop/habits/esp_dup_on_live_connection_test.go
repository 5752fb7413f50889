package habits_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// An ESP32 with esp-mqtt. What is not acknowledged it sends again after a second,
// on the connection that it has.
const (
	espRetransmit = time.Second

	espConnect = "\x10\x19" + // CONNECT, 25 bytes
		"\x00\x04MQTT\x04" + // 3.1.1
		"\x02" + // Clean Session
		"\x00\x78" + // keep alive 120 s
		"\x00\x0dESP32_1a2B3C4" // client identifier: the end of the MAC address

	espQoS1   = "\x32\x15" + "\x00\x0b/topic/qos1" + "\xaf\xa2" + "data_3" // PUBLISH, QoS 1
	espQoS1D  = "\x3a\x15" + "\x00\x0b/topic/qos1" + "\xaf\xa2" + "data_3" // the same with DUP
	espPuback = "\x40\x02\xaf\xa2"

	espQoS2    = "\x34\x15" + "\x00\x0b/topic/qos2" + "\xaf\xa3" + "data_4" // PUBLISH, QoS 2
	espQoS2D   = "\x3c\x15" + "\x00\x0b/topic/qos2" + "\xaf\xa3" + "data_4" // the same with DUP
	espPubrec  = "\x50\x02\xaf\xa3"
	espPubrel  = "\x62\x02\xaf\xa3"
	espPubcomp = "\x70\x02\xaf\xa3"
)

func espConnected(t *testing.T, b *brokertest.Broker) *device {
	d := plug(t, b)
	d.write(espConnect)
	d.expect(accepted)
	return d
}

// A repeated QoS 1 message is a message; what DUP says changes nothing. A
// repeated QoS 2 message is none until PUBREL has released its identifier.
// Either way it gets the answer that it repeats itself for.
func TestESPRepeatsItself(t *testing.T) {
	for _, c := range []struct {
		name   string
		script [][2]string // what is written, one second after the other, and what is answered
		seen   []string    // by a subscriber
	}{
		{"qos 1 once", [][2]string{{espQoS1, espPuback}}, []string{"data_3"}},
		{"qos 1 again with dup", [][2]string{{espQoS1, espPuback}, {espQoS1D, espPuback}}, []string{"data_3", "data_3"}},
		{"qos 1, only the repetition arrives", [][2]string{{espQoS1D, espPuback}}, []string{"data_3"}},
		{"qos 1 and its repetition in one segment", [][2]string{{espQoS1 + espQoS1D, espPuback + espPuback}}, []string{"data_3", "data_3"}},
		{"qos 2 once", [][2]string{{espQoS2, espPubrec}, {espPubrel, espPubcomp}}, []string{"data_4"}},
		{"qos 2, publish again", [][2]string{{espQoS2, espPubrec}, {espQoS2D, espPubrec}, {espQoS2D, espPubrec}, {espPubrel, espPubcomp}}, []string{"data_4"}},
		{"qos 2, pubrel again", [][2]string{{espQoS2, espPubrec}, {espPubrel, espPubcomp}, {espPubrel, espPubcomp}, {espPubrel, espPubcomp}}, []string{"data_4"}},
		{"qos 2, everything again", [][2]string{{espQoS2, espPubrec}, {espQoS2D, espPubrec}, {espPubrel, espPubcomp}, {espPubrel, espPubcomp}}, []string{"data_4"}},
		{"qos 2, only the repetition arrives", [][2]string{{espQoS2D, espPubrec}, {espPubrel, espPubcomp}}, []string{"data_4"}},
		{"qos 2, all in one segment", [][2]string{{espQoS2 + espQoS2D + espPubrel + espPubrel, espPubrec + espPubrec + espPubcomp + espPubcomp}}, []string{"data_4"}},
		{"qos 2, the identifier again for the next message", [][2]string{
			{espQoS2, espPubrec}, {espPubrel, espPubcomp}, {espQoS2, espPubrec}, {espPubrel, espPubcomp},
		}, []string{"data_4", "data_4"}},
		{"qos 1 and 2 mixed, answered in order", [][2]string{
			{espQoS2 + espQoS1, espPubrec + espPuback}, {espQoS1D + espQoS2D, espPuback + espPubrec}, {espPubrel, espPubcomp},
		}, []string{"data_4", "data_3", "data_3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				app := watcher(b, "app", packets.AtMostOnce, "/topic/#")
				esp := espConnected(t, b)
				for _, step := range c.script {
					esp.write(step[0])
					esp.expect(step[1])
					time.Sleep(espRetransmit)
				}
				for _, payload := range c.seen {
					p := brokertest.Expect[*packets.Publish](app)
					require.Equal(t, payload, string(p.Payload))
					require.False(t, p.Dup)
				}
				app.ExpectNothing()
				esp.expectNothing()
				require.Equal(t, 2, b.Stats().ClientsConnected)
			})
		})
	}
}

// The same in MQTT 5.0, where it is against the rules, and harmless: a
// repetition takes nothing from the Receive Maximum.
func TestESPRepeatsItselfInVersion5(t *testing.T) {
	b := brokertest.New(t, petrel.Options{ReceiveMaximum: 1})
	app := watcher(b, "app", packets.ExactlyOnce, "/topic/#")
	esp := b.Dial(packets.V5)
	esp.SendRaw([]byte("\x10\x1a" + "\x00\x04MQTT\x05" + "\x02" + "\x00\x78" + "\x00" + "\x00\x0dESP32_1a2B3C4"))
	require.Equal(t, uint16(1), brokertest.Expect[*packets.Connack](esp).ReceiveMaximum)

	for _, flags := range []string{"\x34", "\x3c", "\x3c"} { // PUBLISH, QoS 2, then with DUP
		esp.SendRaw([]byte(flags + "\x16" + "\x00\x0b/topic/qos2" + "\xaf\xa3" + "\x00" + "data_4"))
		rec := brokertest.Expect[*packets.Pubrec](esp)
		require.Equal(t, uint16(0xafa3), rec.PacketID)
		require.Equal(t, packets.Success, rec.Reason)
	}
	for _, want := range []packets.ReasonCode{packets.Success, packets.PacketIdentifierNotFound} {
		esp.SendRaw([]byte(espPubrel))
		comp := brokertest.Expect[*packets.Pubcomp](esp)
		require.Equal(t, uint16(0xafa3), comp.PacketID)
		require.Equal(t, want, comp.Reason)
	}
	app.Accept(app.ExpectPublish("/topic/qos2", "data_4"))
	app.ExpectNothing()
	esp.ExpectNothing()
	require.Zero(t, b.Stats().ReceiveMaximumExceeded)
}

// The broker does not do the same: what it has sent it sends again on another
// connection only, however long the device takes.
func TestESPIsNotSentAnythingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		esp := espConnected(t, b)
		// SUBSCRIBE, two filters with QoS 2, and SUBACK.
		esp.write("\x82\x15" + "\xaf\xa4" + "\x00\x06/cmd/1" + "\x01" + "\x00\x07/cmd/22" + "\x02")
		esp.expect("\x90\x04" + "\xaf\xa4" + "\x01\x02")
		app := speaker(b, "app")
		app.Publish("/cmd/1", "on", packets.AtLeastOnce)
		esp.expect("\x32\x0c" + "\x00\x06/cmd/1" + "\x00\x01" + "on")
		app.Publish("/cmd/22", "on", packets.ExactlyOnce)
		esp.expect("\x34\x0d" + "\x00\x07/cmd/22" + "\x00\x02" + "on")
		for range 10 {
			time.Sleep(100 * time.Second)
			esp.expectNothing()
		}
		esp.write("\x40\x02\x00\x01", "\x50\x02\x00\x02") // PUBACK, PUBREC
		esp.expect("\x62\x02\x00\x02")                    // PUBREL
		for range 10 {
			time.Sleep(100 * time.Second)
			esp.expectNothing()
		}
		esp.write("\x70\x02\x00\x02") // PUBCOMP
		esp.expectNothing()
	})
}
