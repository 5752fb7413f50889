package storetest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/internal/brokertest"
)

// RunKilled kills processes with a broker on a store at random moments, 30 times
// and more, while clients publish and receive: what was acknowledged must not be
// lost. With -short it is over after the fewest rounds.
//
// Each process is the program of the test, which is started again to run nothing
// but the test that has called RunKilled; that is no subtest, and does nothing else.
func RunKilled(t *testing.T, open Open) {
	if serve(t, open) {
		return
	}
	k := &brokertest.Killed{Rounds: 30}
	if !testing.Short() {
		k.AtLeast = 20 * time.Second
	}
	runKilled(t, open, k)
}

// RunKilledWithLongQueues is [RunKilled] with subscribers that are away until their queues
// are longer than what memory may have, and come back to drain them: what waits is left
// to the store and read back, before a process is killed and after.
func RunKilledWithLongQueues(t *testing.T, open Open) {
	if serve(t, open) {
		return
	}
	t.Setenv(memoryVariable, "3000")
	k := &brokertest.Killed{Rounds: 30, Behind: 500}
	processes := runKilled(t, open, k)
	reads, in := 0, 0
	for _, p := range processes {
		if n := p.count(readsBack); n > 0 {
			reads, in = reads+n, in+1
		}
	}
	t.Logf("what waits was read back %d times, in %d of %d processes", reads, in, len(processes))
	if in < k.Rounds/2 {
		t.Errorf("what waits was read back in %d of %d processes; want half of them at least", in, len(processes))
	}
}

// runKilled lets k start and kill processes, and checks what the last one leaves.
func runKilled(t *testing.T, open Open, k *brokertest.Killed) (processes []*process) {
	t.Helper()
	dir := t.TempDir()
	k.Start = func() (string, func()) {
		p := startProcess(t, dir)
		processes = append(processes, p)
		return p.address, p.kill
	}
	k.Run(t)
	s := mustOpen(t, open, dir)
	err := petrel.InspectStore(t.Context(), s, func(r petrel.StoreRecord) error { return r.Err })
	if err != nil {
		t.Fatal(err)
	}
	return processes
}

// Variables of the environment of a process that is a broker: the directory of its store,
// and Options.MemoryLimit in bytes.
const (
	directoryVariable = "PETREL_STORETEST_DIRECTORY"
	memoryVariable    = "PETREL_STORETEST_MEMORY"
)

// What a process says.
const (
	listening = "listening on "
	readsBack = "reads what waits"
)

// serve is a process with a broker until its input ends, if this is one.
func serve(t *testing.T, open Open) bool {
	dir, ok := os.LookupEnv(directoryVariable)
	if !ok {
		return false
	}
	s, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := &Faults{Store: s}
	o := petrel.Options{
		Hooks: []petrel.Hook{auth.AllowAll{}, f}, QueueMessages: -1, QueueBytes: -1, SysInterval: -1,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if limit, ok := os.LookupEnv(memoryVariable); ok {
		if o.MemoryLimit, err = strconv.ParseInt(limit, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	b, err := petrel.New(o)
	if err != nil {
		t.Fatal(err)
	}
	f.BeforeLoad(func(_, _ []byte) error {
		fmt.Fprintln(os.Stderr, readsBack)
		return nil
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = b.Serve(l) }()
	fmt.Fprintln(os.Stderr, listening+l.Addr().String())
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		if err := obey(orders.Text()); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(os.Stderr, "did "+orders.Text())
	}
	return true
}

// process is the program of the test as a broker.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	orders  io.WriteCloser
	address string

	mu   sync.Mutex
	said bytes.Buffer
}

// startProcess starts a broker with a store in a directory. It dies with the test.
func startProcess(t *testing.T, dir string) *process {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(program, "-test.run", "^"+regexp.QuoteMeta(t.Name())+"$")}
	p.cmd.Env = append(os.Environ(), directoryVariable+"="+dir)
	p.cmd.Stderr = p
	if p.orders, err = p.cmd.StdinPipe(); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	p.address = p.await(listening)
	return p
}

// Write takes what the process says.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.Write(b)
}

// count returns how often the process has said something.
func (p *process) count(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Count(p.said.String(), what)
}

// await waits until the process has said something, and returns the rest of the line.
func (p *process) await(what string) (rest string) {
	p.t.Helper()
	brokertest.Eventually(p.t, "the process says "+what, func() (found bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if _, rest, found = strings.Cut(p.said.String(), what); found {
			rest, _, found = strings.Cut(rest, "\n")
		}
		return found
	})
	return rest
}

// order tells the process to do something, and waits until it has.
func (p *process) order(what string) {
	p.t.Helper()
	if _, err := io.WriteString(p.orders, what+"\n"); err != nil {
		p.t.Fatal(err)
	}
	p.await("did " + what)
}

// kill ends the process at once. It may be called more than once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}
