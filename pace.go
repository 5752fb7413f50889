package petrel

import (
	"sync"
	"time"
)

// pace keeps one client to its message and byte rate: two buckets of a second's
// worth. A client that has emptied one is not read from until it has refilled.
// A nil pace limits nothing.
type pace struct {
	alarms   *alarms
	alarm    alarm
	messages bucket
	bytes    bucket
	wait     time.Duration // that spend has found, for held
	told     [2]oncePer    // of either bucket being empty

	mu     sync.Mutex
	resume chan struct{} // closed when reading may go on; nil while it may
	done   bool
}

type bucket struct {
	rate  float64 // per second
	level float64
	at    instant
}

func newPace(a *alarms, o *Options) *pace {
	if o.MessageRate == noLimit && o.ByteRate == noLimit {
		return nil
	}
	p := &pace{alarms: a}
	now := a.now()
	p.messages = bucket{float64(o.MessageRate), float64(o.MessageRate), now}
	p.bytes = bucket{float64(o.ByteRate), float64(o.ByteRate), now}
	return p
}

// take spends n and returns how long it takes until the bucket is not overdrawn.
func (b *bucket) take(now instant, n int) time.Duration {
	b.level = min(b.rate, b.level+b.rate*time.Duration(now-b.at).Seconds()) - float64(n)
	b.at = now
	if b.level >= 0 {
		return 0
	}
	return time.Duration(-b.level / b.rate * float64(time.Second))
}

// spend counts a packet and reports whether the client has to wait.
func (p *pace) spend(now instant, message bool, size int) bool {
	if p == nil {
		return false
	}
	p.wait = p.bytes.take(now, size)
	if message {
		p.wait = max(p.wait, p.messages.take(now, 1))
	}
	return p.wait > 0
}

// reached calls tell for each limit that made spend report true, unless it did
// so less than a second ago.
func (p *pace) reached(now instant, tell func(Limit)) {
	if p.messages.level < 0 && p.told[0].second(now) {
		tell(LimitMessageRate)
	}
	if p.bytes.level < 0 && p.told[1].second(now) {
		tell(LimitByteRate)
	}
}

// held returns a channel that is closed when reading may go on, nil if it may now.
func (p *pace) held() <-chan struct{} {
	if p == nil || p.wait <= 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return nil
	}
	p.resume = make(chan struct{})
	p.alarms.set(&p.alarm, p, p.alarms.now().after(p.wait))
	p.wait = 0
	return p.resume
}

func (p *pace) ring(instant) { p.goOn(false) }

// release lets the reader go on because the connection ends.
func (p *pace) release() {
	if p != nil {
		p.alarms.stop(&p.alarm)
		p.goOn(true)
	}
}

func (p *pace) goOn(done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = p.done || done
	if p.resume != nil {
		close(p.resume)
		p.resume = nil
	}
}
