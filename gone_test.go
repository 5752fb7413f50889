package petrel_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/internal/certtest"
	"github.com/petrelmq/petrel/listeners"
	"github.com/petrelmq/petrel/packets"
)

// doors are what a client may come by, with how it makes of a socket what it speaks on.
var doors = map[string]struct {
	engine petrel.Engine
	opened func(t *testing.T, l net.Listener, server *tls.Config) net.Listener // nil for plain TCP
	enter  func(t *testing.T, socket net.Conn, client *tls.Config) net.Conn
}{
	"goroutines": {engine: petrel.GoroutineEngine, enter: asItIs},
	"loops":      {engine: petrel.LoopEngine, enter: asItIs},
	"TLS": {opened: func(_ *testing.T, l net.Listener, server *tls.Config) net.Listener { return tls.NewListener(l, server) },
		enter: func(_ *testing.T, socket net.Conn, client *tls.Config) net.Conn { return tls.Client(socket, client) }},
	"WebSocket": {opened: func(t *testing.T, l net.Listener, _ *tls.Config) net.Listener { return onWebSocket(t, l, nil) },
		enter: func(t *testing.T, socket net.Conn, _ *tls.Config) net.Conn {
			return brokertest.WebSocketOver(t, socket)
		}},
	"secure WebSocket": {opened: onWebSocket,
		enter: func(t *testing.T, socket net.Conn, client *tls.Config) net.Conn {
			return brokertest.WebSocketOver(t, tls.Client(socket, client))
		}},
}

func asItIs(_ *testing.T, socket net.Conn, _ *tls.Config) net.Conn { return socket }

func onWebSocket(t *testing.T, l net.Listener, server *tls.Config) net.Listener {
	l, err := listeners.NewWebSocketListener(l, listeners.WebSocketOptions{TLSConfig: server, AllowAnyOrigin: true})
	require.NoError(t, err)
	return l
}

// entrance is a broker with one listener. Its serve is called once.
type entrance struct {
	*brokertest.Broker
	serve func(o petrel.Options)
	dial  func() (socket, conn net.Conn)
}

// eachDoor runs a test with each of the doors, until it fails: each time that may be
// because something does not come.
func eachDoor(t *testing.T, test func(t *testing.T, e *entrance)) {
	ca := certtest.New()
	for name, door := range doors {
		passed := t.Run(name, func(t *testing.T) {
			e := new(entrance)
			e.serve = func(o petrel.Options) {
				o.Engine, o.Logger, o.HookTimeout, o.ConnectTimeout = door.engine, silent(), time.Hour, time.Hour
				l, err := net.Listen("tcp", "127.0.0.1:0")
				require.NoError(t, err)
				addr := l.Addr().String()
				if door.opened != nil {
					l = door.opened(t, l, &tls.Config{Certificates: []tls.Certificate{ca.Issue("server")}})
				}
				e.Broker = brokertest.New(t, o)
				serveOn(t, e.Broker, l, petrel.ListenerOptions{})
				e.dial = func() (socket, conn net.Conn) {
					socket, err := net.Dial("tcp", addr)
					require.NoError(t, err)
					t.Cleanup(func() { socket.Close() })
					return socket, door.enter(t, socket, ca.Client())
				}
			}
			test(t, e)
		})
		if !passed {
			t.FailNow()
		}
	}
}

// A client that is gone before it was answered frees its connection, its place and
// what decides about it, long before the decision is there.
func TestClientThatLeavesDuringASlowConnect(t *testing.T) {
	for name, c := range map[string]struct{ minds, farewell bool }{
		"with a farewell, and the hook minds its context": {true, true},
		"cut off, and the hook does not":                  {false, false},
	} {
		if !t.Run(name, func(t *testing.T) {
			eachDoor(t, func(t *testing.T, e *entrance) { testLeavesDuringASlowConnect(t, e, c.minds, c.farewell) })
		}) {
			t.FailNow()
		}
	}
}

func testLeavesDuringASlowConnect(t *testing.T, e *entrance, minds, farewell bool) {
	asked, ended, decide := make(chan struct{}), make(chan struct{}, 1), make(chan struct{})
	defer close(decide)
	e.serve(petrel.Options{MaximumConnections: 1, Hooks: []petrel.Hook{
		petrel.AuthenticatorFunc(func(ctx context.Context, r *petrel.ConnectRequest) error {
			if r.ClientID != "slow" {
				return nil
			}
			asked <- struct{}{}
			<-ctx.Done()
			ended <- struct{}{}
			if !minds {
				<-decide
			}
			return ctx.Err()
		}),
	}})
	socket, conn := e.dial()
	_, err := conn.Write(encodedConnect(t, "slow"))
	require.NoError(t, err)
	<-asked
	if farewell {
		_ = conn.Close()
	}
	_ = socket.Close()
	within(t, ended, "it is still being decided about")
	eventually(t, "there is room", func() bool {
		_, conn := e.dial()
		other := brokertest.NewClient(t, conn, packets.V5)
		other.SendRaw(encodedConnect(t, "other"))
		return brokertest.Expect[*packets.Connack](other).Reason == packets.Success
	})
	require.Equal(t, 1, int(e.Stats().Sessions), "who left has none")
}

// A client need not wait for its CONNACK (MQTT 5.0, section 3.1.4): what it has sent
// behind its CONNECT counts, though it has gone by then.
func TestClientThatLeavesWithoutWaiting(t *testing.T) {
	for _, apart := range []bool{false, true} {
		t.Run(fmt.Sprintf("in packets of its own: %v", apart), func(t *testing.T) {
			eachDoor(t, func(t *testing.T, e *entrance) { testLeavesWithoutWaiting(t, e, apart) })
		})
	}
}

func testLeavesWithoutWaiting(t *testing.T, e *entrance, apart bool) {
	asked, left, got := make(chan struct{}), make(chan struct{}), make(chan string, 1)
	e.serve(petrel.Options{Hooks: []petrel.Hook{petrel.AuthenticatorFunc(func(context.Context, *petrel.ConnectRequest) error {
		asked <- struct{}{}
		<-left
		time.Sleep(600 * time.Millisecond) // a socket has no fake time: it is to be looked at meanwhile
		return nil
	})}})
	_, err := e.Subscribe("#", petrel.SubscribeOptions{}, func(_ context.Context, m *petrel.Message) { got <- m.Topic })
	require.NoError(t, err)
	_, conn := e.dial()
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
}

// within waits for a value, and not for ever.
func within[T any](t *testing.T, c <-chan T, otherwise string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(10 * time.Second):
		require.FailNow(t, otherwise)
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
