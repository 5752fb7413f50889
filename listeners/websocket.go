package listeners

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/petrelmq/petrel/internal/sample"
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

	// TLSConfig makes WebSocketListen and NewWebSocketListener speak wss. Nil means plain ws. It is
	// cloned; a zero MinVersion becomes TLS 1.2, and the only protocol
	// offered in ALPN is "http/1.1". NewWebSocket ignores it: there the
	// host's own server decides.
	TLSConfig *tls.Config

	// Origins are the web origins whose pages may connect. An entry is an
	// origin as browsers send it, such as "https://app.example.com" or
	// "http://localhost:5173". A host that begins with "*." stands for every
	// host below that name, but not for the name itself; a port "*" for any
	// port. "null" is what sandboxed pages and local files send.
	//
	// Empty means the origin that the request itself was sent to: pages that
	// come from the same scheme, host and port. A list replaces that, and so
	// also keeps out a page whose name was made to point here (DNS rebinding).
	// Behind a proxy that changes the Host header a list is needed.
	//
	// Requests without an Origin header are accepted in any case: browsers
	// always send one, programs rarely do. Those that do need an entry as well:
	// Paho for Python sends "https://" and the broker's host and port.
	Origins []string

	// AllowAnyOrigin accepts the pages of every web site. A page may then use
	// whatever its visitor can reach, so let it be a broker that wants
	// credentials which no browser adds by itself. Origins must be empty.
	AllowAnyOrigin bool

	// TrustedProxies are the addresses of proxies, and of no one else, whose
	// word is taken for where a request comes from. When one of them is the
	// peer, RemoteAddr is the last address in ProxyHeader that is not one of
	// them, or the first if all are. A request from one of them whose header
	// cannot be understood is refused; without the header it is the proxy's own.
	// Empty means that no such header is believed.
	TrustedProxies []netip.Prefix

	// ProxyHeader is the header that all TrustedProxies add to or set; the
	// client can send any other. Empty means X-Forwarded-For. "Forwarded" is
	// read as RFC 7239 says, every other as addresses separated by commas.
	ProxyHeader string

	// Logger receives each refused upgrade with its reason, at level info; at
	// most 20 in a second, and then how many were left out. At level debug it
	// receives requests for no upgrade, and what the HTTP server of
	// WebSocketListen has to say about clients. Nil means [slog.Default].
	Logger *slog.Logger
}

func (o WebSocketOptions) withDefaults() WebSocketOptions {
	if o.HandshakeTimeout == 0 {
		o.HandshakeTimeout = 10 * time.Second
	}
	if o.ProxyHeader == "" {
		o.ProxyHeader = "X-Forwarded-For"
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Validate reports an option that cannot be meant.
func (o WebSocketOptions) Validate() error {
	_, err := parseOrigins(o)
	if err == nil {
		if err = checkProxies(o.TrustedProxies); err != nil {
			err = fmt.Errorf("TrustedProxies: %w", err)
		}
	}
	if err != nil {
		return fmt.Errorf("listeners: WebSocketOptions: %w", err)
	}
	return nil
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
	opts    WebSocketOptions
	origins []origin // parsed; empty means the request's own
	log     sample.Sampler
	conns   chan net.Conn
	close   sync.Once
	done    chan struct{}
	err     error // why Accept fails; written before done is closed
}

var (
	_ http.Handler = (*WebSocket)(nil)
	_ net.Listener = (*WebSocket)(nil)
)

// NewWebSocket returns a WebSocket to mount on an HTTP server. Every request
// waits in the handler until Accept takes its connection, so serve the
// listener before, or soon after, the HTTP server starts. See
// [WebSocketListen] and [NewWebSocketListener] for those that bring their own server.
//
// Where opts cannot be meant, see [WebSocketOptions.Validate], Accept says so at
// once, and with it the broker's Serve; all requests are refused.
func NewWebSocket(opts WebSocketOptions) *WebSocket {
	s := &WebSocket{
		opts:  opts.withDefaults(),
		conns: make(chan net.Conn),
		done:  make(chan struct{}),
	}
	if err := opts.Validate(); err != nil {
		s.shut(err)
		return s
	}
	s.origins, _ = parseOrigins(opts) // valid
	return s
}

// ServeHTTP upgrades the request and hands the connection to Accept. It
// returns once that is done, or the request refused. After Close it answers
// 503. It needs HTTP/1.1 and a ResponseWriter that can be hijacked.
func (s *WebSocket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, refused := s.admit(r)
	if refused != nil {
		s.refuse(w, r, refused)
		return
	}
	raw, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.refuse(w, r, &refusal{http.StatusInternalServerError, "connection cannot be upgraded: " + err.Error()})
		return
	}
	// Not r.RemoteAddr: the server has set it before a PROXY header was read.
	peer := raw.RemoteAddr()
	remote, err := forwardedAddr(peer, r.Header, s.opts.TrustedProxies, s.opts.ProxyHeader)
	if err != nil {
		s.refuseHijacked(raw, r, &refusal{http.StatusBadRequest, err.Error()})
		return
	}
	if err := h.answer(raw, s.opts.HandshakeTimeout); err != nil {
		s.logRefusal(r, 0, "the answer cannot be sent: "+err.Error())
		_ = raw.Close() // there is nobody to tell
		return
	}
	// Reads go to the socket from here on; what the server has read ahead is
	// kept aside. So net/http's buffers, and its goroutine, are free to go.
	var ahead []byte
	if n := buf.Reader.Buffered(); n > 0 {
		peeked, _ := buf.Reader.Peek(n) // cannot fail, n are there
		ahead = slices.Clone(peeked)
	}
	c := &wsConn{raw: raw, request: detach(r, peer), remote: remote, ahead: ahead}
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

// detach returns r for use after the handler has returned: not cancelled, but
// with the values of its context, and without a body that would keep the
// buffers of the HTTP server alive.
func detach(r *http.Request, peer net.Addr) *http.Request {
	r = r.WithContext(context.WithoutCancel(r.Context()))
	r.Body = http.NoBody
	r.RemoteAddr = peer.String()
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
