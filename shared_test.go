package petrel_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// members connects clients that subscribe to the filter in turn.
func members(b *brokertest.Broker, filter string, qos packets.QoS, connect func(string) packets.Connect, ids ...string) []*brokertest.Client {
	var list []*brokertest.Client
	for _, id := range ids {
		c := b.Connect(connect(id))
		c.Subscribe(qos, filter)
		list = append(list, c)
	}
	return list
}

// send publishes messages of the host with the payloads 0, 1, 2 and so on.
func send(t *testing.T, b *brokertest.Broker, topic string, qos packets.QoS, n int) (payloads []string) {
	t.Helper()
	for i := range n {
		require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: topic, Payload: fmt.Append(nil, i), QoS: qos}))
		payloads = append(payloads, fmt.Sprint(i))
	}
	return payloads
}

func TestSharedRoundRobinIsFair(t *testing.T) {
	for _, v := range threeVersions {
		t.Run(v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			connect := func(id string) packets.Connect { return speaking(v, id) }
			group := members(b, "$share/g/a/+", 1, connect, "c1", "c2", "c3")
			send(t, b, "a/x", 1, 30)
			var all []string
			for _, c := range group {
				got := payloads(arrived(t, c))
				require.Len(t, got, 10)
				all = append(all, got...)
			}
			require.Len(t, slices.Compact(slices.Sorted(slices.Values(all))), 30, "each message comes once")
		})
	}
}

func TestSharedStrategies(t *testing.T) {
	t.Run("random reaches everybody", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{SharedStrategy: petrel.Random})
		group := members(b, "$share/g/a", 0, brokertest.ID, "c1", "c2", "c3")
		send(t, b, "a", 0, 300)
		total := 0
		for _, c := range group {
			n := len(arrived(t, c))
			require.NotZero(t, n)
			total += n
		}
		require.Equal(t, 300, total)
	})
	t.Run("sticky keeps to the first that is connected", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{SharedStrategy: petrel.Sticky})
		group := members(b, "$share/g/a", 0, brokertest.Durable, "c1", "c2", "c3")
		send(t, b, "a", 0, 5)
		require.Len(t, arrived(t, group[0]), 5)
		group[0].Drop()
		send(t, b, "a", 0, 5)
		require.Len(t, arrived(t, group[1]), 5)
		group[0] = b.Connect(brokertest.Durable("c1"))
		send(t, b, "a", 0, 5)
		require.Len(t, arrived(t, group[0]), 5, "it is back")
		group[0].Unsubscribe("$share/g/a")
		group[0].Subscribe(0, "$share/g/a")
		send(t, b, "a", 0, 5)
		require.Len(t, arrived(t, group[1]), 5, "who joins again is the last")
		for _, c := range group {
			c.ExpectNothing()
		}
	})
	t.Run("hash of the topic keeps a topic at one member", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{SharedStrategy: petrel.TopicHash})
		group := members(b, "$share/g/#", 0, brokertest.ID, "c1", "c2", "c3")
		topics := brokertest.Topics("a", 60)
		for range 4 {
			for _, topic := range topics {
				require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: topic}))
			}
		}
		seen := make(map[string]int)
		for i, c := range group {
			got := arrived(t, c)
			require.NotEmpty(t, got, "60 topics do not all have the same member")
			for _, m := range got {
				if j, ok := seen[string(m.Topic)]; ok {
					require.Equal(t, j, i, "of %s", m.Topic)
				}
				seen[string(m.Topic)] = i
			}
		}
		require.Len(t, seen, 60)
	})
}

func TestSharedConnectedMembersFirst(t *testing.T) {
	for _, strategy := range []petrel.SharedStrategy{petrel.RoundRobin, petrel.Random, petrel.Sticky, petrel.TopicHash} {
		t.Run(fmt.Sprint("strategy ", strategy), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{SharedStrategy: strategy})
			group := members(b, "$share/g/a", 1, brokertest.Durable, "c1", "c2", "c3", "c4")
			for _, i := range []int{0, 1, 3} {
				group[i].Drop()
			}
			want := send(t, b, "a", 1, 20)
			require.Equal(t, want, payloads(arrived(t, group[2])))
			group[2].Unsubscribe("$share/g/a")

			want = send(t, b, "a", 1, 20) // nobody is connected: it waits for one of them
			var got []string
			for _, id := range []string{"c1", "c2", "c4"} {
				c := b.Connect(brokertest.Durable(id))
				for _, m := range arrived(t, c) {
					got = append(got, string(m.Payload))
					c.Accept(m)
				}
				c.ExpectNothing()
				c.Drop()
			}
			require.ElementsMatch(t, want, got)
		})
	}
}

func TestSharedQoS0WithoutConnectedMember(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	members(b, "$share/g/a", 1, brokertest.Durable, "c")[0].Drop()
	send(t, b, "a", 0, 1)
	b.Connect(brokertest.Durable("c")).ExpectNothing()
	require.Equal(t, map[petrel.DropReason]uint64{petrel.DropOffline: 1}, b.Stats().Dropped)
}

func TestSharedHandOverOnDisconnect(t *testing.T) {
	for _, connect := range []struct {
		name string
		with func(string) packets.Connect
	}{{"session goes on", brokertest.Durable}, {"session ends", brokertest.ID}} {
		t.Run("unacknowledged QoS 1: "+connect.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			group := members(b, "$share/g/a", 1, connect.with, "c1", "c2")
			send(t, b, "a", 1, 20)
			first := arrived(t, group[0])
			require.Len(t, first, 10)
			own := arrived(t, group[1])
			require.Len(t, own, 10)
			group[0].Accept(first[0])
			group[0].ExpectNothing()
			group[0].Drop()
			got := arrived(t, group[1])
			require.Equal(t, payloads(first[1:]), payloads(got), "in their order, without the one that was acknowledged")
			for _, m := range got {
				require.False(t, m.Dup)
			}
			for _, m := range slices.Concat(own, got) {
				group[1].Accept(m)
			}
			group[1].ExpectNothing()
			require.Zero(t, b.Stats().MessageBytes)
			require.Empty(t, b.Stats().Dropped)
			c := b.Connect(connect.with("c1"))
			c.ExpectNothing() // it comes back to nothing of these
		})
		t.Run("what was never sent: "+connect.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			with := func(id string) packets.Connect { return window(1, connect.with(id)) }
			c1 := members(b, "$share/g/a", 2, with, "c1")[0]
			send(t, b, "a", 2, 5)
			c1.ExpectPublish("a", "0")
			c2 := members(b, "$share/g/a", 2, brokertest.ID, "c2")[0]
			c2.ExpectNothing()
			c1.Drop()
			require.Equal(t, []string{"1", "2", "3", "4"}, payloads(arrived(t, c2)))
		})
	}
	t.Run("nobody else is connected: it waits for the client", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		group := members(b, "$share/g/a", 1, brokertest.Durable, "c1", "c2")
		group[1].Drop()
		send(t, b, "a", 1, 1)
		m := group[0].ExpectPublish("a", "0")
		group[0].Drop()
		c2 := b.Connect(brokertest.Durable("c2"))
		c2.ExpectNothing()
		again := b.Connect(brokertest.Durable("c1")).ExpectPublish("a", "0")
		require.True(t, again.Dup)
		require.Equal(t, m.PacketID, again.PacketID)
	})
	t.Run("a member of another group gets nothing of it", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c1 := members(b, "$share/g/a", 1, brokertest.Durable, "c1")[0]
		others := []*brokertest.Client{
			members(b, "$share/h/a", 1, brokertest.ID, "c2")[0],
			members(b, "$share/g/+", 1, brokertest.ID, "c3")[0],
			members(b, "a", 1, brokertest.ID, "c4")[0],
		}
		send(t, b, "a", 1, 1)
		c1.ExpectPublish("a", "0")
		for _, c := range others {
			c.Accept(c.ExpectPublish("a", "0"))
		}
		c1.Drop()
		for _, c := range others {
			c.ExpectNothing()
		}
		b.Connect(brokertest.Durable("c1")).ExpectPublish("a", "0")
	})
	t.Run("by two groups at once", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c1 := b.Connect(brokertest.ID("c1"))
		c1.Subscribe(1, "$share/g/a", "$share/h/b", "b")
		send(t, b, "a", 1, 3)
		send(t, b, "b", 1, 3)
		require.Len(t, arrived(t, c1), 9)
		g := members(b, "$share/g/a", 1, brokertest.ID, "c2")[0]
		h := members(b, "$share/h/b", 1, brokertest.ID, "c3")[0]
		c1.Drop()
		require.Equal(t, []string{"0", "1", "2"}, payloads(arrived(t, g)))
		require.Equal(t, []string{"0", "1", "2"}, payloads(arrived(t, h)))
		require.Equal(t, uint64(3), b.Stats().Dropped[petrel.DropSessionEnded], "those of the plain subscription")
	})
	t.Run("after the member has unsubscribed", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		group := members(b, "$share/g/a", 1, brokertest.ID, "c1", "c2")
		send(t, b, "a", 1, 1)
		group[0].ExpectPublish("a", "0")
		group[0].Unsubscribe("$share/g/a")
		group[0].Drop()
		group[1].ExpectPublish("a", "0")
	})
	t.Run("after the member has subscribed again", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		group := members(b, "$share/g/a", 1, brokertest.ID, "c1", "c2")
		send(t, b, "a", 1, 1)
		group[0].ExpectPublish("a", "0")
		group[0].Subscribe(2, "$share/g/a")
		group[0].Drop()
		group[1].ExpectPublish("a", "0")
	})
	t.Run("the QoS and the identifier are those of the new member", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c1 := b.Connect(brokertest.ID("c1"))
		c1.SubscribeWith(identified(1, asking(on("$share/g/a", 1))))
		require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "a", QoS: 2}))
		require.Equal(t, packets.AtLeastOnce, c1.ExpectPublish("a", "").QoS)
		c2 := b.Connect(brokertest.ID("c2"))
		c2.SubscribeWith(identified(2, asking(on("$share/g/a", 2))))
		c1.Drop()
		m := c2.ExpectPublish("a", "")
		require.Equal(t, packets.ExactlyOnce, m.QoS)
		require.Equal(t, []uint32{2}, m.SubscriptionIDs)
	})
}

func TestSharedHandOverAtSessionEnd(t *testing.T) {
	t.Run("the session expires", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			defer b.Close()
			with := func(id string) packets.Connect {
				c := brokertest.Durable(id)
				c.SessionExpiryInterval = 10
				return c
			}
			group := members(b, "$share/g/a", 1, with, "c1")
			late := members(b, "$share/g/a", 1, brokertest.Durable, "c2")[0]
			late.Drop()
			send(t, b, "a", 1, 2)
			require.Len(t, arrived(t, group[0]), 2)
			group[0].Drop() // the other one is offline: it waits
			late = b.Connect(brokertest.Durable("c2"))
			late.ExpectNothing()
			time.Sleep(9 * time.Second)
			late.ExpectNothing()
			time.Sleep(2 * time.Second)
			require.Equal(t, []string{"0", "1"}, payloads(arrived(t, late)))
		})
	})
	t.Run("to a member that is offline, if no other is left", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		members(b, "$share/g/a", 1, brokertest.Durable, "c2")[0].Drop()
		c1 := members(b, "$share/g/a", 1, brokertest.ID, "c1")[0]
		send(t, b, "a", 1, 1)
		c1.ExpectPublish("a", "0")
		c1.Drop()
		b.Connect(brokertest.Durable("c2")).ExpectPublish("a", "0")
	})
	t.Run("a clean start", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		group := members(b, "$share/g/a", 1, brokertest.Durable, "c1", "c2")
		send(t, b, "a", 1, 2)
		group[0].ExpectPublish("a", "0")
		group[1].Accept(group[1].ExpectPublish("a", "1"))
		c1 := b.Connect(brokertest.ID("c1")) // displaces, and discards the session
		group[0].ExpectDisconnect(packets.SessionTakenOver)
		group[1].ExpectPublish("a", "0")
		c1.ExpectNothing()
	})
	t.Run("the last member: the messages are dropped", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c := members(b, "$share/g/a", 1, func(id string) packets.Connect { return window(2, brokertest.ID(id)) }, "c")[0]
		send(t, b, "a", 1, 5)
		require.Len(t, arrived(t, c), 2)
		c.Drop()
		require.Equal(t, map[petrel.DropReason]uint64{petrel.DropSessionEnded: 5}, b.Stats().Dropped)
		require.Zero(t, b.Stats().MessageBytes)
		require.Zero(t, b.Stats().SharedGroups)
		late := members(b, "$share/g/a", 1, brokertest.ID, "late")[0]
		late.ExpectNothing()
	})
}

func TestSharedQoS2StaysWithItsClient(t *testing.T) {
	t.Run("the session goes on", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		group := members(b, "$share/g/a", 2, brokertest.Durable, "c1", "c2")
		send(t, b, "a", 2, 1)
		m := group[0].ExpectPublish("a", "0")
		group[0].Drop()
		group[1].ExpectNothing()
		c1 := b.Connect(brokertest.Durable("c1"))
		again := c1.ExpectPublish("a", "0")
		require.True(t, again.Dup)
		require.Equal(t, m.PacketID, again.PacketID)
		c1.Accept(again)
		c1.ExpectNothing()
		require.Zero(t, b.Stats().MessageBytes)
	})
	t.Run("after PUBREC only PUBREL is sent again", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		group := members(b, "$share/g/a", 2, brokertest.Durable, "c1", "c2")
		send(t, b, "a", 2, 1)
		m := group[0].ExpectPublish("a", "0")
		group[0].Send(&packets.Pubrec{PacketID: m.PacketID})
		brokertest.Expect[*packets.Pubrel](group[0])
		group[0].Drop()
		group[1].ExpectNothing()
		c1 := b.Connect(brokertest.Durable("c1"))
		require.Equal(t, m.PacketID, brokertest.Expect[*packets.Pubrel](c1).PacketID)
	})
	t.Run("it is dropped with the session", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		group := members(b, "$share/g/a", 2, brokertest.ID, "c1", "c2")
		send(t, b, "a", 2, 1)
		group[0].ExpectPublish("a", "0")
		group[0].Drop()
		group[1].ExpectNothing()
		require.Zero(t, b.Stats().MessageBytes, "the memory comes back")
		require.Equal(t, map[petrel.DropReason]uint64{petrel.DropSessionEnded: 1}, b.Stats().Dropped)
	})
}

func TestSharedNegativeAcknowledgementIsNotHandedOver(t *testing.T) {
	for _, qos := range []packets.QoS{packets.AtLeastOnce, packets.ExactlyOnce} {
		t.Run(qos.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			group := members(b, "$share/g/a", 2, brokertest.ID, "c1", "c2")
			send(t, b, "a", qos, 1)
			m := group[0].ExpectPublish("a", "0")
			if qos == packets.AtLeastOnce {
				group[0].Send(&packets.Puback{PacketID: m.PacketID, Reason: packets.NotAuthorized})
			} else {
				group[0].Send(&packets.Pubrec{PacketID: m.PacketID, Reason: packets.QuotaExceeded})
			}
			group[0].ExpectNothing()
			group[0].Drop()
			group[1].ExpectNothing()
			require.Equal(t, map[petrel.DropReason]uint64{petrel.DropRefusedByClient: 1}, b.Stats().Dropped)
			require.Zero(t, b.Stats().MessageBytes)
		})
	}
}

func TestSharedGroupIsNameAndFilter(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	filters := []string{"$share/g/a/b", "$share/g/a/+", "$share/g/a/#", "$share/h/a/b"}
	var clients []*brokertest.Client
	for i, filter := range filters {
		clients = append(clients, members(b, filter, 0, brokertest.ID, fmt.Sprint("c", i), fmt.Sprint("d", i))...)
	}
	require.Equal(t, len(filters), b.Stats().SharedGroups)
	require.Equal(t, 2*len(filters), b.Stats().SharedSubscription)
	send(t, b, "a/b", 0, 2)
	for i, c := range clients {
		require.Len(t, arrived(t, c), 1, "client %d: each group is served by itself", i)
	}
	for i := 0; i < len(clients); i += 2 {
		clients[i].Drop()
	}
	require.Equal(t, len(filters), b.Stats().SharedGroups)
	send(t, b, "a/b", 0, 2)
	for i := 1; i < len(clients); i += 2 {
		require.Len(t, arrived(t, clients[i]), 2)
		clients[i].Drop()
	}
	require.Zero(t, b.Stats().SharedGroups)
	require.Zero(t, b.Stats().Subscriptions)
}

func TestSharedAndPlainSubscriptionsOfOneClient(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	c, other := b.Connect(brokertest.ID("c")), b.Connect(brokertest.ID("other"))
	c.SubscribeWith(identified(1, asking(on("$share/g/a", 1))))
	c.SubscribeWith(identified(2, asking(on("a", 2))))
	c.SubscribeWith(identified(3, asking(on("#", 0))))
	other.SubscribeWith(identified(4, asking(on("$share/g/a", 2))))
	send(t, b, "a", 2, 2)
	var got []string
	for _, m := range arrived(t, c) {
		got = append(got, fmt.Sprint(m.QoS, sortedIDs(m)))
	}
	require.ElementsMatch(t, []string{"QoS 2 [2 3]", "QoS 2 [2 3]", "QoS 1 [1]"}, got)
	m := arrived(t, other)
	require.Len(t, m, 1)
	require.Equal(t, []uint32{4}, m[0].SubscriptionIDs, "only its own")
	require.Equal(t, packets.ExactlyOnce, m[0].QoS)
}

func TestSharedRetainAsPublished(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	as, plain := b.Connect(brokertest.ID("as")), b.Connect(brokertest.ID("plain"))
	as.SubscribeWith(asking(packets.Subscription{Filter: []byte("$share/g/a"), RetainAsPublished: true}))
	plain.SubscribeWith(asking(on("$share/h/a", 0)))
	keep(t, b.Connect(brokertest.ID("p")), "a", "x")
	require.True(t, as.ExpectPublish("a", "x").Retain)
	require.False(t, plain.ExpectPublish("a", "x").Retain)
}

func TestSharedOwnMessagesComeBack(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	c := members(b, "$share/g/a", 0, brokertest.ID, "c")[0]
	c.Send(&packets.Publish{Topic: []byte("a"), Payload: []byte("x")})
	c.ExpectPublish("a", "x")
}

func TestSharedSlowMemberDoesNotLoseMessages(t *testing.T) {
	const n = 200
	b := brokertest.New(t, petrel.Options{})
	slow := members(b, "$share/g/a", 1, func(id string) packets.Connect { return window(1, brokertest.Durable(id)) }, "slow")[0]
	fast := members(b, "$share/g/a", 1, brokertest.ID, "fast")[0]
	want := send(t, b, "a", 1, n)
	slow.ExpectPublish("a", "0") // the others wait in its queue
	got := payloads(arrived(t, fast))
	slow.Drop()
	got = append(got, payloads(arrived(t, fast))...)
	require.ElementsMatch(t, want, got)
}

// sendEach is send with a topic for each message.
func sendEach(t *testing.T, b *brokertest.Broker, n int) (payloads []string) {
	t.Helper()
	for i := range n {
		payload := fmt.Sprint(i)
		require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "a/" + payload, Payload: []byte(payload), QoS: 1}))
		payloads = append(payloads, payload)
	}
	return payloads
}

// stalled connects a member of the group that takes one message, and acknowledges none.
func stalled(b *brokertest.Broker) *brokertest.Client {
	one := func(id string) packets.Connect { return window(1, brokertest.Durable(id)) }
	return members(b, "$share/g/a/+", 1, one, "stalled")[0]
}

// A member that does not keep up gets no more than it can hold, as long as another is
// connected: nothing is lost.
func TestSharedStalledMemberIsLeftOut(t *testing.T) {
	const n = 100
	for name, tc := range map[string]struct {
		strategy petrel.SharedStrategy
		held     int // by the member that is stalled
	}{
		"round robin":       {petrel.RoundRobin, 2}, // one was sent, one waits
		"random":            {petrel.Random, 2},
		"hash of the topic": {petrel.TopicHash, 6}, // its queue is full
		"sticky":            {petrel.Sticky, 6},
	} {
		t.Run(name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{SharedStrategy: tc.strategy, QueueMessages: 5})
			slow := stalled(b)
			fast := members(b, "$share/g/a/+", 1, brokertest.ID, "fast")[0]
			want := sendEach(t, b, n)
			got := payloads(arrived(t, fast))
			require.Len(t, got, n-tc.held)
			slow.Drop()
			got = append(got, payloads(arrived(t, fast))...)
			require.ElementsMatch(t, want, got)
			require.Empty(t, b.Stats().Dropped)
		})
	}
}

// A member that becomes readier while the members are looked at gets the message all the
// same.
func TestSharedMemberThatBecomesReady(t *testing.T) {
	var slow *brokertest.Client
	var sent *packets.Publish
	asked := permission(func(r *petrel.AccessRequest) error {
		switch {
		case r.Client == nil || r.Client.ID() != "refused":
			return nil
		case r.Action == petrel.Subscribe:
			r.CheckDeliveries = true
			return nil
		case sent != nil:
			slow.Accept(sent)
			sent = nil
			time.Sleep(time.Millisecond) // of a fake clock: nothing waits for it now
		}
		return packets.NotAuthorized
	})
	inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{asked}}, func(t *testing.T, b *brokertest.Broker) {
		slow = stalled(b)
		want := sendEach(t, b, 2)
		first := slow.ExpectPublish("a/0", "0")
		members(b, "$share/g/a/+", 1, brokertest.ID, "refused")[0].ExpectNothing()
		sent = first
		require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "a/2", Payload: []byte("2"), QoS: 1}))
		require.Equal(t, append(want[1:], "2"), take(t, slow, 2))
		require.Empty(t, b.Stats().Dropped)
	})
}

// When the connected members can hold no more, those that are away do.
func TestSharedFullMembersLeaveToThoseWhoAreAway(t *testing.T) {
	b := brokertest.New(t, petrel.Options{QueueMessages: 5})
	slow := stalled(b)
	members(b, "$share/g/a/+", 1, brokertest.Durable, "away")[0].Drop()
	slow.ExpectNothing()
	want := sendEach(t, b, 12)
	require.EqualValues(t, map[petrel.DropReason]uint64{petrel.DropQueueFull: 1}, b.Stats().Dropped, "all queues are full")
	got := payloads(arrived(t, b.Connect(brokertest.Durable("away"))))
	require.Equal(t, want[6:11], got)
	require.Equal(t, want[:1], payloads(arrived(t, slow)))
}

// What a member leaves stays with it as far as the queues of the others are full.
func TestSharedHandOverToFullMembers(t *testing.T) {
	for name, o := range map[string]petrel.Options{
		"in memory":    {QueueMessages: 5},
		"in the store": {QueueMessages: 500},
	} {
		t.Run(name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				o.Logger = silent()
				b := m.start(o)
				first := members(b, "$share/g/a/+", 1, brokertest.Durable, "first")[0]
				first.Drop()
				want := sendEach(t, b, o.QueueMessages)
				slow := stalled(b)
				slow.ExpectNothing()
				want = append(want, sendEach(t, b, 3)...)
				first = b.Connect(window(1, brokertest.Durable("first")))
				first.ExpectPublish("a/0", "0")
				first.Drop()
				synctest.Wait()
				require.Empty(t, b.Stats().Dropped)
				got := take(t, slow, everything)
				left := take(t, b.Connect(brokertest.Durable("first")), everything)
				require.Len(t, left, 2)
				require.ElementsMatch(t, want, append(got, left...))
				m.expectEmpty(t, b)
			})
		})
	}
}

// A page of what waits for a member comes while it is handed over: it goes with it.
func TestSharedHandOverWhileAPageIsRead(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		var moving atomic.Bool
		var asks atomic.Int32
		var release func()
		asked := permission(func(r *petrel.AccessRequest) error {
			switch {
			case r.Client == nil || r.Client.ID() != "other":
			case r.Action == petrel.Subscribe:
				r.CheckDeliveries = true
			case moving.Load() && asks.Add(1) == 4: // what was in flight went there, and what was in memory is taken out and follows
				release()
				time.Sleep(time.Millisecond) // until the page is there
			}
			return nil
		})
		b := m.start(petrel.Options{Logger: silent(), Hooks: []petrel.Hook{asked}})
		first := members(b, "$share/g/a/+", 1, brokertest.Durable, "first")[0]
		first.Drop()
		want := sendEach(t, b, 500)
		release = m.holdLoads()
		first = b.Connect(window(1, brokertest.Durable("first")))
		first.ExpectPublish("a/0", "0")
		other := members(b, "$share/g/a/+", 1, brokertest.ID, "other")[0]
		other.ExpectNothing()
		moving.Store(true)
		first.Drop()
		require.ElementsMatch(t, want, take(t, other, everything))
		require.Zero(t, queuedFor(b, "first").Queued)
		m.expectEmpty(t, b)
	})
}

// What the store has of a member's messages does not go to another one that no memory is
// left for: it would be dropped there. Nor do new messages, as long as there is one that
// can have them.
func TestSharedMemberWithoutMemoryIsLeftOut(t *testing.T) {
	const n = 100
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(petrel.Options{Logger: silent(), MemoryLimit: 20_000, MaximumRetainedBytes: -1})
		first := members(b, "$share/g/a/+", 1, brokertest.Durable, "first")[0]
		first.Drop()
		retainBytes(t, b, "kept", 19_900)
		want := sendEach(t, b, n)
		slow := members(b, "$share/g/a/+", 1, brokertest.ID, "slow")[0]
		slow.ExpectNothing()
		first = b.Connect(window(1, brokertest.Durable("first")))
		first.ExpectPublish("a/0", "0")
		first.Drop()
		synctest.Wait()
		require.Empty(t, b.Stats().Dropped)
		require.LessOrEqual(t, b.Stats().MessageBytes, int64(20_000))
		for i := range 10 {
			payload := fmt.Sprint(n + i)
			hostPublishesTo(t, b, 1, "a/"+payload, payload)
			want = append(want, payload)
		}
		require.Empty(t, b.Stats().Dropped)
		got := take(t, slow, everything)
		require.NotEmpty(t, got)
		left := take(t, b.Connect(brokertest.Durable("first")), everything)
		require.ElementsMatch(t, want, append(got, left...))
	})
}

// What was in flight need not fit into the queue when the others take only some of it.
func TestSharedHandOverOfMoreThanTheQueueHolds(t *testing.T) {
	for name, policy := range map[string]petrel.DropPolicy{"the newest gives way": petrel.DropNewest, "the oldest gives way": petrel.DropOldest} {
		t.Run(name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b := m.start(petrel.Options{QueueMessages: 2, QueueFull: policy, Logger: silent()})
				wide := func(id string) packets.Connect { return window(5, brokertest.Durable(id)) }
				first := members(b, "$share/g/a/+", 1, wide, "first")[0]
				want := sendEach(t, b, 7)
				require.Equal(t, want[:5], payloads(arrived(t, first)))
				slow := stalled(b)
				first.Drop()
				synctest.Wait()
				require.Empty(t, b.Stats().Dropped)
				got := take(t, slow, everything)
				left := take(t, b.Connect(wide("first")), everything)
				require.NotEmpty(t, left)
				require.ElementsMatch(t, want, append(got, left...))
				m.expectEmpty(t, b)
			})
		})
	}
}

// What was in flight goes to the others in turn: each gets some.
func TestSharedHandOverInTurn(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	first := members(b, "$share/g/a/+", 1, brokertest.Durable, "first")[0]
	want := sendEach(t, b, 8)
	require.Equal(t, want, payloads(arrived(t, first)))
	others := members(b, "$share/g/a/+", 1, brokertest.ID, "second", "third", "fourth")
	first.Drop()
	for _, c := range others {
		require.IsType(t, &packets.Publish{}, c.Receive())
	}
}

// What stays behind for want of room is not overtaken by what is smaller.
func TestSharedHandOverKeepsTheOrder(t *testing.T) {
	inFakeTime(t, petrel.Options{QueueBytes: 100}, func(t *testing.T, b *brokertest.Broker) {
		first := members(b, "$share/g/a", 1, brokertest.Durable, "first")[0]
		want := []string{strings.Repeat("x", 90), "small"}
		for _, payload := range want {
			hostPublishesTo(t, b, 1, "a", payload)
		}
		require.Equal(t, want, payloads(arrived(t, first)))
		full := members(b, "$share/g/a", 1, func(id string) packets.Connect { return window(1, brokertest.ID(id)) }, "full")[0]
		for range 4 { // of which one waits: two thirds of its queue are left
			hostPublishesTo(t, b, 1, "a", strings.Repeat("y", 30))
		}
		first.Drop()
		synctest.Wait()
		for _, payload := range take(t, full, everything) {
			require.NotContains(t, want, payload)
		}
		again := payloads(arrived(t, b.Connect(brokertest.Durable("first"))))
		require.Equal(t, want, again[:2])
	})
}

// Members come and go while messages are published: nothing is lost as long as
// one is connected, and what was acknowledged comes to nobody else.
func TestSharedMembersComeAndGo(t *testing.T) {
	const n = 3000
	b := brokertest.New(t, petrel.Options{MaximumInflight: -1})
	stable := members(b, "$share/g/a", 1, brokertest.ID, "stable")[0]
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range n {
			if err := b.Publish(context.Background(), petrel.Message{Topic: "a", Payload: fmt.Append(nil, i), QoS: 1}); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	accepted := make(map[string]int)
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		c := members(b, "$share/g/a", 1, brokertest.ID, "coming")[0]
		for i, m := range arrived(t, c) {
			if i%3 == 0 {
				accepted[string(m.Payload)]++
				c.Accept(m)
			}
		}
		arrived(t, c) // the broker has seen the acknowledgements
		c.Drop()
	}
	for _, m := range arrived(t, stable) {
		accepted[string(m.Payload)]++
	}
	for i := range n {
		require.Equal(t, 1, accepted[fmt.Sprint(i)], "copies of message %d", i)
	}
	require.Empty(t, b.Stats().Dropped)
}
