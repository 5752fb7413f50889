package petrel

import (
	"crypto/tls"
	"iter"
	"net"

	"github.com/petrelmq/petrel/internal/engine"
)

// Proxy is what a trusted proxy says of the connection that it forwards. Only
// the proxy's word stands for it.
type Proxy struct {
	Addr      net.Addr  // of the proxy itself
	TLS       *ProxyTLS // nil unless the proxy says that the client spoke TLS with it
	Authority string    // the host name that the client asked the proxy for, empty if not told
	ALPN      string    // the protocol that the client and the proxy agreed on, empty if not told
}

// ProxyTLS is what a proxy tells of the TLS between the client and itself.
type ProxyTLS struct {
	Version    string // as the proxy writes it, such as "TLSv1.3"
	Cipher     string // as the proxy writes it
	CommonName string // of the certificate of the client, empty if not told
	Verified   bool   // the client presented a certificate, and the proxy has verified it
}

// Credentials say who made the connection at the other end of a Unix socket: the
// process as the system saw it when it connected. Its identifier may have become
// that of another since, and it may have given the connection to another. A user
// that this process's user namespace does not know appears as the overflow user,
// most often 65534.
type Credentials struct {
	UID uint32 // effective user
	GID uint32 // effective group
	PID int32  // 0 if the process is in no namespace that is seen from here
}

// What Client.Peer asks of the layers of a connection, the outermost first. A
// net.Conn of the host's own is asked as well. What a layer does not know, the
// one below may; but nothing below one that knows of a proxy is about the client.
type (
	// layered is a connection that runs on another, as a tls.Conn does.
	layered interface{ NetConn() net.Conn }

	tlsConn interface{ ConnectionState() tls.ConnectionState }

	// requestConn began with an HTTP request.
	requestConn interface{ Header() map[string][]string }

	// proxiedConn may come through a trusted proxy: then its RemoteAddr is what
	// the proxy says, and ProxyAddr the proxy itself, else nil.
	proxiedConn interface{ ProxyAddr() net.Addr }

	// proxyHeaderConn is a proxiedConn that learns of its client by reading, once,
	// what the proxy sends first.
	proxyHeaderConn interface{ ReadProxyHeader() error }

	// proxiedTLSConn is a proxiedConn whose proxy may tell of TLS; an empty
	// version means that it does not.
	proxiedTLSConn interface {
		ProxyTLS() (version, cipher, commonName string, verified bool)
	}

	// proxiedNameConn is a proxiedConn whose proxy may tell what was asked for.
	proxiedNameConn interface {
		ProxyName() (authority, alpn string)
	}
)

// mostLayers bounds the walk through layers; one might name itself.
const mostLayers = 16

// layers yields what the connection is made of, the outermost first.
func layers(conn engine.Conn) iter.Seq[net.Conn] {
	return func(yield func(net.Conn) bool) {
		layer := conn.NetConn()
		for n := 0; layer != nil && n < mostLayers && yield(layer); n++ {
			l, ok := layer.(layered)
			if !ok {
				return
			}
			layer = l.NetConn()
		}
	}
}

// settle waits until it is known for whom a proxy speaks.
func settle(conn engine.Conn) error {
	for layer := range layers(conn) {
		if x, ok := layer.(proxyHeaderConn); ok {
			return x.ReadProxyHeader()
		}
	}
	return nil
}

// look fills in what the layers of the connection know.
func (p *Peer) look(conn engine.Conn) {
	if conn.NetConn() == nil {
		if c, ok := conn.(interface {
			Credentials() (engine.Credentials, bool)
		}); ok {
			p.admit(c.Credentials())
		}
	}
	for layer := range layers(conn) {
		if p.Header == nil {
			if r, ok := layer.(requestConn); ok {
				p.Header = r.Header()
			}
		}
		if x, ok := layer.(proxiedConn); ok {
			if addr := x.ProxyAddr(); addr != nil {
				p.Proxy = newProxy(addr, layer)
				return
			}
		}
		if t, ok := layer.(tlsConn); ok && p.TLS == nil {
			state := t.ConnectionState()
			p.TLS = &state
		}
		p.admit(engine.CredentialsOf(layer))
	}
}

func (p *Peer) admit(c engine.Credentials, ok bool) {
	if ok {
		p.Credentials = &Credentials{UID: c.UID, GID: c.GID, PID: c.PID}
	}
}

func newProxy(addr net.Addr, layer net.Conn) *Proxy {
	p := &Proxy{Addr: addr}
	if t, ok := layer.(proxiedTLSConn); ok {
		var s ProxyTLS
		if s.Version, s.Cipher, s.CommonName, s.Verified = t.ProxyTLS(); s.Version != "" {
			p.TLS = &s
		}
	}
	if n, ok := layer.(proxiedNameConn); ok {
		p.Authority, p.ALPN = n.ProxyName()
	}
	return p
}
