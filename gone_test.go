package petrel_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// eachEngine runs a test with a broker that has one listener of plain TCP.
func eachEngine(t *testing.T, o petrel.Options, test func(t *testing.T, b *brokertest.Broker, addr string)) {
	for name, e := range map[string]petrel.Engine{"goroutines": petrel.GoroutineEngine, "loops": petrel.LoopEngine} {
		t.Run(name, func(t *testing.T) {
			o := o
			o.Engine, o.Logger = e, silent()
			b := brokertest.New(t, o)
			test(t, b, serveListener(t, b, petrel.ListenerOptions{MaximumConnections: o.MaximumConnections}))
		})
	}
}

// A client that is gone before it was answered frees its connection, its place and
// what decides about it, long before the decision is there.
func TestClientThatLeavesDuringASlowConnect(t *testing.T) {
	for _, minds := range []bool{true, false} {
		t.Run(fmt.Sprintf("the hook minds its context: %v", minds), func(t *testing.T) {
			asked, ended, decide := make(chan struct{}), make(chan struct{}, 1), make(chan struct{})
			slow := petrel.AuthenticatorFunc(func(ctx context.Context, r *petrel.ConnectRequest) error {
				if r.ClientID != "slow" {
					return nil
				}
				asked <- struct{}{}
				<-ctx.Done()
				ended <- struct{}{}
				if !minds {
					select {
					case <-decide:
					case <-time.After(time.Minute): // the test has failed
					}
				}
				return ctx.Err()
			})
			o := petrel.Options{Hooks: []petrel.Hook{slow}, HookTimeout: time.Hour, ConnectTimeout: time.Hour, MaximumConnections: 1}
			eachEngine(t, o, func(t *testing.T, b *brokertest.Broker, addr string) {
				conn, err := net.Dial("tcp", addr)
				require.NoError(t, err)
				_, err = conn.Write(encodedConnect(t, "slow"))
				require.NoError(t, err)
				<-asked
				require.NoError(t, conn.Close())
				within(t, ended, "it is still being decided about")
				eventually(t, "there is room", func() bool {
					_, code := connectTo(t, addr, brokertest.ID("other"))
					return code == packets.Success
				})
				require.Equal(t, 1, int(b.Stats().Sessions), "who left has none")
				if !minds {
					decide <- struct{}{}
				}
			})
		})
	}
}

// A client need not wait for its CONNACK (MQTT 5.0, section 3.1.4): what it has sent
// behind its CONNECT counts, though it has gone by then.
func TestClientThatLeavesWithoutWaiting(t *testing.T) {
	for _, apart := range []bool{false, true} {
		t.Run(fmt.Sprintf("in packets of its own: %v", apart), func(t *testing.T) {
			asked, left := make(chan struct{}), make(chan struct{})
			slow := petrel.AuthenticatorFunc(func(context.Context, *petrel.ConnectRequest) error {
				asked <- struct{}{}
				<-left
				time.Sleep(time.Second) // a socket has no fake time: it is to be looked at meanwhile
				return nil
			})
			eachEngine(t, petrel.Options{Hooks: []petrel.Hook{slow}, HookTimeout: time.Hour}, func(t *testing.T, b *brokertest.Broker, addr string) {
				got := make(chan string, 1)
				_, err := b.Subscribe("#", petrel.SubscribeOptions{}, func(_ context.Context, m *petrel.Message) { got <- m.Topic })
				require.NoError(t, err)
				conn, err := net.Dial("tcp", addr)
				require.NoError(t, err)
				connect, rest := encodedConnect(t, "c"), append(encoded(t, &packets.Publish{Topic: []byte("a")}), 0xE0, 0)
				if apart {
					_, err = conn.Write(connect)
					require.NoError(t, err)
					<-asked
					_, err = conn.Write(rest)
				} else {
					_, err = conn.Write(append(connect, rest...))
					<-asked
				}
				require.NoError(t, err)
				require.NoError(t, conn.Close())
				left <- struct{}{}
				require.Equal(t, "a", within(t, got, "what it sent is lost"))
			})
		})
	}
}

// within waits for a value, and not for ever.
func within[T any](t *testing.T, c <-chan T, otherwise string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(30 * time.Second):
		require.Fail(t, otherwise)
	}
	return v
}

func encodedConnect(t *testing.T, id string) []byte {
	p := brokertest.ID(id)
	return encoded(t, &p)
}

func encoded(t *testing.T, p packets.Packet) []byte {
	b, err := p.AppendTo(nil, packets.V5)
	require.NoError(t, err)
	return b
}
