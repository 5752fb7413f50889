package conformance_test

import (
	"fmt"
	"slices"

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
			t.Unfit("the broker admits no unknown user")
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
		p := t.durable(t.Unique("c"))
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
		p := t.durable(t.Unique("c"))
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
