package conformance_test

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Statements of sections 3.1.3, 3.1.4 and 3.2: who is accepted, and CONNACK.

// refuser is an Authenticator that knows a client with the user name "good" only.
type refuser struct{ code packets.ReasonCode }

func (r refuser) Authenticate(_ context.Context, c *petrel.ConnectRequest) error {
	if c.UserName == "good" {
		return nil
	}
	return &petrel.Refusal{
		Code: r.code, ReasonString: strings.Repeat("r", 50), UserProperties: []petrel.UserProperty{{Name: "name", Value: "value"}},
	}
}

func init() {
	mqtt5("MQTT-3.1.3-1", "", func(t *T) {
		// The topic stands before the payload, and the user name before the password.
		topic := t.Unique("t")
		watch := t.Client()
		watch.Subscribe(0, topic)
		b := connectBytes("MQTT", 5, 0xC6, 60, body5(t, []byte{0}, text(topic), text("will"), text("user"), text("password")))
		c := t.Dial()
		c.SendRaw(b)
		if brokertest.Expect[*packets.Connack](c).Reason != packets.Success {
			t.Unfit("the broker admits no unknown user")
		}
		c.Conn.Close()
		watch.ExpectPublish(topic, "will")
	})
	mqtt5("MQTT-3.1.3-3", "", func(t *T) { refusesConnect(t, connectBytes("MQTT", 5, 2, 60, []byte{0}), malformed...) })
	mqtt5("MQTT-3.1.3-4", "", func(t *T) {
		refusesConnect(t, connectBytes("MQTT", 5, 2, 60, append([]byte{0}, text("a\xC0\x80")...)), malformed...)
	})
	mqtt5("MQTT-3.1.3-5", "", func(t *T) {
		for _, id := range []string{"0", "z", "ABCDEFGHIJKLMNOPQRSTUVW", "abcdefghijklmnopqrstuvw", "01234567890123456789XYZ"} {
			p := t.CONNECT()
			p.ClientID = []byte(id)
			leave(t.Connect(p), packets.Success)
		}
	})
	assigned := func(t *T) {
		seen := map[string]bool{}
		for _, clean := range []bool{true, false, true} {
			p := t.CONNECT()
			p.ClientID, p.CleanStart = nil, clean
			_, ack := t.TryConnect(p)
			if ack.Reason != packets.Success || len(ack.AssignedClientID) == 0 || seen[string(ack.AssignedClientID)] || ack.SessionPresent {
				t.Fatalf("Clean Start %v: %v, assigned %q, session present %v", clean, ack.Reason, ack.AssignedClientID, ack.SessionPresent)
			}
			seen[string(ack.AssignedClientID)] = true
		}
	}
	mqtt5("MQTT-3.1.3-6", "", assigned)
	mqtt5("MQTT-3.2.2-16", "", assigned)
	mqtt5("MQTT-3.1.3-7", "", func(t *T) {
		p := t.CONNECT()
		p.ClientID, p.SessionExpiryInterval = nil, 3600
		c, ack := t.TryConnect(p)
		topic := t.Unique("t")
		c.Subscribe(1, topic)
		leave(c, packets.Success)
		c, again := t.TryConnect(t.durable(string(ack.AssignedClientID)))
		if !again.SessionPresent || len(again.AssignedClientID) > 0 {
			t.Fatalf("session present %v, assigned %q", again.SessionPresent, again.AssignedClientID)
		}
		t.Client().Publish(topic, "x", 1)
		c.ExpectPublish(topic, "x")
	})
	mqtt5("MQTT-3.1.3-8", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{refuser{packets.ClientIdentifierNotValid}}})
		p := t.CONNECT()
		c := t.Dial()
		c.Send(&p)
		t.Refused(c, packets.ClientIdentifierNotValid)
	})
	timed5("MQTT-3.1.3-9", "", func(t *T) {
		id, topic := t.Unique("c"), t.Unique("t")
		watch := t.Client()
		watch.Subscribe(0, topic)
		p := t.durable(id)
		p.HasWill, p.Will = true, packets.Will{Topic: []byte(topic), Payload: []byte("will"), DelayInterval: 1}
		t.Connect(p).Conn.Close()
		t.Connect(t.durable(id))
		// Another will with the same delay marks the time when this one would have come.
		other := t.CONNECT()
		other.SessionExpiryInterval = 3600
		other.HasWill, other.Will = true, packets.Will{Topic: []byte(topic), Payload: []byte("other"), DelayInterval: 2}
		t.Connect(other).Conn.Close()
		watch.ExpectPublish(topic, "other")
	})
	mqtt5("MQTT-3.1.3-10", "", func(t *T) {
		topic := t.Unique("t")
		props := packets.Properties(nil).AppendUserProperty("b", "1").AppendUserProperty("a", "2").AppendUserProperty("b", "1").AppendUserProperty("b", "0")
		watch := t.Client()
		watch.Subscribe(0, topic)
		p := t.CONNECT()
		p.HasWill, p.Will = true, packets.Will{Topic: []byte(topic), Payload: []byte("will"), Properties: props}
		t.Connect(p).Conn.Close()
		got := watch.ExpectPublish(topic, "will")
		if pairs := userProperties(got); !slices.Equal(pairs, []string{"b=1", "a=2", "b=1", "b=0"}) {
			t.Fatalf("got %v", pairs)
		}
	})
	mqtt5("MQTT-3.1.3-11", "", func(t *T) {
		refusesConnect(t, connectBytes("MQTT", 5, 6, 60, body5(t, []byte{0}, text("a\xFF"), text("x"))), append(malformed, packets.TopicNameInvalid)...)
	})
	mqtt5("MQTT-3.1.3-12", "", func(t *T) {
		refusesConnect(t, connectBytes("MQTT", 5, 0x82, 60, body5(t, text("a\xFF"))), malformed...)
	})

	for name, b := range map[string][]byte{
		"surplus bytes":        connectBytes("MQTT", 5, 2, 60, append(append([]byte{0}, text("c")...), 0)),
		"nothing after level":  {0x10, 7, 0, 4, 'M', 'Q', 'T', 'T', 5},
		"flags not 0":          append([]byte{0x11}, connectBytes("MQTT", 5, 2, 60, append([]byte{0}, text("c")...))[1:]...),
		"unknown property":     connectBytes("MQTT", 5, 2, 60, append([]byte{2, 0x7E, 0}, text("c")...)),
		"property of PUBLISH":  connectBytes("MQTT", 5, 2, 60, append([]byte{3, 0x23, 0, 1}, text("c")...)),
		"property given twice": connectBytes("MQTT", 5, 2, 60, append([]byte{6, 0x21, 0, 1, 0x21, 0, 1}, text("c")...)),
		"receive maximum 0":    connectBytes("MQTT", 5, 2, 60, append([]byte{3, 0x21, 0, 0}, text("c")...)),
		"maximum packet 0":     connectBytes("MQTT", 5, 2, 60, append([]byte{5, 0x27, 0, 0, 0, 0}, text("c")...)),
		"problem info 2":       connectBytes("MQTT", 5, 2, 60, append([]byte{2, 0x17, 2}, text("c")...)),
		"data without method":  connectBytes("MQTT", 5, 2, 60, append([]byte{4, 0x16, 0, 1, 'x'}, text("c")...)),
	} {
		mqtt5("MQTT-3.1.4-1", name, func(t *T) { refusesConnect(t, b, malformed...) })
	}
	for _, code := range []packets.ReasonCode{packets.BadUserNameOrPassword, packets.NotAuthorized, packets.Banned, packets.ServerBusy} {
		refused := func(t *T) *brokertest.Client {
			t.With(petrel.Options{Hooks: []petrel.Hook{refuser{code}}})
			c, p := t.Dial(), t.CONNECT()
			c.Send(&p)
			return c
		}
		mqtt5("MQTT-3.1.4-2", code.String(), func(t *T) { t.Refused(refused(t), code) })
		mqtt5("MQTT-3.2.2-7", code.String(), func(t *T) {
			c := refused(t)
			brokertest.Expect[*packets.Connack](c)
			c.ExpectClosed()
		})
		mqtt5("MQTT-3.2.2-8", code.String(), func(t *T) {
			if ack := brokertest.Expect[*packets.Connack](refused(t)); ack.Reason != code {
				t.Fatalf("CONNACK with %v; want %v", ack.Reason, code)
			}
		})
	}
	mqtt5("MQTT-3.2.2-6", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{refuser{packets.NotAuthorized}}})
		p := t.durable(t.Unique("c"))
		p.HasUserName, p.UserName = true, []byte("good")
		leave(t.Connect(p), packets.Success)
		p.UserName = []byte("bad") // now there is a session, but not for this one
		if _, ack := t.TryConnect(p); ack.Reason == packets.Success || ack.SessionPresent {
			t.Fatalf("CONNACK with %v, session present %v", ack.Reason, ack.SessionPresent)
		}
	})
	mqtt5("MQTT-3.1.4-3", "", func(t *T) {
		p := t.durable(t.Unique("c"))
		old := t.Connect(p)
		c, ack := t.TryConnect(p)
		if !ack.SessionPresent {
			t.Fatal("session not present")
		}
		t.Refused(old, packets.SessionTakenOver)
		c.ExpectNothing()
	})
	mqtt5("MQTT-3.1.4-4", "", func(t *T) {
		id := t.Unique("c")
		for i, step := range []struct{ clean, present bool }{{false, false}, {false, true}, {true, false}, {false, true}} {
			p := t.durable(id)
			p.CleanStart = step.clean
			c, ack := t.TryConnect(p)
			if ack.SessionPresent != step.present {
				t.Fatalf("step %d: session present %v", i, ack.SessionPresent)
			}
			leave(c, packets.Success)
		}
	})
	accepts := func(t *T) {
		if _, ack := t.TryConnect(t.CONNECT()); ack.Reason != packets.Success {
			t.Fatalf("CONNACK with %v", ack.Reason)
		}
	}
	mqtt5("MQTT-3.1.4-5", "", accepts)
	mqtt5("MQTT-3.2.2-1", "", func(t *T) {
		for _, clean := range []bool{true, false} {
			p := t.durable(t.Unique("c"))
			p.CleanStart = clean
			conn := t.dialConn()
			if _, err := conn.Write(raw(t, &p)); err != nil {
				t.Fatal(err)
			}
			b := readPacket(t, conn)
			if b[0] != 0x20 || b[2]&^1 != 0 {
				t.Fatalf("CONNACK % x", b)
			}
		}
	})
	mqtt5("MQTT-3.1.4-6", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{refuser{packets.NotAuthorized}}})
		good := t.CONNECT()
		good.HasUserName, good.UserName = true, []byte("good")
		topic := t.Unique("t")
		watch := t.Connect(good)
		watch.Subscribe(0, "#")
		p := t.CONNECT()
		c := t.Dial()
		c.Send(&p, &packets.Publish{Topic: []byte(topic), Retain: true, Payload: []byte("x")})
		t.Refused(c, packets.NotAuthorized)
		watch.ExpectNothing()
	})
	mqtt5("MQTT-3.2.0-1", "", func(t *T) {
		id, topic := t.Unique("c"), t.Unique("t")
		c := t.Connect(t.durable(id))
		c.Subscribe(1, topic)
		leave(c, packets.Success)
		t.Client().Publish(topic, "queued", 1)
		c, p := t.Dial(), t.durable(id)
		c.Send(&p, &packets.Pingreq{})
		if got := brokertest.Expect[*packets.Connack](c); got.Reason != packets.Success {
			t.Fatalf("CONNACK with %v", got.Reason)
		}
	})
	mqtt5("MQTT-3.2.0-2", "", func(t *T) {
		c, p := t.Client(), t.CONNECT()
		c.Send(&p)
		for {
			got, ok := c.Next()
			if !ok {
				return
			}
			if got.Type() == packets.TypeConnack {
				t.Fatal("a second CONNACK")
			}
		}
	})
	mqtt5("MQTT-3.2.2-2", "", func(t *T) {
		p := t.durable(t.Unique("c"))
		leave(t.Connect(p), packets.Success)
		p.CleanStart = true
		if _, ack := t.TryConnect(p); ack.SessionPresent || ack.Reason != packets.Success {
			t.Fatalf("%v, session present %v", ack.Reason, ack.SessionPresent)
		}
	})
	mqtt5("MQTT-3.2.2-3", "", func(t *T) {
		p := t.durable(t.Unique("c"))
		for i, want := range []bool{false, true, true} {
			c, ack := t.TryConnect(p)
			if ack.SessionPresent != want || ack.Reason != packets.Success {
				t.Fatalf("connection %d: %v, session present %v", i, ack.Reason, ack.SessionPresent)
			}
			leave(c, packets.Success)
		}
	})
	capabilities()
}

// capabilities are the statements about what a server does without.
func capabilities() {
	for most := packets.AtMostOnce; most <= packets.AtLeastOnce; most++ {
		limited := petrel.Options{DisableQoS1: most == 0, DisableQoS2: true}
		mqtt5("MQTT-3.2.2-9", most.String(), func(t *T) {
			t.With(limited)
			if _, ack := t.TryConnect(t.CONNECT()); !ack.HasMaximumQoS || ack.MaximumQoS != most {
				t.Fatalf("Maximum QoS %v %v", ack.HasMaximumQoS, ack.MaximumQoS)
			}
		})
		mqtt5("MQTT-3.2.2-10", most.String(), func(t *T) {
			t.With(limited)
			var subs packets.Subscriptions
			var want []packets.ReasonCode
			for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
				subs = subs.Append(packets.Subscription{Filter: fmt.Append(nil, "t", qos), QoS: qos})
				want = append(want, packets.ReasonCode(min(qos, most)))
			}
			if got := t.Client().SubscribeWith(packets.Subscribe{Subscriptions: subs}); !slices.Equal(got, want) {
				t.Fatalf("got %v; want %v", got, want)
			}
		})
		mqtt5("MQTT-3.2.2-11", most.String(), func(t *T) {
			t.With(limited)
			c := t.Client()
			c.Send(&packets.Publish{Topic: []byte("a"), QoS: most + 1, PacketID: 1})
			t.Refused(c, packets.QoSNotSupported)
		})
		mqtt5("MQTT-3.2.2-12", most.String(), func(t *T) {
			t.With(limited)
			p := t.CONNECT()
			p.HasWill, p.Will = true, packets.Will{Topic: []byte("w"), QoS: most + 1}
			c := t.Dial()
			c.Send(&p)
			t.Refused(c, packets.QoSNotSupported)
		})
	}
	withoutRetain := petrel.Options{DisableRetain: true}
	mqtt5("MQTT-3.2.2-13", "", func(t *T) {
		t.With(withoutRetain)
		p := t.CONNECT()
		p.HasWill, p.Will = true, packets.Will{Topic: []byte("w"), Retain: true}
		c := t.Dial()
		c.Send(&p)
		t.Refused(c, packets.RetainNotSupported)
	})
	mqtt5("MQTT-3.2.2-14", "", func(t *T) {
		t.With(withoutRetain)
		c, ack := t.TryConnect(t.CONNECT())
		if !ack.RetainUnavailable {
			t.Fatal("CONNACK does not say so")
		}
		c.Send(&packets.Publish{Topic: []byte("a"), Retain: true})
		t.Refused(c, packets.RetainNotSupported)
	})
	mqtt5("MQTT-3.2.2-15", "", func(t *T) {
		t.With(petrel.Options{MaximumPacketSize: 100})
		c, ack := t.TryConnect(t.CONNECT())
		if ack.MaximumPacketSize != 100 {
			t.Fatalf("Maximum Packet Size %d", ack.MaximumPacketSize)
		}
		c.Send(&packets.Publish{Topic: []byte("a"), Payload: make([]byte, 101)})
		t.Refused(c, packets.PacketTooLarge)
	})
	for name, most := range map[string]int{"MQTT-3.2.2-17": 5, "MQTT-3.2.2-18": -1} {
		mqtt5(name, "", func(t *T) {
			t.With(petrel.Options{TopicAliasMaximum: most})
			c, ack := t.TryConnect(t.CONNECT())
			if int(ack.TopicAliasMaximum) != max(most, 0) {
				t.Fatalf("Topic Alias Maximum %d", ack.TopicAliasMaximum)
			}
			c.Send(&packets.Publish{Topic: []byte("a"), HasTopicAlias: true, TopicAlias: ack.TopicAliasMaximum + 1})
			t.Refused(c, packets.TopicAliasInvalid)
		})
	}
	for name, size := range map[string]uint32{"MQTT-3.2.2-19": 30, "MQTT-3.2.2-20": 12} {
		mqtt5(name, "", func(t *T) {
			t.With(petrel.Options{Hooks: []petrel.Hook{refuser{packets.NotAuthorized}}})
			p := t.CONNECT()
			_, ack := t.TryConnect(p)
			if len(ack.ReasonString) == 0 || ack.UserProperties.Len() != 1 {
				t.Fatalf("without a limit: reason %q, %d user properties", ack.ReasonString, ack.UserProperties.Len())
			}
			p.MaximumPacketSize = size
			_, ack = t.TryConnect(p)
			if n := len(raw(t, ack)); n > int(size) || ack.Reason != packets.NotAuthorized {
				t.Fatalf("CONNACK of %d bytes with %v", n, ack.Reason)
			}
		})
	}
	mqtt5("MQTT-3.1.4-2", "nobody is admitted", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{auth.AnyOf()}})
		p := t.CONNECT()
		c := t.Dial()
		c.Send(&p)
		t.Refused(c, packets.NotAuthorized)
	})
}

// userProperties are the user properties of a message as "name=value", in order.
func userProperties(p *packets.Publish) (pairs []string) {
	for name, value := range p.Properties.UserProperties() {
		pairs = append(pairs, string(name)+"="+string(value))
	}
	return pairs
}
