// Package smoke runs an example as its users do: as a program of its own.
package smoke

import (
	"bufio"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Start builds the program of the current directory, starts it, and waits until
// it logs a line that matches. It returns the groups of the match. The program
// ends with the test.
func Start(t *testing.T, pattern string, args ...string) []string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "example.exe")
	out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	program := exec.Command(binary, args...)
	stderr, err := program.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, program.Start())
	said := make(chan string, 1000)
	t.Cleanup(func() {
		_ = program.Process.Kill()
		for line := range said {
			if t.Failed() {
				t.Log(line)
			}
		}
		_ = program.Wait()
	})
	go func() {
		defer close(said)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			said <- lines.Text()
		}
	}()
	for line := range said {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(line); m != nil {
			return m[1:]
		}
		t.Log(line)
	}
	t.Fatalf("the program ended without a line that matches %q", pattern)
	return nil
}

// Connect connects a 5.0 client over TCP.
func Connect(t *testing.T, addr string, p packets.Connect) *brokertest.Client {
	t.Helper()
	c, ack := TryConnect(t, addr, p)
	require.Equal(t, packets.Success, ack.Reason)
	return c
}

// TryConnect is Connect that takes any answer.
func TryConnect(t *testing.T, addr string, p packets.Connect) (*brokertest.Client, *packets.Connack) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	require.NoError(t, err)
	p.Version, p.CleanStart = packets.V5, true
	c := brokertest.NewClient(t, conn, packets.V5)
	c.Send(&p)
	return c, brokertest.Expect[*packets.Connack](c)
}
