package engine

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// socket is a connection that a loop waits for.
type socket struct {
	loop    *loop
	handler Handler
	peer    netip.AddrPort // of TCP
	local   net.Addr       // what it was accepted at
	in      input          // of who has the turn
	fd      int
	turn    atomic.Uint32

	mu      sync.Mutex // held for moments only, never while calling the Handler or the Writer
	out     *drain     // nil while there is nothing that the socket refused
	watched uint32     // what epoll reports
	closed  bool
	muted   atomic.Bool // nothing is reported when there is input
}

// Who has the turn.
const (
	nobody      uint32 = iota
	somebody           // and may give it back
	interrupted        // somebody, who has to end the connection
	over               // somebody for good: its end has begun
)

// drain is what a socket has refused until now.
type drain struct {
	to    Writer
	rest  net.Buffers
	n     int  // bytes written of what Next gave
	asked bool // Next has to be called though there is no rest
	busy  bool // some goroutine writes, or asks the Writer
}

// drains are shared by all sockets: few refuse data at a time.
var drains = sync.Pool{New: func() any { return new(drain) }}

// newSocket is a connection that has not started.
func (ls *loops) newSocket(fd int, local net.Addr) *socket {
	s := &socket{loop: ls.choose(), fd: fd, local: local}
	s.loop.sockets.Add(1)
	s.turn.Store(somebody)
	ls.table.put(fd, s)
	return s
}

func (s *socket) NetConn() net.Conn { return nil }

func (s *socket) RemoteAddr() net.Addr {
	if s.peer.IsValid() {
		return net.TCPAddrFromAddrPort(s.peer)
	}
	return &net.UnixAddr{Net: "unix"}
}

func (s *socket) LocalAddr() net.Addr {
	if !s.peer.IsValid() {
		return s.local
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.local
	}
	local, err := addressOf(s.fd)
	if err != nil {
		return s.local
	}
	return net.TCPAddrFromAddrPort(local)
}

func (s *socket) Start(h Handler) {
	s.handler = h
	if s.give() {
		s.watch()
	}
}

// watch makes epoll report what the socket waits for.
func (s *socket) watch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchLocked()
}

func (s *socket) watchLocked() {
	var want uint32
	if !s.muted.Load() {
		want = syscall.EPOLLIN
	}
	if s.out != nil {
		want |= syscall.EPOLLOUT
	}
	if s.closed || want == s.watched {
		return
	}
	op := syscall.EPOLL_CTL_MOD
	switch {
	case s.watched == 0:
		op = syscall.EPOLL_CTL_ADD
	case want == 0: // a failure is reported even if nothing is asked for
		op = syscall.EPOLL_CTL_DEL
	}
	s.watched = want
	if epollCtl(s.loop.epoll, op, s.fd, &syscall.EpollEvent{Events: want, Fd: int32(s.fd)}) != nil {
		s.Interrupt() // it would never be heard of again
	}
}

// mute makes epoll silent about input until the turn is given back. It reports
// false if that has just happened.
func (s *socket) mute() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.muted.Store(true) // before the look at turn: give looks at the two the other way round
	if s.turn.Load() == nobody {
		s.muted.Store(false)
		return false
	}
	s.watchLocked()
	return true
}

// give ends the turn of the caller. It reports false if the connection has to
// end instead, and sees to that.
func (s *socket) give() bool {
	s.in.rest()
	if !s.turn.CompareAndSwap(somebody, nobody) {
		s.end(ErrInterrupted)
		return false
	}
	if s.muted.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.muted.Store(false)
		s.watchLocked()
	}
	return true
}

// end tells the Handler of the end. The caller has the turn, and it is the last.
// It may be anybody, with any lock.
func (s *socket) end(err error) {
	s.loop.loops.engine.Spawn(func() { s.endWith(err, Here) })
}

// endWith is end on the goroutine that has the turn.
func (s *socket) endWith(err error, spawn func(func())) {
	s.in.release()
	s.turn.Store(over)
	s.handler.Ended(err, spawn)
}

func (s *socket) Interrupt() {
	for {
		switch turn := s.turn.Load(); {
		case turn == interrupted:
			return
		case !s.turn.CompareAndSwap(turn, interrupted):
		case turn == nobody:
			s.end(ErrInterrupted)
			return
		default: // who has the turn will see it
			return
		}
	}
}

func (s *socket) Expire() { s.Interrupt() } // reads do not write here

// readable is called by the loop when there is input, or an end.
func (s *socket) readable(r *Round) {
	for !s.turn.CompareAndSwap(nobody, somebody) {
		if s.mute() {
			return
		}
	}
	ls := s.loop.loops
	for range readsInARow {
		n, err := s.fill()
		if n == 0 && err == nil {
			break
		}
		if err == nil && s.handler.MayWait() {
			ls.engine.Spawn(func() { s.aside(nil) })
			return
		}
		if err == nil {
			err = ls.handle(r, s)
		}
		if err != nil {
			s.endWith(err, ls.engine.Spawn)
			return
		}
		if hold := s.handler.Hold(); hold != nil {
			ls.engine.Spawn(func() { s.aside(hold) })
			return
		}
		if len(s.in.bytes()) == 0 {
			break
		}
	}
	s.give()
}

// readsInARow bounds how often a socket is read from before it is the turn of
// another, while its buffer ends in the middle of a packet.
const readsInARow = 8

// fill reads once. It returns 0 and no error if there is nothing.
func (s *socket) fill() (n int, err error) {
	s.in.reserve()
	n, err = readSome(s.fd, s.in.room())
	s.in.took(n)
	return n, err
}

// aside is readable on a goroutine that may wait, for hold and for the Handler.
// It begins with what was read before.
func (s *socket) aside(hold <-chan struct{}) {
	for {
		if hold != nil {
			s.in.rest()
			<-hold
		}
		err := s.in.handle(s.loop.loops.engine, s.handler)
		if err == nil {
			if hold = s.handler.Hold(); hold != nil {
				continue
			}
			n := 0
			if s.handler.MayWait() {
				n, err = s.fill()
			}
			if n == 0 && err == nil {
				s.give()
				return
			}
		}
		if err != nil {
			s.endWith(err, Here)
			return
		}
	}
}

func (s *socket) Gone() bool { return hasEnded(s.fd) }

func (s *socket) CatchUp(patience time.Duration) {
	await(patience, func() bool {
		switch turn := s.turn.Load(); {
		case turn == interrupted || turn == over:
			return true
		case turn == somebody || !s.turn.CompareAndSwap(nobody, somebody):
			return false // who has the turn may be reading what came
		case readable(s.fd):
			s.loop.loops.engine.Spawn(s.catchUp) // the Handler may take longer than patience allows
			return false
		}
		s.give()
		return true
	})
}

// catchUp reads once, and handles that aside. The caller has the turn.
func (s *socket) catchUp() {
	n, err := s.fill()
	switch {
	case err != nil:
		s.endWith(err, Here)
	case n == 0:
		s.give()
	default:
		s.aside(nil)
	}
}

func (s *socket) TryWrite(v net.Buffers) (int, error) { return writeSome(s.fd, v) }

func (s *socket) Drain(rest net.Buffers, w Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		s.out = drains.Get().(*drain)
		s.out.to = w
	}
	if len(rest) > 0 {
		s.out.rest, s.out.n = rest, 0
	} else {
		s.out.asked = true
	}
	s.watchLocked()
}

// writable writes once what was refused before, and has the Writer say what is next.
func (s *socket) writable() {
	d, rest := s.takeDrain()
	if d == nil {
		return
	}
	if len(rest) > 0 {
		n, err := writeSome(s.fd, rest)
		d.n += n
		if rest = behind(rest, n); err == nil && len(rest) > 0 {
			s.putDrain(rest)
			return
		}
		n, d.n = d.n, 0
		d.to.Wrote(n, err)
		if err != nil {
			s.putDrain(nil)
			return
		}
	}
	s.putDrain(d.to.Next())
}

// takeDrain makes the caller the one who writes.
func (s *socket) takeDrain() (*drain, net.Buffers) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.out
	if d == nil || d.busy {
		return nil, nil
	}
	d.busy = true
	rest := d.rest
	d.rest, d.asked = nil, false
	return d, rest
}

// putDrain ends what takeDrain began: rest is to be written.
func (s *socket) putDrain(rest net.Buffers) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.out
	d.busy = false
	if len(rest) > 0 {
		d.rest = rest
	}
	if len(d.rest) == 0 && !d.asked {
		s.out = nil
		*d = drain{}
		drains.Put(d)
	}
	s.watchLocked()
}

func (s *socket) Abort() { s.shutdown(syscall.SHUT_RDWR) }

func (s *socket) shutdown(how int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return syscall.Shutdown(s.fd, how)
}

func (s *socket) Close(patience time.Duration) {
	if patience > 0 && s.shutdown(syscall.SHUT_WR) == nil {
		s.hearOut(patience)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.loop.loops.table.put(s.fd, nil)
		s.loop.sockets.Add(-1)
		closeSocket(s.fd)
	}
}

// hearOut reads until the peer closes, has said enough, or patience runs out.
// The caller has the turn.
func (s *socket) hearOut(patience time.Duration) {
	f := &farewell{ended: make(chan struct{})}
	s.handler = f
	s.turn.Store(somebody)
	if s.give() {
		s.watch()
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-f.ended:
	case <-t.C:
		s.Interrupt()
		<-f.ended
	}
}

// farewell is the Handler of a connection on which all has been said.
type farewell struct {
	ended chan struct{}
	heard int
}

func (f *farewell) Data(_ Round, b []byte, _ *Buffer) (used, need int, err error) {
	if f.heard++; f.heard > heardEnough {
		return 0, 0, ErrInterrupted
	}
	return len(b), 0, nil
}

func (f *farewell) Hold() <-chan struct{} { return nil }
func (f *farewell) MayWait() bool         { return false }

func (f *farewell) Ended(error, func(func())) { close(f.ended) }
