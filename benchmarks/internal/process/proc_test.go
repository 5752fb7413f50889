//go:build linux

package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fromStat reads utime and stime, in units of 10 ms.
func fromStat(t *testing.T, pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(string(field))
		require.NoError(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func TestCPUIsWhatProcSays(t *testing.T) {
	p, err := Start("/bin/sh", []string{"-c", "while :; do :; done"})
	require.NoError(t, err)
	defer p.Stop()
	var used time.Duration
	for used < 100*time.Millisecond {
		used, err = CPU(p.PID())
		require.NoError(t, err)
	}
	before, err := CPU(p.PID())
	require.NoError(t, err)
	said := fromStat(t, p.PID())
	after, err := CPU(p.PID())
	require.NoError(t, err)
	// Both parts are rounded down.
	require.GreaterOrEqual(t, said, before-20*time.Millisecond)
	require.LessOrEqual(t, said, after)
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

func TestProcessThatIsNotThere(t *testing.T) {
	p, err := Start("/bin/true", nil)
	require.NoError(t, err)
	p.Stop()
	_, err = CPU(p.PID())
	require.Error(t, err)
	_, err = Memory(p.PID())
	require.Error(t, err)
}

func TestMemoryOfThisProcess(t *testing.T) {
	memory, err := Memory(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, memory, int64(1<<20))
}
