package topics_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/petrelmq/petrel/topics"
	"github.com/stretchr/testify/require"
)

type entry = topics.Entry[string]

// names returns the values that match topic, in order; of groups "name filter".
func names(tree *topics.Tree[string], topic string) []string {
	var m topics.Matches[string]
	tree.Match([]byte(topic), &m)
	found := []string{}
	for _, e := range m.Entries {
		found = append(found, e.Value)
	}
	for _, g := range m.Groups {
		found = append(found, g.Name()+" "+g.Filter())
	}
	slices.Sort(found)
	return found
}

func TestTreeMatchesLikeMatch(t *testing.T) {
	all := topics.NewTree[string]()
	for _, tt := range matchCases {
		if tree := topics.NewTree[string](); true {
			tree.Add(tt.filter, &entry{Value: "x"})
			require.Equal(t, tt.want, len(names(tree, tt.name)) == 1, "%q, %q", tt.filter, tt.name)
			shared := topics.NewTree[string]()
			shared.Add("$share/g/"+tt.filter, &entry{Value: "x"})
			require.Equal(t, tt.want, len(names(shared, tt.name)) == 1, "shared %q, %q", tt.filter, tt.name)
		}
		all.Add(tt.filter, &entry{Value: tt.filter})
	}
	for _, tt := range matchCases {
		want := []string{}
		for _, f := range matchCases {
			if reference(f.filter, tt.name) {
				want = append(want, f.filter)
			}
		}
		slices.Sort(want)
		require.Equal(t, want, names(all, tt.name), tt.name)
	}
}

func TestTreeEntries(t *testing.T) {
	tree := topics.NewTree[string]()
	a, b, c := &entry{Value: "a"}, &entry{Value: "b"}, &entry{Value: "c"}
	tree.Add("x/+", a)
	tree.Add("x/+", b)
	tree.Add("x/y", c)
	require.Equal(t, []string{"a", "b", "c"}, names(tree, "x/y"), "the same filter twice is two entries")
	require.Equal(t, 3, tree.Len())

	tree.Remove(a)
	tree.Remove(a)
	require.Equal(t, []string{"b", "c"}, names(tree, "x/y"), "removing twice is removing once")
	require.Equal(t, 2, tree.Len())

	tree.Replace(b, a)
	require.Equal(t, []string{"a", "c"}, names(tree, "x/y"))
	tree.Replace(b, &entry{Value: "none"})
	require.Equal(t, []string{"a", "c"}, names(tree, "x/y"), "replacing what is in no tree does nothing")
	tree.Replace(c, c)
	tree.Remove(b)
	require.Equal(t, []string{"a", "c"}, names(tree, "x/y"))

	tree.Remove(a)
	tree.Remove(c)
	tree.Remove(&entry{})
	require.Empty(t, names(tree, "x/y"))
	require.Zero(t, tree.Len())
	require.True(t, tree.Bare())

	tree.Add("#", a)
	require.Equal(t, []string{"a"}, names(tree, "x/y"), "an entry can come back elsewhere")
	require.Empty(t, names(tree, "$x"))
}

func TestTreePrunesWhatIsEmptyAndNoMore(t *testing.T) {
	tree := topics.NewTree[string]()
	filters := []string{"a", "a/b/c", "a/b/+", "a/#", "a/+/+/d", "e/f"}
	entries := make([]*entry, len(filters))
	for i, f := range filters {
		entries[i] = &entry{Value: f}
		tree.Add(f, entries[i])
	}
	require.Equal(t, 9, tree.Nodes())
	for i, want := range []int{9, 8, 6, 6, 2, 0} {
		tree.Remove(entries[i])
		require.Equal(t, want, tree.Nodes(), "after removing %q", filters[i])
	}
	require.True(t, tree.Bare())
}

func TestSharedGroups(t *testing.T) {
	tree := topics.NewTree[string]()
	members := make([]*entry, 6)
	for i := range members {
		members[i] = &entry{Value: fmt.Sprint(i)}
	}
	tree.Add("$share/g/a/+", members[0])
	tree.Add("$share/g/a/+", members[1])
	tree.Add("$share/h/a/+", members[2])
	tree.Add("$share/g/a/#", members[3])
	tree.Add("$share/g//a", members[4])
	tree.Add("a/+", members[5])
	require.Equal(t, []string{"5", "g a/#", "g a/+", "h a/+"}, names(tree, "a/b"))
	require.Equal(t, []string{"g /a"}, names(tree, "/a"))
	require.Equal(t, []int{6, 5, 4}, []int{tree.Len(), tree.SharedLen(), tree.Groups()})

	for _, e := range members {
		tree.Remove(e)
		tree.Remove(e)
	}
	require.Equal(t, []int{0, 0, 0}, []int{tree.Len(), tree.SharedLen(), tree.Groups()})
	require.True(t, tree.Bare())
}

func TestGroupMembersStandInJoinOrder(t *testing.T) {
	tree := topics.NewTree[string]()
	var joined []*entry
	for i := range 20 {
		joined = append(joined, &entry{Value: fmt.Sprint(i)})
		tree.Add("$share/g/a", joined[i])
	}
	var m topics.Matches[string]
	tree.Match([]byte("a"), &m)
	require.Len(t, m.Groups, 1)
	g := m.Groups[0]
	require.Equal(t, joined, g.Members(nil))
	require.Equal(t, joined, g.Members(joined[:3:3])[3:], "appends")

	for len(joined) > 1 {
		i := len(joined) / 2
		tree.Remove(joined[i])
		joined = slices.Delete(joined, i, i+1)
		require.Equal(t, joined, g.Members(nil))
		if len(joined)%3 == 0 {
			next := &entry{Value: "next"}
			tree.Replace(joined[0], next)
			joined[0] = next
			require.Equal(t, joined, g.Members(nil), "a replacement stands where the old one stood")
		}
		if len(joined)%5 == 0 {
			tree.Remove(joined[0])
			tree.Add("$share/g/a", joined[0])
			joined = append(joined[1:], joined[0])
			require.Equal(t, joined, g.Members(nil), "who comes again stands last")
		}
	}
	tree.Remove(joined[0])
	require.Empty(t, g.Members(nil))

	tree.Add("$share/g/a", joined[0])
	tree.Match([]byte("a"), &m)
	require.NotSame(t, g, m.Groups[0], "a new group after the last member left")
}

func TestGroupTurns(t *testing.T) {
	var g topics.Group[int]
	for i := range uint32(5) {
		require.Equal(t, i, g.Turn())
	}
}

func TestMatchesKeepsNothingAlive(t *testing.T) {
	tree := topics.NewTree[string]()
	for i := range 100 {
		tree.Add("a/+/c", &entry{})
		tree.Add(fmt.Sprintf("$share/%d/a/#", i), &entry{})
	}
	var m topics.Matches[string]
	tree.Match([]byte("a/b/c"), &m)
	require.Len(t, m.Entries, 100)
	require.Len(t, m.Groups, 100)
	tree.Match([]byte("a"), &m)
	require.Empty(t, m.Entries)
	require.Len(t, m.Groups, 100)
	require.Equal(t, 100, m.Slots(), "a smaller result leaves nothing of a greater one")
	m.Reset()
	require.Zero(t, m.Slots())
}

func TestTreeDoesNotKeepTheFiltersString(t *testing.T) {
	tree := topics.NewTree[string]()
	const big = 1 << 20
	before := heap()
	for i := range 50 {
		text := strings.Repeat("x", big) + fmt.Sprintf("$share/%d/abc/%d", i, i)
		tree.Add(text[big:], &entry{})
		tree.Add(text[big+len("$share/0/"):], &entry{})
	}
	require.Less(t, heap(), before+10*big)
	require.Equal(t, 100, tree.Len())
}

func TestVeryDeepTopicsAndFilters(t *testing.T) {
	tree := topics.NewTree[string]()
	slashes := strings.Repeat("/", 65535)
	pluses := "+" + strings.Repeat("/+", 32767)
	deep, plus, hash := &entry{Value: "deep"}, &entry{Value: "plus"}, &entry{Value: "hash"}
	tree.Add(slashes, deep)
	tree.Add(pluses, plus)
	tree.Add(pluses[:65533]+"/#", hash)
	require.Equal(t, []string{"deep", "hash"}, names(tree, slashes))
	require.Equal(t, []string{"hash", "plus"}, names(tree, slashes[:32767]))
	for _, e := range []*entry{deep, plus, hash} {
		tree.Remove(e)
	}
	require.True(t, tree.Bare())
}

func TestPlusAlternativesAreBoundedByTheTree(t *testing.T) {
	tree := topics.NewTree[string]()
	const depth = 12
	for bits := range 1 << depth {
		levels := make([]string, depth)
		for i := range levels {
			levels[i] = []string{"a", "+"}[bits>>i&1]
		}
		tree.Add(strings.Join(levels, "/"), &entry{Value: "x"})
	}
	require.Len(t, names(tree, "a"+strings.Repeat("/a", depth-1)), 1<<depth)
}

func TestMatchDoesNotAllocate(t *testing.T) {
	tree := topics.NewTree[string]()
	for i := range 1000 {
		tree.Add(fmt.Sprintf("a/%d/c", i), &entry{})
		tree.Add(fmt.Sprintf("$share/g%d/+/7/c", i), &entry{})
	}
	for range 50 {
		tree.Add("a/+/c", &entry{})
		tree.Add("a/#", &entry{})
	}
	topic := []byte("a/7/c")
	var m topics.Matches[string]
	require.Zero(t, testing.AllocsPerRun(100, func() { tree.Match(topic, &m) }))
	require.Len(t, m.Entries, 101)
	require.Len(t, m.Groups, 1000)
	var dst []*entry
	require.Zero(t, testing.AllocsPerRun(100, func() { dst = m.Groups[0].Members(dst[:0]) }))
}

func TestManyEntriesOnOneFilter(t *testing.T) {
	n := scaled(200_000)
	for _, filter := range []string{"a/b", "$share/g/a/b"} {
		tree := topics.NewTree[string]()
		entries := make([]entry, n)
		for i := range entries {
			tree.Add(filter, &entries[i])
		}
		require.Equal(t, n, tree.Len())
		require.Equal(t, 2, tree.Nodes())
		for i := range entries {
			tree.Remove(&entries[i*7919%n])
		}
		require.True(t, tree.Bare())
	}
}

func TestManyGroupsOnOneFilter(t *testing.T) {
	const n = 50_000
	tree := topics.NewTree[string]()
	entries := make([]entry, n)
	for i := range entries {
		tree.Add(fmt.Sprintf("$share/%d/a", i), &entries[i])
	}
	require.Equal(t, n, tree.Groups())
	for i := range entries {
		tree.Remove(&entries[i])
	}
	require.True(t, tree.Bare())
}

func TestMemoryComesBack(t *testing.T) {
	n := scaled(100_000)
	tree := topics.NewTree[string]()
	stays := &entry{Value: "stays"}
	tree.Add("a/b/c", stays)
	before := heap()
	grown := func() uint64 {
		entries := make([]entry, n)
		for i := range entries {
			tree.Add([]string{
				fmt.Sprintf("a/b/%d", i), fmt.Sprintf("x/%d/+", i), fmt.Sprintf("%d/#", i),
				fmt.Sprintf("$share/g%d/a/b/c", i), "a/b/c",
			}[i%5], &entries[i])
		}
		grown := heap()
		for i := range entries {
			tree.Remove(&entries[i])
		}
		return grown
	}()
	after := heap()
	require.Greater(t, grown, before+uint64(n)*50, "the test measures something")
	require.Less(t, after, before+1<<20)
	require.Equal(t, 3, tree.Nodes())
	tree.Remove(stays)
	require.True(t, tree.Bare())
	require.Zero(t, tree.Nodes())
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// TestWideLevel has one level grow until its table is split, twice over, and
// shrink again.
func TestWideLevel(t *testing.T) {
	n := scaled(60_000)
	tree := topics.NewTree[string]()
	entries := make([]entry, n)
	filter := func(i int) string { return fmt.Sprintf("a/%d", i) }
	found := func(i int) bool {
		return slices.Equal(names(tree, filter(i)), []string{filter(i)})
	}
	for i := range entries {
		entries[i].Value = filter(i)
		tree.Add(filter(i), &entries[i])
		require.True(t, found(i) && found(i/2), "%d", i)
	}
	require.Equal(t, n+1, tree.Nodes())
	for i := range n {
		k := i * 7919 % n
		require.True(t, found(k), "%d", k)
		tree.Remove(&entries[k])
		require.False(t, found(k), "%d", k)
		if i%1000 == 0 { // one that was removed comes back
			tree.Add(filter(k), &entries[k])
			require.True(t, found(k))
			tree.Remove(&entries[k])
		}
	}
	require.True(t, tree.Bare())
}
