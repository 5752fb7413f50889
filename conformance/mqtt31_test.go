package conformance_test

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// What is different in MQTT 3.1, and the rest of it.

func init() {
	connect31()
	session31()
	flags31()
	flows31()
	subscribe31()
	publish31()
	errors31()
}

// bytes31 sends a CONNECT of MQTT 3.1 and returns all that comes until the
// broker closes, or CONNACK if that accepts.
func bytes31(t *T, flags byte, rest ...[]byte) []byte {
	t.Helper()
	conn := t.dialConn()
	write(t, conn, connectBytes("MQIsdp", 3, flags, 60, slices.Concat(rest...)))
	if err := conn.SetReadDeadline(time.Now().Add(*patienceFlag)); err != nil {
		t.Fatal(err)
	}
	ack := make([]byte, 4)
	n, err := io.ReadFull(conn, ack)
	if timedOut(err) {
		t.Fatal("neither CONNACK nor a close")
	}
	if n == 4 && ack[3] != 0 {
		if more, err := io.ReadAll(conn); len(more) > 0 || timedOut(err) {
			t.Fatalf("% x, then % x, %v", ack, more, err)
		}
	}
	return ack[:n]
}

var accepted31 = []byte{0x20, 2, 0, 0}

// connects31 adds a test of a CONNECT that gets exactly these bytes; none stand
// for a plain close.
func connects31(id, name string, want []byte, flags byte, rest ...[]byte) {
	mqtt31(id, name, func(t *T) {
		if got := bytes31(t, flags, rest...); !bytes.Equal(got, want) {
			t.Fatalf("got % x; want % x", got, want)
		}
	})
}

func connect31() {
	connects31("MQTT31-1", "", accepted31, 2, text("one"))
	connects31("MQTT31-3", "empty", []byte{0x20, 2, 0, 2}, 2, text(""))
	connects31("MQTT31-3", "1 character", accepted31, 2, text("x"))
	connects31("MQTT31-3", "23 characters", accepted31, 2, text("ABCDEFGHIJKLMNOPQRSTUVW"))
	mqtt31("MQTT31-4", "", func(t *T) {
		switch got := bytes31(t, 2, text(strings.Repeat("x", 24))); {
		case bytes.Equal(got, accepted31):
			t.Saw("a connection")
		case bytes.Equal(got, []byte{0x20, 2, 0, 2}):
			t.Saw("return code 2")
		default:
			t.Fatalf("got % x", got)
		}
	})
	connects31("MQTT31-5", "", accepted31, 3, text("five"))
	connects31("MQTT31-6", "user name", accepted31, 0x82, text("six"))
	connects31("MQTT31-6", "password", accepted31, 0xC2, text("sixsix"), text("user"))
	connects31("MQTT31-6", "both", accepted31, 0xC2, text("sixsixsix"))
	mqtt31("MQTT31-7", "", func(t *T) {
		switch got := bytes31(t, 0x42, text("seven"), text("password")); {
		case len(got) == 0:
			t.Saw("a plain close")
		case got[3] == 0 || got[3] == 4 || got[3] == 5:
			t.Saw("return code %d", got[3])
		default:
			t.Fatalf("got % x", got)
		}
	})
	for code, want := range map[packets.ReasonCode]byte{
		packets.UnsupportedProtocolVersion: 1, packets.ClientIdentifierNotValid: 2, packets.ServerBusy: 3,
		packets.BadUserNameOrPassword: 4, packets.NotAuthorized: 5,
	} {
		mqtt31("MQTT31-8", fmt.Sprint(want), func(t *T) { refusedAs(t, code, want) })
	}
	mqtt31("MQTT31-10", "another packet first", func(t *T) {
		for _, b := range [][]byte{{0xC0, 0}, {0x30, 3, 0, 1, 'a'}, {0x82, 6, 0, 1, 0, 1, 'a', 0}, {0xE0, 0}} {
			c := t.Dial()
			c.SendRaw(b)
			c.ExpectClosed()
		}
	})
	mqtt31("MQTT31-10", "a second CONNECT", func(t *T) {
		expectWill(t, packets.Will{}, func(c *brokertest.Client) {
			p := t.CONNECT()
			c.Send(&p)
			c.ExpectClosed()
		})
	})
}

func session31() {
	mqtt31("MQTT31-2", "", func(t *T) {
		p := t.durable(t.Unique("c"))
		leave(t.Connect(p), 0)
		conn := t.dialConn()
		write(t, conn, raw(t, &p))
		if got := readPacket(t, conn); !bytes.Equal(got, accepted31) {
			t.Fatalf("CONNACK % x", got)
		}
	})
	mqtt31("MQTT31-9", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		c := t.Connect(p)
		c.Subscribe(1, topic)
		leave(c, 0)
		pub := t.Client()
		pub.Publish(topic, "queued", 1)
		c = t.Connect(p)
		c.Accept(c.ExpectPublish(topic, "queued"))
		leave(c, 0)
		pub.Publish(topic, "lost", 1)
		p.CleanStart = true
		c = t.Connect(p)
		pub.Publish(topic, "not subscribed", 1)
		c.ExpectNothing()
		leave(c, 0)
		p.CleanStart = false
		t.Connect(p).ExpectNothing()
	})
	mqtt31("MQTT31-11", "", func(t *T) {
		p := t.CONNECT()
		old := t.Connect(p)
		c := t.Connect(p)
		old.ExpectClosed()
		c.ExpectNothing()
	})
	register(packets.V31, statementTest{"MQTT31-12", "", passingTime, func(t *T) {
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
	}})
	mqtt31("MQTT31-13", "network error", func(t *T) {
		expectWill(t, packets.Will{}, func(c *brokertest.Client) { c.Conn.Close() }).ExpectNothing()
	})
	mqtt31("MQTT31-13", "DISCONNECT", func(t *T) { expectNoWill(t, func(c *brokertest.Client) { leave(c, 0) }) })
}

func flags31() {
	mqtt31("MQTT31-14", "", func(t *T) {
		topic := t.Unique("t")
		c := t.Client()
		c.SendRaw(frame(0x8A, []byte{0, 1}, text(topic), []byte{2}))
		brokertest.Expect[*packets.Suback](c)
		t.Client().Publish(topic, "x", 2)
		got := c.ExpectPublish(topic, "x")
		c.Accept(got)
		c.SendRaw(frame(0xAA, []byte{0, 2}, text(topic)))
		brokertest.Expect[*packets.Unsuback](c)
		c.Send(&packets.Publish{Topic: []byte(topic), QoS: 2, PacketID: 7})
		brokertest.Expect[*packets.Pubrec](c)
		c.SendRaw(frame(0x6A, []byte{0, 7}))
		brokertest.Expect[*packets.Pubcomp](c)
	})
	mqtt31("MQTT31-15", "PINGREQ", func(t *T) {
		c := t.Client()
		c.SendRaw([]byte{0xCF, 0})
		if p, ok := c.Next(); !ok {
			t.Saw("a plain close")
		} else if p.Type() == packets.TypePingresp {
			t.Saw("that they are ignored")
		} else {
			t.Fatalf("got %v", p.Type())
		}
	})
	for name, b := range map[string][]byte{"type 0": {0, 0}, "type 15": {0xF0, 0}, "AUTH": {0xF0, 2, 0x18, 0}} {
		mqtt31("MQTT31-16", name, func(t *T) {
			c := t.Client()
			c.SendRaw(b)
			c.ExpectClosed()
		})
	}
}

func flows31() {
	mqtt31("MQTT31-17", "", func(t *T) {
		topic := t.Unique("t")
		sub, pub := t.Client(), t.Client()
		sub.Subscribe(2, topic)
		for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
			pub.Publish(topic, qos.String(), qos)
			got := sub.ExpectPublish(topic, qos.String())
			if got.QoS != qos || got.Dup || got.Retain {
				t.Fatalf("published with %v, got %v, DUP %v, RETAIN %v", qos, got.QoS, got.Dup, got.Retain)
			}
			sub.Accept(got)
		}
		sub.ExpectNothing()
	})
	mqtt31("MQTT31-18", "", func(t *T) {
		topic := t.Unique("t")
		watch, c := t.Client(), t.Client()
		for _, first := range []byte{0x82, 0x8A} {
			watch.SendRaw(frame(first, []byte{0, 1}, text(topic), []byte{0}))
			if ack := brokertest.Expect[*packets.Suback](watch); ack.PacketID != 1 {
				t.Fatalf("SUBACK for %d", ack.PacketID)
			}
		}
		for i := range 3 {
			c.Send(&packets.Publish{Topic: []byte(topic), QoS: 2, PacketID: 7, Dup: i > 0})
			brokertest.Expect[*packets.Pubrec](c)
		}
		for _, first := range []byte{0x62, 0x6A} {
			c.SendRaw(frame(first, []byte{0, 7}))
			if comp := brokertest.Expect[*packets.Pubcomp](c); comp.PacketID != 7 {
				t.Fatalf("PUBCOMP for %d", comp.PacketID)
			}
		}
		watch.ExpectPublish(topic, "")
		watch.ExpectNothing()
	})
	mqtt31("MQTT31-19", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		sub, pub := t.Connect(p), t.Client()
		sub.Subscribe(2, topic)
		for qos := packets.AtLeastOnce; qos <= packets.ExactlyOnce; qos++ {
			pub.Publish(topic, qos.String(), qos)
			sent := sub.ExpectPublish(topic, qos.String())
			sub.Conn.Close()
			sub = t.Connect(p)
			again := sub.ExpectPublish(topic, qos.String())
			if !again.Dup || again.PacketID != sent.PacketID {
				t.Fatalf("DUP %v, identifier %d; want true, %d", again.Dup, again.PacketID, sent.PacketID)
			}
			sub.Accept(again)
		}
	})
}

func subscribe31() {
	mqtt31("MQTT31-20", "", func(t *T) {
		root := t.Unique("t")
		var subs packets.Subscriptions
		for i, qos := range []packets.QoS{2, 0, 1} {
			subs = subs.Append(subscription(fmt.Sprint(root, "/", i), qos))
		}
		if codes := t.Client().SubscribeWith(packets.Subscribe{Subscriptions: subs}); !slices.Equal(codes, []packets.ReasonCode{2, 0, 1}) {
			t.Fatalf("SUBACK with %v", codes)
		}
	})
	// noFailure subscribes to a filter that is refused.
	noFailure := func(t *T, filter string) {
		t.Helper()
		c := t.Client()
		c.SendRaw(frame(0x82, []byte{0, 1}, text(filter), []byte{1}))
		p, ok := c.Next()
		if !ok {
			t.Saw("a plain close")
			return
		}
		if codes := p.(*packets.Suback).Reasons; len(codes) != 1 || codes[0] > 2 {
			t.Fatalf("SUBACK with %v", codes)
		}
		t.Saw("SUBACK with QoS %d", p.(*packets.Suback).Reasons[0])
		t.Client().Publish("no/x", "x", 1)
		c.ExpectNothing()
	}
	mqtt31("MQTT31-21", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{forbids(petrel.Subscribe)}})
		noFailure(t, "no/x")
	})
	for _, filter := range []string{"no#", "no/#/x", "no+"} {
		mqtt31("MQTT31-22", strings.ReplaceAll(filter, "/", "|"), func(t *T) { noFailure(t, filter) })
	}
	mqtt31("MQTT31-23", "", func(t *T) {
		topic := t.Unique("t")
		conn, p := t.dialConn(), t.CONNECT()
		write(t, conn, raw(t, &p))
		readPacket(t, conn)
		write(t, conn, raw(t, &packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription(topic, 0))}))
		readPacket(t, conn)
		for _, filters := range [][]string{{topic, topic}, {topic}} {
			p := packets.Unsubscribe{PacketID: 0x0102}
			for _, f := range filters {
				p.Filters = p.Filters.Append(f)
			}
			write(t, conn, raw(t, &p))
			if got := readPacket(t, conn); !bytes.Equal(got, []byte{0xB0, 2, 1, 2}) {
				t.Fatalf("UNSUBACK % x", got)
			}
		}
	})
	mqtt31("MQTT31-34", "", sharesAsExtension)
}

func publish31() {
	mqtt31("MQTT31-24", "", func(t *T) {
		topic := t.Unique("t")
		live := t.Client()
		live.Subscribe(0, topic)
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: 1})
		late := t.Client()
		late.Subscribe(0, topic)
		if got := live.ExpectPublish(topic, "kept"); got.Retain {
			t.Fatal("RETAIN is 1 on a live message")
		}
		if got := late.ExpectPublish(topic, "kept"); !got.Retain {
			t.Fatal("RETAIN is 0 on a retained message")
		}
	})
	mqtt31("MQTT31-25", "", func(t *T) {
		topic := t.Unique("t")
		t.keep(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: 1})
		t.Client().PublishWith(packets.Publish{Topic: []byte(topic), QoS: 1, Retain: true})
		late := t.Client()
		late.Subscribe(0, topic)
		list := until(late)
		if len(list) > 1 || len(list) == 1 && string(list[0].Payload) != "kept" { // an empty one is kept by nobody
			t.Fatalf("got %+v", list)
		}
		t.Saw("retained messages afterwards: %d", len(list))
	})
	mqtt31("MQTT31-26", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{forbids(petrel.Publish)}})
		watch := t.Client()
		watch.Subscribe(0, "no/x")
		for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
			t.Client().Publish("no/x", "x", qos)
		}
		watch.ExpectNothing()
	})
	for _, topic := range []string{"a/+", "#", "a/#/b"} {
		mqtt31("MQTT31-27", strings.ReplaceAll(topic, "/", "|"), func(t *T) {
			c := t.Client()
			c.SendRaw(frame(0x30, text(topic), []byte("x")))
			c.ExpectClosed()
		})
	}
	mqtt31("MQTT31-28", "", func(t *T) {
		topic := t.Unique("t")
		topic += strings.Repeat("x", 32767-len(topic))
		c := t.Client()
		c.Subscribe(0, topic)
		c.Send(&packets.Publish{Topic: []byte(topic)})
		c.ExpectPublish(topic, "")
	})
	mqtt31("MQTT31-29", "", func(t *T) {
		c := t.Client()
		c.SendRaw(append(frame(0x30, text("a\xFF"), []byte("x")), 0xC0, 0))
		if p, ok := c.Next(); !ok {
			t.Saw("a plain close")
		} else if p.Type() == packets.TypePingresp {
			t.Saw("that it is passed on")
		} else {
			t.Fatalf("got %v", p.Type())
		}
	})
	mqtt31("MQTT31-30", "", func(t *T) {
		newer := t.as(packets.V5)
		topic := t.Unique("t")
		sub := t.Client()
		sub.Subscribe(1, topic)
		newer.Client().PublishWith(packets.Publish{
			Topic: []byte(topic), Payload: []byte("x"), QoS: 1, Properties: packets.Properties(nil).AppendUserProperty("n", "v"),
		})
		sub.ExpectPublish(topic, "x")
	})
}

func errors31() {
	for name, b := range map[string][]byte{
		"QoS 3":                    {0x36, 5, 0, 1, 'a', 0, 1},
		"PUBLISH cut in its topic": {0x30, 3, 0, 5, 'a'},
		"CONNACK":                  {0x20, 2, 0, 0},
		"a length of five bytes":   {0xC0, 0x80, 0x80, 0x80, 0x80, 1},
	} {
		mqtt31("MQTT31-31", name, func(t *T) {
			c := t.Client()
			c.SendRaw(b)
			c.ExpectClosed()
		})
	}
	mqtt31("MQTT31-32", "", func(t *T) {
		t.With(petrel.Options{})
		p := t.CONNECT()
		c := t.Connect(p)
		if err := t.broker.Disconnect(string(p.ClientID), packets.AdministrativeAction); err != nil {
			t.Fatal(err)
		}
		c.ExpectClosed()
	})
	mqtt31("MQTT31-33", "", func(t *T) {
		c := t.Client()
		c.Send(&packets.Pingreq{}, &packets.Pingreq{})
		brokertest.Expect[*packets.Pingresp](c)
		brokertest.Expect[*packets.Pingresp](c)
	})
}
