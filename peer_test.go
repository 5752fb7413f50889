package petrel_test

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// peerOf connects over conn and returns what an Authenticator is told of it.
func peerOf(t *testing.T, o petrel.Options, open func(b *brokertest.Broker) (client net.Conn)) petrel.Peer {
	t.Helper()
	asked := make(chan petrel.Peer, 1)
	o.Hooks = append(o.Hooks, petrel.AuthenticatorFunc(func(_ context.Context, r *petrel.ConnectRequest) error {
		asked <- r.Peer
		return nil
	}))
	b := brokertest.New(t, o)
	c := brokertest.NewClient(t, open(b), packets.V5)
	c.Send(&packets.Connect{Version: packets.V5, ClientID: []byte("x"), CleanStart: true})
	require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](c).Reason)
	for info := range b.Clients() {
		require.Equal(t, "x", info.ID)
	}
	return <-asked
}

// layer is a connection that runs on another.
type layer struct{ net.Conn }

func (l layer) NetConn() net.Conn { return l.Conn }

// secureLayer speaks TLS, of which it knows a name.
type secureLayer struct {
	layer
	name string
}

func (l secureLayer) ConnectionState() tls.ConnectionState {
	return tls.ConnectionState{ServerName: l.name}
}

// requestLayer began with an HTTP request.
type requestLayer struct {
	layer
	header map[string][]string
}

func (l requestLayer) Header() map[string][]string { return l.header }

// proxyLayer comes from a proxy, if it has an address of one.
type proxyLayer struct {
	layer
	addr net.Addr
	tls  string
}

func (l proxyLayer) ProxyAddr() net.Addr { return l.addr }
func (l proxyLayer) ProxyTLS() (version, cipher, commonName string, verified bool) {
	return l.tls, "cipher", "anna", true
}
func (l proxyLayer) ProxyName() (authority, alpn string) { return "mqtt.example", "mqtt" }

// circle is a layer that claims to run on itself.
type circle struct{ net.Conn }

func (c circle) NetConn() net.Conn { return c }

func TestPeerOfLayers(t *testing.T) {
	header := map[string][]string{"Origin": {"https://example.com"}}
	proxy := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9}
	forwarded := &petrel.Proxy{
		Addr: proxy, Authority: "mqtt.example", ALPN: "mqtt",
		TLS: &petrel.ProxyTLS{Version: "TLSv1.3", Cipher: "cipher", CommonName: "anna", Verified: true},
	}
	for _, tc := range []struct {
		name   string
		wrap   func(net.Conn) net.Conn
		tls    string // the name that the TLS state has, empty without one
		proxy  *petrel.Proxy
		header map[string][]string
	}{
		{"a bare pipe", func(c net.Conn) net.Conn { return c }, "", nil, nil},
		{"a layer that knows nothing", func(c net.Conn) net.Conn { return layer{c} }, "", nil, nil},
		{"tls below others", func(c net.Conn) net.Conn {
			return layer{requestLayer{layer{secureLayer{layer{c}, "inner"}}, header}}
		}, "inner", nil, header},
		{"tls in tls", func(c net.Conn) net.Conn { return secureLayer{layer{secureLayer{layer{c}, "inner"}}, "outer"} }, "outer", nil, nil},
		{"tls through a proxy", func(c net.Conn) net.Conn {
			return secureLayer{layer{proxyLayer{layer{c}, proxy, "TLSv1.3"}}, "client"}
		}, "client", forwarded, nil},
		{"tls of the proxy", func(c net.Conn) net.Conn {
			return proxyLayer{layer{secureLayer{layer{c}, "proxy"}}, proxy, "TLSv1.3"}
		}, "", forwarded, nil},
		{"a proxy that tells of no tls", func(c net.Conn) net.Conn { return proxyLayer{layer{c}, proxy, ""} }, "",
			&petrel.Proxy{Addr: proxy, Authority: "mqtt.example", ALPN: "mqtt"}, nil},
		{"not through the proxy", func(c net.Conn) net.Conn {
			return proxyLayer{layer{secureLayer{layer{c}, "client"}}, nil, "TLSv1.3"}
		}, "client", nil, nil},
		{"a layer that is its own", func(c net.Conn) net.Conn { return circle{c} }, "", nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			peer := peerOf(t, petrel.Options{}, func(b *brokertest.Broker) net.Conn {
				client, server := net.Pipe()
				go b.ServeConn(tc.wrap(server))
				return client
			})
			require.Equal(t, "pipe", peer.RemoteAddr.Network())
			require.Equal(t, "pipe", peer.LocalAddr.Network())
			require.Equal(t, tc.tls != "", peer.TLS != nil)
			if tc.tls != "" {
				require.Equal(t, tc.tls, peer.TLS.ServerName)
			}
			require.Equal(t, tc.proxy, peer.Proxy)
			require.Equal(t, tc.header, peer.Header)
			require.Nil(t, peer.Credentials)
		})
	}
}

// The system knows who connects to a Unix socket, and nobody else is asked.
func TestPeerCredentials(t *testing.T) {
	var want *petrel.Credentials
	if runtime.GOOS == "linux" {
		want = &petrel.Credentials{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), PID: int32(os.Getpid())}
	}
	proxy := &net.UnixAddr{Net: "unix"}
	for _, tc := range []struct {
		name, network string
		wrap          func(net.Conn) net.Conn // nil: the listener is bare
		want          *petrel.Credentials
	}{
		{"unix", "unix", nil, want},
		{"unix below a layer", "unix", func(c net.Conn) net.Conn { return layer{c} }, want},
		{"unix of a proxy", "unix", func(c net.Conn) net.Conn { return proxyLayer{layer{c}, proxy, ""} }, nil},
		{"tcp", "tcp", nil, nil},
		{"tcp below a layer", "tcp", func(c net.Conn) net.Conn { return layer{c} }, nil},
	} {
		for name, engine := range map[string]petrel.Engine{"goroutines": petrel.GoroutineEngine, "auto": petrel.AutoEngine} {
			t.Run(tc.name+", "+name, func(t *testing.T) {
				address := "127.0.0.1:0"
				if tc.network == "unix" {
					address = socketPath(t)
				}
				peer := peerOf(t, petrel.Options{Engine: engine}, func(b *brokertest.Broker) net.Conn {
					l, err := net.Listen(tc.network, address)
					require.NoError(t, err)
					client, err := net.Dial(tc.network, l.Addr().String())
					require.NoError(t, err)
					if tc.wrap == nil {
						go b.Serve(l)
						return client
					}
					server, err := l.Accept()
					require.NoError(t, err)
					require.NoError(t, l.Close())
					go b.ServeConn(tc.wrap(server))
					return client
				})
				require.Equal(t, tc.want, peer.Credentials)
			})
		}
	}
}

// socketPath returns a path short enough for a socket address.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "p")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}
