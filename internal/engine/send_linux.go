//go:build !race && !386 && !s390x

package engine

import (
	"syscall"
	"unsafe"
)

// All descriptors of this package are sockets. To receive and to send does without
// what reads and writes do for files: a message of the scenario fanin/qos1/1000 of
// benchmarks, which takes one of each, costs 1/1.06.

func receive(fd int, b []byte) (int, error) {
	return result(syscall.RawSyscall6(syscall.SYS_RECVFROM,
		uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0))
}

func send(fd int, b []byte) (int, error) {
	return result(syscall.RawSyscall6(syscall.SYS_SENDTO,
		uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_NOSIGNAL, 0, 0))
}
