package httpauth

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/petrelmq/petrel/packets"
)

// breaker keeps questions from a service that is silent. Each of them would wait
// for the whole timeout and hold a turn for so long, and with as many as there are
// turns nobody could connect, also for what the service still knows.
type breaker struct {
	after int           // questions in a row; negative means never
	pause time.Duration // how long

	mu      sync.Mutex
	silent  int       // questions in a row that were not answered
	until   time.Time // nothing is asked before; zero while it is not paused
	probing bool      // one question finds out whether it answers again
}

// outcome is what became of a question that the service was asked.
type outcome byte

const (
	unknown  outcome = iota // nobody waited for it
	answered                // with whatever
	silence                 // no answer in time, or no connection
)

// outcomeOf is what an error of a request says about the service. An answer that is
// broken or cut off is one all the same: a client could know how to cause it, and
// must not be able to lock out others.
func outcomeOf(err error) outcome {
	if errors.Is(err, context.Canceled) {
		return unknown
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return silence
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return silence
	}
	return answered
}

// begin reports whether a question may be asked now, and whether it is the one that
// finds out. Each that may has to end.
func (b *breaker) begin(now time.Time) (probe, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.until.IsZero():
		return false, true
	case b.probing || now.Before(b.until):
		return false, false
	}
	b.probing = true
	return true, true
}

// paused reports whether begin would refuse.
func (b *breaker) paused(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.until.IsZero() && (b.probing || now.Before(b.until))
}

// end notes what became of a question, and reports whether that began or ended the
// pause.
func (b *breaker) end(probe bool, o outcome, now time.Time) (began, ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
	switch o {
	case answered:
		ended = !b.until.IsZero()
		b.silent, b.until = 0, time.Time{}
	case silence:
		b.silent++
		began = b.until.IsZero() && b.after >= 0 && b.silent >= b.after
		if began || probe && !b.until.IsZero() {
			b.until = now.Add(b.pause)
		}
	}
	return began, ended
}

var errPaused = &packets.Error{Code: packets.ServerUnavailable, Detail: "httpauth: the service is not asked for now, as it did not answer before"}

// pausing refuses a question that is not asked.
func (s *Service) pausing() error {
	s.count.paused.Add(1)
	return errPaused
}

// guard asks by way of the breaker.
func (s *Service) guard(ctx context.Context, q *question) (v *verdict, err error) {
	probe, ok := s.breaker.begin(time.Now())
	if !ok {
		return nil, s.pausing()
	}
	o := unknown // of a client that panics
	defer func() {
		switch began, ended := s.breaker.end(probe, o, time.Now()); {
		case began:
			s.o.Logger.Warn("httpauth: the service does not answer and is not asked for a while", "questions", s.o.PauseAfter, "for", s.o.PauseFor, "error", err)
			s.tell(false, err)
		case ended:
			s.o.Logger.Info("httpauth: the service answers again")
			s.tell(true, nil)
		}
	}()
	v, err = s.request(ctx, q)
	o = outcomeOf(err)
	return v, err
}

func (s *Service) tell(available bool, err error) {
	if s.o.Availability != nil {
		s.o.Availability(available, err)
	}
}
