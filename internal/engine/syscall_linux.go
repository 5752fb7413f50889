//go:build !race

package engine

import (
	"net"
	"syscall"
	"unsafe"
)

// These system calls never block, as their descriptors are non-blocking. So the
// scheduler need not hear of them, as it does of those in package syscall: it
// would wake its monitor thread for each message of a broker that is nearly
// idle. That is two thirds of what such a message costs: 48 against 17 µs at
// 5,000 messages a second (the scenario paced/5000 of benchmarks); and a fifth of
// what it costs that clients come and go (churn). A very large
// write takes long enough to be told of: half of what a socket may keep a loop.
// From 256 KiB on was a quarter dearer in the scenario large/64KiB, as the thread
// that the scheduler hands over to is in the way of the write.

const largeWrite = 2 << 20

func read(fd int, b []byte) (int, error) { return receive(fd, b) }

// write writes the first buffers of v once, and returns how many they were too.
func write(fd int, v net.Buffers) (n, buffers int, err error) {
	if len(v) == 1 && len(v[0]) <= largeWrite {
		n, err = send(fd, v[0])
		return n, 1, err
	}
	var vector [64]syscall.Iovec
	size := 0
	for buffers < min(len(v), len(vector)) {
		b := v[buffers]
		vector[buffers].Base = unsafe.SliceData(b)
		vector[buffers].SetLen(len(b))
		size += len(b)
		buffers++
	}
	call := syscall.RawSyscall
	if size > largeWrite {
		call = syscall.Syscall
	}
	n, err = result(call(syscall.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&vector)), uintptr(buffers)))
	return n, buffers, err
}

// epollReady asks for events without waiting for any.
func epollReady(epoll int, events []syscall.EpollEvent) (int, error) {
	return result(syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT,
		uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0))
}

func epollCtl(epoll, op, fd int, event *syscall.EpollEvent) error {
	_, err := result(syscall.RawSyscall6(syscall.SYS_EPOLL_CTL,
		uintptr(epoll), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(event)), 0, 0))
	return err
}

// closeSocket does not wait for what has not been sent: sockets do not linger.
func closeSocket(fd int) error {
	_, err := result(syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0))
	return err
}

func result(n, _ uintptr, failed syscall.Errno) (int, error) {
	if failed != 0 {
		return 0, failed
	}
	return int(n), nil
}
