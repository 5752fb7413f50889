//go:build linux

package load

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/benchmarks/internal/wire"
)

// newLoop has a publisher, and a subscriber that is ready.
func newLoop(t *testing.T, p Publishing) (*Loop, *conn, *publisher) {
	l, err := New(netip.MustParseAddrPort("127.0.0.1:1"), Plan{Clients: []Client{{ID: "sub"}, {ID: "pub", Publish: &p}}})
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, c := range l.clients {
			c.state = closed // none of them has a socket
		}
		l.Close()
	})
	return l, l.clients[0], l.publishers[0]
}

// sent returns what the publisher has encoded since the last call.
func sent(p *publisher) []byte {
	b := append([]byte{}, p.conn.out...)
	p.conn.out = p.conn.out[:0]
	return b
}

// feed hands bytes over in pieces, as a socket might.
func feed(t *testing.T, l *Loop, c *conn, b []byte, size int) {
	for len(b) > 0 {
		n := min(size, len(b))
		rest, err := l.scan(c, append(append([]byte{}, c.rest...), b[:n]...))
		require.NoError(t, err)
		c.rest = append(c.rest[:0], rest...)
		b = b[n:]
	}
	require.Empty(t, c.rest)
	require.Zero(t, c.skip)
}

func TestMessagesAreCountedHoweverTheyArrive(t *testing.T) {
	for qos := range byte(3) {
		for _, payload := range []int{PayloadMin, 64, 5000, 300_000} {
			for _, size := range []int{1, 2, 7, 4096, 100_000, 1 << 30} {
				if size < 7 && payload > 64 {
					continue // the same, and slow
				}
				l, sub, p := newLoop(t, Publishing{Topics: []string{"a", "b/c"}, QoS: qos, Payload: payload, Window: 10, Fan: 1})
				l.now = 1000
				for range 3 {
					l.encode(p, 400)
				}
				feed(t, l, sub, sent(p), size)
				require.EqualValues(t, 3, l.Received)
				require.EqualValues(t, 3, p.delivered)
				require.Zero(t, l.Misordered)
				require.InDelta(t, 600, l.Latency.Percentile(50), 10)

				kind := []byte{0, wire.Puback, wire.Pubrec}[qos]
				var answers []byte
				for id := uint16(1); qos > 0 && id <= 3; id++ {
					answers = wire.AppendAck(answers, kind, id)
				}
				require.Equal(t, answers, append([]byte(nil), sub.out...))
			}
		}
	}
}

func TestMessagesOutOfOrderAreNoticed(t *testing.T) {
	l, sub, p := newLoop(t, Publishing{Topics: []string{"a"}, Window: 10, Fan: 1})
	l.encode(p, 1)
	first := sent(p)
	l.encode(p, 1)
	second := sent(p)
	feed(t, l, sub, second, 100)
	feed(t, l, sub, first, 100)
	require.EqualValues(t, 1, l.Misordered)
	feed(t, l, sub, first, 100)
	require.EqualValues(t, 2, l.Misordered, "a message that comes twice")
}

func TestWindowIsOpenedByAcknowledgementsAndDeliveries(t *testing.T) {
	l, sub, p := newLoop(t, Publishing{Topics: []string{"a"}, QoS: 1, Window: 2, Fan: 1})
	require.Equal(t, 2, p.credit())
	l.encode(p, 1)
	l.encode(p, 1)
	require.Zero(t, p.credit())
	feed(t, l, sub, sent(p), 100)
	require.Zero(t, p.credit(), "delivered, and not acknowledged")
	require.False(t, p.settled())
	feed(t, l, p.conn, wire.AppendAck(nil, wire.Puback, 1), 100)
	require.Equal(t, 1, p.credit())
	feed(t, l, p.conn, wire.AppendAck(nil, wire.Puback, 2), 100)
	require.Equal(t, 2, p.credit())
	require.True(t, p.settled())
}

func TestAcknowledgementsAreTimed(t *testing.T) {
	l, _, p := newLoop(t, Publishing{Topics: []string{"a"}, QoS: 1, Window: 2, Fan: 0, TimeAcks: true})
	acked := func(now int64, id uint16) {
		l.now = now
		feed(t, l, p.conn, wire.AppendAck(nil, wire.Puback, id), 100)
	}
	l.encode(p, 100)
	l.encode(p, 200)
	acked(1100, 1)
	l.encode(p, 5000)
	acked(1300, 2)
	acked(7000, 3)
	require.EqualValues(t, 3, l.AckLatency.Total())
	require.InDelta(t, 1000, l.AckLatency.Percentile(1), 20)
	require.InDelta(t, 1100, l.AckLatency.Percentile(50), 20)
	require.InDelta(t, 2000, l.AckLatency.Percentile(99), 40)
}

func TestWindowOfManyReceiversWaitsForAll(t *testing.T) {
	l, sub, p := newLoop(t, Publishing{Topics: []string{"a"}, Window: 1, Fan: 3})
	l.encode(p, 1)
	message := sent(p)
	feed(t, l, sub, message, 100)
	feed(t, l, sub, message, 100)
	require.Zero(t, p.credit())
	require.EqualValues(t, 1, l.Missing())
	feed(t, l, sub, message, 100)
	require.Equal(t, 1, p.credit())
	require.Zero(t, l.Missing())
}

func TestWhatIsLostIsForgivenAndStillMissing(t *testing.T) {
	l, _, p := newLoop(t, Publishing{Topics: []string{"a"}, Window: 2, Fan: 2})
	l.encode(p, 1)
	l.encode(p, 1)
	l.forgive()
	require.Equal(t, 2, p.credit())
	require.EqualValues(t, 4, l.Missing())
}

func TestPublisherWithALimitEnds(t *testing.T) {
	l, _, p := newLoop(t, Publishing{Topics: []string{"a"}, Window: 10, Limit: 3})
	require.Equal(t, 3, p.credit())
	l.encode(p, 1)
	require.Equal(t, 2, p.credit())
}

func TestExactlyOnceIsAnsweredStepByStep(t *testing.T) {
	l, sub, p := newLoop(t, Publishing{Topics: []string{"a"}, QoS: 2, Window: 10, Fan: 1})
	l.encode(p, 1)
	sent(p)
	feed(t, l, p.conn, wire.AppendAck(nil, wire.Pubrec, 1), 3)
	require.Equal(t, wire.AppendAck(nil, wire.Pubrel, 1), sent(p))
	require.Zero(t, l.Acked())
	feed(t, l, p.conn, wire.AppendAck(nil, wire.Pubcomp, 1), 3)
	require.EqualValues(t, 1, l.Acked())

	feed(t, l, sub, wire.AppendAck(nil, wire.Pubrel, 9), 3)
	require.Equal(t, wire.AppendAck(nil, wire.Pubcomp, 9), append([]byte{}, sub.out...))
}

func TestWhatIsNoAnswerEndsTheRun(t *testing.T) {
	for name, b := range map[string][]byte{
		"refused CONNACK":                   {wire.Connack << 4, 2, 0, 5},
		"SUBACK that nobody waits for":      wire.AppendSuback(nil, 1, 1, 0),
		"length of five bytes":              {0x30, 0xFF, 0xFF, 0xFF, 0xFF},
		"message of somebody else":          wire.AppendPublish(nil, "a", 0, false, 0, []byte("short")),
		"acknowledgement to a subscriber":   wire.AppendAck(nil, wire.Puback, 1),
		"acknowledgement that is too short": {wire.Puback << 4, 1, 0},
	} {
		l, sub, _ := newLoop(t, Publishing{Topics: []string{"a"}})
		sub.state = connected
		_, err := l.scan(sub, b)
		require.Error(t, err, name)
	}
}

func TestRefusedSubscriptionEndsTheRun(t *testing.T) {
	l, sub, _ := newLoop(t, Publishing{Topics: []string{"a"}})
	sub.client.Filters, sub.state = []string{"a", "b"}, subscribing
	_, err := l.scan(sub, append(wire.AppendSuback(nil, 1, 1, 0)[:1], 4, 0, 1, 0, 0x80))
	require.Error(t, err)
	_, err = l.scan(sub, wire.AppendSuback(nil, 1, 2, 1))
	require.NoError(t, err)
	require.Equal(t, ready, sub.state)
}

func TestReceivingDoesNotAllocate(t *testing.T) {
	l, sub, p := newLoop(t, Publishing{Topics: []string{"a"}, Payload: 64, Fan: 1})
	l.encode(p, 1)
	message := sent(p)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := l.scan(sub, message); err != nil {
			t.Error(err)
		}
	}))
}

func TestPacketIDsAreNeverZero(t *testing.T) {
	require.EqualValues(t, 1, packetID(0))
	require.EqualValues(t, 65535, packetID(65534))
	require.EqualValues(t, 1, packetID(65535))
}

func TestBackgroundIsNeitherPacedNorTimed(t *testing.T) {
	l, err := New(netip.MustParseAddrPort("127.0.0.1:1"), Plan{Rate: 1000, Clients: []Client{
		{ID: "sub"},
		{ID: "busy", Publish: &Publishing{Topics: []string{"a"}, Window: 10, Fan: 1, Background: true}},
		{ID: "even", Publish: &Publishing{Topics: []string{"b"}, Window: 10, Fan: 1}},
	}})
	require.NoError(t, err)
	busy, even := l.publishers[0], l.publishers[1]
	require.Equal(t, []*publisher{even}, l.paced)
	l.now = 1000
	l.encode(busy, 900)
	l.encode(even, 400)
	feed(t, l, l.clients[0], append(sent(busy), sent(even)...), 100)
	require.EqualValues(t, 2, l.Received)
	require.InDelta(t, 600, l.Latency.Percentile(0), 10, "of the paced one alone")
	require.EqualValues(t, []uint64{1, 1}, []uint64{busy.delivered, even.delivered})
}
