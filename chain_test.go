package petrel_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// outcomes are what a decision can come to: the last column of the hook chain.
// TestHookRefusesPublish has more of them for PUBLISH.
var outcomes = []struct {
	name   string
	decide func(ctx context.Context) error
	allows bool
	code   packets.ReasonCode // 0 if the capability has one for errors without a code
}{
	{"allows", func(context.Context) error { return nil }, true, 0},
	{"refuses with a code", func(context.Context) error { return packets.QuotaExceeded }, false, packets.QuotaExceeded},
	{"refuses with a plain error", func(context.Context) error { return errors.New("secret") }, false, 0},
	{"panics", func(context.Context) error { panic("as the test wants") }, false, 0},
	{"blocks past its deadline, minding its context", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, false, 0},
	{"blocks past its deadline, then allows", func(context.Context) error { time.Sleep(10 * time.Second); return nil }, false, 0},
}

// eachOutcome runs f for every outcome and version. What hooks block for has
// passed when wait returns.
func eachOutcome(t *testing.T, f func(t *testing.T, v packets.Version, decide func(context.Context) error, allows bool, code packets.ReasonCode)) {
	for _, o := range outcomes {
		for _, v := range everyVersion {
			t.Run(fmt.Sprintf("%s, %v", o.name, v), func(t *testing.T) { f(t, v, o.decide, o.allows, o.code) })
		}
	}
}

func orElse(code, otherwise packets.ReasonCode) packets.ReasonCode {
	if code == packets.Success {
		return otherwise
	}
	return code
}

// hooked runs f with a broker that has one hook to be watched, in fake time.
func hooked(t *testing.T, hook petrel.Hook, f func(t *testing.T, b *brokertest.Broker)) {
	t.Helper()
	o := petrel.Options{Hooks: []petrel.Hook{hook}, HookTimeout: time.Second, Logger: silent()}
	inFakeTime(t, o, func(t *testing.T, b *brokertest.Broker) {
		f(t, b)
		time.Sleep(5 * time.Minute) // the broker waits for hooks that block, but not so long
	})
}

func TestChainAuthenticator(t *testing.T) {
	eachOutcome(t, func(t *testing.T, v packets.Version, decide func(context.Context) error, allows bool, code packets.ReasonCode) {
		hook := petrel.AuthenticatorFunc(func(ctx context.Context, _ *petrel.ConnectRequest) error { return decide(ctx) })
		hooked(t, hook, func(t *testing.T, b *brokertest.Broker) {
			c, ack := b.TryConnect(fresh(v, "c"))
			if allows {
				require.Equal(t, packets.Success, ack.Reason)
				c.ExpectNothing()
				return
			}
			want := orElse(code, packets.UnspecifiedError)
			if v != packets.V5 {
				want = packets.ServerUnavailable // return code 3 stands for both
			}
			require.Equal(t, want, ack.Reason)
			c.ExpectClosed()
			require.Zero(t, b.Stats().Sessions)
		})
	})
}

func TestChainSubscribe(t *testing.T) {
	for name, hook := range map[string]func(decide func(context.Context) error) petrel.Hook{
		"Authorizer": func(decide func(context.Context) error) petrel.Hook {
			return accessInTime(func(ctx context.Context, _ *petrel.AccessRequest) error { return decide(ctx) })
		},
		"SubscribeInterceptor": func(decide func(context.Context) error) petrel.Hook { return subscribeInTime(decide) },
	} {
		t.Run(name, func(t *testing.T) {
			eachOutcome(t, func(t *testing.T, v packets.Version, decide func(context.Context) error, allows bool, code packets.ReasonCode) {
				hooked(t, hook(decide), func(t *testing.T, b *brokertest.Broker) {
					c := b.Connect(fresh(v, "c"))
					subs := packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("a"), QoS: 1})
					got := c.SubscribeWith(packets.Subscribe{Subscriptions: subs})
					want := packets.GrantedQoS1
					if !allows {
						want = map[packets.Version]packets.ReasonCode{
							packets.V31:  packets.GrantedQoS0, // there is no failure code
							packets.V311: packets.UnspecifiedError,
							packets.V5:   orElse(code, packets.NotAuthorized),
						}[v]
					}
					require.Equal(t, []packets.ReasonCode{want}, got)
					require.Equal(t, allows, b.Stats().Subscriptions == 1)
					require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "a", Payload: []byte("m"), QoS: 1}))
					if allows {
						c.Accept(c.ExpectPublish("a", "m"))
					}
					c.ExpectNothing()
				})
			})
		})
	}
}

type subscribeInTime func(context.Context) error

func (f subscribeInTime) InterceptSubscribe(ctx context.Context, _ *petrel.SubscribeRequest) error {
	return f(ctx)
}

// What is on its way to a client is refused silently, at every QoS, live and
// retained; others get it.
func TestChainDeliveries(t *testing.T) {
	for name, hook := range map[string]struct {
		make func(decide func(context.Context) error) petrel.Hook
		drop petrel.DropReason
	}{
		"Authorizer, each delivery": {func(decide func(context.Context) error) petrel.Hook {
			return accessInTime(func(ctx context.Context, r *petrel.AccessRequest) error {
				r.CheckDeliveries = r.Client.ID() == "c"
				if r.Action == petrel.Receive {
					return decide(ctx)
				}
				return nil
			})
		}, petrel.DropNotAuthorized},
		"DeliverInterceptor": {func(decide func(context.Context) error) petrel.Hook {
			return deliverInterceptor(func(ctx context.Context, r *petrel.DeliverRequest) error {
				if r.ClientID != "c" {
					return nil
				}
				return decide(ctx)
			})
		}, petrel.DropIntercepted},
	} {
		t.Run(name, func(t *testing.T) {
			eachOutcome(t, func(t *testing.T, v packets.Version, decide func(context.Context) error, allows bool, _ packets.ReasonCode) {
				for qos := petrel.AtMostOnce; qos <= petrel.ExactlyOnce; qos++ {
					hooked(t, hook.make(decide), func(t *testing.T, b *brokertest.Broker) {
						require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "kept", Payload: []byte("m"), QoS: qos, Retain: true}))
						c, other := b.Connect(fresh(v, "c")), b.Connect(fresh(v, "other"))
						c.Subscribe(qos, "#")
						other.Subscribe(qos, "live")
						require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "live", Payload: []byte("m"), QoS: qos}))
						other.Accept(other.ExpectPublish("live", "m"))
						time.Sleep(5 * time.Minute) // of hooks that block
						synctest.Wait()
						if allows {
							kept, live := c.ExpectPublish("kept", "m"), c.ExpectPublish("live", "m")
							require.Equal(t, []petrel.QoS{qos, qos}, []petrel.QoS{kept.QoS, live.QoS})
							c.Accept(kept)
							c.Accept(live)
						}
						c.ExpectNothing()
						if !allows {
							require.Equal(t, map[petrel.DropReason]uint64{hook.drop: 2}, b.Stats().Dropped)
						}
					})
				}
			})
		})
	}
}

// exchangeInTime is an EnhancedAuthenticator whose beginning and whose step are decided.
type exchangeInTime struct{ begin, step func(context.Context) error }

func (exchangeInTime) AuthenticationMethods() []string { return []string{"M"} }

func (e exchangeInTime) BeginAuthentication(ctx context.Context, _ *petrel.AuthenticationRequest) (petrel.AuthenticationExchange, error) {
	return stepInTime(e.step), e.begin(ctx)
}

type stepInTime func(context.Context) error

func (f stepInTime) Authenticate(ctx context.Context, _ []byte) (petrel.AuthenticationStep, error) {
	return petrel.AuthenticationStep{Done: true}, f(ctx)
}

func TestChainEnhancedAuthenticator(t *testing.T) {
	yes := func(context.Context) error { return nil }
	for _, o := range outcomes {
		for part, hook := range map[string]exchangeInTime{"begin": {o.decide, yes}, "step": {yes, o.decide}} {
			t.Run(part+" "+o.name, func(t *testing.T) {
				hooked(t, hook, func(t *testing.T, b *brokertest.Broker) {
					p := brokertest.ID("c")
					p.HasAuthenticationMethod, p.AuthenticationMethod = true, []byte("M")
					c, ack := b.TryConnect(p)
					if o.allows {
						require.Equal(t, packets.Success, ack.Reason)
						c.ExpectNothing()
						return
					}
					require.Equal(t, orElse(o.code, packets.UnspecifiedError), ack.Reason)
					c.ExpectClosed()
				})
			})
		}
	}
}
