//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/petrelmq/petrel/benchmarks/internal/process"
	"github.com/petrelmq/petrel/benchmarks/internal/rest"
)

var wraps = map[process.Transport]rest.Wrap{
	process.TCP: rest.Plain, process.TLS: rest.Secure, process.WebSocket: rest.WebSocket,
}

// stillFor is how long the memory of a broker has to be the same.
const stillFor = 2 * time.Second

// atRest is how long the memory of a broker has to be the same until its clients
// count as idle: some give back what the connecting took, after a while.
const atRest = 12 * time.Second

// idle measures clients that are connected and subscribed, and do nothing: the CPU
// of their coming, and the memory that they keep.
func idle(n int, transport process.Transport) func(*bench, *process.Broker) (sample, error) {
	return func(b *bench, broker *process.Broker) (s sample, err error) {
		err = b.with(broker, transport, func(p *process.Process, address netip.AddrPort) error {
			before, err := settled(p, stillFor)
			if err != nil {
				return err
			}
			conns := make([]net.Conn, n)
			defer func() {
				for _, c := range conns {
					if c != nil {
						_ = c.Close()
					}
				}
			}()
			s, err = measure(p, func() error { return dialAll(address, wraps[transport], conns) }, func() uint64 { return uint64(n) })
			if err != nil {
				return err
			}
			after, err := settled(p, atRest)
			s.Memory = float64(after-before) / float64(n)
			return err
		})
		return s, err
	}
}

// dialAll fills conns, a few at a time.
func dialAll(address netip.AddrPort, wrap rest.Wrap, conns []net.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), opening)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range 16 {
		group.Go(func() (err error) {
			for i := next.Add(1) - 1; i < int64(len(conns)) && err == nil; i = next.Add(1) - 1 {
				conns[i], err = rest.Dial(ctx, address, wrap, int(i))
			}
			return err
		})
	}
	return group.Wait()
}

// settled returns the resident memory of a process when it has not changed by
// more than one percent for as long as still.
func settled(p *process.Process, still time.Duration) (int64, error) {
	const longest, step = time.Minute, 100 * time.Millisecond
	var reference int64
	var since time.Duration
	for waited := time.Duration(0); waited < longest; waited += step {
		now, err := process.Memory(p.PID())
		if err != nil {
			return 0, err
		}
		if change := now - reference; max(change, -change) > reference/100 {
			reference, since = now, waited
		} else if waited-since >= still {
			return now, nil
		}
		time.Sleep(step)
	}
	return reference, fmt.Errorf("the memory of the broker still changes after %v", longest)
}
