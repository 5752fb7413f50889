//go:build unix && !linux

package engine

import (
	"net"
	"syscall"
)

func read(fd int, b []byte) (int, error) { return syscall.Read(fd, b) }

// write writes the first buffer of v once; buffers is 1.
func write(fd int, v net.Buffers) (n, buffers int, err error) {
	n, err = syscall.Write(fd, v[0])
	return max(n, 0), 1, err
}
