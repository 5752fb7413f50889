// Package sample keeps down how often something is written to a log, so that no
// client can fill a disk.
package sample

import (
	"sync"
	"time"
)

// Most is how many lines a second pass a [Sampler] that does not say otherwise.
const Most = 20

// Sampler lets a few lines a second pass. The zero value is ready, and it is safe for
// concurrent use.
type Sampler struct {
	Most int // lines a second; 0 means Most of the package

	mu      sync.Mutex
	second  time.Time // that is being counted
	passed  int
	leftOut int // since the last line that passed
}

// Take reports whether a line may be written, and how many were not before it.
func (s *Sampler) Take() (leftOut int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	most := s.Most
	if most == 0 {
		most = Most
	}
	if now := time.Now(); now.Sub(s.second) >= time.Second {
		s.second, s.passed = now, 0
	}
	if s.passed >= most {
		s.leftOut++
		return 0, false
	}
	s.passed++
	leftOut, s.leftOut = s.leftOut, 0
	return leftOut, true
}
