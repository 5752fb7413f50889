//go:build race || 386 || s390x

package engine

import (
	"net/netip"
	"syscall"
)

// accept returns the next connection of a listener, and the address of its peer if it
// is of TCP.
func accept(listener int) (int, netip.AddrPort, error) {
	fd, peer, err := syscall.Accept4(listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
	return fd, addrPort(peer), err
}

// addressOf is the local address of a socket of TCP.
func addressOf(fd int) (netip.AddrPort, error) {
	name, err := syscall.Getsockname(fd)
	return addrPort(name), err
}

func addrPort(name syscall.Sockaddr) netip.AddrPort {
	switch a := name.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *syscall.SockaddrInet6:
		return addrPort6(a.Addr, uint16(a.Port), a.ZoneId)
	}
	return netip.AddrPort{}
}
