package petrel

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/petrelmq/petrel/internal/sample"
)

// logger is the logger of the host. What a client can cause with each message
// is sampled, so that no client can fill a disk.
type logger struct {
	*slog.Logger
	often *sample.Sampler
}

func newLogger(l *slog.Logger) logger { return logger{l, new(sample.Sampler)} }

// panicked tells of a panic that was contained.
func (l logger) panicked(where string, value any, attrs ...any) {
	if more, ok := l.often.Take(); ok {
		l.Error("petrel: panic in "+where, append(attrs, "panic", value, "stack", string(debug.Stack()), "left out before", more)...)
	}
}

// hookFailed tells of a decision that refuses because it could not be made.
func (l logger) hookFailed(hook any, err error) {
	if more, ok := l.often.Take(); ok {
		l.Warn("petrel: a hook failed, which refuses", "hook", fmt.Sprintf("%T", hook), "error", err, "left out before", more)
	}
}
