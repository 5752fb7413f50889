package conformance_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Statements of sections 2.2 and 3.3: packet identifiers and PUBLISH.

// subscription is one with all its options.
func subscription(filter string, qos packets.QoS) packets.Subscription {
	return packets.Subscription{Filter: []byte(filter), QoS: qos}
}

// subscribe sends a SUBSCRIBE for one subscription and wants it granted.
func subscribe(t *T, c *brokertest.Client, id uint32, s packets.Subscription) {
	t.Helper()
	codes := c.SubscribeWith(packets.Subscribe{SubscriptionID: id, Subscriptions: packets.Subscriptions(nil).Append(s)})
	if len(codes) != 1 || codes[0] != packets.ReasonCode(s.QoS) {
		t.Fatalf("SUBACK with %v", codes)
	}
}

// keep publishes a retained message, and removes it when the test ends.
func (t *T) keep(p packets.Publish) {
	t.Helper()
	p.Retain = true
	t.Client().PublishWith(p)
	t.Cleanup(func() {
		if *targetFlag != "" {
			t.Client().PublishWith(packets.Publish{Topic: p.Topic, Retain: true, QoS: 1})
		}
	})
}

func init() {
	mqtt5("MQTT-2.2.1-2", "", func(t *T) {
		topic := t.Unique("t")
		sub := t.Client()
		sub.Subscribe(0, topic)
		conn := t.Client()
		conn.SendRaw(append([]byte{0x30, byte(len(topic) + 5)}, append(text(topic), 0, 'h', 'i')...))
		sub.ExpectPublish(topic, "hi") // no identifier was taken for one, and none was sent
	})
	mqtt5("MQTT-2.2.1-3", "", func(t *T) {
		for _, b := range [][]byte{
			{0x32, 0x07, 0, 1, 'a', 0, 0, 0, 'x'}, // PUBLISH
			{0x82, 0x07, 0, 0, 0, 0, 1, 'a', 0},   // SUBSCRIBE
			{0xA2, 0x06, 0, 0, 0, 0, 1, 'a'},      // UNSUBSCRIBE
		} {
			c := t.Client()
			c.SendRaw(b)
			t.Refused(c, malformed...)
		}
	})
	mqtt5("MQTT-2.2.1-4", "", func(t *T) {
		topic := t.Unique("t")
		sub, pub := t.Client(), t.Client()
		sub.Subscribe(1, topic)
		open := map[uint16]bool{}
		for i := range 500 {
			pub.Publish(topic, "x", 1)
			got := sub.ExpectPublish(topic, "x")
			if got.PacketID == 0 || open[got.PacketID] {
				t.Fatalf("message %d has identifier %d, which is in use or 0", i, got.PacketID)
			}
			if i%5 == 0 && i < 50 { // fewer than any window
				open[got.PacketID] = true // never acknowledged
			} else {
				sub.Accept(got)
			}
		}
	})
	mqtt5("MQTT-2.2.1-5", "", func(t *T) {
		c := t.Client()
		for _, id := range []uint16{1, 255, 256, 65535} {
			c.PublishWith(packets.Publish{Topic: []byte("a"), QoS: 1, PacketID: id})
			c.PublishWith(packets.Publish{Topic: []byte("a"), QoS: 2, PacketID: id})
		}
	})
	mqtt5("MQTT-2.2.1-6", "", func(t *T) {
		c, topic := t.Client(), t.Unique("t")
		for _, id := range []uint16{1, 256, 65535} {
			c.SubscribeWith(packets.Subscribe{PacketID: id, Subscriptions: packets.Subscriptions(nil).Append(subscription(topic, 0))})
			c.Send(&packets.Unsubscribe{PacketID: id, Filters: packets.Filters(nil).Append(topic)})
			if ack := brokertest.Expect[*packets.Unsuback](c); ack.PacketID != id {
				t.Fatalf("UNSUBACK for %d; want %d", ack.PacketID, id)
			}
		}
	})
	redelivered := func(t *T) {
		for qos := packets.AtLeastOnce; qos <= packets.ExactlyOnce; qos++ {
			topic, p := t.Unique("t"), t.durable(t.Unique("c"))
			sub := t.Connect(p)
			sub.Subscribe(2, topic)
			t.Client().Publish(topic, qos.String(), qos)
			first := sub.ExpectPublish(topic, qos.String())
			if first.Dup {
				t.Fatal("DUP at the first time")
			}
			sub.Conn.Close()
			sub = t.Connect(p)
			again := sub.ExpectPublish(topic, qos.String())
			if !again.Dup || again.PacketID != first.PacketID {
				t.Fatalf("DUP %v, identifier %d; want true, %d", again.Dup, again.PacketID, first.PacketID)
			}
			sub.Accept(again)
		}
	}
	mqtt5("MQTT-3.3.1-1", "", redelivered)
	mqtt5("MQTT-3.3.1-2", "from the server", func(t *T) {
		topic := t.Unique("t")
		sub := t.Client()
		sub.Subscribe(0, topic)
		t.Client().PublishWith(packets.Publish{Topic: []byte(topic), QoS: 1, Dup: true})
		if got := sub.ExpectPublish(topic, ""); got.Dup {
			t.Fatal("DUP with QoS 0")
		}
	})
	mqtt5("MQTT-3.3.1-2", "from the client", func(t *T) {
		c := t.Client()
		c.SendRaw(frame(0x38, text("a"), t.props()))
		repeatedQoS0(t, c)
	})
	mqtt5("MQTT-3.3.1-3", "", func(t *T) {
		topic := t.Unique("t")
		sub := t.Client()
		sub.Subscribe(2, topic)
		for qos := packets.AtLeastOnce; qos <= packets.ExactlyOnce; qos++ {
			t.Client().PublishWith(packets.Publish{Topic: []byte(topic), QoS: qos, Dup: true})
			got := sub.ExpectPublish(topic, "")
			if got.Dup {
				t.Fatal("DUP was copied")
			}
			sub.Accept(got)
		}
	})
	mqtt5("MQTT-3.3.1-4", "", func(t *T) {
		c := t.Client()
		c.SendRaw([]byte{0x36, 0x06, 0, 1, 'a', 0, 1, 0})
		t.Refused(c, malformed...)
	})
	mqtt5("MQTT-3.3.1-5", "", func(t *T) {
		topic := t.Unique("t")
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("old"), QoS: 0})
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("new"), QoS: 1, Properties: packets.Properties(nil).AppendContentType("text")})
		sub := t.Client()
		sub.Subscribe(2, topic)
		got := sub.ExpectPublish(topic, "new")
		if !got.Retain || got.QoS != 1 || string(got.Properties.ContentType()) != "text" {
			t.Fatalf("got %+v", got)
		}
		sub.Accept(got)
		sub.ExpectNothing()
	})
	removes := func(t *T) {
		topic := t.Unique("t")
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: 1})
		now := t.Client()
		now.Subscribe(0, topic)
		now.ExpectPublish(topic, "kept")
		t.Client().PublishWith(packets.Publish{Topic: []byte(topic), QoS: 1, Retain: true})
		now.ExpectPublish(topic, "")
		late := t.Client()
		late.Subscribe(0, topic)
		late.ExpectNothing()
	}
	mqtt5("MQTT-3.3.1-6", "", removes)
	mqtt5("MQTT-3.3.1-7", "", func(t *T) {
		topic := t.Unique("t")
		t.Client().PublishWith(packets.Publish{Topic: []byte(topic), QoS: 1, Retain: true})
		late := t.Client()
		late.Subscribe(0, topic)
		late.ExpectNothing()
	})
	mqtt5("MQTT-3.3.1-8", "", func(t *T) {
		topic := t.Unique("t")
		t.Client().Publish(topic, "not kept", 1)
		late := t.Client()
		late.Subscribe(0, topic)
		late.ExpectNothing()
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: 1})
		late.ExpectPublish(topic, "kept")
		for _, payload := range []string{"live", ""} {
			t.Client().Publish(topic, payload, 1)
			late.ExpectPublish(topic, payload)
		}
		later := t.Client()
		later.Subscribe(0, topic)
		later.ExpectPublish(topic, "kept")
	})
	retainHandling()
	properties()
	aliases()
	overlaps()
}

// repeatedQoS0 accepts what a server makes of DUP in a PUBLISH with QoS 0: a
// strict one refuses it, but the rule is one for senders.
func repeatedQoS0(t *T, c *brokertest.Client) {
	t.Helper()
	c.Send(&packets.Pingreq{})
	switch p, ok := c.Next(); {
	case !ok:
		t.Saw("a plain close")
	case p.Type() == packets.TypePingresp:
		t.Saw("that it is taken")
	default:
		if code := disconnectCode(t, p); code != packets.MalformedPacket && code != packets.ProtocolError {
			t.Fatalf("DISCONNECT with %v", code)
		}
		t.Saw("DISCONNECT 0x%02X", byte(p.(*packets.Disconnect).Reason))
	}
}

func retainHandling() {
	for handling, id := range map[byte]string{0: "MQTT-3.3.1-9", 1: "MQTT-3.3.1-10", 2: "MQTT-3.3.1-11"} {
		mqtt5(id, "", func(t *T) {
			topic := t.Unique("t")
			t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: 1})
			p := t.durable(t.Unique("c"))
			sub := t.Connect(p)
			s := subscription(topic, 0)
			s.RetainHandling = handling
			expect := func(what string, wanted bool) {
				t.Helper()
				subscribe(t, sub, 0, s)
				if wanted {
					if got := sub.ExpectPublish(topic, "kept"); !got.Retain {
						t.Fatalf("%s: RETAIN is 0", what)
					}
				}
				sub.ExpectNothing()
			}
			expect("a new subscription", handling <= 1)
			expect("an existing one", handling == 0)
			leave(sub, packets.Success)
			sub = t.Connect(p)
			expect("one of a resumed session", handling == 0)
			sub.Unsubscribe(topic)
			expect("a new one again", handling <= 1)
		})
	}
	for asPublished, id := range map[bool]string{false: "MQTT-3.3.1-12", true: "MQTT-3.3.1-13"} {
		mqtt5(id, "", func(t *T) {
			topic := t.Unique("t")
			sub := t.Client()
			s := subscription(topic, 0)
			s.RetainAsPublished = asPublished
			subscribe(t, sub, 0, s)
			for _, retain := range []bool{false, true} {
				m := packets.Publish{Topic: []byte(topic), Payload: []byte("x"), QoS: 1, Retain: retain}
				if retain {
					t.keep(m)
				} else {
					t.Client().PublishWith(m)
				}
				if got := sub.ExpectPublish(topic, "x"); got.Retain != (retain && asPublished) {
					t.Fatalf("published with RETAIN %v, got %v", retain, got.Retain)
				}
			}
		})
	}
}

// properties are the statements about what is passed on, and what is refused.
func properties() {
	refuses := func(id, name string, props packets.Properties, bad string, codes ...packets.ReasonCode) {
		mqtt5(id, name, func(t *T) {
			c := t.Client()
			sendText(t, c, &packets.Publish{Topic: []byte("a"), Properties: props}, bad)
			t.Refused(c, codes...)
		})
	}
	lone := standIn("a\xFF")
	refuses("MQTT-3.3.2-13", "", packets.Properties(nil).AppendResponseTopic(lone), "a\xFF", packets.MalformedPacket)
	for _, wild := range []string{"a/+", "#"} {
		refuses("MQTT-3.3.2-14", wild, packets.Properties(nil).AppendResponseTopic(standIn(wild)), wild,
			packets.ProtocolError, packets.TopicNameInvalid, packets.MalformedPacket)
	}
	refuses("MQTT-3.3.2-19", "", packets.Properties(nil).AppendContentType(lone), "a\xFF", packets.MalformedPacket)
	mqtt5("MQTT-3.3.2-1", "", func(t *T) {
		c := t.Client()
		sendText(t, c, &packets.Publish{Topic: []byte(lone)}, "a\xFF")
		t.Refused(c, packets.MalformedPacket)
	})
	for _, topic := range []string{"a/+/b", "a/#", "+", "#"} {
		mqtt5("MQTT-3.3.2-2", topic, func(t *T) {
			for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
				watch, c := t.Client(), t.Client()
				watch.Subscribe(0, "a/#")
				p := &packets.Publish{Topic: []byte(standIn(topic)), QoS: qos}
				if qos > 0 {
					p.PacketID = 1
				}
				sendText(t, c, p, topic)
				t.Refused(c, packets.TopicNameInvalid, packets.ProtocolError, packets.MalformedPacket)
			}
		})
	}
	mqtt5("MQTT-3.3.2-3", "", func(t *T) {
		root := t.Unique("t")
		sub, pub := t.Client(), t.Client()
		sub.Subscribe(0, root+"/+/c")
		for _, topic := range []string{"/a/c", "/a/b", "/b/c", "/c"} {
			pub.Publish(root+topic, topic, 1)
		}
		sub.ExpectPublish(root+"/a/c", "/a/c")
		sub.ExpectPublish(root+"/b/c", "/b/c")
		sub.ExpectNothing()
	})
	all := packets.Properties(nil).AppendPayloadFormat(1).AppendContentType("text/plain").AppendResponseTopic("reply/to").
		AppendCorrelationData([]byte{0, 1, 0xFF}).AppendUserProperty("b", "1").AppendUserProperty("a", "").AppendUserProperty("b", "1")
	passedOn := func(id string, same func(got packets.Properties) bool) {
		mqtt5(id, "", func(t *T) {
			topic := t.Unique("t")
			live := t.Client()
			live.Subscribe(0, topic)
			t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("x"), QoS: 1, Properties: all})
			late := t.Client()
			late.Subscribe(0, topic)
			for _, c := range []*brokertest.Client{live, late} {
				if got := c.ExpectPublish(topic, "x"); !same(got.Properties) {
					t.Fatalf("got % x; want % x", []byte(got.Properties), []byte(all))
				}
			}
		})
	}
	passedOn("MQTT-3.3.2-4", func(got packets.Properties) bool { f, ok := got.PayloadFormat(); return ok && f == 1 })
	passedOn("MQTT-3.3.2-15", func(got packets.Properties) bool { return string(got.ResponseTopic()) == "reply/to" })
	passedOn("MQTT-3.3.2-16", func(got packets.Properties) bool { return string(got.CorrelationData()) == "\x00\x01\xFF" })
	passedOn("MQTT-3.3.2-20", func(got packets.Properties) bool { return string(got.ContentType()) == "text/plain" })
	passedOn("MQTT-3.3.2-17", func(got packets.Properties) bool {
		return slices.Equal(slices.Sorted(slices.Values(userProperties(&packets.Publish{Properties: got}))), []string{"a=", "b=1", "b=1"})
	})
	passedOn("MQTT-3.3.2-18", func(got packets.Properties) bool {
		return slices.Equal(userProperties(&packets.Publish{Properties: got}), []string{"b=1", "a=", "b=1"})
	})
	timed5("MQTT-3.3.2-5", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		sub, pub := t.Connect(p), t.Client()
		sub.Subscribe(1, topic)
		leave(sub, packets.Success)
		pub.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte("short"), QoS: 1, HasMessageExpiry: true, MessageExpiryInterval: 1})
		pub.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte("long"), QoS: 1, HasMessageExpiry: true, MessageExpiryInterval: 100})
		time.Sleep(2100 * time.Millisecond)
		sub = t.Connect(p)
		sub.ExpectPublish(topic, "long")
	})
	timed5("MQTT-3.3.2-6", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		sub := t.Connect(p)
		sub.Subscribe(1, topic)
		leave(sub, packets.Success)
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("x"), QoS: 1, HasMessageExpiry: true, MessageExpiryInterval: 100})
		time.Sleep(2100 * time.Millisecond)
		late := t.Client()
		late.Subscribe(0, topic)
		for _, c := range []*brokertest.Client{t.Connect(p), late} {
			got := c.ExpectPublish(topic, "x")
			if !got.HasMessageExpiry || got.MessageExpiryInterval > 98 || got.MessageExpiryInterval < 60 {
				t.Fatalf("Message Expiry Interval %d after two seconds", got.MessageExpiryInterval)
			}
		}
	})
}

func aliases() {
	// set publishes on a topic and sets alias 1 for it.
	set := func(c *brokertest.Client, topic string) {
		c.Send(&packets.Publish{Topic: []byte(topic), HasTopicAlias: true, TopicAlias: 1, Payload: []byte("set")})
	}
	mqtt5("MQTT-3.3.2-7", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		watch := t.Client()
		watch.Subscribe(0, topic)
		c, ack := t.TryConnect(p)
		if ack.TopicAliasMaximum == 0 {
			t.Unfit("the broker takes no topic aliases")
		}
		set(c, topic)
		c.Send(&packets.Publish{HasTopicAlias: true, TopicAlias: 1, Payload: []byte("used")})
		watch.ExpectPublish(topic, "set")
		watch.ExpectPublish(topic, "used")
		leave(c, packets.Success)
		c = t.Connect(p)
		c.Send(&packets.Publish{HasTopicAlias: true, TopicAlias: 1, Payload: []byte("gone")})
		t.Refused(c, packets.ProtocolError)
		watch.ExpectNothing()
	})
	mqtt5("MQTT-3.3.2-8", "", func(t *T) {
		c := t.Client()
		c.SendRaw([]byte{0x30, 0x07, 0, 1, 'a', 3, 0x23, 0, 0})
		t.Refused(c, packets.TopicAliasInvalid)
	})
	mqtt5("MQTT-3.3.2-9", "", func(t *T) {
		c, ack := t.TryConnect(t.CONNECT())
		if ack.TopicAliasMaximum == 65535 {
			t.Unfit("there is no higher one")
		}
		c.Send(&packets.Publish{Topic: []byte("a"), HasTopicAlias: true, TopicAlias: ack.TopicAliasMaximum + 1})
		t.Refused(c, packets.TopicAliasInvalid)
	})
	mqtt5("MQTT-3.3.2-11", "", func(t *T) {
		p := t.CONNECT()
		p.TopicAliasMaximum = 1
		if most := highestAlias(t, p); most > 1 {
			t.Fatalf("topic alias %d; want at most 1", most)
		}
	})
	mqtt5("MQTT-3.3.2-12", "", func(t *T) {
		topic := t.Unique("t")
		watch := t.Client()
		watch.Subscribe(0, topic+"/#")
		c, ack := t.TryConnect(t.CONNECT())
		for alias := uint16(1); alias <= min(ack.TopicAliasMaximum, 50); alias++ {
			name := fmt.Sprint(topic, "/", alias)
			c.Send(&packets.Publish{Topic: []byte(name), HasTopicAlias: true, TopicAlias: alias},
				&packets.Publish{HasTopicAlias: true, TopicAlias: alias, Payload: []byte("again")})
			watch.ExpectPublish(name, "")
			watch.ExpectPublish(name, "again")
		}
	})
}
