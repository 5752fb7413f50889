package listeners_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"

	"github.com/petrelmq/petrel/internal/certtest"
	"github.com/petrelmq/petrel/listeners"
)

// dialWebSocket connects with the client of x/net.
func dialWebSocket(t *testing.T, url string, config *tls.Config) net.Conn {
	c, err := websocket.NewConfig(url, strings.Replace(url, "ws", "http", 1))
	if err != nil {
		t.Error(err)
		return nil
	}
	c.Origin.Path, c.Origin.RawQuery = "", ""
	c.Protocol = []string{"mqtt"}
	c.TlsConfig = config
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := c.DialContext(ctx)
	if err != nil {
		t.Errorf("dial %s: %v", url, err)
		return nil
	}
	conn.PayloadType = websocket.BinaryFrame
	return conn
}

func TestWebSocketListen(t *testing.T) {
	l, err := listeners.WebSocketListen("127.0.0.1:0", listeners.WebSocketOptions{})
	require.NoError(t, err)
	closing(t, l)
	addr := l.Addr().String()
	testListener(t, l, func(t *testing.T) net.Conn { return dialWebSocket(t, "ws://"+addr+"/any/path", nil) })
	require.False(t, listening("tcp", addr))
	require.NoError(t, l.Close())
}

func TestWebSocketListenAddressInUse(t *testing.T) {
	l, err := listeners.TCP("127.0.0.1:0")
	require.NoError(t, err)
	closing(t, l)
	_, err = listeners.WebSocketListen(l.Addr().String(), listeners.WebSocketOptions{})
	require.ErrorContains(t, err, l.Addr().String())
}

func TestWebSocketListenTLS(t *testing.T) {
	ca := certtest.New()
	l, err := listeners.WebSocketListen("127.0.0.1:0", listeners.WebSocketOptions{
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{ca.Issue("server")},
			NextProtos:   []string{"h2", "http/1.1"},
		},
	})
	require.NoError(t, err)
	closing(t, l)

	conns, _ := accepting(l)
	url := "wss://" + l.Addr().String() + "/mqtt"
	config := ca.Client()
	config.NextProtos = []string{"h2", "http/1.1"}
	client := closing(t, dialWebSocket(t, url, config))
	server := closing(t, receive(t, conns))
	state, ok := server.(interface{ ConnectionState() tls.ConnectionState })
	require.True(t, ok)
	require.True(t, state.ConnectionState().HandshakeComplete)
	require.NotNil(t, server.(requester).Request().TLS)
	exchange(t, client, server)

	testListener(t, l, func(t *testing.T) net.Conn { return dialWebSocket(t, url, ca.Client()) })
}

type requester interface{ Request() *http.Request }

func TestWebSocketOnHostMux(t *testing.T) {
	type userKey struct{}
	ws := listeners.NewWebSocket(listeners.WebSocketOptions{})
	mux := http.NewServeMux()
	returned := make(chan struct{}, 10)
	mux.HandleFunc("/mqtt", func(w http.ResponseWriter, r *http.Request) {
		ws.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, "ann")))
		returned <- struct{}{}
	})
	mux.HandleFunc("/other", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "other") })
	host := httptest.NewServer(mux)
	defer host.Close()
	url := "ws" + strings.TrimPrefix(host.URL, "http") + "/mqtt?a=b"

	conns, _ := accepting(ws)
	client := closing(t, dialWebSocket(t, url, nil))
	server := closing(t, receive(t, conns))
	receive(t, returned) // no goroutine stays with the connection
	exchange(t, client, server)

	request := server.(requester).Request()
	require.Equal(t, "/mqtt?a=b", request.URL.RequestURI())
	require.Equal(t, host.URL, request.Header.Get("Origin"))
	header, ok := server.(interface{ Header() map[string][]string })
	require.True(t, ok)
	require.Equal(t, map[string][]string(request.Header), header.Header())
	require.Equal(t, "ann", request.Context().Value(userKey{}))
	require.NoError(t, request.Context().Err())
	require.Equal(t, request.RemoteAddr, server.RemoteAddr().String())
	require.Equal(t, host.Listener.Addr().String(), server.LocalAddr().String())
	_, ok = server.(interface{ ConnectionState() tls.ConnectionState })
	require.False(t, ok, "TLS state without TLS")

	response, err := host.Client().Get(host.URL + "/other")
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, "other", string(body))

	testListener(t, ws, func(t *testing.T) net.Conn { return dialWebSocket(t, url, nil) })
	receive(t, returned)
	require.Equal(t, http.StatusServiceUnavailable, respond(t, ws, handshake("/mqtt", "Sec-WebSocket-Protocol: mqtt")).StatusCode)
	require.NoError(t, ws.Close())
}

// respond sends a request to a server with handler h and returns the answer.
func respond(t *testing.T, h http.Handler, request string) *http.Response {
	t.Helper()
	host := httptest.NewServer(h)
	t.Cleanup(host.Close)
	conn := closing(t, dialTCP(t, host.Listener.Addr().String()))
	bound(t, conn)
	_, err := io.WriteString(conn, request)
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	return response
}

func TestWebSocketSubprotocol(t *testing.T) {
	const name = "Sec-WebSocket-Protocol: "
	for _, test := range []struct {
		name  string
		lines []string
		want  string // empty: refused
	}{
		{"mqtt", []string{name + "mqtt"}, "mqtt"},
		{"mqttv3.1", []string{name + "mqttv3.1"}, "mqttv3.1"},
		{"list", []string{name + "chat,mqtt , soap"}, "mqtt"},
		{"list of both", []string{name + "mqttv3.1, mqtt"}, "mqtt"},
		{"two headers", []string{name + "chat", name + "mqtt"}, "mqtt"},
		{"two headers, older first", []string{name + "mqttv3.1", name + "mqtt"}, "mqtt"},
		{"two headers, older last", []string{name + "mqtt", name + "mqttv3.1"}, "mqtt"},
		{"other case of header", []string{"sec-websocket-protocol:mqtt"}, "mqtt"},
		{"none", []string{"X-Nothing: here"}, ""},
		{"empty", []string{name}, ""},
		{"others", []string{name + "chat, mqttv5, amqp"}, ""},
		{"other case of name", []string{name + "MQTT"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			ws := closing(t, listeners.NewWebSocket(listeners.WebSocketOptions{}))
			conns, _ := accepting(ws)
			response := respond(t, ws, handshake("/mqtt", test.lines...))
			if test.want == "" {
				require.Equal(t, http.StatusBadRequest, response.StatusCode)
				return
			}
			require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
			require.Equal(t, []string{test.want}, response.Header.Values("Sec-WebSocket-Protocol"))
			closing(t, receive(t, conns))
		})
	}
}

func TestWebSocketCloseEndsWaitingHandlers(t *testing.T) {
	ws := listeners.NewWebSocket(listeners.WebSocketOptions{})
	var handlers sync.WaitGroup
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws.ServeHTTP(w, r)
		handlers.Done()
	}))
	defer host.Close()
	handlers.Add(3)
	var clients []*rawClient
	for range 3 { // upgraded, but nobody accepts
		clients = append(clients, upgrade(t, closing(t, dialTCP(t, host.Listener.Addr().String()))))
	}
	require.NoError(t, ws.Close())
	handlers.Wait()
	for _, c := range clients {
		c.expect(t, fin|closeFrame, status(1001, ""))
		_, _, err := c.read()
		require.ErrorIs(t, err, io.EOF)
	}
}

func TestWebSocketDeadlines(t *testing.T) {
	_, server := rawPair(t)
	testDeadlines(t, server)
	_, err := server.Write([]byte("x"))
	require.Error(t, err, "Write after a frame was left unfinished")
}

func TestWebSocketCloseDuringReadAndWrite(t *testing.T) {
	_, server := rawPair(t)
	require.NoError(t, server.SetDeadline(time.Time{}))
	errs := make(chan error, 2)
	go func() {
		_, err := server.Read(make([]byte, 1))
		errs <- err
	}()
	data := make([]byte, 1<<20)
	started := make(chan struct{})
	go func() {
		_, err := server.Write(data)
		close(started)
		for err == nil { // until it blocks
			_, err = server.Write(data)
		}
		errs <- err
	}()
	receive(t, started)
	require.NoError(t, server.Close())
	for range 2 {
		require.ErrorIs(t, receive(t, errs), net.ErrClosed)
	}
}

func TestWebSocketConcurrentWrites(t *testing.T) {
	client, server := rawPair(t)
	const writers, each = 8, 200
	for i := range writers {
		go func() {
			for range each {
				if _, err := server.Write(make([]byte, 1+i*900)); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	seen := map[int]int{}
	for range writers * each {
		first, payload := client.next(t)
		require.Equal(t, byte(fin|binaryFrame), first)
		seen[len(payload)]++
	}
	for i := range writers {
		require.Equal(t, each, seen[1+i*900])
	}
}
