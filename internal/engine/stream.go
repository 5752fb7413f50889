package engine

import (
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// Stream is a connection with a goroutine that reads, and another one while the
// socket refuses data.
type Stream struct {
	net.Conn
	engine *Engine
	raw    syscall.RawConn // nil where file descriptors are not to be had
	try    tryWriter
	wait   waitReader
	ahead  ahead
	reader atomic.Uint32

	interrupted atomic.Bool
}

// ahead is the byte that a plain connection is waited for with.
type ahead struct {
	b     [1]byte
	held  bool // it has come, and is not in the input yet
	begun bool // one has come before: there is no handshake to be disturbed
}

// What the goroutine that reads does.
const (
	waiting uint32 = iota // for input
	working               // it has input, or may have taken some
	gone
)

// Stream makes the most of c: with a file descriptor it can wait for input
// without a buffer, and write without blocking. Only the types of package net
// are looked through: another one may do more in Read and Write than the
// descriptor that it embeds.
func (e *Engine) Stream(c net.Conn) *Stream {
	s := &Stream{Conn: c, engine: e}
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
		raw, err := c.(syscall.Conn).SyscallConn()
		if err == nil && rawSupported {
			s.raw = raw
			s.try.init(raw)
			s.wait.init(raw, &s.reader)
		}
	}
	return s
}

func (s *Stream) NetConn() net.Conn { return s.Conn }

func (s *Stream) TryWrite(v net.Buffers) (int, error) {
	if s.raw == nil {
		return 0, nil
	}
	return s.try.write(v)
}

func (s *Stream) Gone() bool {
	switch {
	case s.raw != nil:
		return rawGone(s.raw)
	case !s.ahead.begun || s.ahead.held || !s.unread():
		return false
	}
	// What has come may be the end, or the farewell of TLS or of WebSocket, and what
	// lies between may hold more that was said before. Only a read tells.
	defer s.unhurry()
	if s.SetReadDeadline(time.Now().Add(goneWithin)) != nil {
		return false
	}
	n, err := s.Read(s.ahead.b[:])
	s.ahead.held = n > 0
	return n == 0 && err != nil && !IsTimeout(err)
}

// goneWithin is how long Gone may take if what has come is neither.
const goneWithin = 10 * time.Millisecond

// unhurry lets reads wait again, unless the connection is to end.
func (s *Stream) unhurry() {
	s.SetReadDeadline(time.Time{})
	if s.interrupted.Load() { // perhaps before this deadline
		s.Interrupt()
	}
}

func (s *Stream) Interrupt() {
	s.interrupted.Store(true)
	s.SetReadDeadline(time.Unix(1, 0))
}

func (s *Stream) Expire() {
	s.interrupted.Store(true)
	s.SetDeadline(time.Unix(1, 0))
}

func (s *Stream) Abort() { s.Conn.Close() }

func (s *Stream) Close(patience time.Duration) {
	defer s.Conn.Close()
	if patience == 0 {
		return
	}
	w, ok := s.Conn.(interface{ CloseWrite() error })
	if !ok || w.CloseWrite() != nil {
		return
	}
	if s.SetReadDeadline(time.Now().Add(patience)) != nil {
		return
	}
	buf := getBuffer(bufferSize)
	defer buf.Release()
	for range heardEnough {
		if _, err := s.Read(buf.all); err != nil {
			return
		}
	}
}

// heardEnough is how many reads a peer may fill that goes on sending after the
// last packet.
const heardEnough = 64

func (s *Stream) Start(h Handler) { s.engine.Spawn(func() { s.Serve(h) }) }

// Serve is Start that returns when h has been told of the end.
func (s *Stream) Serve(h Handler) {
	err := s.read(h)
	s.reader.Store(gone)
	h.Ended(err, Here)
}

// CatchUp looks at the socket first, and then at the reader, who says that it works
// before it takes something from the socket. What only a plain connection knows of,
// such as bytes between TLS and its reader, is not seen.
func (s *Stream) CatchUp(patience time.Duration) {
	await(patience, func() bool {
		return s.reader.Load() == gone || !s.unread() && s.reader.Load() != working
	})
}

// unread reports whether there is something to read from the socket below, or its end.
func (s *Stream) unread() (found bool) {
	c := s.Conn
	for range maximumLayers {
		switch layer := c.(type) {
		case *net.TCPConn, *net.UnixConn:
			if raw, err := layer.(syscall.Conn).SyscallConn(); err == nil {
				_ = raw.Control(func(fd uintptr) { found = readable(int(fd)) }) // a closed one has nothing
			}
			return found
		case interface{ NetConn() net.Conn }:
			c = layer.NetConn()
		default:
			return false
		}
	}
	return false
}

// maximumLayers bounds the connections inside one another that are looked through.
const maximumLayers = 8

// read reads until the connection or h ends it, and returns why.
func (s *Stream) read(h Handler) (err error) {
	in := input{}
	defer in.release()
	defer s.recovered(&err)
	for {
		if err := s.fill(&in); err != nil {
			return err
		}
		for held := true; held; {
			if err := in.handle(s.engine, h); err != nil {
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

// recovered makes an error of a panic: a connection of the host's own that
// panics has ended.
func (s *Stream) recovered(err *error) {
	if r := recover(); r != nil {
		s.engine.Panicked(r)
		*err = fmt.Errorf("petrel: the connection panicked: %v", r)
	}
}

func (s *Stream) Drain(rest net.Buffers, w Writer) {
	s.engine.Spawn(func() {
		for {
			if len(rest) > 0 {
				n, err := s.write(rest)
				w.Wrote(int(n), err)
				if err != nil {
					return
				}
			}
			if rest = w.Next(); len(rest) == 0 {
				return
			}
		}
	})
}

// write blocks until v is written.
func (s *Stream) write(v net.Buffers) (n int64, err error) {
	defer s.recovered(&err)
	return v.WriteTo(s.Conn)
}
