package listeners

import (
	"context"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
)

// PipeListener is a [net.Listener] in memory: each [PipeListener.Dial] is met
// by one Accept, and the two get the ends of a [net.Pipe]. It uses no
// network, so it works inside a testing/synctest bubble, as long as it is
// made there. Make one with [Pipe]; its methods may be called at the same
// time from any goroutine.
type PipeListener struct {
	conns  chan net.Conn
	dialed atomic.Uint64
	close  sync.Once
	done   chan struct{}
}

// Pipe returns a new in-memory listener.
func Pipe() *PipeListener {
	return &PipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Dial waits until an Accept takes the connection, and returns the client's
// end. When ctx ends first the error matches that of the context; when the
// listener is closed first, or already is, it matches [net.ErrClosed].
//
// As with every net.Pipe nothing is buffered: a Write lasts until the other
// end has read it, so both ends must be read.
func (l *PipeListener) Dial(ctx context.Context) (net.Conn, error) {
	addr := pipeAddr("pipe:" + strconv.FormatUint(l.dialed.Add(1), 10))
	select {
	case <-l.done:
		return nil, l.opError("dial", net.ErrClosed)
	default:
	}
	if err := ctx.Err(); err != nil {
		return nil, l.opError("dial", err)
	}
	client, server := net.Pipe()
	var err error
	select {
	case l.conns <- &pipeConn{Conn: server, local: pipeName, remote: addr}:
		return &pipeConn{Conn: client, local: addr, remote: pipeName}, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-l.done:
		err = net.ErrClosed
	}
	_ = client.Close()
	_ = server.Close()
	return nil, l.opError("dial", err)
}

// Accept waits for the next Dial and returns the server's end. Its
// RemoteAddr differs for every connection of the listener. After Close the
// error matches [net.ErrClosed].
func (l *PipeListener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, l.opError("accept", net.ErrClosed)
	default:
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, l.opError("accept", net.ErrClosed)
	}
}

// Close ends waiting and future calls of Accept and Dial. Connections made
// before stay open. It may be called more than once, and returns nil.
func (l *PipeListener) Close() error {
	l.close.Do(func() { close(l.done) })
	return nil
}

// Addr returns an address with network "pipe" and text "pipe".
func (l *PipeListener) Addr() net.Addr { return pipeName }

func (l *PipeListener) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "pipe", Addr: pipeName, Err: err}
}

// pipeConn gives an end of a net.Pipe addresses that tell clients apart.
type pipeConn struct {
	net.Conn
	local, remote pipeAddr
}

func (c *pipeConn) LocalAddr() net.Addr  { return c.local }
func (c *pipeConn) RemoteAddr() net.Addr { return c.remote }

type pipeAddr string

const pipeName pipeAddr = "pipe"

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }
