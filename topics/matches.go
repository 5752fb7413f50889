package topics

import "hash/maphash"

// Matches is the result of [Tree.Match], made to be used again and again. The
// zero value is ready. It is used by one goroutine at a time.
type Matches[V any] struct {
	Entries []*Entry[V] // of filters that are not shared; no order
	Groups  []*Group[V] // of shared filters, each one once; no order

	front, next []*node[V] // between calls all nil
}

// Reset empties m so that it keeps no entry alive. It keeps the room.
func (m *Matches[V]) Reset() {
	clear(m.Entries)
	clear(m.Groups)
	m.Entries, m.Groups = m.Entries[:0], m.Groups[:0]
}

// Match resets m and fills it with what matches topic, a valid topic name. An
// entry that is in the tree from the beginning to the end of Match is found
// exactly once. Match takes no lock and does not keep topic; it allocates only
// where m must grow.
func (t *Tree[V]) Match(topic []byte, m *Matches[V]) {
	m.Reset()
	// All nodes that the levels so far lead to, level by level: no recursion,
	// no node twice, and each level is hashed once.
	front, next := append(m.front, t.root), m.next
	wild := len(topic) == 0 || topic[0] != '$' // the first level obeys wildcards
	for start := 0; start <= len(topic) && len(front) > 0; {
		end := levelEnd(topic, start)
		next = t.step(front, next, topic[start:end], wild, m)
		clear(front)
		front, next = next, front[:0]
		start, wild = end+1, true
	}
	for _, n := range front {
		if e := n.first.Load(); e != nil {
			m.Entries = append(m.Entries, e)
		}
		if b := n.branch.Load(); b != nil {
			m.collect(&b.here)
			m.collect(&b.deep)
		}
	}
	clear(front)
	m.front, m.next = front[:0], next
}

// step appends to next the nodes that level leads to from those in front, and
// collects the filters that end with '#' on the way.
func (t *Tree[V]) step(front, next []*node[V], level []byte, wild bool, m *Matches[V]) []*node[V] {
	var hash uint64
	hashed := false
	for _, n := range front {
		if b := n.branch.Load(); b != nil && wild {
			m.collect(&b.deep)
			if p := b.plus.Load(); p != nil {
				next = append(next, p)
			}
		}
		if only := n.child.Load(); only != nil {
			if only.key == string(level) {
				next = append(next, only)
			}
			continue
		}
		tab := n.children.Load()
		if tab == nil {
			continue
		}
		if !hashed && tab.hashed() {
			hash, hashed = maphash.Bytes(t.seed, level), true
		}
		if c := find(tab, level, hash); c != nil {
			next = append(next, c)
		}
	}
	return next
}

// collect adds what stands at t.
func (m *Matches[V]) collect(t *terminal[V]) {
	if e := t.one.Load(); e != nil {
		m.Entries = append(m.Entries, e)
	}
	m.Entries = t.more.Load().appendTo(m.Entries)
	m.Groups = t.groups.Load().appendTo(m.Groups)
}
