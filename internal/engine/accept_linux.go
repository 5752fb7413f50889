package engine

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
)

// rawAcceptor accepts straight from the descriptor of a listener, so that Go's
// poller never hears of the connection.
type rawAcceptor struct {
	loops    *loops
	listener net.Listener
	file     *os.File // the listener once more: package net waits for its own only to accept itself
	raw      syscall.RawConn
	step     func(fd uintptr) bool
	accepted *socket
	failed   error
}

// acceptor returns nil for any listener that is not of plain TCP or Unix sockets.
func (ls *loops) acceptor(l net.Listener) Acceptor {
	switch l.(type) {
	case *net.TCPListener, *net.UnixListener:
	default:
		return nil
	}
	file, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return nil
	}
	a := &rawAcceptor{loops: ls, listener: l, file: file}
	a.step = a.acceptOnce
	if a.raw, err = file.SyscallConn(); err != nil {
		file.Close()
		return nil
	}
	if _, ok := l.(*net.TCPListener); ok {
		a.raw.Control(prepare)
	}
	return a
}

func (a *rawAcceptor) Accept() (Conn, error) {
	if err := a.loops.ready(); err != nil {
		return nil, err
	}
	a.accepted, a.failed = nil, nil
	if err := a.raw.Read(a.step); err != nil {
		return nil, err
	}
	if a.failed != nil {
		return nil, os.NewSyscallError("accept4", a.failed)
	}
	return a.accepted, nil
}

func (a *rawAcceptor) acceptOnce(fd uintptr) bool {
	a.accepted, a.failed = a.loops.accept(int(fd), a.listener.Addr())
	return a.accepted != nil || a.failed != nil
}

func (a *rawAcceptor) Close() error { return errors.Join(a.file.Close(), a.listener.Close()) }

// accept returns the next connection, nil and no error if there is none now.
func (ls *loops) accept(listener int, local net.Addr) (*socket, error) {
	for {
		fd, peer, err := accept(listener)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return nil, nil
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.ECONNABORTED):
			continue
		case err != nil:
			return nil, err
		}
		s := ls.newSocket(fd, local)
		s.peer = peer
		return s, nil
	}
}

func addrPort6(addr [16]byte, port uint16, zone uint32) netip.AddrPort {
	ip := netip.AddrFrom16(addr).Unmap()
	if zone != 0 {
		ip = ip.WithZone(strconv.FormatUint(uint64(zone), 10))
	}
	return netip.AddrPortFrom(ip, port)
}

// prepare sets on a TCP listener what its connections inherit: no delay of small
// packets, and probes of a peer that is silent for long. It does not matter much
// if that fails.
func prepare(fd uintptr) {
	for _, o := range [...]struct{ level, name, value int }{
		{syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1},
		{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 180},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 30},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 4},
	} {
		syscall.SetsockoptInt(int(fd), o.level, o.name, o.value)
	}
}

// adopt takes a plain TCP or Unix connection away from Go's poller. It returns
// nil for any other connection.
func (ls *loops) adopt(c net.Conn) Conn {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil || ls.ready() != nil {
		return nil
	}
	fd := -1
	raw.Control(func(old uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if fd, err = syscall.Dup(int(old)); err == nil {
			syscall.CloseOnExec(fd)
		}
	})
	if err != nil || fd < 0 {
		return nil
	}
	s := ls.newSocket(fd, c.LocalAddr())
	if peer, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		s.peer = peer.AddrPort()
	}
	c.Close() // the descriptor that the poller knows
	return s
}
