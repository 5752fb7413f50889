package httpauth

import (
	"sync"
	"time"
)

// report tells of a question that has no answer.
func (s *Service) report(q *question, err error) {
	if more, ok := s.log.take(); ok {
		s.o.Logger.Warn("httpauth: the service does not answer, which refuses", "ask", q.ask, "client", q.clientID, "error", err, "left out before", more)
	}
}

// sampler lets one line a second pass, so that no client can fill a disk.
type sampler struct {
	mu      sync.Mutex
	last    time.Time
	leftOut int // since then
}

// take reports whether a line may be written, and how many were not before it.
func (s *sampler) take() (leftOut int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.last.IsZero() && now.Sub(s.last) < time.Second {
		s.leftOut++
		return 0, false
	}
	leftOut, s.leftOut, s.last = s.leftOut, 0, now
	return leftOut, true
}
