package conformance_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Rules without a number about retained messages, topic aliases and
// subscriptions, and the traps of delivery.

func init() {
	retained()
	retainedTraps()
	topicAliases()
	subscribing()
	groups()
	resubscribing()
}

func retained() {
	rule("retain-1", "", func(t *T) {
		topic := t.Unique("t")
		c, ack := t.TryConnect(t.CONNECT())
		if ack.TopicAliasMaximum == 0 {
			t.Unfit("needs a broker that takes topic aliases")
		}
		c.Send(&packets.Publish{Topic: []byte(topic), HasTopicAlias: true, TopicAlias: 1})
		c.PublishWith(packets.Publish{HasTopicAlias: true, TopicAlias: 1, Payload: []byte("kept"), Retain: true, QoS: 1})
		late := t.Client()
		late.Subscribe(0, topic)
		if got := late.ExpectPublish(topic, "kept"); got.HasTopicAlias {
			t.Fatalf("topic alias %d", got.TopicAlias)
		}
		late.Send(&packets.Publish{Topic: []byte(topic), Retain: true})
	})
	rule("retain-2", "", func(t *T) {
		topic := t.Unique("t")
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("kept")})
		late := t.Client()
		late.Subscribe(0, topic)
		list := until(late)
		if len(list) > 1 || len(list) == 1 && (string(list[0].Payload) != "kept" || !list[0].Retain) {
			t.Fatalf("got %+v", list)
		}
		t.Saw("retained messages: %d", len(list))
	})
	rule("retain-3", "", func(t *T) {
		for granted := packets.AtMostOnce; granted <= packets.ExactlyOnce; granted++ {
			for stored := packets.AtMostOnce; stored <= packets.ExactlyOnce; stored++ {
				topic := t.Unique("t")
				t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: stored})
				sub := t.Client()
				subscribe(t, sub, 77, subscription(topic+"/#", 0)) // of another subscription that matches
				sub.Accept(sub.ExpectPublish(topic, "kept"))
				subscribe(t, sub, 78, subscription(topic, granted))
				got := sub.ExpectPublish(topic, "kept")
				if !got.Retain || got.Dup || got.QoS != min(granted, stored) || !slices.Equal(got.SubscriptionIDs, []uint32{78}) {
					t.Fatalf("granted %v, stored %v: RETAIN %v, DUP %v, %v, identifiers %v",
						granted, stored, got.Retain, got.Dup, got.QoS, got.SubscriptionIDs)
				}
			}
		}
	})
	rule("retain-4", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{forbids(petrel.Receive)}})
		for _, topic := range []string{"no/x", "yes/x"} {
			t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: 1})
		}
		sub := t.Client()
		sub.Subscribe(0, "+/x")
		sub.ExpectPublish("yes/x", "kept")
		sub.ExpectNothing()
	})
	rule("retain-5", "", func(t *T) {
		t.With(petrel.Options{MaximumRetained: 1})
		c := t.Client()
		p := packets.Publish{Topic: []byte("a"), Payload: []byte("x"), QoS: 1, Retain: true}
		for _, want := range []packets.ReasonCode{packets.Success, packets.QuotaExceeded} {
			code := c.PublishWith(p)
			if code == packets.NoMatchingSubscribers {
				code = packets.Success
			}
			if code != want {
				t.Fatalf("retained on %q: PUBACK with %v; want %v", p.Topic, code, want)
			}
			p.Topic = []byte("b")
		}
	})
}

func retainedTraps() {
	rule("trap-publish-4", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		sub := t.Connect(p)
		sub.Subscribe(1, topic)
		leave(sub, packets.Success)
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("x"), QoS: 1})
		if got := t.Connect(p).ExpectPublish(topic, "x"); got.Retain {
			t.Fatal("RETAIN is 1")
		}
	})
	timedRule("trap-publish-7", "", func(t *T) {
		topic := t.Unique("t")
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("x"), QoS: 1, HasMessageExpiry: true, MessageExpiryInterval: 1})
		time.Sleep(2100 * time.Millisecond)
		late := t.Client()
		late.Subscribe(0, topic)
		late.ExpectNothing()
	})
	rule("trap-publish-12", "", func(t *T) {
		topic := t.Unique("t")
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: 1})
		sub := t.Client()
		for handling := range byte(2) {
			s := subscription("$share/g/"+topic, 0)
			s.RetainHandling = handling
			subscribe(t, sub, 0, s)
			sub.ExpectNothing()
		}
		t.Client().Publish(topic, "live", 1)
		sub.ExpectPublish(topic, "live")
	})
	rule("trap-publish-13", "", func(t *T) {
		topic := "$else/" + t.Unique("t")
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: 1})
		sub := t.Client()
		among(t, sub, "#", "+/"+topic[len("$else/"):])
		for _, p := range until(sub) { // others may have retained something
			if strings.HasPrefix(string(p.Topic), "$") {
				t.Fatalf("got a message on %q", p.Topic)
			}
		}
		other := t.Client()
		other.Subscribe(0, topic)
		other.ExpectPublish(topic, "kept")
	})
	rule("trap-publish-14", "", func(t *T) {
		topic := t.Unique("t")
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: 2})
		for granted := packets.AtMostOnce; granted <= packets.ExactlyOnce; granted++ {
			sub := t.Client()
			sub.Subscribe(granted, topic)
			if got := sub.ExpectPublish(topic, "kept"); got.QoS != granted {
				t.Fatalf("%v; granted %v", got.QoS, granted)
			}
		}
	})
}

func topicAliases() {
	rule("alias-1", "", func(t *T) {
		mine, theirs, p := t.Unique("mine"), t.Unique("theirs"), t.CONNECT()
		p.TopicAliasMaximum = 5
		c, ack := t.TryConnect(p)
		if ack.TopicAliasMaximum == 0 {
			t.Unfit("needs a broker that takes topic aliases")
		}
		watch, pub := t.Client(), t.Client()
		watch.Subscribe(0, mine)
		c.Subscribe(0, theirs)
		c.Send(&packets.Publish{Topic: []byte(mine), HasTopicAlias: true, TopicAlias: 1, Payload: []byte("0")})
		watch.ExpectPublish(mine, "0")
		used := 0
		for i := 1; i <= 3; i++ {
			pub.Publish(theirs, "x", 1)
			got := brokertest.Expect[*packets.Publish](c)
			if name := string(got.Topic); name != theirs && (name != "" || !got.HasTopicAlias) {
				t.Fatalf("topic %q, alias %d", name, got.TopicAlias)
			}
			if len(got.Topic) == 0 {
				used++
			}
			c.Send(&packets.Publish{HasTopicAlias: true, TopicAlias: 1, Payload: fmt.Append(nil, i)})
			watch.ExpectPublish(mine, fmt.Sprint(i))
		}
		t.Saw("%d of 3 messages by an alias of the server", used)
	})
	rule("alias-2", "", func(t *T) {
		root := t.Unique("t")
		watch := t.Client()
		watch.Subscribe(0, root+"/+")
		c, ack := t.TryConnect(t.CONNECT())
		if ack.TopicAliasMaximum == 0 {
			t.Unfit("needs a broker that takes topic aliases")
		}
		for _, topic := range []string{root + "/a", root + "/b", root + "/a"} {
			c.Send(&packets.Publish{Topic: []byte(topic), HasTopicAlias: true, TopicAlias: 1},
				&packets.Publish{HasTopicAlias: true, TopicAlias: 1, Payload: []byte("again")})
			watch.ExpectPublish(topic, "")
			watch.ExpectPublish(topic, "again")
		}
	})
	rule("alias-3", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{talkative{}}})
		c := t.Client()
		for _, topic := range []string{"a", ""} {
			p := packets.Publish{Topic: []byte(topic), QoS: 1, HasTopicAlias: true, TopicAlias: 1}
			if code := c.PublishWith(p); code != packets.NotAuthorized {
				t.Fatalf("PUBACK with %v", code)
			}
		}
	})
	ruleBytes("trap-publish-29", "", frame(0x30, text(""), block([]byte{0x23, 0, 1})), packets.ProtocolError)
	rule("trap-publish-30", "", func(t *T) {
		topic := t.Unique("t")
		live := t.Client() // which takes no aliases
		live.Subscribe(0, topic)
		c, ack := t.TryConnect(t.CONNECT())
		if ack.TopicAliasMaximum == 0 {
			t.Unfit("needs a broker that takes topic aliases")
		}
		for i := range 3 {
			p := packets.Publish{Topic: []byte(topic), HasTopicAlias: true, TopicAlias: 1, Payload: fmt.Append(nil, i), Retain: true, QoS: 1}
			if i > 0 {
				p.Topic = nil
			}
			c.PublishWith(p)
			late := t.Client()
			late.Subscribe(0, topic)
			for _, sub := range []*brokertest.Client{live, late} {
				if got := sub.ExpectPublish(topic, fmt.Sprint(i)); got.HasTopicAlias {
					t.Fatalf("topic alias %d", got.TopicAlias)
				}
			}
		}
		c.Send(&packets.Publish{Topic: []byte(topic), Retain: true})
	})
	rule("trap-publish-31", "", func(t *T) {
		topic, p := t.Unique("t"), t.CONNECT()
		p.TopicAliasMaximum, p.MaximumPacketSize = 5, 60
		sub, pub := t.Connect(p), t.Client()
		sub.Subscribe(1, topic)
		pub.Publish(topic, strings.Repeat("x", 100), 1)
		pub.Publish(topic, "fits", 1)
		sub.ExpectPublish(topic, "fits") // not by an alias that the client never saw
	})
}

func subscribing() {
	rule("subscribe-1", "", func(t *T) {
		topic := t.Unique("t")
		c := t.Client()
		s := subscription(topic, 0)
		s.NoLocal = true
		subscribe(t, c, 1, s)
		subscribe(t, c, 2, subscription(topic+"/#", 0))
		c.Send(&packets.Publish{Topic: []byte(topic), Payload: []byte("own")})
		if got := c.ExpectPublish(topic, "own"); !slices.Equal(got.SubscriptionIDs, []uint32{2}) {
			t.Fatalf("identifiers %v; want 2", got.SubscriptionIDs)
		}
		c.ExpectNothing()
	})
	for name, feature := range map[string]struct {
		code   packets.ReasonCode
		o      petrel.Options
		filter string
		id     uint32
	}{
		"shared subscriptions":     {packets.SharedSubscriptionsNotSupported, petrel.Options{DisableSharedSubscriptions: true}, "$share/g/a", 0},
		"subscription identifiers": {packets.SubscriptionIdentifiersNotSupported, petrel.Options{DisableSubscriptionIdentifiers: true}, "a", 1},
		"wildcards":                {packets.WildcardSubscriptionsNotSupported, petrel.Options{DisableWildcardSubscriptions: true}, "a/+", 0},
	} {
		rule("subscribe-9", name, func(t *T) {
			t.With(feature.o)
			c := t.Client()
			c.Send(&packets.Subscribe{PacketID: 1, SubscriptionID: feature.id,
				Subscriptions: packets.Subscriptions(nil).Append(subscription(feature.filter, 0))})
			p, ok := c.Next()
			if !ok {
				t.Fatal("a close without DISCONNECT")
			}
			if ack, ok := p.(*packets.Suback); ok {
				if !slices.Equal(ack.Reasons, []packets.ReasonCode{feature.code}) {
					t.Fatalf("SUBACK with %v", ack.Reasons)
				}
			} else if code := disconnectCode(t, p); code != feature.code {
				t.Fatalf("DISCONNECT with %v", code)
			}
			t.Saw("%v 0x%02X", p.Type(), byte(feature.code))
		})
	}
	rule("subscribe-10", "", func(t *T) {
		topic := t.Unique("t")
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: 1})
		c := t.Client()
		c.Send(&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription(topic, 0))})
		one, two := c.Receive().Type(), c.Receive().Type()
		if one == two || one != packets.TypeSuback && two != packets.TypeSuback || one != packets.TypePublish && two != packets.TypePublish {
			t.Fatalf("got %v and %v", one, two)
		}
		t.Saw("%v, then %v", one, two)
	})
}

func groups() {
	rule("subscribe-3", "", func(t *T) {
		topic := t.Unique("t")
		members := map[uint32]*brokertest.Client{1: t.Client(), 2: t.Client()}
		for id, c := range members {
			subscribe(t, c, id, subscription("$share/g/"+topic, 0))
		}
		pub := t.Client()
		for range 10 {
			pub.Publish(topic, "x", 1)
		}
		total := 0
		for id, c := range members {
			for _, got := range until(c) {
				if total++; !slices.Equal(got.SubscriptionIDs, []uint32{id}) {
					t.Fatalf("member %d got the identifiers %v", id, got.SubscriptionIDs)
				}
			}
		}
		if total != 10 {
			t.Fatalf("%d deliveries of 10", total)
		}
	})
	rule("subscribe-4", "", func(t *T) {
		topic := t.Unique("t")
		c := t.Client()
		subscribe(t, c, 1, subscription("$share/g/"+topic, 0))
		subscribe(t, c, 2, subscription(topic, 0))
		t.Client().Publish(topic, "x", 1)
		var ids []uint32
		copies := until(c)
		for _, got := range copies {
			ids = append(ids, got.SubscriptionIDs...)
		}
		slices.Sort(ids)
		if len(copies) != 2 || !slices.Equal(ids, []uint32{1, 2}) {
			t.Fatalf("%d copies with the identifiers %v", len(copies), ids)
		}
	})
	rule("subscribe-5", "", func(t *T) {
		topic := t.Unique("t")
		var members []*brokertest.Client
		for _, filter := range []string{"$share/g/" + topic, "$share/h/" + topic, "$share/g/" + topic + "/#"} {
			c := t.Client()
			c.Subscribe(0, filter)
			members = append(members, c)
		}
		t.Client().Publish(topic, "x", 1)
		for _, c := range members {
			c.ExpectPublish(topic, "x")
			c.ExpectNothing()
		}
	})
	rule("subscribe-6", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		away := t.Connect(p)
		away.Subscribe(1, "$share/g/"+topic)
		leave(away, packets.Success)
		here, pub := t.Client(), t.Client()
		here.Subscribe(0, "$share/g/"+topic)
		for range 10 {
			pub.Publish(topic, "x", 1)
		}
		got := len(until(here))
		if n := len(until(t.Connect(p))); got+n != 10 {
			t.Fatalf("%d and %d deliveries of 10", got, n)
		}
		t.Saw("%d of 10 to the member that is connected", got)
	})
	// handOver has a member of a group lose its connection with message "0" in
	// flight and the rest queued behind it, and says what another member gets.
	handOver := func(t *T, expiry uint32, n int) {
		t.Helper()
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		p.SessionExpiryInterval, p.ReceiveMaximum = expiry, 1
		gone, pub := t.Connect(p), t.Client()
		gone.Subscribe(1, "$share/g/"+topic)
		for i := range n {
			pub.Publish(topic, fmt.Sprint(i), 1)
		}
		gone.ExpectPublish(topic, "0")
		other := t.Client()
		other.Subscribe(1, "$share/g/"+topic)
		leave(gone, packets.Success)
		waiting := map[string]bool{}
		for _, got := range until(other) {
			if waiting[string(got.Payload)] {
				t.Fatalf("%s came twice", got.Payload)
			}
			waiting[string(got.Payload)] = true
		}
		t.Saw("%d of %d messages handed over", len(waiting), n)
	}
	rule("subscribe-7", "", func(t *T) { handOver(t, 3600, 1) })
	rule("subscribe-8", "", func(t *T) { handOver(t, 0, 3) })
	rule("trap-publish-26", "", func(t *T) {
		topic := t.Unique("t")
		c, pub := t.Client(), t.Client()
		c.Subscribe(0, "$share/g/"+topic)
		codes := c.Unsubscribe(topic, "$share/h/"+topic, "$share/g/#")
		if want := slices.Repeat([]packets.ReasonCode{packets.NoSubscriptionExisted}, 3); !slices.Equal(codes, want) {
			t.Fatalf("UNSUBACK with %v", codes)
		}
		pub.Publish(topic, "x", 1)
		c.ExpectPublish(topic, "x")
		if codes := c.Unsubscribe("$share/g/" + topic); !slices.Equal(codes, []packets.ReasonCode{packets.Success}) {
			t.Fatalf("UNSUBACK with %v", codes)
		}
		pub.Publish(topic, "y", 1)
		c.ExpectNothing()
	})
}

func resubscribing() {
	rule("trap-publish-18", "", func(t *T) {
		topic := t.Unique("t")
		sub, pub := t.Client(), t.Client()
		sub.Subscribe(1, topic)
		next := 0
		for round := range 50 {
			for i := range 4 { // which are on their way while the SUBSCRIBE is
				pub.Send(&packets.Publish{Topic: []byte(topic), QoS: 1, PacketID: uint16(i + 1), Payload: fmt.Append(nil, round*4+i)})
			}
			sub.Send(&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription(topic, packets.QoS(round%2)))})
			for range 4 {
				brokertest.Expect[*packets.Puback](pub)
			}
			for acknowledged := false; !acknowledged || next < (round+1)*4; {
				switch p := sub.Receive().(type) {
				case *packets.Suback:
					acknowledged = true
				case *packets.Publish:
					if string(p.Payload) != fmt.Sprint(next) {
						t.Fatalf("got message %s; want %d", p.Payload, next)
					}
					next++
					sub.Accept(p)
				}
			}
		}
		sub.ExpectNothing()
	})
	rule("trap-publish-19", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		watch, c := t.Client(), t.Connect(p)
		watch.Subscribe(0, topic)
		s := subscription(topic, 1)
		s.NoLocal = true
		subscribe(t, c, 0, s)
		c.Send(&packets.Publish{Topic: []byte(topic), Payload: []byte("own"), QoS: 1, PacketID: 1}, &packets.Disconnect{})
		watch.ExpectPublish(topic, "own")
		t.Connect(p).ExpectNothing()
	})
	rule("trap-publish-32", "", func(t *T) {
		topic, p := t.Unique("t"), t.CONNECT()
		if p.ReceiveMaximum = 1; t.version != packets.V5 {
			p.ReceiveMaximum = 65535 // there is none; what is held back is up to the server
		}
		sub, pub := t.Connect(p), t.Client()
		sub.Subscribe(1, topic)
		pub.Publish(topic, "1", 1)
		pub.Publish(topic, "2", 1)
		pub.Publish(topic, "3", 0)
		var got []string
		for len(got) < 3 {
			p := brokertest.Expect[*packets.Publish](sub)
			got = append(got, string(p.Payload))
			sub.Accept(p)
		}
		if slices.Index(got, "1") > slices.Index(got, "2") {
			t.Fatalf("order %v", got)
		}
		t.Saw("the order %v of 1 and 2 with QoS 1, 3 with QoS 0", got)
	})
}
