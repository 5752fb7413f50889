package interop

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	// The tests run a program, which the test cache does not see. These
	// imports make it notice when the broker has changed.
	_ "github.com/petrelmq/petrel"
	_ "github.com/petrelmq/petrel/hooks/auth"
	_ "github.com/petrelmq/petrel/listeners"
)

var (
	inCI   = os.Getenv("CI") != ""
	dir    string // of everything that the tests make
	binary string
	shared *broker // by all tests that do not restart it

	sharedMutual *broker // the same, for clients that have a certificate
)

func TestMain(m *testing.M) {
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		status = 1
	}
	os.Exit(status)
}

func run(m *testing.M) (status int, err error) {
	if os.Getenv("PETREL_INTEROP_TCP") != "" {
		shared = &broker{addrs: map[string]string{}}
		sharedMutual = shared
		for _, tr := range transports {
			shared.addrs[tr.name] = os.Getenv("PETREL_INTEROP_" + strings.ToUpper(tr.name))
		}
		caFile, certFile, keyFile = os.Getenv("PETREL_INTEROP_CA"), os.Getenv("PETREL_INTEROP_CERT"), os.Getenv("PETREL_INTEROP_KEY")
		return m.Run(), nil
	}
	if dir, err = os.MkdirTemp("", "petrel-interop"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "broker.exe")
	build := exec.Command("go", "build", "-o", binary, "./broker")
	build.Dir = filepath.Join("..", "examples")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	if err := certify(); err != nil {
		return 0, err
	}
	shared, sharedMutual = &broker{}, &broker{mutual: true}
	for _, b := range []*broker{shared, sharedMutual} {
		if launchErr := b.launch(); launchErr != nil {
			return 0, fmt.Errorf("%w\n%s", launchErr, b.said())
		}
		defer func() {
			if endErr := b.terminate(); endErr != nil {
				err = errors.Join(err, fmt.Errorf("%w\n%s", endErr, b.said()))
			}
		}()
	}
	return m.Run(), nil
}

// broker is a process of ../examples/broker, or one that somebody else runs.
type broker struct {
	mutual  bool              // it asks clients for a certificate
	addrs   map[string]string // HOST:PORT or a path, by the name of the transport; the same after a restart
	process *exec.Cmd
	starts  int

	mu    sync.Mutex
	log   bytes.Buffer
	grown chan struct{} // holds a value when the log has grown since launch looked
}

// startBroker starts a broker for one test.
func startBroker(t *testing.T, mutual bool) *broker {
	b := &broker{mutual: mutual}
	b.start(t)
	t.Cleanup(func() {
		b.stop(t)
		if t.Failed() {
			t.Logf("the broker says:\n%s", b.said())
		}
	})
	return b
}

func (b *broker) start(t *testing.T) { require.NoError(t, b.launch(), "%s", b.said()) }
func (b *broker) stop(t *testing.T)  { require.NoError(t, b.terminate(), "%s", b.said()) }

func (b *broker) ours() bool { return b.process != nil }

func (b *broker) addr(t *testing.T, tr transport) string {
	t.Helper()
	addr := b.addrs[tr.name]
	if addr == "" {
		skip(t, "the broker has no listener for "+tr.name)
	}
	if tr.proxy != 0 {
		return newProxy(t, tr, addr)
	}
	return addr
}

// skip ends a test that the broker of somebody else is not fit for. In CI, and of
// a broker that is ours, that is a failure.
func skip(t *testing.T, why string) {
	t.Helper()
	if inCI || shared.ours() {
		require.FailNow(t, why)
	}
	t.Skip(why)
}

// Write takes what the process has to say.
func (b *broker) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.grown <- struct{}{}:
	default:
	}
	return b.log.Write(p)
}

func (b *broker) said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

// launch starts the process and waits until it listens.
func (b *broker) launch() error {
	config, err := b.configure()
	if err != nil {
		return err
	}
	b.process = exec.Command(binary, "-config", config)
	b.process.Stderr, b.grown = b, make(chan struct{}, 1)
	b.starts++
	if err := b.process.Start(); err != nil {
		return err
	}
	tooLong := time.After(patience)
	for b.addrs = nil; b.addrs == nil; b.addrs = b.listening() {
		select {
		case <-b.grown:
		case <-tooLong:
			_ = b.process.Process.Kill()
			return errors.Join(errors.New("the broker does not listen"), b.process.Wait())
		}
	}
	return nil
}

// listening returns the addresses that the process has logged last, nil if any
// is still missing.
func (b *broker) listening() map[string]string {
	addrs := map[string]string{}
	said := b.said()
	for _, tr := range transports {
		if tr.mutual != b.mutual {
			continue
		}
		m := regexp.MustCompile(`msg=listening .*\baddress=(\S+) .*\bname=`+tr.name+`\b`).FindAllStringSubmatch(said, -1)
		if len(m) < b.starts {
			return nil
		}
		addrs[tr.name] = m[len(m)-1][1]
	}
	return addrs
}

// terminate asks the process to end, and wants it to do so in order.
func (b *broker) terminate() error {
	if err := b.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	tooLong := time.AfterFunc(patience, func() { _ = b.process.Process.Kill() })
	defer tooLong.Stop()
	return b.process.Wait()
}
