//go:build unix

package main_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/brokertest"
)

// TestKilledBrokerKeepsItsWord kills a real process at random moments. -short
// leaves it at the fewest rounds.
func TestKilledBrokerKeepsItsWord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	config := write(t, `{"listeners": {"tcp": ["127.0.0.1:0"], "ws": []}, "limits": {"queueMessages": -1, "queueBytes": -1}}`)
	k := &brokertest.Killed{Rounds: 30, Start: func() (string, func()) {
		p := start(t, "-config", config, "-data", dir)
		return p.said(fmt.Sprintf(listening, "tcp")), func() {
			require.NoError(t, p.cmd.Process.Kill())
			_ = p.cmd.Wait()
		}
	}}
	if !testing.Short() {
		k.AtLeast = 40 * time.Second
	}
	k.Run(t)

	out, err := exec.Command(binary, "check", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "records can be read")
}
