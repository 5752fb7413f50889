//go:build !race && (386 || s390x)

package engine

import (
	"syscall"
	"unsafe"
)

// These systems once had a single call for all that is done with sockets, and
// package syscall does not know the later ones.

func receive(fd int, b []byte) (int, error) {
	return result(syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b))))
}

func send(fd int, b []byte) (int, error) {
	return result(syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b))))
}
