package habits_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Node-RED, which speaks through MQTT.js. Its flow was copied to a second
// machine, with the client identifier in it.
const (
	noderedConnect = "\x10\x1b" + // CONNECT, 27 bytes
		"\x00\x04MQTT\x04" + // 3.1.1
		"\x02" + // Clean Session
		"\x00\x3c" + // keep alive 60 s
		"\x00\x0fnodered_kitchen"

	// SUBSCRIBE to everything with QoS 2, and SUBACK. MQTT.js begins to count at random.
	noderedSubscribe = "\x82\x06" + "\x1f\x58" + "\x00\x01#" + "\x02"
	noderedSuback    = "\x90\x03" + "\x1f\x58" + "\x02"

	noderedConnect5 = "\x10\x20" + // CONNECT, 32 bytes
		"\x00\x04MQTT\x05" + // 5.0
		"\x02" + // Clean Start
		"\x00\x3c" + // keep alive 60 s
		"\x04" + "\x19\x01" + "\x17\x01" + // properties: Request Response Information, Request Problem Information
		"\x00\x0fnodered_kitchen"
)

// noderedReconnect is how long it waits before it comes back.
const noderedReconnect = 15 * time.Second

// warnings is a log of which only what is loud is kept.
type warnings struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *warnings) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *warnings) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// lines are those since the last call.
func (w *warnings) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.buf.Reset()
	return strings.Split(strings.TrimSuffix(w.buf.String(), "\n"), "\n")[:strings.Count(w.buf.String(), "\n")]
}

// twins are two machines with one client identifier, of which one is connected.
type twins struct {
	t       *testing.T
	b       *brokertest.Broker
	connect string
	port    int
	there   *brokertest.Client // the one that is connected
	at      [2]string          // addresses: of that one, and of the one before
}

// swap makes the other one come back. It is taken in at once, whatever happened
// before; the one that was there is told as far as its version allows.
func (w *twins) swap(v packets.Version) {
	w.t.Helper()
	w.port++
	from := fmt.Sprintf("192.0.2.%d:%d", 20+w.port%2, 50311+w.port)
	start := time.Now()
	c := brokertest.NewClient(w.t, plugFrom(w.t, w.b, from).Conn, v)
	c.SendRaw([]byte(w.connect))
	ack := brokertest.Expect[*packets.Connack](c)
	require.Equal(w.t, packets.Success, ack.Reason)
	require.Zero(w.t, time.Since(start), "nobody is made to wait")
	if w.there != nil {
		if v == packets.V5 {
			w.there.ExpectDisconnect(packets.SessionTakenOver)
		} else {
			w.there.ExpectClosed()
		}
	}
	w.there, w.at = c, [2]string{from, w.at[0]}
	c.SendRaw([]byte(pingreq))
	brokertest.Expect[*packets.Pingresp](c)
}

// For ever each of the two displaces the other, and comes back when its pause is
// over. The broker lets them, and says what is the matter: once a minute, from
// the third time within a minute, and where to find both.
func TestNodeREDTwins(t *testing.T) {
	for _, c := range []struct {
		name    string
		version packets.Version
		connect string
	}{
		{"3.1.1", packets.V311, noderedConnect},
		{"5.0", packets.V5, noderedConnect5},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var said warnings
				b := brokertest.New(t, petrel.Options{Logger: said.logger()})
				w := &twins{t: t, b: b, connect: c.connect}
				w.swap(c.version)
				for n := 1; n <= 2; n++ {
					time.Sleep(noderedReconnect)
					w.swap(c.version)
					require.Empty(t, said.lines(), "takeover %d is nothing to talk about", n)
					require.Equal(t, uint64(n), b.Stats().TakenOver)
				}

				time.Sleep(noderedReconnect)
				w.swap(c.version)
				lines := said.lines()
				require.Len(t, lines, 1, "the third takeover within a minute")
				require.Contains(t, lines[0], "client=nodered_kitchen")
				require.Contains(t, lines[0], w.at[0])
				require.Contains(t, lines[0], w.at[1])

				const more = 237 // of them, an hour in all
				told := 0
				for range more {
					time.Sleep(noderedReconnect)
					w.swap(c.version)
					for _, line := range said.lines() {
						told++
						require.Contains(t, line, w.at[0])
						require.Contains(t, line, w.at[1])
					}
				}
				require.Equal(t, 59, told, "once a minute")
				require.Equal(t, uint64(3+more), b.Stats().TakenOver)
				require.Equal(t, 1, b.Stats().ClientsConnected)
				require.Equal(t, 1, b.Stats().Sessions)
			})
		})
	}
}

// A client that is displaced now and then is nothing to talk about: a laptop
// that changes networks does that.
func TestNodeREDMovesAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said warnings
		b := brokertest.New(t, petrel.Options{Logger: said.logger()})
		w := &twins{t: t, b: b, connect: noderedConnect}
		w.swap(packets.V311)
		for range 20 {
			time.Sleep(31 * time.Second)
			w.swap(packets.V311)
		}
		require.Empty(t, said.lines())
		require.Equal(t, uint64(20), b.Stats().TakenOver)
	})
}

// The subscription is that of the twin who is there.
func TestNodeREDTwinsGetOneCopy(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	sensor := speaker(b, "sensor")
	var last *device
	for n := range 5 {
		d := plug(t, b)
		d.write(noderedConnect)
		d.expect(accepted)
		if last != nil {
			last.expectEnd()
		}
		last = d
		d.write(noderedSubscribe)
		d.expect(noderedSuback)
		sensor.Publish("temp", fmt.Sprint(n), packets.AtMostOnce)
		d.expect("\x30\x07" + "\x00\x04temp" + fmt.Sprint(n))
		d.expectNothing()
	}
	require.Equal(t, 1, b.Stats().Subscriptions)
}
