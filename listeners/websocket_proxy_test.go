package listeners_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/listeners"
)

var proxies = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8:1::/48"),
}

func TestWebSocketForwardedAddress(t *testing.T) {
	const xff, forwarded = "X-Forwarded-For", "Forwarded"
	for _, test := range []struct {
		name, header string
		peer         string
		lines        []string
		want         string // empty: that of the socket; "refused"
	}{
		{"peer is not trusted", xff, "192.0.2.9:5", []string{xff + ": 203.0.113.1"}, ""},
		{"no header", xff, "10.1.2.3:5", nil, ""},
		{"one address", xff, "10.1.2.3:5", []string{xff + ": 203.0.113.1"}, "203.0.113.1:0"},
		{"peer over IPv6", xff, "[2001:db8:1::5]:5", []string{xff + ": 203.0.113.1"}, "203.0.113.1:0"},
		{"peer mapped into IPv6", xff, "[::ffff:10.1.2.3]:5", []string{xff + ": 203.0.113.1"}, "203.0.113.1:0"},
		{"forged before", xff, "10.1.2.3:5", []string{xff + ": 127.0.0.1, 203.0.113.1"}, "203.0.113.1:0"},
		{"forged in a line before", xff, "10.1.2.3:5", []string{xff + ": 127.0.0.1", xff + ": 203.0.113.1"}, "203.0.113.1:0"},
		{"forged nonsense before", xff, "10.1.2.3:5", []string{xff + ": <script>, 203.0.113.1"}, "203.0.113.1:0"},
		{"two proxies", xff, "10.1.2.3:5", []string{xff + ": 127.0.0.1, 203.0.113.1, 10.1.9.9"}, "203.0.113.1:0"},
		{"nobody else", xff, "10.1.2.3:5", []string{xff + ": 10.1.0.7,10.1.0.8"}, "10.1.0.7:0"},
		{"with a port", xff, "10.1.2.3:5", []string{xff + ": 203.0.113.1:4711"}, "203.0.113.1:4711"},
		{"IPv6", xff, "10.1.2.3:5", []string{xff + ": 2001:db8::1"}, "[2001:db8::1]:0"},
		{"IPv6 in brackets", xff, "10.1.2.3:5", []string{xff + ": [2001:db8::1]"}, "[2001:db8::1]:0"},
		{"IPv6 with a port", xff, "10.1.2.3:5", []string{xff + ": [2001:db8::1]:4711"}, "[2001:db8::1]:4711"},
		{"IPv4 mapped into IPv6", xff, "10.1.2.3:5", []string{xff + ": ::ffff:203.0.113.1"}, "203.0.113.1:0"},
		{"no address", xff, "10.1.2.3:5", []string{xff + ": 203.0.113.1, unknown"}, "refused"},
		{"empty", xff, "10.1.2.3:5", []string{xff + ":"}, "refused"},
		{"the other header means nothing", xff, "10.1.2.3:5", []string{forwarded + ": for=203.0.113.1"}, ""},

		{"a name of its own", "X-Real-IP", "10.1.2.3:5", []string{"X-Real-IP: 203.0.113.1", xff + ": 203.0.113.9"}, "203.0.113.1:0"},

		{"token", forwarded, "10.1.2.3:5", []string{forwarded + ": for=203.0.113.1;proto=https"}, "203.0.113.1:0"},
		{"quoted", forwarded, "10.1.2.3:5", []string{forwarded + `: proto=https; For="[2001:db8::1]:4711"`}, "[2001:db8::1]:4711"},
		{"two elements", forwarded, "10.1.2.3:5", []string{forwarded + `: for=127.0.0.1, for=203.0.113.1;by=10.1.2.3`}, "203.0.113.1:0"},
		{"two lines", forwarded, "10.1.2.3:5", []string{forwarded + `: for=127.0.0.1`, forwarded + `: for=203.0.113.1`}, "203.0.113.1:0"},
		{"two proxies", forwarded, "10.1.2.3:5", []string{forwarded + `: for=127.0.0.1, for=203.0.113.1 , for="[2001:db8:1::7]"`}, "203.0.113.1:0"},
		{"escaped", forwarded, "10.1.2.3:5", []string{forwarded + `: for="203.0.113\.1"`}, "203.0.113.1:0"},
		{"hidden", forwarded, "10.1.2.3:5", []string{forwarded + ": for=_hidden"}, "refused"},
		{"no for", forwarded, "10.1.2.3:5", []string{forwarded + ": proto=https"}, "refused"},
		{"for twice", forwarded, "10.1.2.3:5", []string{forwarded + ": for=127.0.0.1;for=203.0.113.1"}, "refused"},
		{"open quote before", forwarded, "10.1.2.3:5", []string{forwarded + `: for="_x, for=203.0.113.1`}, "refused"},
		{"open quote before a quote", forwarded, "10.1.2.3:5", []string{forwarded + `: for=127.0.0.1;x=", for="[2001:db8::1]"`}, "refused"},
		{"something behind a quote", forwarded, "10.1.2.3:5", []string{forwarded + `: for="203.0.113.1"xproto=https`}, "refused"},
		{"address as in the other header", forwarded, "10.1.2.3:5", []string{forwarded + ": 203.0.113.1"}, "refused"},
	} {
		t.Run(test.header+" "+test.name, func(t *testing.T) {
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(handshake("/mqtt", test.lines...))))
			require.NoError(t, err)
			peer := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(test.peer))
			addr, err := listeners.ForwardedAddr(peer, r.Header, proxies, test.header)
			switch {
			case test.want == "refused":
				require.ErrorContains(t, err, test.header)
			case test.want == "":
				require.NoError(t, err)
				require.Nil(t, addr)
			default:
				require.NoError(t, err)
				require.Equal(t, test.want, addr.String())
				require.Equal(t, "tcp", addr.Network())
			}
		})
	}
}

func TestWebSocketRemoteAddrBehindProxy(t *testing.T) {
	for _, test := range []struct {
		name    string
		trusted []netip.Prefix
		want    string
	}{
		{"trusted", proxies, "203.0.113.1:0"},
		{"trusted by nobody", nil, ""},
		{"another is trusted", proxies[1:], ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := listeners.WebSocketListen("127.0.0.1:0", listeners.WebSocketOptions{TrustedProxies: test.trusted})
			require.NoError(t, err)
			closing(t, l)
			conns, _ := accepting(l)
			client := closing(t, dialTCP(t, l.Addr().String()))
			_, err = client.Write([]byte(handshake("/", "Sec-WebSocket-Protocol: mqtt", "X-Forwarded-For: 127.0.0.1, 203.0.113.1")))
			require.NoError(t, err)
			server := closing(t, receive(t, conns))
			want := test.want
			if want == "" {
				want = client.LocalAddr().String()
			}
			require.Equal(t, want, server.RemoteAddr().String())
		})
	}
}

// A proxy that is trusted and not understood makes nobody local.
func TestWebSocketHeaderOfAProxyNotUnderstood(t *testing.T) {
	logger, lines := logged(t, slog.LevelInfo)
	ws := closing(t, listeners.NewWebSocket(listeners.WebSocketOptions{TrustedProxies: proxies, Logger: logger}))
	response := respond(t, ws, handshake("/mqtt", "Sec-WebSocket-Protocol: mqtt", "X-Forwarded-For: unknown"))
	require.Equal(t, http.StatusBadRequest, response.StatusCode)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), `"unknown" is no address`)
	require.Eventually(t, func() bool { return len(lines()) == 1 }, patience, time.Millisecond)
	require.Contains(t, lines()[0]["reason"], "X-Forwarded-For")
	require.EqualValues(t, http.StatusBadRequest, lines()[0]["status"])
}

func TestWebSocketTrustedProxiesThatCannotBeMeant(t *testing.T) {
	for _, p := range []netip.Prefix{{}, netip.MustParsePrefix("::ffff:10.0.0.0/104")} {
		_, err := listeners.NewWebSocket(listeners.WebSocketOptions{TrustedProxies: []netip.Prefix{p}}).Accept()
		require.ErrorContains(t, err, "TrustedProxies")
	}
}

// Whatever a client sends, the address is the one that the proxy has added, or
// the request is refused.
func FuzzForwardedAddr(f *testing.F) {
	for _, sent := range []string{"", "127.0.0.1", "for=127.0.0.1", `for="`, `for=127.0.0.1;x="\`, "a,b", `for="[::1]:\"`} {
		f.Add(sent)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		for header, added := range map[string][]string{
			"X-Forwarded-For": {"203.0.113.1", "203.0.113.1, 10.1.0.1"},
			"Forwarded":       {"for=203.0.113.1", `for="203.0.113.1:80";by="[2001:db8::1]"`, `for=203.0.113.1, for="[2001:db8:1::1]"`},
		} {
			for _, a := range added {
				for _, values := range [][]string{{sent + ", " + a}, {sent + "," + a}, {sent, a}} {
					peer := &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 5}
					addr, err := listeners.ForwardedAddr(peer, http.Header{header: values}, proxies, header)
					if err == nil && !strings.HasPrefix(addr.String(), "203.0.113.1:") {
						t.Fatalf("%s: %q gives %v", header, values, addr)
					}
				}
			}
		}
	})
}

// A proxy that speaks the PROXY protocol adds no header: the header is what its
// client sends, and the client is who the proxy says.
func TestWebSocketBehindProxyProtocol(t *testing.T) {
	tcp, err := listeners.TCP("127.0.0.1:0")
	require.NoError(t, err)
	l, err := listeners.ProxyProtocol(tcp, listeners.ProxyOptions{Trusted: proxies})
	require.NoError(t, err)
	ws := closing(t, listeners.NewWebSocket(listeners.WebSocketOptions{TrustedProxies: proxies}))
	host := httptest.NewUnstartedServer(ws)
	require.NoError(t, host.Listener.Close())
	host.Listener = l
	host.Start()
	t.Cleanup(host.Close)
	for source, want := range map[string]string{
		"198.51.100.7": "198.51.100.7:4711", // a client with a header that it has made up
		"10.1.0.7":     "203.0.113.1:0",     // a proxy of HTTP that is trusted
	} {
		conns, _ := accepting(ws)
		client := closing(t, dialTCP(t, tcp.Addr().String()))
		_, err = fmt.Fprintf(client, "PROXY TCP4 %s 192.0.2.1 4711 443\r\n%s", source,
			handshake("/", "Sec-WebSocket-Protocol: mqtt", "X-Forwarded-For: 203.0.113.1"))
		require.NoError(t, err)
		server := closing(t, receive(t, conns))
		require.Equal(t, want, server.RemoteAddr().String())
		require.Equal(t, source+":4711", server.(requester).Request().RemoteAddr)
	}
}
