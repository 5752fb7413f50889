package petrel_test

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the run if goroutines of the tests outlive them. A process with
// a role in a benchmark plays that instead.
func TestMain(m *testing.M) {
	if play, ok := benchmarkRoles[os.Getenv(roleVariable)]; ok {
		play()
		return
	}
	code := m.Run()
	leaked := goroutinesLeft()
	for end := time.Now().Add(10 * time.Second); len(leaked) > 0 && time.Now().Before(end); leaked = goroutinesLeft() {
		time.Sleep(10 * time.Millisecond)
	}
	if len(leaked) > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d goroutines leaked:\n\n%s\n", len(leaked), strings.Join(leaked, "\n\n"))
		code = 1
	}
	os.Exit(code)
}

// goroutinesLeft returns the stacks of all goroutines but the calling one and
// those that packages testing, internal/fuzz and os/signal keep.
func goroutinesLeft() []string {
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

// eventually waits until ok reports true, and fails the test if it does not in
// a time that is far longer than it takes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("still not so after 20s: %s", what)
		}
	}
}

// silent is a logger for tests that make the broker say a lot.
func silent() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
