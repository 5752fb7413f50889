//go:build !race && !386 && !s390x

package engine

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"
)

// accept returns the next connection of a listener, and the address of its peer if it
// is of TCP.
func accept(listener int) (fd int, peer netip.AddrPort, err error) {
	name := socketName{size: nameSize}
	fd, err = result(syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(listener),
		uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&name.size)), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0, 0))
	return fd, name.addrPort(), err
}

// addressOf is the local address of a socket of TCP.
func addressOf(fd int) (netip.AddrPort, error) {
	name := socketName{size: nameSize}
	_, err := result(syscall.RawSyscall(syscall.SYS_GETSOCKNAME, uintptr(fd),
		uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&name.size))))
	return name.addrPort(), err
}

// socketName is where the system writes an address. Package syscall keeps how to read
// it to itself.
type socketName struct {
	syscall.RawSockaddrInet6        // the larger one; that of a Unix socket is cut off
	size                     uint32 // of it
}

const nameSize = uint32(unsafe.Sizeof(syscall.RawSockaddrInet6{}))

func (n *socketName) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&n.Port))[:])
	switch n.Family {
	case syscall.AF_INET:
		v4 := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&n.RawSockaddrInet6))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	case syscall.AF_INET6:
		return addrPort6(n.Addr, port, n.Scope_id)
	}
	return netip.AddrPort{}
}
