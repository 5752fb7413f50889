package httpauth

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/petrelmq/petrel/packets"
)

// flight is a question that the service has, or that waits for its turn. Who asked
// first takes it there, on its own goroutine; who asks the same waits for what
// comes of it.
type flight struct {
	asked uint64        // when, as the ledger counts
	done  chan struct{} // closed when the rest is settled

	verdict   *verdict
	err       error
	abandoned bool // who took it there is gone: there is no answer
}

var errPanicked = errors.New("httpauth: the HTTP client panicked")

// ask returns the decision of the service, from the cache if it is there. An error
// means that there is none.
func (s *Service) ask(ctx context.Context, q *question) (*verdict, error) {
	if v := s.known(q); v != nil {
		return v, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	for {
		v, f, leads := s.board(q)
		switch {
		case v != nil:
			return v, nil
		case leads:
			return s.lead(ctx, q, f)
		}
		s.count.shared.Add(1)
		select {
		case <-f.done:
			if !f.abandoned {
				return f.verdict, f.err
			}
		case <-ctx.Done():
			return nil, unavailable(ctx.Err())
		}
	}
}

// known returns what the cache has.
func (s *Service) known(q *question) *verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.knownLocked(q)
}

func (s *Service) knownLocked(q *question) *verdict {
	now := time.Now()
	for _, t := range []*table{s.denied, s.allowed} {
		if v := t.get(q.key, now); v != nil && !s.ledger.void(v.asked, q.who, v.owner(q.who)) {
			s.count.cached.Add(1)
			return v
		}
	}
	return nil
}

// board returns what the cache has by now, else the flight of the question: a new
// one, which the caller has to lead, unless there is one that was not forgotten.
func (s *Service) board(q *question) (v *verdict, f *flight, leads bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.knownLocked(q); v != nil {
		return v, nil, false
	}
	if f := s.flights[q.key]; f != nil && !s.ledger.void(f.asked, q.who) {
		return nil, f, false
	}
	f = &flight{asked: s.ledger.now.Load(), done: make(chan struct{})}
	s.flights[q.key] = f
	return nil, f, true
}

// lead takes a question to the service.
func (s *Service) lead(ctx context.Context, q *question, f *flight) (*verdict, error) {
	f.err = unavailable(errPanicked)
	defer s.land(q, f)
	f.verdict, f.err = s.inTurn(ctx, q)
	if f.err == nil {
		f.verdict.asked = f.asked
		return f.verdict, nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		f.abandoned = true // the client is gone, and nobody waits for this
		return nil, f.err
	}
	if f.err == errPaused {
		return nil, f.err // which was told of when it began
	}
	s.count.failures.Add(1)
	s.report(q, f.err)
	return nil, f.err
}

// land keeps the answer and gives it to who waits.
func (s *Service) land(q *question, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flights[q.key] == f {
		delete(s.flights, q.key)
	}
	if v := f.verdict; f.err == nil && v.until.After(time.Now()) && !s.ledger.void(v.asked, q.who, v.owner(q.who)) {
		t := s.allowed
		if v.code != packets.Success {
			t = s.denied
		}
		t.put(q.key, v)
	}
	close(f.done)
}

// inTurn asks the service when it is the question's turn, unless it is paused by then.
func (s *Service) inTurn(ctx context.Context, q *question) (*verdict, error) {
	if s.breaker.paused(time.Now()) {
		return nil, s.pausing()
	}
	if err := s.takeTurn(ctx); err != nil {
		return nil, err
	}
	defer func() { <-s.turns }()
	return s.guard(ctx, q)
}

// request asks the service.
func (s *Service) request(ctx context.Context, q *question) (*verdict, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.URL, bytes.NewReader(q.body))
	if err != nil {
		return nil, unavailable(plain(err))
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	if token := *s.token.Load(); len(token) > 0 {
		r.Header.Set("Authorization", "Bearer "+string(token))
	}
	s.count.requests.Add(1)
	answer, err := s.client.Do(r)
	if err != nil {
		return nil, unavailable(plain(err))
	}
	defer answer.Body.Close()
	v, err := s.decide(q, answer)
	if err != nil {
		return nil, unavailable(err)
	}
	return v, nil
}

// takeTurn waits until the service has room for a question.
func (s *Service) takeTurn(ctx context.Context) error {
	select {
	case s.turns <- struct{}{}:
		return nil
	default:
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > int64(s.o.MaximumWaiting) {
		return &packets.Error{Code: packets.ServerBusy, Detail: "httpauth: too many questions wait for the service"}
	}
	select {
	case s.turns <- struct{}{}:
		if ctx.Err() == nil {
			return nil
		}
		<-s.turns
	case <-ctx.Done():
	}
	return &packets.Error{Code: packets.ServerBusy, Detail: "httpauth: no turn to ask the service", Err: ctx.Err()}
}

// unavailable refuses because there is no decision.
func unavailable(err error) error {
	return &packets.Error{Code: packets.ServerUnavailable, Detail: "httpauth: ask the service", Err: err}
}

var errNoHTTP = errors.New("httpauth: it does not speak HTTP as it should, or its client fails")

// plain says why there is no answer, in words that have nothing in them of the URL,
// the question, or what came back.
func plain(err error) error {
	for _, known := range []error{context.Canceled, context.DeadlineExceeded, http.ErrSchemeMismatch, io.ErrUnexpectedEOF, io.EOF} {
		if errors.Is(err, known) {
			return known
		}
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return context.DeadlineExceeded
	}
	return errNoHTTP
}
