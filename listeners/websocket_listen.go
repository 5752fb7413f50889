package listeners

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
)

// WebSocketListen listens for MQTT over WebSocket on addr, for example
// ":8083", with an HTTP server of its own; with opts.TLSConfig it is wss. It
// behaves like [WebSocket] otherwise. Its Addr is that of the socket.
//
// Closing the listener ends the server, and with it the requests that are
// not upgraded yet; connections that Accept has returned stay open.
func WebSocketListen(addr string, opts WebSocketOptions) (net.Listener, error) {
	config, err := opts.check()
	if err != nil {
		return nil, err
	}
	socket, err := TCP(addr)
	if err != nil {
		return nil, err
	}
	return newWebSocketServer(socket, config, opts), nil
}

// NewWebSocketListener is [WebSocketListen] on top of a listener that there is
// already: one that [ProxyProtocol] or [Systemd] has returned, or a Unix socket.
// Closing it closes inner; so does an error.
func NewWebSocketListener(inner net.Listener, opts WebSocketOptions) (net.Listener, error) {
	config, err := opts.check()
	if err != nil {
		_ = inner.Close() // err says more
		return nil, err
	}
	return newWebSocketServer(inner, config, opts), nil
}

// check returns the TLS config of a server of its own, nil for one without TLS.
func (o WebSocketOptions) check() (config *tls.Config, err error) {
	if o.TLSConfig != nil {
		if config, err = serverConfig(o.TLSConfig, ""); err != nil {
			return nil, err
		}
		// A connection that came to speak HTTP/2 could not be upgraded.
		config.NextProtos = []string{"http/1.1"}
	}
	return config, o.Validate()
}

func newWebSocketServer(socket net.Listener, config *tls.Config, opts WebSocketOptions) *webSocketServer {
	l := &webSocketServer{
		WebSocket: NewWebSocket(opts),
		socket:    socket,
		ended:     make(chan struct{}),
	}
	timeout := max(l.opts.HandshakeTimeout, 0)
	l.server = http.Server{
		Handler: l.WebSocket,
		// All of them end with the upgrade.
		ReadHeaderTimeout: timeout,
		ReadTimeout:       timeout,
		WriteTimeout:      timeout,
		IdleTimeout:       timeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(l.opts.Logger.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
	}
	l.server.Protocols.SetHTTP1(true)
	if config != nil {
		socket = tls.NewListener(socket, config)
	}
	go l.run(socket)
	return l
}

// webSocketServer is a WebSocket together with the server it is mounted on.
type webSocketServer struct {
	*WebSocket
	socket net.Listener
	server http.Server
	ended  chan struct{} // closed when the accept loop has ended

	closeOnce sync.Once
	closeErr  error
}

// run accepts until the server is closed or its socket fails for good.
func (l *webSocketServer) run(socket net.Listener) {
	defer close(l.ended)
	err := l.server.Serve(socket)
	if errors.Is(err, http.ErrServerClosed) {
		err = net.ErrClosed
	}
	l.shut(err)
}

// Addr returns the address of the socket.
func (l *webSocketServer) Addr() net.Addr { return l.socket.Addr() }

// Close may be called more than once; each call returns the same.
func (l *webSocketServer) Close() error {
	l.closeOnce.Do(func() {
		_ = l.WebSocket.Close() // always nil
		// The server closes the socket only if run has come to serve it.
		l.closeErr = l.server.Close()
		if err := l.socket.Close(); !errors.Is(err, net.ErrClosed) {
			l.closeErr = errors.Join(l.closeErr, err)
		}
		<-l.ended
	})
	return l.closeErr
}
