package petrel

import (
	"context"
	"sync"
	"time"
)

// deadline is the context of one decision of a hook. It makes a timer only for a
// hook that waits for Done, as most decide without waiting: BenchmarkHooks has
// what that saves.
type deadline struct {
	context.Context // of the connection
	at              time.Time

	mu     sync.Mutex
	timed  context.Context // nil until somebody asks for Done
	cancel context.CancelFunc
	over   bool // the decision has been made
}

func newDeadline(parent context.Context, patience time.Duration) *deadline {
	return &deadline{Context: parent, at: time.Now().Add(patience)}
}

// end releases what the context holds, when the decision has been made.
func (d *deadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	if d.cancel != nil {
		d.cancel()
	}
}

func (d *deadline) Deadline() (time.Time, bool) {
	if at, ok := d.Context.Deadline(); ok && at.Before(d.at) {
		return at, true
	}
	return d.at, true
}

func (d *deadline) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timed == nil {
		d.timed, d.cancel = context.WithDeadline(d.Context, d.at)
		if d.over {
			d.cancel()
		}
	}
	return d.timed.Done()
}

func (d *deadline) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.timed != nil:
		return d.timed.Err()
	case d.over:
		return context.Canceled
	case d.Context.Err() != nil:
		return d.Context.Err()
	case !time.Now().Before(d.at):
		return context.DeadlineExceeded
	}
	return nil
}

// Value lets contexts that are derived from this one find the one with the timer.
func (d *deadline) Value(key any) any {
	d.mu.Lock()
	timed := d.timed
	d.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return d.Context.Value(key)
}
