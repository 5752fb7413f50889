package conformance_test

import (
	"slices"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Statements of section 3.3.4: what is done about a PUBLISH.

func overlaps() {
	// receive publishes once to a client with overlapping subscriptions, and
	// returns all copies that it gets.
	receive := func(t *T) (copies []*packets.Publish) {
		t.Helper()
		topic := t.Unique("t")
		sub := t.Client()
		subscribe(t, sub, 1, subscription(topic, 0))
		subscribe(t, sub, 2, subscription(topic+"/#", 2))
		subscribe(t, sub, 0, subscription("+/#", 1))
		t.Client().Publish(topic, "x", 2)
		sub.Send(&packets.Pingreq{})
		for {
			switch p := sub.Receive().(type) {
			case *packets.Publish:
				if string(p.Topic) == topic { // others may publish meanwhile
					copies = append(copies, p)
				}
			case *packets.Pingresp:
				t.Saw("copies: %d", len(copies))
				return copies
			}
		}
	}
	mqtt5("MQTT-3.3.4-1", "", func(t *T) {
		c := t.Client()
		c.Publish("a", "x", 0)
		c.Publish("a", "x", 1)
		c.Publish("a", "x", 2)
	})
	mqtt5("MQTT-3.3.4-2", "", func(t *T) {
		if !slices.ContainsFunc(receive(t), func(p *packets.Publish) bool { return p.QoS == 2 }) {
			t.Fatal("no copy has the highest QoS")
		}
	})
	identifiers := func(t *T, copies []*packets.Publish) {
		t.Helper()
		var ids []uint32
		for _, p := range copies {
			ids = append(ids, p.SubscriptionIDs...)
			if len(copies) > 1 && len(p.SubscriptionIDs) > 1 {
				t.Fatalf("one of %d copies has the identifiers %v", len(copies), p.SubscriptionIDs)
			}
		}
		slices.Sort(ids)
		if !slices.Equal(ids, []uint32{1, 2}) {
			t.Fatalf("identifiers %v; want 1 and 2", ids)
		}
	}
	mqtt5("MQTT-3.3.4-3", "", func(t *T) { identifiers(t, receive(t)) })
	mqtt5("MQTT-3.3.4-4", "", func(t *T) { identifiers(t, receive(t)) })
	mqtt5("MQTT-3.3.4-5", "", func(t *T) {
		t.With(petrel.Options{DeliverPerSubscription: true})
		copies := receive(t)
		if len(copies) < 3 {
			t.Fatalf("%d copies; want one for each subscription", len(copies))
		}
		identifiers(t, copies)
	})
	mqtt5("MQTT-3.3.4-6", "", func(t *T) {
		c := t.Client()
		c.SendRaw([]byte{0x30, 0x06, 0, 1, 'a', 2, 0x0B, 1})
		t.Refused(c, malformed...)
	})
	mqtt5("MQTT-3.3.4-7", "", func(t *T) {
		c, ack := t.TryConnect(t.CONNECT())
		if ack.ReceiveMaximum == 0 || ack.ReceiveMaximum == 65535 {
			t.Unfit("every identifier may be open at once")
		}
		var burst []packets.Packet
		for i := range ack.ReceiveMaximum + 1 {
			burst = append(burst, &packets.Publish{Topic: []byte("a"), QoS: 2, PacketID: i + 1})
		}
		c.Send(burst...)
		for {
			switch p, ok := c.Next(); {
			case !ok:
				t.Saw("a plain close")
				return
			case p.Type() == packets.TypeDisconnect:
				if code := p.(*packets.Disconnect).Reason; code != packets.ReceiveMaximumExceeded {
					t.Fatalf("DISCONNECT with %v", code)
				}
				return
			}
		}
	})
	mqtt5("MQTT-3.3.4-9", "", func(t *T) { holdsBack(t) })
	mqtt5("MQTT-3.3.4-10", "", func(t *T) {
		sub, topic, open := holdsBack(t)
		sub.Subscribe(0, topic+"/other") // SUBACK
		sub.Publish("nobody", "x", 1)    // PUBACK
		sub.ExpectNothing()              // PINGRESP
		sub.Send(&packets.Pubrec{PacketID: open.PacketID})
		brokertest.Expect[*packets.Pubrel](sub)
		sub.ExpectNothing() // PUBREC does not end it
		sub.Send(&packets.Pubcomp{PacketID: open.PacketID})
		sub.ExpectPublish(topic, "second")
	})
}

// holdsBack has a client with Receive Maximum 1 leave one message open while
// another waits.
func holdsBack(t *T) (sub *brokertest.Client, topic string, open *packets.Publish) {
	t.Helper()
	topic = t.Unique("t")
	p := t.CONNECT()
	p.ReceiveMaximum = 1
	sub = t.Connect(p)
	sub.Subscribe(2, topic)
	pub := t.Client()
	pub.Publish(topic, "first", 2)
	pub.Publish(topic, "second", 2)
	open = sub.ExpectPublish(topic, "first")
	sub.ExpectNothing()
	return sub, topic, open
}
