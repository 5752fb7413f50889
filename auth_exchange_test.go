package petrel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// method is an EnhancedAuthenticator made of functions: its exchange asks step
// for every round, counted from 0.
type method struct {
	name  string
	begin func(r *petrel.AuthenticationRequest) error
	step  func(ctx context.Context, r *petrel.AuthenticationRequest, round int, data []byte) (petrel.AuthenticationStep, error)
}

func (m *method) AuthenticationMethods() []string { return []string{m.name} }

func (m *method) BeginAuthentication(_ context.Context, r *petrel.AuthenticationRequest) (petrel.AuthenticationExchange, error) {
	if m.begin != nil {
		if err := m.begin(r); err != nil {
			return nil, err
		}
	}
	return &methodExchange{m: m, r: r}, nil
}

type methodExchange struct {
	m     *method
	r     *petrel.AuthenticationRequest
	round int
}

func (x *methodExchange) Authenticate(ctx context.Context, data []byte) (petrel.AuthenticationStep, error) {
	x.round++
	return x.m.step(ctx, x.r, x.round-1, data)
}

// counting is a method "COUNT" that wants to be sent "1", "2" and so on up to
// the given number, and answers each with "after 1" and so on.
func counting(rounds int) *method {
	return &method{name: "COUNT", step: func(_ context.Context, r *petrel.AuthenticationRequest, round int, data []byte) (petrel.AuthenticationStep, error) {
		if got, want := string(data), fmt.Sprint(round+1); got != want {
			return petrel.AuthenticationStep{}, packets.NotAuthorized
		}
		return petrel.AuthenticationStep{Data: fmt.Appendf(nil, "after %s", data), Done: round+1 == rounds}, nil
	}}
}

func withMethod(name, data string) packets.Connect {
	p := brokertest.ID("c")
	p.HasAuthenticationMethod, p.AuthenticationMethod = true, []byte(name)
	p.HasAuthenticationData, p.AuthenticationData = true, []byte(data)
	return p
}

func authWith(reason packets.ReasonCode, name, data string) *packets.Auth {
	return &packets.Auth{Reason: reason, HasAuthenticationMethod: true, AuthenticationMethod: []byte(name),
		HasAuthenticationData: true, AuthenticationData: []byte(data)}
}

func expectAuth(t *testing.T, c *brokertest.Client, reason packets.ReasonCode, data string) {
	t.Helper()
	p := brokertest.Expect[*packets.Auth](c)
	require.Equal(t, reason, p.Reason)
	require.Equal(t, "COUNT", string(p.AuthenticationMethod))
	require.Equal(t, data, string(p.AuthenticationData))
}

func TestAuthenticationExchange(t *testing.T) {
	for _, rounds := range []int{1, 2, 3, 16} {
		t.Run(fmt.Sprintf("%d rounds", rounds), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{counting(rounds)}})
			c := b.Dial(packets.V5)
			p := withMethod("COUNT", "1")
			c.Send(&p)
			for i := 1; i < rounds; i++ {
				expectAuth(t, c, packets.ContinueAuthentication, fmt.Sprintf("after %d", i))
				c.Send(authWith(packets.ContinueAuthentication, "COUNT", fmt.Sprint(i+1)))
			}
			ack := brokertest.Expect[*packets.Connack](c)
			require.Equal(t, packets.Success, ack.Reason)
			require.Equal(t, "COUNT", string(ack.AuthenticationMethod), "the method again")
			require.Equal(t, fmt.Sprintf("after %d", rounds), string(ack.AuthenticationData), "the last data")
			c.ExpectNothing()
			c.Publish("t", "x", packets.AtLeastOnce)
		})
	}
	t.Run("without data on either side", func(t *testing.T) {
		m := &method{name: "NONE", step: func(_ context.Context, _ *petrel.AuthenticationRequest, round int, data []byte) (petrel.AuthenticationStep, error) {
			if len(data) != 0 {
				return petrel.AuthenticationStep{}, errors.New("data")
			}
			return petrel.AuthenticationStep{Done: round == 1}, nil
		}}
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{m}})
		c := b.Dial(packets.V5)
		p := brokertest.ID("c")
		p.HasAuthenticationMethod, p.AuthenticationMethod = true, []byte("NONE")
		c.Send(&p)
		require.False(t, brokertest.Expect[*packets.Auth](c).HasAuthenticationData)
		c.Send(&packets.Auth{Reason: packets.ContinueAuthentication, HasAuthenticationMethod: true, AuthenticationMethod: []byte("NONE")})
		ack := brokertest.Expect[*packets.Connack](c)
		require.Equal(t, []any{packets.Success, false}, []any{ack.Reason, ack.HasAuthenticationData})
	})
	t.Run("the hook is told who asks and says who it is", func(t *testing.T) {
		var seen petrel.ConnectRequest
		m := &method{name: "M",
			begin: func(r *petrel.AuthenticationRequest) error {
				seen = *r.Connect
				require.Equal(t, []any{"M", false}, []any{r.Method, r.Reauthentication})
				return nil
			},
			step: func(context.Context, *petrel.AuthenticationRequest, int, []byte) (petrel.AuthenticationStep, error) {
				return petrel.AuthenticationStep{Done: true, Identity: "somebody"}, nil
			}}
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{m}})
		p := withMethod("M", "")
		p.HasUserName, p.UserName = true, []byte("user")
		b.Connect(p)
		require.Equal(t, []any{"c", "user", packets.V5}, []any{seen.ClientID, seen.UserName, seen.Version})
		for info := range b.Clients() {
			require.Equal(t, "somebody", info.Identity)
		}
	})
	t.Run("pipelined", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{counting(2)}})
		c := b.Dial(packets.V5)
		p := withMethod("COUNT", "1")
		c.Send(&p, authWith(packets.ContinueAuthentication, "COUNT", "2"), &packets.Pingreq{})
		expectAuth(t, c, packets.ContinueAuthentication, "after 1")
		require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](c).Reason)
		brokertest.Expect[*packets.Pingresp](c)
	})
}

// What goes wrong before CONNACK is told in CONNACK, and nothing is left of it.
func TestAuthenticationExchangeFails(t *testing.T) {
	secret := errors.New("the password file is at /secret")
	failing := func(err error) *method {
		return &method{name: "COUNT", step: func(context.Context, *petrel.AuthenticationRequest, int, []byte) (petrel.AuthenticationStep, error) {
			return petrel.AuthenticationStep{}, err
		}}
	}
	endless := &method{name: "COUNT", step: func(context.Context, *petrel.AuthenticationRequest, int, []byte) (petrel.AuthenticationStep, error) {
		return petrel.AuthenticationStep{Data: []byte("more")}, nil
	}}
	raw := func(p packets.Packet) []byte {
		b, err := p.AppendTo(nil, packets.V5)
		require.NoError(t, err)
		return b
	}
	first := withMethod("COUNT", "1")
	other := withMethod("OTHER", "1")
	empty := withMethod("", "1")
	many := authWith(packets.ContinueAuthentication, "COUNT", "2")
	for range 300 {
		many.UserProperties = many.UserProperties.Append("n", "v")
	}
	rounds := raw(&first)
	for range 17 {
		rounds = append(rounds, raw(authWith(packets.ContinueAuthentication, "COUNT", "more"))...)
	}
	for _, tt := range []struct {
		name  string
		hook  petrel.Hook
		send  []byte
		code  packets.ReasonCode
		auths int // AUTH packets of the broker before CONNACK
	}{
		{"a method that nobody knows", counting(2), raw(&other), packets.BadAuthenticationMethod, 0},
		{"an empty method", counting(2), raw(&empty), packets.BadAuthenticationMethod, 0},
		{"refused with a code", failing(packets.Banned), raw(&first), packets.Banned, 0},
		{"refused with any error", failing(secret), raw(&first), packets.UnspecifiedError, 0},
		{"refused at the beginning", &method{name: "COUNT", begin: func(*petrel.AuthenticationRequest) error { return packets.ServerBusy }}, raw(&first), packets.ServerBusy, 0},
		{"a panic", &method{name: "COUNT", step: func(context.Context, *petrel.AuthenticationRequest, int, []byte) (petrel.AuthenticationStep, error) {
			panic("at the disco")
		}}, raw(&first), packets.UnspecifiedError, 0},
		{"a panic at the beginning", &method{name: "COUNT", begin: func(*petrel.AuthenticationRequest) error { panic("at once") }}, raw(&first), packets.UnspecifiedError, 0},
		{"an answer after the time for it", &method{name: "COUNT", step: func(context.Context, *petrel.AuthenticationRequest, int, []byte) (petrel.AuthenticationStep, error) {
			time.Sleep(6 * time.Second)
			return petrel.AuthenticationStep{Done: true}, nil
		}}, raw(&first), packets.UnspecifiedError, 0},
		{"wrong data", counting(3), append(raw(&first), raw(authWith(packets.ContinueAuthentication, "COUNT", "7"))...), packets.NotAuthorized, 1},
		{"AUTH with another method", counting(2), append(raw(&first), raw(authWith(packets.ContinueAuthentication, "OTHER", "2"))...), packets.ProtocolError, 1},
		{"AUTH without a method", counting(2), append(raw(&first), 0xF0, 2, 0x18, 0), packets.ProtocolError, 1},
		{"empty AUTH", counting(2), append(raw(&first), 0xF0, 0), packets.ProtocolError, 1},
		{"AUTH to re-authenticate", counting(2), append(raw(&first), raw(authWith(packets.Reauthenticate, "COUNT", "2"))...), packets.ProtocolError, 1},
		{"AUTH with success", counting(2), append(raw(&first), raw(authWith(packets.Success, "COUNT", "2"))...), packets.ProtocolError, 1},
		{"AUTH with flags", counting(2), append(raw(&first), 0xF1, 0), packets.MalformedPacket, 1},
		{"AUTH with too many user properties", counting(2), append(raw(&first), raw(many)...), packets.QuotaExceeded, 1},
		{"a second CONNECT", counting(2), append(raw(&first), raw(&first)...), packets.ProtocolError, 1},
		{"PUBLISH", counting(2), append(raw(&first), raw(&packets.Publish{Topic: []byte("t")})...), packets.ProtocolError, 1},
		{"PINGREQ", counting(2), append(raw(&first), 0xC0, 0), packets.ProtocolError, 1},
		{"SUBSCRIBE", counting(2), append(raw(&first), 0x82, 7, 0, 1, 0, 0, 1, 'a', 0), packets.ProtocolError, 1},
		{"more rounds than anybody needs", endless, rounds, packets.NotAuthorized, 17},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{tt.hook}}, func(t *testing.T, b *brokertest.Broker) {
				c := b.Dial(packets.V5)
				c.SendRaw(tt.send)
				for range tt.auths {
					require.Equal(t, packets.ContinueAuthentication, brokertest.Expect[*packets.Auth](c).Reason)
				}
				ack := brokertest.Expect[*packets.Connack](c)
				require.Equal(t, tt.code, ack.Reason, "%s", ack.ReasonString)
				require.NotContains(t, string(ack.ReasonString), "secret")
				c.ExpectClosed()
				c.Served()
				require.Zero(t, b.Stats().Sessions)
				require.Zero(t, b.Stats().Connects)
				time.Sleep(10 * time.Second) // the late hook
			})
		})
	}
	t.Run("DISCONNECT ends it quietly", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{counting(2)}})
		c := b.Dial(packets.V5)
		c.Send(&first)
		expectAuth(t, c, packets.ContinueAuthentication, "after 1")
		c.Send(&packets.Disconnect{})
		c.ExpectClosed()
	})
	t.Run("a client that does not go on", func(t *testing.T) {
		inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{counting(2)}}, func(t *testing.T, b *brokertest.Broker) {
			start := time.Now()
			w := dialWire(t, b)
			w.Write(raw(&first))
			time.Sleep(9 * time.Second)
			requireEnd(t, w, start, 10*time.Second)
		})
	})
	t.Run("the owner of the identifier stays until it has succeeded", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{counting(2), connectDecision(func(context.Context, *petrel.ConnectRequest) error { return nil })}})
		owner := b.Connect(brokertest.ID("c"))
		c := b.Dial(packets.V5)
		c.Send(&first)
		expectAuth(t, c, packets.ContinueAuthentication, "after 1")
		owner.ExpectNothing()
		c.Send(authWith(packets.ContinueAuthentication, "COUNT", "2"))
		require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](c).Reason)
		owner.ExpectDisconnect(packets.SessionTakenOver)
	})
	t.Run("who names no method is not let in by a method", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{counting(1)}})
		for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
			_, ack := b.TryConnect(packets.Connect{Version: v, ClientID: []byte("c"), CleanStart: true})
			require.Equal(t, packets.NotAuthorized, ack.Reason)
		}
	})
	t.Run("who names a method is not let in without", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		_, ack := b.TryConnect(first)
		require.Equal(t, packets.BadAuthenticationMethod, ack.Reason)
	})
}

func TestReauthentication(t *testing.T) {
	start := func(t *testing.T, hooks ...petrel.Hook) (*brokertest.Broker, *brokertest.Client) {
		b := brokertest.New(t, petrel.Options{Hooks: hooks})
		return b, b.Connect(withMethod("COUNT", "1"))
	}
	// twice is asked "1" to begin with, and "1", "2" to prove it again.
	twice := func(change func(*petrel.AuthenticationStep) error) *method {
		return &method{name: "COUNT", step: func(_ context.Context, r *petrel.AuthenticationRequest, round int, data []byte) (petrel.AuthenticationStep, error) {
			s := petrel.AuthenticationStep{Data: fmt.Appendf(nil, "after %s", data), Identity: "me", Done: !r.Reauthentication || round == 1}
			if r.Reauthentication && change != nil {
				return s, change(&s)
			}
			return s, nil
		}}
	}
	t.Run("succeeds, and other traffic goes on meanwhile", func(t *testing.T) {
		b, c := start(t, twice(nil))
		c.Subscribe(packets.AtMostOnce, "t")
		for range 3 {
			c.Send(authWith(packets.Reauthenticate, "COUNT", "1"))
			expectAuth(t, c, packets.ContinueAuthentication, "after 1")
			require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "t", Payload: []byte("x")}))
			c.ExpectPublish("t", "x")
			c.Publish("other", "y", packets.ExactlyOnce)
			c.Send(authWith(packets.ContinueAuthentication, "COUNT", "2"))
			expectAuth(t, c, packets.Success, "after 2")
			c.ExpectNothing()
		}
	})
	t.Run("is told what is known of the client", func(t *testing.T) {
		var seen *petrel.AuthenticationRequest
		m := twice(nil)
		m.begin = func(r *petrel.AuthenticationRequest) error { seen = r; return nil }
		_, c := start(t, m)
		c.Send(authWith(packets.Reauthenticate, "COUNT", "1"))
		expectAuth(t, c, packets.ContinueAuthentication, "after 1")
		require.Equal(t, []any{true, "COUNT", "c", "me"}, []any{seen.Reauthentication, seen.Method, seen.Connect.ClientID, seen.Connect.Identity})
	})
	for _, tt := range []struct {
		name string
		hook *method
		send []packets.Packet
		code packets.ReasonCode
		auth bool // the broker sends an AUTH before
	}{
		{"refused with a code", twice(func(*petrel.AuthenticationStep) error { return packets.NotAuthorized }),
			[]packets.Packet{authWith(packets.Reauthenticate, "COUNT", "1")}, packets.NotAuthorized, false},
		{"refused with any error", twice(func(*petrel.AuthenticationStep) error { return errors.New("secret") }),
			[]packets.Packet{authWith(packets.Reauthenticate, "COUNT", "1")}, packets.NotAuthorized, false},
		{"refused with a code that DISCONNECT has not", twice(func(*petrel.AuthenticationStep) error { return packets.Banned }),
			[]packets.Packet{authWith(packets.Reauthenticate, "COUNT", "1")}, packets.NotAuthorized, false},
		{"a panic", twice(func(*petrel.AuthenticationStep) error { panic("again") }),
			[]packets.Packet{authWith(packets.Reauthenticate, "COUNT", "1")}, packets.NotAuthorized, false},
		{"with another method", twice(nil), []packets.Packet{authWith(packets.Reauthenticate, "OTHER", "1")}, packets.ProtocolError, false},
		{"continued without a beginning", twice(nil), []packets.Packet{authWith(packets.ContinueAuthentication, "COUNT", "1")}, packets.ProtocolError, false},
		{"success claimed by the client", twice(nil), []packets.Packet{authWith(packets.Success, "COUNT", "1")}, packets.ProtocolError, false},
		{"begun twice", twice(nil), []packets.Packet{authWith(packets.Reauthenticate, "COUNT", "1"), authWith(packets.Reauthenticate, "COUNT", "1")}, packets.ProtocolError, true},
		{"success claimed in the middle", twice(nil), []packets.Packet{authWith(packets.Reauthenticate, "COUNT", "1"), authWith(packets.Success, "COUNT", "2")}, packets.ProtocolError, true},
		{"another method in the middle", twice(nil), []packets.Packet{authWith(packets.Reauthenticate, "COUNT", "1"), authWith(packets.ContinueAuthentication, "OTHER", "2")}, packets.ProtocolError, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, c := start(t, tt.hook)
			c.Send(tt.send...)
			if tt.auth {
				expectAuth(t, c, packets.ContinueAuthentication, "after 1")
			}
			p := c.ExpectDisconnect(tt.code)
			require.NotContains(t, string(p.ReasonString), "secret")
			c.Served()
			require.Zero(t, b.Stats().ClientsConnected)
		})
	}
	t.Run("as somebody else is refused", func(t *testing.T) {
		m := &method{name: "COUNT", step: func(_ context.Context, r *petrel.AuthenticationRequest, _ int, data []byte) (petrel.AuthenticationStep, error) {
			return petrel.AuthenticationStep{Done: true, Identity: "id " + string(data)}, nil
		}}
		_, c := start(t, m)
		c.Send(authWith(packets.Reauthenticate, "COUNT", "1"))
		require.Equal(t, packets.Success, brokertest.Expect[*packets.Auth](c).Reason)
		c.Send(authWith(packets.Reauthenticate, "COUNT", "2"))
		c.ExpectDisconnect(packets.NotAuthorized)
	})
	t.Run("has a bound on its rounds", func(t *testing.T) {
		m := &method{name: "COUNT", step: func(_ context.Context, r *petrel.AuthenticationRequest, _ int, data []byte) (petrel.AuthenticationStep, error) {
			return petrel.AuthenticationStep{Done: !r.Reauthentication}, nil
		}}
		_, c := start(t, m)
		c.Send(authWith(packets.Reauthenticate, "COUNT", ""))
		for range 15 {
			require.Equal(t, packets.ContinueAuthentication, brokertest.Expect[*packets.Auth](c).Reason)
			c.Send(authWith(packets.ContinueAuthentication, "COUNT", ""))
		}
		require.Equal(t, packets.ContinueAuthentication, brokertest.Expect[*packets.Auth](c).Reason)
		c.Send(authWith(packets.ContinueAuthentication, "COUNT", ""))
		c.ExpectDisconnect(packets.NotAuthorized)
	})
	t.Run("without a method in CONNECT is refused", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		for _, p := range []*packets.Auth{authWith(packets.Reauthenticate, "COUNT", ""), authWith(packets.ContinueAuthentication, "COUNT", ""), authWith(packets.Reauthenticate, "", "")} {
			c := b.Connect(brokertest.ID("c"))
			c.Send(p)
			c.ExpectDisconnect(packets.ProtocolError)
		}
		c := b.Connect(brokertest.ID("c"))
		c.SendRaw([]byte{0xF0, 0})
		c.ExpectDisconnect(packets.ProtocolError)
	})
	t.Run("3.1.1 has no AUTH", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c := b.Connect(packets.Connect{Version: packets.V311, ClientID: []byte("c"), CleanStart: true})
		c.SendRaw([]byte{0xF0, 0})
		c.ExpectClosed()
	})
	t.Run("that fails publishes the will", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{
			twice(func(*petrel.AuthenticationStep) error { return packets.NotAuthorized }),
			connectDecision(func(context.Context, *petrel.ConnectRequest) error { return nil }),
		}})
		watch := watcher(b)
		p := withMethod("COUNT", "1")
		p.HasWill, p.Will = true, packets.Will{Topic: []byte("w"), Payload: []byte("gone")}
		c := b.Connect(p)
		c.Send(authWith(packets.Reauthenticate, "COUNT", "1"))
		c.ExpectDisconnect(packets.NotAuthorized)
		c.Served()
		watch.ExpectPublish("w", "gone")
	})
}

// What an Authenticator's error tells the client, version by version.
func TestAuthenticatorRefuses(t *testing.T) {
	refusal := &petrel.Refusal{
		Code: packets.UseAnotherServer, ReasonString: "moved for today", ServerReference: "a:1883 [::1]:1884",
		UserProperties: []petrel.UserProperty{{Name: "n", Value: "1"}, {Name: "n", Value: "2"}}, Err: errors.New("secret"),
	}
	told := packets.Connack{
		Reason: packets.UseAnotherServer, ReasonString: []byte("moved for today"), ServerReference: []byte("a:1883 [::1]:1884"),
		UserProperties: packets.UserProperties{}.Append("n", "1").Append("n", "2"),
	}
	const silence = 0xFF
	for _, tt := range []struct {
		name string
		err  error
		v5   packets.Connack
		v3   byte // return code
	}{
		{"a plain error", errors.New("secret"), packets.Connack{Reason: packets.UnspecifiedError}, 3},
		{"bad user name or password", packets.BadUserNameOrPassword, packets.Connack{Reason: packets.BadUserNameOrPassword}, 4},
		{"not authorized", packets.NotAuthorized, packets.Connack{Reason: packets.NotAuthorized}, 5},
		{"banned", packets.Banned, packets.Connack{Reason: packets.Banned}, 5},
		{"bad authentication method", packets.BadAuthenticationMethod, packets.Connack{Reason: packets.BadAuthenticationMethod}, 4},
		{"client identifier", packets.ClientIdentifierNotValid, packets.Connack{Reason: packets.ClientIdentifierNotValid}, 2},
		{"server unavailable", packets.ServerUnavailable, packets.Connack{Reason: packets.ServerUnavailable}, 3},
		{"server busy", packets.ServerBusy, packets.Connack{Reason: packets.ServerBusy}, 3},
		{"server moved", packets.ServerMoved, packets.Connack{Reason: packets.ServerMoved}, 3},
		{"connection rate", packets.ConnectionRateExceeded, packets.Connack{Reason: packets.ConnectionRateExceeded}, 3},
		{"quota", packets.QuotaExceeded, packets.Connack{Reason: packets.QuotaExceeded}, 3},
		{"implementation specific", packets.ImplementationSpecificError, packets.Connack{Reason: packets.ImplementationSpecificError}, 3},
		{"protocol error has no return code", packets.ProtocolError, packets.Connack{Reason: packets.ProtocolError}, silence},
		{"a code that CONNACK has not", packets.SharedSubscriptionsNotSupported, packets.Connack{Reason: packets.UnspecifiedError}, 3},
		{"a code that is no failure refuses as well", fmt.Errorf("odd: %w", packets.Success), packets.Connack{Reason: packets.UnspecifiedError}, 3},
		{"a code with a text around it", fmt.Errorf("secret: %w", packets.NotAuthorized), packets.Connack{Reason: packets.NotAuthorized}, 5},
		{"a code with a detail for the log", &packets.Error{Code: packets.NotAuthorized, Detail: "secret line 12", Err: io.EOF}, packets.Connack{Reason: packets.NotAuthorized}, 5},
		{"a refusal", refusal, told, 3},
		{"a refusal with a text around it", fmt.Errorf("secret: %w", refusal), told, 3},
		{"a refusal with nothing but a code", &petrel.Refusal{Code: packets.Banned}, packets.Connack{Reason: packets.Banned}, 5},
	} {
		hook := connectDecision(func(context.Context, *petrel.ConnectRequest) error { return tt.err })
		t.Run(tt.name+" 5.0", func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{hook}})
			c, ack := b.TryConnect(brokertest.ID("c"))
			got, err := ack.AppendTo(nil, packets.V5)
			require.NoError(t, err)
			want, err := tt.v5.AppendTo(nil, packets.V5)
			require.NoError(t, err)
			require.Equal(t, want, got, "got %+v %q", ack, ack.ReasonString)
			c.ExpectClosed()
			c.Served()
			require.Zero(t, b.Stats().Sessions)
		})
		for _, level := range []struct {
			name  string
			level byte
		}{{"MQIsdp", 3}, {"MQTT", 4}} {
			t.Run(fmt.Sprintf("%s level %d", tt.name, level.level), func(t *testing.T) {
				inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{hook}}, func(t *testing.T, b *brokertest.Broker) {
					got, ended := dialWire(t, b).exchange(wireConnect(level.name, level.level, 2, wireString("c")))
					require.True(t, ended)
					if tt.v3 == silence {
						require.Empty(t, got)
					} else {
						require.Equal(t, []byte{0x20, 2, 0, tt.v3}, got)
					}
				})
			})
		}
	}
	t.Run("text that is none does not reach the client as it is", func(t *testing.T) {
		hook := connectDecision(func(context.Context, *petrel.ConnectRequest) error {
			return &petrel.Refusal{Code: packets.NotAuthorized, ReasonString: "a\xFFb\x00c", UserProperties: []petrel.UserProperty{{Name: "\x00", Value: "\xED\xA0\x80"}}}
		})
		_, ack := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{hook}}).TryConnect(brokertest.ID("c"))
		require.Equal(t, packets.NotAuthorized, ack.Reason)
		require.Equal(t, "a\uFFFDb\uFFFDc", string(ack.ReasonString))
		require.Equal(t, packets.UserProperties{}.Append("\uFFFD", "\uFFFD"), ack.UserProperties)
	})
	t.Run("what does not fit into the client's packet is left out", func(t *testing.T) {
		hook := connectDecision(func(context.Context, *petrel.ConnectRequest) error {
			return &petrel.Refusal{Code: packets.NotAuthorized, ReasonString: strings.Repeat("x", 100)}
		})
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{hook}})
		for size, fits := range map[uint32]bool{50: false, 107: false, 108: true} {
			p := brokertest.ID("c")
			p.MaximumPacketSize = size
			_, ack := b.TryConnect(p)
			require.Equal(t, packets.NotAuthorized, ack.Reason)
			require.Equal(t, fits, len(ack.ReasonString) > 0, "maximum packet size %d", size)
		}
	})
}

func TestAuthenticatorIsAsked(t *testing.T) {
	t.Run("about everything that CONNECT says", func(t *testing.T) {
		var r petrel.ConnectRequest
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{connectDecision(func(_ context.Context, got *petrel.ConnectRequest) error {
			r = *got
			r.Password = bytes.Clone(got.Password)
			return nil
		})}})
		p := packets.Connect{Version: packets.V5, ClientID: []byte("c"), CleanStart: true, KeepAlive: 7, HasUserName: true, UserName: []byte("user"),
			HasPassword: true, Password: []byte{0, 1, 0xFF}, UserProperties: packets.UserProperties{}.Append("n", "1").Append("n", "2")}
		b.Connect(p)
		require.NotNil(t, r.Peer.RemoteAddr)
		r.Peer = petrel.Peer{}
		require.Equal(t, petrel.ConnectRequest{
			Version: packets.V5, ClientID: "c", HasUserName: true, UserName: "user", HasPassword: true, Password: petrel.Secret{0, 1, 0xFF},
			CleanStart: true, KeepAlive: 7 * time.Second, UserProperties: []petrel.UserProperty{{Name: "n", Value: "1"}, {Name: "n", Value: "2"}}, Identity: "user",
		}, r)

		_, ack := b.TryConnect(packets.Connect{Version: packets.V5, HasPassword: true})
		require.Equal(t, []any{true, string(ack.AssignedClientID), false, true, ""}, []any{r.AssignedID, r.ClientID, r.HasUserName, r.HasPassword, r.Identity})
	})
	t.Run("all of them have to agree, in their order", func(t *testing.T) {
		var asked []string
		say := func(name string, err error) petrel.Hook {
			return connectDecision(func(context.Context, *petrel.ConnectRequest) error {
				asked = append(asked, name)
				return err
			})
		}
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{say("a", nil), say("b", packets.Banned), say("c", nil)}})
		_, ack := b.TryConnect(brokertest.ID("c"))
		require.Equal(t, packets.Banned, ack.Reason)
		require.Equal(t, []string{"a", "b"}, asked)
	})
	t.Run("not about a CONNECT that is wrong anyway", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{connectDecision(func(context.Context, *petrel.ConnectRequest) error {
			t.Error("asked")
			return nil
		})}})
		_, ack := b.TryConnect(packets.Connect{Version: packets.V311})
		require.Equal(t, packets.ClientIdentifierNotValid, ack.Reason)
	})
	t.Run("a panic refuses", func(t *testing.T) {
		var log lockedBuffer
		b := brokertest.New(t, petrel.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Hooks: []petrel.Hook{connectDecision(func(_ context.Context, r *petrel.ConnectRequest) error {
			if r.UserName == "panic" {
				panic("boom")
			}
			return nil
		})}})
		p := brokertest.ID("c")
		p.HasUserName, p.UserName, p.HasPassword, p.Password = true, []byte("panic"), true, []byte("hunter2")
		c, ack := b.TryConnect(p)
		require.Equal(t, packets.UnspecifiedError, ack.Reason)
		require.NotContains(t, string(ack.ReasonString), "boom")
		c.ExpectClosed()
		require.Contains(t, log.String(), "boom")
		require.NotContains(t, log.String(), "hunter2")
		b.Connect(brokertest.ID("c")).ExpectNothing()
	})
	for name, minds := range map[string]bool{"that minds its context": true, "that does not": false} {
		t.Run("an answer that comes too late refuses, from a hook "+name, func(t *testing.T) {
			hook := connectDecision(func(ctx context.Context, r *petrel.ConnectRequest) error {
				if r.UserName != "slow" {
					return nil
				}
				if minds {
					<-ctx.Done()
					return nil
				}
				time.Sleep(time.Minute)
				r.Identity = "too late"
				return nil
			})
			inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{hook}, HookTimeout: 3 * time.Second}, func(t *testing.T, b *brokertest.Broker) {
				p := brokertest.ID("c")
				p.HasUserName, p.UserName = true, []byte("slow")
				start := time.Now()
				c, ack := b.TryConnect(p)
				require.Equal(t, packets.UnspecifiedError, ack.Reason)
				require.Equal(t, 3*time.Second, time.Since(start))
				c.ExpectClosed()
				b.Connect(brokertest.ID("c")).ExpectNothing() // nobody else waits
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				require.Equal(t, 1, b.Stats().Sessions)
			})
		})
	}
	t.Run("an answer in time is good", func(t *testing.T) {
		hook := connectDecision(func(context.Context, *petrel.ConnectRequest) error {
			time.Sleep(3*time.Second - 1)
			return nil
		})
		inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{hook}, HookTimeout: 3 * time.Second}, func(t *testing.T, b *brokertest.Broker) {
			b.Connect(brokertest.ID("c")).ExpectNothing()
		})
	})
	t.Run("its context ends with the connection", func(t *testing.T) {
		var ended bool
		hook := connectDecision(func(ctx context.Context, _ *petrel.ConnectRequest) error {
			<-ctx.Done()
			ended = true
			return ctx.Err()
		})
		inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{hook}, HookTimeout: -1, ConnectTimeout: -1}, func(t *testing.T, b *brokertest.Broker) {
			w := dialWire(t, b)
			w.Write(wireConnect("MQTT", 4, 2, wireString("a")))
			synctest.Wait()
			require.NoError(t, b.Close())
			require.True(t, ended)
		})
	})
}

// lockedBuffer is written to by many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
