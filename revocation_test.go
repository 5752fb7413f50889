package petrel_test

import (
	"context"
	"errors"
	"fmt"
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

// policy is rights that change: everything is allowed but what is denied.
type policy struct {
	mu     sync.Mutex
	denied []string // "ACTION IDENTITY TOPIC", a filter for Subscribe
	check  bool     // CheckDeliveries
	broken error    // returned in place of a decision
	asked  []string
}

func (p *policy) Authorize(_ context.Context, r *petrel.AccessRequest) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	question := fmt.Sprintf("%v %s %s", r.Action, r.Client.Identity(), r.Topic)
	p.asked = append(p.asked, question)
	if p.broken != nil {
		return p.broken
	}
	for _, d := range p.denied {
		if d == question {
			return packets.NotAuthorized
		}
	}
	r.CheckDeliveries = p.check
	return nil
}

func (p *policy) deny(questions ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.denied = append(p.denied, questions...)
}

func (p *policy) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = err
}

// staying is a CONNECT of a user whose session outlives the connection.
func staying(v packets.Version, user, id string) packets.Connect {
	c := packets.Connect{Version: v, ClientID: []byte(id), HasUserName: true, UserName: []byte(user), HasPassword: true}
	if v == packets.V5 {
		c.SessionExpiryInterval = 3600
	}
	return c
}

// scene is a broker whose rights change. Its user is anna with client a.
type scene struct {
	*testing.T
	*policy
	version  packets.Version
	recheck  bool
	machine  *machine // nil without a store
	b        *brokertest.Broker
	watch    *brokertest.Client // gets will/#
	observed *diary
}

func (s *scene) options() petrel.Options {
	return petrel.Options{Logger: silent(), RecheckRetained: s.recheck, Hooks: []petrel.Hook{s.policy, revocationObserver{s.observed}, rewriter}}
}

// rewriter publishes to "t/x" what comes on "was/t/x".
var rewriter = petrel.PublishInterceptorFunc(func(_ context.Context, r *petrel.PublishRequest) error {
	r.Message.Topic = strings.TrimPrefix(r.Message.Topic, "was/")
	return nil
})

func (s *scene) start() {
	s.observed = new(diary)
	if s.machine != nil {
		s.b = s.machine.start(s.options())
	} else {
		s.b = brokertest.New(s, s.options())
	}
	s.look()
}

func (s *scene) look() {
	s.watch = s.b.Connect(as("watch", "watch"))
	s.watch.Subscribe(packets.AtMostOnce, "will/#")
}

// restart ends the process, if there is a store.
func (s *scene) restart() {
	if s.machine != nil {
		synctest.Wait() // what nobody waits for is committed too
		s.b = s.machine.restart(s.options())
		s.look()
	}
}

func (s *scene) anna() *brokertest.Client {
	return s.b.Connect(staying(s.version, "anna", "a"))
}

func (s *scene) publish(topic, payload string, qos packets.QoS) {
	s.Helper()
	require.NoError(s, s.b.Publish(s.Context(), petrel.Message{Topic: topic, Payload: []byte(payload), QoS: qos}))
}

func (s *scene) reauthorize() {
	s.Helper()
	require.NoError(s, s.b.Reauthorize(s.Context(), petrel.ByIdentity("anna")))
}

func (s *scene) dropped(want int) {
	s.Helper()
	require.Equal(s, uint64(want), s.b.Stats().Dropped[petrel.DropNotAuthorized])
}

type revocationObserver struct{ *diary }

func (o revocationObserver) Subscribed(*petrel.Client, petrel.Subscription) {}
func (o revocationObserver) Unsubscribed(c *petrel.Client, filter string) {
	o.note("%s of %s lost %s", c.ID(), c.Identity(), filter)
}
func (o revocationObserver) SessionChanged(e *petrel.SessionEvent) {
	if e.Kind == petrel.SessionRevoked {
		o.note("session %s %v", e.ClientID, e.Kind)
	}
}

// onScene runs f for the versions and with and without a store, in fake time.
func onScene(t *testing.T, name string, f func(s *scene)) {
	for _, v := range []packets.Version{packets.V311, packets.V5} {
		for _, kept := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v/store %v", name, v, kept), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &scene{T: t, policy: new(policy), version: v, recheck: true}
					if kept {
						s.machine = newMachine(t)
					}
					s.start()
					f(s)
				})
			})
		}
	}
}

func willOf(p packets.Connect, delay uint32) packets.Connect {
	p.HasWill, p.Will = true, packets.Will{Topic: []byte("will/a"), Payload: []byte("w"), DelayInterval: delay}
	return p
}

func TestRevokedRights(t *testing.T) {
	onScene(t, "resume, with queue", func(s *scene) {
		a := s.anna()
		a.Subscribe(packets.AtLeastOnce, "secret/#", "open/#")
		a.Drop()
		s.publish("secret/1", "x", 1)
		s.publish("open/1", "y", 1)
		s.deny("subscribe anna secret/#")
		s.restart()
		a = s.anna()
		a.Accept(a.ExpectPublish("open/1", "y"))
		a.ExpectNothing()
		s.publish("secret/2", "x", 1)
		a.ExpectNothing()
		s.dropped(1)
		require.Equal(s, []string{"a of anna lost secret/#"}, s.observed.take())
		a.Drop()
		s.restart()
		a = s.anna()
		a.ExpectNothing()
		require.Equal(s, packets.NoSubscriptionExisted, s.b.Connect(staying(packets.V5, "anna", "a")).Unsubscribe("secret/#")[0])
	})
	onScene(t, "resume, message of a filter that was unsubscribed", func(s *scene) {
		a := s.anna()
		a.Subscribe(packets.AtLeastOnce, "secret", "open")
		s.publish("secret", "x", 1)
		s.publish("open", "y", 1)
		a.ExpectPublish("secret", "x")
		a.ExpectPublish("open", "y")
		a.Unsubscribe("secret", "open")
		a.Drop()
		s.deny("subscribe anna secret")
		s.restart()
		a = s.anna()
		a.Accept(a.ExpectPublish("open", "y"))
		a.ExpectNothing()
	})
	onScene(t, "resume, where one of two filters is left", func(s *scene) {
		a := s.anna()
		a.Subscribe(packets.AtLeastOnce, "t/#", "t/+")
		a.Drop()
		s.publish("t/1", "x", 1)
		s.deny("subscribe anna t/#")
		a = s.anna()
		a.Accept(a.ExpectPublish("t/1", "x"))
		s.dropped(0)
	})
	onScene(t, "in flight", func(s *scene) {
		a := s.anna()
		a.Subscribe(packets.ExactlyOnce, "secret/#", "open/#")
		s.publish("secret/1", "one", 1)
		s.publish("secret/2", "two", 2)
		s.publish("open/1", "y", 2)
		a.ExpectPublish("secret/1", "one")
		two := a.ExpectPublish("secret/2", "two")
		open := a.ExpectPublish("open/1", "y")
		a.Drop()
		s.deny("subscribe anna secret/#")
		s.restart()
		a = s.anna()
		rel := brokertest.Expect[*packets.Pubrel](a) // whether it came or not, the client has to let go of the identifier
		require.Equal(s, two.PacketID, rel.PacketID)
		again := a.ExpectPublish("open/1", "y")
		require.Equal(s, []any{open.PacketID, true}, []any{again.PacketID, again.Dup})
		a.Send(&packets.Pubcomp{PacketID: two.PacketID})
		a.Accept(again)
		a.ExpectNothing()
		s.dropped(2)
		a.Drop()
		s.restart()
		s.anna().ExpectNothing()
	})
	onScene(t, "queue, checked deliveries", func(s *scene) {
		s.check = true
		a := s.anna()
		a.Subscribe(packets.AtLeastOnce, "#")
		a.Drop()
		s.publish("secret", "x", 1)
		s.publish("open", "y", 1)
		s.deny("receive anna secret")
		s.restart()
		a = s.anna()
		a.Accept(a.ExpectPublish("open", "y"))
		a.ExpectNothing()
		s.publish("secret", "x", 1)
		a.ExpectNothing()
	})
	onScene(t, "live", func(s *scene) {
		a := s.anna()
		a.Subscribe(packets.AtLeastOnce, "secret/#", "open/#")
		s.deny("subscribe anna secret/#")
		s.reauthorize()
		s.publish("secret/1", "x", 1)
		s.publish("open/1", "y", 1)
		a.Accept(a.ExpectPublish("open/1", "y"))
		a.ExpectNothing()
		require.Equal(s, []string{"a of anna lost secret/#"}, s.observed.take())
		s.restart()
		s.policy.denied = nil
		a = s.anna()
		s.publish("secret/1", "x", 1)
		a.ExpectNothing()
	})
	onScene(t, "live, deliveries checked from now on", func(s *scene) {
		a := s.anna()
		a.Subscribe(packets.AtLeastOnce, "#")
		s.publish("secret", "x", 1)
		a.Accept(a.ExpectPublish("secret", "x"))
		s.check = true
		s.deny("receive anna secret")
		s.reauthorize()
		s.publish("secret", "x", 1)
		s.publish("open", "y", 1)
		a.Accept(a.ExpectPublish("open", "y"))
	})
	onScene(t, "offline", func(s *scene) {
		a := s.anna()
		a.Subscribe(packets.AtLeastOnce, "secret/#", "open/#")
		a.Drop()
		s.publish("secret/1", "x", 1)
		s.publish("open/1", "y", 1)
		s.deny("subscribe anna secret/#")
		s.reauthorize()
		s.dropped(1)
		info := client(s.T, s.b, "a")
		require.Equal(s, []int{1, 1}, []int{info.Subscriptions, info.Queued})
		s.restart()
		info = client(s.T, s.b, "a")
		require.Equal(s, []int{1, 1}, []int{info.Subscriptions, info.Queued})
	})
	onScene(t, "shared subscription", func(s *scene) {
		a := s.anna()
		a.Subscribe(packets.AtLeastOnce, "$share/g/t")
		a.Drop()
		s.publish("t", "1", 1)
		other := s.b.Connect(staying(s.version, "bert", "b"))
		other.Subscribe(packets.AtLeastOnce, "$share/g/t")
		s.deny("subscribe anna t")
		s.reauthorize()
		other.Accept(other.ExpectPublish("t", "1"))
		s.dropped(0)
		for range 3 {
			s.publish("t", "2", 1)
			other.Accept(other.ExpectPublish("t", "2"))
		}
		s.anna().ExpectNothing()
	})
	onScene(t, "shared subscription, one member may not receive", func(s *scene) {
		s.check = true
		a := s.anna()
		a.Subscribe(packets.AtLeastOnce, "$share/g/#")
		other := s.b.Connect(staying(s.version, "bert", "b"))
		other.Subscribe(packets.AtLeastOnce, "$share/g/#")
		s.deny("receive anna t")
		for range 4 {
			s.publish("t", "x", 1)
			other.Accept(other.ExpectPublish("t", "x"))
		}
		a.ExpectNothing()
		s.dropped(0)
		s.deny("receive bert t")
		s.publish("t", "x", 1)
		other.ExpectNothing()
		s.dropped(1)
	})
	onScene(t, "will", func(s *scene) {
		a := s.b.Connect(willOf(staying(s.version, "anna", "a"), 0))
		s.deny("publish anna will/a")
		a.Drop()
		s.watch.ExpectNothing()
		s.dropped(1)
		_, ack := s.b.TryConnect(willOf(staying(s.version, "anna", "a"), 0))
		require.Equal(s, packets.NotAuthorized, ack.Reason)
	})
	onScene(t, "delayed will", func(s *scene) {
		if s.version != packets.V5 {
			return // there is none
		}
		s.b.Connect(willOf(staying(s.version, "anna", "a"), 60)).Drop()
		synctest.Wait()
		s.deny("publish anna will/a")
		s.restart()
		time.Sleep(2 * time.Minute)
		s.watch.ExpectNothing()
		s.dropped(1)
	})
	onScene(t, "will, taken away before it is due", func(s *scene) {
		a := s.b.Connect(willOf(staying(s.version, "anna", "a"), 0))
		s.deny("publish anna will/a")
		s.reauthorize()
		s.dropped(1)
		s.policy.denied = nil
		a.Drop()
		s.restart()
		s.watch.ExpectNothing()
	})
	onScene(t, "retained", func(s *scene) {
		a := s.anna()
		a.PublishWith(packets.Publish{Topic: []byte("t/a"), Payload: []byte("x"), QoS: 1, Retain: true})
		require.NoError(s, s.b.Publish(s.Context(), petrel.Message{Topic: "t/host", Payload: []byte("h"), Retain: true, PublisherID: "a"}))
		a.Drop()
		s.deny("publish anna t/a", "publish  t/host")
		s.restart()
		c := s.b.Connect(as("bert", "b"))
		c.Subscribe(packets.AtMostOnce, "t/#")
		c.ExpectPublish("t/host", "h")
		c.ExpectNothing()
		s.dropped(1)
		s.policy.denied = nil
		c.Subscribe(packets.AtMostOnce, "t/a")
		c.ExpectPublish("t/a", "x")
	})
	onScene(t, "rewritten topic", func(s *scene) {
		s.watch.Subscribe(packets.AtMostOnce, "t/#")
		a := s.anna()
		p := packets.Publish{Topic: []byte("was/t/a"), QoS: 1, Payload: []byte("x")}
		require.Equal(s, packets.Success, a.PublishWith(p))
		s.watch.ExpectPublish("t/a", "x")
		s.deny("publish anna t/a")
		a.PublishWith(p) // 3.1.1 has no codes
		s.watch.ExpectNothing()
		s.dropped(1)
	})
	onScene(t, "alias", func(s *scene) {
		if s.version != packets.V5 {
			return // there are no aliases
		}
		s.watch.Subscribe(packets.AtMostOnce, "t/#")
		a := s.anna()
		alias := packets.Publish{Topic: []byte("t/a"), HasTopicAlias: true, TopicAlias: 1, QoS: 1, Payload: []byte("x")}
		require.Equal(s, packets.Success, a.PublishWith(alias))
		s.watch.ExpectPublish("t/a", "x")
		s.deny("publish anna t/a")
		alias.Topic = nil
		require.Equal(s, packets.NotAuthorized, a.PublishWith(alias))
		s.watch.ExpectNothing()
	})
	onScene(t, "the host is trusted, its receivers are not", func(s *scene) {
		s.check = true
		s.deny("publish  t", "subscribe  t", "receive  t", "receive anna t")
		got := make(chan string, 1)
		_, err := s.b.Subscribe("t", petrel.SubscribeOptions{}, func(_ context.Context, m *petrel.Message) { got <- string(m.Payload) })
		require.NoError(s, err)
		a := s.anna()
		a.Subscribe(packets.AtLeastOnce, "#")
		s.publish("t", "x", 1)
		require.Equal(s, "x", <-got)
		a.ExpectNothing()
		require.NoError(s, s.b.Reauthorize(s.Context(), petrel.Everybody()))
		require.NoError(s, s.b.Revoke(s.Context(), petrel.ByIdentity("")))
		s.publish("t", "y", 1)
		require.Equal(s, "y", <-got)
	})
}

// An Authorizer that fails takes nothing away for good.
func TestFailedAuthorizerRevokesNothing(t *testing.T) {
	onScene(t, "resume", func(s *scene) {
		a := s.anna()
		a.Subscribe(packets.AtLeastOnce, "t")
		a.Drop()
		s.publish("t", "x", 1)
		s.fail(errors.New("the directory is down"))
		_, ack := s.b.TryConnect(staying(s.version, "anna", "a"))
		want := packets.ServerBusy
		if s.version != packets.V5 {
			want = packets.ServerUnavailable
		}
		require.Equal(s, want, ack.Reason)
		s.fail(nil)
		s.restart()
		a = s.anna()
		a.Accept(a.ExpectPublish("t", "x"))
	})
	onScene(t, "takeover", func(s *scene) {
		a := s.anna()
		a.Subscribe(packets.AtLeastOnce, "t")
		s.fail(errors.New("the directory is down"))
		_, ack := s.b.TryConnect(staying(s.version, "anna", "a"))
		require.NotEqual(s, packets.Success, ack.Reason)
		s.fail(nil)
		s.publish("t", "x", 1)
		a.Accept(a.ExpectPublish("t", "x")) // who was there has not been displaced
	})
	onScene(t, "live", func(s *scene) {
		a := s.anna()
		a.Subscribe(packets.AtLeastOnce, "t")
		s.fail(errors.New("the directory is down"))
		err := s.b.Reauthorize(s.Context(), petrel.Everybody())
		require.ErrorContains(s, err, "the directory is down")
		s.fail(nil)
		if s.version == packets.V5 {
			a.ExpectDisconnect(packets.ServerBusy)
		}
		a.ExpectClosed()
		a = s.anna()
		s.publish("t", "x", 1)
		a.Accept(a.ExpectPublish("t", "x"))
	})
}

func TestRevoke(t *testing.T) {
	for name, who := range map[string]petrel.Who{"identity": petrel.ByIdentity("anna"), "client": petrel.ByClientID("a")} {
		onScene(t, "connected, by "+name, func(s *scene) {
			other := s.b.Connect(staying(s.version, "bert", "b"))
			other.Subscribe(packets.AtLeastOnce, "t")
			a := s.b.Connect(willOf(staying(s.version, "anna", "a"), 0))
			a.Subscribe(packets.AtLeastOnce, "t", "$share/g/s")
			s.publish("t", "x", 1)
			a.ExpectPublish("t", "x")
			require.NoError(s, s.b.Revoke(s.Context(), who))
			if s.version == packets.V5 {
				a.ExpectDisconnect(packets.NotAuthorized)
			}
			a.ExpectClosed()
			s.watch.ExpectNothing()
			require.Equal(s, []string{"session a revoked"}, s.observed.take())
			s.restart()
			s.watch.ExpectNothing()
			a, ack := s.b.TryConnect(staying(s.version, "anna", "a"))
			require.False(s, ack.SessionPresent)
			s.publish("t", "y", 1)
			a.ExpectNothing()
			require.Equal(s, 1, client(s.T, s.b, "b").Subscriptions)
		})
		onScene(t, "offline, by "+name, func(s *scene) {
			a := s.b.Connect(willOf(staying(s.version, "anna", "a"), 60))
			a.Subscribe(packets.AtLeastOnce, "t")
			if s.version == packets.V5 {
				a.Drop()
			} else {
				a.Leave(packets.Success) // or its will, which cannot be delayed, is published
			}
			s.publish("t", "x", 1)
			require.NoError(s, s.b.Revoke(s.Context(), who))
			if s.machine != nil {
				require.Equal(s, map[string]int{"s": 1, "u": 1}, s.machine.kinds(), "that of who watches")
			}
			s.restart()
			time.Sleep(2 * time.Minute)
			s.watch.ExpectNothing()
			_, ack := s.b.TryConnect(staying(s.version, "anna", "a"))
			require.False(s, ack.SessionPresent)
		})
	}
	t.Run("all sessions of an identity, and of nobody else", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		for _, p := range [][2]string{{"anna", "1"}, {"anna", "2"}, {"bert", "3"}, {"", "4"}} {
			b.Connect(staying(packets.V5, p[0], p[1]))
		}
		require.NoError(t, b.Revoke(t.Context(), petrel.ByIdentity("anna")))
		require.NoError(t, b.Revoke(t.Context(), petrel.ByIdentity("nobody")))
		require.NoError(t, b.Revoke(t.Context(), petrel.Who{}))
		require.Equal(t, map[string]bool{"3": true, "4": true}, countClients(b))
		require.NoError(t, b.Revoke(t.Context(), petrel.ByIdentity("")))
		require.NoError(t, b.Revoke(t.Context(), petrel.Everybody()))
		require.Empty(t, countClients(b))
	})
}

// A CONNECT that was authenticated before Revoke and claims its session after is refused.
func TestRevokeDuringConnect(t *testing.T) {
	for _, n := range []int{1, 300} {
		t.Run(fmt.Sprint(n, " revocations"), func(t *testing.T) {
			var b *brokertest.Broker
			b = brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{petrel.AuthenticatorFunc(func(ctx context.Context, r *petrel.ConnectRequest) error {
				if r.ClientID == "late" {
					for range n {
						if err := b.Revoke(ctx, petrel.ByIdentity("anna")); err != nil {
							return err
						}
					}
				}
				return nil
			})}})
			want := packets.NotAuthorized
			if n > 256 {
				want = packets.ServerBusy
			}
			_, ack := b.TryConnect(as("anna", "late"))
			require.Equal(t, want, ack.Reason)
			b.Connect(as("anna", "next"))
			if n == 1 {
				b.Connect(as("bert", "late"))
			}
		})
	}
}

// A SUBSCRIBE that was authorised before Reauthorize and takes effect after is asked about again.
func TestReauthorizeDuringSubscribe(t *testing.T) {
	p := new(policy)
	var b *brokertest.Broker
	var once sync.Once
	change := permission(func(r *petrel.AccessRequest) error {
		if r.Action == petrel.Subscribe {
			once.Do(func() {
				p.deny("subscribe anna t")
				if err := b.Reauthorize(t.Context(), petrel.Everybody()); err != nil {
					t.Error(err)
				}
			})
		}
		return nil
	})
	b = brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{p, change}})
	c := b.Connect(as("anna", "a"))
	codes := c.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("t")})})
	require.Equal(t, []packets.ReasonCode{packets.NotAuthorized}, codes)
	require.Equal(t, 2, strings.Count(strings.Join(p.asked, "\n"), "subscribe anna t"))
}

// Without a user name the identity is empty, and one of all who have none.
func TestAnonymousClientsAreOneIdentity(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	b.Connect(brokertest.Durable("c")).Drop()
	_, ack := b.TryConnect(brokertest.Durable("c"))
	require.True(t, ack.SessionPresent)
	require.Empty(t, client(t, b, "c").Identity)
	_, ack = b.TryConnect(staying(packets.V5, "anna", "c"))
	require.Equal(t, packets.ClientIdentifierNotValid, ack.Reason)
}
