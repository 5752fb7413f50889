//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// congestionFile names the congestion control of new TCP connections, in the network
// namespace of the thread that reads or writes it.
const congestionFile = "/proc/sys/net/ipv4/tcp_congestion_control"

// congestion is what TCP uses here.
func congestion() string {
	name, err := os.ReadFile(congestionFile)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(name))
}

// useCongestion moves the calling thread, and the processes that it starts from now
// on, into a network of their own where TCP uses the given congestion control. The
// rest of the machine keeps its own. The caller's goroutine must be locked to its thread.
func useCongestion(name string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("-congestion %s: make a network, for which it takes root: %w", name, err)
	}
	if err := raiseLoopback(); err != nil {
		return fmt.Errorf("-congestion %s: bring up the loopback interface: %w", name, err)
	}
	if err := os.WriteFile(congestionFile, []byte(name), 0); err != nil {
		return fmt.Errorf("-congestion %s: %w; there are %s", name, err, available())
	}
	return nil
}

// raiseLoopback brings up the loopback interface.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// available are the names that the kernel knows.
func available() string {
	names, err := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control")
	if err != nil {
		return "unknown ones"
	}
	return strings.TrimSpace(string(names))
}
