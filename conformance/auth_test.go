package conformance_test

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Statements about AUTH (sections 3.15 and 4.12), keep alive, variable byte
// integers and error handling.

// echo is an EnhancedAuthenticator with the method "M": the client has to say
// "yes" after it was asked once; "no" is refused.
type echo struct{}

func (echo) Authenticate(context.Context, *petrel.ConnectRequest) error { return nil }
func (echo) AuthenticationMethods() []string                            { return []string{"M"} }

func (echo) BeginAuthentication(context.Context, *petrel.AuthenticationRequest) (petrel.AuthenticationExchange, error) {
	return new(echoExchange), nil
}

type echoExchange struct{ asked bool }

func (x *echoExchange) Authenticate(_ context.Context, data []byte) (petrel.AuthenticationStep, error) {
	switch {
	case string(data) == "no":
		return petrel.AuthenticationStep{}, packets.NotAuthorized
	case !x.asked:
		x.asked = true
		return petrel.AuthenticationStep{Data: []byte("really?")}, nil
	}
	return petrel.AuthenticationStep{Done: true, Data: []byte("welcome")}, nil
}

// withMethod is a CONNECT with an Authentication Method.
func (t *T) withMethod(method string) packets.Connect {
	p := t.CONNECT()
	p.HasAuthenticationMethod, p.AuthenticationMethod = true, []byte(method)
	return p
}

func authPacket(reason packets.ReasonCode, method, data string) *packets.Auth {
	return &packets.Auth{
		Reason: reason, HasAuthenticationMethod: true, AuthenticationMethod: []byte(method),
		HasAuthenticationData: true, AuthenticationData: []byte(data),
	}
}

// asked connects with the method "M" up to the question of the server.
func asked(t *T) (*brokertest.Client, *packets.Auth) {
	t.Helper()
	t.With(petrel.Options{Hooks: []petrel.Hook{echo{}}})
	c, p := t.Dial(), t.withMethod("M")
	c.Send(&p)
	return c, brokertest.Expect[*packets.Auth](c)
}

// admitted goes through the whole exchange.
func admitted(t *T) (*brokertest.Client, *packets.Connack) {
	t.Helper()
	c, _ := asked(t)
	c.Send(authPacket(packets.ContinueAuthentication, "M", "yes"))
	ack := brokertest.Expect[*packets.Connack](c)
	if ack.Reason != packets.Success {
		t.Fatalf("CONNACK with %v", ack.Reason)
	}
	return c, ack
}

func init() {
	mqtt5("MQTT-4.12.0-2", "", func(t *T) {
		if _, q := asked(t); q.Reason != packets.ContinueAuthentication || string(q.AuthenticationData) != "really?" {
			t.Fatalf("AUTH with %v, data %q", q.Reason, q.AuthenticationData)
		}
	})
	mqtt5("MQTT-4.12.0-5", "", func(t *T) {
		if _, q := asked(t); string(q.AuthenticationMethod) != "M" {
			t.Fatalf("AUTH with the method %q", q.AuthenticationMethod)
		}
		if _, ack := admitted(t); string(ack.AuthenticationMethod) != "M" || string(ack.AuthenticationData) != "welcome" {
			t.Fatalf("CONNACK with the method %q, data %q", ack.AuthenticationMethod, ack.AuthenticationData)
		}
	})
	mqtt5("MQTT-3.15.2-1", "", func(t *T) {
		c, _ := admitted(t)
		c.Send(authPacket(packets.Reauthenticate, "M", ""))
		asks := brokertest.Expect[*packets.Auth](c).Reason
		c.Send(authPacket(packets.ContinueAuthentication, "M", "yes"))
		if ends := brokertest.Expect[*packets.Auth](c).Reason; asks == packets.Reauthenticate || ends == packets.Reauthenticate {
			t.Fatalf("AUTH with %v and %v", asks, ends)
		}
	})
	mqtt5("MQTT-3.1.2-30", "", func(t *T) {
		for _, p := range []packets.Packet{&packets.Pingreq{}, &packets.Publish{Topic: []byte("a")}, &packets.Puback{PacketID: 1}} {
			c, _ := asked(t)
			c.Send(p, authPacket(packets.ContinueAuthentication, "M", "yes")) // which is too late
			t.Refused(c, malformed...)
		}
	})
	mqtt5("MQTT-3.15.1-1", "", func(t *T) {
		c, _ := asked(t)
		b := raw(t, authPacket(packets.ContinueAuthentication, "M", "yes"))
		b[0] |= 1
		c.SendRaw(b)
		t.Refused(c, malformed...)
	})
	leavesOut([2]string{"MQTT-3.15.2-2", "MQTT-3.15.2-3"}, 40, func(t *T, most uint32) packets.Packet {
		t.With(petrel.Options{Hooks: []petrel.Hook{echo{}}})
		c, p := t.Dial(), t.withMethod("M")
		p.MaximumPacketSize = most
		c.Send(&p)
		return brokertest.Expect[*packets.Auth](c)
	})
	mqtt5("MQTT-4.12.0-1", "", func(t *T) {
		c, p := t.Dial(), t.withMethod("a method that nobody has")
		c.Send(&p)
		t.Refused(c, packets.BadAuthenticationMethod, packets.NotAuthorized)
	})
	mqtt5("MQTT-4.12.0-3", "", func(t *T) {
		for _, reason := range []packets.ReasonCode{packets.Success, packets.Reauthenticate} {
			c, _ := asked(t)
			c.Send(authPacket(reason, "M", "yes"))
			t.Refused(c, malformed...)
		}
	})
	mqtt5("MQTT-4.12.0-4", "", func(t *T) {
		c, _ := asked(t)
		c.Send(authPacket(packets.ContinueAuthentication, "M", "no"))
		t.Refused(c, packets.NotAuthorized)
	})
	mqtt5("MQTT-4.12.0-6", "", func(t *T) {
		if _, ack := t.TryConnect(t.CONNECT()); ack.HasAuthenticationMethod {
			t.Fatalf("Authentication Method %q", ack.AuthenticationMethod)
		}
	})
	mqtt5("MQTT-4.12.0-7", "", func(t *T) {
		c := t.Client()
		c.Send(authPacket(packets.Reauthenticate, "M", ""))
		t.Refused(c, packets.ProtocolError)
	})
	mqtt5("MQTT-4.12.1-1", "same method", func(t *T) {
		c, _ := admitted(t)
		c.Send(authPacket(packets.Reauthenticate, "M", ""))
		brokertest.Expect[*packets.Auth](c)
		c.Send(authPacket(packets.ContinueAuthentication, "M", "yes"))
		if done := brokertest.Expect[*packets.Auth](c); done.Reason != packets.Success {
			t.Fatalf("AUTH with %v", done.Reason)
		}
		c.ExpectNothing()
	})
	mqtt5("MQTT-4.12.1-1", "another method", func(t *T) {
		c, _ := admitted(t)
		c.Send(authPacket(packets.Reauthenticate, "N", ""))
		t.Refused(c, packets.ProtocolError, packets.BadAuthenticationMethod)
	})
	mqtt5("MQTT-4.12.1-2", "", func(t *T) {
		c, _ := admitted(t)
		c.Send(authPacket(packets.Reauthenticate, "M", "no"))
		t.Refused(c, packets.NotAuthorized)
	})

	silence := func(t *T, p packets.Connect) {
		t.Helper()
		topic := t.Unique("t")
		watch := t.Client()
		watch.Subscribe(0, topic)
		p.HasWill, p.Will = true, packets.Will{Topic: []byte(topic), Payload: []byte("will")}
		c := t.Connect(p)
		for range 2 { // a PINGREQ, after which three seconds begin anew
			time.Sleep(1600 * time.Millisecond)
			c.ExpectNothing()
			watch.ExpectNothing()
		}
		time.Sleep(1600 * time.Millisecond)
		watch.ExpectNothing()
		t.Refused(c, packets.KeepAliveTimeout)
		watch.ExpectPublish(topic, "will")
	}
	for _, id := range []string{"MQTT-3.1.2-22", "MQTT-3.2.2-22"} {
		timed5(id, "", func(t *T) {
			p := t.CONNECT()
			p.KeepAlive = 2
			silence(t, p)
		})
	}
	timed5("MQTT-3.1.2-22", "keep alive of the server", func(t *T) {
		t.With(petrel.Options{MaximumKeepAlive: 2 * time.Second})
		silence(t, t.CONNECT())
	})

	mqtt5("MQTT-1.5.5-1", "", func(t *T) {
		// Remaining Length and Property Length of what comes, at the lengths
		// where they grow by a byte.
		topic := t.Unique("t")
		pub := t.Client()
		for _, size := range []int{0, 80, 100, 120, 127, 128, 16000, 16383, 16384} {
			conn := t.dialConn()
			p := t.CONNECT()
			write := func(p packets.Packet) {
				if _, err := conn.Write(raw(t, p)); err != nil {
					t.Fatal(err)
				}
			}
			write(&p)
			readPacket(t, conn)
			write(&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription(topic, 0))})
			readPacket(t, conn)
			props := packets.Properties(nil).AppendUserProperty("n", strings.Repeat("v", size))
			pub.PublishWith(packets.Publish{Topic: []byte(topic), Properties: props, QoS: 1})
			got := readPacket(t, conn)
			want := raw(t, &packets.Publish{Topic: []byte(topic), Properties: props})
			if !slices.Equal(got, want) {
				t.Fatalf("with %d bytes: begins with % x; want % x", size, got[:8], want[:8])
			}
			conn.Close()
		}
	})
	refusesBytes("MQTT-1.5.5-1", "five bytes", []byte{0xC0, 0x80, 0x80, 0x80, 0x80, 0x01}, malformed...)
	mqtt5("MQTT-2.2.2-1", "", func(t *T) {
		conn := t.dialConn()
		p := t.CONNECT()
		exchange := func(p packets.Packet) []byte {
			if _, err := conn.Write(raw(t, p)); err != nil {
				t.Fatal(err)
			}
			return readPacket(t, conn)
		}
		exchange(&p)
		suback := exchange(&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription("a", 0))})
		if !slices.Equal(suback, []byte{0x90, 4, 0, 1, 0, 0}) {
			t.Fatalf("SUBACK % x", suback)
		}
		unsuback := exchange(&packets.Unsubscribe{PacketID: 2, Filters: packets.Filters(nil).Append("a")})
		if !slices.Equal(unsuback, []byte{0xB0, 4, 0, 2, 0, 0}) {
			t.Fatalf("UNSUBACK % x", unsuback)
		}
	})
	for _, id := range []string{"MQTT-4.13.1-1", "MQTT-4.13.2-1"} {
		for name, b := range map[string][]byte{
			"type 0":                     {0x00, 0},
			"CONNACK from a client":      {0x20, 3, 0, 0, 0},
			"PINGREQ with a body":        {0xC0, 1, 0},
			"PUBLISH cut in its topic":   {0x30, 3, 0, 5, 'a'},
			"PUBLISH, unknown property":  {0x30, 6, 0, 1, 'a', 2, 0x7E, 0},
			"PUBLISH, property of other": {0x30, 9, 0, 1, 'a', 5, 0x11, 0, 0, 0, 1},
			"SUBSCRIBE with QoS 3":       {0x82, 7, 0, 1, 0, 0, 1, 'a', 3},
			"SUBSCRIBE, handling 3":      {0x82, 7, 0, 1, 0, 0, 1, 'a', 0x30},
			"SUBSCRIBE, identifier 0":    {0x82, 9, 0, 1, 2, 0x0B, 0, 0, 1, 'a', 0},
			"PUBREL, undefined reason":   {0x62, 3, 0, 1, 0x80},
		} {
			refusesBytes(id, name, b, malformed...)
		}
	}
}
