package engine

import (
	"sync/atomic"
	"time"
)

// watch finds loops that one socket keeps, and has them taken over. To look wakes
// threads, so it looks away for longer and longer while it finds the loops at rest
// between two messages.
type watch struct {
	loops  *loops
	seen   []uint64 // the work of each loop at the last look
	asleep atomic.Bool
	alarm  chan struct{}
	stop   chan struct{}
}

const (
	// patience is how long one socket may keep a loop. It may be twice that, and
	// patience and rarely where the loops were mostly at rest before.
	patience = time.Millisecond
	// rarely is how long the watch looks away at most. A look each millisecond
	// makes a message cost 1.14 times as much at 5,000 messages a second (the
	// scenario paced/5000 of benchmarks, all on one processor).
	rarely = 4 * patience
	// quietLooks is how many looks have to find nothing until the watch sleeps.
	quietLooks = 3
)

func newWatch(ls *loops) *watch {
	w := &watch{loops: ls, seen: make([]uint64, len(ls.all)), alarm: make(chan struct{}, 1), stop: make(chan struct{})}
	ls.wg.Go(w.run)
	return w
}

// wake makes the watch look, if it has stopped doing so.
func (w *watch) wake() {
	if w.asleep.Load() && w.asleep.CompareAndSwap(true, false) {
		w.alarm <- struct{}{}
	}
}

// run looks at the loops while they have work, and sleeps when they have had none
// for a while.
func (w *watch) run() {
	nap, quiet := patience, 0
	t := time.NewTimer(nap)
	defer t.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-w.alarm:
			nap, quiet = patience, 0
			t.Reset(nap)
			continue
		case <-t.C:
		}
		news, atWork := w.look()
		nap, quiet = min(2*nap, rarely), quiet+1
		if atWork {
			nap = patience
		}
		if news || atWork {
			quiet = 0
		}
		if quiet < quietLooks {
			t.Reset(nap)
		} else {
			w.sleep()
		}
	}
}

// look has those loops taken over that one socket has kept since the last look.
// It reports whether some loop has moved since then, and whether some is at work.
func (w *watch) look() (news, atWork bool) {
	for i, l := range w.loops.all {
		now := l.work.Load()
		if now%2 == 1 {
			atWork = true
			if now == w.seen[i] && l.work.CompareAndSwap(now, now+1) {
				w.loops.wg.Go(l.run)
			}
		}
		news = news || now != w.seen[i]
		w.seen[i] = now
	}
	return news, atWork
}

// sleep lets the next work of a loop wake the watch.
func (w *watch) sleep() {
	w.asleep.Store(true)
	if news, _ := w.look(); news { // that has begun before it could
		w.wake()
	}
}
