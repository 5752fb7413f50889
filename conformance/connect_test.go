package conformance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Statements of section 3.1, CONNECT.

// leave ends the connection by a DISCONNECT and waits until the broker has closed it.
func leave(c *brokertest.Client, reason packets.ReasonCode) {
	c.Send(&packets.Disconnect{Reason: reason})
	c.ExpectClosed()
}

// raw encodes a packet.
func raw(t *T, p packets.Packet) []byte {
	t.Helper()
	b, err := p.AppendTo(nil, t.version)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// connectBytes is a CONNECT built from its parts: what a codec would not encode.
func connectBytes(name string, level, flags byte, keepAlive uint16, rest []byte) []byte {
	body := append([]byte{0, byte(len(name))}, name...)
	body = append(body, level, flags, byte(keepAlive>>8), byte(keepAlive))
	body = append(body, rest...)
	return append([]byte{0x10, byte(len(body))}, body...)
}

func text(s string) []byte { return append([]byte{byte(len(s) >> 8), byte(len(s))}, s...) }

// body5 is what follows Keep Alive in a 5.0 CONNECT: no properties, the client
// identifier, and what is given.
func body5(t *T, rest ...[]byte) []byte {
	b := append([]byte{0}, text(t.Unique("c"))...)
	for _, r := range rest {
		b = append(b, r...)
	}
	return b
}

// refusesConnect sends bytes on a new connection, and wants it closed.
func refusesConnect(t *T, b []byte, codes ...packets.ReasonCode) {
	t.Helper()
	c := t.Dial()
	c.SendRaw(b)
	t.Refused(c, codes...)
}

// answer sends bytes on a new connection, and returns all that comes until the
// broker has closed it.
func answer(t *T, b []byte) []byte {
	t.Helper()
	conn := t.dialConn()
	if err := conn.SetDeadline(time.Now().Add(*patienceFlag)); err != nil {
		t.Fatal(err)
	}
	write(t, conn, b)
	got, err := io.ReadAll(conn)
	if timedOut(err) {
		t.Fatalf("got % x and no close", got)
	}
	return got
}

// write writes, and bears that the other side has closed.
func write(t *T, conn net.Conn, b []byte) {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Logf("write: %v", err)
	}
}

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

var malformed = []packets.ReasonCode{packets.MalformedPacket, packets.ProtocolError}

// durable is a CONNECT whose session outlives the connection, in 5.0 for an hour.
func (t *T) durable(id string) packets.Connect {
	p := t.CONNECT()
	p.ClientID, p.CleanStart = []byte(id), false
	if t.version == packets.V5 {
		p.SessionExpiryInterval = 3600
	}
	return p
}

// findsSession has two clients, of which each must find the session of its own.
func findsSession(t *T) {
	pub := t.Client()
	var sessions [2]packets.Connect
	var topics [2]string
	for i := range sessions {
		sessions[i], topics[i] = t.durable(t.Unique("c")), t.Unique("t")
		c := t.Connect(sessions[i])
		c.Subscribe(1, topics[i])
		leave(c, packets.Success)
		pub.Publish(topics[i], "queued", 1)
	}
	for i, p := range sessions {
		c := t.Connect(p)
		c.Accept(c.ExpectPublish(topics[i], "queued"))
		c.ExpectNothing()
	}
}

func init() {
	mqtt5("MQTT-3.1.0-1", "", func(t *T) {
		for _, first := range []packets.Packet{
			&packets.Publish{Topic: []byte("a")}, &packets.Pingreq{}, &packets.Puback{PacketID: 1}, &packets.Disconnect{},
			&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("a")})},
			&packets.Connack{}, &packets.Auth{HasAuthenticationMethod: true, AuthenticationMethod: []byte("M")},
		} {
			c, p := t.Dial(), t.CONNECT()
			c.Send(first, &p) // it is too late for that
			c.ExpectClosed()
		}
	})
	mqtt5("MQTT-3.1.0-2", "", func(t *T) {
		c, p := t.Client(), t.CONNECT()
		c.Send(&p)
		t.Refused(c, packets.ProtocolError)
	})
	mqtt5("MQTT-3.1.2-1", "", func(t *T) {
		for _, name := range []string{"MQTX", "mqtt", "MQT", "MQTTT", ""} {
			refusesConnect(t, connectBytes(name, 5, 2, 60, body5(t)), packets.UnsupportedProtocolVersion)
		}
	})
	mqtt5("MQTT-3.1.2-2", "", func(t *T) {
		for _, level := range []byte{6, 7, 127} {
			switch got := answer(t, connectBytes("MQTT", level, 2, 60, body5(t))); {
			case len(got) == 0:
				t.Saw("a plain close")
			case bytes.Equal(got, []byte{0x20, 2, 0, 1}): // what MQTT 3.1.1 demands
				t.Saw("return code 1 of MQTT 3.1.1")
			case len(got) > 3 && got[0] == 0x20 && got[3] == byte(packets.UnsupportedProtocolVersion):
				t.Saw("CONNACK 0x84")
			default:
				t.Fatalf("level %d: got % x", level, got)
			}
		}
	})
	mqtt5("MQTT-3.1.2-3", "", func(t *T) { refusesConnect(t, connectBytes("MQTT", 5, 3, 60, body5(t)), malformed...) })

	mqtt5("MQTT-3.1.2-4", "", func(t *T) {
		id, topic := t.Unique("c"), t.Unique("t")
		c := t.Connect(t.durable(id))
		c.Subscribe(1, topic)
		leave(c, packets.Success)
		t.Client().Publish(topic, "lost", 1)
		p := t.durable(id)
		p.CleanStart = true
		c, ack := t.TryConnect(p)
		if ack.SessionPresent {
			t.Fatal("session present")
		}
		t.Client().Publish(topic, "not subscribed", 1)
		c.ExpectNothing()
	})
	resumes := func(t *T) {
		id, topic := t.Unique("c"), t.Unique("t")
		c := t.Connect(t.durable(id))
		c.Subscribe(1, topic)
		leave(c, packets.Success)
		pub := t.Client()
		pub.Publish(topic, "queued", 1)
		c, ack := t.TryConnect(t.durable(id))
		if !ack.SessionPresent {
			t.Fatal("session not present")
		}
		c.Accept(c.ExpectPublish(topic, "queued"))
		pub.Publish(topic, "live", 1)
		c.Accept(c.ExpectPublish(topic, "live"))
	}
	mqtt5("MQTT-3.1.2-5", "", resumes)
	mqtt5("MQTT-3.1.2-23", "", func(t *T) {
		p := t.durable(t.Unique("c"))
		for _, end := range []func(c *brokertest.Client){
			func(c *brokertest.Client) { leave(c, packets.Success) },
			func(c *brokertest.Client) { c.Conn.Close() },
			func(c *brokertest.Client) {
				c.SendRaw([]byte{0, 0})
				t.Refused(c, malformed...)
			},
		} {
			end(t.Connect(p))
			if _, ack := t.TryConnect(p); !ack.SessionPresent {
				t.Fatal("session not present")
			}
		}
	})
	mqtt5("MQTT-3.1.3-2", "", findsSession)
	mqtt5("MQTT-3.1.2-6", "", func(t *T) {
		c, ack := t.TryConnect(t.durable(t.Unique("c")))
		if ack.SessionPresent || ack.Reason != packets.Success {
			t.Fatalf("got %v, session present %v", ack.Reason, ack.SessionPresent)
		}
		c.ExpectNothing()
	})

	mqtt5("MQTT-3.1.2-7", "", func(t *T) { expectWill(t, packets.Will{}, func(c *brokertest.Client) { c.Conn.Close() }) })
	mqtt5("MQTT-3.1.2-8", "network failure", func(t *T) { expectWill(t, packets.Will{}, func(c *brokertest.Client) { c.Conn.Close() }) })
	mqtt5("MQTT-3.1.2-8", "DISCONNECT with will", func(t *T) {
		expectWill(t, packets.Will{}, func(c *brokertest.Client) { leave(c, packets.DisconnectWithWill) })
	})
	mqtt5("MQTT-3.1.2-8", "protocol error", func(t *T) {
		expectWill(t, packets.Will{}, func(c *brokertest.Client) { c.SendRaw([]byte{0xF0, 0x00}) })
	})
	mqtt5("MQTT-3.1.2-8", "normal DISCONNECT", func(t *T) { expectNoWill(t, func(c *brokertest.Client) { leave(c, packets.Success) }) })
	mqtt5("MQTT-3.1.2-10", "", func(t *T) {
		watch := expectWill(t, packets.Will{}, func(c *brokertest.Client) { c.Conn.Close() })
		watch.ExpectNothing() // not a second time
	})
	mqtt5("MQTT-3.1.2-14", "", func(t *T) {
		topic := t.Unique("t")
		expectWill(t, packets.Will{Topic: []byte(topic)}, func(c *brokertest.Client) { c.Conn.Close() })
		late := t.Client()
		late.Subscribe(0, topic)
		late.ExpectNothing()
	})
	mqtt5("MQTT-3.1.2-15", "", func(t *T) {
		topic := t.Unique("t")
		expectWill(t, packets.Will{Topic: []byte(topic), Retain: true}, func(c *brokertest.Client) { c.Conn.Close() })
		late := t.Client()
		late.Subscribe(0, topic)
		if p := late.ExpectPublish(topic, "will"); !p.Retain {
			t.Fatal("RETAIN is 0")
		}
		late.Send(&packets.Publish{Topic: []byte(topic), Retain: true}) // leave nothing behind
	})

	will := [][]byte{{0}, text("w"), text("x")} // properties, topic, payload
	for n := range will {
		mqtt5("MQTT-3.1.2-9", fmt.Sprintf("%d of 3 fields", n), func(t *T) {
			refusesConnect(t, connectBytes("MQTT", 5, 6, 60, body5(t, will[:n]...)), malformed...)
		})
	}
	for _, flags := range []byte{1 << 3, 2 << 3, 3 << 3} {
		mqtt5("MQTT-3.1.2-11", fmt.Sprintf("flags 0x%02X", flags|2), func(t *T) {
			refusesConnect(t, connectBytes("MQTT", 5, flags|2, 60, body5(t)), malformed...)
		})
	}
	mqtt5("MQTT-3.1.2-12", "", func(t *T) {
		refusesConnect(t, connectBytes("MQTT", 5, 3<<3|4|2, 60, body5(t, will...)), malformed...)
	})
	mqtt5("MQTT-3.1.2-13", "", func(t *T) { refusesConnect(t, connectBytes("MQTT", 5, 1<<5|2, 60, body5(t)), malformed...) })
	mqtt5("MQTT-3.1.2-16", "", func(t *T) {
		refusesConnect(t, connectBytes("MQTT", 5, 2, 60, body5(t, text("user"))), malformed...)
	})
	mqtt5("MQTT-3.1.2-17", "", func(t *T) { refusesConnect(t, connectBytes("MQTT", 5, 0x82, 60, body5(t)), malformed...) })
	mqtt5("MQTT-3.1.2-18", "", func(t *T) {
		refusesConnect(t, connectBytes("MQTT", 5, 0x82, 60, body5(t, text("user"), text("password"))), malformed...)
	})
	mqtt5("MQTT-3.1.2-19", "missing", func(t *T) {
		refusesConnect(t, connectBytes("MQTT", 5, 0xC2, 60, body5(t, text("user"))), malformed...)
	})
	mqtt5("MQTT-3.1.2-19", "without a user name", func(t *T) {
		c := t.Dial()
		c.SendRaw(connectBytes("MQTT", 5, 0x42, 60, body5(t, text("password"))))
		switch ack := brokertest.Expect[*packets.Connack](c); ack.Reason {
		case packets.Success, packets.BadUserNameOrPassword, packets.NotAuthorized:
			t.Saw("CONNACK 0x%02X", byte(ack.Reason))
		default:
			t.Fatalf("CONNACK with %v", ack.Reason)
		}
	})
	mqtt5("MQTT-3.1.2-24", "", func(t *T) {
		topic := t.Unique("t")
		p := t.CONNECT()
		p.MaximumPacketSize = 64
		sub, pub := t.Connect(p), t.Client()
		sub.Subscribe(1, topic)
		room := 64 - len(raw(t, &packets.Publish{Topic: []byte(topic), QoS: 1, PacketID: 1}))
		pub.Publish(topic, string(bytes.Repeat([]byte("x"), room+1)), 1)
		pub.Publish(topic, string(bytes.Repeat([]byte("y"), room)), 1)
		got := brokertest.Expect[*packets.Publish](sub)
		if size := len(raw(t, got)); size > 64 || got.Payload[0] != 'y' {
			t.Fatalf("got a packet of %d bytes", size)
		}
	})
	mqtt5("MQTT-3.1.2-25", "", func(t *T) {
		topic := t.Unique("t")
		p := t.CONNECT()
		p.MaximumPacketSize, p.ReceiveMaximum = 64, 1
		sub, pub := t.Connect(p), t.Client()
		sub.Subscribe(1, topic)
		for range 3 {
			pub.Publish(topic, string(make([]byte, 100)), 1)
			pub.Publish(topic, "fits", 1)
			sub.Accept(sub.ExpectPublish(topic, "fits"))
		}
		sub.ExpectNothing()
	})
	mqtt5("MQTT-3.1.2-26", "", func(t *T) {
		p := t.CONNECT()
		p.TopicAliasMaximum = 2
		if most := highestAlias(t, p); most > 2 {
			t.Fatalf("topic alias %d; want at most 2", most)
		}
	})
	mqtt5("MQTT-3.1.2-27", "", func(t *T) {
		if most := highestAlias(t, t.CONNECT()); most != 0 {
			t.Fatalf("topic alias %d; want none", most)
		}
	})
	mqtt5("MQTT-3.1.2-28", "", func(t *T) {
		t.With(petrel.Options{ResponseInformation: "replies/"})
		_, ack := t.TryConnect(t.CONNECT())
		if len(ack.ResponseInformation) > 0 {
			t.Fatalf("Response Information %q was not asked for", ack.ResponseInformation)
		}
		p := t.CONNECT()
		p.RequestResponseInformation = true
		if _, ack := t.TryConnect(p); string(ack.ResponseInformation) != "replies/" {
			t.Fatalf("Response Information %q", ack.ResponseInformation)
		}
	})
	mqtt5("MQTT-3.1.2-29", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{talkative{}}})
		p := t.CONNECT()
		p.NoProblemInformation = true
		for _, p := range []packets.Connect{p, t.CONNECT()} {
			c := t.Connect(p)
			c.Send(&packets.Publish{Topic: []byte("a"), QoS: 1, PacketID: 1})
			ack := brokertest.Expect[*packets.Puback](c)
			c.Send(&packets.Publish{Topic: []byte("a"), QoS: 2, PacketID: 1})
			rec := brokertest.Expect[*packets.Pubrec](c)
			for _, told := range []int{len(ack.ReasonString), ack.UserProperties.Len(), len(rec.ReasonString), rec.UserProperties.Len()} {
				if (told == 0) != p.NoProblemInformation {
					t.Fatalf("with Request Problem Information %v: %q and %q", !p.NoProblemInformation, ack.ReasonString, rec.ReasonString)
				}
			}
		}
	})
}

// talkative refuses every PUBLISH and explains itself.
type talkative struct{}

func (talkative) Authorize(_ context.Context, r *petrel.AccessRequest) error {
	if r.Action != petrel.Publish {
		return nil
	}
	return &petrel.Refusal{
		Code: packets.NotAuthorized, ReasonString: "because", UserProperties: []petrel.UserProperty{{Name: "name", Value: "value"}},
	}
}

// expectWill connects a client with a will, ends it, and waits for the will. It
// returns who saw it.
func expectWill(t *T, w packets.Will, end func(c *brokertest.Client)) *brokertest.Client {
	t.Helper()
	if len(w.Topic) == 0 {
		w.Topic = []byte(t.Unique("t"))
	}
	w.Payload = []byte("will")
	watch := t.Client()
	watch.Subscribe(0, string(w.Topic))
	p := t.CONNECT()
	p.HasWill, p.Will = true, w
	end(t.Connect(p))
	watch.ExpectPublish(string(w.Topic), "will")
	return watch
}

// expectNoWill does the same and wants no will. end returns when the broker has
// closed the connection.
func expectNoWill(t *T, end func(c *brokertest.Client)) {
	t.Helper()
	topic := t.Unique("t")
	watch := t.Client()
	watch.Subscribe(0, topic)
	p := t.CONNECT()
	p.HasWill, p.Will = true, packets.Will{Topic: []byte(topic), Payload: []byte("will")}
	end(t.Connect(p))
	// A second client on the same way: had there been a will, it would have come first.
	expectWillOn(t, watch, topic)
	watch.ExpectNothing()
}

// expectWillOn lets another client end without DISCONNECT, whose will is "last".
func expectWillOn(t *T, watch *brokertest.Client, topic string) {
	t.Helper()
	p := t.CONNECT()
	p.HasWill, p.Will = true, packets.Will{Topic: []byte(topic), Payload: []byte("last")}
	t.Connect(p).Conn.Close()
	watch.ExpectPublish(topic, "last")
}

// highestAlias is the highest topic alias that the broker uses towards a client
// which gets messages on several topics, some of them twice.
func highestAlias(t *T, p packets.Connect) (most uint16) {
	t.Helper()
	prefix := t.Unique("t")
	sub, pub := t.Connect(p), t.Client()
	sub.Subscribe(0, prefix+"/#")
	for range 2 {
		for _, topic := range brokertest.Topics(prefix, 5) {
			pub.Publish(topic, "x", 1)
			got := brokertest.Expect[*packets.Publish](sub)
			most = max(most, got.TopicAlias)
		}
	}
	return most
}
