package petrel_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// limitRecorder writes down the limits that were reached, by whom and where.
type limitRecorder struct {
	mu   sync.Mutex
	seen []reachedLimit
}

type reachedLimit struct {
	limit         petrel.Limit
	client, topic string
}

func (r *limitRecorder) LimitReached(_ context.Context, e *petrel.LimitEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Client != nil && e.Client.ID() != e.ClientID {
		panic("one event of two clients")
	}
	r.seen = append(r.seen, reachedLimit{e.Limit, e.ClientID, e.Topic})
}

func (r *limitRecorder) take() []reachedLimit {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

// limitTest brings a broker to one of its limits.
type limitTest struct {
	limit   petrel.Limit
	most    int
	options petrel.Options // with the limit at most
	door    petrel.ListenerOptions
	// reach does things up to n of what is limited, and returns the code of each.
	reach func(t *testing.T, d *doorway, n int) []packets.ReasonCode
	holds bool // nothing is refused: the client is read from more slowly
	who   string
	topic string
	drop  petrel.DropReason // of what is refused
}

// doorway is a broker with a listener.
type doorway struct {
	*brokertest.Broker
	t        *testing.T
	listener *acceptor
}

// connect connects a client of the given user by the listener.
func (d *doorway) connect(p packets.Connect, user string) (*brokertest.Client, packets.ReasonCode) {
	client, server := net.Pipe()
	d.listener.give <- server
	c := brokertest.NewClient(d.t, client, packets.V5)
	p.HasUserName, p.UserName = user != "", []byte(user)
	c.Send(&p)
	return c, brokertest.Expect[*packets.Connack](c).Reason
}

// connections are n clients of one user.
func connections(t *testing.T, d *doorway, n int) (codes []packets.ReasonCode) {
	for i := range n {
		_, code := d.connect(brokertest.ID(fmt.Sprint("c", i)), "u")
		codes = append(codes, code)
	}
	return codes
}

// sessions are n sessions of one user that outlive their connections.
func sessions(t *testing.T, d *doorway, n int) (codes []packets.ReasonCode) {
	for i := range n {
		c, code := d.connect(brokertest.Durable(fmt.Sprint("c", i)), "u")
		c.Conn.Close()
		synctest.Wait()
		codes = append(codes, code)
	}
	return codes
}

// retainedOf publishes one retained message of n bytes.
func retainedOf(t *testing.T, d *doorway, n int) []packets.ReasonCode {
	c, _ := d.connect(brokertest.ID("c"), "")
	p := packets.Publish{Topic: []byte("kept"), Payload: make([]byte, n-len("kept")), QoS: 1, Retain: true}
	return []packets.ReasonCode{c.PublishWith(p)}
}

var limitTests = []limitTest{
	{limit: petrel.LimitConnections, most: 3, options: petrel.Options{MaximumConnections: 3}, reach: connections},
	{limit: petrel.LimitListenerConnections, most: 3, door: petrel.ListenerOptions{MaximumConnections: 3}, reach: connections},
	{limit: petrel.LimitConnectionsPerIdentity, most: 3, options: petrel.Options{MaximumConnectionsPerIdentity: 3}, reach: connections, who: "c3"},
	{limit: petrel.LimitSessions, most: 3, options: petrel.Options{MaximumSessions: 3}, reach: sessions, who: "c3"},
	{limit: petrel.LimitSessionsPerIdentity, most: 3, options: petrel.Options{MaximumSessionsPerIdentity: 3}, reach: sessions, who: "c3"},
	{limit: petrel.LimitSubscriptions, most: 3, options: petrel.Options{MaximumSubscriptions: 3}, who: "c", topic: "f/3",
		reach: func(t *testing.T, d *doorway, n int) []packets.ReasonCode {
			c, _ := d.connect(brokertest.ID("c"), "")
			var list packets.Subscriptions
			for _, f := range brokertest.Topics("f", n) {
				list = list.Append(on(f, 0))
			}
			return c.SubscribeWith(packets.Subscribe{Subscriptions: list})
		}},
	{limit: petrel.LimitRetained, most: 3, options: petrel.Options{MaximumRetained: 3}, who: "c", topic: "t/3", drop: petrel.DropRetainedFull,
		reach: func(t *testing.T, d *doorway, n int) (codes []packets.ReasonCode) {
			c, _ := d.connect(brokertest.ID("c"), "")
			for _, topic := range brokertest.Topics("t", n) {
				codes = append(codes, c.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte("m"), QoS: 1, Retain: true}))
			}
			return codes
		}},
	{limit: petrel.LimitRetainedBytes, most: 100, options: petrel.Options{MaximumRetainedBytes: 100}, who: "c", topic: "kept",
		drop: petrel.DropRetainedFull, reach: retainedOf},
	{limit: petrel.LimitMemory, most: 100, options: petrel.Options{MemoryLimit: 100, MaximumRetainedBytes: -1}, who: "c", topic: "kept",
		drop: petrel.DropMemory, reach: retainedOf},
	{limit: petrel.LimitMessageRate, most: 3, options: petrel.Options{MessageRate: 3}, holds: true, who: "c",
		reach: func(t *testing.T, d *doorway, n int) (codes []packets.ReasonCode) {
			c, _ := d.connect(brokertest.ID("c"), "")
			for range n {
				codes = append(codes, c.PublishWith(packets.Publish{Topic: []byte("t"), QoS: 1}))
			}
			return codes
		}},
	{limit: petrel.LimitByteRate, most: 1000, options: petrel.Options{ByteRate: 1000}, holds: true, who: "c",
		reach: func(t *testing.T, d *doorway, n int) []packets.ReasonCode {
			connect := brokertest.ID("c")
			c, _ := d.connect(connect, "")
			connect.ReceiveMaximum = 0
			c.Send(sized(t, n-int(wireSize(t, &connect))))
			return []packets.ReasonCode{brokertest.Expect[*packets.Puback](c).Reason}
		}},
}

// Every limit is asked for one less than it allows, for all that it allows, and for one more.
func TestLimits(t *testing.T) {
	for _, tt := range limitTests {
		for _, beyond := range []int{-1, 0, 1} {
			t.Run(fmt.Sprintf("%v, %d of %d", tt.limit, tt.most+beyond, tt.most), func(t *testing.T) {
				seen, drops := new(limitRecorder), new(dropRecorder)
				tt.options.Hooks = []petrel.Hook{seen, drops}
				inFakeTime(t, tt.options, func(t *testing.T, b *brokertest.Broker) {
					d := &doorway{b, t, newAcceptor()}
					served := make(chan error, 1)
					go func() { served <- b.ServeListener(d.listener, tt.door) }()
					codes := tt.reach(t, d, tt.most+beyond)
					synctest.Wait()
					tt.check(t, b, codes, beyond > 0, seen.take(), drops.take())
					require.NoError(t, b.Close())
					require.ErrorIs(t, <-served, petrel.ErrBrokerClosed)
				})
			})
		}
	}
}

// check looks at what became of the last thing, and that all others were let through.
func (tt *limitTest) check(t *testing.T, b *brokertest.Broker, codes []packets.ReasonCode, above bool, seen []reachedLimit, drops []petrel.Drop) {
	last := len(codes) - 1
	for i, code := range codes {
		if above && i == last && !tt.holds {
			require.Equal(t, packets.QuotaExceeded, code)
		} else {
			require.False(t, code.IsError(), "%d: %v", i, code)
		}
	}
	if !above {
		require.Empty(t, seen)
		require.Empty(t, drops)
		require.Empty(t, b.Stats().LimitsReached)
		return
	}
	require.Equal(t, []reachedLimit{{tt.limit, tt.who, tt.topic}}, seen)
	require.Equal(t, map[petrel.Limit]uint64{tt.limit: 1}, b.Stats().LimitsReached)
	if tt.drop == 0 {
		require.Empty(t, drops)
		return
	}
	require.Equal(t, []petrel.Drop{{Topic: tt.topic, QoS: 1, Reason: tt.drop}}, drops)
}

// Each limit that there is has its row, and a name.
func TestLimitsAreAllTested(t *testing.T) {
	tested := make(map[petrel.Limit]bool)
	for _, tt := range limitTests {
		tested[tt.limit] = true
	}
	last := petrel.LimitMemory
	for l := petrel.Limit(1); l <= last; l++ {
		require.True(t, tested[l], l)
		require.NotEqual(t, "unknown", l.String())
	}
	require.Equal(t, "unknown", petrel.Limit(0).String())
	require.Equal(t, "unknown", (last + 1).String())
}

// What an identity has is given back, and its own session is never too much.
func TestLimitsPerIdentityReturn(t *testing.T) {
	o := petrel.Options{MaximumConnectionsPerIdentity: 2, MaximumSessionsPerIdentity: 3}
	inFakeTime(t, o, func(t *testing.T, b *brokertest.Broker) {
		as := func(user, id string, durable bool) (*brokertest.Client, packets.ReasonCode) {
			p := brokertest.ID(id)
			if durable {
				p = brokertest.Durable(id)
			}
			p.HasUserName, p.UserName = user != "", []byte(user)
			c, ack := b.TryConnect(p)
			return c, ack.Reason
		}
		must := func(want packets.ReasonCode, user, id string, durable bool) *brokertest.Client {
			t.Helper()
			c, code := as(user, id, durable)
			require.Equal(t, want, code)
			return c
		}
		full := packets.QuotaExceeded
		must(0, "u", "1", true)
		must(0, "u", "2", false)
		must(full, "u", "3", false)
		must(0, "other", "3", false) // somebody else
		must(0, "u", "1", true)      // takes over
		one := must(0, "u", "1", true)
		must(full, "u", "4", false)
		one.Drop() // its session stays
		synctest.Wait()
		four := must(0, "u", "4", true)
		must(full, "u", "1", true) // its own session, but a third connection
		four.Drop()
		synctest.Wait()
		must(full, "u", "5", true)     // a fourth session: 1, 2 and 4 are there
		one = must(0, "u", "1", false) // discards its session and has a new one
		one.Leave(packets.NormalDisconnection)
		five := must(0, "u", "5", true)
		must(full, "u", "6", true)
		five.Leave(packets.NormalDisconnection)
		synctest.Wait()
		must(full, "u", "6", true)
	})
}

// Clients without an identity are one.
func TestLimitsOfNoIdentity(t *testing.T) {
	b := brokertest.New(t, petrel.Options{MaximumConnectionsPerIdentity: 1})
	b.Connect(brokertest.ID("1"))
	_, ack := b.TryConnect(brokertest.ID("2"))
	require.Equal(t, packets.QuotaExceeded, ack.Reason)
}

// Of a message that replaces another only the difference counts.
func TestLimitRetainedBytesOfReplacements(t *testing.T) {
	b := brokertest.New(t, petrel.Options{MaximumRetainedBytes: 10})
	keep := func(topic string, n int) error {
		return b.Publish(t.Context(), petrel.Message{Topic: topic, Payload: []byte(strings.Repeat("x", n)), Retain: true})
	}
	require.NoError(t, keep("a", 4))
	require.NoError(t, keep("b", 4))
	require.ErrorIs(t, keep("a", 5), packets.QuotaExceeded)
	require.NoError(t, keep("a", 3))
	require.NoError(t, keep("b", 5))
	require.NoError(t, keep("a", 0)) // deletes it
	require.ErrorIs(t, keep("c", 4), packets.QuotaExceeded)
	require.NoError(t, keep("c", 3))
	require.Equal(t, 2, b.Stats().Retained)
}

// Of a client above its rate, and of the memory limit, observers hear once a second.
func TestLimitsAreToldOncePerSecond(t *testing.T) {
	seen := new(limitRecorder)
	inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{seen}, MessageRate: 10}, func(t *testing.T, b *brokertest.Broker) {
		c := b.Connect(brokertest.ID("c"))
		for range 40 { // 30 of which have to wait, for 3 seconds
			c.PublishWith(packets.Publish{Topic: []byte("t"), QoS: 1})
		}
		n := len(seen.take())
		require.GreaterOrEqual(t, n, 2)
		require.LessOrEqual(t, n, 4)
	})
}
