//go:build linux

package main

import (
	"log"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/petrelmq/petrel/benchmarks/internal/process"
)

// usage is by how much something has grown.
type usage struct {
	resident, heap, stacks float64 // bytes
	goroutines             int
	cpu, elapsed           time.Duration
}

// measure tells what work takes, and what it leaves behind when garbage is
// collected. The time of the collection does not count.
func measure(work func() error) (usage, error) {
	before := hold()
	used, began := cpu(), time.Now()
	err := work()
	used, elapsed := cpu()-used, time.Since(began)
	after := hold()
	return usage{
		after.resident - before.resident, after.heap - before.heap, after.stacks - before.stacks,
		after.goroutines - before.goroutines, used, elapsed,
	}, err
}

// hold is what this process has in its hands, garbage apart.
func hold() usage {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	resident, err := process.Memory(os.Getpid())
	if err != nil {
		log.Fatal(err)
	}
	return usage{resident: float64(resident), heap: float64(m.HeapInuse), stacks: float64(m.StackInuse), goroutines: runtime.NumGoroutine()}
}

func cpu() time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		log.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// pipeMemory is how many bytes of heap the two ends of a net.Pipe take.
func pipeMemory(n int) (float64, error) {
	ends := make([]net.Conn, 0, 2*n)
	grown, err := measure(func() error {
		for range n {
			a, b := net.Pipe()
			ends = append(ends, a, b)
		}
		return nil
	})
	runtime.KeepAlive(ends)
	return grown.heap / float64(max(n, 1)), err
}
