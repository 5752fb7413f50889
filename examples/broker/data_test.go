//go:build unix

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// runBroker runs the program to its end.
func runBroker(args ...string) (output string, status int) {
	cmd := exec.Command(binary, args...)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func TestDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, "-data", dir, "-tcp", "127.0.0.1:0", "-ws", "")
	c := brokertest.NewClient(t, dial(t, p.said(fmt.Sprintf(listening, "tcp"))), packets.V5)
	c.Send(&packets.Connect{Version: packets.V5, ClientID: []byte("client"), CleanStart: true, SessionExpiryInterval: 3600, ReceiveMaximum: 10})
	brokertest.Expect[*packets.Connack](c)
	c.Subscribe(packets.AtLeastOnce, "filter/#")
	c.PublishWith(packets.Publish{Topic: []byte("kept"), Payload: []byte("payload"), QoS: 1, Retain: true})

	t.Run("has one broker at a time", func(t *testing.T) {
		out, status := runBroker("-data", dir, "-tcp", "127.0.0.1:0", "-ws", "")
		assert.Equal(t, 1, status)
		assert.Contains(t, out, "another process has it open")
		for _, command := range []string{"check", "dump", "compact"} {
			out, status := runBroker(command, dir)
			assert.Equal(t, 1, status, command)
			assert.Contains(t, out, "another process has it open", command)
		}
		out, status = runBroker("-data", dir, "-check-config")
		assert.Equal(t, 0, status, out)
	})
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, p.wait())

	t.Run("is checked", func(t *testing.T) {
		out, status := runBroker("check", dir)
		assert.Equal(t, 0, status)
		assert.Contains(t, out, "records can be read: 1 sessions, 1 subscriptions, 1 retained messages, 0 messages on their way")
	})
	t.Run("is dumped", func(t *testing.T) {
		out, status := runBroker("dump", dir)
		assert.Equal(t, 0, status)
		assert.Contains(t, out, `client "client"`)
		assert.Contains(t, out, "Filter:filter/#")
		assert.Contains(t, out, `retained: topic "kept", QoS 1, payload "payload"`)
	})
	t.Run("is compacted", func(t *testing.T) {
		out, status := runBroker("compact", dir)
		assert.Equal(t, 0, status)
		assert.Contains(t, out, "bytes before")
	})
	t.Run("is told of damage", func(t *testing.T) {
		b, err := os.ReadFile(filepath.Join(dir, "petrel.db"))
		require.NoError(t, err)
		clear(b[2*os.Getpagesize():])
		require.NoError(t, os.WriteFile(filepath.Join(dir, "petrel.db"), b, 0o600))
		out, status := runBroker("check", dir)
		assert.Equal(t, 1, status)
		assert.Contains(t, out, "page")
	})
}

func TestOfflineCommandsThatCannotBeUnderstood(t *testing.T) {
	for _, args := range [][]string{{"check"}, {"dump", "a", "b"}, {"compact", "-fast", "a"}} {
		out, status := runBroker(args...)
		assert.Equal(t, 2, status, args)
		assert.Contains(t, out, "usage: broker check|dump|compact DIR", args)
	}
	out, status := runBroker("check", filepath.Join(t.TempDir(), "missing"))
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "no such file")
}
