package topics

import "sync/atomic"

const (
	scanSlots = 4    // size up to which a table is searched by comparing keys, which costs less than a hash
	maxSlots  = 1024 // size that a table does not outgrow
	partBits  = 6
	parts     = 1 << partBits        // tables that take over from one that would outgrow maxSlots
	joinNodes = maxSlots / 4         // number of nodes down to which they do
	maxDepth  = (64 - 10) / partBits // below, the hash has no bits left but those of a slot
)

// table holds the children of a node by key. Readers use it without a lock
// while one writer at a time changes it: a slot is filled and emptied by one
// atomic store, and a table of another size or kind is built aside and swapped in.
//
// It is of one of three kinds. With up to scanSlots slots it is a bag. Above,
// it is a hash table with linear probing whose removed nodes leave a
// tombstone, so that a search does not end before the node it looks for; at
// least a quarter of its slots is nil. And where a hash table would outgrow
// maxSlots it is split: its slots are for good filled with nodes that have no
// meaning but their children, chosen by a part of the hash. So no writer holds
// its lock for the time that it takes to move a million nodes.
type table[V any] struct {
	slots []atomic.Pointer[node[V]] // a power of two

	// For writers, but for split, which never changes.
	live  int32 // nodes; with split those of all parts
	used  int16 // nodes and tombstones
	split bool
}

// tombstone returns the node that marks removed slots. Its key is none that a
// level can have, so that a search passes it by without asking.
func tombstone[V any]() *node[V] { return &node[V]{key: "/"} }

// find returns the node with the key level, or nil. The hash is used only if t
// is hashed.
func find[V any, T Text](t *table[V], level T, hash uint64) *node[V] {
	for depth := 0; t.split; depth++ {
		if t = t.part(hash, depth).Load(); t == nil {
			return nil
		}
	}
	if !t.hashed() {
		for i := range t.slots {
			if n := t.slots[i].Load(); n != nil && n.key == string(level) {
				return n
			}
		}
		return nil
	}
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		n := t.slots[i].Load()
		if n == nil {
			return nil
		}
		if n.hash == hash && n.key == string(level) {
			return n
		}
	}
}

// part returns where the table for hash is, in a split table that is itself
// the part of as many others as depth says.
func (t *table[V]) part(hash uint64, depth int) *atomic.Pointer[table[V]] {
	i := hash >> (64 - partBits*(depth+1)) % parts
	return &t.slots[i].Load().children
}

func (t *table[V]) hashed() bool { return len(t.slots) > scanSlots }

func (t *table[V]) full() bool {
	if !t.hashed() {
		return int(t.live) == len(t.slots)
	}
	return int(t.used) >= len(t.slots)/4*3
}

// insert adds n, whose key is not in t, to the table at p, which may be nil.
func insert[V any](p *atomic.Pointer[table[V]], n, dead *node[V], depth int) {
	t := p.Load()
	switch {
	case t == nil:
		t = newTable[V](1)
	case t.split:
		t.live++
		insert(t.part(n.hash, depth), n, dead, depth+1)
		return
	case !t.full():
		t.put(n, dead)
		return
	case slotsFor(int(t.live)+1) > maxSlots && depth < maxDepth:
		t = t.divided(dead, depth)
		t.live++
		insert(t.part(n.hash, depth), n, dead, depth+1)
		p.Store(t)
		return
	default:
		t = t.resized(int(t.live)+1, dead)
	}
	t.put(n, dead)
	p.Store(t)
}

func (t *table[V]) put(n, dead *node[V]) {
	mask := uint64(len(t.slots) - 1)
	i := n.hash & mask
	c := t.slots[i].Load()
	for c != nil && c != dead {
		i = (i + 1) & mask
		c = t.slots[i].Load()
	}
	if c == nil {
		t.used++
	}
	t.live++
	t.slots[i].Store(n)
}

// remove takes n, which is in the table at p, out of it, and drops the table
// when that was the last one.
func remove[V any](p *atomic.Pointer[table[V]], n, dead *node[V], depth int) {
	t := p.Load()
	if t.split {
		t.live--
		remove(t.part(n.hash, depth), n, dead, depth+1)
		if t.live <= joinNodes {
			p.Store(t.resized(int(t.live), dead))
		}
		return
	}
	t.release(t.slotOf(n), dead)
	switch {
	case t.live == 0:
		p.Store(nil)
	case int(t.live) <= len(t.slots)/4:
		p.Store(t.resized(int(t.live), dead))
	}
}

// slotOf returns the slot of n, which is in t.
func (t *table[V]) slotOf(n *node[V]) uint64 {
	mask := uint64(len(t.slots) - 1)
	i := n.hash & mask
	for t.slots[i].Load() != n {
		i = (i + 1) & mask
	}
	return i
}

// release empties slot i. Before a nil no tombstone is needed: no search that
// ends with a node goes there.
func (t *table[V]) release(i uint64, dead *node[V]) {
	t.live--
	mask := uint64(len(t.slots) - 1)
	if t.hashed() && t.slots[(i+1)&mask].Load() != nil {
		t.slots[i].Store(dead)
		return
	}
	t.slots[i].Store(nil)
	t.used--
	if !t.hashed() {
		return
	}
	for i = (i - 1) & mask; t.slots[i].Load() == dead; i = (i - 1) & mask {
		t.slots[i].Store(nil)
		t.used--
	}
}

// resized returns a table that is not split, made for the given number of
// nodes, with those of t.
func (t *table[V]) resized(nodes int, dead *node[V]) *table[V] {
	r := newTable[V](nodes)
	t.each(dead, func(n *node[V]) { r.put(n, dead) })
	return r
}

// divided returns a split table with the nodes of t.
func (t *table[V]) divided(dead *node[V], depth int) *table[V] {
	r := &table[V]{slots: make([]atomic.Pointer[node[V]], parts), live: t.live, split: true}
	holders := make([]node[V], parts)
	for i := range holders {
		r.slots[i].Store(&holders[i])
	}
	t.each(dead, func(n *node[V]) { insert(r.part(n.hash, depth), n, dead, depth+1) })
	return r
}

// each calls do for all nodes of t, which may be nil.
func (t *table[V]) each(dead *node[V], do func(*node[V])) {
	if t == nil {
		return
	}
	for i := range t.slots {
		n := t.slots[i].Load()
		switch {
		case t.split:
			n.children.Load().each(dead, do)
		case n != nil && n != dead:
			do(n)
		}
	}
}

func newTable[V any](nodes int) *table[V] {
	return &table[V]{slots: make([]atomic.Pointer[node[V]], slotsFor(nodes))}
}

// slotsFor returns how many slots a new table gets: enough for the given number
// of nodes and, if it is hashed, for some more.
func slotsFor(nodes int) int {
	size := 1
	for size < nodes || size > scanSlots && size/8*5 < nodes {
		size *= 2
	}
	return size
}
