// Package engine moves bytes between sockets and protocol code.
//
// Protocol code never reads and never waits for a socket: it is handed the
// bytes that arrived, and appends what is to be sent to a buffer that it tries
// to write without blocking. Who waits for a socket is the business of this
// package. It has two ways:
//
//   - a [Stream] has a goroutine for each connection. It serves any [net.Conn];
//   - a few loops wait for all plain TCP and Unix sockets together, with epoll.
//     Linux only. A connection at rest has no goroutine there.
//
// Either way a connection at rest holds no buffer.
package engine

import (
	"errors"
	"net"
	"os"
	"time"
)

// Handler is the protocol side of one connection. Its methods are called by
// one goroutine at a time.
type Handler interface {
	// Data handles the whole packets at the start of b and reports how many
	// bytes they were. b is valid during the call only, or, if of is not nil, as
	// long as that is retained; it must not be changed. Bytes that were not
	// used come again, with more behind them. need is the size of the packet
	// that the rest begins, if it is known, else 0. An error ends the connection.
	Data(r Round, b []byte, of *Buffer) (used, need int, err error)

	// Hold is asked after Data. A channel other than nil makes the engine read
	// no more until it is closed.
	Hold() <-chan struct{}

	// MayWait reports whether the next Data may take long because it waits for
	// something, so that it needs a goroutine of its own.
	MayWait() bool

	// Ended is called once, last, with the reason. It has to close the
	// connection. What may wait it gives to aside, which runs it where it may, at
	// once or soon.
	Ended(err error, aside func(func()))
}

// Here is the aside of a caller of [Handler].Ended that may wait itself.
func Here(f func()) { f() }

// Round is the work on what a few connections have sent together, such as
// buffers that have to be written at its end.
type Round interface{ Finish() }

// Writer has what a connection has to write, while its socket is full.
type Writer interface {
	// Wrote tells that n bytes of what Next gave are written. Without an error
	// that is all of it; after an error no more is asked for.
	Wrote(n int, err error)

	// Next returns what is to be written now, nothing if that was all.
	Next() net.Buffers
}

// Conn is a connection as the protocol code sees it.
type Conn interface {
	LocalAddr() net.Addr
	RemoteAddr() net.Addr

	// NetConn is what the connection runs on, nil if that is a bare socket.
	NetConn() net.Conn

	// Start begins to serve the connection: what it receives goes to h.
	Start(h Handler)

	// Gone reports whether the peer has closed the connection and nothing that it
	// has said is left to be read. The caller has the turn. A bare socket does not
	// wait. Another connection is read from, for goneWithin at most, when the socket
	// below it has something: it must bear that a read deadline passes. It knows
	// nothing, and says no, before it was read from first, and if no socket of
	// package net is found below it by NetConn.
	Gone() bool

	// CatchUp returns when the Handler has been given what the peer has sent until
	// now, when the connection has ended, or when patience runs out. Whoever calls
	// it may wait, and is not the Handler.
	CatchUp(patience time.Duration)

	// TryWrite writes of v what the socket takes now. It returns less than the
	// size of v and no error when the socket is full, or when nothing can be
	// written without blocking on this kind of connection. One call at a time.
	TryWrite(v net.Buffers) (int, error)

	// Drain writes rest, and then what w has to say, as the socket takes it. It
	// does not wait for that. Until Wrote has been called nobody else may write.
	// Without a rest it only makes w be asked, once.
	Drain(rest net.Buffers, w Writer)

	// Interrupt ends the connection soon, with [ErrInterrupted].
	Interrupt()

	// Expire is Interrupt for a connection to which nothing is to be said any
	// more: a write that waits fails too, such as one of a TLS handshake.
	Expire()

	// Abort ends it at once: reads and writes that are waiting fail.
	Abort()

	// Close closes it, when its Handler has been told that it has ended and
	// nobody writes any more. With patience the peer can still read what was
	// written: a reset does not overtake the last packet, as the connection is
	// closed when the peer has closed it, or when patience runs out.
	Close(patience time.Duration)
}

// ErrInterrupted ends a connection after [Conn.Interrupt].
var ErrInterrupted = errors.New("petrel: interrupted")

// IsTimeout reports whether err came from [Conn.Interrupt] or a deadline.
func IsTimeout(err error) bool {
	return errors.Is(err, ErrInterrupted) || errors.Is(err, os.ErrDeadlineExceeded)
}

// Config is what an engine needs of its host.
type Config struct {
	Rounds   func() Round     // begins a round
	Spawn    func(func())     // starts a goroutine that the host waits for
	Panicked func(reason any) // tells that a connection has panicked
	Loops    bool             // use loops where they are to be had
	Alone    bool             // no round for several connections: a Handler may wait although it did not say so
}

// Engine serves the connections of one broker.
type Engine struct {
	Config
	loops *loops // nil where there are none
}

// New makes an engine. It has to be closed when all its connections have ended.
func New(c Config) *Engine {
	e := &Engine{Config: c}
	if c.Loops {
		e.loops = newLoops(e)
	}
	return e
}

// Acceptor takes connections from a listener.
type Acceptor interface {
	// Accept waits for the next connection.
	Accept() (Conn, error)

	// Close closes the listener: Accept fails.
	Close() error
}

// Acceptor returns the acceptor of l. It makes connections that loops serve of
// those of plain TCP and Unix listeners, if there are loops.
func (e *Engine) Acceptor(l net.Listener) Acceptor {
	if e.loops != nil {
		if a := e.loops.acceptor(l); a != nil {
			return a
		}
	}
	return &acceptor{e, l}
}

type acceptor struct {
	engine *Engine
	net.Listener
}

func (a *acceptor) Accept() (Conn, error) {
	conn, err := a.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if c := a.engine.Adopt(conn); c != nil {
		return c, nil
	}
	return a.engine.Stream(conn), nil
}

// Adopt takes a plain TCP or Unix connection away from Go's poller and gives it
// to a loop; c is closed. It returns nil for any other connection, and without loops.
func (e *Engine) Adopt(c net.Conn) Conn {
	if e.loops == nil {
		return nil
	}
	return e.loops.adopt(c)
}

// Close ends the loops.
func (e *Engine) Close() {
	if e.loops != nil {
		e.loops.close()
	}
}

// catchUpGap is how often CatchUp looks whether somebody else is done.
const catchUpGap = time.Millisecond

// await returns when done reports true, or patience runs out.
func await(patience time.Duration, done func() bool) {
	for start := time.Now(); !done() && time.Since(start) < patience; {
		time.Sleep(catchUpGap)
	}
}

// size is the number of bytes in v.
func size(v net.Buffers) (n int) {
	for _, b := range v {
		n += len(b)
	}
	return n
}

// behind is what remains of v behind its first n bytes. It changes v.
func behind(v net.Buffers, n int) net.Buffers {
	for len(v) > 0 && n >= len(v[0]) {
		n -= len(v[0])
		v = v[1:]
	}
	if len(v) > 0 {
		v[0] = v[0][n:]
	}
	return v
}
