package petrel_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
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

// TestNothingIsLeftOfClientsThatWere takes a thousand clients in and out, and
// looks at what the broker still has: sessions, subscriptions, goroutines, heap.
func TestNothingIsLeftOfClientsThatWere(t *testing.T) {
	b := brokertest.New(t, petrel.Options{Logger: silent()})
	addr := serveTCP(t, b.Broker)
	visit := func(i int) {
		conn := openMQTT(t, addr, packets.Connect{
			Version: packets.V5, ClientID: fmt.Appendf(nil, "visitor-%d", i), CleanStart: i%2 == 0, SessionExpiryInterval: uint32(i % 3),
			TopicAliasMaximum: 10, KeepAlive: 60,
			HasWill: i%5 == 0, Will: packets.Will{Topic: []byte("will"), Payload: []byte("gone")},
		})
		defer conn.Close()
		subs := packets.Subscriptions(nil).
			Append(packets.Subscription{Filter: fmt.Appendf(nil, "visitors/%d/+", i), QoS: 2}).
			Append(packets.Subscription{Filter: []byte("all/#"), QoS: 1}).
			Append(packets.Subscription{Filter: fmt.Appendf(nil, "$share/g%d/all/+", i%7), QoS: 1})
		leave := packets.Disconnect{HasSessionExpiryInterval: i%3 > 0}
		if i%4 == 0 {
			leave.Reason = packets.DisconnectWithWill
		}
		sendMQTT(t, conn, packets.V5, &packets.Subscribe{PacketID: 1, Subscriptions: subs},
			&packets.Publish{Topic: []byte("all/a"), Payload: []byte("m"), QoS: 1, PacketID: 2},
			&packets.Publish{Topic: []byte("all/b"), Payload: []byte("m"), QoS: 2, PacketID: 3}, &leave)
		buf := make([]byte, 4096)
		for {
			if _, err := conn.Read(buf); err != nil {
				return
			}
		}
	}
	crowd := func() {
		var wg sync.WaitGroup
		for g := range 10 {
			wg.Go(func() {
				for i := range 100 {
					visit(100*g + i)
				}
			})
		}
		wg.Wait()
		eventually(t, "all sessions have ended", func() bool { return b.Stats().Sessions == 0 })
	}
	crowd() // what grows once, such as maps and pools, has grown
	goroutines, heap := len(brokertest.Goroutines()), liveHeap()
	crowd()
	eventually(t, "no more goroutines than before", func() bool { return len(brokertest.Goroutines()) <= goroutines })
	s := b.Stats()
	require.EqualValues(t, 2000, s.Connects)
	require.Zero(t, s.ClientsConnected)
	require.Zero(t, s.Subscriptions)
	require.Zero(t, s.SharedSubscription)
	require.Zero(t, s.SharedGroups)
	require.Zero(t, s.Retained)
	require.Zero(t, s.MessageBytes)
	for range b.Clients() {
		t.Error("a client is left")
	}
	require.Less(t, int64(liveHeap())-int64(heap), int64(1000*100), "less than 100 bytes for each that was")
}

// Connections that break in every phase leave nothing either.
func TestNothingIsLeftOfBrokenConnections(t *testing.T) {
	b := brokertest.New(t, petrel.Options{Logger: silent()})
	addr := serveTCP(t, b.Broker)
	openMQTT(t, addr, brokertest.ID("first")).Close() // what is made once is there
	before := len(brokertest.Goroutines())
	connect := brokertest.ID("")
	whole, err := connect.AppendTo(nil, packets.V5)
	require.NoError(t, err)
	for i := range 1000 {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		_, err = conn.Write(whole[:i%(len(whole)+1)])
		require.NoError(t, err)
		if i%2 == 0 {
			conn.(*net.TCPConn).SetLinger(0) // a reset
		}
		conn.Close()
	}
	eventually(t, "all sessions have ended", func() bool { return b.Stats().Sessions == 0 && b.Stats().ClientsConnected == 0 })
	eventually(t, "no more goroutines than before", func() bool { return len(brokertest.Goroutines()) <= before })
}

// Each way that a message can end gives back what it held.
func TestMessageBytesReturnToZero(t *testing.T) {
	durable := func(b *brokertest.Broker, qos packets.QoS, filter string) *brokertest.Client {
		c := b.Connect(brokertest.Durable("sub"))
		c.Subscribe(qos, filter)
		return c
	}
	for _, c := range []struct {
		name string
		opts petrel.Options
		run  func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool))
	}{
		{"qos 1 acknowledged", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			sub := durable(b, 1, "a")
			pub.Publish("a", "payload", 1)
			held(true)
			sub.Accept(sub.ExpectPublish("a", "payload"))
			sub.ExpectNothing()
		}},
		{"qos 1 refused", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			sub := durable(b, 1, "a")
			pub.Publish("a", "payload", 1)
			sub.Send(&packets.Puback{PacketID: sub.ExpectPublish("a", "payload").PacketID, Reason: packets.QuotaExceeded})
			sub.ExpectNothing()
		}},
		{"qos 2 received, PUBCOMP missing", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			sub := durable(b, 2, "a")
			pub.Publish("a", "payload", 2)
			held(true)
			sub.Send(&packets.Pubrec{PacketID: sub.ExpectPublish("a", "payload").PacketID})
			brokertest.Expect[*packets.Pubrel](sub)
		}},
		{"qos 2 refused", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			sub := durable(b, 2, "a")
			pub.Publish("a", "payload", 2)
			sub.Send(&packets.Pubrec{PacketID: sub.ExpectPublish("a", "payload").PacketID, Reason: packets.QuotaExceeded})
			sub.ExpectNothing()
		}},
		{"qos 2 after a reconnect with PUBREC repeated", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			sub := durable(b, 2, "a")
			pub.Publish("a", "payload", 2)
			id := sub.ExpectPublish("a", "payload").PacketID
			sub.Send(&packets.Pubrec{PacketID: id}, &packets.Pubrec{PacketID: id})
			brokertest.Expect[*packets.Pubrel](sub)
			sub.Drop()
			sub = b.Connect(brokertest.Durable("sub"))
			brokertest.Expect[*packets.Pubrel](sub)
			sub.Send(&packets.Pubrec{PacketID: id}, &packets.Pubcomp{PacketID: id})
			brokertest.Expect[*packets.Pubrel](sub)
			sub.ExpectNothing()
		}},
		{"sent again after a takeover", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			sub := durable(b, 1, "a")
			pub.Publish("a", "payload", 1)
			sub.ExpectPublish("a", "payload")
			again := b.Connect(brokertest.Durable("sub"))
			held(true)
			again.Accept(again.ExpectPublish("a", "payload"))
			again.ExpectNothing()
		}},
		{"too large to be sent again", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			durable(b, 1, "a").Drop()
			for range 3 {
				pub.Publish("a", strings.Repeat("x", 200), 1)
			}
			held(true)
			b.Connect(brokertest.Durable("sub")).Drop() // sent and not acknowledged
			held(true)
			small := brokertest.Durable("sub")
			small.MaximumPacketSize = 100
			b.Connect(small).ExpectNothing()
		}},
		{"queued and too large", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			durable(b, 1, "a").Drop()
			pub.Publish("a", strings.Repeat("x", 200), 1)
			held(true)
			small := brokertest.Durable("sub")
			small.MaximumPacketSize = 100
			b.Connect(small).ExpectNothing()
		}},
		{"expired in the queue", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			durable(b, 1, "a").Drop()
			pub.PublishWith(packets.Publish{Topic: []byte("a"), Payload: []byte("m"), QoS: 1, HasMessageExpiry: true, MessageExpiryInterval: 5})
			held(true)
			time.Sleep(6 * time.Second)
			b.Connect(brokertest.Durable("sub")).ExpectNothing()
		}},
		{"expired in flight, and acknowledged", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			sub := durable(b, 1, "a")
			pub.PublishWith(packets.Publish{Topic: []byte("a"), Payload: []byte("m"), QoS: 1, HasMessageExpiry: true, MessageExpiryInterval: 5})
			time.Sleep(6 * time.Second)
			held(true)
			sub.Accept(sub.ExpectPublish("a", "m"))
			sub.ExpectNothing()
		}},
		{"session expired with a queue", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			durable(b, 2, "a").Drop()
			pub.Publish("a", "m", 2)
			pub.Publish("a", "m", 1)
			held(true)
			time.Sleep(time.Hour + time.Second)
			synctest.Wait()
		}},
		{"session expired with messages in flight", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			sub := durable(b, 2, "a")
			for range 4 {
				pub.Publish("a", "m", 2)
			}
			sub.Send(&packets.Pubrec{PacketID: sub.ExpectPublish("a", "m").PacketID})
			sub.ExpectPublish("a", "m")
			sub.Drop()
			held(true)
			time.Sleep(time.Hour + time.Second)
			synctest.Wait()
		}},
		{"session ended by DISCONNECT", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			sub := durable(b, 1, "a")
			pub.Publish("a", "m", 1)
			held(true)
			sub.Send(&packets.Disconnect{HasSessionExpiryInterval: true})
			sub.Conn.Close()
			sub.Served()
		}},
		{"session discarded by Clean Start", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			durable(b, 1, "a").Drop()
			pub.Publish("a", "m", 1)
			held(true)
			b.Connect(brokertest.ID("sub")).ExpectNothing()
		}},
		{"session discarded while it is connected", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			sub := durable(b, 1, "a")
			pub.Publish("a", "m", 1)
			held(true)
			b.Connect(brokertest.ID("sub")).ExpectNothing()
			sub.Served()
		}},
		{"dropped from a full queue", petrel.Options{QueueMessages: 2}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			durable(b, 1, "a").Drop()
			for range 5 {
				pub.Publish("a", "m", 1)
			}
			require.EqualValues(t, 2*len("am"), b.Stats().MessageBytes)
			b.Connect(brokertest.ID("sub")).ExpectNothing()
		}},
		{"dropped as the oldest", petrel.Options{QueueMessages: 2, QueueFull: petrel.DropOldest}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			durable(b, 1, "a").Drop()
			for i := range 5 {
				pub.Publish("a", strings.Repeat("m", i), 1)
			}
			require.EqualValues(t, len("a")+3+len("a")+4, b.Stats().MessageBytes)
			b.Connect(brokertest.ID("sub")).ExpectNothing()
		}},
		{"refused by the memory limit", petrel.Options{MemoryLimit: 3}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			durable(b, 1, "a").Drop()
			for range 5 {
				pub.Publish("a", "m", 1)
			}
			require.EqualValues(t, len("am"), b.Stats().MessageBytes)
			b.Connect(brokertest.ID("sub")).ExpectNothing()
		}},
		{"handed over to another member", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			sub := durable(b, 1, "$share/g/a")
			pub.Publish("a", "m", 1)
			sub.ExpectPublish("a", "m")
			other := b.Connect(brokertest.ID("other"))
			other.Subscribe(1, "$share/g/a")
			sub.Drop()
			held(true)
			other.Accept(other.ExpectPublish("a", "m"))
			other.ExpectNothing()
		}},
		{"the last member's session ended", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			durable(b, 1, "$share/g/a").Drop()
			pub.Publish("a", "m", 1)
			held(true)
			time.Sleep(time.Hour + time.Second)
			synctest.Wait()
		}},
		{"retained and deleted", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			for i := range 3 {
				pub.PublishWith(packets.Publish{Topic: []byte("a"), Payload: make([]byte, i+1), Retain: true})
				require.EqualValues(t, len("a")+i+1, b.Stats().MessageBytes)
			}
			pub.PublishWith(packets.Publish{Topic: []byte("a"), Retain: true})
		}},
		{"retained and expired", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			pub.PublishWith(packets.Publish{Topic: []byte("a"), Payload: []byte("m"), Retain: true, HasMessageExpiry: true, MessageExpiryInterval: 5})
			held(true)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
		}},
		{"retained, expired and asked for", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			pub.PublishWith(packets.Publish{Topic: []byte("a"), Payload: []byte("m"), Retain: true, HasMessageExpiry: true, MessageExpiryInterval: 5})
			time.Sleep(6 * time.Second)
			held(true)
			sub := durable(b, 1, "#")
			sub.ExpectNothing()
		}},
		{"retained in flight when it is deleted", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			pub.PublishWith(packets.Publish{Topic: []byte("a"), Payload: []byte("m"), QoS: 1, Retain: true})
			sub := durable(b, 1, "a")
			p := sub.ExpectPublish("a", "m")
			pub.PublishWith(packets.Publish{Topic: []byte("a"), Retain: true})
			sub.ExpectPublish("a", "")
			held(true)
			sub.Accept(p)
			sub.ExpectNothing()
		}},
		{"queued behind a window", petrel.Options{MaximumInflight: 1}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			sub := durable(b, 1, "a")
			for range 5 {
				pub.Publish("a", "m", 1)
			}
			for range 5 {
				p := sub.ExpectPublish("a", "m")
				held(true)
				sub.Accept(p)
			}
			sub.ExpectNothing()
		}},
		{"of a will that was published to a durable session", petrel.Options{}, func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client, held func(bool)) {
			sub := durable(b, 1, "will")
			w := brokertest.ID("w")
			w.HasWill, w.Will = true, packets.Will{QoS: 1, Topic: []byte("will"), Payload: []byte("gone")}
			b.Connect(w).Drop()
			held(true)
			sub.Accept(sub.ExpectPublish("will", "gone"))
			sub.ExpectNothing()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, c.opts)
				pub := b.Connect(brokertest.ID("pub"))
				c.run(t, b, pub, func(want bool) {
					t.Helper()
					require.Equal(t, want, b.Stats().MessageBytes > 0, "%d bytes are held", b.Stats().MessageBytes)
				})
				require.Zero(t, b.Stats().MessageBytes)
			})
		})
	}
}

// actor is one client identifier of the random test, connected or not.
type actor struct {
	id      string
	version packets.Version
	client  *brokertest.Client // nil while it is not connected
	open    []packets.Packet   // PUBLISH and PUBREL that it has not answered
	subs    []string
}

// world is a broker and what a seed makes clients do to it.
type world struct {
	t      *testing.T
	r      *rand.Rand
	b      *brokertest.Broker
	actors []*actor
}

var worldFilters = []string{"a", "a/b", "+", "a/+", "#", "b/#", "$share/g/a", "$share/g/#", "$share/h/a/+"}
var worldTopics = []string{"a", "a/b", "b", "b/c/d", "c"}

// TestMessageBytesReturnToZeroAfterAnything does what it likes, ends all
// sessions, deletes all retained messages, and expects that nothing is held.
func TestMessageBytesReturnToZeroAfterAnything(t *testing.T) {
	const steps = 250
	seeds := uint64(60)
	if underRaceDetector() {
		seeds = 15 // which is slow, and run more often
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 1))
				w := &world{t: t, r: r}
				o := petrel.Options{
					Logger: silent(), QueueMessages: 2 + r.IntN(10), MaximumInflight: 1 + r.IntN(6), QueueBytes: 500 + r.IntN(5000),
					QueueQoS0: r.IntN(2) == 0, QueueFull: petrel.DropPolicy(r.IntN(2)), SharedStrategy: petrel.SharedStrategy(r.IntN(4)),
					DeliverPerSubscription: r.IntN(3) == 0, MaximumRetained: r.IntN(5),
				}
				if r.IntN(2) == 0 {
					o.MemoryLimit = 3000
				}
				w.b = brokertest.New(t, o)
				for i := range 5 {
					w.actors = append(w.actors, &actor{id: fmt.Sprintf("actor-%d", i)})
				}
				for range steps {
					w.step()
					require.GreaterOrEqual(t, w.b.Stats().MessageBytes, w.queued())
				}
				w.endAll()
				s := w.b.Stats()
				require.Zero(t, s.Sessions)
				require.Zero(t, s.Subscriptions)
				require.Zero(t, s.SharedGroups)
				require.Zero(t, s.Retained)
				require.Zero(t, s.MessageBytes)
				require.Positive(t, s.PublishSent, "something was delivered")
			})
		})
	}
}

// queued is the size of all queues.
func (w *world) queued() (n int64) {
	for c := range w.b.Clients() {
		n += int64(c.QueuedBytes)
	}
	return n
}

func (w *world) step() {
	a := w.actors[w.r.IntN(len(w.actors))]
	if a.client == nil {
		if w.r.IntN(3) == 0 {
			w.connect(a)
		} else {
			w.publishAsHost()
		}
		return
	}
	switch w.r.IntN(12) {
	case 0:
		w.subscribe(a)
	case 1:
		if len(a.subs) > 0 {
			a.client.Send(&packets.Unsubscribe{PacketID: a.client.ID(), Filters: packets.Filters(nil).Append(a.subs[w.r.IntN(len(a.subs))])})
			w.settle(a)
		}
	case 2, 3, 4:
		w.publish(a)
	case 5, 6, 7:
		w.answer(a)
	case 8:
		w.publishAsHost()
	case 9:
		time.Sleep(time.Duration(w.r.IntN(5000)) * time.Millisecond)
	case 10:
		a.client.Drop()
		a.client = nil
	case 11:
		switch w.r.IntN(3) {
		case 0:
			w.connect(a) // displaces itself
		case 1:
			a.client.Leave(packets.NormalDisconnection)
			a.client = nil
		default:
			w.leaveForGood(a)
		}
	}
}

func (w *world) connect(a *actor) {
	a.version = []packets.Version{packets.V311, packets.V5, packets.V5}[w.r.IntN(3)]
	p := packets.Connect{Version: a.version, ClientID: []byte(a.id), CleanStart: w.r.IntN(4) == 0}
	if a.version == packets.V5 {
		p.SessionExpiryInterval = []uint32{1, 5, 60, 1 << 20}[w.r.IntN(4)]
		p.ReceiveMaximum = uint16(1 + w.r.IntN(4))
		p.TopicAliasMaximum = uint16(w.r.IntN(3))
		if w.r.IntN(4) == 0 {
			p.MaximumPacketSize = 120
		}
	}
	if w.r.IntN(3) == 0 {
		p.HasWill = true
		p.Will = packets.Will{QoS: packets.QoS(w.r.IntN(3)), Topic: []byte("a/b"), Payload: []byte("gone"), Retain: w.r.IntN(4) == 0}
		if a.version == packets.V5 {
			p.Will.DelayInterval = uint32(w.r.IntN(10))
		}
	}
	old := a.client
	a.client, a.open = w.b.Connect(p), nil
	if old != nil {
		old.Served()
	}
	w.settle(a)
}

// settle collects what has come, up to the answer to a PINGREQ.
func (w *world) settle(a *actor) {
	a.client.Send(&packets.Pingreq{})
	for {
		switch p := a.client.Receive().(type) {
		case *packets.Pingresp:
			return
		case *packets.Publish:
			if p.QoS > 0 {
				a.open = append(a.open, p)
			}
		case *packets.Pubrel:
			a.open = append(a.open, p)
		case *packets.Disconnect:
			w.t.Fatalf("%s: disconnected with %v", a.id, p.Reason)
		}
	}
}

func (w *world) subscribe(a *actor) {
	filter := worldFilters[w.r.IntN(len(worldFilters))]
	a.subs = append(a.subs, filter)
	s := packets.Subscription{Filter: []byte(filter), QoS: packets.QoS(w.r.IntN(3))}
	if a.version == packets.V5 {
		s.RetainAsPublished, s.RetainHandling = w.r.IntN(2) == 0, byte(w.r.IntN(3))
	}
	a.client.Send(&packets.Subscribe{PacketID: a.client.ID(), Subscriptions: packets.Subscriptions(nil).Append(s)})
	w.settle(a)
}

func (w *world) publish(a *actor) {
	w.settle(a)
	p := packets.Publish{
		Topic: []byte(worldTopics[w.r.IntN(len(worldTopics))]), Payload: make([]byte, w.r.IntN(200)),
		QoS: packets.QoS(w.r.IntN(3)), Retain: w.r.IntN(4) == 0,
	}
	if p.QoS > 0 {
		p.PacketID = a.client.ID()
	}
	if a.version == packets.V5 && w.r.IntN(3) == 0 {
		p.HasMessageExpiry, p.MessageExpiryInterval = true, uint32(w.r.IntN(8))
	}
	a.client.Send(&p)
	if p.QoS == packets.ExactlyOnce {
		a.client.Send(&packets.Pubrel{PacketID: p.PacketID})
	}
	w.settle(a)
}

func (w *world) publishAsHost() {
	m := petrel.Message{
		Topic: worldTopics[w.r.IntN(len(worldTopics))], Payload: make([]byte, w.r.IntN(200)),
		QoS: packets.QoS(w.r.IntN(3)), Retain: w.r.IntN(4) == 0,
	}
	if w.r.IntN(3) == 0 {
		m.Expiry = time.Duration(w.r.IntN(8000)) * time.Millisecond
	}
	err := w.b.Publish(w.t.Context(), m)
	if err != nil {
		require.ErrorIs(w.t, err, packets.QuotaExceeded)
	}
}

// answer acknowledges something that the actor has received, or refuses it.
func (w *world) answer(a *actor) {
	w.settle(a)
	if len(a.open) == 0 {
		return
	}
	p := a.open[0]
	a.open = a.open[1:]
	reason := packets.Success
	if a.version == packets.V5 && w.r.IntN(5) == 0 {
		reason = packets.ImplementationSpecificError
	}
	switch p := p.(type) {
	case *packets.Publish:
		if p.QoS == packets.AtLeastOnce {
			a.client.Send(&packets.Puback{PacketID: p.PacketID, Reason: reason})
		} else {
			a.client.Send(&packets.Pubrec{PacketID: p.PacketID, Reason: reason})
		}
	case *packets.Pubrel:
		a.client.Send(&packets.Pubcomp{PacketID: p.PacketID})
	}
	w.settle(a)
}

// leaveForGood ends the session with the connection.
func (w *world) leaveForGood(a *actor) {
	if a.version == packets.V5 {
		a.client.Send(&packets.Disconnect{HasSessionExpiryInterval: true})
	}
	a.client.Drop()
	a.client = nil
}

// endAll ends every session in one of the ways that there are, and deletes what
// is retained.
func (w *world) endAll() {
	for _, a := range w.actors {
		if a.client != nil && w.r.IntN(2) == 0 {
			a.client.Drop()
			a.client = nil
		}
	}
	if w.r.IntN(2) == 0 {
		time.Sleep(time.Minute + time.Second)
	}
	for _, a := range w.actors {
		if a.client != nil && a.version == packets.V5 && w.r.IntN(2) == 0 {
			w.leaveForGood(a)
			continue
		}
		p := brokertest.ID(a.id)
		p.CleanStart = w.r.IntN(2) == 0
		w.b.Connect(p).Leave(packets.NormalDisconnection)
		if a.client != nil {
			a.client.Served()
		}
	}
	synctest.Wait()
	for _, topic := range worldTopics {
		require.NoError(w.t, publishNothing(w.t.Context(), w.b, topic))
	}
	time.Sleep(time.Minute)
	synctest.Wait()
}

// publishNothing deletes the retained message of a topic.
func publishNothing(ctx context.Context, b *brokertest.Broker, topic string) error {
	return b.Publish(ctx, petrel.Message{Topic: topic, Retain: true})
}
