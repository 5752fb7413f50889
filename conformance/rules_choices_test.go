package conformance_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Choices that the standards leave to a server: each legal one is accepted, and
// the test says which it saw.

func init() {
	rule("choice-1", "", func(t *T) {
		topic := t.Unique("t")
		var members []*brokertest.Client
		for range 3 {
			c := t.Client()
			c.Subscribe(0, "$share/g/"+topic)
			members = append(members, c)
		}
		pub := t.Client()
		for range 9 {
			pub.Publish(topic, "x", 1)
		}
		total := 0
		var shares []int
		for _, c := range members {
			shares = append(shares, len(until(c)))
			total += shares[len(shares)-1]
		}
		if total != 9 {
			t.Fatalf("%d deliveries of 9 messages", total)
		}
		if slices.Max(shares) == 3 {
			t.Saw("each member in turn")
		} else {
			t.Saw("members that get more than others")
		}
	})
	rule("choice-2", "", func(t *T) {
		root := t.Unique("t")
		published := []string{"b", "a", "d", "c"}
		for _, name := range published {
			t.keep(packets.Publish{Topic: []byte(root + "/" + name), Payload: []byte(name), QoS: 1})
		}
		sub := t.Client()
		sub.Subscribe(0, root+"/+")
		var got []string
		for _, p := range until(sub) {
			got = append(got, string(p.Payload))
		}
		switch sorted := slices.Sorted(slices.Values(got)); {
		case !slices.Equal(sorted, []string{"a", "b", "c", "d"}):
			t.Fatalf("got %v", got)
		case slices.Equal(got, published):
			t.Saw("the order of publishing")
		case slices.IsSorted(got):
			t.Saw("the order of topics")
		default:
			t.Saw("another order")
		}
	})
	rule("choice-3", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		sub := t.Connect(p)
		sub.Subscribe(1, topic)
		leave(sub, packets.Success)
		t.Client().Publish(topic, "x", 0)
		t.Client().Publish(topic, "marker", 1)
		sub = t.Connect(p)
		if got := brokertest.Expect[*packets.Publish](sub); string(got.Payload) == "x" {
			t.Saw("QoS 0 is queued")
			sub.ExpectPublish(topic, "marker")
		} else {
			t.Saw("QoS 0 is dropped")
		}
	})
	rule("choice-4", "", func(t *T) {
		t.With(petrel.Options{QueueMessages: 3})
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		sub, pub := t.Connect(p), t.Client()
		sub.Subscribe(1, topic)
		leave(sub, packets.Success)
		for i := range 6 {
			pub.Publish(topic, fmt.Sprint(i), 1)
		}
		var got []string
		for _, p := range until(t.Connect(p)) {
			got = append(got, string(p.Payload))
		}
		if len(got) != 3 || !slices.IsSorted(got) {
			t.Fatalf("got %v", got)
		}
		t.Saw("messages %v of 6", got)
	})
	rule("choice-5", "", func(t *T) {
		p := t.durable(t.Unique("c"))
		p.KeepAlive = 0
		c, ack := t.TryConnect(p)
		expiry := p.SessionExpiryInterval
		if ack.HasSessionExpiryInterval {
			expiry = ack.SessionExpiryInterval
		}
		t.Saw("expiry %d of 3600 s, Server Keep Alive %d, Receive Maximum %d, Topic Alias Maximum %d, Maximum Packet Size %d (0 is absent)",
			expiry, ack.ServerKeepAlive, ack.ReceiveMaximum, ack.TopicAliasMaximum, ack.MaximumPacketSize)
		if expiry > p.SessionExpiryInterval {
			t.Fatal("the server keeps the session longer than the client asked for")
		}
		c.ExpectNothing()
	})
	rule("choice-6", "levels", func(t *T) {
		t.With(petrel.Options{MaximumTopicLevels: 3})
		c := t.Client()
		c.Subscribe(0, "a/b/c")
		if codes := c.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions(nil).Append(subscription("a/b/c/d", 0))}); len(codes) != 1 || codes[0] != packets.TopicFilterInvalid && codes[0] != packets.QuotaExceeded {
			t.Fatalf("SUBACK with %v", codes)
		}
		c.Send(&packets.Publish{Topic: []byte("a/b/c/d"), QoS: 1, PacketID: 1})
		t.sawNext(c)
	})
	rule("choice-6", "subscriptions", func(t *T) {
		t.With(petrel.Options{MaximumSubscriptions: 1})
		c := t.Client()
		var subs packets.Subscriptions
		for _, filter := range []string{"a", "b", "a"} {
			subs = subs.Append(subscription(filter, 0))
		}
		if codes := c.SubscribeWith(packets.Subscribe{Subscriptions: subs}); !slices.Equal(codes, []packets.ReasonCode{0, packets.QuotaExceeded, 0}) {
			t.Fatalf("SUBACK with %v", codes)
		}
	})
	for qos := packets.AtLeastOnce; qos <= packets.ExactlyOnce; qos++ {
		rule("choice-7", qos.String(), func(t *T) {
			code := t.Client().PublishWith(packets.Publish{Topic: []byte(t.Unique("nobody")), QoS: qos})
			if code != packets.Success && code != packets.NoMatchingSubscribers {
				t.Fatalf("got %v", code)
			}
			t.Saw("0x%02X", byte(code))
		})
	}
	rule("choice-11", "", func(t *T) {
		c := t.Client()
		c.SendRaw([]byte{0x36, 3, 0, 1, 'a'})
		p, ok := c.Next()
		if !ok {
			t.Saw("a plain close")
			return
		}
		if code := disconnectCode(t, p); !code.IsError() {
			t.Fatalf("DISCONNECT with %v", code)
		}
		if len(p.(*packets.Disconnect).ReasonString) > 0 {
			t.Saw("a Reason String")
		} else {
			t.Saw("no Reason String")
		}
	})
	timedRule("choice-12", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		live, sub := t.Client(), t.Connect(p)
		live.Subscribe(1, topic)
		sub.Subscribe(1, topic)
		leave(sub, packets.Success)
		t.Client().PublishWith(packets.Publish{Topic: []byte(topic), QoS: 1, HasMessageExpiry: true, MessageExpiryInterval: 2})
		if got := live.ExpectPublish(topic, ""); !got.HasMessageExpiry || got.MessageExpiryInterval != 2 {
			t.Fatalf("live with Message Expiry Interval %d", got.MessageExpiryInterval)
		}
		time.Sleep(1300 * time.Millisecond)
		if got := t.Connect(p).ExpectPublish(topic, ""); !got.HasMessageExpiry || got.MessageExpiryInterval != 1 {
			t.Fatalf("Message Expiry Interval %d with less than a second to live", got.MessageExpiryInterval)
		}
	})
	rule("choice-13", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		sub := t.Connect(p)
		sub.Subscribe(1, topic)
		leave(sub, packets.Success)
		m := packets.Publish{Topic: []byte(topic), QoS: 1, HasMessageExpiry: true}
		if code := t.Client().PublishWith(m); code.IsError() {
			t.Fatalf("PUBACK with %v", code)
		}
		t.Connect(p).ExpectNothing()
	})
}
