//go:build unix

package listeners_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/listeners"
)

// A process with this variable is an inheritor, not a test.
const inheritVariable = "LISTENERS_TEST_INHERIT"

func init() {
	if os.Getenv(inheritVariable) != "" {
		inheritor()
		os.Exit(0)
	}
}

// inheritor is this program as one that a service manager has started: it says
// what it got, and greets each client.
func inheritor() {
	list, err := listeners.Systemd()
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	again, err := listeners.Systemd()
	fmt.Println(len(list), "sockets, then", len(again), err, os.Getenv("LISTEN_FDS"))
	for _, l := range list {
		fmt.Println(l.Name, l.Addr())
	}
	for _, l := range list {
		c, err := l.Accept()
		if err != nil {
			fmt.Println("error:", err)
			return
		}
		_, _ = io.WriteString(c, "from "+l.Name)
		_ = c.Close()
		_ = l.Close()
	}
}

// activated starts an inheritor with sockets, as systemd does: the environment
// names the process itself.
func activated(t *testing.T, names string, sockets ...*os.File) *bufio.Scanner {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), inheritVariable+"=1", fmt.Sprint("LISTEN_FDS=", len(sockets)), "LISTEN_FDNAMES="+names)
	cmd.ExtraFiles = sockets
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return bufio.NewScanner(out)
}

func line(t *testing.T, s *bufio.Scanner) string {
	t.Helper()
	require.True(t, s.Scan(), "no more lines")
	return s.Text()
}

func TestSystemd(t *testing.T) {
	tcp, err := listeners.TCP("127.0.0.1:0")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "socket")
	unix, err := listeners.Unix(path, 0)
	require.NoError(t, err)
	unix.(*net.UnixListener).SetUnlinkOnClose(false)
	var files []*os.File
	for _, l := range []interface{ File() (*os.File, error) }{tcp.(*net.TCPListener), unix.(*net.UnixListener)} {
		f, err := l.File()
		require.NoError(t, err)
		files = append(files, closing(t, f))
	}
	address := tcp.Addr().String()
	require.NoError(t, tcp.Close())
	require.NoError(t, unix.Close())

	said := activated(t, "mqtt:local", files...)
	require.Equal(t, "2 sockets, then 0 <nil> ", line(t, said))
	require.Equal(t, "mqtt "+address, line(t, said))
	require.Equal(t, "local "+path, line(t, said))
	for _, door := range []struct{ network, address, greeting string }{
		{"tcp", address, "from mqtt"}, {"unix", path, "from local"},
	} {
		c, err := net.Dial(door.network, door.address)
		require.NoError(t, err)
		closing(t, c)
		bound(t, c)
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, door.greeting, string(got))
	}
	require.False(t, said.Scan(), said.Text())
	require.FileExists(t, path, "it is the manager's")
}

func TestSystemdWithoutNames(t *testing.T) {
	tcp, err := listeners.TCP("127.0.0.1:0")
	require.NoError(t, err)
	closing(t, tcp)
	f, err := tcp.(*net.TCPListener).File()
	require.NoError(t, err)
	closing(t, f)
	said := activated(t, "", f)
	require.Equal(t, "1 sockets, then 0 <nil> ", line(t, said))
	require.True(t, strings.HasPrefix(line(t, said), "unknown 127.0.0.1:"))
}

func TestSystemdRefusesOtherDescriptors(t *testing.T) {
	datagrams, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	closing(t, datagrams)
	udp, err := datagrams.(*net.UDPConn).File()
	require.NoError(t, err)
	closing(t, udp)
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	closing(t, file)
	for _, f := range []*os.File{udp, file} {
		said := activated(t, "odd", f)
		require.Contains(t, line(t, said), `error: listeners: inherited socket 0, "odd": `)
	}
}

func TestSystemdOfAnotherProcess(t *testing.T) {
	t.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()+1))
	t.Setenv("LISTEN_FDS", "1")
	list, err := listeners.Systemd()
	require.NoError(t, err)
	require.Empty(t, list)
	require.Equal(t, "1", os.Getenv("LISTEN_FDS"), "it is not this one's to take")
}

func TestSystemdRefusesOddNumbers(t *testing.T) {
	for _, n := range []string{"", "x", "-1"} {
		t.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()))
		t.Setenv("LISTEN_FDS", n)
		_, err := listeners.Systemd()
		require.ErrorContains(t, err, "LISTEN_FDS")
	}
}
