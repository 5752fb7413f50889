//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/petrelmq/petrel/benchmarks/internal/load"
	"github.com/petrelmq/petrel/benchmarks/internal/process"
)

// bench is how measurements are made.
type bench struct {
	seconds     float64 // of the measured window
	certificate process.Certificate
	watch       func(p *process.Process, window time.Duration) // told when a window begins; nil for nobody
}

const (
	patience = time.Second // that something more comes
	opening  = time.Minute // for all clients to be ready
)

func (b *bench) window() time.Duration { return time.Duration(b.seconds * float64(time.Second)) }

// begin tells that a measured window begins.
func (b *bench) begin(p *process.Process) {
	if b.watch != nil {
		b.watch(p, b.window())
	}
}

func (b *bench) warmUp() time.Duration { return min(b.window()/3, time.Second) }

// with starts a broker, lets use have it, and stops it.
func (b *bench) with(broker *process.Broker, transport process.Transport, use func(*process.Process, netip.AddrPort) error) error {
	p, address, err := broker.Start(transport, b.certificate)
	if err != nil {
		return err
	}
	defer p.Stop()
	if err := use(p, address); err != nil {
		return fmt.Errorf("%w; the broker said: %q", err, p.Said())
	}
	return nil
}

// loaded starts a broker, connects the clients of a plan, and lets use have them.
func (b *bench) loaded(broker *process.Broker, plan load.Plan, use func(*process.Process, *load.Loop) error) error {
	return b.with(broker, process.TCP, func(p *process.Process, address netip.AddrPort) error {
		l, err := load.New(address, plan)
		if err != nil {
			return err
		}
		defer l.Close()
		if err := l.Open(opening); err != nil {
			return err
		}
		return use(p, l)
	})
}

// traffic measures messages from publishers to subscribers.
func (b *bench) traffic(broker *process.Broker, plan load.Plan) (s sample, err error) {
	err = b.loaded(broker, plan, func(p *process.Process, l *load.Loop) error {
		runtime.GC() // what the plan has left behind
		if err := errors.Join(l.Publish(), l.Run(b.warmUp())); err != nil {
			return err
		}
		l.Latency.Reset()
		l.AckLatency.Reset()
		before := l.Received
		commits, err := p.Commits()
		if err != nil {
			return err
		}
		b.begin(p)
		s, err = b.measure(p, l, func() uint64 { return l.Received - before })
		if err != nil {
			return err
		}
		s.latency(l)
		committed, err := p.Commits()
		if err != nil {
			return err
		}
		if committed > commits {
			s.Shared = float64(l.Received-before) / float64(committed-commits)
		}
		if err := l.Drain(patience); err != nil {
			return err
		}
		s.Lost = float64(l.Missing()) / float64(max(l.Missing()+l.Received, 1))
		if l.Misordered > 0 {
			return fmt.Errorf("%d of %d messages came out of order", l.Misordered, l.Received)
		}
		return nil
	})
	return s, err
}

// churn measures clients that come and go.
func churn(atOnce int) func(*bench, *process.Broker) (sample, error) {
	return func(b *bench, broker *process.Broker) (s sample, err error) {
		err = b.loaded(broker, comeAndGo(atOnce), func(p *process.Process, l *load.Loop) error {
			if err := l.Run(b.warmUp()); err != nil {
				return err
			}
			l.Latency.Reset()
			before := l.Cycles
			b.begin(p)
			s, err = b.measure(p, l, func() uint64 { return l.Cycles - before })
			s.latency(l)
			return err
		})
		return s, err
	}
}

// measure is measure for one window of l; on a busy machine, for as many as it takes
// until something is done.
func (b *bench) measure(p *process.Process, l *load.Loop, units func() uint64) (sample, error) {
	return measure(p, func() error {
		for began := time.Now(); ; {
			if err := l.Run(b.window()); err != nil || units() > 0 || time.Since(began) > opening {
				return err
			}
		}
	}, units)
}

// measure tells what a process and this one spend on units of work.
func measure(p *process.Process, work func() error, units func() uint64) (sample, error) {
	began, generator := time.Now(), ownCPU()
	broker, err := process.CPU(p.PID())
	if err != nil {
		return sample{}, err
	}
	if err := work(); err != nil {
		return sample{}, err
	}
	ended, err := process.CPU(p.PID())
	n := float64(units())
	if n == 0 && err == nil {
		err = errors.New("nothing was done")
	}
	return sample{
		Cost:      float64(ended-broker) / n,
		Generator: float64(ownCPU()-generator) / n,
		Rate:      n / time.Since(began).Seconds(),
	}, err
}

func (s *sample) latency(l *load.Loop) {
	s.P50 = float64(l.Latency.Percentile(50))
	s.P99 = float64(l.Latency.Percentile(99))
	s.P999 = float64(l.Latency.Percentile(99.9))
	s.AckP50 = float64(l.AckLatency.Percentile(50))
	s.AckP99 = float64(l.AckLatency.Percentile(99))
}

// ownCPU is the processor time of this process.
func ownCPU() time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
