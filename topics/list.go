package topics

import "sync/atomic"

// list is an array of pointers that one writer at a time changes while any
// number of readers walk it without a lock. A live element never moves within
// the array, so that no reader can miss it or meet it twice: elements are
// appended, removal leaves a hole, and holes go when the writer makes a new
// array.
type list[E any] struct {
	slots []atomic.Pointer[E]
	used  atomic.Int32 // slots[:used] have been filled; published after the element
	live  int32        // of them not nil; for writers
}

// appendTo appends the live elements to dst, in the order in which they came.
func (l *list[E]) appendTo(dst []*E) []*E {
	if l == nil {
		return dst
	}
	slots := l.slots[:l.used.Load()]
	for i := range slots {
		if e := slots[i].Load(); e != nil {
			dst = append(dst, e)
		}
	}
	return dst
}

// push appends e to the list at p, which may be nil. It calls place with the
// slot of e and of every other element that was given a new one.
func push[E any](p *atomic.Pointer[list[E]], e *E, place func(*E, int32)) {
	l := p.Load()
	if l != nil && int(l.used.Load()) < len(l.slots) {
		l.put(e, place)
		return
	}
	var live int32
	if l != nil {
		live = l.live
	}
	n := l.copied(live+live/2+1, place)
	n.put(e, place)
	p.Store(n)
}

func (l *list[E]) put(e *E, place func(*E, int32)) {
	i := l.used.Load()
	place(e, i)
	l.slots[i].Store(e)
	l.used.Store(i + 1)
	l.live++
}

// drop removes the element in the given slot of the list at p, and the list
// when that was the last one.
func drop[E any](p *atomic.Pointer[list[E]], slot int32, place func(*E, int32)) {
	l := p.Load()
	l.slots[slot].Store(nil)
	l.live--
	switch {
	case l.live == 0:
		p.Store(nil)
	case l.live < l.used.Load()/2:
		p.Store(l.copied(l.live, place))
	}
}

// copied returns a list of size slots with the live elements of l, which may be nil.
func (l *list[E]) copied(size int32, place func(*E, int32)) *list[E] {
	n := &list[E]{slots: make([]atomic.Pointer[E], size)}
	if l == nil {
		return n
	}
	for i := range l.slots[:l.used.Load()] {
		if e := l.slots[i].Load(); e != nil {
			place(e, n.live)
			n.slots[n.live].Store(e)
			n.live++
		}
	}
	n.used.Store(n.live)
	return n
}
