package hostile

import (
	"maps"
	"slices"

	"github.com/petrelmq/petrel"
)

// The model of a full queue. A world with small queues is exact: it knows at any time
// what every client was sent, what waits for it, and what was dropped. For that it has
// nothing that comes in an order of its own, or when the broker likes: retained messages,
// shared subscriptions, delayed wills, and messages that expire or may be too large.
func (o *variant) exact() bool { return o.small() && !o.crowd }

// queue lets d wait behind what waits already, if the limit of the queue allows.
func (w *world) queue(a *account, d *due) {
	if d.queued = true; w.makeRoom(a, d) {
		a.dues = append(a.dues, d)
	}
	w.pump(a)
}

// makeRoom drops what gives way to d if the queue is full, QoS 0 first, and reports
// whether there is room.
func (w *world) makeRoom(a *account, d *due) bool {
	n, first := 0, -1
	for i, e := range a.dues {
		if !e.queued {
			continue
		}
		n++
		yields := w.o.dropOldest || d.qos > 0 && e.qos == 0
		if yields && (first < 0 || d.qos > 0 && e.qos == 0 && a.dues[first].qos > 0) {
			first = i
		}
	}
	if n < w.o.queue {
		return true
	}
	w.dropped[petrel.DropQueueFull]++
	if first >= 0 {
		a.dues = slices.Delete(a.dues, first, first+1)
	}
	return first >= 0
}

// pump sends what waits: first what an earlier connection did not finish. Nothing
// overtakes a message for which the client takes no more.
func (w *world) pump(a *account) {
	if a.peer == nil || !w.o.exact() {
		return
	}
	for _, d := range a.dues {
		if d.stage != waiting {
			continue
		}
		if d.qos > 0 && a.room() <= 0 {
			return
		}
		d.stage, d.queued, d.counted = leaving, false, d.qos > 0
	}
}

// next is what has to come next on the connection of an account, nil if nothing has to.
func (a *account) next() *due {
	for _, d := range a.dues {
		if d.stage == leaving {
			return d
		}
	}
	return nil
}

// judgeDropped compares what the broker says that it dropped.
func (w *world) judgeDropped() {
	if !w.o.exact() {
		return
	}
	got := w.broker.Stats().Dropped
	maps.DeleteFunc(got, func(r petrel.DropReason, _ uint64) bool {
		return r != petrel.DropQueueFull && r != petrel.DropOffline && r != petrel.DropRefusedByClient
	})
	if !maps.Equal(got, w.dropped) {
		w.fail("the broker has dropped %v; want %v", got, w.dropped)
	}
}
