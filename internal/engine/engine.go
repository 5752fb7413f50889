// Package engine moves bytes between sockets and protocol code.
//
// Protocol code never reads and never waits for a socket: it is handed the
// bytes that arrived, and appends what is to be sent to a buffer that it tries
// to write without blocking. Who waits for a socket is the business of this
// package. Its one engine today is a goroutine per connection, for any
// [net.Conn]; a connection at rest holds no buffer.
package engine

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// Handler is the protocol side of one connection. Its methods are called by
// one goroutine at a time.
type Handler interface {
	// Data handles the whole packets at the start of b and reports how many
	// bytes they were. b is valid during the call only; bytes that were not
	// used come again, with more behind them. need is the size of the packet
	// that the rest begins, if it is known, else 0. An error ends the connection.
	Data(b []byte) (used, need int, err error)

	// Hold is asked after Data. A channel other than nil makes the engine read
	// no more until it is closed.
	Hold() <-chan struct{}
}

// Conn is a connection as the protocol code sees it.
type Conn struct {
	net.Conn
	raw  syscall.RawConn // nil where file descriptors are not to be had
	try  tryWriter
	wait waitReader
}

// NewConn makes the most of c: with a file descriptor it can wait for input
// without a buffer, and write without blocking. Only the types of package net
// are looked through: another one may do more in Read and Write than the
// descriptor that it embeds.
func NewConn(c net.Conn) *Conn {
	conn := &Conn{Conn: c}
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
		raw, err := c.(syscall.Conn).SyscallConn()
		if err == nil && rawSupported {
			conn.raw = raw
			conn.try.init(raw)
			conn.wait.init(raw)
		}
	}
	return conn
}

// TryWrite writes what the socket takes now. It returns less than len(b) and
// no error when the socket is full, or when nothing can be written without
// blocking on this kind of connection. One call at a time.
func (c *Conn) TryWrite(b []byte) (int, error) {
	if c.raw == nil {
		return 0, nil
	}
	return c.try.write(b)
}

// Interrupt makes Serve return soon, with an error that is [os.ErrDeadlineExceeded].
func (c *Conn) Interrupt() { c.SetReadDeadline(time.Unix(1, 0)) }

// Linger closes the connection such that the peer can still read what was
// written: it ends the writing side and reads until the peer has closed, or
// patience runs out. A reset that overtakes the last packet is thereby avoided.
func (c *Conn) Linger(patience time.Duration) {
	defer c.Close()
	w, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || w.CloseWrite() != nil {
		return
	}
	if c.SetReadDeadline(time.Now().Add(patience)) != nil {
		return
	}
	buf := buffers.get()
	defer buffers.put(buf)
	for range 64 { // a peer that goes on sending has been heard long enough
		if _, err := c.Read(buf.b[:cap(buf.b)]); err != nil {
			return
		}
	}
}

// Serve reads until the connection or h ends it, and returns why. The caller
// closes the connection.
func (c *Conn) Serve(h Handler) error {
	in := input{conn: c}
	defer in.release()
	for {
		if err := in.fill(); err != nil {
			return err
		}
		for held := true; held; {
			if err := in.handle(h); err != nil {
				return err
			}
			hold := h.Hold()
			if held = hold != nil; held {
				in.rest()
				<-hold
			}
		}
	}
}

// IsTimeout reports whether err came from [Conn.Interrupt] or another deadline.
func IsTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
