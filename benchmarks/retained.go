//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/petrelmq/petrel/benchmarks/internal/load"
	"github.com/petrelmq/petrel/benchmarks/internal/process"
)

// retained measures how much memory retained messages take, and the CPU of giving
// all of them to one subscriber, again and again.
func retained(n int) func(*bench, *process.Broker) (sample, error) {
	return func(b *bench, broker *process.Broker) (s sample, err error) {
		err = b.with(broker, process.TCP, func(p *process.Process, address netip.AddrPort) error {
			before, err := settled(p, stillFor)
			if err != nil {
				return err
			}
			if err := storeAll(address, n); err != nil {
				return err
			}
			after, err := settled(p, stillFor)
			if err != nil {
				return err
			}
			var received, expected uint64
			s, err = measure(p, func() error {
				for began := time.Now(); time.Since(began) < b.window(); expected += uint64(n) {
					got, err := fetchAll(address, n)
					if err != nil {
						return err
					}
					received += got
				}
				return nil
			}, func() uint64 { return received })
			s.Memory = float64(after-before) / float64(n)
			s.Lost = 1 - float64(received)/float64(max(expected, 1))
			return err
		})
		return s, err
	}
}

func storeAll(address netip.AddrPort, n int) error {
	l, err := load.New(address, store(n))
	if err != nil {
		return err
	}
	defer l.Close()
	if err := errors.Join(l.Open(opening), l.Publish()); err != nil {
		return err
	}
	if err := l.RunUntil(func() bool { return l.Acked() == uint64(n) }, 10*patience); err != nil {
		return err
	}
	if l.Acked() != uint64(n) {
		return fmt.Errorf("%d of %d retained messages were acknowledged", l.Acked(), n)
	}
	return nil
}

// fetchAll subscribes to everything and returns how many messages came.
func fetchAll(address netip.AddrPort, n int) (uint64, error) {
	l, err := load.New(address, load.Plan{Clients: []load.Client{{ID: "all", Filters: []string{"#"}}}})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	if err := l.Open(opening); err != nil {
		return 0, err
	}
	err = l.RunUntil(func() bool { return l.Received >= uint64(n) }, 5*patience)
	return l.Received, err
}
