package petrel

import (
	"sync"
	"time"
)

// instant is a point in time: nanoseconds since the broker was made, on the
// monotonic clock. Zero means never where a deadline is meant.
type instant int64

// after is the instant d later, guarded against overflow.
func (t instant) after(d time.Duration) instant { return t + instant(min(d, forever)) }

// alarmGap is the least time between two rounds of alarms: alarms are never
// early, and at most that much late, and so are shared by many clients.
const alarmGap = 50 * time.Millisecond

// alarm wakes its owner once at a time. It is part of the owner, so that a
// deadline costs no allocation. Everything in it is guarded by alarms.mu.
type alarm struct {
	at    instant
	place int // in alarms.heap, counted from 1; 0 means not set
	owner interface{ ring(now instant) }
}

// alarms is the clock of a broker: a heap of all deadlines, and one timer for
// the earliest. Connect time-outs, keep alive, session expiry, will delays and
// rate limits are alarms.
type alarms struct {
	mu     sync.Mutex
	start  time.Time
	heap   []*alarm
	timer  *time.Timer
	wakeAt instant // when the timer fires; 0 when it is not set
	last   instant // the last round
	closed bool
	wg     sync.WaitGroup
}

func newAlarms() *alarms { return &alarms{start: time.Now()} }

// now is the present instant. It is never zero.
func (a *alarms) now() instant { return instant(time.Since(a.start)) + 1 }

// time is the time of the clock at an instant.
func (a *alarms) time(at instant) time.Time { return a.start.Add(time.Duration(at - 1)) }

// calendar is an instant as nanoseconds since 1970; never stays zero.
func (a *alarms) calendar(t instant) int64 {
	if t == 0 {
		return 0
	}
	return a.start.UnixNano() + int64(t)
}

// instantOf is the reverse of calendar. What is past is the first instant.
func (a *alarms) instantOf(calendar int64) instant {
	if calendar == 0 {
		return 0
	}
	return max(instant(calendar-a.start.UnixNano()), 1)
}

// set makes x ring at the given instant, or moves it there.
func (a *alarms) set(x *alarm, at instant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	if x.place == 0 {
		a.heap = append(a.heap, x)
		x.place = len(a.heap)
	}
	x.at = at
	a.siftLocked(x)
	a.armLocked()
}

// stop makes x not ring, unless it is ringing already.
func (a *alarms) stop(x *alarm) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.removeLocked(x)
}

// close stops all alarms and waits for the round that is ringing.
func (a *alarms) close() {
	a.mu.Lock()
	a.closed = true
	a.heap = nil
	if a.timer != nil {
		a.timer.Stop()
	}
	a.mu.Unlock()
	a.wg.Wait()
}

// round rings what is due. It is the timer's function.
func (a *alarms) round() {
	var due []*alarm
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return
	}
	a.wg.Add(1)
	defer a.wg.Done()
	now := a.now()
	a.wakeAt, a.last = 0, now
	for len(a.heap) > 0 && a.heap[0].at <= now {
		x := a.heap[0]
		a.removeLocked(x)
		due = append(due, x)
	}
	a.armLocked()
	a.mu.Unlock()
	for _, x := range due {
		x.owner.ring(now)
	}
}

// armLocked sets the timer for the earliest alarm.
func (a *alarms) armLocked() {
	if len(a.heap) == 0 {
		return
	}
	at := a.heap[0].at
	if a.last != 0 {
		at = max(at, a.last+instant(alarmGap))
	}
	if a.wakeAt != 0 && a.wakeAt <= at {
		return
	}
	a.wakeAt = at
	wait := time.Duration(at - a.now())
	if a.timer == nil {
		a.timer = time.AfterFunc(wait, a.round)
		return
	}
	a.timer.Reset(wait)
}

func (a *alarms) removeLocked(x *alarm) {
	if x.place == 0 || x.place > len(a.heap) || a.heap[x.place-1] != x {
		return
	}
	last := a.heap[len(a.heap)-1]
	a.heap[len(a.heap)-1] = nil
	a.heap = a.heap[:len(a.heap)-1]
	if last != x {
		last.place = x.place
		a.heap[last.place-1] = last
		a.siftLocked(last)
	}
	x.place = 0
}

// siftLocked restores the order of the heap around x.
func (a *alarms) siftLocked(x *alarm) {
	for x.place > 1 {
		parent := a.heap[x.place/2-1]
		if parent.at <= x.at {
			break
		}
		a.swapLocked(parent, x)
	}
	for {
		child := 2 * x.place
		if child > len(a.heap) {
			return
		}
		if child < len(a.heap) && a.heap[child].at < a.heap[child-1].at {
			child++
		}
		if a.heap[child-1].at >= x.at {
			return
		}
		a.swapLocked(x, a.heap[child-1])
	}
}

func (a *alarms) swapLocked(x, y *alarm) {
	x.place, y.place = y.place, x.place
	a.heap[x.place-1], a.heap[y.place-1] = x, y
}
