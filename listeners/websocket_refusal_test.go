package listeners_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/listeners"
)

// logged is a logger, and the lines that it has written.
func logged(t *testing.T, level slog.Level) (*slog.Logger, func() []map[string]any) {
	var mu sync.Mutex
	var buf bytes.Buffer
	write := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return buf.Write(p)
	})
	lines := func() (list []map[string]any) {
		mu.Lock()
		defer mu.Unlock()
		for line := range strings.Lines(buf.String()) {
			m := map[string]any{}
			require.NoError(t, json.Unmarshal([]byte(line), &m))
			list = append(list, m)
		}
		return list
	}
	return slog.New(slog.NewJSONHandler(write, &slog.HandlerOptions{Level: level})), lines
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// ask hands a request to ws, whose writer cannot be hijacked: what would be
// upgraded is answered with 500.
func ask(t *testing.T, ws http.Handler, request, from string) *httptest.ResponseRecorder {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
	require.NoError(t, err)
	r.RemoteAddr = from
	w := httptest.NewRecorder()
	ws.ServeHTTP(w, r)
	return w
}

func TestWebSocketRefusals(t *testing.T) {
	good := handshake("/mqtt", "Sec-WebSocket-Protocol: mqtt")
	for _, test := range []struct {
		name, request string
		want          int
		reason        string
		header        string // must be in the answer
	}{
		{"other path", strings.Replace(good, "/mqtt", "/mqtt/", 1), 404, "not the path", ""},
		{"http/1.0", strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1), 505, "HTTP/1.1", ""},
		{"post", strings.Replace(good, "GET", "POST", 1), 405, "GET", "Allow: GET"},
		{"connection is not to be upgraded", strings.Replace(good, "keep-alive, Upgrade", "keep-alive", 1), 400, "Connection", ""},
		{"no key", strings.Replace(good, "Sec-WebSocket-Key", "X-Key", 1), 400, "Sec-WebSocket-Key", ""},
		{"short key", strings.Replace(good, "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", 1), 400, "Sec-WebSocket-Key", ""},
		{"two keys", handshake("/mqtt", "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==", "Sec-WebSocket-Protocol: mqtt"), 400, "Sec-WebSocket-Key", ""},
		{"old version", strings.Replace(good, "Version: 13", "Version: 8", 1), 426, "version", "Sec-WebSocket-Version: 13"},
		{"no subprotocol", handshake("/mqtt", "X-Nothing: here"), 400, "subprotocol", ""},
		{"other origin", handshake("/mqtt", "Sec-WebSocket-Protocol: mqtt", "Origin: https://evil.example"), 403, "origin", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			logger, lines := logged(t, slog.LevelInfo)
			ws := closing(t, listeners.NewWebSocket(listeners.WebSocketOptions{Path: "/mqtt", Logger: logger}))
			response := respond(t, ws, test.request)
			require.Equal(t, test.want, response.StatusCode)
			if name, value, ok := strings.Cut(test.header, ": "); ok {
				require.Equal(t, value, response.Header.Get(name))
			}
			require.Eventually(t, func() bool { return len(lines()) == 1 }, patience, time.Millisecond)
			line := lines()[0]
			require.Contains(t, line["reason"], test.reason)
			require.EqualValues(t, test.want, line["status"])
			require.Contains(t, line["address"], "127.0.0.1:")
			if test.want == http.StatusForbidden {
				require.Equal(t, "https://evil.example", line["origin"])
			}
		})
	}
	t.Run("closed", func(t *testing.T) {
		logger, lines := logged(t, slog.LevelInfo)
		ws := listeners.NewWebSocket(listeners.WebSocketOptions{Logger: logger})
		require.NoError(t, ws.Close())
		require.Equal(t, http.StatusServiceUnavailable, ask(t, ws, good, "192.0.2.1:5").Code)
		require.Len(t, lines(), 1)
	})
	t.Run("writer that cannot be hijacked", func(t *testing.T) {
		logger, lines := logged(t, slog.LevelInfo)
		ws := closing(t, listeners.NewWebSocket(listeners.WebSocketOptions{Logger: logger}))
		require.Equal(t, http.StatusInternalServerError, ask(t, ws, good, "192.0.2.1:5").Code)
		require.Contains(t, lines()[0]["reason"], "cannot be upgraded")
	})
}

func TestWebSocketRequestForNoUpgrade(t *testing.T) {
	logger, lines := logged(t, slog.LevelDebug)
	ws := closing(t, listeners.NewWebSocket(listeners.WebSocketOptions{Logger: logger}))
	w := ask(t, ws, "GET /mqtt HTTP/1.1\r\nHost: localhost\r\n\r\n", "192.0.2.1:5")
	require.Equal(t, http.StatusUpgradeRequired, w.Code)
	require.Equal(t, "websocket", w.Header().Get("Upgrade"))
	require.Equal(t, "DEBUG", lines()[0]["level"])
}

// A client fills no disk, neither with one line nor with many.
func TestWebSocketLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logger, lines := logged(t, slog.LevelInfo)
		ws := listeners.NewWebSocket(listeners.WebSocketOptions{Logger: logger})
		bad := handshake("/"+strings.Repeat("p", 10_000), "Origin: http://"+strings.Repeat("o", 10_000))
		for range 1000 {
			ask(t, ws, bad, "192.0.2.1:5")
		}
		require.Len(t, lines(), 20)
		require.Less(t, len(lines()[0]["path"].(string)), 300)
		require.Less(t, len(lines()[0]["origin"].(string)), 300)
		time.Sleep(time.Second)
		ask(t, ws, bad, "192.0.2.1:5")
		require.Len(t, lines(), 21)
		require.EqualValues(t, 980, lines()[20]["left out before"])
	})
}
