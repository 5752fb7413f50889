package topics_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/petrelmq/petrel/topics"
	"github.com/stretchr/testify/require"
)

// random is a long seed: it fills hashed tables and many chunks.
func random(n int) []byte {
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data)
	return data
}

// pick takes the next byte of a fuzz input; 0 when there is none left.
func pick(data *[]byte) byte {
	if len(*data) == 0 {
		return 0
	}
	b := (*data)[0]
	*data = (*data)[1:]
	return b
}

// pickText takes a few levels out of a small set, so that inputs collide often.
func pickText(data *[]byte, levels []string) string {
	text := ""
	for n := pick(data) % 4; ; n-- {
		text += levels[int(pick(data))%len(levels)]
		if n == 0 {
			break
		}
		text += "/"
	}
	if text == "" {
		return "/"
	}
	return text
}

var (
	nameLevels = []string{
		"a", "b", "", "$S", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n",
		"o", "a b", "a\x01", "ab", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9",
	}
	filterLevels = append([]string{"+", "#"}, nameLevels...)
)

func pickFilter(data *[]byte) string {
	filter := ""
	if n := pick(data) % 6; n < 3 {
		filter = "$share/" + string('x'+rune(n)) + "/"
	}
	return filter + pickText(data, filterLevels)
}

// model is the naive subscription tree: a list.
type model struct {
	filters map[*topics.Entry[int]]string
	joined  []*topics.Entry[int] // in the order in which they were added
}

func (m *model) check(t *testing.T, tree *topics.Tree[int], topic string, got *topics.Matches[int]) {
	type key struct{ group, filter string }
	entries := map[*topics.Entry[int]]bool{}
	groups := map[key][]*topics.Entry[int]{}
	for _, e := range m.joined {
		group, inner, shared := referenceShared(m.filters[e])
		switch {
		case !reference(inner, topic):
		case shared:
			groups[key{group, inner}] = append(groups[key{group, inner}], e)
		default:
			entries[e] = true
		}
	}
	tree.Match([]byte(topic), got)
	require.Len(t, got.Entries, len(entries), topic)
	for _, e := range got.Entries {
		require.True(t, entries[e], "entry under %q for %q, twice or wrongly", m.filters[e], topic)
		delete(entries, e)
	}
	require.Len(t, got.Groups, len(groups), topic)
	for _, g := range got.Groups {
		k := key{g.Name(), g.Filter()}
		require.Equal(t, groups[k], g.Members(nil), "%v for %q", k, topic)
		delete(groups, k)
	}
}

func (m *model) counts() (shared, groups int) {
	seen := map[string]bool{}
	for _, f := range m.filters {
		if _, _, ok := referenceShared(f); ok {
			shared++
			seen[f] = true
		}
	}
	return shared, len(seen)
}

func FuzzTree(f *testing.F) {
	f.Add([]byte("\x00\x05\x00\x02\x04\x05\x03\x01\x02\x03"))
	f.Add([]byte("the quick brown fox jumps over the lazy dog, again and again and again"))
	f.Add(slices.Repeat([]byte{0, 5, 1, 2, 3, 0, 0, 1, 0, 2, 4, 2, 0, 1, 1, 3, 1, 2, 2}, 40))
	ramp := make([]byte, 3000)
	for i := range ramp {
		ramp[i] = byte(i * i >> 3)
	}
	f.Add(ramp)
	f.Add(random(20_000))
	f.Fuzz(func(t *testing.T, data []byte) {
		tree := topics.NewTree[int]()
		m := &model{filters: map[*topics.Entry[int]]string{}}
		var got topics.Matches[int]
		for len(data) > 0 {
			op := pick(&data) % 8
			if op < 4 {
				if filter := pickFilter(&data); topics.CheckFilter(filter, 0) == nil {
					e := &topics.Entry[int]{}
					tree.Add(filter, e)
					m.filters[e] = filter
					m.joined = append(m.joined, e)
				}
				continue
			}
			if op == 7 {
				m.check(t, tree, pickText(&data, nameLevels), &got)
				continue
			}
			if len(m.joined) == 0 {
				continue
			}
			i := int(pick(&data)) % len(m.joined)
			e := m.joined[i]
			if op == 6 {
				next := &topics.Entry[int]{}
				tree.Replace(e, next)
				m.filters[next] = m.filters[e]
				m.joined[i] = next
			} else {
				tree.Remove(e)
				m.joined = slices.Delete(m.joined, i, i+1)
			}
			delete(m.filters, e)
		}
		for _, topic := range []string{"a", "a/b", "$S/a", "/", "a/b/c/d", "//"} {
			m.check(t, tree, topic, &got)
		}
		shared, groups := m.counts()
		require.Equal(t, []int{len(m.joined), shared, groups}, []int{tree.Len(), tree.SharedLen(), tree.Groups()})
		for _, e := range m.joined {
			tree.Remove(e)
		}
		require.True(t, tree.Bare())
		require.Equal(t, []int{0, 0, 0}, []int{tree.Len(), tree.SharedLen(), tree.Groups()})
	})
}

func FuzzRetained(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01\x01\x00\x01\x02\x03\x01\x00\x01"))
	f.Add([]byte("the quick brown fox jumps over the lazy dog, again and again and again"))
	ramp := make([]byte, 9000)
	for i := range ramp {
		ramp[i] = byte(i*i>>3 + i>>5)
	}
	f.Add(ramp)
	f.Add(random(8_000))
	f.Fuzz(func(t *testing.T, data []byte) {
		index := topics.NewRetained[int]()
		naive := map[string]int{}
		for i := 0; len(data) > 0; i++ {
			op := pick(&data) % 16
			if op == 15 {
				checkWalk(t, index, naive, pickText(&data, filterLevels), int(pick(&data)))
				continue
			}
			topic := pickText(&data, nameLevels)
			want, has := naive[topic]
			var old int
			var ok bool
			switch op {
			case 10, 11:
				old, ok = index.Delete(topic)
				delete(naive, topic)
			case 12, 13:
				old, ok = index.DeleteFunc(topic, func(v int) bool { return v%2 == 0 })
				if want%2 != 0 {
					want, has = 0, false
					break
				}
				delete(naive, topic)
			default:
				old, ok = index.Set(topic, i)
				naive[topic] = i
			}
			require.Equal(t, []any{want, has}, []any{old, ok}, "op %d on %q", op, topic)
			want, has = naive[topic]
			old, ok = index.Get(topic)
			require.Equal(t, []any{want, has}, []any{old, ok}, "value of %q", topic)
			require.Equal(t, len(naive), index.Len())
		}
		_, broken := index.Chunks()
		require.Empty(t, broken)
		for _, filter := range []string{"#", "+", "+/+", "a/#", "a/+/b", "+/b/#", "$S/#", "a", "/#"} {
			checkWalk(t, index, naive, filter, 7)
		}
	})
}

// checkWalk holds both ways of walking against the naive map. A walk in steps
// of limit has to find each value once and come to an end.
func checkWalk(t *testing.T, index *topics.Retained[int], naive map[string]int, filter string, limit int) {
	if topics.CheckFilter(filter, 0) != nil {
		return
	}
	limit++
	want := map[string]int{}
	for topic, v := range naive {
		if reference(filter, topic) {
			want[topic] = v
		}
	}
	got := map[string]int{}
	last := ""
	for topic, v := range index.All(filter) {
		require.True(t, last == "" || topics.Compare(last, topic) < 0, "%q, %q", last, topic)
		got[topic], last = v, topic
	}
	require.Equal(t, want, got, filter)

	var values []int
	for c := topics.NewCursor(filter); !c.Done(); {
		before := len(values)
		values = index.Next(&c, values, limit)
		require.LessOrEqual(t, len(values)-before, limit)
	}
	require.ElementsMatch(t, slices.Collect(maps.Values(want)), values, filter)
}
