package topics

import (
	"strings"
	"sync/atomic"
)

// Group is the members of a shared subscription: the entries that were added
// with the same "$share/NAME/FILTER". A group that lost its last member is out
// of the tree for good; the next entry with its filter founds a new one. All
// methods may be called at any time from any goroutine.
type Group[V any] struct {
	name, filter string
	members      atomic.Pointer[list[Entry[V]]]
	turn         atomic.Uint32
	slot         int32 // in the terminal's list; guarded by the tree's lock
}

// Name returns the share name.
func (g *Group[V]) Name() string { return g.name }

// Filter returns the filter without the share: what follows the share name.
func (g *Group[V]) Filter() string { return g.filter }

// Members appends the members to dst in the order in which they joined. They
// are those of one moment: members may come and go afterwards, and there are
// none if the last one has just left.
func (g *Group[V]) Members(dst []*Entry[V]) []*Entry[V] {
	return g.members.Load().appendTo(dst)
}

// Turn returns 0, 1, 2 and so on, a new number for each call, for round robin.
// It begins again after 2³²-1.
func (g *Group[V]) Turn() uint32 { return g.turn.Add(1) - 1 }

// joinLocked adds e to the group of the shared filter, which stands at term.
func (t *Tree[V]) joinLocked(term *terminal[V], filter string, e *Entry[V]) {
	g := t.groups[filter]
	if g == nil {
		filter = strings.Clone(filter)
		g = &Group[V]{}
		g.name, g.filter, _ = SplitShared(filter)
		if t.groups == nil {
			t.groups = make(map[string]*Group[V])
		}
		t.groups[filter] = g
		t.groupsLen.Add(1)
		defer push(&term.groups, g, placeGroup) // not before it has its first member
	}
	e.group = g
	push(&g.members, e, placeEntry)
	t.sharedLen.Add(1)
}

// leaveLocked removes e from its group, which stands at term, and the group
// with its last member.
func (t *Tree[V]) leaveLocked(term *terminal[V], e *Entry[V]) {
	g := e.group
	drop(&g.members, e.slot, placeEntry)
	t.sharedLen.Add(-1)
	if g.members.Load() != nil {
		return
	}
	drop(&term.groups, g.slot, placeGroup)
	delete(t.groups, sharePrefix+g.name+"/"+g.filter)
	if len(t.groups) == 0 {
		t.groups = nil // a Go map does not shrink
	}
	t.groupsLen.Add(-1)
}

func placeGroup[V any](g *Group[V], slot int32) { g.slot = slot }
