//go:build linux

// Package process starts brokers, each as a process of its own, and tells what
// they cost.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Process is a broker that runs.
type Process struct {
	cmd   *exec.Cmd
	said  said
	done  chan struct{} // closed when the process has ended
	ended func()        // called then; nil for nothing

	figures netip.AddrPort // of the profiled petrel
}

// Start runs a program and waits until it listens on all addresses. The caller's
// goroutine must be locked to its thread, as the program dies with that thread.
func Start(program string, args []string, listening ...netip.AddrPort) (*Process, error) {
	p := &Process{cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	for _, address := range listening {
		if err := p.await(address); err != nil {
			p.Stop()
			return nil, fmt.Errorf("%s does not listen: %w; it said: %q", filepath.Base(program), err, p.said.String())
		}
	}
	return p, nil
}

// await connects until it succeeds.
func (p *Process) await(address netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address.String())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.done:
			return errors.New("it has ended")
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// PID is the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Said is the end of what the process has written.
func (p *Process) Said() string { return p.said.String() }

// Stop ends the process at once.
func (p *Process) Stop() {
	_ = p.cmd.Process.Kill()
	<-p.done
	if p.ended != nil {
		p.ended()
	}
}

// lowestPort is where a broker may listen at the lowest.
const lowestPort = 10_000

// FreeAddress returns an address of this machine that nobody listens on. Its port is
// not one that connections are made from: some thousands of those, closed a moment
// ago, would be in the way of a broker that does not set SO_REUSEADDR.
func FreeAddress() (netip.AddrPort, error) {
	const tries = 100
	to, err := firstPortOfConnections()
	if err != nil || to <= lowestPort {
		to = 32_768
	}
	for range tries {
		port := lowestPort + rand.IntN(to-lowestPort)
		l, listens := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err = listens; err == nil {
			defer func() { _ = l.Close() }()
			return netip.ParseAddrPort(l.Addr().String())
		}
	}
	return netip.AddrPort{}, fmt.Errorf("find a free port: %w", err)
}

// firstPortOfConnections is the lowest port that the system gives to a connection.
func firstPortOfConnections() (port int, err error) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(b), &port)
	}
	return port, err
}

// said keeps the last bytes that a process has written.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	const most = 4 << 10
	s.b.Write(b)
	s.b.Next(max(0, s.b.Len()-most))
	return len(b), nil
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
