package topics

import "iter"

// stepsPerCall bounds how many entries one call of Next looks at, and so for
// how long it holds the lock.
const stepsPerCall = 1024

// Cursor is a place in the walk over the topics that match a filter. It is a
// small value that can wait for any time between two steps; it holds no lock
// and no value. It is used by one goroutine at a time.
type Cursor struct {
	filter string
	last   string // the topic that was looked at last
	all    bool   // every topic matches, also one that begins with '$'
	begun  bool
	done   bool
}

// NewCursor returns a cursor at the beginning of the topics that match filter,
// a valid filter that is not shared.
func NewCursor(filter string) Cursor { return Cursor{filter: filter} }

// NewCursorBehind returns a cursor behind topic in the order in which the topics
// that match filter are found, as if it had been there; topic need not have a value.
// With an empty topic it is NewCursor.
func NewCursorBehind(filter, topic string) Cursor {
	return Cursor{filter: filter, last: topic, begun: topic != ""}
}

// NewCursorAll returns a cursor at the beginning of all topics, those that begin
// with '$' included, which no filter with a leading wildcard finds.
func NewCursorAll() Cursor { return Cursor{all: true} }

// Done reports whether the walk is at its end.
func (c *Cursor) Done() bool { return c.done }

// Filter returns the filter that the cursor was made with; it is empty if that
// was [NewCursorAll].
func (c *Cursor) Filter() string { return c.filter }

// Next appends the values of the next topics that match c's filter to dst, at
// most max, and moves c behind them. It holds a read lock for a bounded time,
// so it may append fewer, even none, although the walk is not done; see
// [Cursor.Done]. The index may change between calls: a topic that has a value
// all the time is found exactly once.
func (r *Retained[V]) Next(c *Cursor, dst []V, max int) []V {
	r.walk(c, max, func(it *item[V]) { dst = append(dst, it.value) })
	return dst
}

// All returns the topics that match filter, with their values, in a fixed
// order of topics. The index is not locked while the loop's body runs, and may
// change: a topic that has a value all the time is found exactly once.
func (r *Retained[V]) All(filter string) iter.Seq2[string, V] {
	const batch = 64
	return func(yield func(string, V) bool) {
		items := make([]item[V], 0, batch)
		for c := NewCursor(filter); !c.Done(); {
			items = items[:0]
			r.walk(&c, batch, func(it *item[V]) { items = append(items, *it) })
			for _, it := range items {
				if !yield(it.topic, it.value) {
					return
				}
			}
		}
	}
}

// walk is Next for any receiver, which it calls with the index locked.
func (r *Retained[V]) walk(c *Cursor, limit int, each func(*item[V])) {
	if c.done || limit <= 0 {
		return
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	p := r.resumeLocked(c)
	for range stepsPerCall {
		if p.chunk == len(r.chunks) {
			c.done = true
			return
		}
		it := &r.chunks[p.chunk][p.i]
		c.begun, c.last = true, it.topic
		v, b := c.judge(it.topic)
		switch v {
		case ends:
			c.done = true
			return
		case skips:
			p = r.skipLocked(p, b)
			continue
		}
		each(it)
		p = r.afterLocked(p)
		if limit--; limit == 0 {
			c.done = p.chunk == len(r.chunks) || !c.all && !HasWildcard(c.filter)
			return
		}
	}
}

func (c *Cursor) judge(topic string) (verdict, bound) {
	if c.all {
		return matches, bound{}
	}
	return judge(c.filter, topic)
}

// resumeLocked returns the first place that c has not looked at.
func (r *Retained[V]) resumeLocked(c *Cursor) place {
	if !c.begun {
		return r.seekLocked(bound{tail: literals(c.filter)})
	}
	p := r.seekLocked(bound{head: c.last})
	if p.chunk < len(r.chunks) && r.chunks[p.chunk][p.i].topic == c.last {
		p = r.afterLocked(p)
	}
	return p
}

// skipLocked returns the first place at b or to its right. It is after p.
func (r *Retained[V]) skipLocked(p place, b bound) place {
	chunk := r.chunks[p.chunk]
	if b.below(chunk[len(chunk)-1].topic) {
		return r.seekLocked(b)
	}
	// Most often it is near: look at 1, 2, 4 and so on further on.
	chunk = chunk[p.i:]
	n := 1
	for n < len(chunk) && b.below(chunk[n-1].topic) {
		n *= 2
	}
	return place{p.chunk, p.i + n/2 + seekIn(chunk[n/2:min(n, len(chunk))], b)}
}

func (r *Retained[V]) afterLocked(p place) place {
	if p.i++; p.i == len(r.chunks[p.chunk]) {
		return place{chunk: p.chunk + 1}
	}
	return p
}
