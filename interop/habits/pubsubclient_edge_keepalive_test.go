package habits_test

import (
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// An Arduino with PubSubClient, and the example that everybody begins with.
const (
	arduinoConnect = "\x10\x1f" + // CONNECT, 31 bytes
		"\x00\x04MQTT\x04" + // 3.1.1
		"\x02" + // Clean Session
		"\x00\x0f" + // keep alive 15 s
		"\x00\x13ESP8266Client-b3af1" // client identifier: ends in a random number

	arduinoHello     = "\x30\x18" + "\x00\x08outTopic" + "hello world #1" // PUBLISH, QoS 0: it knows no other
	arduinoSubscribe = "\x82\x0c" + "\x00\x02" + "\x00\x07inTopic" + "\x00"
	arduinoSuback    = "\x90\x03\x00\x02\x00"
)

const (
	arduinoKeepAlive = 15 * time.Second
	// arduinoPatience is one and a half times that: not a moment less.
	arduinoPatience = 22500 * time.Millisecond
	// arduinoLate is how much later the broker may notice.
	arduinoLate = 100 * time.Millisecond
)

func arduinoConnected(t *testing.T, b *brokertest.Broker) *device {
	d := plug(t, b)
	d.write(arduinoConnect)
	d.expect(accepted)
	return d
}

// expectCut checks that the broker closes the connection in time, counted from
// the given moment, and without a word: DISCONNECT is nothing that a server
// may send before MQTT 5.0.
func (d *device) expectCut(since time.Time) {
	d.t.Helper()
	d.SetReadDeadline(time.Now().Add(time.Hour)) // fails if the end is there already
	rest, err := io.ReadAll(d.Conn)
	require.NoError(d.t, err)
	require.Empty(d.t, rest)
	took := time.Since(since)
	require.GreaterOrEqual(d.t, took, arduinoPatience, "closed early")
	require.LessOrEqual(d.t, took, arduinoPatience+arduinoLate, "closed late")
}

// The sketch lives as long as it says something in time, and is given up soon
// after it has stopped doing so.
func TestPubSubClientKeepAlive(t *testing.T) {
	for _, c := range []struct {
		name   string
		every  time.Duration
		write  string
		answer string
		rounds int
	}{
		{"a ping exactly at the keep alive", arduinoKeepAlive, pingreq, pingresp, 100},
		{"a ping just before the end", arduinoPatience - 100*time.Millisecond, pingreq, pingresp, 100},
		{"a ping in the last millisecond", arduinoPatience - time.Millisecond, pingreq, pingresp, 100},
		{"a publish just before the end", arduinoPatience - 100*time.Millisecond, arduinoHello, "", 100},
		{"a subscribe just before the end", arduinoPatience - 100*time.Millisecond, arduinoSubscribe, arduinoSuback, 10},
		{"nothing after connect", 0, "", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				d := arduinoConnected(t, b)
				last := time.Now()
				for range c.rounds {
					time.Sleep(c.every)
					last = time.Now()
					d.write(c.write)
					d.expect(c.answer)
				}
				d.expectCut(last)
			})
		})
	}
}

// Only what the sketch says, packet by whole packet, is a sign of life.
func TestPubSubClientSignsOfLife(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, d *device, app *brokertest.Client)
	}{
		{"half a ping is none", func(t *testing.T, d *device, _ *brokertest.Client) {
			time.Sleep(20 * time.Second)
			d.write("\xc0")
		}},
		{"messages that it gets are none", func(t *testing.T, d *device, app *brokertest.Client) {
			for range 20 {
				time.Sleep(time.Second)
				app.Publish("inTopic", "1", packets.AtMostOnce)
				d.expect("\x30\x0a" + "\x00\x07inTopic" + "1")
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				app := speaker(b, "app")
				d := arduinoConnected(t, b)
				d.write(arduinoSubscribe)
				d.expect(arduinoSuback)
				start := time.Now()
				c.do(t, d, app)
				d.expectCut(start)
			})
		})
	}
}

// A thousand sketches that came one after the other, and whose power is cut one
// by one: each has its own time.
func TestPubSubClientKeepAliveOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{Logger: silent()})
		const sketches = 1000
		cut := make(chan time.Duration, sketches)
		for i := range sketches {
			d := plug(t, b)
			d.write(frame(0x10, "\x00\x04MQTT\x04\x02\x00\x0f", field(fmt.Sprintf("ESP8266Client-%04x", i))))
			d.expect(accepted)
			start := time.Now()
			go func() {
				d.SetReadDeadline(time.Time{})
				io.Copy(io.Discard, d.Conn)
				cut <- time.Since(start)
			}()
			time.Sleep(7 * time.Millisecond)
		}
		for range sketches {
			took := <-cut
			require.GreaterOrEqual(t, took, arduinoPatience, "closed early")
			require.LessOrEqual(t, took, arduinoPatience+arduinoLate, "closed late")
		}
	})
}
