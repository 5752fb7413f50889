package brokertest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/petrelmq/petrel/packets"
)

// Main is the TestMain of a package: it runs the tests, then what ends what they
// share, and fails the run if goroutines outlive them.
func Main(m *testing.M, end ...func()) {
	code := m.Run()
	for _, f := range end {
		f()
	}
	leaked := Goroutines()
	for until := time.Now().Add(10 * time.Second); len(leaked) > 0 && time.Now().Before(until); leaked = Goroutines() {
		time.Sleep(10 * time.Millisecond)
	}
	if len(leaked) > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d goroutines leaked:\n\n%s\n", len(leaked), strings.Join(leaked, "\n\n"))
		code = 1
	}
	os.Exit(code)
}

// Goroutines returns the stacks of all goroutines but the calling one and those that
// packages testing, internal/fuzz and os/signal keep.
func Goroutines() []string {
	buf := make([]byte, 64<<10)
	for n := runtime.Stack(buf, true); ; n = runtime.Stack(buf, true) {
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var found []string
	for _, stack := range strings.Split(string(buf), "\n\n")[1:] {
		ours := strings.Contains(stack, "petrelmq/petrel")
		kept := strings.Contains(stack, "testing.") || strings.Contains(stack, "internal/fuzz") || strings.Contains(stack, "os/signal.")
		if ours || !kept {
			found = append(found, stack)
		}
	}
	return found
}

// EachVersion runs a test in both versions that most clients speak.
func EachVersion(t *testing.T, run func(t *testing.T, v packets.Version)) {
	for _, v := range []packets.Version{packets.V311, packets.V5} {
		t.Run(v.String(), func(t *testing.T) { run(t, v) })
	}
}
