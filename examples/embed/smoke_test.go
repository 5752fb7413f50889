package main_test

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestServes runs the program with nothing changed but its port, which may be
// taken on the machine of the test.
func TestServes(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { free.Close() })
	addr := free.Addr().String()

	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(source), "127.0.0.1:1883"))
	dir := t.TempDir()
	changed := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(changed, []byte(strings.ReplaceAll(string(source), "127.0.0.1:1883", addr)), 0o600))
	original, err := filepath.Abs("main.go")
	require.NoError(t, err)
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	require.NoError(t, err)
	overlayFile := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlayFile, overlay, 0o600))

	binary := filepath.Join(dir, "embed.exe")
	out, err := exec.Command("go", "build", "-overlay", overlayFile, "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)

	require.NoError(t, free.Close()) // not before: to build takes long enough for another test to be given the port
	program := exec.Command(binary)
	var said strings.Builder
	program.Stderr = &said
	require.NoError(t, program.Start())
	t.Cleanup(func() {
		_ = program.Process.Kill()
		_ = program.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})

	var conn net.Conn
	require.Eventually(t, func() bool {
		conn, err = net.Dial("tcp", addr)
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, "\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05smoke")
	require.NoError(t, err)
	connack := make([]byte, 4)
	_, err = io.ReadFull(conn, connack)
	require.NoError(t, err)
	require.Equal(t, []byte{0x20, 2, 0, 0}, connack)
}
