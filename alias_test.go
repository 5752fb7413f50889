package petrel_test

import (
	"bytes"
	"context"
	"encoding/binary"
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

// aliased is a QoS 1 PUBLISH with a topic alias.
func aliased(alias uint16, topic, payload string) *packets.Publish {
	return &packets.Publish{
		Topic: []byte(topic), Payload: []byte(payload), HasTopicAlias: true, TopicAlias: alias, QoS: packets.AtLeastOnce, PacketID: 1,
	}
}

// sendAliased sends such a PUBLISH also with alias 0, which has no legal form.
func sendAliased(t *testing.T, c *brokertest.Client, alias uint16, topic, payload string) {
	t.Helper()
	const placeholder = 0x7F7E
	b, err := aliased(placeholder, topic, payload).AppendTo(nil, packets.V5)
	require.NoError(t, err)
	at := bytes.Index(b, []byte{0x23, placeholder >> 8, placeholder & 0xFF})
	binary.BigEndian.PutUint16(b[at+1:], alias)
	c.SendRaw(b)
}

func TestInboundTopicAlias(t *testing.T) {
	type step struct {
		alias       uint16
		topic       string
		want        string // where the message comes
		code        packets.ReasonCode
		reconnected bool
	}
	tests := []struct {
		name    string
		maximum int
		steps   []step
	}{
		{"set and used", 3, []step{{alias: 1, topic: "a", want: "a"}, {alias: 1, want: "a"}, {alias: 1, want: "a"}}},
		{"the highest", 3, []step{{alias: 3, topic: "a", want: "a"}, {alias: 3, want: "a"}}},
		{"several", 3, []step{
			{alias: 3, topic: "c", want: "c"}, {alias: 1, topic: "a", want: "a"}, {alias: 3, want: "c"}, {alias: 1, want: "a"},
		}},
		{"overwritten by a shorter and a longer topic", 3, []step{
			{alias: 1, topic: "long/topic", want: "long/topic"}, {alias: 1, topic: "a", want: "a"}, {alias: 1, want: "a"},
			{alias: 1, topic: "longer/topic", want: "longer/topic"}, {alias: 1, want: "longer/topic"},
		}},
		{"two for one topic", 3, []step{{alias: 1, topic: "a", want: "a"}, {alias: 2, topic: "a", want: "a"}, {alias: 1, want: "a"}, {alias: 2, want: "a"}}},
		{"never set", 3, []step{{alias: 1, code: packets.ProtocolError}}},
		{"never set, between others", 3, []step{{alias: 3, topic: "a", want: "a"}, {alias: 2, code: packets.ProtocolError}}},
		{"zero", 3, []step{{topic: "a", code: packets.TopicAliasInvalid}}},
		{"zero without a topic", 3, []step{{code: packets.TopicAliasInvalid}}},
		{"above the maximum", 3, []step{{alias: 4, topic: "a", code: packets.TopicAliasInvalid}}},
		{"above the maximum without a topic", 3, []step{{alias: 4, code: packets.TopicAliasInvalid}}},
		{"far above the maximum", 3, []step{{alias: 65535, topic: "a", code: packets.TopicAliasInvalid}}},
		{"above the default of 32", 0, []step{{alias: 32, topic: "a", want: "a"}, {alias: 33, topic: "a", code: packets.TopicAliasInvalid}}},
		{"all that the standard has", 65535, []step{{alias: 65535, topic: "a", want: "a"}, {alias: 65535, want: "a"}}},
		{"none allowed", -1, []step{{alias: 1, topic: "a", code: packets.TopicAliasInvalid}}},
		{"wildcard in the topic that it sets", 3, []step{{alias: 1, topic: "a/+", code: packets.TopicNameInvalid}}},
		{"gone with the connection", 3, []step{
			{alias: 1, topic: "a", want: "a"}, {alias: 1, reconnected: true, code: packets.ProtocolError},
		}},
		{"another on the next connection", 3, []step{
			{alias: 1, topic: "a", want: "a"}, {alias: 1, topic: "b", reconnected: true, want: "b"}, {alias: 1, want: "b"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{TopicAliasMaximum: tt.maximum})
			sub, pub := b.Connect(brokertest.ID("sub")), b.Connect(brokertest.Durable("pub"))
			sub.Subscribe(packets.AtLeastOnce, "#")
			for i, s := range tt.steps {
				if s.reconnected {
					pub.Drop()
					pub = b.Connect(brokertest.Durable("pub"))
				}
				payload := fmt.Sprint("m", i)
				sendAliased(t, pub, s.alias, s.topic, payload)
				if s.code != 0 {
					pub.ExpectDisconnect(s.code)
					sub.ExpectNothing()
					return
				}
				require.Equal(t, packets.Success, brokertest.Expect[*packets.Puback](pub).Reason)
				m := sub.ExpectPublish(s.want, payload)
				require.False(t, m.HasTopicAlias, "an alias is between two")
				sub.Accept(m)
			}
		})
	}
}

// Two clients' aliases have nothing to do with each other.
func TestInboundTopicAliasesOfTwoClients(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	sub, one, two := b.Connect(brokertest.ID("sub")), b.Connect(brokertest.ID("one")), b.Connect(brokertest.ID("two"))
	sub.Subscribe(packets.AtMostOnce, "#")
	for _, step := range []struct {
		from        *brokertest.Client
		topic, want string
	}{{one, "a", "a"}, {two, "b", "b"}, {one, "", "a"}, {two, "", "b"}} {
		step.from.Send(aliased(1, step.topic, "m"))
		brokertest.Expect[*packets.Puback](step.from)
		sub.ExpectPublish(step.want, "m")
	}
	two.Send(aliased(2, "", "m"))
	two.ExpectDisconnect(packets.ProtocolError)
}

// Hooks, the retained store and queues know topics, and no aliases.
func TestInboundTopicAliasIsResolvedFirst(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	rules := access(func(r *petrel.AccessRequest) error {
		if r.Action != petrel.Publish {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Topic)
		if r.Topic != "allowed" {
			return packets.NotAuthorized
		}
		return nil
	})
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{rules}})
	sub, away, pub := b.Connect(brokertest.ID("sub")), b.Connect(brokertest.Durable("away")), b.Connect(brokertest.ID("pub"))
	sub.Subscribe(packets.AtMostOnce, "#")
	away.Subscribe(packets.AtLeastOnce, "#")
	away.Drop()
	for i, step := range []struct {
		alias       uint16
		topic, want string
		code        packets.ReasonCode
	}{
		{1, "allowed", "allowed", packets.Success},
		{1, "", "allowed", packets.Success},
		{2, "forbidden", "forbidden", packets.NotAuthorized},
		{2, "", "forbidden", packets.NotAuthorized}, // set, although the message was refused
		{1, "forbidden", "forbidden", packets.NotAuthorized},
		{1, "", "forbidden", packets.NotAuthorized}, // overwritten, although the message was refused
		{2, "allowed", "allowed", packets.Success},
		{2, "", "allowed", packets.Success},
	} {
		m := aliased(step.alias, step.topic, "m")
		m.Retain = true
		pub.Send(m)
		require.Equal(t, step.code, brokertest.Expect[*packets.Puback](pub).Reason, "step %d", i)
		mu.Lock()
		require.Equal(t, step.want, asked[i], "step %d", i)
		mu.Unlock()
		if step.code == packets.Success {
			sub.ExpectPublish(step.want, "m")
		}
		sub.ExpectNothing()
	}
	late := b.Connect(brokertest.ID("late"))
	late.Subscribe(packets.AtMostOnce, "#")
	late.ExpectPublish("allowed", "m")
	away = b.Connect(brokertest.Durable("away"))
	for range 4 {
		require.False(t, away.ExpectPublish("allowed", "m").HasTopicAlias)
	}
}

// aliasing is a CONNECT of a client that takes n topic aliases.
func aliasing(n uint16) packets.Connect {
	p := brokertest.Durable("sub")
	p.TopicAliasMaximum = n
	return p
}

// expectAliased expects a message with an alias, beside its topic or instead of it.
func expectAliased(t *testing.T, c *brokertest.Client, topic, payload string, alias uint16) *packets.Publish {
	t.Helper()
	m := c.ExpectPublish(topic, payload)
	require.Equal(t, alias != 0, m.HasTopicAlias, "alias of %q", payload)
	require.Equal(t, alias, m.TopicAlias, "alias of %q", payload)
	return m
}

func hostPublishesTo(t *testing.T, b *brokertest.Broker, qos petrel.QoS, topic, payload string) {
	t.Helper()
	require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: topic, Payload: []byte(payload), QoS: qos}))
}

func TestOutboundTopicAlias(t *testing.T) {
	type sent struct {
		topic string // published
		wire  string // in the packet
		alias uint16
	}
	tests := []struct {
		name   string
		client uint16 // Topic Alias Maximum of the client
		broker int    // of the option
		sent   []sent
	}{
		{"first with its topic, then alone", 10, 0, []sent{{"a", "a", 1}, {"a", "", 1}, {"a", "", 1}}},
		{"one for each topic", 10, 0, []sent{{"a", "a", 1}, {"b", "b", 2}, {"a", "", 1}, {"b", "", 2}}},
		{"no more than the client takes", 1, 0, []sent{{"a", "a", 1}, {"b", "b", 0}, {"a", "", 1}, {"b", "b", 0}}},
		{"no more than the option says", 10, 1, []sent{{"a", "a", 1}, {"b", "b", 0}, {"a", "", 1}, {"b", "b", 0}}},
		{"none if the client takes none", 0, 0, []sent{{"a", "a", 0}, {"a", "a", 0}}},
		{"none if the option says so", 10, -1, []sent{{"a", "a", 0}, {"a", "a", 0}}},
	}
	for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
		for _, tt := range tests {
			t.Run(qos.String()+" "+tt.name, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{TopicAliasMaximum: tt.broker})
				sub, plain := b.Connect(aliasing(tt.client)), b.Connect(brokertest.ID("plain"))
				sub.Subscribe(packets.ExactlyOnce, "#")
				plain.Subscribe(packets.ExactlyOnce, "#") // shares the message, not the alias
				for i, s := range tt.sent {
					payload := fmt.Sprint("m", i)
					hostPublishesTo(t, b, qos, s.topic, payload)
					sub.Accept(expectAliased(t, sub, s.wire, payload, s.alias))
					plain.Accept(expectAliased(t, plain, s.topic, payload, 0))
				}
			})
		}
	}
}

// An alias is known to the client only if the packet that sets it was sent.
func TestDroppedPacketSetsNoAlias(t *testing.T) {
	large := strings.Repeat("x", 100)
	limited := aliasing(10)
	limited.MaximumPacketSize, limited.ReceiveMaximum = 100, 1
	t.Run("too large, live", func(t *testing.T) {
		for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
			b := brokertest.New(t, petrel.Options{})
			sub := b.Connect(limited)
			sub.Subscribe(packets.ExactlyOnce, "#")
			hostPublishesTo(t, b, qos, "a", large)
			hostPublishesTo(t, b, packets.AtMostOnce, "a", "1")
			hostPublishesTo(t, b, packets.AtMostOnce, "a", "2")
			expectAliased(t, sub, "a", "1", 1)
			expectAliased(t, sub, "", "2", 1)
		}
	})
	t.Run("too large, then another topic", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		sub := b.Connect(limited)
		sub.Subscribe(packets.ExactlyOnce, "#")
		hostPublishesTo(t, b, packets.AtMostOnce, "a", large)
		hostPublishesTo(t, b, packets.AtMostOnce, "b", "1")
		hostPublishesTo(t, b, packets.AtMostOnce, "a", "2")
		expectAliased(t, sub, "b", "1", 1)
		expectAliased(t, sub, "a", "2", 2)
	})
	t.Run("too large only because of the alias", func(t *testing.T) {
		for spare, alias := range map[int]uint16{0: 0, 2: 0, 3: 1} {
			b := brokertest.New(t, petrel.Options{})
			exact := aliasing(10)
			exact.MaximumPacketSize = uint32(spare + sizeOf(t, &packets.Publish{Topic: []byte("a"), Payload: []byte(large)}))
			sub := b.Connect(exact)
			sub.Subscribe(packets.ExactlyOnce, "#")
			hostPublishesTo(t, b, packets.AtMostOnce, "a", large)
			expectAliased(t, sub, "a", large, alias)
			hostPublishesTo(t, b, packets.AtMostOnce, "a", "1")
			if alias == 0 {
				expectAliased(t, sub, "a", "1", 1)
				hostPublishesTo(t, b, packets.AtMostOnce, "b", "2")
				expectAliased(t, sub, "b", "2", 2)
			} else {
				expectAliased(t, sub, "", "1", 1)
			}
		}
	})
	t.Run("dropped by a full queue", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{QueueMessages: 1})
		sub := b.Connect(limited)
		sub.Subscribe(packets.ExactlyOnce, "#")
		hostPublishesTo(t, b, packets.AtLeastOnce, "first", "m")
		first := expectAliased(t, sub, "first", "m", 1)
		hostPublishesTo(t, b, packets.AtLeastOnce, "waits", "m")
		hostPublishesTo(t, b, packets.AtLeastOnce, "a", "dropped")
		hostPublishesTo(t, b, packets.AtLeastOnce, "a", "dropped")
		sub.Accept(first)
		sub.Accept(expectAliased(t, sub, "waits", "m", 2))
		sub.ExpectNothing()
		hostPublishesTo(t, b, packets.AtLeastOnce, "a", "1")
		sub.Accept(expectAliased(t, sub, "a", "1", 3))
		sub.ExpectNothing()
		hostPublishesTo(t, b, packets.AtLeastOnce, "a", "2")
		expectAliased(t, sub, "", "2", 3)
	})
	t.Run("expired in the queue", func(t *testing.T) {
		inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			sub := b.Connect(limited)
			sub.Subscribe(packets.ExactlyOnce, "#")
			hostPublishesTo(t, b, packets.AtLeastOnce, "first", "m")
			first := expectAliased(t, sub, "first", "m", 1)
			require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "a", QoS: 1, Expiry: time.Second}))
			time.Sleep(2 * time.Second)
			sub.Accept(first)
			sub.ExpectNothing()
			synctest.Wait()
			require.EqualValues(t, 1, b.Stats().Dropped[petrel.DropExpired])
			hostPublishesTo(t, b, packets.AtLeastOnce, "a", "1")
			sub.Accept(expectAliased(t, sub, "a", "1", 2))
		})
	})
}

// Aliases are gone with their connection: what is sent again has its topic, and
// what waited is sent as on a connection that knows nothing.
func TestOutboundAliasesOfANewConnection(t *testing.T) {
	for _, maximum := range []uint16{0, 1, 10} {
		t.Run(fmt.Sprintf("%d aliases on the second", maximum), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			sub := b.Connect(aliasing(10))
			sub.Subscribe(packets.ExactlyOnce, "#")
			for i, qos := range []petrel.QoS{0, 1, 2, 1} {
				hostPublishesTo(t, b, qos, "a", fmt.Sprint("m", i))
			}
			expectAliased(t, sub, "a", "m0", 1)
			var open []*packets.Publish
			for i := 1; i <= 3; i++ {
				open = append(open, expectAliased(t, sub, "", fmt.Sprint("m", i), 1))
			}
			sub.Drop()
			hostPublishesTo(t, b, packets.AtLeastOnce, "a", "queued")
			hostPublishesTo(t, b, packets.AtLeastOnce, "a", "queued")

			sub = b.Connect(aliasing(maximum))
			for i, first := range open {
				m := expectAliased(t, sub, "a", fmt.Sprint("m", i+1), 0)
				require.True(t, m.Dup)
				require.Equal(t, first.PacketID, m.PacketID)
			}
			if maximum == 0 {
				expectAliased(t, sub, "a", "queued", 0)
				expectAliased(t, sub, "a", "queued", 0)
				return
			}
			expectAliased(t, sub, "a", "queued", 1)
			expectAliased(t, sub, "", "queued", 1)
		})
	}
}

// Retained messages, wills and messages of overlapping subscriptions go the same way.
func TestOutboundAliasOfRetained(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "a", Payload: []byte("kept"), Retain: true}))
	sub := b.Connect(aliasing(10))
	sub.SubscribeWith(packets.Subscribe{SubscriptionID: 5, Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("#")})})
	m := expectAliased(t, sub, "a", "kept", 1)
	require.True(t, m.Retain)
	require.Equal(t, []uint32{5}, m.SubscriptionIDs)
	hostPublishesTo(t, b, packets.AtMostOnce, "a", "live")
	m = expectAliased(t, sub, "", "live", 1)
	require.Equal(t, []uint32{5}, m.SubscriptionIDs)
}

// A client may use its own aliases and be sent others at the same time.
func TestAliasesOfBothDirections(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	c := b.Connect(aliasing(10))
	c.Subscribe(packets.AtMostOnce, "b")
	c.Send(aliased(1, "a", "m")) // the client's 1 is "a"
	brokertest.Expect[*packets.Puback](c)
	hostPublishesTo(t, b, packets.AtMostOnce, "b", "m") // the broker's 1 is "b"
	expectAliased(t, c, "b", "m", 1)
	c.Send(aliased(1, "", "m"))
	brokertest.Expect[*packets.Puback](c)
	hostPublishesTo(t, b, packets.AtMostOnce, "b", "m")
	expectAliased(t, c, "", "m", 1)
	c.Subscribe(packets.AtMostOnce, "a")
	c.Send(aliased(1, "", "again"))
	expectAliased(t, c, "a", "again", 2)
}
