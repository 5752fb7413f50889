package listeners

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/websocket"
)

// WebSocketOptions configures a [WebSocket]. The zero value is ready to use.
type WebSocketOptions struct {
	// Path is the only URL path that is served; others are answered with 404.
	// Empty means any path.
	Path string

	// HandshakeTimeout bounds the sending of the handshake's answer and, in
	// WebSocketListen, the wait for the TLS handshake and the HTTP request.
	// Zero means 10 seconds; negative means no limit.
	HandshakeTimeout time.Duration

	// TLSConfig makes WebSocketListen speak wss. Nil means plain ws. It is
	// cloned; a zero MinVersion becomes TLS 1.2, and the only protocol
	// offered in ALPN is "http/1.1". NewWebSocket ignores it: there the
	// host's own server decides.
	TLSConfig *tls.Config

	// Logger receives, at level debug, what the HTTP server of
	// WebSocketListen has to say about clients. Nil means silence.
	Logger *slog.Logger
}

func (o WebSocketOptions) withDefaults() WebSocketOptions {
	if o.HandshakeTimeout == 0 {
		o.HandshakeTimeout = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// WebSocket carries MQTT over WebSocket. It is an [http.Handler], to mount on
// a mux beside other routes, and a [net.Listener] whose Accept returns the
// connections that the handler upgraded. Its methods may be called at the
// same time from any goroutine.
//
// A client must offer the subprotocol "mqtt", or "mqttv3.1" as clients of
// MQTT 3.1 do; other requests are refused with an ordinary HTTP status.
//
// An upgraded connection reads and writes the payload of binary messages as
// one stream of bytes; package documentation has the details. It belongs to
// whoever accepted it, and outlives the handler, the http.Server and the
// WebSocket. At rest it costs no goroutine and no buffer, only the
// *http.Request with its header, besides the socket.
type WebSocket struct {
	opts  WebSocketOptions
	conns chan net.Conn
	close sync.Once
	done  chan struct{}
	err   error // why Accept fails; written before done is closed
}

var (
	_ http.Handler = (*WebSocket)(nil)
	_ net.Listener = (*WebSocket)(nil)
)

// NewWebSocket returns a WebSocket to mount on an HTTP server. Every request
// waits in the handler until Accept takes its connection, so serve the
// listener before, or soon after, the HTTP server starts. See
// [WebSocketListen] for one that brings its own server.
func NewWebSocket(opts WebSocketOptions) *WebSocket {
	return &WebSocket{
		opts:  opts.withDefaults(),
		conns: make(chan net.Conn),
		done:  make(chan struct{}),
	}
}

// ServeHTTP upgrades the request and hands the connection to Accept. It
// returns once that is done, or the request refused. After Close it answers
// 503. It needs HTTP/1.1 and a ResponseWriter that can be hijacked.
func (s *WebSocket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protocol, ok := s.admit(w, r)
	if !ok {
		return
	}
	raw, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "connection cannot be upgraded", http.StatusInternalServerError)
		return
	}
	if !s.handshake(raw, buf, r, protocol) {
		_ = raw.Close() // the client has been told why
		return
	}
	// Reads go to the socket from here on; what the server has read ahead is
	// kept aside. So net/http's buffers, and its goroutine, are free to go.
	var ahead []byte
	if n := buf.Reader.Buffered(); n > 0 {
		peeked, _ := buf.Reader.Peek(n) // cannot fail, n are there
		ahead = slices.Clone(peeked)
	}
	c := &wsConn{raw: raw, request: detach(r), ahead: ahead}
	var conn net.Conn = c
	if r.TLS != nil {
		conn = wsTLSConn{c}
	}
	select {
	case s.conns <- conn:
	case <-s.done:
		_ = c.shut(closeGoingAway)
	}
}

// admit decides about a request from its head alone, while it can still be
// refused with an ordinary response. A check of the Origin header would
// belong here: today any is accepted, and none, as programs send none.
func (s *WebSocket) admit(w http.ResponseWriter, r *http.Request) (protocol string, ok bool) {
	if s.opts.Path != "" && r.URL.Path != s.opts.Path {
		http.NotFound(w, r)
		return "", false
	}
	select {
	case <-s.done:
		http.Error(w, "closed", http.StatusServiceUnavailable)
		return "", false
	default:
	}
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 {
		http.Error(w, "WebSocket needs HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return "", false
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "not a WebSocket handshake", http.StatusUpgradeRequired)
		return "", false
	}
	protocol = subprotocol(r.Header)
	if protocol == "" {
		http.Error(w, "no usable subprotocol: offer mqtt", http.StatusBadRequest)
		return "", false
	}
	return protocol, true
}

// subprotocol picks from the offers of a handshake; empty means none fits.
func subprotocol(h http.Header) string {
	picked := ""
	for _, line := range h.Values("Sec-WebSocket-Protocol") {
		for offer := range strings.SplitSeq(line, ",") {
			switch strings.TrimSpace(offer) {
			case "mqtt":
				return "mqtt"
			case "mqttv3.1":
				picked = "mqttv3.1"
			}
		}
	}
	return picked
}

// handshake lets x/net/websocket check the handshake and answer it on the
// hijacked connection, and reports whether it agreed. Only that is taken from
// x/net; its Conn is not, because it would keep a buffer for each direction,
// loses its place in the stream when a deadline passes inside a frame header,
// blocks Close behind a Write that blocks, and overlooks reserved bits,
// reserved opcodes and broken fragmentation.
func (s *WebSocket) handshake(raw net.Conn, buf *bufio.ReadWriter, r *http.Request, protocol string) bool {
	if s.opts.HandshakeTimeout > 0 {
		_ = raw.SetDeadline(time.Now().Add(s.opts.HandshakeTimeout)) // on failure the write fails too
	}
	agreed := false
	websocket.Server{
		// Not the default, which refuses requests without an Origin header.
		Handshake: func(c *websocket.Config, _ *http.Request) error {
			c.Protocol = []string{protocol}
			return nil
		},
		Handler: func(*websocket.Conn) { agreed = true },
	}.ServeHTTP(hijacked{raw, buf}, r)
	return agreed && raw.SetDeadline(time.Time{}) == nil
}

// hijacked is the ResponseWriter for a websocket.Server, which does nothing
// with it but hijack the connection.
type hijacked struct {
	raw net.Conn
	buf *bufio.ReadWriter
}

func (h hijacked) Header() http.Header       { return http.Header{} }
func (h hijacked) Write([]byte) (int, error) { return 0, http.ErrHijacked }
func (h hijacked) WriteHeader(int)           {}
func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return keepOpen{h.raw}, h.buf, nil
}

// keepOpen survives the Close at the end of websocket.Server.ServeHTTP.
type keepOpen struct{ net.Conn }

func (keepOpen) Close() error { return nil }

// detach returns r for use after the handler has returned: not cancelled, but
// with the values of its context, and without a body that would keep the
// buffers of the HTTP server alive.
func detach(r *http.Request) *http.Request {
	r = r.WithContext(context.WithoutCancel(r.Context()))
	r.Body = http.NoBody
	return r
}

// Accept waits for the next upgraded connection. After Close the error
// matches [net.ErrClosed].
func (s *WebSocket) Accept() (net.Conn, error) {
	select {
	case <-s.done:
		return nil, s.acceptError()
	default:
	}
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, s.acceptError()
	}
}

// Close refuses further upgrades with 503 and ends waiting calls of Accept.
// Upgraded connections that Accept has not taken are closed with status 1001,
// those that it has taken stay open. Close may be called more than once, and
// returns nil.
func (s *WebSocket) Close() error {
	s.shut(net.ErrClosed)
	return nil
}

// Addr returns an address with network "websocket" whose text is the path.
// The address of the socket is known only to the HTTP server.
func (s *WebSocket) Addr() net.Addr { return wsAddr(s.opts.Path) }

func (s *WebSocket) shut(err error) {
	s.close.Do(func() {
		s.err = err
		close(s.done)
	})
}

func (s *WebSocket) acceptError() error {
	// Nested OpErrors would say "accept" twice.
	if op, ok := errors.AsType[*net.OpError](s.err); ok {
		return op
	}
	return &net.OpError{Op: "accept", Net: "websocket", Addr: s.Addr(), Err: s.err}
}

type wsAddr string

func (wsAddr) Network() string { return "websocket" }

func (a wsAddr) String() string {
	if a == "" {
		return "*"
	}
	return string(a)
}
