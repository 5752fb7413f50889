package petrel_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

func TestRestoredSessionGoesOn(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		sub := b.Connect(brokertest.Durable("subscriber"))
		sub.Subscribe(packets.ExactlyOnce, "a/#")
		pub := b.Connect(brokertest.ID("publisher"))
		pub.Publish("a/1", "QoS 1, sent", packets.AtLeastOnce)
		pub.Publish("a/2", "QoS 2, sent", packets.ExactlyOnce)
		pub.Publish("a/3", "QoS 2, received", packets.ExactlyOnce)
		one := sub.ExpectPublish("a/1", "QoS 1, sent")
		two := sub.ExpectPublish("a/2", "QoS 2, sent")
		three := sub.ExpectPublish("a/3", "QoS 2, received")
		sub.Send(&packets.Pubrec{PacketID: three.PacketID})
		brokertest.Expect[*packets.Pubrel](sub)
		sub.Drop()
		pub.Publish("a/4", "queued", packets.AtLeastOnce)

		b = m.restart(discreet)
		pub = b.Connect(brokertest.ID("publisher"))
		pub.Publish("a/5", "after the restart", packets.ExactlyOnce)
		sub, ack := b.TryConnect(brokertest.Durable("subscriber"))
		require.True(t, ack.SessionPresent)
		p := sub.ExpectPublish("a/1", "QoS 1, sent")
		require.Equal(t, []any{one.PacketID, true}, []any{p.PacketID, p.Dup})
		p = sub.ExpectPublish("a/2", "QoS 2, sent")
		require.Equal(t, []any{two.PacketID, true}, []any{p.PacketID, p.Dup})
		require.Equal(t, three.PacketID, brokertest.Expect[*packets.Pubrel](sub).PacketID)
		p = sub.ExpectPublish("a/4", "queued")
		require.False(t, p.Dup)
		require.NotContains(t, []uint16{one.PacketID, two.PacketID, three.PacketID}, p.PacketID)
		p = sub.ExpectPublish("a/5", "after the restart")
		require.NotContains(t, []uint16{one.PacketID, two.PacketID, three.PacketID}, p.PacketID)
		sub.ExpectNothing()
	})
}

func TestRestoredQoS2IdentifierIsNotTakenForANewMessage(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		sub := b.Connect(brokertest.Durable("subscriber"))
		sub.Subscribe(packets.ExactlyOnce, "a")
		pub := b.Connect(brokertest.Durable("publisher"))
		message := packets.Publish{Topic: []byte("a"), Payload: []byte("1"), QoS: 2, PacketID: 7}
		pub.Send(&message)
		brokertest.Expect[*packets.Pubrec](pub)
		sub.Accept(sub.ExpectPublish("a", "1"))
		synctest.Wait() // until its end is in the store

		b = m.restart(discreet)
		pub = b.Connect(brokertest.Durable("publisher"))
		sub = b.Connect(brokertest.Durable("subscriber"))
		message.Dup = true
		pub.Send(&message)
		brokertest.Expect[*packets.Pubrec](pub)
		pub.Send(&packets.Pubrel{PacketID: 7})
		require.Equal(t, packets.Success, brokertest.Expect[*packets.Pubcomp](pub).Reason)
		sub.ExpectNothing()

		b = m.restart(discreet)
		pub = b.Connect(brokertest.Durable("publisher"))
		sub = b.Connect(brokertest.Durable("subscriber"))
		pub.PublishWith(packets.Publish{Topic: []byte("a"), Payload: []byte("2"), QoS: 2, PacketID: 7})
		sub.ExpectPublish("a", "2")
	})
}

func TestRestoredSubscriptionsAreAsTheyWere(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		c := b.Connect(brokertest.Durable("client"))
		subs := packets.Subscriptions(nil).
			Append(packets.Subscription{Filter: []byte("no/local"), QoS: 1, NoLocal: true}).
			Append(packets.Subscription{Filter: []byte("as/published"), QoS: 1, RetainAsPublished: true}).
			Append(packets.Subscription{Filter: []byte("gone"), QoS: 1}).
			Append(packets.Subscription{Filter: []byte("$share/group/shared"), QoS: 1})
		c.SubscribeWith(packets.Subscribe{SubscriptionID: 77, Subscriptions: subs})
		c.Unsubscribe("gone")

		b = m.restart(discreet)
		stats := b.Stats()
		require.Equal(t, []int{3, 1, 1}, []int{stats.Subscriptions, stats.SharedSubscription, stats.Sessions})
		c = b.Connect(brokertest.Durable("client"))
		c.Publish("no/local", "", packets.AtLeastOnce)
		pub := b.Connect(brokertest.ID("publisher"))
		pub.Publish("gone", "", packets.AtLeastOnce)
		pub.PublishWith(packets.Publish{Topic: []byte("as/published"), Payload: []byte("x"), QoS: 1, Retain: true})
		p := c.ExpectPublish("as/published", "x")
		require.Equal(t, []any{true, []uint32{77}}, []any{p.Retain, p.SubscriptionIDs})
		c.Accept(p)
		pub.Publish("shared", "y", packets.AtLeastOnce)
		c.ExpectPublish("shared", "y")
		require.Equal(t, packets.NoSubscriptionExisted, c.Unsubscribe("gone")[0])
	})
}

func TestRestoredSessionBelongsToItsIdentity(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		as := func(user string) packets.Connect {
			p := brokertest.Durable("device")
			p.HasUserName, p.UserName = true, []byte(user)
			return p
		}
		m.start(discreet).Connect(as("anna"))
		b := m.restart(discreet)
		_, ack := b.TryConnect(as("eve"))
		require.Equal(t, packets.ClientIdentifierNotValid, ack.Reason)
		_, ack = b.TryConnect(as("anna"))
		require.True(t, ack.SessionPresent)
	})
}

func TestRestoredRetainedMessages(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		pub := b.Connect(brokertest.ID("publisher"))
		keep := func(topic, payload string, change func(*packets.Publish)) {
			p := packets.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: 1, Retain: true}
			change(&p)
			pub.PublishWith(p)
		}
		plain := func(*packets.Publish) {}
		long := fmt.Sprintf("%02000d", 1)
		keep("old", "first", plain)
		keep("old", "second", plain)
		keep("removed", "x", plain)
		keep("removed", "", plain)
		keep(long, "long", plain)
		keep(long+"/2", "longer", plain)
		keep("expires", "soon", func(p *packets.Publish) { p.HasMessageExpiry, p.MessageExpiryInterval = true, 100 })
		keep("lasts", "longer", func(p *packets.Publish) { p.HasMessageExpiry, p.MessageExpiryInterval = true, 1000 })
		keep("rich", "p", func(p *packets.Publish) {
			p.Properties = p.Properties.AppendContentType("text/plain").AppendUserProperty("a", "b").AppendCorrelationData([]byte{1, 2})
		})
		m.crash()
		time.Sleep(200 * time.Second)
		b = m.start(discreet)
		got := make(map[string]string)
		for r := range b.Retained("#") {
			got[r.Topic] = string(r.Payload)
		}
		require.Equal(t, map[string]string{"old": "second", long: "long", long + "/2": "longer", "lasts": "longer", "rich": "p"}, got)
		c := b.Connect(brokertest.ID("reader"))
		c.Subscribe(packets.AtLeastOnce, "rich", "lasts")
		p := c.ExpectPublish("rich", "p")
		require.Equal(t, "text/plain", string(p.Properties.ContentType()))
		require.Equal(t, []byte{1, 2}, p.Properties.CorrelationData())
		require.InDelta(t, 800, c.ExpectPublish("lasts", "longer").MessageExpiryInterval, 1)
		require.Equal(t, 5, m.kinds()["r"], "what has expired is gone from the store, too")
	})
}

func TestSessionThatExpiredWhileTheBrokerWasDown(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		for id, expiry := range map[string]uint32{"short": 60, "long": 6000, "forever": 0xFFFFFFFF, "connected": 60} {
			p := brokertest.ID(id)
			p.SessionExpiryInterval = expiry
			c := b.Connect(p)
			c.Subscribe(packets.AtLeastOnce, "a")
			if id != "connected" {
				c.Leave(packets.NormalDisconnection)
			}
		}
		synctest.Wait() // until it is in the store who has left
		m.crash()
		time.Sleep(time.Hour)
		b = m.start(discreet)
		time.Sleep(time.Second)
		require.ElementsMatch(t, []string{"long", "forever", "connected"}, clientIDs(b), "the time of who was connected begins with the restart")
		time.Sleep(time.Minute)
		require.ElementsMatch(t, []string{"long", "forever"}, clientIDs(b))
		require.Equal(t, map[string]int{"s": 2, "u": 2}, m.kinds())
	})
}

func clientIDs(b *brokertest.Broker) (ids []string) {
	for c := range b.Clients() {
		ids = append(ids, c.ID)
	}
	return ids
}

func TestWillsAfterARestart(t *testing.T) {
	willing := func(id string, expiry, delay uint32) packets.Connect {
		p := brokertest.Durable(id)
		p.SessionExpiryInterval = expiry
		p.HasWill, p.Will = true, packets.Will{Topic: []byte("will/" + id), Payload: []byte("gone"), QoS: 1, DelayInterval: delay}
		return p
	}
	for _, tc := range []struct {
		name    string
		connect packets.Connect
		leave   func(*brokertest.Client) // nil: it is connected when the broker crashes
		due     time.Duration            // after the restart; negative means never
	}{
		{"of a connection that ended with the process", willing("c", 3600, 0), nil, 0},
		{"of a session that ended with it", willing("c", 0, 0), nil, 0},
		{"of a session that ended with it, with a delay", willing("c", 0, 500), nil, 0},
		{"with a delay that begins with the restart", willing("c", 3600, 300), nil, 300 * time.Second},
		{"delayed, and due while the broker was down", willing("c", 3600, 60), (*brokertest.Client).Drop, 0},
		{"delayed, and due later", willing("c", 3600, 400), (*brokertest.Client).Drop, 300 * time.Second},
		{"of a session that ended while the broker was down", willing("c", 90, 400), (*brokertest.Client).Drop, 0},
		{"taken back", willing("c", 3600, 0), func(c *brokertest.Client) { c.Leave(packets.NormalDisconnection) }, -1},
		{"published before the crash", willing("c", 3600, 0), (*brokertest.Client).Drop, -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b := m.start(discreet)
				if tc.name != "published before the crash" {
					b.Connect(brokertest.Durable("watch")).Subscribe(packets.AtLeastOnce, "will/+")
				}
				c := b.Connect(tc.connect)
				if tc.leave != nil {
					tc.leave(c)
				}
				synctest.Wait()
				m.crash()
				time.Sleep(100 * time.Second)
				start := time.Now()
				b = m.start(discreet)
				watch := b.Connect(brokertest.Durable("watch"))
				if tc.due < 0 {
					watch.Subscribe(packets.AtLeastOnce, "will/+")
					time.Sleep(time.Hour)
					watch.ExpectNothing()
					return
				}
				time.Sleep(tc.due)
				watch.Accept(watch.ExpectPublish("will/c", "gone"))
				require.InDelta(t, tc.due.Seconds(), time.Since(start).Seconds(), 0.2)
				watch.ExpectNothing()
				require.Zero(t, m.kinds()["w"])
				b = m.restart(discreet)
				watch = b.Connect(brokertest.Durable("watch"))
				time.Sleep(time.Minute)
				watch.ExpectNothing()
			})
		})
	}
}

func TestDelayedWillIsCancelledByAReturnAfterTheRestart(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		b.Connect(brokertest.Durable("watch")).Subscribe(packets.AtLeastOnce, "will/+")
		p := brokertest.Durable("c")
		p.HasWill, p.Will = true, packets.Will{Topic: []byte("will/c"), QoS: 1, DelayInterval: 400}
		b.Connect(p).Drop()
		b = m.restart(discreet)
		b.Connect(brokertest.Durable("c"))
		b = m.restart(discreet)
		watch := b.Connect(brokertest.Durable("watch"))
		time.Sleep(30 * time.Minute)
		watch.ExpectNothing()
	})
}

func TestCleanStartLeavesNothingInTheStore(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		c := b.Connect(brokertest.Durable("c"))
		c.Subscribe(packets.ExactlyOnce, "a")
		b.Connect(brokertest.ID("publisher")).Publish("a", "1", packets.ExactlyOnce)
		c.Send(&packets.Publish{Topic: []byte("b"), QoS: 2, PacketID: 1})
		c.Drop()
		p := brokertest.Durable("c")
		p.CleanStart = true
		_, ack := b.TryConnect(p)
		require.False(t, ack.SessionPresent)
		require.Equal(t, map[string]int{"s": 1}, m.kinds())
		b = m.restart(discreet)
		_, ack = b.TryConnect(brokertest.Durable("c"))
		require.True(t, ack.SessionPresent)
		require.Zero(t, b.Stats().Subscriptions)
	})
}

func TestSharedMessagesMoveInTheStore(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		a := b.Connect(brokertest.Durable("a"))
		a.Subscribe(packets.AtLeastOnce, "$share/g/jobs")
		pub := b.Connect(brokertest.ID("publisher"))
		for i := range 5 {
			pub.Publish("jobs", fmt.Sprint(i), packets.AtLeastOnce)
		}
		c := b.Connect(brokertest.Durable("b"))
		c.Subscribe(packets.AtLeastOnce, "$share/g/jobs")
		a.Drop()
		require.Equal(t, 5, m.kinds()["q"])

		b = m.restart(discreet)
		require.Equal(t, 5, m.kinds()["q"])
		c = b.Connect(brokertest.Durable("b"))
		for i := range 5 {
			c.Accept(c.ExpectPublish("jobs", fmt.Sprint(i)))
		}
		c.ExpectNothing()
		require.Zero(t, m.kinds()["q"])
		b.Connect(brokertest.Durable("a")).ExpectNothing()
	})
}

// asked is an Authorizer that has to be asked about each delivery.
type asked struct{ refuse bool }

func (a *asked) Authorize(_ context.Context, r *petrel.AccessRequest) error {
	if r.Action == petrel.Receive && (a.refuse || r.Client.UserName() != "anna" || r.Client.Peer().RemoteAddr == nil) {
		return packets.NotAuthorized
	}
	r.CheckDeliveries = true
	return nil
}

func TestRestoredSubscriptionIsStillChecked(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		a := &asked{}
		o := petrel.Options{Logger: silent(), Hooks: []petrel.Hook{a}}
		p := brokertest.Durable("c")
		p.HasUserName, p.UserName = true, []byte("anna")
		m.start(o).Connect(p).Subscribe(packets.AtLeastOnce, "a")
		b := m.restart(o)
		pub := b.Connect(brokertest.ID("publisher"))
		pub.Publish("a", "allowed", packets.AtLeastOnce)
		a.refuse = true
		pub.PublishWith(packets.Publish{Topic: []byte("a"), Payload: []byte("refused"), QoS: 1})
		a.refuse = false
		c := b.Connect(p)
		c.ExpectPublish("a", "allowed")
		c.ExpectNothing()
	})
}

func TestOrderlyEndKeepsEverything(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		c := b.Connect(brokertest.Durable("c"))
		c.Subscribe(packets.AtLeastOnce, "a")
		b.Connect(brokertest.ID("publisher")).Publish("a", "1", packets.AtLeastOnce)
		c.ExpectPublish("a", "1")
		require.NoError(t, b.Shutdown(t.Context()))
		b = m.start(discreet)
		c = b.Connect(brokertest.Durable("c"))
		require.True(t, c.ExpectPublish("a", "1").Dup)
		require.Equal(t, []string{"c"}, slices.DeleteFunc(clientIDs(b), func(id string) bool { return id == "publisher" }))
	})
}

// A clean start is not acknowledged before the end of the old session is in the store,
// or a crash would bring back what the client was told is gone.
func TestConnackOfACleanStartWaitsForTheEndOfTheOldSession(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		c := b.Connect(brokertest.Durable("c"))
		c.Subscribe(packets.AtLeastOnce, "a")
		c.Drop()
		synctest.Wait()
		release := m.slowly()
		c = b.Dial(packets.V5)
		p := brokertest.ID("c")
		c.Send(&p)
		synctest.Wait()
		require.Zero(t, c.Waiting())
		release()
		brokertest.Expect[*packets.Connack](c)
		b = m.restart(discreet)
		require.Zero(t, b.Stats().Sessions)
	})
}
