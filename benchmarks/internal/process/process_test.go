//go:build linux

package process

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStartSaysWhyAProgramDoesNotListen(t *testing.T) {
	address, err := FreeAddress()
	require.NoError(t, err)
	_, err = Start("/bin/sh", []string{"-c", "echo out of order >&2"}, address)
	require.ErrorContains(t, err, "it has ended")
	require.ErrorContains(t, err, "out of order")
}

func TestFreeAddressIsNotOneOfConnections(t *testing.T) {
	first, err := firstPortOfConnections()
	require.NoError(t, err)
	for range 100 {
		address, err := FreeAddress()
		require.NoError(t, err)
		require.True(t, int(address.Port()) < first || first <= lowestPort, "port %d, connections from %d", address.Port(), first)
	}
}

func TestStopEndsTheProcess(t *testing.T) {
	p, err := Start("/bin/sleep", []string{"60"})
	require.NoError(t, err)
	p.Stop()
	_, err = CPU(p.PID())
	require.Error(t, err, "the process is still there")
}

func TestOnlyTheEndOfWhatAProcessSaysIsKept(t *testing.T) {
	var s said
	for range 1000 {
		_, _ = s.Write([]byte(strings.Repeat("x", 99) + "\n"))
	}
	_, _ = s.Write([]byte("the end"))
	require.LessOrEqual(t, len(s.String()), 4<<10)
	require.True(t, strings.HasSuffix(s.String(), "the end"))
}
