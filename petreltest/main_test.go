package petreltest_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"

	"github.com/petrelmq/petrel/internal/brokertest"
)

// TestMain ends the broker of the examples, and fails the run if goroutines
// outlive their tests.
func TestMain(m *testing.M) {
	brokertest.Main(m, exampleTest.end)
}

// fakeTest is a test whose failures are looked at, and fail nobody.
type fakeTest struct {
	testing.TB // nil: what is not below is not to be called

	mu       sync.Mutex
	failures []string
	log      bytes.Buffer
	ended    bool
	cleanups []func()
}

// run runs f like a test, up to its end, and returns the failures.
func run(f func(t testing.TB)) []string {
	t := new(fakeTest)
	t.run(func() { f(t) })
	t.end()
	return t.failures
}

// run calls f on a goroutine that Fatal may end.
func (t *fakeTest) run(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func (t *fakeTest) end() {
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.run(t.cleanups[i])
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
}

func (t *fakeTest) Helper()           {}
func (t *fakeTest) Cleanup(f func())  { t.cleanups = append(t.cleanups, f) }
func (t *fakeTest) Output() io.Writer { return t }

func (t *fakeTest) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		panic("output after the end of a test")
	}
	return t.log.Write(p)
}

func (t *fakeTest) Error(args ...any) { t.Errorf("%s", fmt.Sprint(args...)) }

func (t *fakeTest) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, fmt.Sprintf(format, args...))
}

func (t *fakeTest) Fatal(args ...any) {
	t.Error(args...)
	runtime.Goexit()
}

func (t *fakeTest) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}
