//go:build unix && !linux

package engine

import "syscall"

func read(fd int, b []byte) (int, error) { return syscall.Read(fd, b) }

// write writes once. Nothing is held back here when more follows.
func write(fd int, b []byte, _ bool) (int, error) { return syscall.Write(fd, b) }
