package conformance_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Statements of sections 3.4 to 3.14: acknowledgements, SUBSCRIBE, UNSUBSCRIBE,
// PINGREQ and DISCONNECT.

// refusesBytes sends bytes on a connection that stands, and wants it closed.
func refusesBytes(id, name string, b []byte, codes ...packets.ReasonCode) {
	mqtt5(id, name, func(t *T) {
		c := t.Client()
		c.SendRaw(b)
		t.Refused(c, codes...)
	})
}

func init() {
	acknowledgements()
	subscribes()
	unsubscribes()
	disconnects()
	mqtt5("MQTT-3.12.4-1", "", func(t *T) {
		c := t.Client()
		c.Send(&packets.Pingreq{}, &packets.Pingreq{}, &packets.Pingreq{})
		for range 3 {
			brokertest.Expect[*packets.Pingresp](c)
		}
	})
	for name, b := range map[string][]byte{
		"PINGREQ":     {0xC1, 0},
		"PUBACK":      {0x41, 2, 0, 1},
		"PUBREL":      {0x60, 2, 0, 1},
		"SUBSCRIBE":   {0x80, 7, 0, 1, 0, 0, 1, 'a', 0},
		"UNSUBSCRIBE": {0xA0, 6, 0, 1, 0, 0, 1, 'a'},
	} {
		refusesBytes("MQTT-2.1.3-1", name, b, malformed...)
	}
	mqtt5("MQTT-2.1.3-1", "DISCONNECT", func(t *T) { badDisconnect(t, 0xE1, 0) })
}

func acknowledgements() {
	refusesBytes("MQTT-3.6.1-1", "flags 0000", []byte{0x60, 2, 0, 1}, malformed...)
	refusesBytes("MQTT-3.6.1-1", "flags 1010", []byte{0x6A, 2, 0, 1}, malformed...)
	// The decoder of the client holds codes that the server sends against the
	// table of the standard; these provoke the different ones.
	mqtt5("MQTT-3.4.2-1", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{talkative{}}})
		if code := t.Client().PublishWith(packets.Publish{Topic: []byte("a"), QoS: 1}); code != packets.NotAuthorized {
			t.Fatalf("PUBACK with %v", code)
		}
	})
	mqtt5("MQTT-3.5.2-1", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{talkative{}}})
		if code := t.Client().PublishWith(packets.Publish{Topic: []byte("a"), QoS: 2}); code != packets.NotAuthorized {
			t.Fatalf("PUBREC with %v", code)
		}
	})
	mqtt5("MQTT-3.6.2-1", "", func(t *T) {
		c := t.Client()
		c.Send(&packets.Pubrec{PacketID: 99})
		if rel := brokertest.Expect[*packets.Pubrel](c); rel.Reason != packets.PacketIdentifierNotFound && rel.Reason != packets.Success {
			t.Fatalf("PUBREL with %v", rel.Reason)
		}
	})
	mqtt5("MQTT-3.7.2-1", "", func(t *T) {
		c := t.Client()
		c.Send(&packets.Pubrel{PacketID: 99})
		if comp := brokertest.Expect[*packets.Pubcomp](c); comp.Reason != packets.PacketIdentifierNotFound && comp.Reason != packets.Success {
			t.Fatalf("PUBCOMP with %v", comp.Reason)
		}
	})
	for qos, ids := range map[packets.QoS][2]string{1: {"MQTT-3.4.2-2", "MQTT-3.4.2-3"}, 2: {"MQTT-3.5.2-2", "MQTT-3.5.2-3"}} {
		leavesOut(ids, 16, func(t *T, most uint32) packets.Packet {
			t.With(petrel.Options{Hooks: []petrel.Hook{talkative{}}})
			c := t.limited(most)
			c.Send(&packets.Publish{Topic: []byte("a"), QoS: qos, PacketID: 1})
			return c.Receive()
		})
	}
	leavesOut([2]string{"MQTT-3.6.2-2", "MQTT-3.6.2-3"}, 16, func(t *T, most uint32) packets.Packet {
		c := t.limited(most)
		c.Send(&packets.Pubrec{PacketID: 9})
		return c.Receive()
	})
	leavesOut([2]string{"MQTT-3.7.2-2", "MQTT-3.7.2-3"}, 16, func(t *T, most uint32) packets.Packet {
		c := t.limited(most)
		c.Send(&packets.Pubrel{PacketID: 9})
		return c.Receive()
	})
}

// limited is a client that takes small packets only.
func (t *T) limited(most uint32) *brokertest.Client {
	t.Helper()
	p := t.CONNECT()
	p.MaximumPacketSize = most
	return t.Connect(p)
}

// leavesOut adds the tests of two statements, that a packet has no Reason String
// and no User Properties that make it longer than the client takes.
func leavesOut(ids [2]string, most uint32, receive func(t *T, most uint32) packets.Packet) {
	for i, property := range []byte{0x1F, 0x26} {
		mqtt5(ids[i], "", func(t *T) {
			p := receive(t, most)
			if b := raw(t, p); len(b) > int(most) && hasProperty(b, property) {
				t.Fatalf("%v of %d bytes", p.Type(), len(b))
			}
		})
	}
}

// hasProperty reports whether an acknowledgement, AUTH or DISCONNECT has a
// property, which is one with a text or two as its value.
func hasProperty(b []byte, property byte) bool {
	switch packets.Type(b[0] >> 4) {
	case packets.TypeSuback, packets.TypeUnsuback:
		b = b[4:]
	case packets.TypeAuth, packets.TypeDisconnect:
		b = b[3:]
	default:
		b = b[5:]
	}
	for rest := b[1 : 1+int(b[0])]; len(rest) > 0; {
		id, texts := rest[0], 1
		rest = rest[1:]
		if id == property {
			return true
		}
		if id == 0x26 {
			texts = 2
		}
		for range texts {
			rest = rest[2+int(rest[0])<<8+int(rest[1]):]
		}
	}
	return false
}

func subscribes() {
	refusesBytes("MQTT-3.8.1-1", "", []byte{0x80, 7, 0, 1, 0, 0, 1, 'a', 0}, malformed...)
	refusesBytes("MQTT-3.8.3-1", "", []byte{0x82, 8, 0, 1, 0, 0, 2, 'a', 0xFF, 0}, packets.MalformedPacket)
	refusesBytes("MQTT-3.8.3-2", "", []byte{0x82, 3, 0, 1, 0}, malformed...)
	refusesBytes("MQTT-3.8.3-4", "", append([]byte{0x82, 16, 0, 1, 0, 0, 10}, "$share/g/a\x04"...), packets.ProtocolError)
	for _, options := range []byte{0x40, 0x80, 0xC0} {
		refusesBytes("MQTT-3.8.3-5", "", []byte{0x82, 7, 0, 1, 0, 0, 1, 'a', options}, malformed...)
	}
	mqtt5("MQTT-3.8.3-3", "", func(t *T) {
		topic := t.Unique("t")
		c, other := t.Client(), t.Client()
		s := subscription(topic, 0)
		s.NoLocal = true
		subscribe(t, c, 0, s)
		c.Publish(topic, "own", 1)
		other.Publish(topic, "of another", 1)
		c.ExpectPublish(topic, "of another")
		c.ExpectNothing()
	})
	mqtt5("MQTT-3.8.4-1", "", answersSubscribe)
	mqtt5("MQTT-3.8.4-2", "", func(t *T) {
		c := t.Client()
		for _, id := range []uint16{1, 300, 65535} {
			c.SubscribeWith(packets.Subscribe{PacketID: id, Subscriptions: packets.Subscriptions(nil).Append(subscription(t.Unique("t"), 0))})
		}
	})
	mqtt5("MQTT-3.8.4-3", "", func(t *T) {
		topic := t.Unique("t")
		c, pub := t.Client(), t.Client()
		subscribe(t, c, 1, subscription(topic, 0))
		subscribe(t, c, 2, subscription(topic, 1))
		pub.Publish(topic, "x", 1)
		if got := c.ExpectPublish(topic, "x"); got.QoS != 1 || !slices.Equal(got.SubscriptionIDs, []uint32{2}) {
			t.Fatalf("%v with identifiers %v", got.QoS, got.SubscriptionIDs)
		}
		subscribe(t, c, 0, subscription(topic, 0))
		pub.Publish(topic, "y", 1)
		if got := c.ExpectPublish(topic, "y"); got.QoS != 0 || len(got.SubscriptionIDs) != 0 {
			t.Fatalf("%v with identifiers %v", got.QoS, got.SubscriptionIDs)
		}
		c.ExpectNothing()
	})
	mqtt5("MQTT-3.8.4-4", "", func(t *T) {
		topic := t.Unique("t")
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: 1})
		c := t.Client()
		for range 3 {
			subscribe(t, c, 0, subscription(topic, 0))
			c.ExpectPublish(topic, "kept")
		}
		t.Client().Publish(topic, "live", 1)
		c.ExpectPublish(topic, "live")
		c.ExpectNothing()
	})
	mqtt5("MQTT-3.8.4-5", "", inSequence)
	mqtt5("MQTT-3.8.4-6", "", oneCodeForEach)
	mqtt5("MQTT-3.8.4-7", "", func(t *T) {
		for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
			t.Client().Subscribe(qos, t.Unique("t"))
		}
	})
	mqtt5("MQTT-3.9.3-1", "", codesInOrder)
	mqtt5("MQTT-3.9.3-2", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{noSubscriptions{}}, MaximumFilters: 1})
		s := subscription("a", 0)
		codes := t.Client().SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions(nil).Append(s).Append(s)})
		if want := []packets.ReasonCode{packets.NotAuthorized, packets.QuotaExceeded}; !slices.Equal(codes, want) {
			t.Fatalf("SUBACK with %v; want %v", codes, want)
		}
	})
	mqtt5("MQTT-3.8.4-8", "", func(t *T) {
		for granted := packets.AtMostOnce; granted <= packets.ExactlyOnce; granted++ {
			topic := t.Unique("t")
			c, pub := t.Client(), t.Client()
			c.Subscribe(granted, topic)
			for published := packets.AtMostOnce; published <= packets.ExactlyOnce; published++ {
				pub.Publish(topic, "x", published)
				got := c.ExpectPublish(topic, "x")
				if got.QoS != min(granted, published) {
					t.Fatalf("published with %v, granted %v: got %v", published, granted, got.QoS)
				}
				c.Accept(got)
			}
		}
	})
	leavesOut([2]string{"MQTT-3.9.2-1", "MQTT-3.9.2-2"}, 16, func(t *T, most uint32) packets.Packet {
		c := t.limited(most)
		c.Send(&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription(t.Unique("t"), 0))})
		return brokertest.Expect[*packets.Suback](c)
	})
}

// noSubscriptions refuses every SUBSCRIBE.
type noSubscriptions struct{}

func (noSubscriptions) Authorize(_ context.Context, r *petrel.AccessRequest) error {
	if r.Action == petrel.Subscribe {
		return packets.NotAuthorized
	}
	return nil
}

// What follows are statements that both versions have.

// answersSubscribe: each SUBSCRIBE gets a SUBACK.
func answersSubscribe(t *T) {
	c := t.Client()
	for range 5 {
		c.Send(&packets.Subscribe{PacketID: c.ID(), Subscriptions: packets.Subscriptions(nil).Append(subscription(t.Unique("t"), 0))})
		brokertest.Expect[*packets.Suback](c)
	}
}

// inSequence: several filters in one SUBSCRIBE count one after the other.
func inSequence(t *T) {
	topic := t.Unique("t")
	c := t.Client()
	codes := c.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions(nil).
		Append(subscription(topic, 2)).Append(subscription("nothing", 0)).Append(subscription(topic, 1))})
	if len(codes) == 0 || codes[len(codes)-1] != packets.GrantedQoS1 {
		t.Fatalf("SUBACK with %v", codes)
	}
	c.ExpectNothing() // no second SUBACK
	t.Client().Publish(topic, "x", 2)
	if got := c.ExpectPublish(topic, "x"); got.QoS != 1 {
		t.Fatalf("%v; want that of the last", got.QoS)
	}
	c.ExpectNothing()
}

// oneCodeForEach: SUBACK has as many codes as SUBSCRIBE has filters.
func oneCodeForEach(t *T) {
	c := t.Client()
	var subs packets.Subscriptions
	for n := 1; n < 5; n++ {
		subs = subs.Append(subscription(t.Unique("t"), 0))
		if codes := c.SubscribeWith(packets.Subscribe{Subscriptions: subs}); len(codes) != n {
			t.Fatalf("SUBACK with %v for %d filters", codes, n)
		}
	}
}

// codesInOrder: the codes of SUBACK come in the order of the filters.
func codesInOrder(t *T) {
	root := t.Unique("t")
	var subs packets.Subscriptions
	var want []packets.ReasonCode
	for i, qos := range []packets.QoS{2, 1, 0, 1} {
		subs = subs.Append(subscription(fmt.Sprint(root, "/", i), qos))
		want = append(want, packets.ReasonCode(qos))
	}
	if codes := t.Client().SubscribeWith(packets.Subscribe{Subscriptions: subs}); !slices.Equal(codes, want) {
		t.Fatalf("SUBACK with %v; want %v", codes, want)
	}
}

// unsubscribe sends an UNSUBSCRIBE and returns its answer.
func unsubscribe(c *brokertest.Client, filters ...string) *packets.Unsuback {
	p := packets.Unsubscribe{PacketID: c.ID()}
	for _, f := range filters {
		p.Filters = p.Filters.Append(f)
	}
	c.Send(&p)
	return brokertest.Expect[*packets.Unsuback](c)
}

// comparesFilters: UNSUBSCRIBE ends the subscription with the same filter, and
// none that it would match.
func comparesFilters(t *T) {
	root := t.Unique("t")
	c, pub := t.Client(), t.Client()
	c.Subscribe(0, root+"/a")
	unsubscribe(c, root+"/+", root+"/#", root+"/A", root)
	pub.Publish(root+"/a", "x", 1)
	c.ExpectPublish(root+"/a", "x")
	unsubscribe(c, root+"/a")
	pub.Publish(root+"/a", "y", 1)
	c.ExpectNothing()
}

// addsNothing: what is published after UNSUBSCRIBE does not come.
func addsNothing(t *T) {
	topic := t.Unique("t")
	c, pub := t.Client(), t.Client()
	c.Subscribe(2, topic)
	unsubscribe(c, topic)
	for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
		pub.Publish(topic, "x", qos)
	}
	c.ExpectNothing()
}

// unsubscribesAll: several filters in one UNSUBSCRIBE count one after the other,
// and get one UNSUBACK.
func unsubscribesAll(t *T) {
	root := t.Unique("t")
	c := t.Client()
	c.Subscribe(0, root+"/+", root+"/#", root+"/a")
	unsubscribe(c, root+"/+", root+"/a", root+"/#")
	c.ExpectNothing()
	t.Client().Publish(root+"/a", "x", 1)
	c.ExpectNothing()
}

// answersUnsubscribe: each UNSUBSCRIBE gets an UNSUBACK, also if it ends nothing.
func answersUnsubscribe(t *T) {
	topic := t.Unique("t")
	c := t.Client()
	c.Subscribe(0, topic)
	for range 5 {
		unsubscribe(c, topic)
	}
}

func unsubscribes() {
	refusesBytes("MQTT-3.10.1-1", "", []byte{0xA0, 6, 0, 1, 0, 0, 1, 'a'}, malformed...)
	refusesBytes("MQTT-3.10.3-1", "", []byte{0xA2, 7, 0, 1, 0, 0, 2, 'a', 0xFF}, packets.MalformedPacket)
	refusesBytes("MQTT-3.10.3-2", "", []byte{0xA2, 3, 0, 1, 0}, malformed...)
	mqtt5("MQTT-3.10.4-1", "", comparesFilters)
	mqtt5("MQTT-3.10.4-2", "", addsNothing)
	mqtt5("MQTT-3.10.4-4", "", answersUnsubscribe)
	mqtt5("MQTT-3.10.4-5", "", func(t *T) {
		c := t.Client()
		for _, id := range []uint16{1, 300, 65535} {
			c.Send(&packets.Unsubscribe{PacketID: id, Filters: packets.Filters(nil).Append(t.Unique("t"))})
			ack := brokertest.Expect[*packets.Unsuback](c)
			if ack.PacketID != id || !slices.Equal(ack.Reasons, []packets.ReasonCode{packets.NoSubscriptionExisted}) {
				t.Fatalf("UNSUBACK for %d with %v; want %d", ack.PacketID, ack.Reasons, id)
			}
		}
	})
	mqtt5("MQTT-3.10.4-6", "", unsubscribesAll)
	mqtt5("MQTT-3.11.3-1", "", func(t *T) {
		root := t.Unique("t")
		c := t.Client()
		c.Subscribe(0, root+"/a", root+"/b")
		codes := unsubscribe(c, root+"/none", root+"/a", root+"/a", root+"/b").Reasons
		if want := []packets.ReasonCode{packets.NoSubscriptionExisted, 0, packets.NoSubscriptionExisted, 0}; !slices.Equal(codes, want) {
			t.Fatalf("UNSUBACK with %v; want %v", codes, want)
		}
	})
	mqtt5("MQTT-3.11.3-2", "", func(t *T) {
		topic := t.Unique("t")
		c := t.Client()
		c.Subscribe(0, topic)
		for n, filters := range [][]string{{topic, topic, topic}, {topic, topic}, {topic}} { // the client checks the codes
			if codes := unsubscribe(c, filters...).Reasons; len(codes) != 3-n {
				t.Fatalf("UNSUBACK with %v for %d filters", codes, len(filters))
			}
		}
	})
	mqtt5("MQTT-3.10.4-3", "", func(t *T) {
		topic := t.Unique("t")
		c := t.Client()
		c.Subscribe(2, topic)
		pub := t.Client()
		pub.Publish(topic, "1", 1)
		pub.Publish(topic, "2", 2)
		one, two := c.ExpectPublish(topic, "1"), c.ExpectPublish(topic, "2")
		c.Unsubscribe(topic)
		c.Accept(one)
		c.Accept(two) // with PUBREL
		c.ExpectNothing()
	})
	leavesOut([2]string{"MQTT-3.11.2-1", "MQTT-3.11.2-2"}, 16, func(t *T, most uint32) packets.Packet {
		return unsubscribe(t.limited(most), "nothing")
	})
}

// badDisconnect sends a DISCONNECT that is none, so that the will is published.
func badDisconnect(t *T, b ...byte) {
	expectWill(t, packets.Will{}, func(c *brokertest.Client) {
		c.SendRaw(b)
		t.Refused(c, malformed...)
	})
}

func disconnects() {
	mqtt5("MQTT-3.14.0-1", "", func(t *T) {
		for _, b := range [][]byte{
			connectBytes("MQTT", 5, 3, 60, body5(t)), connectBytes("MQTT", 9, 2, 60, body5(t)), {0xC0, 0}, {0xE0, 0}, {0x00, 0x00},
			connectBytes("MQTT", 5, 2, 60, append([]byte{3, 0x21, 0, 0}, text("c")...)),
		} {
			conn := t.dialConn()
			if err := conn.SetDeadline(time.Now().Add(*patienceFlag)); err != nil {
				t.Fatal(err)
			}
			write(t, conn, b)
			first := make([]byte, 1) // of a packet in any version, or nothing
			if n, err := conn.Read(first); timedOut(err) || n > 0 && first[0]>>4 == byte(packets.TypeDisconnect) {
				t.Fatalf("got % x, %v in answer to % x; want a close, perhaps after a CONNACK", first[:n], err, b)
			}
		}
	})
	mqtt5("MQTT-3.14.1-1", "", func(t *T) { badDisconnect(t, 0xE1, 0) })
	mqtt5("MQTT-3.14.2-1", "", func(t *T) { badDisconnect(t, 0xE0, 1, 0x7F) })
	mqtt5("MQTT-3.14.2-2", "", func(t *T) {
		p := t.durable(t.Unique("c"))
		old := t.Connect(p)
		t.Connect(p)
		if got, ok := old.Next(); ok && got.(*packets.Disconnect).HasSessionExpiryInterval {
			t.Fatal("Session Expiry Interval from the server")
		}
	})
	leavesOut([2]string{"MQTT-3.14.2-3", "MQTT-3.14.2-4"}, 16, func(t *T, most uint32) packets.Packet {
		t.With(petrel.Options{})
		p := t.CONNECT()
		p.MaximumPacketSize = most
		c := t.Connect(p)
		reason := &petrel.Refusal{
			Code: packets.AdministrativeAction, ReasonString: strings.Repeat("r", 50), UserProperties: []petrel.UserProperty{{Name: "name", Value: "value"}},
		}
		if err := t.broker.Disconnect(string(p.ClientID), reason); err != nil {
			t.Fatal(err)
		}
		return brokertest.Expect[*packets.Disconnect](c)
	})
	mqtt5("MQTT-3.14.4-1", "", func(t *T) {
		topic := t.Unique("t")
		watch, c := t.Client(), t.Client()
		watch.Subscribe(0, topic)
		c.Send(&packets.Disconnect{}, &packets.Publish{Topic: []byte(topic)}) // what comes behind it counts for nothing
		c.ExpectClosed()
		watch.ExpectNothing()
	})
	mqtt5("MQTT-3.14.4-2", "", func(t *T) {
		p := t.CONNECT()
		old := t.Connect(p)
		t.Connect(p)
		t.Refused(old, packets.SessionTakenOver) // which ends with a close
	})
	mqtt5("MQTT-3.14.4-3", "reason 0x00", func(t *T) { expectNoWill(t, func(c *brokertest.Client) { leave(c, packets.Success) }) })
	for _, code := range []packets.ReasonCode{packets.DisconnectWithWill, packets.UnspecifiedError, packets.AdministrativeAction} {
		mqtt5("MQTT-3.14.4-3", "reason "+code.String(), func(t *T) {
			expectWill(t, packets.Will{}, func(c *brokertest.Client) { leave(c, code) })
		})
	}
}
