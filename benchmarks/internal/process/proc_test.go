//go:build linux

package process

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseCPU(t *testing.T) {
	const stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 900 0 0 0 250 31 0 0 20 0 7 0 1 2 3\n"
	got, err := parseCPU([]byte(stat))
	require.NoError(t, err)
	require.Equal(t, 2810*time.Millisecond, got, "a name may have spaces and parentheses")

	for name, stat := range map[string]string{
		"nothing":      "",
		"no name":      "42 S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
		"too short":    "42 (a) S 1 42 42 0 -1 4194560 900 0 0 0 250",
		"not a number": "42 (a) S 1 42 42 0 -1 4194560 900 0 0 0 250 x 0 0",
	} {
		_, err := parseCPU([]byte(stat))
		require.Error(t, err, name)
	}
}

func TestParseMemory(t *testing.T) {
	got, err := parseMemory([]byte("Name:\tpetrel\nVmHWM:\t  99999 kB\nVmRSS:\t   1234 kB\nThreads:\t7\n"))
	require.NoError(t, err)
	require.EqualValues(t, 1234<<10, got)

	for name, status := range map[string]string{
		"nothing":      "",
		"no such line": "VmHWM:\t99999 kB\n",
		"other unit":   "VmRSS:\t1234 MB\n",
		"not a number": "VmRSS:\tmuch kB\n",
	} {
		_, err := parseMemory([]byte(status))
		require.Error(t, err, name)
	}
}

func TestThisProcessUsesProcessorAndMemory(t *testing.T) {
	memory, err := Memory(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, memory, int64(1<<20))

	before, err := CPU(os.Getpid())
	require.NoError(t, err)
	after := before
	for sum := 0; after < before+2*clockTick; sum++ {
		after, err = CPU(os.Getpid())
		require.NoError(t, err)
	}
	require.Greater(t, after, before)

	_, err = CPU(-1)
	require.Error(t, err)
	_, err = Memory(-1)
	require.Error(t, err)
}
