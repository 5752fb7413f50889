package petrel_test

import (
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
)

// TestMain fails the run if goroutines of the tests outlive them. A process with
// a role in a benchmark plays that instead.
func TestMain(m *testing.M) {
	if play, ok := benchmarkRoles[os.Getenv(roleVariable)]; ok {
		play()
		return
	}
	brokertest.Main(m, func() {
		if !petrel.SessionsAtRestShareNothing() {
			panic("a session has changed what all sessions at rest share")
		}
	})
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
