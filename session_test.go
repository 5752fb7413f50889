package petrel_test

import (
	"context"
	"fmt"
	"slices"
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

const never = 0xFFFFFFFF

// attempt is a CONNECT of client "c" in the session tests.
type attempt struct {
	version packets.Version
	clean   bool
	expiry  uint32 // 5.0 only
}

func (a attempt) connect() packets.Connect {
	return packets.Connect{Version: a.version, ClientID: []byte("c"), CleanStart: a.clean, SessionExpiryInterval: a.expiry}
}

func (a attempt) String() string {
	if a.version == packets.V5 {
		return fmt.Sprintf("5.0 clean %v expiry %d", a.clean, a.expiry)
	}
	return fmt.Sprintf("%v clean %v", a.version, a.clean)
}

// durable reports whether the session outlives the connection.
func (a attempt) durable() bool {
	if a.version == packets.V5 {
		return a.expiry != 0
	}
	return !a.clean
}

// attempts are all kinds of CONNECT.
func attempts() (list []attempt) {
	for _, clean := range []bool{false, true} {
		list = append(list, attempt{packets.V31, clean, 0}, attempt{packets.V311, clean, 0},
			attempt{packets.V5, clean, 0}, attempt{packets.V5, clean, 60}, attempt{packets.V5, clean, never})
	}
	return list
}

// The whole table: every kind of session is met by every kind of CONNECT, with
// the first connection ended or still there.
func TestSessionPresent(t *testing.T) {
	for _, first := range attempts() {
		for _, second := range attempts() {
			for _, how := range []string{"dropped", "left", "still connected"} {
				t.Run(fmt.Sprintf("%v %s, then %v", first, how, second), func(t *testing.T) {
					b := brokertest.New(t, petrel.Options{})
					one := b.Connect(first.connect())
					one.Subscribe(packets.AtLeastOnce, "t")
					switch how {
					case "dropped":
						one.Drop()
					case "left":
						one.Leave(packets.NormalDisconnection)
					}
					goesOn := first.durable() && !second.clean

					two, ack := b.TryConnect(second.connect())
					require.Equal(t, packets.Success, ack.Reason)
					require.Equal(t, goesOn && second.version != packets.V31, ack.SessionPresent, "session present")
					if how == "still connected" {
						if first.version == packets.V5 {
							one.ExpectDisconnect(packets.SessionTakenOver)
						} else {
							one.ExpectClosed()
						}
						one.Served()
					}
					b.Connect(brokertest.ID("pub")).Publish("t", "x", packets.AtLeastOnce)
					if goesOn {
						two.Accept(two.ExpectPublish("t", "x"))
					}
					two.ExpectNothing()
					require.Equal(t, 2, b.Stats().Sessions)
				})
			}
		}
	}
}

// A subscription made under one version is kept under the other, with the
// options that the old one has by definition.
func TestSessionAcrossVersions(t *testing.T) {
	for _, first := range []packets.Version{packets.V31, packets.V311, packets.V5} {
		for _, second := range []packets.Version{packets.V31, packets.V311, packets.V5} {
			t.Run(fmt.Sprintf("%v then %v", first, second), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				one := b.Connect(attempt{first, false, never}.connect())
				one.Subscribe(packets.ExactlyOnce, "t/#")
				one.Drop()
				pub := b.Connect(brokertest.ID("pub"))
				p := packets.Publish{Topic: []byte("t/1"), Payload: []byte("offline"), QoS: packets.ExactlyOnce, Retain: true}
				p.Properties = p.Properties.AppendContentType("text/plain")
				pub.PublishWith(p)

				two, ack := b.TryConnect(attempt{second, false, never}.connect())
				require.Equal(t, second != packets.V31, ack.SessionPresent)
				got := two.ExpectPublish("t/1", "offline")
				require.Equal(t, packets.ExactlyOnce, got.QoS)
				require.False(t, got.Retain || got.Dup)
				require.Empty(t, got.SubscriptionIDs)
				if second == packets.V5 {
					require.Equal(t, "text/plain", string(got.Properties.ContentType()))
				} else {
					require.Empty(t, got.Properties)
				}
				two.Accept(got)
				two.Send(&packets.Publish{Topic: []byte("t/2"), Payload: []byte("own")})
				two.ExpectPublish("t/2", "own") // No Local is off
				two.ExpectNothing()
			})
		}
	}
}

func TestSessionExpiry(t *testing.T) {
	const year = 365 * 24 * time.Hour
	leave := func(expiry uint32) func(t *testing.T, c *brokertest.Client) {
		return func(t *testing.T, c *brokertest.Client) {
			c.Send(&packets.Disconnect{HasSessionExpiryInterval: true, SessionExpiryInterval: expiry})
			c.Close()
			require.NoError(t, c.Served())
		}
	}
	drop := func(_ *testing.T, c *brokertest.Client) { c.Drop() }
	normal := func(_ *testing.T, c *brokertest.Client) { c.Leave(packets.NormalDisconnection) }
	refused := func(t *testing.T, c *brokertest.Client) {
		c.Send(&packets.Disconnect{HasSessionExpiryInterval: true, SessionExpiryInterval: 1})
		c.ExpectDisconnect(packets.ProtocolError)
		c.Served()
	}
	v5 := func(expiry uint32) attempt { return attempt{packets.V5, false, expiry} }
	for _, tt := range []struct {
		name    string
		cap     time.Duration
		first   attempt
		online  time.Duration
		end     func(*testing.T, *brokertest.Client)
		offline time.Duration
		present bool
	}{
		{"0 ends at once", 0, v5(0), 0, drop, 0, false},
		{"0 ends at once after DISCONNECT", 0, v5(0), 0, normal, 0, false},
		{"10 before its time", 0, v5(10), 0, drop, 10*time.Second - 1, true},
		{"10 after its time", 0, v5(10), 0, drop, 10*time.Second + 1, false},
		{"10 after DISCONNECT before its time", 0, v5(10), 0, normal, 10*time.Second - 1, true},
		{"10 after DISCONNECT after its time", 0, v5(10), 0, normal, 10*time.Second + 1, false},
		{"counts from the end of the connection", 0, v5(10), time.Hour, drop, 10*time.Second - 1, true},
		{"60 years before their time", 0, v5(60 * 365 * 86400), 0, drop, 60*year - 1, true},
		{"60 years after their time", 0, v5(60 * 365 * 86400), 0, drop, 60*year + 1, false},
		{"0xFFFFFFFE is no time in the past", 0, v5(never - 1), 0, drop, 70 * year, true},
		{"never", 0, v5(never), 0, drop, 200 * year, true},
		{"3.1.1 clean session 0 never ends", 0, attempt{packets.V311, false, 0}, 0, drop, 200 * year, true},
		{"3.1.1 clean session 0 never ends after DISCONNECT", 0, attempt{packets.V311, false, 0}, 0, normal, 200 * year, true},
		{"clean start with expiry is durable", 0, attempt{packets.V5, true, 10}, 0, drop, 9 * time.Second, true},

		{"lowered to 0 at DISCONNECT", 0, v5(10), 0, leave(0), 0, false},
		{"lowered to 5 at DISCONNECT, before", 0, v5(10), 0, leave(5), 5*time.Second - 1, true},
		{"lowered to 5 at DISCONNECT, after", 0, v5(10), 0, leave(5), 5*time.Second + 1, false},
		{"raised to 20 at DISCONNECT, before", 0, v5(10), 0, leave(20), 20*time.Second - 1, true},
		{"raised to 20 at DISCONNECT, after", 0, v5(10), 0, leave(20), 20*time.Second + 1, false},
		{"raised to never at DISCONNECT", 0, v5(10), 0, leave(never), 200 * year, true},
		{"0 confirmed at DISCONNECT", 0, v5(0), 0, leave(0), 0, false},
		{"raised from 0 at DISCONNECT is refused", 0, v5(0), 0, refused, 0, false},

		{"capped, before", 5 * time.Second, v5(10), 0, drop, 5*time.Second - 1, true},
		{"capped, after", 5 * time.Second, v5(10), 0, drop, 5*time.Second + 1, false},
		{"capped at DISCONNECT, before", 5 * time.Second, v5(1), 0, leave(never), 5*time.Second - 1, true},
		{"capped at DISCONNECT, after", 5 * time.Second, v5(1), 0, leave(never), 5*time.Second + 1, false},
		{"capped for 3.1.1, before", 5 * time.Second, attempt{packets.V311, false, 0}, 0, drop, 5*time.Second - 1, true},
		{"capped for 3.1.1, after", 5 * time.Second, attempt{packets.V311, false, 0}, 0, drop, 5*time.Second + 1, false},
		{"0 stays 0 under a cap", 5 * time.Second, v5(0), 0, drop, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, petrel.Options{MaximumSessionExpiry: tt.cap}, func(t *testing.T, b *brokertest.Broker) {
				c := b.Connect(tt.first.connect())
				time.Sleep(tt.online)
				tt.end(t, c)
				time.Sleep(tt.offline)
				synctest.Wait()
				_, ack := b.TryConnect(packets.Connect{ClientID: []byte("c")})
				require.Equal(t, tt.present, ack.SessionPresent)
			})
		})
	}
}

// Alarms may ring some milliseconds late; a session ends when it ends.
func TestSessionExpiryIsExact(t *testing.T) {
	setUp := func(t *testing.T, b *brokertest.Broker, w packets.Will) (owner *brokertest.Client) {
		// another session ends 10 ms before, so that the next round of alarms is late
		other := b.Connect(packets.Connect{ClientID: []byte("other"), SessionExpiryInterval: 10})
		other.Drop()
		time.Sleep(10 * time.Millisecond)
		p := packets.Connect{ClientID: []byte("c"), SessionExpiryInterval: 10, HasUserName: true, UserName: []byte("one")}
		if p.HasWill = len(w.Topic) > 0; p.HasWill {
			p.SessionExpiryInterval, p.Will = never, w
		}
		return b.Connect(p)
	}
	after := func(d time.Duration) {
		time.Sleep(d)
		synctest.Wait()
	}
	for _, tt := range []struct {
		name    string
		offline time.Duration
		user    string
		present bool
	}{
		{"a moment before", 10*time.Second - 1, "one", true},
		{"at its time", 10 * time.Second, "one", false},
		{"20 ms after", 10*time.Second + 20*time.Millisecond, "one", false},
		{"20 ms after, by somebody else", 10*time.Second + 20*time.Millisecond, "two", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
				setUp(t, b, packets.Will{}).Drop()
				after(tt.offline)
				_, ack := b.TryConnect(packets.Connect{ClientID: []byte("c"), HasUserName: true, UserName: []byte(tt.user)})
				require.Equal(t, packets.Success, ack.Reason)
				require.Equal(t, tt.present, ack.SessionPresent)
				require.Equal(t, 1, b.Stats().Sessions)
			})
		})
	}
	t.Run("a will that is due cannot be called back 20 ms later", func(t *testing.T) {
		inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			watch := b.Connect(brokertest.ID("watch"))
			watch.Subscribe(packets.AtMostOnce, "w")
			setUp(t, b, packets.Will{Topic: []byte("w"), Payload: []byte("gone"), DelayInterval: 10}).Drop()
			after(10*time.Second + 20*time.Millisecond)
			b.Connect(packets.Connect{ClientID: []byte("c"), HasUserName: true, UserName: []byte("one")})
			watch.ExpectPublish("w", "gone")
			after(time.Minute)
			watch.ExpectNothing()
		})
	})
}

// What a session held is gone with it.
func TestSessionEndLeavesNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(b *brokertest.Broker, c *brokertest.Client)
	}{
		{"expired", func(_ *brokertest.Broker, c *brokertest.Client) { time.Sleep(11 * time.Second) }},
		{"discarded by a clean start", func(b *brokertest.Broker, c *brokertest.Client) {
			b.Connect(attempt{packets.V5, true, 0}.connect()).Drop()
		}},
		{"discarded by a 3.1.1 clean session", func(b *brokertest.Broker, c *brokertest.Client) {
			b.Connect(attempt{packets.V311, true, 0}.connect()).Drop()
		}},
		{"resumed and let go with expiry 0", func(b *brokertest.Broker, c *brokertest.Client) {
			b.Connect(attempt{packets.V5, false, 0}.connect()).Drop()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
				c := b.Connect(attempt{packets.V5, false, 10}.connect())
				c.Subscribe(packets.ExactlyOnce, "a/#", "b", "$share/g/s")
				pub := b.Connect(brokertest.ID("pub"))
				pub.Publish("a/1", "in flight", packets.ExactlyOnce)
				c.ExpectPublish("a/1", "in flight")
				c.Send(&packets.Publish{Topic: []byte("x"), QoS: packets.ExactlyOnce, PacketID: 9})
				brokertest.Expect[*packets.Pubrec](c)
				c.Drop()
				pub.Publish("b", "queued", packets.AtLeastOnce)
				pub.Publish("s", "shared", packets.AtLeastOnce)
				require.NotZero(t, b.Stats().MessageBytes)
				tt.end(b, c)
				synctest.Wait()
				s := b.Stats()
				require.Equal(t, []int{1, 0, 0, 0}, []int{s.Sessions, s.Subscriptions, s.SharedGroups, int(s.MessageBytes)},
					"sessions, subscriptions, groups, bytes")
				again, ack := b.TryConnect(packets.Connect{ClientID: []byte("c")})
				require.False(t, ack.SessionPresent)
				again.ExpectNothing()
				again.Send(&packets.Pubrel{PacketID: 9})
				require.Equal(t, packets.PacketIdentifierNotFound, brokertest.Expect[*packets.Pubcomp](again).Reason)
			})
		})
	}
}

// events notes what becomes of sessions and connections, in order.
type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) add(s string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, s)
}

func (e *events) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := e.list
	e.list = nil
	return list
}

func (e *events) SessionChanged(s *petrel.SessionEvent) {
	e.add(s.ClientID + " " + s.Kind.String())
}

func TestSessionEvents(t *testing.T) {
	e := new(events)
	inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{e}}, func(t *testing.T, b *brokertest.Broker) {
		expect := func(list ...string) {
			t.Helper()
			synctest.Wait()
			require.Equal(t, list, e.take())
		}
		c := b.Connect(attempt{packets.V5, false, 10}.connect())
		expect("c created")
		c.Drop()
		expect()
		b.Connect(attempt{packets.V5, false, 10}.connect())
		expect("c resumed")
		c = b.Connect(attempt{packets.V5, false, 10}.connect())
		expect("c taken over")
		c.Drop()
		time.Sleep(11 * time.Second)
		expect("c expired")
		b.Connect(attempt{packets.V5, false, 10}.connect()).Drop()
		b.Connect(attempt{packets.V5, true, 0}.connect()).Drop()
		expect("c created", "c discarded", "c created", "c ended")
		b.Connect(attempt{packets.V5, true, 0}.connect())
		b.Connect(attempt{packets.V5, false, 0}.connect()) // expiry 0: there is nothing to go on with
		expect("c created", "c ended", "c created")
	})
}

// A session belongs to who made it.
func TestSessionOfAnotherIdentity(t *testing.T) {
	as := func(user string, a attempt) packets.Connect {
		p := a.connect()
		p.HasUserName, p.UserName = true, []byte(user)
		return p
	}
	for _, second := range attempts() {
		for _, online := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v, owner online %v", second, online), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				watch := b.Connect(brokertest.ID("watch"))
				watch.Subscribe(packets.AtMostOnce, "w/#")
				p := as("one", attempt{packets.V5, false, 100})
				p.HasWill, p.Will = true, packets.Will{Topic: []byte("w/one"), DelayInterval: 50}
				c := b.Connect(p)
				c.Subscribe(packets.AtLeastOnce, "t")
				if !online {
					c.Drop()
				}
				q := as("two", second)
				q.HasWill, q.Will = true, packets.Will{Topic: []byte("w/two")}
				stranger, ack := b.TryConnect(q)
				require.Equal(t, packets.ClientIdentifierNotValid, ack.Reason)
				require.False(t, ack.SessionPresent)
				stranger.ExpectClosed()
				stranger.Served()
				watch.ExpectNothing()
				watch.Publish("t", "still mine", packets.AtLeastOnce)
				if !online {
					c, ack = b.TryConnect(as("one", attempt{packets.V5, false, 100}))
					require.True(t, ack.SessionPresent)
				}
				c.Accept(c.ExpectPublish("t", "still mine"))
				c.ExpectNothing()
			})
		}
	}
	t.Run("an ended session is nobody's", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		b.Connect(as("one", attempt{packets.V5, false, 0})).Drop()
		b.Connect(as("two", attempt{packets.V5, false, 0})).ExpectNothing()
	})
	t.Run("what the hook says counts, not the user name", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{connectDecision(func(_ context.Context, r *petrel.ConnectRequest) error {
			r.Identity = strings.ToLower(r.UserName)
			return nil
		})}})
		b.Connect(as("ONE", attempt{packets.V5, false, 100})).Drop()
		c, ack := b.TryConnect(as("one", attempt{packets.V5, false, 100}))
		require.True(t, ack.SessionPresent)
		c.ExpectNothing()
		for info := range b.Clients() {
			require.Equal(t, []string{"one", "one"}, []string{info.Identity, info.UserName})
		}
	})
}

// The connection that was displaced touches nothing any more, even with what it
// had begun.
func TestDisplacedConnectionTouchesNothing(t *testing.T) {
	for _, second := range []attempt{{packets.V5, false, 100}, {packets.V5, true, 100}, {packets.V311, false, 0}} {
		t.Run(second.String(), func(t *testing.T) {
			gate := make(chan struct{})
			g := &gatekeeper{holds: "late", gate: gate}
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{g}})
			old := b.Connect(attempt{packets.V5, false, 100}.connect())
			old.Send(&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions{}.Append(packets.Subscription{Filter: []byte("late")})})
			g.wait()
			c := b.Connect(second.connect())
			close(gate)
			old.ExpectDisconnect(packets.SessionTakenOver)
			old.Served()
			b.Connect(brokertest.ID("pub")).Publish("late", "x", packets.AtLeastOnce)
			c.ExpectNothing()
			for info := range b.Clients() {
				if info.ID == "c" {
					require.True(t, info.Connected)
					require.Zero(t, info.Subscriptions)
				}
			}
		})
	}
	t.Run("a QoS 2 message that it had begun is delivered once", func(t *testing.T) {
		gate := make(chan struct{})
		g := &gatekeeper{holds: "late", gate: gate}
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{g}})
		sub := b.Connect(brokertest.ID("sub"))
		sub.Subscribe(packets.AtMostOnce, "#")
		old := b.Connect(attempt{packets.V5, false, 100}.connect())
		p := packets.Publish{Topic: []byte("late"), Payload: []byte("x"), QoS: packets.ExactlyOnce, PacketID: 5}
		old.Send(&p)
		g.wait()
		c := b.Connect(attempt{packets.V5, false, 100}.connect())
		close(gate)
		old.ExpectDisconnect(packets.SessionTakenOver)
		old.Served()
		p.Dup = true
		require.Equal(t, packets.Success, c.PublishWith(p))
		sub.ExpectPublish("late", "x")
		sub.ExpectNothing()
	})
	t.Run("its late end leaves the session alone", func(t *testing.T) {
		inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			old := b.Connect(attempt{packets.V5, false, 0}.connect())
			old.Stall() // what it is told does not go out
			c := b.Connect(attempt{packets.V5, false, 0}.connect())
			c.Subscribe(packets.AtMostOnce, "t")
			time.Sleep(10 * time.Second)
			old.Resume()
			old.Drop()
			b.Connect(brokertest.ID("pub")).Publish("t", "x", packets.AtMostOnce)
			c.ExpectPublish("t", "x")
			require.Equal(t, 2, b.Stats().Sessions)
			require.Equal(t, 2, b.Stats().ClientsConnected)
		})
	})
}

// gatekeeper is an Authorizer that takes its time about one topic.
type gatekeeper struct {
	holds string
	gate  chan struct{}
	once  sync.Once
	asked chan struct{}
}

func (g *gatekeeper) wait() { <-g.reached() }

func (g *gatekeeper) reached() chan struct{} {
	g.once.Do(func() { g.asked = make(chan struct{}, 100) })
	return g.asked
}

func (g *gatekeeper) Authorize(_ context.Context, r *petrel.AccessRequest) error {
	if r.Topic == g.holds {
		g.reached() <- struct{}{}
		<-g.gate
	}
	return nil
}

func TestTakeoverIsNotHeldUp(t *testing.T) {
	inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
		old := b.Connect(attempt{packets.V5, false, 100}.connect())
		old.Subscribe(packets.AtMostOnce, "t")
		old.Stall()
		b.Connect(brokertest.ID("pub")).Publish("t", strings.Repeat("x", 1<<20), packets.AtMostOnce)
		synctest.Wait() // the successor hears out what its predecessor has sent
		start := time.Now()
		b.Connect(attempt{packets.V5, false, 100}.connect()).ExpectNothing()
		require.Zero(t, time.Since(start), "the successor waits for a socket that is full")
		require.ErrorIs(t, old.Served(), packets.SessionTakenOver)
	})
}

func TestTakeoverIsCounted(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	for range 3 {
		b.Connect(brokertest.ID("c"))
	}
	s := b.Stats()
	require.Equal(t, uint64(2), s.TakenOver)
	require.Equal(t, uint64(3), s.Connects)
	require.Equal(t, 1, s.Sessions)
}

// However many fight for a client identifier, one has it in the end, and every
// will of those that were accepted is published at most once.
func TestConcurrentTakeovers(t *testing.T) {
	for _, kind := range []string{"all resume", "all clean", "mixed"} {
		t.Run(kind, func(t *testing.T) {
			inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
				watch := b.Connect(brokertest.ID("watch"))
				watch.Subscribe(packets.AtMostOnce, "w/+")
				const n = 64
				wires := make([]*wire, n)
				for i := range wires {
					wires[i] = dialWire(t, b)
				}
				for i, w := range wires {
					p := packets.Connect{
						Version: packets.V5, ClientID: []byte("c"), ReceiveMaximum: 65535, HasWill: true,
						Will: packets.Will{Topic: fmt.Appendf(nil, "w/%d", i)},
					}
					p.CleanStart = kind == "all clean" || kind == "mixed" && i%2 == 0
					if kind == "all resume" || i%3 == 0 {
						p.SessionExpiryInterval = 100
					}
					send, err := p.AppendTo(nil, packets.V5)
					require.NoError(t, err)
					go w.Write(send)
				}
				time.Sleep(time.Second) // a successor lets its predecessor finish what it does
				alive, accepted := -1, make(map[string]bool)
				for i, w := range wires {
					got, ended := w.settled()
					if !ended {
						require.Equal(t, -1, alive, "two connections have the client identifier")
						alive = i
					}
					if len(got) == 0 {
						require.True(t, ended, "no CONNACK and no end")
						continue // displaced before it was accepted
					}
					require.Equal(t, []byte{0x20, 0}, []byte{got[0], got[3]}, "CONNACK with success")
					_, size, _ := packets.DecodeHeader(got)
					rest := got[size+int(got[1]):]
					if ended {
						require.Equal(t, []byte{0xE0, byte(packets.SessionTakenOver)}, []byte{rest[0], rest[2]}, "then 0x8E")
						accepted[fmt.Sprintf("w/%d", i)] = true
					} else {
						require.Empty(t, rest)
					}
				}
				require.NotEqual(t, -1, alive, "nobody has it")
				_, ended := wires[alive].exchange([]byte{0xC0, 0})
				require.False(t, ended)
				s := b.Stats()
				require.Equal(t, []int{2, 2}, []int{s.Sessions, s.ClientsConnected}, "sessions, clients")

				// Delay 0: every one that was accepted and displaced has left its will, once.
				for len(accepted) > 0 {
					p := brokertest.Expect[*packets.Publish](watch)
					require.True(t, accepted[string(p.Topic)], "the will %q was published again, or of a connection that was never accepted", p.Topic)
					delete(accepted, string(p.Topic))
				}
				watch.ExpectNothing()
			})
		})
	}
}

// Takeovers while messages come in lose none and repeat none without saying so.
func TestTakeoversUnderLoad(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	first := b.Connect(attempt{packets.V5, false, 100}.connect())
	first.Subscribe(packets.AtLeastOnce, "t")
	const n = 200
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			if err := b.Publish(t.Context(), petrel.Message{Topic: "t", Payload: fmt.Append(nil, i), QoS: petrel.AtLeastOnce}); err != nil {
				t.Error(err)
			}
		}
	})
	for range 20 {
		b.Connect(attempt{packets.V5, false, 100}.connect()) // acknowledges nothing
	}
	wg.Wait()
	last := b.Connect(attempt{packets.V5, false, 100}.connect())
	var got []string
	for len(got) < n {
		p := brokertest.Expect[*packets.Publish](last)
		got = append(got, string(p.Payload))
		last.Accept(p)
	}
	want := make([]string, n)
	for i := range want {
		want[i] = fmt.Sprint(i)
	}
	require.True(t, slices.Equal(want, got), "got %v; want %v", got, want)
	last.ExpectNothing()
}
