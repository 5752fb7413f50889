package listeners

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// ProxyOptions configures [ProxyProtocol].
type ProxyOptions struct {
	// Trusted are the addresses of proxies whose header is believed. Connections
	// from elsewhere are passed on as they are: a header from there is what their
	// client sends, and no protocol takes it for its own. There must be at least
	// one, or TrustUnix.
	Trusted []netip.Prefix

	// TrustUnix believes whoever connects to a Unix socket, which the mode of its
	// file has let in.
	TrustUnix bool

	// Optional lets a trusted address connect without a header, as a client of its
	// own. Otherwise such a connection ends with an error.
	Optional bool
}

// ProxyProtocol wraps a listener behind proxies that tell, by the PROXY protocol
// of version 1 or 2, whom they speak for. The connections have the addresses of
// that header; what it tells of TLS, a broker's hooks find in Peer.Proxy. Put
// [tls.NewListener] or [NewWebSocketListener] on top of it, where the client speaks
// TLS or WebSocket through the proxy.
//
// Accept does not wait for the header: it is read by the first Read, under the
// deadlines of the connection, and until then the addresses are those of the
// proxy. A broker that is to decide about a connection before that waits for the
// header, and nothing else, with ReadProxyHeader. At most 4 KiB are believed, and
// memory grows with what has come. A header that is malformed, or missing, is the
// error of Read. A proxy that speaks for itself, to see whether anybody is there
// (LOCAL, UNKNOWN), has its own address.
//
// The format is small and settled, so it is read here: what there is as a package
// is larger than this, and brings its own listener with timeouts of its own.
func ProxyProtocol(l net.Listener, o ProxyOptions) (net.Listener, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &proxyListener{l, o}, nil
}

// Validate reports an option that cannot be meant.
func (o ProxyOptions) Validate() error {
	if len(o.Trusted) == 0 && !o.TrustUnix {
		return errors.New("listeners: ProxyOptions trust nobody")
	}
	if err := checkProxies(o.Trusted); err != nil {
		return fmt.Errorf("listeners: ProxyOptions: Trusted: %w", err)
	}
	return nil
}

type proxyListener struct {
	net.Listener
	opts ProxyOptions
}

// Accept returns connections from proxies as a type of their own, and others as
// they are.
func (l *proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || !l.trusts(c.RemoteAddr()) {
		return c, err
	}
	return &proxyConn{Conn: c, optional: l.opts.Optional}, nil
}

func (l *proxyListener) trusts(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return isTrusted(l.opts.Trusted, netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), 0))
	case *net.UnixAddr:
		return l.opts.TrustUnix
	}
	return false
}

// proxyConn is a connection from a trusted proxy.
type proxyConn struct {
	net.Conn
	optional bool
	header   atomic.Pointer[proxyHeader] // nil until it has been read

	mu   sync.Mutex // held while the header is read; guards what follows
	err  error      // of all further Reads
	seen []byte     // read, and not given away: of the header, then what came with it
}

// Read reads the header before anything else.
func (c *proxyConn) Read(p []byte) (int, error) {
	if err := c.ReadProxyHeader(); err != nil {
		return 0, err
	}
	if n := c.takeSeen(p); n > 0 || len(p) == 0 {
		return n, nil
	}
	return c.Conn.Read(p)
}

// takeSeen gives away what came with the header.
func (c *proxyConn) takeSeen(p []byte) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := copy(p, c.seen)
	if c.seen = c.seen[n:]; len(c.seen) == 0 {
		c.seen = nil
	}
	return n
}

// ReadProxyHeader waits until it is known for whom the proxy speaks, under the
// deadlines of the connection. It may be called before Read, and again.
func (c *proxyConn) ReadProxyHeader() error {
	if c.header.Load() != nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.header.Load() != nil {
		return c.err
	}
	for {
		h, n, err := parseProxy(c.seen)
		switch {
		case err == nil:
			c.seen = c.seen[n:]
			c.header.Store(h)
			return nil
		case errors.Is(err, errProxyNone) && c.optional:
			c.header.Store(&proxyHeader{})
			return nil
		case !errors.Is(err, errProxyShort):
			c.seen = nil
			c.err = fmt.Errorf("listeners: PROXY header from %v: %w", c.Conn.RemoteAddr(), err)
			return c.err
		}
		if err := c.more(); err != nil {
			return err
		}
	}
}

// more reads once, into room that grows with what has come.
func (c *proxyConn) more() error {
	const first = 128 // more than most headers, and less than most clients send behind it
	had := len(c.seen)
	room := append(c.seen, make([]byte, max(first, had))...)
	n, err := c.Conn.Read(room[had:])
	c.seen = room[:had+n]
	switch {
	case n > 0 || err == nil: // an error comes again
		return nil
	case errors.Is(err, io.EOF) && had > 0:
		return io.ErrUnexpectedEOF
	}
	return err
}

// RemoteAddr is that of the client, as the proxy says.
func (c *proxyConn) RemoteAddr() net.Addr {
	if h := c.header.Load(); h != nil && h.source != nil {
		return h.source
	}
	return c.Conn.RemoteAddr()
}

// LocalAddr is the one that the client has connected to, as the proxy says.
func (c *proxyConn) LocalAddr() net.Addr {
	if h := c.header.Load(); h != nil && h.target != nil {
		return h.target
	}
	return c.Conn.LocalAddr()
}

// ProxyAddr is the address of the proxy, nil if it does not speak for anybody.
func (c *proxyConn) ProxyAddr() net.Addr {
	if h := c.header.Load(); h != nil && h.source != nil {
		return c.Conn.RemoteAddr()
	}
	return nil
}

// ProxyTLS is what the proxy says of the TLS between the client and itself.
func (c *proxyConn) ProxyTLS() (version, cipher, commonName string, verified bool) {
	if h := c.header.Load(); h != nil {
		return h.tls.version, h.tls.cipher, h.tls.commonName, h.tls.verified
	}
	return "", "", "", false
}

// ProxyName is what the client has asked the proxy for.
func (c *proxyConn) ProxyName() (authority, alpn string) {
	if h := c.header.Load(); h != nil {
		return h.authority, h.alpn
	}
	return "", ""
}

// NetConn returns the connection with the proxy.
func (c *proxyConn) NetConn() net.Conn { return c.Conn }

// CloseWrite lets the client read what was written before it sees the end.
func (c *proxyConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}
