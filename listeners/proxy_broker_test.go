package listeners_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/limit"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/internal/certtest"
	"github.com/petrelmq/petrel/listeners"
	"github.com/petrelmq/petrel/packets"
)

// The tests of this file are about what a broker makes of clients that come by way
// of a trusted proxy: whoever decides about them decides about the client.

// gate is a hook that lets in all but some addresses, and writes down what it is asked.
type gate struct {
	banned string

	mu    sync.Mutex
	asked []string
}

func (g *gate) AuthorizeConnection(_ context.Context, r *petrel.ConnectionRequest) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	host, _, _ := net.SplitHostPort(r.Peer.RemoteAddr.String())
	if r.Peer.Proxy != nil {
		host += " by proxy"
	}
	g.asked = append(g.asked, fmt.Sprintf("%s %s", r.Stage, host))
	if g.banned != "" && strings.HasPrefix(host, g.banned) {
		return packets.Banned
	}
	return nil
}

// take returns what was asked since it was called last.
func (g *gate) take() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	taken := g.asked
	g.asked = nil
	return taken
}

// serveProxied serves what comes through a proxy on 127.0.0.1, and returns where.
func serveProxied(t *testing.T, o petrel.Options, on petrel.ListenerOptions, wrap func(net.Listener) net.Listener) (*brokertest.Broker, string) {
	t.Helper()
	b := brokertest.New(t, o)
	l := proxied(t, listeners.ProxyOptions{Trusted: loopback})
	if wrap != nil {
		l = wrap(l)
	}
	served := make(chan error, 1)
	go func() { served <- b.ServeListener(l, on) }()
	t.Cleanup(func() {
		require.NoError(t, b.Close())
		require.ErrorIs(t, receive(t, served), petrel.ErrBrokerClosed)
	})
	return b, l.Addr().String()
}

// speakFor connects as a proxy that forwards a client from an address.
func speakFor(t *testing.T, addr, source string) net.Conn {
	t.Helper()
	c := closing(t, dialTCP(t, addr))
	_, err := fmt.Fprintf(c, "PROXY TCP4 %s 198.51.100.1 56324 8883\r\n", source)
	require.NoError(t, err)
	return c
}

// connectBehind connects a client behind a proxy, and returns it with the answer.
func connectBehind(t *testing.T, addr, source, id string) (*brokertest.Client, packets.ReasonCode) {
	t.Helper()
	c := brokertest.NewClient(t, speakFor(t, addr, source), packets.V5)
	c.SendRaw(connectBytes(t, packets.V5, id))
	return c, brokertest.Expect[*packets.Connack](c).Reason
}

// A ConnectionAuthorizer is asked about the client, not about its proxy, at every
// stage and whatever the client speaks.
func TestConnectionAuthorizerBehindAProxy(t *testing.T) {
	ca := certtest.New()
	serverTLS := &tls.Config{Certificates: []tls.Certificate{ca.Issue("server")}}
	onWebSocket := func(config *tls.Config) func(net.Listener) net.Listener {
		return func(inner net.Listener) net.Listener {
			l, err := listeners.NewWebSocketListener(inner, listeners.WebSocketOptions{TLSConfig: config, AllowAnyOrigin: true})
			require.NoError(t, err)
			return l
		}
	}
	encrypted := func(_ *testing.T, c net.Conn) net.Conn { return tls.Client(c, ca.Client()) }
	behind := func(stages ...string) string {
		return strings.Join(stages, " 192.0.2.1 by proxy, ") + " 192.0.2.1 by proxy"
	}
	for _, test := range []struct {
		name  string
		wrap  func(net.Listener) net.Listener
		dial  func(*testing.T, net.Conn) net.Conn
		asked string
	}{
		{"plain", nil, func(_ *testing.T, c net.Conn) net.Conn { return c }, behind("accepted", "authenticated")},
		{"TLS", func(l net.Listener) net.Listener { return tls.NewListener(l, serverTLS) }, encrypted, behind("accepted", "secured", "authenticated")},
		{"WebSocket", onWebSocket(nil), func(t *testing.T, c net.Conn) net.Conn { return brokertest.WebSocketOver(t, c) }, behind("accepted", "authenticated")},
		{"WebSocket over TLS", onWebSocket(serverTLS),
			func(t *testing.T, c net.Conn) net.Conn { return brokertest.WebSocketOver(t, encrypted(t, c)) }, behind("accepted", "authenticated")},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &gate{banned: "192.0.2.66"}
			_, addr := serveProxied(t, petrel.Options{Hooks: []petrel.Hook{g}}, petrel.ListenerOptions{}, test.wrap)

			c := brokertest.NewClient(t, test.dial(t, speakFor(t, addr, "192.0.2.1")), packets.V5)
			c.SendRaw(connectBytes(t, packets.V5, "c"))
			require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](c).Reason)
			require.Equal(t, test.asked, strings.Join(g.take(), ", "))

			brokertest.NewClient(t, test.dial(t, speakFor(t, addr, "192.0.2.66")), packets.V5).ExpectClosed()
			require.Equal(t, []string{"accepted 192.0.2.66 by proxy"}, g.take(), "and at no other stage")
		})
	}
}

// As long as a proxy has not said for whom it speaks, nobody is asked, others are
// served, and the connect timeout runs.
func TestConnectionAuthorizerBehindASilentProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := new(gate)
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{g}})
		pipe := listeners.Pipe()
		l, err := listeners.ProxyProtocol(fromAddress{pipe}, listeners.ProxyOptions{Trusted: loopback})
		require.NoError(t, err)
		served := make(chan error, 1)
		go func() { served <- b.Serve(l) }()
		open := func(sent string) *brokertest.Client {
			conn, err := pipe.Dial(t.Context())
			require.NoError(t, err)
			c := brokertest.NewClient(t, conn, packets.V5)
			c.SendRaw([]byte(sent))
			return c
		}
		start := time.Now()
		silent, babbling := open(proxyLine[:20]), open("\x10\x00")
		babbling.ExpectClosed()
		require.Zero(t, time.Since(start))
		other := open(proxyLine + string(connectBytes(t, packets.V5, "c")))
		require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](other).Reason)
		require.Equal(t, []string{"accepted 192.0.2.1 by proxy", "authenticated 192.0.2.1 by proxy"}, g.take())
		silent.ExpectClosed()
		require.Equal(t, 10*time.Second, time.Since(start))
		require.Empty(t, g.take())
		require.NoError(t, b.Close())
		require.ErrorIs(t, <-served, petrel.ErrBrokerClosed)
	})
}

// fromAddress gives the connections of a listener an address that can be trusted.
type fromAddress struct{ net.Listener }

func (l fromAddress) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return fromLoopback{c}, err
}

type fromLoopback struct{ net.Conn }

func (fromLoopback) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// The limit of a listener is one for all clients of its proxy, whoever they are.
func TestMaximumConnectionsBehindAProxy(t *testing.T) {
	b, addr := serveProxied(t, petrel.Options{}, petrel.ListenerOptions{Name: "proxied", MaximumConnections: 2}, nil)
	first, code := connectBehind(t, addr, "192.0.2.1", "a")
	require.Equal(t, packets.Success, code)
	_, code = connectBehind(t, addr, "192.0.2.2", "b")
	require.Equal(t, packets.Success, code)
	_, code = connectBehind(t, addr, "192.0.2.3", "c")
	require.Equal(t, packets.QuotaExceeded, code)
	names := map[string]string{}
	for c := range b.Clients() {
		host, _, err := net.SplitHostPort(c.Peer.RemoteAddr.String())
		require.NoError(t, err)
		names[c.ID] = c.Peer.Listener + " " + host
	}
	require.Equal(t, map[string]string{"a": "proxied 192.0.2.1", "b": "proxied 192.0.2.2"}, names)
	first.Send(&packets.Disconnect{})
	brokertest.Eventually(t, "there is room for one more", func() bool {
		_, code := connectBehind(t, addr, "192.0.2.3", "c")
		return code == packets.Success
	})
}

// The addresses that a limiter counts are those of the clients.
func TestLimitsPerAddressBehindAProxy(t *testing.T) {
	few := limit.Rate{Count: 3, Period: 24 * time.Hour}
	for name, o := range map[string]limit.Options{"connects": {PerAddress: few}, "failures": {FailuresPerAddress: few}} {
		t.Run(name, func(t *testing.T) {
			limiter, err := limit.New(o)
			require.NoError(t, err)
			users := petrel.AuthenticatorFunc(func(_ context.Context, r *petrel.ConnectRequest) error {
				if r.ClientID == "guesser" {
					return packets.BadUserNameOrPassword
				}
				return nil
			})
			_, addr := serveProxied(t, petrel.Options{Hooks: []petrel.Hook{limiter, users}}, petrel.ListenerOptions{}, nil)
			for range few.Count {
				_, code := connectBehind(t, addr, "192.0.2.1", "guesser")
				require.Equal(t, packets.BadUserNameOrPassword, code)
			}
			brokertest.Eventually(t, "the client is over its limit", func() bool { // a failure counts when its connection has ended
				c := brokertest.NewClient(t, speakFor(t, addr, "192.0.2.1"), packets.V5)
				c.SendRaw(connectBytes(t, packets.V5, "c"))
				_, served := c.Next()
				return !served
			})
			require.EqualValues(t, 1, limiter.Refused())
			_, code := connectBehind(t, addr, "192.0.2.2", "c")
			require.Equal(t, packets.Success, code, "another client of the same proxy")
		})
	}
}
