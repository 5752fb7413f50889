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

// alarm wakes its owner once at a time. It is part of the owner, which has to be
// found to move or to stop it; what it is about stands in alarms.heap, so that one
// that is not set takes next to nothing.
type alarm struct {
	place int32 // in alarms.heap, counted from 1; 0 means not set. Guarded by alarms.mu
}

// setAlarm is an alarm that is set.
type setAlarm struct {
	at    instant
	alarm *alarm
	owner ringer
}

// ringer is who an alarm wakes.
type ringer interface{ ring(now instant) }

// alarms is the clock of a broker: a heap of all deadlines, and one timer for
// the earliest. Connect time-outs, keep alive, session expiry, will delays and
// rate limits are alarms.
type alarms struct {
	mu     sync.Mutex
	start  time.Time
	heap   []setAlarm
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

// set makes x, which is of owner, ring at the given instant, or moves it there.
func (a *alarms) set(x *alarm, owner ringer, at instant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	if x.place == 0 {
		a.heap = append(a.heap, setAlarm{})
		x.place = int32(len(a.heap))
	}
	a.putLocked(int(x.place), setAlarm{at, x, owner})
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
	var due []ringer
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
		due = append(due, a.heap[0].owner)
		a.removeLocked(a.heap[0].alarm)
	}
	a.armLocked()
	a.mu.Unlock()
	for _, owner := range due {
		owner.ring(now)
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
	place, n := int(x.place), len(a.heap)
	if place == 0 || place > n || a.heap[place-1].alarm != x {
		return
	}
	x.place = 0
	last := a.heap[n-1]
	a.heap[n-1] = setAlarm{}
	a.heap = a.heap[:n-1]
	if place < n {
		a.putLocked(place, last)
	}
	if c := cap(a.heap); c > 64 && n < c/4 {
		a.heap = append(make([]setAlarm, 0, c/2), a.heap...)
	}
}

// putLocked puts x into the heap at the given place, counted from 1, and then where
// the order of the heap wants it.
func (a *alarms) putLocked(place int, x setAlarm) {
	for place > 1 && a.heap[place/2-1].at > x.at {
		a.moveLocked(place/2, place)
		place /= 2
	}
	for {
		child := 2 * place
		if child < len(a.heap) && a.heap[child].at < a.heap[child-1].at {
			child++
		}
		if child > len(a.heap) || a.heap[child-1].at >= x.at {
			break
		}
		a.moveLocked(child, place)
		place = child
	}
	a.heap[place-1] = x
	x.alarm.place = int32(place)
}

func (a *alarms) moveLocked(from, to int) {
	a.heap[to-1] = a.heap[from-1]
	a.heap[to-1].alarm.place = int32(to)
}
