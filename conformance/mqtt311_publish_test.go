package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Statements of MQTT 3.1.1 about PUBLISH, SUBSCRIBE and UNSUBSCRIBE.

func publish311() {
	each(func(t *T) {
		for qos := packets.AtLeastOnce; qos <= packets.ExactlyOnce; qos++ {
			topic, p := t.Unique("t"), t.durable(t.Unique("c"))
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
	mqtt311("MQTT-3.3.1-2", "from a client", func(t *T) {
		c := t.Client()
		c.SendRaw(frame(0x38, text("a")))
		repeatedQoS0(t, c)
	})
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
		c := t.Client()
		among(t, c, "#", "+/x")
		expectNotReserved(t, c)
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
