package topics_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/petrelmq/petrel/topics"
	"github.com/stretchr/testify/require"
)

// changing runs change on some goroutines, over and over, while body runs.
func changing(t *testing.T, goroutines int, change func(r *rand.Rand, id, i int), body func()) {
	t.Helper()
	var wg sync.WaitGroup
	var stop atomic.Bool
	for id := range goroutines {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(id)))
			for i := 0; !stop.Load(); i++ {
				change(r, id, i)
			}
		})
	}
	body()
	stop.Store(true)
	wg.Wait()
}

const noise = -1 // value of entries that come and go

// TestEntriesThatStayAreFoundOnce has a set of entries stay, and one value per
// replaced entry stay, while their tables and lists grow, shrink and move.
func TestEntriesThatStayAreFoundOnce(t *testing.T) {
	tree := topics.NewTree[int]()
	stable := []string{"a/b/c", "a/b/c", "a/+/c", "a/b/#", "+/b/c", "#", "a/b/c/#", "a/b/c", "+/+/+"}
	for i, f := range stable {
		tree.Add(f, &topics.Entry[int]{Value: i})
	}
	replaced := []string{"a/b/c", "a/+/c", "#", "a/b/c", "a/b/+"}
	for range replaced {
		stable = append(stable, "")
	}
	tree.Add("$share/stays/a/b/c", &topics.Entry[int]{Value: len(stable)})

	around := []string{"a/b/c", "a/+/c", "#", "a/b/%d", "a/%d/c", "%d/b/c", "$share/%d/a/b/c", "$share/g/a/b/c", "$share/stays/a/b/c"}
	change := func(r *rand.Rand, id, _ int) {
		if id == 0 {
			replaceAll(tree, replaced, len(stable)-len(replaced))
			return
		}
		entries := make([]topics.Entry[int], r.IntN(100))
		for i := range entries {
			entries[i].Value = noise
			f := around[r.IntN(len(around))]
			if f[len(f)-1] == 'd' || f[0] == '%' || len(f) > 3 && f[2] == '%' || len(f) > 7 && f[7] == '%' {
				f = fmt.Sprintf(f, r.IntN(200))
			}
			tree.Add(f, &entries[i])
		}
		for _, i := range r.Perm(len(entries)) {
			tree.Remove(&entries[i])
		}
	}
	var ready sync.WaitGroup
	ready.Add(1)
	var once sync.Once
	changing(t, 4, func(r *rand.Rand, id, i int) {
		if id == 0 && i == 0 {
			addReplaced(tree, replaced, len(stable)-len(replaced))
			once.Do(ready.Done)
		}
		change(r, id, i)
	}, func() {
		ready.Wait()
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() { matchStable(t, tree, len(stable), 3000) })
		}
		readers.Wait()
	})
}

var current struct { // entries of the replacing goroutine
	sync.Mutex
	entries []*topics.Entry[int]
}

func addReplaced(tree *topics.Tree[int], filters []string, first int) {
	current.Lock()
	defer current.Unlock()
	current.entries = nil
	for i, f := range filters {
		e := &topics.Entry[int]{Value: first + i}
		tree.Add(f, e)
		current.entries = append(current.entries, e)
	}
}

func replaceAll(tree *topics.Tree[int], filters []string, first int) {
	current.Lock()
	defer current.Unlock()
	for i := range filters {
		next := &topics.Entry[int]{Value: first + i}
		tree.Replace(current.entries[i], next)
		current.entries[i] = next
	}
}

func matchStable(t *testing.T, tree *topics.Tree[int], stable, rounds int) {
	var m topics.Matches[int]
	topic := []byte("a/b/c")
	for range rounds {
		seen := make([]int, stable)
		tree.Match(topic, &m)
		for _, e := range m.Entries {
			if e.Value != noise {
				seen[e.Value]++
			}
		}
		for i, n := range seen {
			if n != 1 {
				t.Errorf("stable entry %d found %d times; want 1", i, n)
				return
			}
		}
		groups := 0
		for _, g := range m.Groups {
			if g.Name() != "stays" {
				continue
			}
			groups++
			members := 0
			for _, e := range g.Members(nil) {
				if e.Value == stable {
					members++
				}
			}
			if members != 1 {
				t.Errorf("stable member found %d times; want 1", members)
			}
		}
		if groups != 1 {
			t.Errorf("stable group found %d times; want 1", groups)
			return
		}
	}
}

func TestTreeIsEmptyAfterConcurrentChanges(t *testing.T) {
	tree := topics.NewTree[int]()
	var wg sync.WaitGroup
	for id := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(id)))
			for range 50 {
				entries := make([]topics.Entry[int], 200)
				for i := range entries {
					tree.Add(fmt.Sprintf("%d/+/%d", r.IntN(30), r.IntN(30)), &entries[i])
				}
				for i := range entries {
					next := &topics.Entry[int]{}
					tree.Replace(&entries[i], next)
					tree.Remove(next)
				}
			}
		})
	}
	wg.Wait()
	require.True(t, tree.Bare())
	require.Zero(t, tree.Len())
}

func TestWalkWhileTheIndexChanges(t *testing.T) {
	index := topics.NewRetained[string]()
	filters := map[string]int{"#": 0, "a/+/c": 0, "a/#": 0, "+/7/+": 0, "a/7/c": 0, "+/+": 0}
	for _, first := range []string{"a", "b"} {
		for i := range 1500 {
			for _, topic := range []string{fmt.Sprintf("%s/%d/c", first, i), fmt.Sprintf("%s/%d", first, i)} {
				index.Set(topic, topic)
				for f := range filters {
					if reference(f, topic) {
						filters[f]++
					}
				}
			}
		}
	}
	changing(t, 2, func(r *rand.Rand, _, _ int) {
		topic := fmt.Sprintf("%c/%d/x%d", 'a'+rune(r.IntN(2)), r.IntN(1500), r.IntN(3))
		if r.IntN(2) == 0 {
			index.Set(topic, "")
			return
		}
		for i := range 3 {
			index.Delete(topic[:len(topic)-1] + fmt.Sprint(i))
		}
	}, func() {
		for round := range 6 {
			for filter, want := range filters {
				checkStableWalk(t, index, filter, want, []int{1, 7, 100}[round%3])
			}
		}
	})
	_, broken := index.Chunks()
	require.Empty(t, broken)
}

// checkStableWalk finds each value that is not empty, and stays, once.
func checkStableWalk(t *testing.T, index *topics.Retained[string], filter string, want, limit int) {
	t.Helper()
	seen := map[string]bool{}
	var values []string
	for c := topics.NewCursor(filter); !c.Done(); {
		values = index.Next(&c, values[:0], limit)
		require.LessOrEqual(t, len(values), limit)
		for _, v := range values {
			if v != "" {
				require.False(t, seen[v], "%q found twice", v)
				seen[v] = true
			}
		}
	}
	require.Len(t, seen, want, filter)
}

// TestNodesThatStayAreFoundOnceInAWideLevel has tables be split and joined.
func TestNodesThatStayAreFoundOnceInAWideLevel(t *testing.T) {
	const stable = 50
	tree := topics.NewTree[int]()
	for i := range stable {
		tree.Add(fmt.Sprintf("a/stays%d/#", i), &topics.Entry[int]{Value: i})
	}
	changing(t, 1, func(r *rand.Rand, _, _ int) {
		entries := make([]topics.Entry[int], 2000)
		for i := range entries {
			tree.Add(fmt.Sprintf("a/%d", i), &entries[i])
		}
		for _, i := range r.Perm(len(entries)) {
			tree.Remove(&entries[i])
		}
	}, func() {
		var m topics.Matches[int]
		for round := range 50_000 {
			i := round % stable
			tree.Match(fmt.Appendf(nil, "a/stays%d", i), &m)
			if len(m.Entries) != 1 || m.Entries[0].Value != i {
				t.Errorf("round %d: %d entries; want the one that stays", round, len(m.Entries))
				return
			}
		}
	})
}
