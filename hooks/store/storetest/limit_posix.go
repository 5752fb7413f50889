//go:build linux || darwin

package storetest

import (
	"fmt"
	"os/signal"
	"syscall"
)

const canLimitFiles = true

// limitFiles bounds the size of each file of the process, in bytes; negative means
// no limit. A write above it fails.
func limitFiles(bytes int64) error {
	signal.Ignore(syscall.SIGXFSZ)
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		return fmt.Errorf("read the limit of files: %w", err)
	}
	l.Cur = l.Max
	if bytes >= 0 {
		l.Cur = min(l.Max, uint64(bytes))
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		return fmt.Errorf("limit files to %d bytes: %w", bytes, err)
	}
	return nil
}
