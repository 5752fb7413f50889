package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Rules without a number about CONNECT, sessions and keep alive, and their traps.

func init() {
	connecting()
	sessions()
	sessionTraps()
	keepAlives()
}

// known is an Authenticator that wants a user name.
var known = petrel.AuthenticatorFunc(func(_ context.Context, r *petrel.ConnectRequest) error {
	if r.UserName == "" {
		return packets.NotAuthorized
	}
	return nil
})

// by gives a CONNECT a user name.
func by(p packets.Connect) packets.Connect {
	p.HasUserName, p.UserName = true, []byte("user")
	return p
}

func connecting() {
	timedRule("connect-1", "", func(t *T) {
		t.With(petrel.Options{ConnectTimeout: 500 * time.Millisecond})
		silent, slow := t.Dial(), t.Dial()
		slow.SendRaw([]byte{0x10, 100, 0})
		silent.ExpectClosed()
		slow.ExpectClosed()
	})
	for _, b := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00", "\xFF\xFF\xFF\xFF\xFF\xFF", "\x00\x00\x00\x00"} {
		rule("connect-2", fmt.Sprintf("% x", b[:4]), func(t *T) {
			c := t.Dial()
			c.SendRaw([]byte(b))
			c.ExpectClosed()
		})
	}
	for name, level := range map[string]byte{"MQTT": 3, "MQIsdp": 4} {
		rule("connect-3", fmt.Sprint(name, " with ", level), func(t *T) {
			c := t.as(packets.V31).Dial() // whose answers all are two bytes long
			c.SendRaw(connectBytes(name, level, 2, 60, text("c")))
			t.Refused(c, packets.UnsupportedProtocolVersion)
		})
	}
	rule("connect-3", "MQIsdp with 5", func(t *T) {
		c := t.as(packets.V31).Dial()
		c.SendRaw(connectBytes("MQIsdp", 5, 2, 60, text("c")))
		t.Refused(c, packets.UnsupportedProtocolVersion)
	})
	for name, level := range map[string]byte{"MQIsdp": 0x83, "MQTT": 0x84} {
		rule("connect-5", name, func(t *T) {
			c := t.Dial()
			c.SendRaw(connectBytes(name, level, 2, 60, text(t.Unique("c"))))
			switch ack := brokertest.Expect[*packets.Connack](c); ack.Reason {
			case packets.Success:
				c.ExpectNothing()
				t.Saw("a connection")
			case packets.UnsupportedProtocolVersion:
				c.ExpectClosed()
				t.Saw("return code 1")
			default:
				t.Fatalf("CONNACK with %v", ack.Reason)
			}
		})
	}
	for name, id := range map[string]string{"200 letters": strings.Repeat("x", 200), "other characters": "é/+# $"} {
		rule("connect-6", name, func(t *T) {
			p := t.CONNECT()
			p.ClientID = []byte(id)
			c, ack := t.TryConnect(p)
			switch ack.Reason {
			case packets.Success:
				c.ExpectNothing()
			case packets.ClientIdentifierNotValid:
				c.ExpectClosed()
			default:
				t.Fatalf("CONNACK with %v", ack.Reason)
			}
			t.Saw("CONNACK 0x%02X", byte(ack.Reason))
		})
	}
	for _, topic := range []string{"a/+", "#", ""} {
		rule("connect-7", "topic "+strings.ReplaceAll(topic, "/", "|"), func(t *T) {
			c := t.Dial()
			c.SendRaw(t.connectBody(6, t.props(), text(topic), text("x")))
			t.Refused(c, packets.TopicNameInvalid, packets.MalformedPacket, packets.ProtocolError)
		})
	}
	rule("connect-8", "", func(t *T) {
		p := t.CONNECT()
		p.HasWill, p.Will = true, packets.Will{Topic: []byte("a"), Payload: []byte{0xFF}, Properties: packets.Properties(nil).AppendPayloadFormat(1)}
		c, ack := t.TryConnect(p)
		if ack.Reason != packets.Success && ack.Reason != packets.PayloadFormatInvalid {
			t.Fatalf("CONNACK with %v", ack.Reason)
		}
		if ack.Reason == packets.Success {
			leave(c, packets.Success)
		}
		t.Saw("CONNACK 0x%02X", byte(ack.Reason))
	})
	rule("connect-9", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{known}})
		p := t.CONNECT()
		c := t.Connect(by(p))
		if _, ack := t.TryConnect(p); ack.Reason != packets.NotAuthorized {
			t.Fatalf("CONNACK with %v", ack.Reason)
		}
		c.ExpectNothing() // which it would not answer if it had been displaced
	})
	rule("connect-10", "", func(t *T) {
		t.With(petrel.Options{
			ReceiveMaximum: 10, MaximumPacketSize: 1000, TopicAliasMaximum: 3, MaximumSessionExpiry: 10 * time.Second,
			MaximumKeepAlive: 20 * time.Second, DisableQoS2: true, DisableRetain: true, DisableWildcardSubscriptions: true,
			DisableSharedSubscriptions: true, DisableSubscriptionIdentifiers: true,
		})
		_, ack := t.TryConnect(t.durable(""))
		if ack.ReceiveMaximum != 10 || ack.MaximumPacketSize != 1000 || ack.TopicAliasMaximum != 3 || !ack.HasSessionExpiryInterval ||
			ack.SessionExpiryInterval != 10 || ack.ServerKeepAlive != 20 || !ack.HasMaximumQoS || ack.MaximumQoS != 1 || !ack.RetainUnavailable ||
			!ack.WildcardSubscriptionUnavailable || !ack.SharedSubscriptionUnavailable || !ack.SubscriptionIdentifiersUnavailable ||
			len(ack.AssignedClientID) == 0 {
			t.Fatalf("CONNACK %+v", ack)
		}
	})
}

// present connects with p, returns whether there was a session, and leaves the
// connection open.
func (t *T) present(p packets.Connect) (*brokertest.Client, bool) {
	t.Helper()
	c, ack := t.TryConnect(p)
	if ack.Reason != packets.Success {
		t.Fatalf("CONNACK with %v", ack.Reason)
	}
	return c, ack.SessionPresent
}

func sessions() {
	timedRule("session-1", "", func(t *T) {
		t.With(petrel.Options{MaximumSessionExpiry: time.Second})
		p := t.durable(t.Unique("c"))
		c, ack := t.TryConnect(p)
		if !ack.HasSessionExpiryInterval || ack.SessionExpiryInterval != 1 {
			t.Fatalf("Session Expiry Interval %d in CONNACK", ack.SessionExpiryInterval)
		}
		leave(c, packets.Success)
		time.Sleep(2100 * time.Millisecond)
		if _, present := t.present(p); present {
			t.Fatal("the session outlived what CONNACK said")
		}
	})
	timedRule("session-2", "", func(t *T) {
		p := t.durable(t.Unique("c"))
		p.SessionExpiryInterval = 1
		c := t.Connect(p)
		time.Sleep(2100 * time.Millisecond)
		leave(c, packets.Success)
		if _, present := t.present(p); !present {
			t.Fatal("the expiry was counted from CONNECT")
		}
	})
	rule("session-3", "", func(t *T) {
		topic := t.Unique("t")
		stays, leaves, pub := t.Client(), t.Client(), t.Client()
		stays.Subscribe(1, "$share/g/"+topic)
		leaves.Subscribe(1, "$share/g/"+topic)
		leave(leaves, packets.Success)
		for i := range 10 {
			pub.Publish(topic, fmt.Sprint(i), 1)
			stays.Accept(stays.ExpectPublish(topic, fmt.Sprint(i)))
		}
	})
	for from, to := range map[packets.Version]packets.Version{packets.V311: packets.V5, packets.V5: packets.V311} {
		rule("session-4", fmt.Sprintf("%v then %v", from, to), func(t *T) {
			older, newer := t.as(from), t.as(to)
			id, topic := t.Unique("c"), t.Unique("t")
			c := older.Connect(older.durable(id))
			c.Subscribe(1, topic)
			leave(c, packets.Success)
			older.Client().Publish(topic, "queued", 1)
			c, present := newer.present(newer.durable(id))
			if !present {
				t.Fatal("session not present")
			}
			c.Accept(c.ExpectPublish(topic, "queued"))
			c.Send(&packets.Publish{Topic: []byte(topic), Payload: []byte("own")}) // No Local is off
			c.ExpectPublish(topic, "own")
		})
	}
	rule("session-5", "", func(t *T) {
		topic := t.Unique("t")
		c := t.Client() // with a session that ends with its connection
		c.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte("kept"), QoS: 1, Retain: true})
		leave(c, packets.Success)
		late := t.Client()
		late.Subscribe(0, topic)
		late.ExpectPublish(topic, "kept")
		late.Send(&packets.Publish{Topic: []byte(topic), Retain: true})
	})
	rule("session-7", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		p.MaximumPacketSize, p.ReceiveMaximum, p.TopicAliasMaximum = 50, 1, 5
		c := t.Connect(p)
		c.Subscribe(1, topic)
		leave(c, packets.Success)
		pub := t.Client()
		large := strings.Repeat("x", 100)
		c = t.Connect(t.durable(string(p.ClientID))) // without limits
		for range 3 {
			pub.Publish(topic, large, 1)
			if got := c.ExpectPublish(topic, large); got.HasTopicAlias {
				t.Fatalf("topic alias %d", got.TopicAlias)
			}
		}
	})
}

func sessionTraps() {
	rule("trap-connect-5", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		old := t.Connect(p)
		old.Subscribe(1, topic)
		c, _ := t.present(p)
		old.Conn.Close()
		for i := range 20 {
			t.Client().Publish(topic, fmt.Sprint(i), 1)
			c.Accept(c.ExpectPublish(topic, fmt.Sprint(i)))
		}
		leave(c, packets.Success)
		if _, present := t.present(p); t.version == packets.V5 && !present {
			t.Fatal("the session is gone")
		}
	})
	rule("trap-connect-9", "", func(t *T) {
		p := t.durable(t.Unique("c"))
		p.CleanStart = true
		leave(t.Connect(p), packets.Success)
		p.CleanStart = false
		if _, present := t.present(p); !present {
			t.Fatal("session not present")
		}
	})
	rule("trap-connect-10", "", func(t *T) {
		p := t.durable(t.Unique("c"))
		p.SessionExpiryInterval = 0
		leave(t.Connect(p), packets.Success)
		if _, present := t.present(p); present {
			t.Fatal("session present")
		}
	})
	rule("trap-connect-11", "", func(t *T) {
		p := t.durable(t.Unique("c"))
		c := t.Connect(p)
		c.Send(&packets.Disconnect{HasSessionExpiryInterval: true})
		c.ExpectClosed()
		if _, present := t.present(p); present {
			t.Fatal("session present")
		}
	})
	rule("trap-connect-12", "", func(t *T) {
		expectWill(t, packets.Will{}, func(c *brokertest.Client) {
			c.Send(&packets.Disconnect{HasSessionExpiryInterval: true, SessionExpiryInterval: 5})
			t.Refused(c, packets.ProtocolError)
		})
	})
	for _, expiry := range []uint32{0xFFFFFFFF, 0xFFFFFFFE, 1 << 31} {
		timedRule("trap-connect-13", fmt.Sprintf("0x%X", expiry), func(t *T) {
			p := t.durable(t.Unique("c"))
			p.SessionExpiryInterval = expiry
			leave(t.Connect(p), packets.Success)
			time.Sleep(1100 * time.Millisecond)
			c, present := t.present(p)
			if !present {
				t.Fatal("session not present")
			}
			c.Send(&packets.Disconnect{HasSessionExpiryInterval: true}) // leave nothing behind
		})
	}
	rule("trap-connect-30", "", func(t *T) {
		seen := map[string]bool{}
		for range 2 {
			t.With(petrel.Options{})
			for range 100 {
				p := t.CONNECT()
				p.ClientID = nil
				_, ack := t.TryConnect(p)
				if id := string(ack.AssignedClientID); id == "" || seen[id] {
					t.Fatalf("%q was assigned before", id)
				}
				seen[string(ack.AssignedClientID)] = true
			}
		}
	})
	rule("trap-connect-31", "", func(t *T) {
		expectWill(t, packets.Will{}, func(c *brokertest.Client) {
			p := t.CONNECT()
			c.Send(&p)
			t.Refused(c, packets.ProtocolError)
		})
	})
}

func keepAlives() {
	// alive has a client with Keep Alive 1 send a packet of a kind for more
	// than twice the time after which it would be closed.
	alive := func(name string, send func(t *T, c *brokertest.Client)) {
		timedRule("trap-connect-25", name, func(t *T) {
			p := t.CONNECT()
			p.KeepAlive = 1
			c := t.Connect(p)
			for range 8 {
				time.Sleep(500 * time.Millisecond)
				send(t, c)
			}
			c.ExpectNothing()
		})
	}
	alive("PUBLISH", func(t *T, c *brokertest.Client) { c.Send(&packets.Publish{Topic: []byte("a")}) })
	alive("PUBACK", func(t *T, c *brokertest.Client) { c.Send(&packets.Puback{PacketID: 9}) })
	alive("SUBSCRIBE", func(t *T, c *brokertest.Client) { c.Subscribe(0, t.Unique("t")) })
	timedRule("trap-connect-26", "", func(t *T) {
		p := t.CONNECT()
		p.KeepAlive = 0
		c := t.Connect(p)
		time.Sleep(4 * time.Second)
		c.ExpectNothing()
	})
	timedRule("trap-connect-27", "", func(t *T) {
		topic, p := t.Unique("t"), t.CONNECT()
		p.KeepAlive = 1
		c, pub := t.Connect(p), t.Client()
		c.Subscribe(0, topic)
		for end := time.Now().Add(*patienceFlag); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
			pub.Publish(topic, "x", 1)
			switch p, ok := c.Next(); {
			case !ok:
				return
			case p.Type() == packets.TypeDisconnect:
				if code := disconnectCode(t, p); code != packets.KeepAliveTimeout {
					t.Fatalf("DISCONNECT with %v", code)
				}
				return
			}
		}
		t.Fatal("the connection lives without a packet from the client")
	})
	timedRule("trap-connect-35", "", func(t *T) {
		t.With(petrel.Options{MaximumKeepAlive: time.Second})
		c := t.Client() // with a Keep Alive of a minute
		time.Sleep(2500 * time.Millisecond)
		c.ExpectNothing()
	})
}

// forbids is an Authorizer that refuses an action on the topics or filters that
// begin with "no/".
func forbids(action petrel.Action) petrel.Hook {
	return petrel.AuthorizerFunc(func(_ context.Context, r *petrel.AccessRequest) error {
		if r.Action == petrel.Subscribe && action == petrel.Receive {
			r.CheckDeliveries = true
		}
		if r.Action == action && strings.HasPrefix(r.Topic, "no/") {
			return errors.Join(packets.NotAuthorized, errors.New("it begins with no/"))
		}
		return nil
	})
}
