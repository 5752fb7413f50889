package interop

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	binary string
	shared *broker // by all tests that do not restart it
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
	if tcp := os.Getenv("PETREL_INTEROP_TCP"); tcp != "" {
		shared = &broker{tcp: tcp, ws: os.Getenv("PETREL_INTEROP_WS"), tls: os.Getenv("PETREL_INTEROP_TLS")}
		caFile = os.Getenv("PETREL_INTEROP_CA")
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "petrel-interop")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "broker.exe")
	build := exec.Command("go", "build", "-o", binary, "./broker")
	build.Dir = filepath.Join("..", "examples")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	if err := certify(dir); err != nil {
		return 0, err
	}
	shared = &broker{}
	if err := shared.launch(); err != nil {
		return 0, err
	}
	status = m.Run()
	if err := shared.terminate(); err != nil {
		return status, fmt.Errorf("%w\n%s", err, shared.said())
	}
	return status, nil
}

// broker is a process of ../examples/broker, or one that somebody else runs.
type broker struct {
	tcp, ws, tls string // HOST:PORT; the same after a restart
	process      *exec.Cmd

	mu  sync.Mutex
	log bytes.Buffer
}

// startBroker starts a broker for one test.
func startBroker(t *testing.T) *broker {
	b := &broker{}
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

func (b *broker) addr(t *testing.T, transport string) string {
	t.Helper()
	addr := map[string]string{"tcp": b.tcp, "ws": b.ws, "tls": b.tls}[transport]
	if addr == "" {
		t.Skip("the broker has no listener for " + transport)
	}
	return addr
}

// Write takes what the process has to say.
func (b *broker) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

func (b *broker) said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

var listening = map[string]*regexp.Regexp{
	"tcp": regexp.MustCompile(`msg=listening transport=tcp address=(\S+)`),
	"ws":  regexp.MustCompile(`msg=listening transport=websocket address=(\S+)`),
	"tls": regexp.MustCompile(`msg=listening transport=tls address=(\S+)`),
}

// launch starts the process and waits until it listens.
func (b *broker) launch() error {
	tcp, ws, tls := "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	if b.tcp != "" {
		tcp, ws, tls = b.tcp, b.ws, b.tls
	}
	config, err := configure(tls)
	if err != nil {
		return err
	}
	b.process = exec.Command(binary, "-tcp", tcp, "-ws", ws, "-config", config)
	b.process.Stderr = b
	if err := b.process.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		said := b.said()
		t, w, s := listening["tcp"].FindStringSubmatch(said), listening["ws"].FindStringSubmatch(said), listening["tls"].FindStringSubmatch(said)
		if t == nil || w == nil || s == nil {
			continue
		}
		b.tcp, b.ws, b.tls = t[1], w[1], s[1]
		if c, err := net.Dial("tcp", b.tcp); err == nil {
			return c.Close()
		}
	}
	_ = b.process.Process.Kill()
	return errors.Join(errors.New("the broker does not listen"), b.process.Wait())
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
