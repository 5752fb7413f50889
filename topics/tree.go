package topics

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

// Tree finds the subscriptions that match a topic. Make one with [NewTree].
// All methods may be called at any time from any goroutine; only those that
// change the tree wait for each other.
type Tree[V any] struct {
	seed maphash.Seed
	dead *node[V] // tombstone of all tables
	root *node[V]

	mu     sync.Mutex           // held by whoever changes anything below root
	groups map[string]*Group[V] // by the whole shared filter; nil while there is none
	nodes  int                  // below root

	len, sharedLen, groupsLen atomic.Int64
}

// node is a place in the tree: the levels of a filter from root to here.
// Readers load the atomic fields without a lock.
type node[V any] struct {
	key      string // the level; "+" only in the parent's plus
	hash     uint64 // of key
	parent   *node[V]
	children atomic.Pointer[table[V]]
	plus     atomic.Pointer[node[V]]
	here     atomic.Pointer[terminal[V]] // filters that end here
	deep     atomic.Pointer[terminal[V]] // filters that end with '#' one level further down
}

// terminal holds the subscriptions of one filter. Most filters have just one.
type terminal[V any] struct {
	one    atomic.Pointer[Entry[V]]
	more   atomic.Pointer[list[Entry[V]]]
	groups atomic.Pointer[list[Group[V]]]
}

// Entry is one subscription in a [Tree]. It is in one tree at most, under one
// filter. The caller owns Value and sets it before the entry is added; from
// then on it is read by other goroutines. An Entry must not be copied.
type Entry[V any] struct {
	Value V

	// Where the entry stands; guarded by the tree's lock.
	node  *node[V]  // nil while it is in no tree
	group *Group[V] // nil unless shared
	slot  int32     // in the group's or terminal's list, or slotOne
	deep  bool      // in node.deep rather than node.here
}

// slotOne says that an entry stands in terminal.one.
const slotOne = -1

// NewTree returns an empty tree.
func NewTree[V any]() *Tree[V] {
	return &Tree[V]{seed: maphash.MakeSeed(), dead: tombstone[V](), root: &node[V]{}}
}

// Len returns the number of entries, shared ones included.
func (t *Tree[V]) Len() int { return int(t.len.Load()) }

// SharedLen returns the number of entries that were added with a shared filter.
func (t *Tree[V]) SharedLen() int { return int(t.sharedLen.Load()) }

// Groups returns the number of shared groups that have members.
func (t *Tree[V]) Groups() int { return int(t.groupsLen.Load()) }

// Add puts e under filter. The filter is valid (see [CheckFilter]) and e is in
// no tree. With a shared filter e joins the group that the filter names. Two
// entries may have the same filter. The tree does not keep filter itself.
func (t *Tree[V]) Add(filter string, e *Entry[V]) {
	_, inner, shared := SplitShared(filter)
	t.mu.Lock()
	defer t.mu.Unlock()
	n, deep := t.growLocked(inner)
	term := n.terminal(deep)
	if term.Load() == nil {
		term.Store(&terminal[V]{})
	}
	e.node, e.deep = n, deep
	if shared {
		t.joinLocked(term.Load(), filter, e)
	} else {
		term.Load().add(e)
	}
	t.len.Add(1)
}

// Remove takes e out of the tree. It does nothing if e is in no tree. Its cost
// does not depend on how many others have the same filter.
func (t *Tree[V]) Remove(e *Entry[V]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := e.node
	if n == nil {
		return
	}
	p := n.terminal(e.deep)
	term := p.Load()
	if e.group != nil {
		t.leaveLocked(term, e)
	} else {
		term.remove(e)
	}
	e.node, e.group = nil, nil
	t.len.Add(-1)
	if term.empty() {
		p.Store(nil)
		t.pruneLocked(n)
	}
}

// Replace puts next, which is in no tree, in the place of old in one step:
// every Match finds one of the two. It does nothing if old is in no tree. In a
// group, next has the place of old in the order of the members.
func (t *Tree[V]) Replace(old, next *Entry[V]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old.node == nil || old == next {
		return
	}
	next.node, next.group, next.slot, next.deep = old.node, old.group, old.slot, old.deep
	term := old.node.terminal(old.deep).Load()
	switch {
	case old.group != nil:
		old.group.members.Load().slots[old.slot].Store(next)
	case old.slot == slotOne:
		term.one.Store(next)
	default:
		term.more.Load().slots[old.slot].Store(next)
	}
	old.node, old.group = nil, nil
}

// growLocked returns the node at which filter ends, made if need be. A last
// level '#' is not a node: then deep is true.
func (t *Tree[V]) growLocked(filter string) (n *node[V], deep bool) {
	n = t.root
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		switch level {
		case "#":
			return n, true
		case "+":
			n = t.plusLocked(n)
		default:
			n = t.childLocked(n, level)
		}
	}
	return n, false
}

func (t *Tree[V]) plusLocked(n *node[V]) *node[V] {
	p := n.plus.Load()
	if p == nil {
		p = &node[V]{key: "+", parent: n}
		n.plus.Store(p)
		t.nodes++
	}
	return p
}

func (t *Tree[V]) childLocked(n *node[V], level string) *node[V] {
	hash := maphash.String(t.seed, level)
	if tab := n.children.Load(); tab != nil {
		if c := find(tab, level, hash); c != nil {
			return c
		}
	}
	c := &node[V]{key: strings.Clone(level), hash: hash, parent: n}
	insert(&n.children, c, t.dead, 0)
	t.nodes++
	return c
}

// pruneLocked removes n and its ancestors as far as nothing hangs on them.
func (t *Tree[V]) pruneLocked(n *node[V]) {
	for n != t.root && n.empty() {
		p := n.parent
		if p.plus.Load() == n {
			p.plus.Store(nil)
		} else {
			remove(&p.children, n, t.dead, 0)
		}
		t.nodes--
		n = p
	}
}

func (n *node[V]) empty() bool {
	return n.here.Load() == nil && n.deep.Load() == nil && n.plus.Load() == nil && n.children.Load() == nil
}

func (n *node[V]) terminal(deep bool) *atomic.Pointer[terminal[V]] {
	if deep {
		return &n.deep
	}
	return &n.here
}

func (t *terminal[V]) empty() bool {
	return t.one.Load() == nil && t.more.Load() == nil && t.groups.Load() == nil
}

func (t *terminal[V]) add(e *Entry[V]) {
	if t.one.Load() != nil {
		push(&t.more, e, placeEntry)
		return
	}
	e.slot = slotOne
	t.one.Store(e)
}

func (t *terminal[V]) remove(e *Entry[V]) {
	if e.slot == slotOne {
		t.one.Store(nil)
		return
	}
	drop(&t.more, e.slot, placeEntry)
}

func placeEntry[V any](e *Entry[V], slot int32) { e.slot = slot }
