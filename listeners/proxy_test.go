package listeners_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/internal/certtest"
	"github.com/petrelmq/petrel/listeners"
	"github.com/petrelmq/petrel/packets"
)

const (
	proxyLine   = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 8883\r\n"
	proxySource = "192.0.2.1:56324"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func proxied(t *testing.T, o listeners.ProxyOptions) net.Listener {
	t.Helper()
	socket, err := listeners.TCP("127.0.0.1:0")
	require.NoError(t, err)
	l, err := listeners.ProxyProtocol(socket, o)
	require.NoError(t, err)
	return closing(t, l)
}

func TestProxyProtocol(t *testing.T) {
	l := proxied(t, listeners.ProxyOptions{Trusted: loopback})
	testListener(t, l, func(t *testing.T) net.Conn {
		c := dialTCP(t, l.Addr().String())
		_, err := io.WriteString(c, proxyLine)
		require.NoError(t, err)
		return c
	})
}

func TestProxyProtocolNeedsSomebodyToTrust(t *testing.T) {
	_, err := listeners.ProxyProtocol(nil, listeners.ProxyOptions{})
	require.ErrorContains(t, err, "trust nobody")
	_, err = listeners.ProxyProtocol(nil, listeners.ProxyOptions{Trusted: []netip.Prefix{{}}})
	require.ErrorContains(t, err, "Trusted")
}

// What is sent arrives, whole and unchanged, however the header is cut and
// whatever came with it.
func TestProxyProtocolSplitAnywhere(t *testing.T) {
	l := proxied(t, listeners.ProxyOptions{Trusted: loopback})
	for cut := range len(proxyLine) + 5 {
		client := closing(t, dialTCP(t, l.Addr().String()))
		server, err := l.Accept()
		require.NoError(t, err)
		closing(t, server)
		bound(t, server)
		whole := proxyLine + "hello"
		_, err = io.WriteString(client, whole[:cut])
		require.NoError(t, err)
		got := make(chan string, 1)
		go func() {
			b := make([]byte, 5)
			_, err := io.ReadFull(server, b)
			if err != nil {
				got <- err.Error()
				return
			}
			got <- string(b)
		}()
		_, err = io.WriteString(client, whole[cut:])
		require.NoError(t, err)
		require.Equal(t, "hello", receive(t, got), "cut at %d", cut)
		require.Equal(t, proxySource, server.RemoteAddr().String())
		require.Equal(t, "198.51.100.1:8883", server.LocalAddr().String())
	}
}

func TestProxyProtocolWhoIsBelieved(t *testing.T) {
	elsewhere := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, test := range []struct {
		name  string
		opts  listeners.ProxyOptions
		sent  string
		reads string // what the broker gets
		err   string
		from  string // empty for the socket's peer
	}{
		{"trusted", listeners.ProxyOptions{Trusted: loopback}, proxyLine + "hello", "hello", "", proxySource},
		{"not trusted", listeners.ProxyOptions{Trusted: elsewhere}, proxyLine, proxyLine, "", ""},
		{"for itself", listeners.ProxyOptions{Trusted: loopback}, "PROXY UNKNOWN\r\nhello", "hello", "", ""},
		{"without a header", listeners.ProxyOptions{Trusted: loopback}, "hello", "", "no PROXY header", ""},
		{"without a header, as it may be", listeners.ProxyOptions{Trusted: loopback, Optional: true}, "PROXIMA", "PROXIMA", "", ""},
		{"malformed, where it is optional", listeners.ProxyOptions{Trusted: loopback, Optional: true}, "PROXY TCP9 x\r\n", "", "TCP9", ""},
		{"cut off", listeners.ProxyOptions{Trusted: loopback}, "PROXY TC", "", io.ErrUnexpectedEOF.Error(), ""},
		{"nothing at all", listeners.ProxyOptions{Trusted: loopback}, "", "", io.EOF.Error(), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := proxied(t, test.opts)
			client := closing(t, dialTCP(t, l.Addr().String()))
			server, err := l.Accept()
			require.NoError(t, err)
			closing(t, server)
			bound(t, server)
			_, err = io.WriteString(client, test.sent)
			require.NoError(t, err)
			require.NoError(t, client.(*net.TCPConn).CloseWrite())
			got, err := io.ReadAll(server)
			require.Equal(t, test.reads, string(got))
			switch {
			case test.err == "":
				require.NoError(t, err)
			case test.err != io.EOF.Error(): // which is no error to ReadAll
				require.ErrorContains(t, err, test.err)
				_, again := server.Read(make([]byte, 1))
				require.Error(t, again)
			}
			if test.from == "" {
				test.from = client.LocalAddr().String()
			}
			require.Equal(t, test.from, server.RemoteAddr().String())
		})
	}
}

// A header that announces much gets no memory before its bytes have come, and no
// more than its bound.
func TestProxyProtocolAnnouncedLength(t *testing.T) {
	l := proxied(t, listeners.ProxyOptions{Trusted: loopback})
	client := closing(t, dialTCP(t, l.Addr().String()))
	server, err := l.Accept()
	require.NoError(t, err)
	closing(t, server)
	bound(t, server)
	_, err = io.WriteString(client, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xFF\xFF")
	require.NoError(t, err)
	_, err = server.Read(make([]byte, 1))
	require.ErrorContains(t, err, "65535 bytes are announced")
	require.ErrorContains(t, err, client.LocalAddr().String())
}

// A client that speaks MQTT, TLS or WebSocket through a proxy is seen by hooks as
// itself, whatever is on top.
func TestProxyProtocolPeerThroughABroker(t *testing.T) {
	peers := make(chan petrel.Peer, 1)
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{
		petrel.AuthenticatorFunc(func(_ context.Context, r *petrel.ConnectRequest) error {
			peers <- r.Peer
			return nil
		}), auth.AllowAll{},
	}})
	ca := certtest.New()
	serverTLS := &tls.Config{Certificates: []tls.Certificate{ca.Issue("server")}}
	ws := listeners.NewWebSocket(listeners.WebSocketOptions{TrustedProxies: loopback})
	plain := func(c net.Conn) net.Conn { return c }
	for _, test := range []struct {
		name  string
		serve func(net.Listener)
		wrap  func(net.Conn) net.Conn
		tls   bool
		pre   string
	}{
		{"plain", func(l net.Listener) { _ = b.Serve(l) }, plain, false, ""},
		{"TLS", func(l net.Listener) { _ = b.Serve(tls.NewListener(l, serverTLS)) },
			func(c net.Conn) net.Conn { return tls.Client(c, ca.Client()) }, true, ""},
		{"WebSocket", func(l net.Listener) {
			go func() { _ = b.Serve(ws) }()
			_ = http.Serve(l, ws)
		}, plain, false, handshake("/", "Sec-WebSocket-Protocol: mqtt", "X-Forwarded-For: 203.0.113.9")},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := proxied(t, listeners.ProxyOptions{Trusted: loopback})
			go test.serve(l)
			socket := closing(t, dialTCP(t, l.Addr().String()))
			_, err := io.WriteString(socket, proxyLine)
			require.NoError(t, err)
			client := test.wrap(socket)
			hello := connectBytes(t, packets.V5, "c")
			if test.pre != "" {
				hello = append([]byte(test.pre), frame(fin|binaryFrame, hello)...)
			}
			_, err = client.Write(hello)
			require.NoError(t, err)
			peer := receive(t, peers)
			require.Equal(t, proxySource, peer.RemoteAddr.String(), "a header that the client can send does not count")
			require.Equal(t, test.tls, peer.TLS != nil)
			require.NotNil(t, peer.Proxy)
			require.Equal(t, socket.LocalAddr().String(), peer.Proxy.Addr.String())
			require.Nil(t, peer.Credentials)
		})
	}
}
