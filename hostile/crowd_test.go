package hostile

import "github.com/petrelmq/petrel"

// The model of a crowd: a world in which all that there is goes to the members of one
// shared subscription, whose queues are small. Who has what waits is not known, but
// how much all of them can hold is: nothing is lost before.

const crowdFilter = "$share/g/t/#"

// small reports whether queues are small.
func (o *variant) small() bool { return o.queue > 0 }

// crowd is what the model knows of losses.
type crowd struct {
	allowed uint64 // so many may be dropped in all
	dropped uint64 // so many were
	lost    int    // of the copies that nobody has
}

// mayLose allows for the loss of a copy that n is about to get, if the members that
// may have it can be full: they are sent what they take, and the rest waits.
func (w *world) mayLose(n *note) {
	room := 0
	for _, a := range w.accounts {
		if s := a.subs[crowdFilter]; s == nil || !w.allows(s, a.id, n) {
			continue
		}
		if room += w.o.queue; a.peer != nil {
			room += max(a.room(), 0)
		}
	}
	if w.afoot()-w.crowd.lost >= room {
		w.crowd.allowed++
	}
}

// afoot is how many copies no member has now, as far as the model has been told.
func (w *world) afoot() (n int) {
	for _, c := range w.copies {
		if !c.isWith() {
			n++
		}
	}
	return n
}

// isWith reports whether somebody has the copy.
func (c *sharedCopy) isWith() bool {
	for _, d := range c.holders {
		if d.stage != waiting {
			return true
		}
	}
	return false
}

// pardon allows for the loss of all that has to find another member.
func (w *world) pardon() { w.crowd.allowed += uint64(w.afoot()) }

// judgeCrowd compares what the broker says that it dropped with what it may have.
func (w *world) judgeCrowd() {
	if !w.o.crowd {
		return
	}
	c := &w.crowd
	n := w.broker.Stats().Dropped[petrel.DropQueueFull]
	if n > c.allowed {
		w.fail("the broker has dropped %d messages, %d of them while there was room for them", n, n-c.allowed)
	}
	if n > c.dropped {
		for _, copy := range w.copies {
			copy.excused = copy.excused || len(copy.holders) == 0
		}
	}
	c.lost += int(n - c.dropped)
	c.dropped, c.allowed = n, n
	if !w.hasMember(crowdFilter) {
		c.lost = 0 // judgeShared forgets them
	}
}
