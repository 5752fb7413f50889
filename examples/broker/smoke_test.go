//go:build unix

package main_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "petrel")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "broker.exe")
		build := exec.Command("go", "build", "-o", binary, ".")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n%s", build, err, out)
			return 1
		}
		return m.Run()
	}())
}

// process is a running broker.
type process struct {
	t   *testing.T
	cmd *exec.Cmd

	mu    sync.Mutex
	lines []string
	ended bool
	more  *sync.Cond
}

func start(t *testing.T, args ...string) *process {
	return startAs(t, exec.Command(binary, args...))
}

func startAs(t *testing.T, cmd *exec.Cmd) *process {
	p := &process{t: t, cmd: cmd}
	p.more = sync.NewCond(&p.mu)
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	go func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			p.add(lines.Text(), false)
		}
		p.add("", true)
	}()
	return p
}

func (p *process) add(line string, ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines, p.ended = append(p.lines, line), ended
	p.more.Broadcast()
}

// said waits for a line that matches and returns its first group.
func (p *process) said(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	tooLong := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer tooLong.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for next := 0; ; {
		for ; next < len(p.lines); next++ {
			if m := re.FindStringSubmatch(p.lines[next]); m != nil {
				return m[len(m)-1]
			}
		}
		if p.ended {
			require.Fail(p.t, "the broker ended without saying "+pattern, strings.Join(p.lines, "\n"))
		}
		p.more.Wait()
	}
}

// wait returns the exit status, after everything that was said has been read.
func (p *process) wait() int {
	tooLong := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer tooLong.Stop()
	p.mu.Lock()
	for !p.ended {
		p.more.Wait()
	}
	p.mu.Unlock()
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

var (
	connect = []byte("\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05smoke")
	welcome = []byte{0x20, 2, 0, 0}
	refusal = []byte{0x20, 2, 0, 5}
)

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	return conn
}

// answer connects with MQTT 3.1.1 and returns the CONNACK.
func answer(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	_, err := conn.Write(connect)
	require.NoError(t, err)
	got := make([]byte, 4)
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	return got
}

const listening = `msg=listening transport=%s address=(\S+)`

func TestServesAndShutsDown(t *testing.T) {
	signals := []os.Signal{syscall.SIGTERM, os.Interrupt}
	for _, signal := range signals {
		t.Run(signal.String(), func(t *testing.T) {
			p := start(t, "-tcp", "127.0.0.1:0", "-ws", "127.0.0.1:0")
			tcp := p.said(fmt.Sprintf(listening, "tcp"))
			ws := p.said(fmt.Sprintf(listening, "websocket"))
			p.said("from this machine only")

			conn := dial(t, tcp)
			assert.Equal(t, welcome, answer(t, conn))

			handshake := dial(t, ws)
			_, err := io.WriteString(handshake, "GET /mqtt HTTP/1.1\r\nHost: "+ws+"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: cGV0cmVscGV0cmVscGV0cg==\r\n\r\n")
			require.NoError(t, err)
			status, err := bufio.NewReader(handshake).ReadString('\n')
			require.NoError(t, err)
			assert.Contains(t, status, "101")

			require.NoError(t, p.cmd.Process.Signal(signal))
			assert.Equal(t, 0, p.wait(), "exit status")
			_, err = io.ReadAll(conn)
			assert.NoError(t, err, "the client sees an orderly end")
			_, err = net.Dial("tcp", tcp)
			assert.Error(t, err, "nobody listens any more")
		})
	}
}

func TestAnonymousNone(t *testing.T) {
	p := start(t, "-tcp", "127.0.0.1:0", "-ws", "", "-anonymous", "none")
	addr := p.said(fmt.Sprintf(listening, "tcp"))
	p.said("nobody can connect")
	assert.Equal(t, refusal, answer(t, dial(t, addr)))
}

func TestAnonymousAny(t *testing.T) {
	p := start(t, "-tcp", "127.0.0.1:0", "-ws", "", "-anonymous", "any")
	addr := p.said(fmt.Sprintf(listening, "tcp"))
	p.said("level=WARN .*from everywhere")
	assert.Equal(t, welcome, answer(t, dial(t, addr)))
}

func TestConfigurationFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "petrel.json")
	require.NoError(t, os.WriteFile(name, []byte(`{"listeners": {"tcp": ["127.0.0.1:0"], "ws": []}, "authentication": {"anonymous": "none"}}`), 0o600))
	p := start(t, "-config", name)
	assert.Equal(t, refusal, answer(t, dial(t, p.said(fmt.Sprintf(listening, "tcp")))))
}

func TestStartsThatFail(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	addr := taken.Addr().String()

	for _, tc := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"tcp port in use", []string{"-tcp", addr, "-ws", ""}, 1, addr},
		{"websocket port in use", []string{"-tcp", "127.0.0.1:0", "-ws", addr}, 1, addr},
		{"no listener", []string{"-tcp", "", "-ws", ""}, 1, "nothing to listen on"},
		{"missing file", []string{"-config", "no-such.json"}, 1, "no-such.json"},
		{"limit that cannot be", []string{"-config", write(t, `{"limits": {"receiveMaximum": 70000}}`)}, 1, "ReceiveMaximum"},
		{"unknown flag", []string{"-port", "1"}, 2, "-port"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := start(t, tc.args...)
			assert.Equal(t, tc.status, p.wait(), "exit status")
			assert.Contains(t, strings.Join(p.lines, "\n"), tc.says)
		})
	}
}

func write(t *testing.T, text string) string {
	name := filepath.Join(t.TempDir(), "petrel.json")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func TestVersion(t *testing.T) {
	out, err := exec.Command(binary, "-version").Output()
	require.NoError(t, err)
	assert.True(t, bytes.HasPrefix(out, []byte("petrel ")), "%s", out)
}
