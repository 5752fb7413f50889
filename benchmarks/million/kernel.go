//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
)

// socketMemory is how many bytes the kernel takes for one end of a TCP connection
// at rest. What else the machine does meanwhile is in it.
func socketMemory(n int) (float64, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	var ends []net.Conn
	defer func() {
		for _, c := range ends {
			_ = c.Close()
		}
	}()
	before, err := slab()
	if err != nil {
		return 0, err
	}
	for range n {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return 0, err
		}
		ends = append(ends, client)
		server, err := l.Accept()
		if err != nil {
			return 0, err
		}
		ends = append(ends, server)
	}
	after, err := slab()
	return float64(after-before) / float64(2*n), err
}

// slab is the memory of the kernel's own objects.
func slab() (int64, error) {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(info) {
		if value, ok := bytes.CutPrefix(line, []byte("Slab:")); ok {
			kib, err := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(value), []byte(" kB"))), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/meminfo says %q: %w", line, err)
			}
			return kib << 10, nil
		}
	}
	return 0, errors.New("/proc/meminfo has no Slab")
}
