//go:build linux

// Relay is the floor under every broker: it reads packets and writes them to those
// who asked for exactly their topic. It checks nothing, stores nothing, knows no
// wildcard and no session, and answers what has to be answered at once. It reads
// and writes with as few system calls as there can be.
package main

import (
	"flag"
	"log"
	"net/netip"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

func main() {
	tcp := flag.String("tcp", "127.0.0.1:1883", "listen on `ADDR`")
	flag.Parse()
	if err := serve(*tcp); err != nil {
		log.Fatal(err)
	}
}

func serve(address string) error {
	debug.SetGCPercent(-1) // it could not run while the one thread waits past the scheduler
	listener, err := listen(address)
	if err != nil {
		return err
	}
	r, err := newRelay(listener)
	if err != nil {
		return err
	}
	defer r.shut()
	for err == nil {
		err = r.turn(-1)
	}
	return err
}

// listen makes a socket that Go's poller knows nothing of.
func listen(address string) (int, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}); err != nil {
		return 0, err
	}
	return fd, unix.Listen(fd, unix.SOMAXCONN)
}
