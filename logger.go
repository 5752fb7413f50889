package petrel

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// logger is the logger of the host. What a client can cause with each message
// is sampled, so that no client can fill a disk.
type logger struct {
	*slog.Logger
	often *sampler
}

func newLogger(l *slog.Logger) logger { return logger{l, new(sampler)} }

// panicked tells of a panic that was contained.
func (l logger) panicked(where string, value any, attrs ...any) {
	if more, ok := l.often.take(); ok {
		l.Error("petrel: panic in "+where, append(attrs, "panic", value, "stack", string(debug.Stack()), "left out before", more)...)
	}
}

// hookFailed tells of a decision that refuses because it could not be made.
func (l logger) hookFailed(hook any, err error) {
	if more, ok := l.often.take(); ok {
		l.Warn("petrel: a hook failed, which refuses", "hook", fmt.Sprintf("%T", hook), "error", err, "left out before", more)
	}
}

// sampler lets a few lines a second pass.
type sampler struct {
	mu      sync.Mutex
	second  time.Time // that is being counted
	passed  int
	leftOut int // since the last line that passed
}

const linesPerSecond = 20

// take reports whether a line may be written, and how many were not before it.
func (s *sampler) take() (leftOut int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.second) >= time.Second {
		s.second, s.passed = now, 0
	}
	if s.passed >= linesPerSecond {
		s.leftOut++
		return 0, false
	}
	s.passed++
	leftOut, s.leftOut = s.leftOut, 0
	return leftOut, true
}
