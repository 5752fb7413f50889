//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine says what the figures were measured on, and how.
func machine(s settings) string {
	return fmt.Sprintf("%d cores (%s), Linux %s, TCP with %s, %s; medians of %d rounds of %v seconds each",
		runtime.NumCPU(), processor(), kernel(), congestion(), runtime.Version(), s.rounds, s.seconds)
}

func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range bytes.Lines(info) {
		if name, ok := bytes.CutPrefix(line, []byte("model name")); ok {
			return strings.TrimSpace(strings.TrimLeft(string(name), "\t :"))
		}
	}
	return "unknown"
}

func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}
