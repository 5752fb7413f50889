package petrel_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// TestAllocationBudgets holds what a message of QoS 1 and 2, and a connection, may
// allocate on their whole way. One message is three things: its record, its topic
// and its body, whatever the number of those who get it.
func TestAllocationBudgets(t *testing.T) {
	slack := 0.0
	if underRaceDetector() {
		slack = 100 // it makes pools forget at random
	}
	for _, c := range []struct {
		name        string
		qos         packets.QoS
		subscribers int
		retain      bool
		most        float64
	}{
		{"QoS 1 to one", 1, 1, false, 3.1},
		{"QoS 1 to ten", 1, 10, false, 3.1},
		{"QoS 2 to one", 2, 1, false, 3.25},
		{"QoS 2 to ten", 2, 10, false, 3.25},
		{"QoS 1, retained, to one", 1, 1, true, 3.1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{Logger: silent()})
			addr := serveTCP(t, b.Broker)
			pub := newLapper(t, addr, "pub", c.qos)
			subs := make([]*lapper, c.subscribers)
			for i := range subs {
				subs[i] = newLapper(t, addr, fmt.Sprintf("sub%d", i), c.qos)
				subscribeMQTT(t, subs[i].conn, packets.V311, "a/+", c.qos)
			}
			one := packets.Publish{Topic: []byte("a/b"), Payload: []byte("payload"), QoS: c.qos, PacketID: 1, Retain: c.retain}
			frame, err := one.AppendTo(nil, packets.V311)
			require.NoError(t, err)
			lap := func() {
				pub.publish(t, frame)
				for _, sub := range subs {
					sub.take(t, len(frame))
				}
				pub.finish(t)
			}
			require.LessOrEqual(t, allocationsOf(lap)/lapMessages, c.most+slack)
		})
	}
	t.Run("connect, subscribe, disconnect", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{Logger: silent()})
		addr := serveTCP(t, b.Broker)
		visits := func(do func()) float64 {
			return allocationsOf(func() {
				for range lapMessages {
					do()
				}
			}) / lapMessages
		}
		connect := packets.Connect{Version: packets.V311, ClientID: []byte("visitor"), CleanStart: true}
		whole := visits(func() {
			conn := openMQTT(t, addr, connect)
			subscribeMQTT(t, conn, packets.V311, "some/topic", 0)
			sendMQTT(t, conn, packets.V311, &packets.Disconnect{})
			_, err := io.Copy(io.Discard, conn)
			require.NoError(t, err)
			require.NoError(t, conn.Close())
		})
		require.LessOrEqual(t, whole, 120+slack, "those of this client included")
	})
	t.Run("in process", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{Logger: silent()})
		got := make(chan struct{}, lapMessages)
		_, err := b.Subscribe("a/+", petrel.SubscribeOptions{}, func(context.Context, *petrel.Message) { got <- struct{}{} })
		require.NoError(t, err)
		m := petrel.Message{Topic: "a/b", Payload: []byte("payload")}
		lap := func() {
			for range lapMessages {
				require.NoError(t, b.Publish(t.Context(), m))
			}
			for range lapMessages {
				<-got
			}
		}
		require.LessOrEqual(t, allocationsOf(lap)/lapMessages, 7.5+slack)
	})
}

const lapMessages = 100

// allocationsOf is what one lap allocates, as the mean of some after a warm-up.
func allocationsOf(lap func()) float64 {
	const laps = 50
	for range 2 * laps {
		lap()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range laps {
		lap()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / laps
}

// lapper is a 3.1.1 client that answers what it gets, lapMessages at a time, and
// allocates nothing.
type lapper struct {
	conn    net.Conn
	qos     packets.QoS
	in, out []byte
}

func newLapper(t *testing.T, addr, id string, qos packets.QoS) *lapper {
	t.Helper()
	return &lapper{
		conn: dialMQTT(t, addr, packets.Connect{Version: packets.V311, ClientID: []byte(id), CleanStart: true}),
		qos:  qos, in: make([]byte, 1<<16), out: make([]byte, 0, 1<<16),
	}
}

// publish sends the frame once for each packet identifier of a lap.
func (l *lapper) publish(t *testing.T, frame []byte) {
	l.out = l.out[:0]
	for i := range lapMessages {
		l.out = append(l.out, frame...)
		at := len(l.out) - len(frame) + 2
		binary.BigEndian.PutUint16(l.out[at+2+int(binary.BigEndian.Uint16(l.out[at:])):], uint16(i+1))
	}
	l.send(t)
}

// take receives the messages of a lap, and acknowledges them to the end.
func (l *lapper) take(t *testing.T, size int) {
	got := l.receive(t, size)
	l.out = l.out[:0]
	for i := range lapMessages {
		at := i*size + 2
		at += 2 + int(binary.BigEndian.Uint16(got[at:]))
		l.answer(packets.TypePuback, packets.TypePubrec, binary.BigEndian.Uint16(got[at:]))
	}
	l.send(t)
	if l.qos == packets.ExactlyOnce {
		l.echo(t, 0x70)
	}
}

// finish receives the acknowledgements of a lap.
func (l *lapper) finish(t *testing.T) {
	if l.qos == packets.ExactlyOnce {
		l.echo(t, 0x62)
	}
	l.receive(t, 4)
}

// echo receives a lap of short packets, and answers each with one that begins
// with head.
func (l *lapper) echo(t *testing.T, head byte) {
	l.out = append(l.out[:0], l.receive(t, 4)...)
	for i := 0; i < len(l.out); i += 4 {
		l.out[i] = head
	}
	l.send(t)
}

func (l *lapper) answer(once, exactly packets.Type, id uint16) {
	kind := once
	if l.qos == packets.ExactlyOnce {
		kind = exactly
	}
	l.out = append(l.out, byte(kind)<<4, 2, byte(id>>8), byte(id))
}

func (l *lapper) send(t *testing.T) {
	if _, err := l.conn.Write(l.out); err != nil {
		t.Fatal(err)
	}
}

func (l *lapper) receive(t *testing.T, size int) []byte {
	got := l.in[:size*lapMessages]
	if _, err := io.ReadFull(l.conn, got); err != nil {
		t.Fatal(err)
	}
	return got
}
