package listeners_test

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/listeners"
)

func TestWebSocketOrigin(t *testing.T) {
	for _, test := range []struct {
		name    string
		host    string
		tls     bool
		allowed []string
		origin  string // "-" stands for no header
		want    bool
	}{
		{"program", "broker.example", false, nil, "-", true},
		{"same origin", "broker.example", false, nil, "http://broker.example", true},
		{"same origin, port", "broker.example:8083", false, nil, "http://broker.example:8083", true},
		{"same origin, default port written", "broker.example:80", false, nil, "http://broker.example", true},
		{"same origin, other case", "Broker.Example", false, nil, "http://broker.example", true},
		{"same origin, IPv6", "[::1]:8083", false, nil, "http://[::1]:8083", true},
		{"same origin, IPv6 without port", "[::1]", false, nil, "http://[::1]", true},
		{"same origin, TLS", "broker.example", true, nil, "https://broker.example", true},
		{"same origin, TLS, default port written", "broker.example:443", true, nil, "https://broker.example", true},
		{"same origin, TLS ended before", "broker.example", false, nil, "https://broker.example", true},
		{"plain page to TLS", "broker.example", true, nil, "http://broker.example", false},
		{"other port", "broker.example:8083", false, nil, "http://broker.example:8080", false},
		{"other default port", "broker.example:443", false, nil, "http://broker.example", false},
		{"other host", "broker.example", false, nil, "http://evil.example", false},
		{"host below", "broker.example", false, nil, "http://evil.broker.example", false},
		{"host that begins alike", "broker.example", false, nil, "http://broker.example.evil", false},
		{"user information", "broker.example", false, nil, "http://broker.example@evil.example", false},
		{"path", "broker.example", false, nil, "http://broker.example/", false},
		{"null", "broker.example", false, nil, "null", false},
		{"file", "broker.example", false, nil, "file://", false},
		{"nothing", "broker.example", false, nil, "", false},
		{"other scheme", "broker.example", false, nil, "ftp://broker.example", false},
		{"two", "broker.example", false, nil, "http://broker.example\r\nOrigin: http://broker.example", false},
		{"two in one", "broker.example", false, nil, "http://broker.example, http://evil.example", false},

		{"listed", "b", false, []string{"https://a.example", "https://app.example"}, "https://app.example", true},
		{"listed, default port written", "b", false, []string{"https://APP.example:443"}, "https://app.example", true},
		{"listed with other scheme", "b", false, []string{"https://app.example"}, "http://app.example", false},
		{"listed with other port", "b", false, []string{"https://app.example"}, "https://app.example:8443", false},
		{"not listed, same origin", "b", false, []string{"https://app.example"}, "http://b", false},
		{"program in spite of a list", "b", false, []string{"https://app.example"}, "-", true},
		{"null listed", "b", false, []string{"null"}, "null", true},
		{"file listed", "b", false, []string{"file://"}, "file://", true},
		{"other scheme listed", "b", false, []string{"capacitor://localhost"}, "capacitor://localhost", true},

		{"pattern", "b", false, []string{"https://*.app.example"}, "https://eu.app.example", true},
		{"pattern, two levels", "b", false, []string{"https://*.app.example"}, "https://a.eu.app.example", true},
		{"pattern, not the name itself", "b", false, []string{"https://*.app.example"}, "https://app.example", false},
		{"pattern, empty label", "b", false, []string{"https://*.app.example"}, "https://.app.example", false},
		{"pattern, name that ends alike", "b", false, []string{"https://*.app.example"}, "https://evilapp.example", false},
		{"pattern, name behind", "b", false, []string{"https://*.app.example"}, "https://x.app.example.evil", false},
		{"pattern, other scheme", "b", false, []string{"https://*.app.example"}, "http://eu.app.example", false},
		{"pattern, other port", "b", false, []string{"https://*.app.example"}, "https://eu.app.example:1", false},
		{"pattern of ports", "b", false, []string{"http://localhost:*"}, "http://localhost:5173", true},
		{"pattern of ports, none", "b", false, []string{"http://localhost:*"}, "http://localhost", true},
		{"pattern of ports, other host", "b", false, []string{"http://localhost:*"}, "http://localhost.evil:5173", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			ws := closing(t, listeners.NewWebSocket(listeners.WebSocketOptions{Origins: test.allowed}))
			lines := []string{"Sec-WebSocket-Protocol: mqtt"}
			if test.origin != "-" {
				lines = append(lines, "Origin: "+test.origin)
			}
			request := strings.Replace(handshake("/mqtt", lines...), "localhost", test.host, 1)
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
			require.NoError(t, err)
			if test.tls {
				r.TLS = &tls.ConnectionState{}
			}
			w := httptest.NewRecorder()
			ws.ServeHTTP(w, r)
			want := http.StatusForbidden
			if test.want {
				want = http.StatusInternalServerError // the recorder cannot be hijacked
			}
			require.Equal(t, want, w.Code)
		})
	}
}

func TestWebSocketAllowAnyOrigin(t *testing.T) {
	ws := closing(t, listeners.NewWebSocket(listeners.WebSocketOptions{AllowAnyOrigin: true}))
	for _, origin := range []string{"https://evil.example", "null", ""} {
		request := handshake("/mqtt", "Sec-WebSocket-Protocol: mqtt", "Origin: "+origin)
		require.Equal(t, http.StatusInternalServerError, ask(t, ws, request, "192.0.2.1:5").Code)
	}
}

// What cannot be meant is said at once, and lets nobody in.
func TestWebSocketOptionsThatCannotBeMeant(t *testing.T) {
	for _, test := range []struct {
		name string
		opts listeners.WebSocketOptions
		want string
	}{
		{"host alone", listeners.WebSocketOptions{Origins: []string{"app.example"}}, `entry "app.example" of Origins`},
		{"path", listeners.WebSocketOptions{Origins: []string{"https://app.example/"}}, "only scheme, host and port"},
		{"star for the host", listeners.WebSocketOptions{Origins: []string{"https://*"}}, "first label"},
		{"star inside", listeners.WebSocketOptions{Origins: []string{"https://a.*.example"}}, "first label"},
		{"star without a label", listeners.WebSocketOptions{Origins: []string{"https://*app.example"}}, "first label"},
		{"star before nothing", listeners.WebSocketOptions{Origins: []string{"https://*."}}, "first label"},
		{"star in the port", listeners.WebSocketOptions{Origins: []string{"https://app.example:80*"}}, "port"},
		{"star for the scheme", listeners.WebSocketOptions{Origins: []string{"*://app.example"}}, "first label"},
		{"list and any", listeners.WebSocketOptions{Origins: []string{"https://app.example"}, AllowAnyOrigin: true}, "contradict"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ws := listeners.NewWebSocket(test.opts)
			_, err := ws.Accept()
			require.ErrorContains(t, err, test.want)
			request := handshake("/mqtt", "Sec-WebSocket-Protocol: mqtt", "Origin: https://app.example")
			require.Equal(t, http.StatusServiceUnavailable, ask(t, ws, request, "192.0.2.1:5").Code)

			require.ErrorContains(t, test.opts.Validate(), test.want)

			l, err := listeners.WebSocketListen("127.0.0.1:0", test.opts)
			require.ErrorContains(t, err, test.want)
			require.Equal(t, net.Listener(nil), l)
		})
	}
}
