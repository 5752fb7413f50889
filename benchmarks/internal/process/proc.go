//go:build linux

package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// CPU returns the processor time that a process has used, in user and in kernel
// mode, by all its threads: the sum of utime and stime of /proc/PID/stat, which
// tells it in steps of 10 ms only, while the clock of the process has nanoseconds.
func CPU(pid int) (time.Duration, error) {
	const ofAllThreads = 2 // CPUCLOCK_SCHED of the kernel
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|ofAllThreads), &used); err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(used.Nano()), nil
}

// Memory returns the resident memory of a process in bytes.
func Memory(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read resident memory: %w", err)
	}
	return parseMemory(status)
}

func parseMemory(status []byte) (int64, error) {
	for line := range bytes.Lines(status) {
		value, ok := bytes.CutPrefix(line, []byte("VmRSS:"))
		if !ok {
			continue
		}
		value, ok = bytes.CutSuffix(bytes.TrimSpace(value), []byte(" kB"))
		n, err := strconv.ParseInt(string(value), 10, 64)
		if !ok || err != nil {
			return 0, fmt.Errorf("/proc/PID/status says %q", line)
		}
		return n << 10, nil
	}
	return 0, fmt.Errorf("/proc/PID/status has no VmRSS")
}
