//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/benchmarks/internal/rest"
	"github.com/petrelmq/petrel/benchmarks/internal/table"
	"github.com/petrelmq/petrel/benchmarks/internal/wire"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/listeners"
)

// fleet is a broker with clients that have one subscription each.
type fleet struct {
	broker  *petrel.Broker
	pipe    *listeners.PipeListener
	conns   []net.Conn // the clients' ends
	workers int
}

// simulate connects n clients, publishes a message to each, and tells how that went.
func simulate(n, workers int) (string, error) {
	pipes, err := pipeMemory(n / 10)
	if err != nil {
		return "", err
	}
	socket, err := socketMemory(4000)
	if err != nil {
		return "", err
	}
	broker, err := petrel.New(petrel.Options{
		Hooks:  []petrel.Hook{auth.AllowAll{}},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		return "", err
	}
	f := &fleet{broker: broker, pipe: listeners.Pipe(), conns: make([]net.Conn, n), workers: workers}
	served := make(chan error, 1)
	go func() { served <- broker.Serve(f.pipe) }()
	defer func() {
		_ = broker.Close()
		<-served
	}()

	connect, err := measure(func() error { return f.each(f.connect) })
	if err != nil {
		return "", err
	}
	if got := count(broker.Clients()); got != n {
		return "", fmt.Errorf("the broker has %d of %d clients", got, n)
	}
	publish, err := measure(func() error { return f.each(f.publish) })
	if err != nil {
		return "", err
	}
	return f.report(pipes, socket, connect, publish), nil
}

func count[T any](all iter.Seq[T]) (n int) {
	for range all {
		n++
	}
	return n
}

// each calls do for every client, by a few workers.
func (f *fleet) each(do func(i int) error) error {
	var group errgroup.Group
	var next atomic.Int64
	for range f.workers {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < len(f.conns); i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (f *fleet) connect(i int) (err error) {
	if f.conns[i], err = f.pipe.Dial(context.Background()); err != nil {
		return err
	}
	return rest.Subscribe(f.conns[i], i)
}

// publish sends a message to a client and reads it there.
func (f *fleet) publish(i int) error {
	topic, payload := rest.Filter(i), fmt.Appendf(nil, "message for %d", i)
	if err := f.broker.Publish(context.Background(), petrel.Message{Topic: topic, Payload: payload}); err != nil {
		return err
	}
	want := wire.AppendPublish(nil, topic, 0, false, 0, payload)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(f.conns[i], got); err != nil {
		return err
	}
	if string(got) != string(want) {
		return fmt.Errorf("client %d got %q instead of %q", i, got, want)
	}
	return nil
}

func (f *fleet) report(pipes, socket float64, connect, publish usage) string {
	n := float64(len(f.conns))
	t := table.New("", "per client:", "in all:")
	row := func(what string, bytes float64) {
		t.Row(what, table.Figure(bytes)+" B", table.Figure(bytes*n/(1<<20))+" MiB")
	}
	row("resident memory", connect.resident/n)
	row("of which heap, both ends of the pipe included", connect.heap/n)
	row("of which stacks", connect.stacks/n)
	row("both ends of a pipe alone, without any broker", pipes)
	row("one end of a TCP connection in the kernel, were there any", socket)
	row("resident memory that the messages added for good", max(0, publish.resident)/n)
	t.Row("goroutines", table.Figure(float64(connect.goroutines)/n), table.Count(connect.goroutines))
	t.Row("connect and subscribe: CPU, clients a second", micro(connect.cpu, n), table.Figure(n/connect.elapsed.Seconds())+"/s")
	t.Row("a message to each: CPU, messages a second", micro(publish.cpu, n), table.Figure(n/publish.elapsed.Seconds())+"/s")
	return fmt.Sprintf("%s clients in one process, %d cores, %s. CPU is that of the broker and of the clients together.\n\n%s",
		table.Count(len(f.conns)), runtime.NumCPU(), runtime.Version(), t)
}

func micro(d time.Duration, n float64) string {
	return table.Figure(float64(d)/1e3/n) + " µs"
}
