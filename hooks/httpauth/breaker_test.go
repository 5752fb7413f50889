package httpauth_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/hooks/httpauth"
	"github.com/petrelmq/petrel/packets"
)

// heard is what a host was told of a service.
type heard struct{ said []string }

func (h *heard) note(available bool, err error) {
	h.said = append(h.said, fmt.Sprintf("%v, %v", available, err != nil))
}

func (h *heard) take() []string {
	said := h.said
	h.said = nil
	return said
}

// A service that hangs holds up the first few; after that everybody is refused at
// once, until one question finds that it answers.
func TestServiceThatHangsIsNotAsked(t *testing.T) {
	h, log := new(heard), new(logged)
	o := httpauth.Options{PauseAfter: 3, PauseFor: 10 * time.Second, Timeout: time.Second, MaximumConcurrent: 2, Logger: log.logger(), Availability: h.note}
	inBubble(t, o, func(t *testing.T, site *slow, s *httpauth.Service) {
		known := asking(t.Context(), s, user(0))
		site.answers <- allow
		require.NoError(t, <-known)

		start := time.Now()
		var all []<-chan error
		for i := 1; i <= 20; i++ {
			all = append(all, asking(t.Context(), s, user(i)))
		}
		for _, done := range all {
			require.Error(t, <-done)
		}
		require.LessOrEqual(t, time.Since(start), 2*time.Second, "of 20 questions, two at a time")
		late := asking(t.Context(), s, user(21))
		require.Equal(t, packets.ServerUnavailable, packets.ReasonOf(<-late))
		require.LessOrEqual(t, site.count(), 1+4, "three in a row, and the one beside the third")
		require.Equal(t, []string{"false, true"}, h.take())

		start = time.Now()
		err := <-asking(t.Context(), s, user(30))
		require.Equal(t, packets.ServerUnavailable, packets.ReasonOf(err))
		require.ErrorContains(t, err, "not asked for now")
		require.NoError(t, <-asking(t.Context(), s, user(0)), "what is known holds")
		require.Zero(t, time.Since(start))
		require.Zero(t, site.count())
		require.Positive(t, s.Stats().Paused)

		time.Sleep(10 * time.Second)
		probe := asking(t.Context(), s, user(31))
		require.EqualValues(t, 1, site.open.Load(), "one finds out")
		require.ErrorContains(t, <-asking(t.Context(), s, user(32)), "not asked for now")
		require.Error(t, <-probe)
		require.ErrorContains(t, <-asking(t.Context(), s, user(33)), "not asked for now")
		require.Empty(t, h.take(), "nothing has changed")

		time.Sleep(10 * time.Second)
		probe = asking(t.Context(), s, user(31))
		site.answers <- deny
		require.Equal(t, packets.NotAuthorized, packets.ReasonOf(<-probe))
		require.Equal(t, []string{"true, false"}, h.take())
		next := asking(t.Context(), s, user(32))
		site.answers <- allow
		require.NoError(t, <-next)
		assert.Contains(t, log.String(), `msg="httpauth: the service does not answer and is not asked for a while" questions=3 for=10s error=`)
		assert.Contains(t, log.String(), `msg="httpauth: the service answers again"`)
		assert.NotContains(t, log.String(), password)
	})
}

// Whoever finds out may leave before the answer; then another does.
func TestWhoFindsOutLeaves(t *testing.T) {
	inBubble(t, httpauth.Options{PauseAfter: 1, PauseFor: time.Second, Timeout: time.Second}, func(t *testing.T, site *slow, s *httpauth.Service) {
		require.Error(t, <-asking(t.Context(), s, user(1)))
		time.Sleep(time.Second)
		ctx, leave := context.WithCancel(t.Context())
		probe := asking(ctx, s, user(1))
		leave()
		require.Error(t, <-probe)
		next := asking(t.Context(), s, user(2))
		require.EqualValues(t, 1, site.open.Load())
		site.answers <- allow
		require.NoError(t, <-next)
	})
}

// Nobody waits for whoever finds out, even where there is one turn for all.
func TestOneFindsOut(t *testing.T) {
	require.Equal(t, 1, httpauth.FindOut(5))
	o := httpauth.Options{PauseAfter: 1, PauseFor: time.Second, Timeout: time.Second, MaximumConcurrent: 1}
	inBubble(t, o, func(t *testing.T, site *slow, s *httpauth.Service) {
		require.Error(t, <-asking(t.Context(), s, user(1)))
		time.Sleep(time.Second)
		probe := asking(t.Context(), s, user(1))
		start := time.Now()
		require.ErrorContains(t, <-asking(t.Context(), s, user(2)), "not asked for now")
		require.Zero(t, time.Since(start))
		site.answers <- allow
		require.NoError(t, <-probe)
	})
}

// What a client can cause by what it says does not lock out the others: only
// silence counts, and only in a row.
func TestWhatDoesNotPause(t *testing.T) {
	broken := map[string]answer{
		"an error": {status: 500}, "an answer without sense": says("?"), "a denial": deny,
	}
	for name, a := range broken {
		t.Run(name, func(t *testing.T) {
			s := newService(t, &site{decide: by(map[string]answer{"connect": a})}, httpauth.Options{PauseAfter: 1, DenyFor: -1})
			for i := range 10 {
				connects(s, user(i))
			}
			require.EqualValues(t, 10, s.Stats().Requests)
		})
	}
	t.Run("a connection that breaks off", func(t *testing.T) {
		transport := roundTripper(func(*http.Request) (*http.Response, error) { return nil, http.ErrServerClosed })
		s := newService(t, nil, httpauth.Options{PauseAfter: 1, Client: &http.Client{Transport: transport}})
		for i := range 10 {
			connects(s, user(i))
		}
		require.EqualValues(t, 10, s.Stats().Requests)
	})
	for name, after := range map[string]int{"not in a row": 2, "not asked for": -1} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, httpauth.Options{PauseAfter: after, Timeout: time.Second}, func(t *testing.T, site *slow, s *httpauth.Service) {
				for i := range 5 {
					require.ErrorIs(t, <-asking(t.Context(), s, user(i)), context.DeadlineExceeded)
					if after > 0 {
						good := asking(t.Context(), s, user(100+i))
						site.answers <- allow
						require.NoError(t, <-good)
					}
				}
				require.Zero(t, s.Stats().Paused)
			})
		})
	}
}

// A service that is gone is silent too.
func TestServiceThatIsGoneIsNotAsked(t *testing.T) {
	s := newService(t, nil, httpauth.Options{URL: nowhere(t), PauseAfter: 2})
	for i := range 10 {
		require.Equal(t, packets.ServerUnavailable, connects(s, user(i)))
	}
	require.EqualValues(t, 2, s.Stats().Requests)
	require.EqualValues(t, 8, s.Stats().Paused)
}

// An answer that was on its way when the pause began ends it.
func TestLateAnswerEndsThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := make(chan struct{})
		h := new(heard)
		site := &site{decide: func(ctx context.Context, q question) answer {
			if q["userName"] != "user 0" {
				<-ctx.Done()
				return deny
			}
			<-late
			return allow
		}}
		s := newService(t, site, httpauth.Options{PauseAfter: 1, PauseFor: time.Minute, Timeout: time.Second, Availability: h.note})
		silent := asking(t.Context(), s, user(1))
		time.Sleep(time.Second / 2)
		answered := asking(t.Context(), s, user(0))
		require.Error(t, <-silent)
		require.ErrorContains(t, <-asking(t.Context(), s, user(2)), "not asked for now")
		close(late)
		require.NoError(t, <-answered)
		require.Equal(t, []string{"false, true", "true, false"}, h.take())
		require.ErrorIs(t, <-asking(t.Context(), s, user(2)), context.DeadlineExceeded)
	})
}
