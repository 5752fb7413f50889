package pebble

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// OpenFS is Open on a file system of a test.
func OpenFS(fs vfs.FS) (*Store, error) {
	return Open("data", Options{Logger: slog.New(slog.DiscardHandler), fs: fs})
}
