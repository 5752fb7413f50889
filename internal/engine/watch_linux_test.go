package engine

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// taken is the epoll descriptor of a loop whose next goroutine ends at once.
type taken struct {
	syscall.RawConn
	at chan time.Time
}

func (c taken) Read(func(uintptr) bool) error {
	c.at <- time.Now()
	return errors.New("closed")
}

// watched is a loop without sockets under a watch. Whoever takes it over tells when.
func watched(t *testing.T) (*loop, *watch, <-chan time.Time) {
	ls := new(loops)
	at := make(chan time.Time, 1)
	l := &loop{loops: ls, raw: taken{at: at}}
	ls.all = []*loop{l}
	ls.watch = newWatch(ls)
	t.Cleanup(func() {
		close(ls.watch.stop)
		ls.wg.Wait()
	})
	return l, ls.watch, at
}

// begin is the beginning of work on a socket, as [loop.serve] has it.
func begin(l *loop, w *watch) time.Time {
	l.work.Add(1)
	w.wake()
	return time.Now()
}

func TestHowLongOneSocketMayKeepALoop(t *testing.T) {
	message := func(l *loop, w *watch) {
		begin(l, w)
		l.work.Add(1)
	}
	for name, c := range map[string]struct {
		before func(t *testing.T, l *loop, w *watch)
		most   time.Duration
	}{
		"after a pause": {func(t *testing.T, _ *loop, w *watch) {
			time.Sleep(time.Second)
			synctest.Wait()
			require.True(t, w.asleep.Load(), "there has been nothing to see")
		}, 2 * time.Millisecond},
		"after single messages": {func(t *testing.T, l *loop, w *watch) {
			for range 100 {
				message(l, w)
				time.Sleep(patience / 3)
			}
			require.False(t, w.asleep.Load())
		}, 5 * time.Millisecond},
		"after much work": {func(_ *testing.T, l *loop, w *watch) {
			for range 100 {
				message(l, w)
				begin(l, w)
				time.Sleep(patience / 3)
				l.work.Add(1)
			}
		}, 2 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, w, at := watched(t)
				c.before(t, l, w)
				select {
				case <-at:
					t.Fatal("it was taken over while no socket kept it")
				default:
				}
				began := begin(l, w)
				kept := (<-at).Sub(began)
				require.Greater(t, kept, patience)
				require.LessOrEqual(t, kept, c.most)
			})
		})
	}
}

// A loop that begins to work while the watch goes to sleep finds it awake still, or
// is seen by it.
func TestTheWatchDoesNotSleepOverWhatBeginsMeanwhile(t *testing.T) {
	l := new(loop)
	w := &watch{loops: &loops{all: []*loop{l}}, seen: make([]uint64, 1), alarm: make(chan struct{}, 1)}
	begin(l, w)
	require.Empty(t, w.alarm)
	w.sleep()
	require.Len(t, w.alarm, 1)
}
