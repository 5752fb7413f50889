package petreltest

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// conn is a connection that can be stalled. It is the broker's end.
type conn struct {
	net.Conn
	remote   net.Addr
	clientID string // guarded by connections.mu; empty until CONNECT was accepted

	mu       sync.Mutex
	stalled  bool
	closed   bool
	readBy   time.Time // the deadlines; zero means none
	writeBy  time.Time
	happened chan struct{} // closed when anything of this changes
}

func newConn(raw net.Conn) *conn {
	return &conn{Conn: raw, remote: raw.RemoteAddr(), happened: make(chan struct{})}
}

// wire is c as the broker gets it: it has the state of TLS if there is one.
func (c *conn) wire() net.Conn {
	if t, ok := c.Conn.(stater); ok {
		return secureConn{c, t}
	}
	return c
}

type stater interface{ ConnectionState() tls.ConnectionState }

type secureConn struct {
	*conn
	stater
}

// RemoteAddr returns the same value each time, by which c can be found.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// Read keeps what it has read to itself while c is stalled: a stall also has to
// stop a Read that waits already.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if stalled := c.pass(&c.readBy); stalled != nil {
		return 0, stalled
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.pass(&c.writeBy); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// pass waits while c is stalled. The deadline is a field of c.
func (c *conn) pass(deadline *time.Time) error {
	for {
		c.mu.Lock()
		stalled, closed, by, happened := c.stalled, c.closed, *deadline, c.happened
		c.mu.Unlock()
		switch {
		case !stalled:
			return nil
		case closed:
			return net.ErrClosed
		case !waitUntil(by, happened):
			return os.ErrDeadlineExceeded
		}
	}
}

// waitUntil reports whether something happened before the deadline.
func waitUntil(deadline time.Time, happened <-chan struct{}) bool {
	if deadline.IsZero() {
		<-happened
		return true
	}
	t := time.NewTimer(time.Until(deadline))
	defer t.Stop()
	select {
	case <-happened:
		return true
	case <-t.C:
		return false
	}
}

func (c *conn) stall(on bool) { c.change(func() { c.stalled = on }) }

func (c *conn) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.happened)
	c.happened = make(chan struct{})
}

// Close ends a Read and a Write that wait, also if it is for the end of a stall.
func (c *conn) Close() error {
	c.change(func() { c.closed = true })
	return c.Conn.Close()
}

// CloseWrite is what the broker needs to let its last words arrive.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *conn) SetDeadline(t time.Time) error {
	c.change(func() { c.readBy, c.writeBy = t, t })
	return c.Conn.SetDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.change(func() { c.readBy = t })
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.change(func() { c.writeBy = t })
	return c.Conn.SetWriteDeadline(t)
}
