package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Statements of MQTT 3.1.1, as far as they are not in the file of their subject.
// There are no error packets: a client that breaks a rule is disconnected.

// closes311 sends bytes on a connection that stands, and wants it closed.
func closes311(id, name string, b ...byte) {
	mqtt311(id, name, func(t *T) {
		c := t.Client()
		c.SendRaw(b)
		c.ExpectClosed()
	})
}

// rejects311 sends a CONNECT and wants the connection closed, without CONNACK.
func rejects311(id, name string, flags byte, rest ...[]byte) {
	mqtt311(id, name, func(t *T) {
		c := t.Dial()
		c.SendRaw(connectBytes("MQTT", 4, flags, 60, slices.Concat(rest...)))
		c.ExpectClosed()
	})
}

// each adds the same test to several statements.
func each(run func(t *T), ids ...string) {
	for _, id := range ids {
		mqtt311(id, "", run)
	}
}

// session311 is a CONNECT with CleanSession 0.
func (t *T) session311(id string) packets.Connect {
	p := t.CONNECT()
	p.ClientID, p.CleanStart = []byte(id), false
	return p
}

func init() {
	packets311()
	connect311()
	session311()
	publish311()
	subscribe311()
	flows311()
}

func packets311() {
	for _, id := range []string{"MQTT-2.2.2-1", "MQTT-2.2.2-2", "MQTT-4.8.0-1"} {
		closes311(id, "PINGREQ", 0xC1, 0)
		closes311(id, "PUBACK", 0x41, 2, 0, 1)
		closes311(id, "CONNACK", 0x20, 2, 0, 0)
		closes311(id, "type 0", 0x00, 0)
		closes311(id, "type 15", 0xF0, 0)
	}
	closes311("MQTT-3.6.1-1", "", 0x60, 2, 0, 1)
	closes311("MQTT-3.8.1-1", "", 0x80, 6, 0, 1, 0, 1, 'a', 0)
	closes311("MQTT-3.10.1-1", "", 0xA0, 5, 0, 1, 0, 1, 'a')
	closes311("MQTT-2.3.1-1", "PUBLISH", 0x32, 6, 0, 1, 'a', 0, 0, 'x')
	closes311("MQTT-2.3.1-1", "SUBSCRIBE", 0x82, 6, 0, 0, 0, 1, 'a', 0)
	closes311("MQTT-2.3.1-1", "UNSUBSCRIBE", 0xA2, 5, 0, 0, 0, 1, 'a')
	each(func(t *T) {
		sub, got := first(t, 1)
		if got[0].PacketID == 0 || got[0].PacketID == got[1].PacketID || got[0].Dup || got[0].QoS != 1 {
			t.Fatalf("identifiers %d and %d, %v, DUP %v", got[0].PacketID, got[1].PacketID, got[0].QoS, got[0].Dup)
		}
		sub.Accept(got[0])
	}, "MQTT-2.3.1-4", "MQTT-4.3.2-1")
	mqtt311("MQTT-2.3.1-5", "", func(t *T) {
		topic := t.Unique("t")
		sub, pub := t.Client(), t.Client()
		sub.Subscribe(0, topic)
		pub.SendRaw(append([]byte{0x30, byte(len(topic) + 4)}, append(text(topic), 'h', 'i')...))
		sub.ExpectPublish(topic, "hi")
	})
	mqtt311("MQTT-2.3.1-6", "", func(t *T) {
		c := t.Client()
		for _, id := range []uint16{1, 256, 65535} { // the client checks them
			c.PublishWith(packets.Publish{Topic: []byte("a"), QoS: 1, PacketID: id})
			c.PublishWith(packets.Publish{Topic: []byte("a"), QoS: 2, PacketID: id})
		}
	})
	mqtt311("MQTT-3.3.4-1", "", func(t *T) {
		c := t.Client()
		for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
			c.Publish("a", "x", qos)
		}
	})
	subscribesWith := func(t *T, ids ...uint16) {
		c := t.Client()
		for _, id := range ids { // the client checks them
			c.SubscribeWith(packets.Subscribe{PacketID: id, Subscriptions: packets.Subscriptions(nil).Append(subscription("a", 0))})
		}
	}
	unsubscribesWith := func(t *T, ids ...uint16) {
		c := t.Client()
		for _, id := range ids {
			c.Send(&packets.Unsubscribe{PacketID: id, Filters: packets.Filters(nil).Append("a")})
			if ack := brokertest.Expect[*packets.Unsuback](c); ack.PacketID != id {
				t.Fatalf("UNSUBACK for %d; want %d", ack.PacketID, id)
			}
		}
	}
	mqtt311("MQTT-2.3.1-7", "SUBACK", func(t *T) { subscribesWith(t, 1, 256, 65535) })
	mqtt311("MQTT-2.3.1-7", "UNSUBACK", func(t *T) { unsubscribesWith(t, 1, 256, 65535) })
	mqtt311("MQTT-3.8.4-1", "", answersSubscribe)
	mqtt311("MQTT-3.8.4-2", "", func(t *T) { subscribesWith(t, 2, 300, 65534) })
	mqtt311("MQTT-3.10.4-4", "", func(t *T) { unsubscribesWith(t, 2, 300, 65534) })
	mqtt311("MQTT-3.10.4-5", "", answersUnsubscribe)
	mqtt311("MQTT-3.12.4-1", "", func(t *T) { t.Client().ExpectNothing() })
}

func connect311() {
	id := text("c")
	mqtt311("MQTT-3.1.0-1", "", func(t *T) {
		for _, b := range [][]byte{{0xC0, 0}, {0x30, 3, 0, 1, 'a'}, {0x82, 6, 0, 1, 0, 1, 'a', 0}, {0xE0, 0}, {0x20, 2, 0, 0}} {
			c, p := t.Dial(), t.CONNECT()
			c.SendRaw(append(b, raw(t, &p)...)) // it is too late for that
			c.ExpectClosed()
		}
	})
	mqtt311("MQTT-3.1.0-2", "", func(t *T) {
		c, p := t.Client(), t.CONNECT()
		c.Send(&p)
		c.ExpectClosed()
	})
	mqtt311("MQTT-3.1.2-1", "", func(t *T) {
		c := t.Dial()
		c.SendRaw(connectBytes("MQTX", 4, 2, 60, id))
		c.ExpectClosed()
	})
	mqtt311("MQTT-3.1.2-2", "", func(t *T) {
		for _, level := range []byte{0, 1, 2} {
			conn := t.dialConn()
			if _, err := conn.Write(connectBytes("MQTT", level, 2, 60, id)); err != nil {
				t.Fatal(err)
			}
			if b := readPacket(t, conn); !slices.Equal(b, []byte{0x20, 2, 0, 1}) {
				t.Fatalf("level %d: CONNACK % x", level, b)
			}
			if n, err := conn.Read(make([]byte, 1)); err == nil {
				t.Fatalf("%d more bytes", n)
			}
		}
	})
	rejects311("MQTT-3.1.2-3", "", 3, id)
	rejects311("MQTT-3.1.4-1", "surplus bytes", 2, id, []byte{0})
	rejects311("MQTT-3.1.2-9", "no will at all", 6, id)
	rejects311("MQTT-3.1.2-9", "no will message", 6, id, text("w"))
	rejects311("MQTT-3.1.2-11", "", 2, id, text("w"), text("x"))
	for _, flags := range []byte{1 << 3, 2 << 3} {
		rejects311("MQTT-3.1.2-13", fmt.Sprint(flags), flags|2, id)
	}
	rejects311("MQTT-3.1.2-14", "", 3<<3|4|2, id, text("w"), text("x"))
	rejects311("MQTT-3.1.2-15", "", 1<<5|2, id)
	rejects311("MQTT-3.1.2-18", "", 2, id, text("user"))
	rejects311("MQTT-3.1.2-19", "", 0x82, id)
	rejects311("MQTT-3.1.2-20", "", 0x82, id, text("user"), text("password"))
	rejects311("MQTT-3.1.2-21", "", 0xC2, id, text("user"))
	rejects311("MQTT-3.1.2-22", "", 0x42, id, text("password"))
	rejects311("MQTT-3.1.3-3", "", 2)
	rejects311("MQTT-3.1.3-4", "", 2, text("a\xFF"))
	rejects311("MQTT-3.1.3-10", "", 6, id, text("a\xFF"), text("x"))
	rejects311("MQTT-3.1.3-11", "", 0x82, id, text("a\xFF"))
	mqtt311("MQTT-3.1.3-1", "", func(t *T) {
		topic := t.Unique("t")
		watch, c := t.Client(), t.Dial()
		watch.Subscribe(0, topic)
		c.SendRaw(connectBytes("MQTT", 4, 0xC6, 60, slices.Concat(text(t.Unique("c")), text(topic), text("will"), text("user"), text("password"))))
		if brokertest.Expect[*packets.Connack](c).Reason != packets.Success {
			t.Skip("the broker admits no unknown user")
		}
		c.Conn.Close()
		watch.ExpectPublish(topic, "will")
	})
	mqtt311("MQTT-3.1.3-5", "", func(t *T) {
		for _, id := range []string{"0", "ABCDEFGHIJKLMNOPQRSTUVW", "abcdefghijklmnopqrstuvw", "01234567890123456789XYZ"} {
			p := t.CONNECT()
			p.ClientID = []byte(id)
			leave(t.Connect(p), packets.Success)
		}
	})
	mqtt311("MQTT-3.1.3-6", "", func(t *T) {
		p := t.CONNECT()
		p.ClientID = nil
		one, two := t.Connect(p), t.Connect(p)
		one.ExpectNothing() // not displaced by two
		two.ExpectNothing()
	})
	each(func(t *T) {
		p := t.CONNECT()
		p.ClientID, p.CleanStart = nil, false
		c, ack := t.TryConnect(p)
		if ack.Reason != packets.ClientIdentifierNotValid { // return code 2
			t.Fatalf("CONNACK with %v", ack.Reason)
		}
		c.ExpectClosed()
	}, "MQTT-3.1.3-7", "MQTT-3.1.3-8")
	mqtt311("MQTT-3.1.3-9", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{refuser{packets.ClientIdentifierNotValid}}})
		c, ack := t.TryConnect(t.CONNECT())
		if ack.Reason != packets.ClientIdentifierNotValid {
			t.Fatalf("CONNACK with %v", ack.Reason)
		}
		c.ExpectClosed()
	})
	mqtt311("MQTT-3.2.2-4", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{refuser{packets.NotAuthorized}}})
		p := t.session311(t.Unique("c"))
		p.HasUserName, p.UserName = true, []byte("good")
		leave(t.Connect(p), packets.Success)
		p.UserName = []byte("bad") // now there is a session, but not for this one
		if _, ack := t.TryConnect(p); ack.Reason == packets.Success || ack.SessionPresent {
			t.Fatalf("CONNACK with %v, session present %v", ack.Reason, ack.SessionPresent)
		}
	})
	mqtt311("MQTT-3.2.2-5", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{refuser{packets.NotAuthorized}}})
		c, _ := t.TryConnect(t.CONNECT())
		c.ExpectClosed()
	})
	mqtt311("MQTT-3.1.4-4", "", func(t *T) { t.Client() })
	mqtt311("MQTT-3.2.0-1", "", func(t *T) {
		c, p := t.Dial(), t.CONNECT()
		c.Send(&p, &packets.Pingreq{})
		brokertest.Expect[*packets.Connack](c)
	})
	mqtt311("MQTT-3.2.2-1", "", func(t *T) {
		p := t.session311(t.Unique("c"))
		leave(t.Connect(p), 0)
		p.CleanStart = true
		if _, ack := t.TryConnect(p); ack.Reason != packets.Success || ack.SessionPresent {
			t.Fatalf("%v, session present %v", ack.Reason, ack.SessionPresent)
		}
	})
	mqtt311("MQTT-3.1.4-5", "", func(t *T) {
		topic := t.Unique("t")
		watch, c := t.Client(), t.Dial()
		watch.Subscribe(0, topic)
		p := t.CONNECT()
		p.ClientID, p.CleanStart = nil, false
		c.Send(&p, &packets.Publish{Topic: []byte(topic)})
		brokertest.Expect[*packets.Connack](c)
		c.ExpectClosed()
		watch.ExpectNothing()
	})
	mqtt311("MQTT-3.2.2-6", "", func(t *T) {
		c := t.Dial()
		c.SendRaw(connectBytes("MQTT", 4, 3, 60, id))
		c.ExpectClosed()
	})
}

func session311() {
	sessions311()
	mqtt311("MQTT-3.1.2-7", "", func(t *T) {
		topic := t.Unique("t")
		c := t.Client()
		c.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: 1, Retain: true})
		leave(c, 0)
		late := t.Client()
		late.Subscribe(0, topic)
		late.ExpectPublish(topic, "kept")
		late.Send(&packets.Publish{Topic: []byte(topic), Retain: true})
	})
	each(func(t *T) {
		watch := expectWill(t, packets.Will{}, func(c *brokertest.Client) { c.Conn.Close() })
		watch.ExpectNothing()
		expectWill(t, packets.Will{}, func(c *brokertest.Client) { c.SendRaw([]byte{0x00, 0}) })
	}, "MQTT-3.1.2-8", "MQTT-3.1.2-10")
	each(func(t *T) { expectNoWill(t, func(c *brokertest.Client) { leave(c, 0) }) }, "MQTT-3.14.4-3", "MQTT-3.1.2-12")
	mqtt311("MQTT-3.1.2-16", "", func(t *T) {
		topic := t.Unique("t")
		expectWill(t, packets.Will{Topic: []byte(topic)}, func(c *brokertest.Client) { c.Conn.Close() })
		late := t.Client()
		late.Subscribe(0, topic)
		late.ExpectNothing()
	})
	mqtt311("MQTT-3.1.2-17", "", func(t *T) {
		topic := t.Unique("t")
		expectWill(t, packets.Will{Topic: []byte(topic), Retain: true}, func(c *brokertest.Client) { c.Conn.Close() })
		late := t.Client()
		late.Subscribe(0, topic)
		if p := late.ExpectPublish(topic, "will"); !p.Retain {
			t.Fatal("RETAIN is 0")
		}
		late.Send(&packets.Publish{Topic: []byte(topic), Retain: true})
	})
	timed311("MQTT-3.1.2-24", "", func(t *T) {
		topic := t.Unique("t")
		watch, p := t.Client(), t.CONNECT()
		watch.Subscribe(0, topic)
		p.KeepAlive, p.HasWill, p.Will = 2, true, packets.Will{Topic: []byte(topic), Payload: []byte("will")}
		c := t.Connect(p)
		time.Sleep(1600 * time.Millisecond)
		c.ExpectNothing()
		time.Sleep(1600 * time.Millisecond)
		watch.ExpectNothing()
		c.ExpectClosed()
		watch.ExpectPublish(topic, "will")
	})
	mqtt311("MQTT-3.1.4-2", "", func(t *T) {
		topic := t.Unique("t")
		watch, p := t.Client(), t.CONNECT()
		watch.Subscribe(0, topic)
		p.HasWill, p.Will = true, packets.Will{Topic: []byte(topic), Payload: []byte("will")}
		old := t.Connect(p)
		p.HasWill = false
		t.Connect(p).ExpectNothing()
		old.ExpectClosed()
		watch.ExpectPublish(topic, "will")
	})
	mqtt311("MQTT-3.14.1-1", "", func(t *T) {
		expectWill(t, packets.Will{}, func(c *brokertest.Client) { c.SendRaw([]byte{0xE1, 0}) })
	})
	mqtt311("MQTT-3.14.4-2", "", func(t *T) {
		topic := t.Unique("t")
		watch, c := t.Client(), t.Client()
		watch.Subscribe(0, topic)
		c.Send(&packets.Disconnect{}, &packets.Publish{Topic: []byte(topic)})
		c.ExpectClosed()
		watch.ExpectNothing()
	})
	timed311("MQTT-4.1.0-2", "", func(t *T) {
		topic := t.Unique("t")
		c := t.Client()
		c.Subscribe(1, topic)
		time.Sleep(time.Second)
		t.Client().Publish(topic, "x", 1)
		c.ExpectPublish(topic, "x")
	})
}

// sessions311 are the statements about CleanSession.
func sessions311() {
	// connect wants a connection with a session that is there or is not.
	connect := func(t *T, id string, clean, present bool) *brokertest.Client {
		t.Helper()
		p := t.session311(id)
		p.CleanStart = clean
		c, ack := t.TryConnect(p)
		if ack.Reason != packets.Success || ack.SessionPresent != present {
			t.Fatalf("CONNACK with %v, session present %v; want %v", ack.Reason, ack.SessionPresent, present)
		}
		return c
	}
	mqtt311("MQTT-3.1.2-4", "", func(t *T) {
		id, topic := t.Unique("c"), t.Unique("t")
		c := t.Connect(t.session311(id))
		c.Subscribe(0, topic)
		leave(c, 0)
		c = t.Connect(t.session311(id))
		t.Client().Publish(topic, "still subscribed", 1)
		c.ExpectPublish(topic, "still subscribed")
	})
	stores := func(t *T, qos packets.QoS) {
		id, topic := t.Unique("c"), t.Unique("t")
		c := t.Connect(t.session311(id))
		c.Subscribe(qos, topic)
		leave(c, 0)
		t.Client().Publish(topic, "queued", qos)
		c = t.Connect(t.session311(id))
		c.Accept(c.ExpectPublish(topic, "queued"))
	}
	mqtt311("MQTT-3.1.2-5", "QoS 1", func(t *T) { stores(t, 1) })
	mqtt311("MQTT-3.1.2-5", "QoS 2", func(t *T) { stores(t, 2) })
	mqtt311("MQTT-3.1.2-6", "", func(t *T) {
		id, topic := t.Unique("c"), t.Unique("t")
		c := t.Connect(t.session311(id))
		c.Subscribe(1, topic)
		leave(c, 0)
		c = connect(t, id, true, false)
		t.Client().Publish(topic, "x", 1)
		c.ExpectNothing()
		leave(c, 0)
		connect(t, id, false, false)
	})
	mqtt311("MQTT-3.1.3-2", "", findsSession)
	mqtt311("MQTT-3.1.4-3", "", func(t *T) {
		id := t.Unique("c")
		for _, step := range []struct{ clean, present bool }{{false, false}, {false, true}, {true, false}, {false, false}} {
			leave(connect(t, id, step.clean, step.present), 0)
		}
	})
	mqtt311("MQTT-3.2.2-2", "", func(t *T) {
		id := t.Unique("c")
		t.Connect(t.session311(id)).Conn.Close()
		for range 3 {
			leave(connect(t, id, false, true), 0)
		}
	})
	mqtt311("MQTT-3.2.2-3", "", func(t *T) { connect(t, t.Unique("c"), false, false) })
	mqtt311("MQTT-4.1.0-1", "", func(t *T) {
		topic, p := t.Unique("t"), t.session311(t.Unique("c"))
		sub := t.Connect(p)
		sub.Subscribe(2, topic)
		t.Client().Publish(topic, "x", 2)
		id := sub.ExpectPublish(topic, "x").PacketID
		for range 3 { // neither a close nor a DISCONNECT ends it
			leave(sub, 0)
			sub = t.Connect(p)
			if again := sub.ExpectPublish(topic, "x"); again.PacketID != id {
				t.Fatalf("identifier %d; want %d", again.PacketID, id)
			}
			sub.Conn.Close()
			sub = t.Connect(p)
			sub.ExpectPublish(topic, "x")
		}
	})
	mqtt311("MQTT-4.5.0-1", "", addsToEverySession)
}

func publish311() {
	each(func(t *T) {
		for qos := packets.AtLeastOnce; qos <= packets.ExactlyOnce; qos++ {
			topic, p := t.Unique("t"), t.session311(t.Unique("c"))
			sub := t.Connect(p)
			sub.Subscribe(2, topic)
			t.Client().Publish(topic, qos.String(), qos)
			if sub.ExpectPublish(topic, qos.String()).Dup {
				t.Fatal("DUP at the first time")
			}
			sub.Conn.Close()
			sub = t.Connect(p)
			got := sub.ExpectPublish(topic, qos.String())
			if !got.Dup {
				t.Fatal("no DUP at the second")
			}
			sub.Accept(got)
		}
	}, "MQTT-3.3.1-1")
	mqtt311("MQTT-4.4.0-1", "", resendsWithIdentifiers)
	mqtt311("MQTT-4.6.0-1", "", resendsInOrder)
	mqtt311("MQTT-3.3.1-2", "", func(t *T) {
		topic := t.Unique("t")
		sub := t.Client()
		sub.Subscribe(0, topic)
		t.Client().PublishWith(packets.Publish{Topic: []byte(topic), QoS: 1, Dup: true})
		if got := sub.ExpectPublish(topic, ""); got.Dup {
			t.Fatal("DUP with QoS 0")
		}
	})
	mqtt311("MQTT-3.3.1-3", "", func(t *T) {
		topic := t.Unique("t")
		sub := t.Client()
		sub.Subscribe(2, topic)
		pub := t.Client()
		for qos := packets.AtLeastOnce; qos <= packets.ExactlyOnce; qos++ {
			pub.PublishWith(packets.Publish{Topic: []byte(topic), QoS: qos, Dup: true})
			got := sub.ExpectPublish(topic, "")
			if got.Dup {
				t.Fatal("DUP was passed on")
			}
			sub.Accept(got)
		}
	})
	closes311("MQTT-3.3.1-2", "from a client", 0x38, 3, 0, 1, 'a')
	closes311("MQTT-3.3.1-4", "", 0x36, 5, 0, 1, 'a', 0, 1)
	retained311()
	closes311("MQTT-3.3.2-1", "", 0x30, 4, 0, 2, 'a', 0xFF)
	for _, id := range []string{"MQTT-3.3.2-2", "MQTT-4.7.1-1"} {
		closes311(id, "#", 0x30, 3, 0, 1, '#')
		closes311(id, "a/+", 0x30, 5, 0, 3, 'a', '/', '+')
	}
	mqtt311("MQTT-3.3.2-3", "", func(t *T) {
		root := t.Unique("t")
		sub, pub := t.Client(), t.Client()
		sub.Subscribe(0, root+"/+/c")
		for _, topic := range []string{"/a/b", "/c", "/b/c"} {
			pub.Publish(root+topic, topic, 1)
		}
		sub.ExpectPublish(root+"/b/c", "/b/c")
		sub.ExpectNothing()
	})
	mqtt311("MQTT-3.3.5-1", "", func(t *T) {
		topic := t.Unique("t")
		sub := t.Client()
		sub.Subscribe(0, topic)
		sub.Subscribe(2, topic+"/#")
		t.Client().Publish(topic, "x", 2)
		sub.Send(&packets.Pingreq{})
		var highest packets.QoS
		for {
			p, ok := sub.Receive().(*packets.Publish)
			if !ok {
				break
			}
			highest = max(highest, p.QoS)
		}
		if highest != 2 {
			t.Fatalf("the highest is %v", highest)
		}
	})
	mqtt311("MQTT-3.3.5-2", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{petrel.AuthorizerFunc(func(_ context.Context, r *petrel.AccessRequest) error {
			if r.Action == petrel.Publish {
				return errors.New("no")
			}
			return nil
		})}})
		watch, c := t.Client(), t.Client()
		watch.Subscribe(0, "#")
		c.Publish("a", "x", 1)
		c.Publish("a", "x", 2)
		watch.ExpectNothing()
	})
}

// retained311 are the statements about RETAIN.
func retained311() {
	// late is a new subscriber of a topic.
	late := func(t *T, topic string) *brokertest.Client {
		t.Helper()
		c := t.Client()
		c.Subscribe(2, topic)
		return c
	}
	kept := func(topic, payload string, qos packets.QoS) packets.Publish {
		return packets.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos}
	}
	mqtt311("MQTT-3.3.1-5", "", func(t *T) {
		for qos := packets.AtLeastOnce; qos <= packets.ExactlyOnce; qos++ {
			topic := t.Unique("t")
			t.keep(kept(topic, "kept", qos))
			if got := late(t, topic).ExpectPublish(topic, "kept"); got.QoS != qos {
				t.Fatalf("published with %v, got %v", qos, got.QoS)
			}
		}
	})
	mqtt311("MQTT-3.3.1-6", "", func(t *T) {
		root := t.Unique("t")
		t.keep(kept(root+"/a", "old", 1))
		t.keep(kept(root+"/a", "last", 1))
		t.keep(kept(root+"/b", "last", 1))
		c := late(t, root+"/+")
		got := map[string]string{}
		for range 2 {
			p := brokertest.Expect[*packets.Publish](c)
			got[string(p.Topic)] = string(p.Payload)
			c.Accept(p)
		}
		if got[root+"/a"] != "last" || got[root+"/b"] != "last" {
			t.Fatalf("got %v", got)
		}
		c.ExpectNothing()
	})
	mqtt311("MQTT-3.3.1-7", "", func(t *T) {
		topic := t.Unique("t")
		t.keep(kept(topic, "former", 1))
		t.keep(kept(topic, "new", 0))
		c := late(t, topic)
		c.Send(&packets.Pingreq{})
		switch p := c.Receive().(type) {
		case *packets.Publish:
			if string(p.Payload) != "new" {
				t.Fatalf("got %q", p.Payload)
			}
		default:
			t.Saw("that it is not kept")
		}
	})
	mqtt311("MQTT-3.3.1-8", "", func(t *T) {
		topic := t.Unique("t")
		t.keep(kept(topic, "kept", 1))
		if !late(t, topic).ExpectPublish(topic, "kept").Retain {
			t.Fatal("RETAIN is 0")
		}
	})
	mqtt311("MQTT-3.3.1-9", "", func(t *T) {
		topic := t.Unique("t")
		c := late(t, topic)
		t.keep(kept(topic, "live", 1))
		if c.ExpectPublish(topic, "live").Retain {
			t.Fatal("RETAIN is 1")
		}
	})
	mqtt311("MQTT-3.3.1-10", "", func(t *T) {
		topic := t.Unique("t")
		t.keep(kept(topic, "kept", 1))
		now := t.Client()
		now.Subscribe(0, topic)
		now.ExpectPublish(topic, "kept")
		t.Client().PublishWith(packets.Publish{Topic: []byte(topic), QoS: 1, Retain: true})
		now.ExpectPublish(topic, "")
		late(t, topic).ExpectNothing()
	})
	mqtt311("MQTT-3.3.1-11", "", func(t *T) {
		topic := t.Unique("t")
		t.Client().PublishWith(packets.Publish{Topic: []byte(topic), QoS: 1, Retain: true})
		late(t, topic).ExpectNothing()
	})
	mqtt311("MQTT-3.3.1-12", "", func(t *T) {
		topic := t.Unique("t")
		t.Client().Publish(topic, "not kept", 1)
		late(t, topic).ExpectNothing()
		t.keep(kept(topic, "kept", 1))
		for _, payload := range []string{"not kept", ""} {
			t.Client().Publish(topic, payload, 1)
			late(t, topic).ExpectPublish(topic, "kept")
		}
	})
}

func subscribe311() {
	closes311("MQTT-3.8.3-1", "", 0x82, 7, 0, 1, 0, 2, 'a', 0xFF, 0)
	closes311("MQTT-3.8.3-3", "", 0x82, 2, 0, 1)
	for _, options := range []byte{3, 4, 0x10, 0x80} {
		closes311("MQTT-3.8.3-4", fmt.Sprintf("0x%02X", options), 0x82, 6, 0, 1, 0, 1, 'a', options)
	}
	closes311("MQTT-3.10.3-1", "", 0xA2, 6, 0, 1, 0, 2, 'a', 0xFF)
	closes311("MQTT-3.10.3-2", "", 0xA2, 2, 0, 1)
	closes311("MQTT-4.7.3-1", "", 0x30, 2, 0, 0)
	closes311("MQTT-4.7.3-2", "", 0x30, 4, 0, 2, 'a', 0)
	mqtt311("MQTT-3.8.3-2", "", func(t *T) {
		t.With(petrel.Options{DisableWildcardSubscriptions: true})
		c := t.Client()
		c.Send(&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription("a/+", 0))})
		if p, ok := c.Next(); ok {
			if codes := p.(*packets.Suback).Reasons; !slices.Equal(codes, []packets.ReasonCode{packets.UnspecifiedError}) {
				t.Fatalf("SUBACK with %v", codes)
			}
		} else {
			t.Saw("a plain close")
		}
	})
	mqtt311("MQTT-3.8.4-3", "", func(t *T) {
		topic := t.Unique("t")
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: 1})
		c := t.Client()
		for qos := packets.AtMostOnce; qos <= packets.AtLeastOnce; qos++ {
			c.Subscribe(qos, topic)
			c.Accept(c.ExpectPublish(topic, "kept"))
		}
		t.Client().Publish(topic, "live", 1)
		if got := c.ExpectPublish(topic, "live"); got.QoS != 1 {
			t.Fatalf("%v", got.QoS)
		}
		c.ExpectNothing()
	})
	mqtt311("MQTT-3.8.4-4", "", inSequence)
	mqtt311("MQTT-3.8.4-5", "", oneCodeForEach)
	mqtt311("MQTT-3.9.3-1", "", codesInOrder)
	mqtt311("MQTT-3.9.3-2", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{noSubscriptions{}}})
		if codes := t.Client().SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions(nil).Append(subscription("a", 0))}); codes[0] != 0x80 {
			t.Fatalf("SUBACK with %v", codes)
		}
	})
	mqtt311("MQTT-3.8.4-6", "", func(t *T) {
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
	mqtt311("MQTT-3.10.4-1", "", comparesFilters)
	mqtt311("MQTT-3.10.4-2", "", addsNothing)
	mqtt311("MQTT-3.10.4-6", "", unsubscribesAll)
	mqtt311("MQTT-3.10.4-3", "", func(t *T) {
		topic := t.Unique("t")
		c, pub := t.Client(), t.Client()
		c.Subscribe(2, topic)
		pub.Publish(topic, "1", 1)
		pub.Publish(topic, "2", 2)
		one, two := c.ExpectPublish(topic, "1"), c.ExpectPublish(topic, "2")
		c.Send(&packets.Unsubscribe{PacketID: 9, Filters: packets.Filters(nil).Append(topic)})
		brokertest.Expect[*packets.Unsuback](c)
		c.Accept(one)
		c.Accept(two)
		c.ExpectNothing()
	})
	for id, filters := range map[string][]string{
		"MQTT-4.7.1-2": {"a#", "#/a", "a/#/b", "##"}, "MQTT-4.7.1-3": {"a+", "+a", "a/+b/c"}, "MQTT-4.7.3-1": {""},
	} {
		for _, filter := range filters {
			mqtt311(id, strings.ReplaceAll(filter, "/", "|")+" as a filter", func(t *T) {
				c := t.Client()
				c.Send(&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription(filter, 0))})
				p, ok := c.Next()
				if !ok {
					t.Saw("a plain close")
					return
				}
				if codes := p.(*packets.Suback).Reasons; !slices.Equal(codes, []packets.ReasonCode{packets.UnspecifiedError}) {
					t.Fatalf("SUBACK with %v", codes)
				}
				t.Saw("SUBACK 0x80")
			})
		}
	}
	mqtt311("MQTT-4.7.2-1", "", func(t *T) {
		t.With(petrel.Options{})
		c, watch := t.Client(), t.Client()
		c.Subscribe(0, "#", "+/x")
		watch.Subscribe(0, "$else/+")
		watch.Send(&packets.Publish{Topic: []byte("$else/x"), Payload: []byte("x")})
		watch.ExpectPublish("$else/x", "x")
		c.ExpectNothing()
	})
	mqtt311("MQTT-4.7.3-4", "", func(t *T) {
		root := t.Unique("t")
		sub, pub := t.Client(), t.Client()
		sub.Subscribe(0, root+"/\u00E9")
		for i, topic := range []string{"/e\u0301", "/\u00C9", "/e", "/\u00E9/", "/\u00E9"} {
			pub.Publish(root+topic, fmt.Sprint(i), 1)
		}
		sub.ExpectPublish(root+"/\u00E9", "4")
		sub.ExpectNothing()
	})
}

func flows311() {
	mqtt311("MQTT-4.3.1-1", "", func(t *T) {
		if _, got := first(t, 0); got[0].QoS != 0 || got[0].Dup {
			t.Fatalf("%v, DUP %v", got[0].QoS, got[0].Dup)
		}
	})
	// again sends a PUBLISH twice with the same identifier, and wants it passed on n times.
	again := func(qos packets.QoS, n int, end, last func(c *brokertest.Client)) func(t *T) {
		return func(t *T) {
			topic := t.Unique("t")
			watch, c := t.Client(), t.Client()
			watch.Subscribe(0, topic)
			for i := range 2 {
				c.Send(&packets.Publish{Topic: []byte(topic), QoS: qos, PacketID: 7, Dup: i > 0})
				end(c)
			}
			last(c)
			for range n {
				watch.ExpectPublish(topic, "")
			}
			watch.ExpectNothing()
		}
	}
	mqtt311("MQTT-4.3.2-2", "", again(1, 2, func(c *brokertest.Client) { brokertest.Expect[*packets.Puback](c) }, nothing))
	mqtt311("MQTT-4.3.3-2", "before PUBREL", again(2, 1, func(c *brokertest.Client) { brokertest.Expect[*packets.Pubrec](c) }, release))
	mqtt311("MQTT-4.3.3-2", "after PUBCOMP", again(2, 2, func(c *brokertest.Client) {
		brokertest.Expect[*packets.Pubrec](c)
		release(c)
	}, nothing))
	mqtt311("MQTT-4.3.3-1", "", func(t *T) {
		topic, p := t.Unique("t"), t.session311(t.Unique("c"))
		sub := t.Connect(p)
		sub.Subscribe(2, topic)
		t.Client().Publish(topic, "x", 2)
		got := sub.ExpectPublish(topic, "x")
		sub.Send(&packets.Pubrec{PacketID: got.PacketID})
		if rel := brokertest.Expect[*packets.Pubrel](sub); rel.PacketID != got.PacketID || got.Dup {
			t.Fatalf("PUBREL for %d; want %d", rel.PacketID, got.PacketID)
		}
		sub.Conn.Close()
		sub = t.Connect(p)
		if rel := brokertest.Expect[*packets.Pubrel](sub); rel.PacketID != got.PacketID {
			t.Fatalf("PUBREL for %d; want %d", rel.PacketID, got.PacketID)
		}
		sub.Send(&packets.Pubcomp{PacketID: got.PacketID})
		sub.ExpectNothing()
	})
	answers := func(qos packets.QoS) func(t *T) {
		return func(t *T) {
			c := t.Client()
			var burst []packets.Packet
			for id := uint16(1); id <= 20; id++ {
				burst = append(burst, &packets.Publish{Topic: []byte("a"), QoS: qos, PacketID: id * 7})
			}
			c.Send(burst...)
			for id := uint16(1); id <= 20; id++ {
				var got uint16
				switch p := c.Receive().(type) {
				case *packets.Puback:
					got = p.PacketID
				case *packets.Pubrec:
					got = p.PacketID
				}
				if got != id*7 {
					t.Fatalf("answer %d is for %d; want %d", id, got, id*7)
				}
			}
		}
	}
	mqtt311("MQTT-4.6.0-2", "", answers(1))
	mqtt311("MQTT-4.6.0-3", "", answers(2))
	mqtt311("MQTT-4.6.0-4", "", func(t *T) {
		topic := t.Unique("t")
		sub, pub := t.Client(), t.Client()
		sub.Subscribe(2, topic)
		var ids []uint16
		for i := range 10 {
			pub.Publish(topic, fmt.Sprint(i), 2)
			ids = append(ids, sub.ExpectPublish(topic, fmt.Sprint(i)).PacketID)
		}
		slices.Reverse(ids)
		for _, id := range ids {
			sub.Send(&packets.Pubrec{PacketID: id})
		}
		for _, id := range ids {
			if rel := brokertest.Expect[*packets.Pubrel](sub); rel.PacketID != id {
				t.Fatalf("PUBREL for %d; want %d", rel.PacketID, id)
			}
		}
	})
	mqtt311("MQTT-4.6.0-5", "", everyTopicInOrder)
	mqtt311("MQTT-4.6.0-6", "", inOrder)
}
