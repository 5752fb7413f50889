package conformance_test

import (
	"fmt"
	"slices"

	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// The traps of parsing.

func init() {
	ruleBytes("trap-parsing-1", "", []byte{0xC0, 0x80, 0x80, 0x80, 0x80}, malformed...)
	rule("trap-parsing-5", "", func(t *T) {
		c := t.Client()
		c.SendRaw(frame(0x36, text("a"), []byte{0, 1}, t.props()))
		t.Refused(c, packets.MalformedPacket)
	})
	rule("trap-parsing-6", "", func(t *T) {
		refusesConnect(t, t.connectBody(3<<3|4|2, t.props(), text("w"), text("x")), packets.MalformedPacket)
	})
	rule("trap-parsing-7", "", func(t *T) {
		c := t.Client()
		c.SendRaw(frame(0x82, []byte{0, 1}, t.props(), text("a"), []byte{3}))
		t.Refused(c, packets.ProtocolError)
	})
	strictText()
	bytesOfProperties()
	rule("trap-parsing-9", "", func(t *T) {
		topic := t.Unique("t")
		watch, c := t.Client(), t.Dial()
		watch.Subscribe(0, topic)
		c.SendRaw(t.connectBody(0xC6, t.props(), text(topic), text("\xFF\x00\xC0\x80"), text("user"), text("\xFF\x00\xED\xA0\x80")))
		if reason := brokertest.Expect[*packets.Connack](c).Reason; reason != packets.Success {
			t.Fatalf("CONNACK with %v", reason)
		}
		c.Conn.Close()
		watch.ExpectPublish(topic, "\xFF\x00\xC0\x80")
	})
	rule("trap-parsing-22", "", func(t *T) {
		topic := t.Unique("t")
		c := t.Client()
		c.Subscribe(0, topic)
		c.Send(&packets.Publish{Topic: []byte(topic), Properties: packets.Properties(nil).AppendCorrelationData([]byte("\xFF\x00\xC0"))})
		if got := c.ExpectPublish(topic, ""); string(got.Properties.CorrelationData()) != "\xFF\x00\xC0" {
			t.Fatalf("got % x", got.Properties.CorrelationData())
		}
	})
	rule("trap-parsing-14", "", func(t *T) {
		topic, p := t.Unique("t"), t.CONNECT()
		p.ReceiveMaximum = 1
		sub, pub := t.Connect(p), t.Client()
		sub.Subscribe(2, topic)
		for i := range 4 {
			pub.Publish(topic, fmt.Sprint(i), packets.QoS(1+i%2))
			got := sub.ExpectPublish(topic, fmt.Sprint(i)) // it would not come if the last were open
			id := []byte{byte(got.PacketID >> 8), byte(got.PacketID)}
			if got.QoS == 1 {
				sub.SendRaw(frame(0x40, id, []byte{0x10}))
				continue
			}
			sub.SendRaw(frame(0x50, id, []byte{0}))
			brokertest.Expect[*packets.Pubrel](sub)
			sub.SendRaw(frame(0x70, id, []byte{0x92}))
		}
		pub.SendRaw(frame(0x62, []byte{0, 9, 0x92}))
		brokertest.Expect[*packets.Pubcomp](pub)
		sub.ExpectNothing()
	})
	rule("trap-parsing-15", "0x04", func(t *T) {
		expectWill(t, packets.Will{}, func(c *brokertest.Client) { c.SendRaw([]byte{0xE0, 1, 4}) })
	})
	rule("trap-parsing-15", "0x00", func(t *T) {
		expectNoWill(t, func(c *brokertest.Client) {
			c.SendRaw([]byte{0xE0, 1, 0})
			c.ExpectClosed()
		})
	})
	surplus()
	rule("trap-parsing-19", "", func(t *T) {
		c, p := t.Dial(), t.CONNECT()
		for _, b := range raw(t, &p) {
			c.SendRaw([]byte{b}) // a segment of its own, as Go sends without delay
		}
		if reason := brokertest.Expect[*packets.Connack](c).Reason; reason != packets.Success {
			t.Fatalf("CONNACK with %v", reason)
		}
	})
	rule("trap-parsing-20", "", func(t *T) {
		topic := t.Unique("t")
		c, p := t.Dial(), t.CONNECT()
		c.Send(&p, &packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription(topic, 0))},
			&packets.Publish{Topic: []byte(topic), QoS: 1, PacketID: 2}, &packets.Pingreq{})
		brokertest.Expect[*packets.Connack](c)
		brokertest.Expect[*packets.Suback](c)
		var got []string // the acknowledgement and the delivery have no order between them
		for range 2 {
			got = append(got, c.Receive().Type().String())
		}
		slices.Sort(got)
		if !slices.Equal(got, []string{"PUBACK", "PUBLISH"}) {
			t.Fatalf("got %v", got)
		}
		brokertest.Expect[*packets.Pingresp](c)
	})
}

// strictText are the strings that are easy to forget.
func strictText() {
	connecting := func(bad string, build func(t *T, bad []byte) []byte) func(t *T) {
		return func(t *T) { refusesConnect(t, build(t, text(bad)), malformed...) }
	}
	standing := func(bad string, build func(bad []byte) []byte) func(t *T) {
		return func(t *T) {
			c := t.Client()
			c.SendRaw(build(text(bad)))
			t.Refused(c, malformed...)
		}
	}
	pair := func(name, value []byte) []byte { return block([]byte{0x26}, name, value) }
	good := text("good")
	for what, bad := range map[string]string{"a lone byte": "a\xFF", "a surrogate": "\xED\xA0\x80", "U+0000": "a\x00"} {
		add := func(name string, run func(t *T)) { rule("trap-parsing-8", name+" with "+what, run) }
		for name, k := range carriers {
			if name == "DISCONNECT" {
				continue // it closes the connection in any case; see below
			}
			add("user property name of "+name, func(t *T) { k.refuses(t, name, pair(text(bad), good), malformed...) })
			add("user property value of "+name, func(t *T) { k.refuses(t, name, pair(good, text(bad)), malformed...) })
		}
		for name, id := range map[string]byte{"content type": 0x03, "response topic": 0x08} {
			add(name+" of a will", func(t *T) { carriers["will"].refuses(t, "will", block([]byte{id}, text(bad)), malformed...) })
		}
		add("authentication method", connecting(bad, func(t *T, bad []byte) []byte {
			return carriers["CONNECT"].bytes(t, block([]byte{0x15}, bad))
		}))
		add("reason string of PUBACK", standing(bad, func(bad []byte) []byte { return frame(0x40, []byte{0, 9, 0}, block([]byte{0x1F}, bad)) }))
		add("reason string of PUBREC", standing(bad, func(bad []byte) []byte { return frame(0x50, []byte{0, 9, 0}, block([]byte{0x1F}, bad)) }))
		add("reason string of DISCONNECT", func(t *T) {
			carriers["DISCONNECT"].refuses(t, "DISCONNECT", block([]byte{0x1F}, text(bad)), malformed...)
		})
	}
}

func bytesOfProperties() {
	topic := text("a")
	ruleBytes("trap-parsing-12", "PUBLISH", frame(0x30, topic, []byte{2, 0x23, 0}, []byte("payload")), malformed...)
	ruleBytes("trap-parsing-12", "PUBLISH in a string", frame(0x30, topic, []byte{4, 0x03, 0, 5, 'a'}, []byte("payload")), malformed...)
	ruleBytes("trap-parsing-12", "SUBSCRIBE", frame(0x82, []byte{0, 1, 1, 0x0B, 5}, topic, []byte{0}), malformed...)
	rule("trap-parsing-12", "CONNECT", func(t *T) {
		refusesConnect(t, carriers["CONNECT"].bytes(t, []byte{3, 0x11, 0, 0}), malformed...)
	})
	for name, k := range carriers {
		rule("trap-parsing-13", name, func(t *T) { k.refuses(t, name, []byte{0x7F}, malformed...) })
		rule("trap-parsing-13", name+" with a length of four bytes", func(t *T) { k.refuses(t, name, []byte{0xFF, 0xFF, 0xFF, 0x7F}, malformed...) })
	}
	rule("trap-parsing-16", "", func(t *T) {
		sub, pub := t.Client(), t.Client()
		for _, id := range []uint32{1, 127, 128, 16383, 16384, 2097151, 2097152, 268435455} {
			topic := t.Unique("t")
			subscribe(t, sub, id, subscription(topic, 0))
			pub.Publish(topic, "x", 1)
			if got := sub.ExpectPublish(topic, "x"); !slices.Equal(got.SubscriptionIDs, []uint32{id}) {
				t.Fatalf("subscribed with %d, got %v", id, got.SubscriptionIDs)
			}
		}
	})
	rule("trap-parsing-17", "", func(t *T) {
		topic := t.Unique("t")
		watch, c := t.Client(), t.Dial()
		watch.Subscribe(0, topic)
		ofConnect := block([]byte{0x26}, text("connect"), text("1"))
		ofWill := block(append([]byte{0x03}, text("type")...), []byte{0x26}, text("will"), text("2"))
		c.SendRaw(frame(0x10, text("MQTT"), []byte{5, 6, 0, 60}, ofConnect, text(t.Unique("c")), ofWill, text(topic), text("will")))
		brokertest.Expect[*packets.Connack](c)
		c.Conn.Close()
		got := watch.ExpectPublish(topic, "will")
		if pairs := userProperties(got); !slices.Equal(pairs, []string{"will=2"}) || string(got.Properties.ContentType()) != "type" {
			t.Fatalf("user properties %v, content type %q", pairs, got.Properties.ContentType())
		}
	})
}

// surplus are packets with a byte too many.
func surplus() {
	rule("trap-parsing-18", "CONNECT", func(t *T) { refusesConnect(t, t.connectBody(2, []byte{0}), malformed...) })
	for name, p := range map[string]packets.Packet{
		"PUBACK":      &packets.Puback{PacketID: 1, Reason: packets.NotAuthorized},
		"PUBREC":      &packets.Pubrec{PacketID: 1, Reason: packets.NotAuthorized},
		"PUBREL":      &packets.Pubrel{PacketID: 1, Reason: packets.PacketIdentifierNotFound},
		"PUBCOMP":     &packets.Pubcomp{PacketID: 1, Reason: packets.PacketIdentifierNotFound},
		"SUBSCRIBE":   &packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription("a", 0))},
		"UNSUBSCRIBE": &packets.Unsubscribe{PacketID: 1, Filters: packets.Filters(nil).Append("a")},
		"PINGREQ":     &packets.Pingreq{},
	} {
		rule("trap-parsing-18", name, func(t *T) {
			c, b := t.Client(), raw(t, p)
			if t.version == packets.V5 && b[1] == 3 { // an acknowledgement in its short form
				b = append(b, 0)
			}
			b = append(b, 7)
			b[1] = byte(len(b) - 2)
			c.SendRaw(b)
			t.Refused(c, malformed...)
		})
	}
	rule("trap-parsing-18", "DISCONNECT", func(t *T) {
		expectWill(t, packets.Will{}, func(c *brokertest.Client) { c.SendRaw([]byte{0xE0, 3, 0, 0, 7}) })
	})
}
