package httpauth_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/httpauth"
	"github.com/petrelmq/petrel/packets"
)

// slow is a site that answers when it is told to, or when nobody wants to know
// any more.
type slow struct {
	site
	answers chan answer
	open    atomic.Int64 // questions that it has now
	most    atomic.Int64
}

func newSlow() *slow {
	s := &slow{answers: make(chan answer)}
	s.decide = func(ctx context.Context, _ question) answer {
		defer s.open.Add(-1)
		if n := s.open.Add(1); n > s.most.Load() {
			s.most.Store(n)
		}
		select {
		case a := <-s.answers:
			return a
		case <-ctx.Done():
			return deny // which nobody gets
		}
	}
	return s
}

// user is the CONNECT of one of many.
func user(i int) *petrel.ConnectRequest {
	r := alice()
	r.UserName = fmt.Sprintf("user %d", i)
	return r
}

// inBubble runs a test with a slow site in fake time.
func inBubble(t *testing.T, o httpauth.Options, test func(t *testing.T, site *slow, s *httpauth.Service)) {
	synctest.Test(t, func(t *testing.T) {
		site := newSlow()
		test(t, site, newService(t, &site.site, o))
	})
}

// asking asks beside the test. What comes of it is in the channel.
func asking(ctx context.Context, s *httpauth.Service, r *petrel.ConnectRequest) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.Authenticator().Authenticate(ctx, r) }()
	synctest.Wait()
	return done
}

func TestSameQuestionIsAskedOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		says answer
		want packets.ReasonCode
	}{
		{"allowed", answer{cacheControl: "no-store"}, packets.Success},
		{"denied", deny, packets.NotAuthorized},
		{"not answered", answer{status: 500}, packets.ServerUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, httpauth.Options{}, func(t *testing.T, site *slow, s *httpauth.Service) {
				var all []<-chan error
				for range 100 {
					all = append(all, asking(t.Context(), s, alice()))
				}
				other := asking(t.Context(), s, user(1))
				require.EqualValues(t, 2, site.open.Load())
				site.answers <- tt.says
				site.answers <- tt.says
				for _, done := range append(all, other) {
					require.Equal(t, tt.want, packets.ReasonOf(<-done))
				}
				require.Equal(t, 2, site.count())
				require.Equal(t, uint64(99), s.Stats().Shared)
			})
		})
	}
}

// Who waits for the answer to the question of another does not suffer from the end
// of that other.
func TestWhoAsksFirstLeaves(t *testing.T) {
	inBubble(t, httpauth.Options{}, func(t *testing.T, site *slow, s *httpauth.Service) {
		ctx, leave := context.WithCancel(t.Context())
		first := asking(ctx, s, alice())
		var others []<-chan error
		for range 10 {
			others = append(others, asking(t.Context(), s, alice()))
		}
		leave()
		require.Error(t, <-first)
		synctest.Wait()
		require.EqualValues(t, 1, site.open.Load(), "one of the others asks again")
		site.answers <- allow
		for _, done := range others {
			require.NoError(t, <-done)
		}
		require.Equal(t, 2, site.count())
		require.Zero(t, s.Stats().Failures, "nobody was refused")
	})
}

func TestWhoWaitsMayLeave(t *testing.T) {
	inBubble(t, httpauth.Options{}, func(t *testing.T, site *slow, s *httpauth.Service) {
		first := asking(t.Context(), s, alice())
		ctx, leave := context.WithCancel(t.Context())
		second := asking(ctx, s, alice())
		leave()
		require.Error(t, <-second)
		site.answers <- allow
		require.NoError(t, <-first)
	})
}

func TestTimeout(t *testing.T) {
	inBubble(t, httpauth.Options{Timeout: 700 * time.Millisecond}, func(t *testing.T, _ *slow, s *httpauth.Service) {
		start := time.Now()
		first := asking(t.Context(), s, alice())
		time.Sleep(300 * time.Millisecond)
		second := asking(t.Context(), s, alice())
		for _, done := range []<-chan error{first, second} {
			err := <-done
			require.Equal(t, packets.ServerUnavailable, packets.ReasonOf(err))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, 700*time.Millisecond, time.Since(start), "the second has the answer of the first")
		}
	})
}

// The context of the caller may end before the timeout of the service.
func TestHookTimeout(t *testing.T) {
	inBubble(t, httpauth.Options{}, func(t *testing.T, _ *slow, s *httpauth.Service) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, <-asking(ctx, s, alice()), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestConcurrencyIsBounded(t *testing.T) {
	o := httpauth.Options{MaximumConcurrent: 2, MaximumWaiting: 3, Timeout: time.Second}
	inBubble(t, o, func(t *testing.T, site *slow, s *httpauth.Service) {
		start := time.Now()
		var all []<-chan error
		for i := range 5 {
			all = append(all, asking(t.Context(), s, user(i)))
		}
		require.EqualValues(t, 2, site.open.Load())

		err := <-asking(t.Context(), s, user(5)) // at once
		require.Equal(t, packets.ServerBusy, packets.ReasonOf(err), "no room to wait")
		require.ErrorContains(t, err, "too many questions wait")

		site.answers <- allow
		site.answers <- allow
		synctest.Wait()
		require.EqualValues(t, 2, site.open.Load(), "it is the turn of two others")
		hurry, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		err = <-asking(hurry, s, user(5))
		require.Equal(t, packets.ServerBusy, packets.ReasonOf(err), "no turn in time")
		require.ErrorContains(t, err, "no turn to ask")

		answered := 0
		for _, done := range all {
			if err := <-done; err == nil {
				answered++
			} else {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
		}
		require.Equal(t, 2, answered)
		require.Equal(t, time.Second, time.Since(start), "nobody waits longer than the timeout")
		require.EqualValues(t, 2, site.most.Load())

		again := asking(t.Context(), s, user(6))
		site.answers <- allow
		require.NoError(t, <-again, "all turns are given back")
	})
}

// A service that is down is told of, but not with a line for each client.
func TestFailuresAreLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logged)
		s := newService(t, &site{decide: by(map[string]answer{"connect": {status: 503}})}, httpauth.Options{Logger: log.logger()})
		for i := range 1000 {
			connects(s, user(i))
		}
		time.Sleep(time.Second)
		connects(s, user(0))
		lines := log.lines()
		require.Len(t, lines, 2)
		assert.Contains(t, lines[0], `ask=connect client=c error="mqtt: server unavailable: httpauth: ask the service: httpauth: the status of the answer is 503"`)
		assert.Contains(t, lines[1], `"left out before"=999`)
		assert.NotContains(t, log.String(), "user 0", "user names may be secrets")
	})
}

func TestManyAtOnce(t *testing.T) {
	site := &site{decide: func(_ context.Context, q question) answer {
		if q["userName"] == "user 3" {
			return deny
		}
		return answer{cacheControl: "max-age=1"}
	}}
	s := newService(t, site, httpauth.Options{MaximumConcurrent: 4, CacheEntries: 5, Timeout: time.Minute})
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 500 {
				n := (i + worker) % 10
				want := packets.Success
				if n == 3 {
					want = packets.NotAuthorized
				}
				assert.Equal(t, want, connects(s, user(n)))
				switch i % 50 {
				case 1:
					s.Forget(fmt.Sprintf("user %d", n))
				case 2:
					s.ForgetAll()
				}
			}
		})
	}
	all.Wait()
	stats := s.Stats()
	assert.EqualValues(t, 4000, stats.Requests+stats.Cached+stats.Shared)
	assert.EqualValues(t, site.count(), stats.Requests)
	assert.Zero(t, stats.Failures)
}
