//go:build linux

// Package raw makes system calls past Go's scheduler, as a program does whose one
// thread has nothing else to do. What waits this way holds up a garbage collection.
package raw

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Read reads from a non-blocking descriptor. The error is 0 if there is none.
func Read(fd int, b []byte) (int, unix.Errno) {
	n, _, err := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), err
}

// Write writes to a non-blocking descriptor.
func Write(fd int, b []byte) (int, unix.Errno) {
	n, _, err := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), err
}

// EpollWait waits for events, for as many milliseconds; negative means for ever.
func EpollWait(epoll int, events []unix.EpollEvent, milliseconds int) (int, unix.Errno) {
	n, _, err := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), uintptr(milliseconds), 0, 0)
	return int(n), err
}
