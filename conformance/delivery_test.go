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

// Statements of sections 4.1 to 4.9: sessions, QoS, topics, shared subscriptions
// and flow control.

func init() {
	timed5("MQTT-4.1.0-1", "", func(t *T) {
		topic := t.Unique("t")
		c := t.Client() // with a Session Expiry Interval of 0
		c.Subscribe(1, topic)
		for range 3 {
			time.Sleep(500 * time.Millisecond)
			t.Client().Publish(topic, "x", 1)
			c.Accept(c.ExpectPublish(topic, "x"))
		}
	})
	timed5("MQTT-4.1.0-2", "", func(t *T) {
		p := t.durable(t.Unique("c"))
		p.SessionExpiryInterval = 1
		leave(t.Connect(p), packets.Success)
		time.Sleep(2500 * time.Millisecond)
		if _, ack := t.TryConnect(p); ack.SessionPresent {
			t.Fatal("session present after its end")
		}
	})
	senders()
	receivers()
	retries()
	orders()
	topicRules()
	sharing()
	for _, id := range []string{"MQTT-4.9.0-1", "MQTT-4.9.0-2"} {
		mqtt5(id, "", func(t *T) { holdsBack(t) })
	}
	mqtt5("MQTT-4.9.0-3", "", func(t *T) {
		sub, topic, _ := holdsBack(t)
		sub.Subscribe(0, topic+"/x")
		sub.Unsubscribe(topic + "/x")
		sub.Publish("nobody", "x", 2)
		sub.ExpectNothing()
	})
}

// first has a subscriber that is sent one message of each of two topics.
func first(t *T, qos packets.QoS) (sub *brokertest.Client, got [2]*packets.Publish) {
	t.Helper()
	topic := t.Unique("t")
	sub = t.Client()
	sub.Subscribe(qos, topic)
	pub := t.Client()
	for i := range got {
		pub.Publish(topic, fmt.Sprint(i), qos)
		got[i] = sub.ExpectPublish(topic, fmt.Sprint(i))
	}
	return sub, got
}

func senders() {
	mqtt5("MQTT-4.3.1-1", "", func(t *T) {
		if _, got := first(t, 0); got[0].QoS != 0 || got[0].Dup {
			t.Fatalf("%v, DUP %v", got[0].QoS, got[0].Dup)
		}
	})
	for qos, ids := range map[packets.QoS][2]string{1: {"MQTT-4.3.2-1", "MQTT-4.3.2-2"}, 2: {"MQTT-4.3.3-1", "MQTT-4.3.3-2"}} {
		mqtt5(ids[0], "", func(t *T) {
			if _, got := first(t, qos); got[0].PacketID == 0 || got[0].PacketID == got[1].PacketID {
				t.Fatalf("identifiers %d and %d", got[0].PacketID, got[1].PacketID)
			}
		})
		mqtt5(ids[1], "", func(t *T) {
			if _, got := first(t, qos); got[0].QoS != qos || got[0].Dup {
				t.Fatalf("%v, DUP %v", got[0].QoS, got[0].Dup)
			}
		})
	}
	// cut has a message of a durable client in the middle of its exchange when
	// the connection is lost, and returns the next connection.
	cut := func(t *T, qos packets.QoS, expiry uint32, half func(c *brokertest.Client, p *packets.Publish)) (*brokertest.Client, *packets.Publish) {
		t.Helper()
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		sub := t.Connect(p)
		sub.Subscribe(2, topic)
		t.Client().PublishWith(packets.Publish{
			Topic: []byte(topic), Payload: []byte("x"), QoS: qos, HasMessageExpiry: expiry > 0, MessageExpiryInterval: expiry,
		})
		got := sub.ExpectPublish(topic, "x")
		half(sub, got)
		sub.Conn.Close()
		if expiry > 0 {
			time.Sleep(time.Duration(expiry)*time.Second + 1100*time.Millisecond)
		}
		return t.Connect(p), got
	}
	unanswered := func(*brokertest.Client, *packets.Publish) {}
	released := func(c *brokertest.Client, p *packets.Publish) {
		c.Send(&packets.Pubrec{PacketID: p.PacketID})
		brokertest.Expect[*packets.Pubrel](c)
	}
	for id, qos := range map[string]packets.QoS{"MQTT-4.3.2-3": 1, "MQTT-4.3.3-3": 2} {
		mqtt5(id, "", func(t *T) {
			c, sent := cut(t, qos, 0, unanswered)
			again := brokertest.Expect[*packets.Publish](c)
			if again.PacketID != sent.PacketID || again.QoS != qos {
				t.Fatalf("identifier %d, %v; want %d, %v", again.PacketID, again.QoS, sent.PacketID, qos)
			}
			c.Accept(again)
		})
	}
	mqtt5("MQTT-4.3.3-4", "below 0x80", func(t *T) {
		sub, got := first(t, 2)
		sub.Accept(got[0])
	})
	mqtt5("MQTT-4.3.3-4", "0x80 and above", func(t *T) {
		sub, got := first(t, 2)
		sub.Send(&packets.Pubrec{PacketID: got[0].PacketID, Reason: packets.QuotaExceeded})
		sub.ExpectNothing()
	})
	mqtt5("MQTT-4.3.3-5", "", func(t *T) {
		c, sent := cut(t, 2, 0, released)
		if rel := brokertest.Expect[*packets.Pubrel](c); rel.PacketID != sent.PacketID {
			t.Fatalf("PUBREL for %d; want %d", rel.PacketID, sent.PacketID)
		}
		c.Send(&packets.Pubcomp{PacketID: sent.PacketID})
		c.ExpectNothing()
	})
	mqtt5("MQTT-4.3.3-6", "", func(t *T) {
		c, _ := cut(t, 2, 0, released)
		c.Send(&packets.Pingreq{})
		for got := c.Receive(); got.Type() != packets.TypePingresp; got = c.Receive() {
			if got.Type() == packets.TypePublish {
				t.Fatal("PUBLISH after PUBREL")
			}
		}
	})
	timed5("MQTT-4.3.3-7", "", func(t *T) {
		c, sent := cut(t, 2, 1, unanswered)
		if again := brokertest.Expect[*packets.Publish](c); again.PacketID != sent.PacketID {
			t.Fatalf("identifier %d; want %d", again.PacketID, sent.PacketID)
		}
	})
	timed5("MQTT-4.3.3-13", "", func(t *T) {
		c, sent := cut(t, 2, 1, released)
		if rel := brokertest.Expect[*packets.Pubrel](c); rel.PacketID != sent.PacketID {
			t.Fatalf("PUBREL for %d; want %d", rel.PacketID, sent.PacketID)
		}
		c.Send(&packets.Pubcomp{PacketID: sent.PacketID})
		c.ExpectNothing()
	})
}

// release ends a QoS 2 message with the identifier 7: a broker may pass it on
// only now.
func release(c *brokertest.Client) {
	c.Send(&packets.Pubrel{PacketID: 7})
	brokertest.Expect[*packets.Pubcomp](c)
}

func nothing(*brokertest.Client) {}

func receivers() {
	// twice sends the same PUBLISH twice, with end between, and returns how
	// often a subscriber gets it.
	twice := func(t *T, qos packets.QoS, end, last func(c *brokertest.Client)) (n int) {
		t.Helper()
		topic := t.Unique("t")
		watch, c := t.Client(), t.Client()
		watch.Subscribe(0, topic)
		p := &packets.Publish{Topic: []byte(topic), QoS: qos, PacketID: 7}
		for i := range 2 {
			p.Dup = i > 0
			c.Send(p)
			end(c)
		}
		last(c)
		watch.Send(&packets.Pingreq{})
		for {
			if watch.Receive().Type() == packets.TypePingresp {
				return n
			}
			n++
		}
	}
	puback := func(c *brokertest.Client) { brokertest.Expect[*packets.Puback](c) }
	pubrec := func(c *brokertest.Client) { brokertest.Expect[*packets.Pubrec](c) }
	whole := func(c *brokertest.Client) {
		pubrec(c)
		release(c)
	}
	times := func(id string, qos packets.QoS, end, last func(*brokertest.Client), want int) {
		mqtt5(id, "", func(t *T) {
			if n := twice(t, qos, end, last); n != want {
				t.Fatalf("passed on %d times; want %d", n, want)
			}
		})
	}
	times("MQTT-4.3.2-5", 1, puback, nothing, 2)
	times("MQTT-4.3.3-10", 2, pubrec, release, 1)
	times("MQTT-4.3.3-12", 2, whole, nothing, 2)
	mqtt5("MQTT-4.3.2-4", "", func(t *T) { t.Client().PublishWith(packets.Publish{Topic: []byte("a"), QoS: 1, PacketID: 300}) })
	mqtt5("MQTT-4.3.3-8", "", func(t *T) { t.Client().PublishWith(packets.Publish{Topic: []byte("a"), QoS: 2, PacketID: 300}) })
	mqtt5("MQTT-4.3.3-9", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{talkative{}}})
		c := t.Client()
		for range 2 { // each is refused anew
			if code := c.PublishWith(packets.Publish{Topic: []byte("a"), QoS: 2, PacketID: 7}); code != packets.NotAuthorized {
				t.Fatalf("PUBREC with %v", code)
			}
		}
	})
	mqtt5("MQTT-4.3.3-11", "", func(t *T) {
		c := t.Client()
		c.Publish("a", "x", 2)
		c.Send(&packets.Pubrel{PacketID: 999})
		if comp := brokertest.Expect[*packets.Pubcomp](c); comp.PacketID != 999 || comp.Reason != packets.PacketIdentifierNotFound {
			t.Fatalf("PUBCOMP for %d with %v", comp.PacketID, comp.Reason)
		}
	})
}

func retries() {
	timed5("MQTT-4.4.0-1", "not on a living connection", func(t *T) {
		sub, _ := first(t, 2)
		time.Sleep(1500 * time.Millisecond)
		sub.ExpectNothing()
	})
	mqtt5("MQTT-4.4.0-1", "after a reconnect", resendsWithIdentifiers)
	mqtt5("MQTT-4.4.0-2", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		sub, pub := t.Connect(p), t.Client()
		sub.Subscribe(2, topic)
		pub.Publish(topic, "1", 1)
		sub.Send(&packets.Puback{PacketID: sub.ExpectPublish(topic, "1").PacketID, Reason: packets.QuotaExceeded})
		pub.Publish(topic, "2", 2)
		sub.Send(&packets.Pubrec{PacketID: sub.ExpectPublish(topic, "2").PacketID, Reason: packets.QuotaExceeded})
		sub.ExpectNothing()
		sub.Conn.Close()
		t.Connect(p).ExpectNothing()
	})
	mqtt5("MQTT-4.5.0-1", "", addsToEverySession)
}

// resendsWithIdentifiers: what was not acknowledged comes again with the same
// identifiers.
func resendsWithIdentifiers(t *T) {
	topic, p := t.Unique("t"), t.durable(t.Unique("c"))
	sub, pub := t.Connect(p), t.Client()
	sub.Subscribe(2, topic)
	sent := map[string]uint16{}
	for i := range 4 {
		pub.Publish(topic, fmt.Sprint(i), packets.QoS(1+i%2))
		sent[fmt.Sprint(i)] = sub.ExpectPublish(topic, fmt.Sprint(i)).PacketID
	}
	sub.Conn.Close()
	sub = t.Connect(p)
	for range sent {
		if got := brokertest.Expect[*packets.Publish](sub); got.PacketID != sent[string(got.Payload)] {
			t.Fatalf("message %s: identifier %d; want %d", got.Payload, got.PacketID, sent[string(got.Payload)])
		}
	}
	sub.ExpectNothing()
}

// addsToEverySession: a message comes to each client with a subscription, whether
// it is connected or not.
func addsToEverySession(t *T) {
	topic, p := t.Unique("t"), t.durable(t.Unique("c"))
	online, offline := t.Client(), t.Connect(p)
	online.Subscribe(1, topic)
	offline.Subscribe(1, topic)
	leave(offline, packets.Success)
	t.Client().Publish(topic, "x", 1)
	online.ExpectPublish(topic, "x")
	t.Connect(p).ExpectPublish(topic, "x")
}

func orders() {
	mqtt5("MQTT-4.6.0-1", "", resendsInOrder)
	mqtt5("MQTT-4.6.0-5", "", inOrder)
	mqtt5("MQTT-4.6.0-6", "", everyTopicInOrder)
}

// resendsInOrder: what was not acknowledged comes again in the order in which it
// came first.
func resendsInOrder(t *T) {
	topic, p := t.Unique("t"), t.durable(t.Unique("c"))
	sub, pub := t.Connect(p), t.Client()
	sub.Subscribe(2, topic)
	for i := range 6 {
		pub.Publish(topic, fmt.Sprint(i), packets.QoS(1+i%2))
		sub.ExpectPublish(topic, fmt.Sprint(i))
	}
	sub.Conn.Close()
	sub = t.Connect(p)
	for i := range 6 {
		sub.ExpectPublish(topic, fmt.Sprint(i))
	}
}

// inOrder: messages of one client on one topic with one QoS keep their order.
func inOrder(t *T) {
	topic := t.Unique("t")
	sub, pub := t.Client(), t.Client()
	sub.Subscribe(2, topic)
	for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
		for i := range 10 {
			pub.Publish(topic, fmt.Sprint(qos, i), qos)
		}
		var got []*packets.Publish
		for i := range 10 {
			got = append(got, sub.ExpectPublish(topic, fmt.Sprint(qos, i)))
		}
		for _, p := range got {
			sub.Accept(p)
		}
	}
}

// everyTopicInOrder: so does each of several topics.
func everyTopicInOrder(t *T) {
	root := t.Unique("t")
	topics := brokertest.Topics(root, 3)
	sub, pub := t.Client(), t.Client()
	sub.Subscribe(1, root+"/#")
	for i := range 10 {
		for _, topic := range topics {
			pub.Publish(topic, fmt.Sprint(i), 1)
		}
	}
	got := map[string][]string{}
	for range 10 * len(topics) {
		p := brokertest.Expect[*packets.Publish](sub)
		got[string(p.Topic)] = append(got[string(p.Topic)], string(p.Payload))
		sub.Accept(p)
	}
	for _, topic := range topics {
		if !slices.IsSorted(got[topic]) || len(got[topic]) != 10 {
			t.Fatalf("on %s: %v", topic, got[topic])
		}
	}
}

func topicRules() {
	for _, topic := range []string{"a/+", "#"} {
		mqtt5("MQTT-4.7.0-1", topic, func(t *T) {
			c := t.Client()
			sendText(t, c, &packets.Publish{Topic: []byte(standIn(topic))}, topic)
			t.Refused(c, packets.TopicNameInvalid, packets.ProtocolError, packets.MalformedPacket)
		})
	}
	invalid := func(id string, filters ...string) {
		for _, filter := range filters {
			mqtt5(id, strings.ReplaceAll(filter, "/", "|"), func(t *T) {
				c := t.Client()
				c.Send(&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription(filter, 0))})
				switch p, ok := c.Next(); {
				case !ok:
					t.Saw("a plain close")
				case p.Type() == packets.TypeSuback:
					if codes := p.(*packets.Suback).Reasons; !slices.Equal(codes, []packets.ReasonCode{packets.TopicFilterInvalid}) {
						t.Fatalf("SUBACK with %v", codes)
					}
					t.Saw("SUBACK 0x8F")
				case p.Type() == packets.TypeDisconnect:
					code := p.(*packets.Disconnect).Reason
					if !slices.Contains(append(malformed, packets.TopicFilterInvalid), code) {
						t.Fatalf("DISCONNECT with %v", code)
					}
					t.Saw("DISCONNECT 0x%02X", byte(code))
				default:
					t.Fatalf("got %v", p.Type())
				}
			})
		}
	}
	invalid("MQTT-4.7.1-1", "a#", "#/a", "a/#/b", "##", "a/b#")
	invalid("MQTT-4.7.1-2", "a+", "+a", "a/+b/c", "++")
	invalid("MQTT-4.7.3-1", "")
	invalid("MQTT-4.8.2-1", "$share", "$share/", "$share/g", "$share//a")
	invalid("MQTT-4.8.2-2", "$share/a+b/c", "$share/#/c", "$share/g/")
	mqtt5("MQTT-4.7.2-1", "", func(t *T) {
		c := t.Client()
		among(t, c, "#", "+/x", "$share/"+t.Unique("g")+"/#")
		expectNotReserved(t, c)
	})
	refusesBytes("MQTT-4.7.3-1", "topic name", []byte{0x30, 3, 0, 0, 0}, packets.ProtocolError, packets.TopicNameInvalid, packets.MalformedPacket)
	mqtt5("MQTT-4.7.3-2", "", func(t *T) {
		c := t.Client()
		sendText(t, c, &packets.Publish{Topic: []byte(standIn("a\x00"))}, "a\x00")
		t.Refused(c, malformed...)
	})
	mqtt5("MQTT-4.7.3-4", "", func(t *T) {
		root := t.Unique("t")
		sub, pub := t.Client(), t.Client()
		sub.Subscribe(0, root+"/\u00E9")
		for i, topic := range []string{"/e\u0301", "/\u00C9", "/e", "/\u00E9/", "//\u00E9", "/\u00E9"} {
			pub.Publish(root+topic, fmt.Sprint(i), 1)
		}
		sub.ExpectPublish(root+"/\u00E9", "5")
		sub.ExpectNothing()
	})
}

// expectNotReserved publishes on a topic that begins with $, which a client with
// wildcards must not get. It may get messages of others.
func expectNotReserved(t *T, c *brokertest.Client) {
	t.Helper()
	watch, topic := t.Client(), "$"+t.Unique("t")+"/x"
	watch.Subscribe(0, topic)
	watch.Send(&packets.Publish{Topic: []byte(topic), Payload: []byte("x")})
	watch.ExpectPublish(topic, "x")
	for _, p := range until(c) {
		if strings.HasPrefix(string(p.Topic), "$") {
			t.Fatalf("got a message on %q", p.Topic)
		}
	}
}

func sharing() {
	mqtt5("MQTT-4.8.2-3", "", func(t *T) {
		topic := t.Unique("t")
		low, high := t.Client(), t.Client()
		low.Subscribe(0, "$share/g/"+topic)
		high.Subscribe(2, "$share/g/"+topic)
		pub := t.Client()
		for range 10 {
			pub.Publish(topic, "x", 2)
		}
		total := 0
		for c, most := range map[*brokertest.Client]packets.QoS{low: 0, high: 2} {
			c.Send(&packets.Pingreq{})
			for {
				p, ok := c.Receive().(*packets.Publish)
				if !ok {
					break
				}
				if total++; p.QoS > most {
					t.Fatalf("%v; granted %v", p.QoS, most)
				}
			}
		}
		if total != 10 {
			t.Fatalf("%d deliveries of 10 messages", total)
		}
	})
	// cutOff has a member of a group lose its connection with a QoS 2 message in flight.
	cutOff := func(t *T, expiry uint32) (p packets.Connect, topic string, other *brokertest.Client) {
		t.Helper()
		topic, p = t.Unique("t"), t.durable(t.Unique("c"))
		p.SessionExpiryInterval = expiry
		chosen := t.Connect(p)
		chosen.Subscribe(2, "$share/g/"+topic)
		t.Client().Publish(topic, "x", 2)
		chosen.ExpectPublish(topic, "x")
		other = t.Client()
		other.Subscribe(2, "$share/g/"+topic)
		chosen.Conn.Close()
		return p, topic, other
	}
	mqtt5("MQTT-4.8.2-4", "", func(t *T) {
		p, topic, other := cutOff(t, 3600)
		chosen := t.Connect(p)
		chosen.Accept(chosen.ExpectPublish(topic, "x"))
		other.ExpectNothing()
	})
	timed5("MQTT-4.8.2-5", "", func(t *T) {
		_, _, other := cutOff(t, 1)
		time.Sleep(2500 * time.Millisecond)
		other.ExpectNothing()
	})
	mqtt5("MQTT-4.8.2-6", "", func(t *T) {
		topic := t.Unique("t")
		chosen, pub := t.Client(), t.Client()
		chosen.Subscribe(2, "$share/g/"+topic)
		pub.Publish(topic, "1", 1)
		pub.Publish(topic, "2", 2)
		one, two := chosen.ExpectPublish(topic, "1"), chosen.ExpectPublish(topic, "2")
		other := t.Client()
		other.Subscribe(2, "$share/g/"+topic)
		chosen.Send(&packets.Puback{PacketID: one.PacketID, Reason: packets.QuotaExceeded},
			&packets.Pubrec{PacketID: two.PacketID, Reason: packets.QuotaExceeded})
		chosen.ExpectNothing()
		chosen.Conn.Close()
		other.ExpectNothing()
	})
}
