package conformance_test

import (
	"fmt"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Rules without a number about QoS and flow control, and their traps.

func init() {
	exchanges()
	resends()
	quotas()
	identifierTraps()
}

func exchanges() {
	rule("qos-1", "", func(t *T) {
		topic := t.Unique("t")
		sub, pub := t.Client(), t.Client()
		sub.Subscribe(2, topic)
		pub.Publish(topic, "theirs", 2)
		got := sub.ExpectPublish(topic, "theirs")
		sub.PublishWith(packets.Publish{Topic: []byte(topic + "/own"), QoS: 2, PacketID: got.PacketID})
		sub.Accept(got)
		sub.ExpectNothing()
	})
	rule("qos-2", "", func(t *T) {
		c := t.Client()
		c.Send(&packets.Pubrel{PacketID: 999})
		if comp := brokertest.Expect[*packets.Pubcomp](c); comp.PacketID != 999 {
			t.Fatalf("PUBCOMP for %d", comp.PacketID)
		}
		c.ExpectNothing()
	})
	rule("qos-3", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{forbids(petrel.Publish)}})
		watch, c := t.Client(), t.Client()
		watch.Subscribe(0, "no/#")
		c.Send(&packets.Publish{Topic: []byte("no/x")}, &packets.Pingreq{})
		p, ok := c.Next()
		if ok && p.Type() == packets.TypeDisconnect {
			if code := disconnectCode(t, p); code != packets.NotAuthorized {
				t.Fatalf("DISCONNECT with %v", code)
			}
		}
		watch.ExpectNothing()
	})
	rule("qos-4", "", func(t *T) {
		sub, topic, open := holdsBack(t)
		sub.Send(&packets.Pubrec{PacketID: open.PacketID})
		brokertest.Expect[*packets.Pubrel](sub)
		sub.Send(&packets.Pubcomp{PacketID: open.PacketID, Reason: packets.PacketIdentifierNotFound})
		sub.ExpectPublish(topic, "second")
	})
	for qos, wrong := range map[packets.QoS]func(id uint16) packets.Packet{
		1: func(id uint16) packets.Packet { return &packets.Pubrec{PacketID: id} },
		2: func(id uint16) packets.Packet { return &packets.Puback{PacketID: id} },
	} {
		rule("qos-5", qos.String(), func(t *T) {
			sub, got := first(t, qos)
			sub.Send(wrong(got[0].PacketID), &packets.Pingreq{})
			p, ok := sub.Next()
			if ok && p.Type() == packets.TypeDisconnect {
				if code := disconnectCode(t, p); code != packets.ProtocolError {
					t.Fatalf("DISCONNECT with %v", code)
				}
			}
			switch {
			case !ok:
				t.Saw("a plain close")
			default:
				t.Saw("%v", p.Type())
			}
		})
	}
	rule("qos-6", "", func(t *T) {
		c := t.Client()
		c.Send(&packets.Puback{PacketID: 999}, &packets.Pubcomp{PacketID: 999}, &packets.Puback{PacketID: 999})
		c.ExpectNothing()
	})
	rule("qos-8", "PUBLISH", func(t *T) {
		topic := t.Unique("t")
		watch, c := t.Client(), t.Client()
		watch.Subscribe(0, topic)
		for i := range 3 {
			c.Send(&packets.Publish{Topic: []byte(topic), QoS: 2, PacketID: 7, Dup: i > 0})
			if rec := brokertest.Expect[*packets.Pubrec](c); rec.PacketID != 7 || rec.Reason.IsError() {
				t.Fatalf("PUBREC for %d with %v", rec.PacketID, rec.Reason)
			}
		}
		for range 3 {
			release(c)
		}
		watch.ExpectPublish(topic, "")
		watch.ExpectNothing()
	})
	rule("qos-9", "", func(t *T) {
		for qos := packets.AtLeastOnce; qos <= packets.ExactlyOnce; qos++ {
			c := t.Client()
			var burst []packets.Packet
			for id := uint16(1); id <= 10; id++ {
				burst = append(burst, &packets.Publish{Topic: []byte("a"), QoS: qos, PacketID: id * 7})
			}
			c.Send(burst...)
			for id := uint16(1); id <= 10; id++ {
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
	})
	rule("qos-10", "", func(t *T) {
		c := t.Client()
		c.Send(&packets.Pubrec{PacketID: 999}, &packets.Pingreq{})
		switch p := c.Receive(); p.Type() {
		case packets.TypePubrel:
			brokertest.Expect[*packets.Pingresp](c)
			t.Saw("PUBREL")
		case packets.TypePingresp:
			t.Saw("nothing")
		default:
			t.Fatalf("got %v", p.Type())
		}
	})
}

func resends() {
	rule("qos-7", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		sub, pub := t.Connect(p), t.Client()
		sub.Subscribe(2, topic)
		var sent []*packets.Publish
		for i := range 3 {
			pub.Publish(topic, fmt.Sprint(i), 1+packets.QoS(i%2))
			sent = append(sent, sub.ExpectPublish(topic, fmt.Sprint(i)))
		}
		leave(sub, packets.Success)
		for i := 3; i < 6; i++ {
			pub.Publish(topic, fmt.Sprint(i), 1)
		}
		sub = t.Connect(p)
		for i := range 6 {
			got := sub.ExpectPublish(topic, fmt.Sprint(i))
			if old := i < 3; got.Dup != old || old && got.PacketID != sent[i].PacketID {
				t.Fatalf("message %d: DUP %v, identifier %d", i, got.Dup, got.PacketID)
			}
		}
	})
	rule("trap-qos-1", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		watch, c := t.Client(), t.Connect(p)
		watch.Subscribe(0, topic)
		m := &packets.Publish{Topic: []byte(topic), Payload: []byte("once"), QoS: 2, PacketID: 7}
		c.Send(m)
		brokertest.Expect[*packets.Pubrec](c)
		c.Conn.Close()
		c = t.Connect(p)
		m.Dup = true
		c.Send(m)
		if rec := brokertest.Expect[*packets.Pubrec](c); rec.PacketID != 7 || rec.Reason.IsError() {
			t.Fatalf("PUBREC for %d with %v", rec.PacketID, rec.Reason)
		}
		release(c)
		watch.ExpectPublish(topic, "once")
		watch.ExpectNothing()
	})
	rule("alias-4", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		p.TopicAliasMaximum = 5
		sub, pub := t.Connect(p), t.Client()
		sub.Subscribe(1, topic)
		for range 3 {
			pub.Publish(topic, "x", 1)
			brokertest.Expect[*packets.Publish](sub) // never acknowledged; perhaps by an alias alone
		}
		sub.Conn.Close()
		sub = t.Connect(p)
		if got := sub.ExpectPublish(topic, "x"); !got.Dup {
			t.Fatal("DUP is 0")
		}
	})
}

func quotas() {
	rule("quota-1", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		sub, pub := t.Connect(p), t.Client()
		sub.Subscribe(1, topic)
		for i := range 4 {
			pub.Publish(topic, fmt.Sprint(i), 1)
			sub.ExpectPublish(topic, fmt.Sprint(i))
		}
		sub.Conn.Close()
		p.ReceiveMaximum = 2
		sub = t.Connect(p)
		one, two := sub.ExpectPublish(topic, "0"), sub.ExpectPublish(topic, "1")
		sub.ExpectNothing()
		sub.Accept(one)
		three := sub.ExpectPublish(topic, "2")
		sub.ExpectNothing()
		for _, got := range []*packets.Publish{two, three} {
			sub.Accept(got)
		}
		if four := sub.ExpectPublish(topic, "3"); !four.Dup {
			t.Fatal("DUP is 0")
		}
	})
	rule("quota-2", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		sub, pub := t.Connect(p), t.Client()
		sub.Subscribe(2, topic)
		pub.Publish(topic, "0", 2)
		got := sub.ExpectPublish(topic, "0")
		sub.Send(&packets.Pubrec{PacketID: got.PacketID})
		brokertest.Expect[*packets.Pubrel](sub)
		sub.Conn.Close()
		p.ReceiveMaximum = 1
		sub = t.Connect(p)
		brokertest.Expect[*packets.Pubrel](sub)
		sub.Send(&packets.Pubcomp{PacketID: got.PacketID})
		for _, payload := range []string{"1", "2", "3"} {
			pub.Publish(topic, payload, 2)
		}
		sub.ExpectPublish(topic, "1")
		sub.ExpectNothing()
	})
	rule("quota-3", "", func(t *T) {
		t.With(petrel.Options{ReceiveMaximum: 2})
		c := t.Client()
		for _, id := range []uint16{1, 2, 2, 1, 2} {
			c.Send(&packets.Publish{Topic: []byte("a"), QoS: 2, PacketID: id})
			brokertest.Expect[*packets.Pubrec](c)
		}
		c.Send(&packets.Publish{Topic: []byte("a"), QoS: 2, PacketID: 3})
		t.Refused(c, packets.ReceiveMaximumExceeded)
	})
	rule("quota-4", "", func(t *T) {
		c := t.Client()
		var burst []packets.Packet
		for id := uint16(1); id <= 2000; id++ {
			burst = append(burst, &packets.Publish{Topic: []byte("a"), QoS: 2, PacketID: id})
		}
		c.Send(append(burst, &packets.Pingreq{})...)
		answers := 0
		for {
			p := c.Receive()
			if p.Type() == packets.TypePingresp {
				break
			}
			answers++
		}
		t.Saw("%d answers to 2000 messages", answers)
	})
	rule("quota-5", "", func(t *T) {
		t.With(petrel.Options{MaximumConnectSize: 100})
		p := t.CONNECT()
		p.HasUserName, p.UserName = true, []byte(strings.Repeat("u", 200))
		c := t.Dial()
		c.Send(&p)
		t.Refused(c, packets.PacketTooLarge)
	})
	rule("trap-qos-3", "", func(t *T) {
		sub, topic, open := holdsBack(t)
		sub.Send(&packets.Pubrec{PacketID: open.PacketID, Reason: packets.ImplementationSpecificError})
		sub.ExpectPublish(topic, "second") // next, so there is no PUBREL
	})
	rule("trap-qos-10", "", func(t *T) {
		sub, topic, open := holdsBack(t)
		t.Client().Publish(topic, "third", 1)
		sub.Send(&packets.Puback{PacketID: open.PacketID + 100}, &packets.Pubcomp{PacketID: open.PacketID + 101})
		sub.ExpectNothing()
		sub.Accept(open)
		sub.ExpectPublish(topic, "second")
		sub.ExpectNothing()
	})
	rule("trap-qos-15", "", func(t *T) {
		topic, p := t.Unique("t"), t.CONNECT()
		p.MaximumPacketSize = 60
		small, large, pub := t.Connect(p), t.Client(), t.Client()
		small.Subscribe(1, "$share/g/"+topic)
		large.Subscribe(1, "$share/g/"+topic)
		for range 10 {
			pub.Publish(topic, strings.Repeat("x", 100), 1)
		}
		small.ExpectNothing()
		t.Saw("%d of 10 delivered", len(until(large)))
	})
}

func identifierTraps() {
	rule("trap-qos-6", "", func(t *T) {
		sub, got := first(t, 2)
		for range 3 {
			sub.Send(&packets.Pubrec{PacketID: got[0].PacketID})
			rel := brokertest.Expect[*packets.Pubrel](sub)
			if rel.PacketID != got[0].PacketID || rel.Reason != packets.Success && rel.Reason != packets.PacketIdentifierNotFound {
				t.Fatalf("PUBREL for %d with %v", rel.PacketID, rel.Reason)
			}
		}
		sub.Send(&packets.Pubcomp{PacketID: got[0].PacketID})
		sub.ExpectNothing()
	})
	rule("trap-qos-11", "", func(t *T) {
		topic := t.Unique("t")
		sub, pub := t.Client(), t.Client()
		sub.Subscribe(2, topic)
		pub.Publish(topic, "unacknowledged", 1)
		pub.Publish(topic, "without PUBREC", 2)
		pub.Publish(topic, "without PUBCOMP", 2)
		open := map[uint16]bool{}
		for _, payload := range []string{"unacknowledged", "without PUBREC", "without PUBCOMP"} {
			got := sub.ExpectPublish(topic, payload)
			open[got.PacketID] = true
			if payload == "without PUBCOMP" {
				sub.Send(&packets.Pubrec{PacketID: got.PacketID})
				brokertest.Expect[*packets.Pubrel](sub)
			}
		}
		const batch = 10
		for n := 0; n < 65536+100; n += batch {
			var burst []packets.Packet
			for id := range uint16(batch) {
				burst = append(burst, &packets.Publish{Topic: []byte(topic), QoS: 1, PacketID: id + 1})
			}
			pub.Send(burst...)
			burst = burst[:0]
			for range batch {
				brokertest.Expect[*packets.Puback](pub)
				got := brokertest.Expect[*packets.Publish](sub)
				if got.PacketID == 0 || open[got.PacketID] {
					t.Fatalf("identifier %d, which is in use or 0", got.PacketID)
				}
				burst = append(burst, &packets.Puback{PacketID: got.PacketID})
			}
			sub.Send(burst...)
		}
	})
}
