//go:build race

package engine

import (
	"net"
	"syscall"
)

// Package syscall tells the race detector that what was done before a write has
// happened before what is done after the read of it. A test whose hooks note
// something that it looks at when the broker has answered depends on that.

func read(fd int, b []byte) (int, error) { return syscall.Read(fd, b) }

func write(fd int, v net.Buffers) (n, buffers int, err error) {
	n, err = syscall.Write(fd, v[0])
	return max(n, 0), 1, err
}

func epollReady(epoll int, events []syscall.EpollEvent) (int, error) {
	return syscall.EpollWait(epoll, events, 0)
}

func epollCtl(epoll, op, fd int, event *syscall.EpollEvent) error {
	return syscall.EpollCtl(epoll, op, fd, event)
}

func closeSocket(fd int) error { return syscall.Close(fd) }
