package conformance_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Rules without a number about errors, enhanced authentication and the crossing
// of versions, and the traps of errors.

func init() {
	protocolErrors()
	partialErrors()
	lastWords()
	exchangeRules()
	crossing()
	problemInformation()
	slowClients()
}

// protocolErrors are what can be parsed and is not allowed, beside what other
// rules have.
func protocolErrors() {
	for name, properties := range map[string][]byte{
		"Receive Maximum 0":              {0x21, 0, 0},
		"Maximum Packet Size 0":          {0x27, 0, 0, 0, 0},
		"Request Problem Information 2":  {0x17, 2},
		"Request Response Information 2": {0x19, 2},
		"Authentication Data alone":      {0x16, 0, 1, 'x'},
	} {
		rule("errors-1", name, func(t *T) {
			refusesConnect(t, carriers["CONNECT"].bytes(t, block(properties)), packets.ProtocolError)
		})
	}
	ruleBytes("errors-1", "PUBLISH without topic and alias", frame(0x30, text(""), []byte{0}), packets.ProtocolError)
	ruleBytes("errors-1", "Subscription Identifier 0", frame(0x82, []byte{0, 1}, block([]byte{0x0B, 0}), text("a"), []byte{0}), packets.ProtocolError)
	ruleBytes("errors-1", "Retain Handling 3", frame(0x82, []byte{0, 1, 0}, text("a"), []byte{0x30}), packets.ProtocolError)
	ruleBytes("errors-1", "SUBSCRIBE without a filter", frame(0x82, []byte{0, 1, 0}), packets.ProtocolError)
	ruleBytes("errors-1", "UNSUBSCRIBE without a filter", frame(0xA2, []byte{0, 1, 0}), packets.ProtocolError)
	ruleBytes("errors-1", "Payload Format Indicator 2", frame(0x30, text("a"), block([]byte{0x01, 2})), packets.ProtocolError)
	ruleBytes("errors-1", "AUTH without a method", frame(0xF0, []byte{0x19}, []byte{0}), packets.ProtocolError)
}

func partialErrors() {
	rule("errors-2", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{forbids(petrel.Subscribe)}})
		c := t.Client()
		var subs packets.Subscriptions
		for _, filter := range []string{"yes/a", "no/a", "yes/b"} {
			subs = subs.Append(subscription(filter, 0))
		}
		refused := packets.NotAuthorized
		if t.version != packets.V5 {
			refused = packets.UnspecifiedError // 0x80
		}
		if codes := c.SubscribeWith(packets.Subscribe{Subscriptions: subs}); !slices.Equal(codes, []packets.ReasonCode{0, refused, 0}) {
			t.Fatalf("SUBACK with %v", codes)
		}
		pub := t.Client()
		for _, topic := range []string{"yes/a", "no/a", "yes/b"} {
			pub.Publish(topic, "x", 1)
		}
		c.ExpectPublish("yes/a", "x")
		c.ExpectPublish("yes/b", "x")
		c.ExpectNothing()
	})
	rule("errors-3", "", func(t *T) {
		topic := t.Unique("t")
		sub, pub, bad := t.Client(), t.Client(), t.Client()
		sub.Subscribe(1, topic)
		bad.Subscribe(1, topic)
		bad.SendRaw([]byte{0x36, 3, 0, 1, 'a'})
		t.Refused(bad, malformed...)
		pub.Publish(topic, "x", 1)
		sub.ExpectPublish(topic, "x")
	})
}

// lastWords are what a server says before it closes, while the client goes on
// to write: a connection that is reset would lose them.
func lastWords() {
	flood := make([]byte, 256<<10)
	rule("errors-4", "", func(t *T) {
		p := t.CONNECT()
		b := connectBytes("MQTT", 2, 2, 60, text("c")) // answered by return code 1 in any version
		if t.version == packets.V5 {
			p.ReceiveMaximum = 1
			b = bytes.Replace(raw(t, &p), []byte{0x21, 0, 1}, []byte{0x21, 0, 0}, 1)
		}
		conn := t.dialConn()
		write(t, conn, append(b, flood...))
		if got := readPacket(t, conn); got[0] != 0x20 {
			t.Fatalf("got % x", got)
		}
	})
	rule("errors-6", "", func(t *T) {
		conn, p := t.dialConn(), t.CONNECT()
		write(t, conn, raw(t, &p))
		readPacket(t, conn)
		write(t, conn, append([]byte{0x36, 3, 0, 1, 'a'}, flood...))
		if got := readPacket(t, conn); got[0] != 0xE0 {
			t.Fatalf("got % x", got)
		}
	})
	rule("errors-5", "", func(t *T) {
		t.With(petrel.Options{})
		p := t.CONNECT()
		c := t.Connect(p)
		if err := t.broker.Disconnect(string(p.ClientID), packets.AdministrativeAction); err != nil {
			t.Fatal(err)
		}
		c.ExpectClosed()
	})
}

func exchangeRules() {
	rule("auth-1", "", func(t *T) {
		c, _ := asked(t)
		c.Send(authPacket(packets.ContinueAuthentication, "N", "yes"))
		t.Refused(c, packets.ProtocolError, packets.BadAuthenticationMethod)
	})
	rule("auth-2", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{curious{}}})
		c, p := t.Dial(), t.withMethod("M")
		c.Send(&p)
		for range 1000 {
			switch p, ok := c.Next(); {
			case !ok:
				return
			case p.Type() == packets.TypeConnack:
				if code := p.(*packets.Connack).Reason; !code.IsError() {
					t.Fatalf("CONNACK with %v", code)
				}
				return
			}
			c.Send(authPacket(packets.ContinueAuthentication, "M", "yes"))
		}
		t.Fatal("the server asked 1000 times")
	})
	rule("auth-3", "", func(t *T) {
		c, _ := admitted(t)
		c.Send(authPacket(packets.Reauthenticate, "M", ""))
		brokertest.Expect[*packets.Auth](c)
		topic := t.Unique("t")
		c.Subscribe(0, topic)
		c.Send(&packets.Publish{Topic: []byte(topic)})
		c.ExpectPublish(topic, "")
		c.Send(authPacket(packets.ContinueAuthentication, "M", "yes"))
		if done := brokertest.Expect[*packets.Auth](c); done.Reason != packets.Success {
			t.Fatalf("AUTH with %v", done.Reason)
		}
	})
	for name, reason := range map[string]packets.ReasonCode{
		"0x18 that nobody asked for": packets.ContinueAuthentication, "0x00": packets.Success,
	} {
		rule("auth-4", name, func(t *T) {
			c, _ := admitted(t)
			c.Send(authPacket(reason, "M", "yes"))
			t.Refused(c, packets.ProtocolError)
		})
	}
	rule("auth-4", "0x19 during one", func(t *T) {
		c, _ := admitted(t)
		c.Send(authPacket(packets.Reauthenticate, "M", ""))
		brokertest.Expect[*packets.Auth](c)
		c.Send(authPacket(packets.Reauthenticate, "M", ""))
		t.Refused(c, packets.ProtocolError)
	})
	for _, code := range []packets.ReasonCode{packets.UseAnotherServer, packets.ServerMoved} {
		rule("auth-5", code.String(), func(t *T) {
			t.With(petrel.Options{Hooks: []petrel.Hook{redirecting{code}}})
			c, ack := t.TryConnect(t.CONNECT())
			want := packets.Connack{Reason: code, ServerReference: []byte("other.example:1883")}
			if t.version != packets.V5 {
				want = packets.Connack{Reason: packets.ServerUnavailable} // return code 3
			}
			if ack.Reason != want.Reason || !bytes.Equal(ack.ServerReference, want.ServerReference) {
				t.Fatalf("CONNACK with %v, Server Reference %q", ack.Reason, ack.ServerReference)
			}
			c.ExpectClosed()
		})
	}
}

// curious is an EnhancedAuthenticator that always has one more question.
type curious struct{ echo }

func (curious) BeginAuthentication(context.Context, *petrel.AuthenticationRequest) (petrel.AuthenticationExchange, error) {
	return questions{}, nil
}

type questions struct{}

func (questions) Authenticate(context.Context, []byte) (petrel.AuthenticationStep, error) {
	return petrel.AuthenticationStep{Data: []byte("and?")}, nil
}

// redirecting is an Authenticator that sends everybody elsewhere.
type redirecting struct{ code packets.ReasonCode }

func (r redirecting) Authenticate(context.Context, *petrel.ConnectRequest) error {
	return &petrel.Refusal{Code: r.code, ServerReference: "other.example:1883"}
}

func crossing() {
	for code, want := range map[packets.ReasonCode]byte{
		packets.UnsupportedProtocolVersion: 1, packets.ClientIdentifierNotValid: 2, packets.ServerUnavailable: 3, packets.ServerBusy: 3,
		packets.UseAnotherServer: 3, packets.ServerMoved: 3, packets.ConnectionRateExceeded: 3, packets.QuotaExceeded: 3,
		packets.BadUserNameOrPassword: 4, packets.BadAuthenticationMethod: 4, packets.NotAuthorized: 5, packets.Banned: 5,
		packets.MalformedPacket: 0, packets.ProtocolError: 0, packets.PacketTooLarge: 0, packets.TopicNameInvalid: 0,
		packets.PayloadFormatInvalid: 0, packets.RetainNotSupported: 0, packets.QoSNotSupported: 0,
	} {
		rule("versions-1", fmt.Sprintf("0x%02X", byte(code)), func(t *T) { refusedAs(t, code, want) })
	}
	for _, code := range []packets.ReasonCode{packets.UnspecifiedError, packets.ImplementationSpecificError} {
		rule("versions-1", fmt.Sprintf("0x%02X", byte(code)), func(t *T) { refusedAs(t, code, 0, 3) })
	}
	rule("trap-errors-8", "", func(t *T) { refusedAs(t, packets.BadUserNameOrPassword, 4) })
	rule("trap-errors-8", "an empty client identifier", func(t *T) {
		if got := answer(t, connectBytes("MQTT", 4, 0, 60, text(""))); !bytes.Equal(got, []byte{0x20, 2, 0, 2}) {
			t.Fatalf("got % x", got)
		}
	})
	timedRule("versions-2", "", func(t *T) {
		newer := t.as(packets.V5)
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		sub, pub := t.Connect(p), newer.Client()
		sub.Subscribe(1, topic)
		properties := packets.Properties(nil).AppendContentType("type").AppendUserProperty("n", "v")
		pub.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte("live"), QoS: 1, Properties: properties})
		sub.Accept(sub.ExpectPublish(topic, "live")) // properties would be part of the payload
		leave(sub, packets.Success)
		pub.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte("short"), QoS: 1, HasMessageExpiry: true, MessageExpiryInterval: 1})
		pub.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte("long"), QoS: 1, HasMessageExpiry: true, MessageExpiryInterval: 100})
		time.Sleep(2100 * time.Millisecond)
		t.Connect(p).ExpectPublish(topic, "long")
	})
	rule("versions-3", "", func(t *T) {
		older := t.as(packets.V311)
		topic := t.Unique("t")
		sub := t.as(packets.V5).Client()
		sub.Subscribe(2, topic)
		older.Client().Publish(topic, "\x00\x01x", 2)
		if got := sub.ExpectPublish(topic, "\x00\x01x"); len(got.Properties) > 0 || got.HasMessageExpiry {
			t.Fatalf("properties % x", []byte(got.Properties))
		}
	})
	rule("versions-4", "", sharesAsExtension)
}

// sharesAsExtension says what a shared subscription means to a client whose
// version has none.
func sharesAsExtension(t *T) {
	topic := t.Unique("t")
	members, pub := []*brokertest.Client{t.Client(), t.Client()}, t.Client()
	for _, c := range members {
		c.Send(&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription("$share/g/"+topic, 0))})
		if p, ok := c.Next(); !ok || p.(*packets.Suback).Reasons[0].IsError() {
			t.Saw("a refused filter")
			return
		}
	}
	for range 10 {
		pub.Publish(topic, "x", 1)
	}
	switch n := len(until(members[0])) + len(until(members[1])); n {
	case 0:
		t.Saw("a literal filter")
	case 10:
		t.Saw("a shared subscription")
	default:
		t.Fatalf("%d deliveries of 10 messages", n)
	}
}

// refusedAs has an Authenticator refuse with the code, and wants one of the
// return codes; 0 stands for a plain close.
func refusedAs(t *T, code packets.ReasonCode, codes ...byte) {
	t.Helper()
	t.With(petrel.Options{Hooks: []petrel.Hook{refuser{code}}})
	p := t.CONNECT()
	got := answer(t, raw(t, &p))
	for _, want := range codes {
		if want == 0 && len(got) == 0 || want > 0 && bytes.Equal(got, []byte{0x20, 2, 0, want}) {
			return
		}
	}
	t.Fatalf("got % x; want one of the return codes %v", got, codes)
}

// reasons refuses to publish and to subscribe, and says why.
var reasons = petrel.AuthorizerFunc(func(context.Context, *petrel.AccessRequest) error {
	return &petrel.Refusal{Code: packets.NotAuthorized, ReasonString: "because", UserProperties: []petrel.UserProperty{{Name: "n", Value: "v"}}}
})

func problemInformation() {
	rule("trap-errors-1", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{reasons}})
		p := t.CONNECT()
		p.NoProblemInformation = true
		c := t.Connect(p)
		c.Send(&packets.Publish{Topic: []byte("a"), QoS: 1, PacketID: 1}, &packets.Publish{Topic: []byte("a"), QoS: 2, PacketID: 2},
			&packets.Subscribe{PacketID: 3, Subscriptions: packets.Subscriptions(nil).Append(subscription("a", 0))},
			&packets.Unsubscribe{PacketID: 4, Filters: packets.Filters(nil).Append("a")})
		ack, rec := brokertest.Expect[*packets.Puback](c), brokertest.Expect[*packets.Pubrec](c)
		sub, unsub := brokertest.Expect[*packets.Suback](c), brokertest.Expect[*packets.Unsuback](c)
		if ack.Reason != packets.NotAuthorized || rec.Reason != packets.NotAuthorized || sub.Reasons[0] != packets.NotAuthorized {
			t.Fatalf("PUBACK %v, PUBREC %v, SUBACK %v", ack.Reason, rec.Reason, sub.Reasons)
		}
		if len(ack.ReasonString)+len(rec.ReasonString)+len(sub.ReasonString)+len(unsub.ReasonString) > 0 ||
			ack.UserProperties.Len()+rec.UserProperties.Len()+sub.UserProperties.Len()+unsub.UserProperties.Len() > 0 {
			t.Fatalf("it was told: %q, %q, %q, %q", ack.ReasonString, rec.ReasonString, sub.ReasonString, unsub.ReasonString)
		}
	})
	rule("trap-errors-2", "", func(t *T) {
		topic, p := t.Unique("t"), t.CONNECT()
		p.NoProblemInformation = true
		sub := t.Connect(p)
		sub.Subscribe(0, topic)
		t.Client().PublishWith(packets.Publish{Topic: []byte(topic), QoS: 1, Properties: packets.Properties(nil).AppendUserProperty("n", "v")})
		if pairs := userProperties(sub.ExpectPublish(topic, "")); !slices.Equal(pairs, []string{"n=v"}) {
			t.Fatalf("user properties %v", pairs)
		}
	})
	rule("trap-errors-5", "", func(t *T) {
		a, b := t.Unique("t"), t.Unique("t")
		c := t.Client()
		c.Subscribe(0, a, b)
		codes := c.Unsubscribe(a, a, "none", b)
		if len(codes) != 4 || codes[0] != 0 || codes[1] != 0 && codes[1] != packets.NoSubscriptionExisted ||
			codes[2] != packets.NoSubscriptionExisted || codes[3] != 0 {
			t.Fatalf("UNSUBACK with %v", codes)
		}
	})
	rule("trap-errors-7", "", func(t *T) {
		conn, p := t.dialConn(), t.CONNECT()
		write(t, conn, raw(t, &p))
		readPacket(t, conn)
		write(t, conn, raw(t, &packets.Unsubscribe{PacketID: 0x0102, Filters: packets.Filters(nil).Append("none")}))
		if got := readPacket(t, conn); !bytes.Equal(got, []byte{0xB0, 2, 1, 2}) {
			t.Fatalf("UNSUBACK % x", got)
		}
	})
}

func slowClients() {
	rule("trap-errors-9", "", func(t *T) {
		topic := t.Unique("t")
		slow, sub, pub := t.Client(), t.Client(), t.Client()
		slow.Subscribe(0, topic)
		sub.Subscribe(0, topic)
		slow.Stall()
		payload := strings.Repeat("x", 64<<10)
		for range 200 { // more than sockets hold
			pub.Publish(topic, payload, 1)
			sub.ExpectPublish(topic, payload)
		}
	})
	rule("trap-errors-10", "", func(t *T) {
		const messages = 400
		t.With(petrel.Options{OutboundBytes: 64 << 10, QueueBytes: 64 << 10})
		topic := t.Unique("t")
		slow, pub := t.Client(), t.Client()
		slow.Subscribe(1, topic)
		slow.Stall()
		payload := strings.Repeat("x", 64<<10)
		for range messages {
			pub.Publish(topic, payload, 0)
		}
		pub.Publish(topic, "QoS 1", 1)
		slow.Resume()
		got := 0
		for p := brokertest.Expect[*packets.Publish](slow); string(p.Payload) != "QoS 1"; p = brokertest.Expect[*packets.Publish](slow) {
			got++
		}
		if got == messages {
			t.Fatalf("all %d messages with QoS 0 were kept for a client that did not read", messages)
		}
	})
}
