package conformance_test

import (
	"slices"
	"strings"

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
		"DISCONNECT":  {0xE1, 0},
	} {
		refusesBytes("MQTT-2.1.3-1", name, b, malformed...)
	}
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
	for id, qos := range map[string]packets.QoS{
		"MQTT-3.4.2-2": 1, "MQTT-3.4.2-3": 1, "MQTT-3.5.2-2": 2, "MQTT-3.5.2-3": 2,
	} {
		mqtt5(id, "", func(t *T) {
			t.With(petrel.Options{Hooks: []petrel.Hook{talkative{}}})
			p := t.CONNECT()
			p.MaximumPacketSize = 16
			c := t.Connect(p)
			c.Send(&packets.Publish{Topic: []byte("a"), QoS: qos, PacketID: 1})
			ack := c.Receive()
			if n := len(raw(t, ack)); n > 16 {
				t.Fatalf("%v of %d bytes", ack.Type(), n)
			}
		})
	}
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
	answers := func(t *T) {
		c := t.Client()
		for id := uint16(1); id < 5; id++ {
			c.SubscribeWith(packets.Subscribe{PacketID: id, Subscriptions: packets.Subscriptions(nil).Append(subscription(t.Unique("t"), 0))})
		}
	}
	mqtt5("MQTT-3.8.4-1", "", answers)
	mqtt5("MQTT-3.8.4-2", "", answers)
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
	combined := func(t *T) {
		root := t.Unique("t")
		c := t.Client()
		codes := c.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions(nil).
			Append(subscription(root+"/a", 2)).Append(subscription(root+"/d/#", 1)).Append(subscription(root+"/b", 0)).
			Append(subscription(root+"/a", 1)).Append(subscription(root+"/c", 1))})
		want := []packets.ReasonCode{2, 1, 0, 1, 1}
		if !slices.Equal(codes, want) {
			t.Fatalf("SUBACK with %v; want %v", codes, want)
		}
		t.Client().Publish(root+"/a", "x", 2)
		if got := c.ExpectPublish(root+"/a", "x"); got.QoS != 1 {
			t.Fatalf("%v; want that of the last", got.QoS)
		}
		c.ExpectNothing()
	}
	for _, id := range []string{"MQTT-3.8.4-5", "MQTT-3.8.4-6", "MQTT-3.8.4-7", "MQTT-3.9.3-1", "MQTT-3.9.3-2"} {
		mqtt5(id, "", combined)
	}
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
	for _, id := range []string{"MQTT-3.9.2-1", "MQTT-3.9.2-2"} {
		mqtt5(id, "", func(t *T) {
			p := t.CONNECT()
			p.MaximumPacketSize = 20
			c := t.Connect(p)
			c.Send(&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription(t.Unique("t"), 0))})
			if n := len(raw(t, brokertest.Expect[*packets.Suback](c))); n > 20 {
				t.Fatalf("SUBACK of %d bytes", n)
			}
		})
	}
}

func unsubscribes() {
	refusesBytes("MQTT-3.10.1-1", "", []byte{0xA0, 6, 0, 1, 0, 0, 1, 'a'}, malformed...)
	refusesBytes("MQTT-3.10.3-1", "", []byte{0xA2, 7, 0, 1, 0, 0, 2, 'a', 0xFF}, packets.MalformedPacket)
	refusesBytes("MQTT-3.10.3-2", "", []byte{0xA2, 3, 0, 1, 0}, malformed...)
	exact := func(t *T) {
		root := t.Unique("t")
		c, pub := t.Client(), t.Client()
		c.Subscribe(0, root+"/+", root+"/#", root+"/a")
		codes := c.Unsubscribe(root+"/a", root+"/b", root+"/+")
		if want := []packets.ReasonCode{0, packets.NoSubscriptionExisted, 0}; !slices.Equal(codes, want) {
			t.Fatalf("UNSUBACK with %v; want %v", codes, want)
		}
		pub.Publish(root+"/a", "x", 1)
		c.ExpectPublish(root+"/a", "x") // by the one that is left
		c.Unsubscribe(root + "/#")
		pub.Publish(root+"/a", "y", 1)
		c.ExpectNothing()
	}
	for _, id := range []string{
		"MQTT-3.10.4-1", "MQTT-3.10.4-2", "MQTT-3.10.4-4", "MQTT-3.10.4-5", "MQTT-3.10.4-6", "MQTT-3.11.3-1", "MQTT-3.11.3-2",
	} {
		mqtt5(id, "", exact)
	}
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
	for _, id := range []string{"MQTT-3.11.2-1", "MQTT-3.11.2-2"} {
		mqtt5(id, "", func(t *T) {
			p := t.CONNECT()
			p.MaximumPacketSize = 20
			c := t.Connect(p)
			c.Send(&packets.Unsubscribe{PacketID: 1, Filters: packets.Filters(nil).Append("nothing")})
			if n := len(raw(t, brokertest.Expect[*packets.Unsuback](c))); n > 20 {
				t.Fatalf("UNSUBACK of %d bytes", n)
			}
		})
	}
}

func disconnects() {
	mqtt5("MQTT-3.14.0-1", "", func(t *T) {
		for _, b := range [][]byte{
			connectBytes("MQTT", 5, 3, 60, body5(t)), connectBytes("MQTT", 9, 2, 60, body5(t)), {0xC0, 0}, {0xE0, 0}, {0x00, 0x00},
			connectBytes("MQTT", 5, 2, 60, append([]byte{3, 0x21, 0, 0}, text("c")...)),
		} {
			c := t.Dial()
			c.SendRaw(b)
			if p, ok := c.Next(); ok && p.Type() == packets.TypeDisconnect {
				t.Fatalf("DISCONNECT in answer to % x", b)
			}
		}
	})
	mqtt5("MQTT-3.14.1-1", "", func(t *T) {
		expectWill(t, packets.Will{}, func(c *brokertest.Client) {
			c.SendRaw([]byte{0xE1, 0})
			t.Refused(c, malformed...)
		})
	})
	refusesBytes("MQTT-3.14.2-1", "", []byte{0xE0, 1, 0x7F}, malformed...)
	mqtt5("MQTT-3.14.2-2", "", func(t *T) {
		c, p := t.Client(), t.CONNECT()
		c.Send(&p)
		if got, ok := c.Next(); ok && got.(*packets.Disconnect).HasSessionExpiryInterval {
			t.Fatal("Session Expiry Interval from the server")
		}
	})
	for _, id := range []string{"MQTT-3.14.2-3", "MQTT-3.14.2-4"} {
		mqtt5(id, "", func(t *T) {
			t.With(petrel.Options{})
			p := t.CONNECT()
			p.MaximumPacketSize = 40
			c := t.Connect(p)
			reason := &petrel.Refusal{
				Code: packets.AdministrativeAction, ReasonString: strings.Repeat("r", 50), UserProperties: []petrel.UserProperty{{Name: "n", Value: "v"}},
			}
			if err := t.broker.Disconnect(string(p.ClientID), reason); err != nil {
				t.Fatal(err)
			}
			got := brokertest.Expect[*packets.Disconnect](c)
			if n := len(raw(t, got)); n > 40 || got.Reason != packets.AdministrativeAction {
				t.Fatalf("DISCONNECT of %d bytes with %v", n, got.Reason)
			}
		})
	}
	mqtt5("MQTT-3.14.4-1", "", func(t *T) {
		topic := t.Unique("t")
		watch, c := t.Client(), t.Client()
		watch.Subscribe(0, topic)
		c.Send(&packets.Disconnect{}, &packets.Publish{Topic: []byte(topic)}) // what comes behind it counts for nothing
		c.ExpectClosed()
		watch.ExpectNothing()
	})
	mqtt5("MQTT-3.14.4-2", "", func(t *T) {
		c, p := t.Client(), t.CONNECT()
		c.Send(&p)
		t.Refused(c, packets.ProtocolError) // which ends with a close
	})
	mqtt5("MQTT-3.14.4-3", "reason 0x00", func(t *T) { expectNoWill(t, func(c *brokertest.Client) { leave(c, packets.Success) }) })
	for _, code := range []packets.ReasonCode{packets.DisconnectWithWill, packets.UnspecifiedError, packets.AdministrativeAction} {
		mqtt5("MQTT-3.14.4-3", "reason "+code.String(), func(t *T) {
			expectWill(t, packets.Will{}, func(c *brokertest.Client) { leave(c, code) })
		})
	}
}
