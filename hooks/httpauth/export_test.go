package httpauth

import (
	"time"

	"github.com/petrelmq/petrel"
)

// Key returns what stands for the question about a CONNECT.
func (s *Service) Key(r *petrel.ConnectRequest) [32]byte {
	q, err := s.aboutConnect(r)
	if err != nil {
		panic(err)
	}
	return q.key
}

// Entries returns how many answers are kept.
func (s *Service) Entries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.allowed.byKey) + len(s.denied.byKey)
}

// Forgotten returns how many identities are known to be forgotten.
func (s *Service) Forgotten() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ledger.of)
}

// FindOut returns how many of n questions are asked of a service that was silent, when
// its pause is over and before the first of them is answered.
func FindOut(n int) (asked int) {
	now := time.Now()
	b := breaker{after: 1, pause: time.Second}
	b.end(false, silence, now)
	for range n {
		if _, ok := b.begin(now.Add(time.Second)); ok {
			asked++
		}
	}
	return asked
}
