package petrel_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// until is an Authenticator whose credentials end after some time; 0 means never.
func until(d time.Duration) petrel.AuthenticatorFunc {
	return func(_ context.Context, r *petrel.ConnectRequest) error {
		r.Expires = time.Time{}
		if d != 0 {
			r.Expires = time.Now().Add(d)
		}
		return nil
	}
}

func TestCredentialsExpire(t *testing.T) {
	for _, tt := range []struct {
		name      string
		hooks     []petrel.Hook
		keepAlive uint16
		after     time.Duration
		code      packets.ReasonCode
	}{
		{"without keep alive", []petrel.Hook{until(time.Hour)}, 0, time.Hour, packets.MaximumConnectTime},
		{"before the keep alive", []petrel.Hook{until(time.Minute)}, 50, time.Minute, packets.MaximumConnectTime},
		{"after the keep alive", []petrel.Hook{until(2 * time.Minute)}, 50, 75 * time.Second, packets.KeepAliveTimeout},
		{"the earlier one first", []petrel.Hook{until(time.Minute), until(time.Hour)}, 0, time.Minute, packets.MaximumConnectTime},
		{"the earlier one last", []petrel.Hook{until(time.Hour), until(time.Minute)}, 0, time.Minute, packets.MaximumConnectTime},
		{"another hook sets none", []petrel.Hook{until(time.Minute), until(0)}, 0, time.Minute, packets.MaximumConnectTime},
	} {
		for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
			t.Run(tt.name+" "+v.String(), func(t *testing.T) {
				inFakeTime(t, petrel.Options{Hooks: tt.hooks}, func(t *testing.T, b *brokertest.Broker) {
					start := time.Now()
					w, _ := wireClient(t, b, packets.Connect{Version: v, KeepAlive: tt.keepAlive})
					got := requireEnd(t, w, start, tt.after)
					if v == packets.V5 {
						require.Equal(t, []byte{0xE0, byte(tt.code)}, []byte{got[0], got[2]})
					} else {
						require.Empty(t, got)
					}
					require.ErrorIs(t, w.cause, tt.code)
				})
			})
		}
	}
	t.Run("of a client that speaks all the time", func(t *testing.T) {
		inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{until(time.Minute)}}, func(t *testing.T, b *brokertest.Broker) {
			p := brokertest.ID("c")
			p.KeepAlive = 5
			c := b.Connect(p)
			for range 59 {
				time.Sleep(time.Second)
				c.ExpectNothing()
			}
			time.Sleep(1100 * time.Millisecond)
			c.ExpectDisconnect(packets.MaximumConnectTime)
		})
	})
	t.Run("publishes the will", func(t *testing.T) {
		inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{until(time.Minute)}}, func(t *testing.T, b *brokertest.Broker) {
			var got []string
			_, err := b.Subscribe("#", petrel.SubscribeOptions{}, func(_ context.Context, m *petrel.Message) { got = append(got, m.Topic) })
			require.NoError(t, err)
			p := brokertest.ID("c")
			p.HasWill, p.Will = true, packets.Will{Topic: []byte("gone")}
			c := b.Connect(p)
			time.Sleep(time.Hour)
			c.ExpectDisconnect(packets.MaximumConnectTime)
			c.Served()
			require.NoError(t, b.Close())
			require.Equal(t, []string{"gone"}, got)
		})
	})
}

func TestExpiredCredentialsAreRefused(t *testing.T) {
	for _, d := range []time.Duration{-time.Hour, -time.Nanosecond} {
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{until(d)}})
		c, ack := b.TryConnect(brokertest.ID("c"))
		require.Equal(t, packets.NotAuthorized, ack.Reason)
		c.ExpectClosed()
		require.Zero(t, b.Stats().ClientsConnected)
	}
}

// The exchange of a re-authentication says anew when the credentials end.
func TestReauthenticationMovesTheEnd(t *testing.T) {
	for _, tt := range []struct {
		name         string
		first, again time.Duration // 0 means never
		after        time.Duration // since the re-authentication, after half a minute; 0 means never
	}{
		{"later", time.Minute, time.Hour, time.Hour},
		{"earlier", time.Hour, time.Minute, time.Minute},
		{"for the first time", 0, time.Minute, time.Minute},
		{"to never", time.Minute, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &method{name: "COUNT", step: func(_ context.Context, r *petrel.AuthenticationRequest, _ int, _ []byte) (petrel.AuthenticationStep, error) {
				d, s := tt.first, petrel.AuthenticationStep{Done: true}
				if r.Reauthentication {
					d = tt.again
				}
				if d != 0 {
					s.Expires = time.Now().Add(d)
				}
				return s, nil
			}}
			inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{m}}, func(t *testing.T, b *brokertest.Broker) {
				c := b.Connect(withMethod("COUNT", ""))
				time.Sleep(30 * time.Second)
				c.Send(authWith(packets.Reauthenticate, "COUNT", ""))
				require.Equal(t, packets.Success, brokertest.Expect[*packets.Auth](c).Reason)
				if tt.after == 0 {
					time.Sleep(1000 * time.Hour)
					c.ExpectNothing()
					return
				}
				time.Sleep(tt.after - time.Second)
				c.ExpectNothing()
				time.Sleep(1100 * time.Millisecond)
				c.ExpectDisconnect(packets.MaximumConnectTime)
			})
		})
	}
	t.Run("without one, the end of the first exchange stands", func(t *testing.T) {
		m := &method{name: "COUNT", step: func(context.Context, *petrel.AuthenticationRequest, int, []byte) (petrel.AuthenticationStep, error) {
			return petrel.AuthenticationStep{Done: true, Expires: time.Now().Add(time.Minute)}, nil
		}}
		inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{m}}, func(t *testing.T, b *brokertest.Broker) {
			c := b.Connect(withMethod("COUNT", ""))
			time.Sleep(time.Minute + 100*time.Millisecond)
			c.ExpectDisconnect(packets.MaximumConnectTime)
		})
	})
	t.Run("to the past is refused", func(t *testing.T) {
		m := &method{name: "COUNT", step: func(_ context.Context, r *petrel.AuthenticationRequest, _ int, _ []byte) (petrel.AuthenticationStep, error) {
			s := petrel.AuthenticationStep{Done: true}
			if r.Reauthentication {
				s.Expires = time.Now().Add(-time.Second)
			}
			return s, nil
		}}
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{m}})
		c := b.Connect(withMethod("COUNT", ""))
		c.Send(authWith(packets.Reauthenticate, "COUNT", ""))
		c.ExpectDisconnect(packets.NotAuthorized)
	})
}

type (
	placeKey struct{}
	otherKey struct{}
)

// place lets clients publish to the one topic that their password names.
type place struct{}

func (place) Authenticate(_ context.Context, r *petrel.ConnectRequest) error {
	r.SetValue(placeKey{}, "what is replaced")
	r.SetValue(placeKey{}, string(r.Password))
	return nil
}

func (place) Authorize(_ context.Context, r *petrel.AccessRequest) error {
	if r.Client.Value(otherKey{}) != nil || r.Client.Value(placeKey{}) != r.Topic {
		return packets.NotAuthorized
	}
	return nil
}

func TestValuesOfAConnection(t *testing.T) {
	connect := func(id, password string) packets.Connect {
		p := brokertest.ID(id)
		p.HasUserName, p.UserName, p.HasPassword, p.Password = true, []byte("user"), true, []byte(password)
		return p
	}
	publish := func(c *brokertest.Client, topic string) packets.ReasonCode {
		return c.PublishWith(packets.Publish{Topic: []byte(topic), QoS: packets.AtLeastOnce})
	}
	t.Run("of each its own", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{place{}}})
		for _, topic := range []string{"a", "b"} {
			c := b.Connect(connect(topic, topic))
			assert.Equal(t, topic == "a", publish(c, "a") != packets.NotAuthorized)
			assert.Equal(t, topic == "b", publish(c, "b") != packets.NotAuthorized)
		}
	})
	t.Run("decide about the will of their CONNECT", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{place{}}})
		p := connect("c", "a")
		p.HasWill, p.Will = true, packets.Will{Topic: []byte("a")}
		b.Connect(p)
		p.Will.Topic = []byte("b")
		_, ack := b.TryConnect(p)
		require.Equal(t, packets.NotAuthorized, ack.Reason)
	})
	t.Run("are not those of one that is refused", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{place{}}})
		c := b.Connect(connect("c", "a"))
		p := connect("c", "b")
		p.UserName = []byte("somebody else")
		_, ack := b.TryConnect(p)
		require.Equal(t, packets.ClientIdentifierNotValid, ack.Reason)
		require.Equal(t, packets.NotAuthorized, publish(c, "b"))
		require.NotEqual(t, packets.NotAuthorized, publish(c, "a"))
	})
	t.Run("are replaced by a re-authentication that succeeds", func(t *testing.T) {
		m := &method{name: "COUNT", step: func(_ context.Context, r *petrel.AuthenticationRequest, _ int, data []byte) (petrel.AuthenticationStep, error) {
			topic, wrong := strings.CutPrefix(string(data), "wrong ")
			if !r.Reauthentication {
				r.Connect.SetValue(otherKey{}, nil) // which is as if it were not there
			}
			r.Connect.SetValue(placeKey{}, topic)
			if wrong {
				return petrel.AuthenticationStep{}, errors.New("wrong")
			}
			return petrel.AuthenticationStep{Done: true}, nil
		}}
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{m, petrel.AuthorizerFunc(place{}.Authorize)}})
		c := b.Connect(withMethod("COUNT", "a"))
		require.NotEqual(t, packets.NotAuthorized, publish(c, "a"))
		c.Send(authWith(packets.Reauthenticate, "COUNT", "b"))
		require.Equal(t, packets.Success, brokertest.Expect[*packets.Auth](c).Reason)
		require.Equal(t, packets.NotAuthorized, publish(c, "a"))
		require.NotEqual(t, packets.NotAuthorized, publish(c, "b"))
		c.Send(authWith(packets.Reauthenticate, "COUNT", "wrong c"))
		c.ExpectDisconnect(packets.NotAuthorized)
	})
	t.Run("there are none without a hook that sets them", func(t *testing.T) {
		asked := 0
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{petrel.AuthorizerFunc(func(_ context.Context, r *petrel.AccessRequest) error {
			asked++
			assert.Nil(t, r.Client.Value(placeKey{}))
			return nil
		})}})
		publish(b.Connect(brokertest.ID("c")), "a")
		require.Equal(t, 1, asked)
	})
	t.Run("a copy of the request has its own", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{petrel.AuthenticatorFunc(func(_ context.Context, r *petrel.ConnectRequest) error {
			r.SetValue(placeKey{}, "a")
			refused := *r
			refused.SetValue(placeKey{}, "b")
			return nil
		}), petrel.AuthorizerFunc(place{}.Authorize)}})
		require.Equal(t, packets.NotAuthorized, publish(b.Connect(brokertest.ID("c")), "b"))
	})
}

// A client is admitted by one thing, and what it may do is decided by another.
func ExampleClient_Value() {
	type tenantKey struct{}
	admit := petrel.AuthenticatorFunc(func(_ context.Context, r *petrel.ConnectRequest) error {
		tenant, _, ok := strings.Cut(r.UserName, "@")
		if !ok {
			return packets.BadUserNameOrPassword
		}
		r.SetValue(tenantKey{}, tenant)
		return nil
	})
	decide := petrel.AuthorizerFunc(func(_ context.Context, r *petrel.AccessRequest) error {
		tenant, _ := r.Client.Value(tenantKey{}).(string)
		if tenant == "" || !strings.HasPrefix(r.Topic, tenant+"/") {
			return packets.NotAuthorized
		}
		return nil
	})
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{admit, decide}})
	fmt.Println(err)
	broker.Close()
	// Output: <nil>
}
