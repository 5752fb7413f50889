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
	names  [64]string           // of nodes that were made last, by their hash

	len, sharedLen, groupsLen atomic.Int64
}

// node is a place in the tree: the levels of a filter from root to here.
// Readers load the atomic fields without a lock. The usual node has one child, or
// one entry whose filter ends here: these need nothing beside it.
type node[V any] struct {
	key      string // the level; "+" only in the parent's branch
	hash     uint64 // of key
	parent   *node[V]
	child    atomic.Pointer[node[V]]  // the only one; readers look here first
	children atomic.Pointer[table[V]] // all but the plus, once there were two, until there are none
	first    atomic.Pointer[Entry[V]] // of the filter that ends here
	branch   atomic.Pointer[branch[V]]
}

// branch is what few nodes have.
type branch[V any] struct {
	plus atomic.Pointer[node[V]]
	here terminal[V] // filters that end here, but for node.first
	deep terminal[V] // filters that end with '#' one level further down
}

// terminal holds subscriptions of one filter.
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
	slot  int32     // in the group's or terminal's list, or one of those below
	deep  bool      // in branch.deep rather than branch.here
}

const (
	slotOne   = -1 // in terminal.one
	slotFirst = -2 // in node.first
)

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
	e.node, e.deep = n, deep
	switch {
	case shared:
		t.joinLocked(n.grown().terminal(deep), filter, e)
	case !deep && n.first.Load() == nil:
		e.slot = slotFirst
		n.first.Store(e)
	default:
		n.grown().terminal(deep).add(e)
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
	switch {
	case e.group != nil:
		t.leaveLocked(n.branch.Load().terminal(e.deep), e)
	case e.slot == slotFirst:
		n.first.Store(nil)
	default:
		n.branch.Load().terminal(e.deep).remove(e)
	}
	e.node, e.group = nil, nil
	t.len.Add(-1)
	t.pruneLocked(n)
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
	switch n := old.node; {
	case old.group != nil:
		old.group.members.Load().slots[old.slot].Store(next)
	case old.slot == slotFirst:
		n.first.Store(next)
	case old.slot == slotOne:
		n.branch.Load().terminal(old.deep).one.Store(next)
	default:
		n.branch.Load().terminal(old.deep).more.Load().slots[old.slot].Store(next)
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
	b := n.grown()
	p := b.plus.Load()
	if p == nil {
		p = &node[V]{key: "+", parent: n}
		b.plus.Store(p)
		t.nodes++
	}
	return p
}

func (t *Tree[V]) childLocked(n *node[V], level string) *node[V] {
	hash := maphash.String(t.seed, level)
	only, tab := n.child.Load(), n.children.Load()
	switch {
	case only != nil && only.key == level:
		return only
	case tab != nil:
		if c := find(tab, level, hash); c != nil {
			return c
		}
	}
	c := &node[V]{key: t.nameLocked(level, hash), hash: hash, parent: n}
	t.nodes++
	switch {
	case only == nil && tab == nil:
		n.child.Store(c)
	case only == nil:
		insert(&n.children, c, t.dead, 0)
	default: // whoever does not find it as the only one any more finds it in the table
		tab = newTable[V](2)
		tab.put(only, t.dead)
		tab.put(c, t.dead)
		n.children.Store(tab)
		n.child.Store(nil)
	}
	return c
}

// longestName is the length in bytes up to which a name is kept for others.
const longestName = 64

// nameLocked is a copy of level, the same one for nodes that follow each other: many
// devices have the same few names below their own.
func (t *Tree[V]) nameLocked(level string, hash uint64) string {
	name := &t.names[hash%uint64(len(t.names))]
	switch {
	case len(level) > longestName:
		return strings.Clone(level)
	case *name != level:
		*name = strings.Clone(level)
	}
	return *name
}

// pruneLocked removes n and its ancestors as far as nothing hangs on them.
func (t *Tree[V]) pruneLocked(n *node[V]) {
	for n.empty() && n != t.root {
		p := n.parent
		switch b := p.branch.Load(); {
		case p.child.Load() == n:
			p.child.Store(nil)
		case b != nil && b.plus.Load() == n:
			b.plus.Store(nil)
		default:
			remove(&p.children, n, t.dead, 0)
		}
		t.nodes--
		n = p
	}
}

// empty reports whether nothing hangs on n, whose branch goes if it is bare.
func (n *node[V]) empty() bool {
	b := n.branch.Load()
	if b != nil && b.plus.Load() == nil && b.here.empty() && b.deep.empty() {
		n.branch.Store(nil)
		b = nil
	}
	return b == nil && n.first.Load() == nil && n.child.Load() == nil && n.children.Load() == nil
}

// grown returns the branch of n, made if need be.
func (n *node[V]) grown() *branch[V] {
	b := n.branch.Load()
	if b == nil {
		b = new(branch[V])
		n.branch.Store(b)
	}
	return b
}

func (b *branch[V]) terminal(deep bool) *terminal[V] {
	if deep {
		return &b.deep
	}
	return &b.here
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
