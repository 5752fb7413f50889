package petrel

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// decideIn has a hook that minds its context decide aside, in fake time, about a
// client that is gone at the n-th look.
func decideIn(t *testing.T, patience, takes time.Duration, goneAt int) (took, tookHook time.Duration, looks int, err error) {
	synctest.Test(t, func(t *testing.T) {
		b := &Broker{opts: Options{HookTimeout: patience}, hooks: newChain(), log: newLogger(slog.New(slog.DiscardHandler))}
		start := time.Now()
		err = b.decideAside(t.Context(), func() bool {
			looks++
			return looks == goneAt
		}, "a hook", func(ctx context.Context) error {
			select {
			case <-time.After(takes):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		took = time.Since(start)
		b.wg.Wait()
		tookHook = time.Since(start)
	})
	return took, tookHook, looks, err
}

// Who waits for a hook looks now and then whether the client is still there, and
// does not wait for the hook if it is not; nor is there anything left to decide.
func TestDecisionAboutAClientThatLeaves(t *testing.T) {
	const prompt = 2*time.Second + goneAfter/2
	took, _, looks, err := decideIn(t, time.Minute, prompt, 0)
	require.NoError(t, err)
	require.Equal(t, prompt, took)
	require.EqualValues(t, prompt/goneAfter, looks)

	took, tookHook, _, err := decideIn(t, time.Minute, time.Hour, 3)
	require.ErrorIs(t, err, errGone)
	require.Equal(t, 3*goneAfter, took)
	require.Equal(t, took, tookHook)

	took, _, _, err = decideIn(t, time.Minute, time.Hour, 0)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, time.Minute, took)
}
