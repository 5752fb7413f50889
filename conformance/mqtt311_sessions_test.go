package conformance_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Statements of MQTT 3.1.1 about sessions, wills and the exchanges of QoS 1 and 2.

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
		p := t.durable(id)
		p.CleanStart = clean
		c, ack := t.TryConnect(p)
		if ack.Reason != packets.Success || ack.SessionPresent != present {
			t.Fatalf("CONNACK with %v, session present %v; want %v", ack.Reason, ack.SessionPresent, present)
		}
		return c
	}
	mqtt311("MQTT-3.1.2-4", "", func(t *T) {
		id, topic := t.Unique("c"), t.Unique("t")
		c := t.Connect(t.durable(id))
		c.Subscribe(0, topic)
		leave(c, 0)
		c = t.Connect(t.durable(id))
		t.Client().Publish(topic, "still subscribed", 1)
		c.ExpectPublish(topic, "still subscribed")
	})
	stores := func(t *T, qos packets.QoS) {
		id, topic := t.Unique("c"), t.Unique("t")
		c := t.Connect(t.durable(id))
		c.Subscribe(qos, topic)
		leave(c, 0)
		t.Client().Publish(topic, "queued", qos)
		c = t.Connect(t.durable(id))
		c.Accept(c.ExpectPublish(topic, "queued"))
	}
	mqtt311("MQTT-3.1.2-5", "QoS 1", func(t *T) { stores(t, 1) })
	mqtt311("MQTT-3.1.2-5", "QoS 2", func(t *T) { stores(t, 2) })
	mqtt311("MQTT-3.1.2-6", "", func(t *T) {
		id, topic := t.Unique("c"), t.Unique("t")
		c := t.Connect(t.durable(id))
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
		t.Connect(t.durable(id)).Conn.Close()
		for range 3 {
			leave(connect(t, id, false, true), 0)
		}
	})
	mqtt311("MQTT-3.2.2-3", "", func(t *T) { connect(t, t.Unique("c"), false, false) })
	mqtt311("MQTT-4.1.0-1", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
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
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
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
