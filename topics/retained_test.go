package topics_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/petrelmq/petrel/topics"
	"github.com/stretchr/testify/require"
)

func TestRetainedOneTopic(t *testing.T) {
	index := topics.NewRetained[string]()
	_, ok := index.Get("a")
	require.False(t, ok)
	_, ok = index.Delete("a")
	require.False(t, ok)

	_, replaced := index.Set("a", "1")
	require.False(t, replaced)
	old, replaced := index.Set("a", "2")
	require.True(t, replaced)
	require.Equal(t, "1", old)
	require.Equal(t, 1, index.Len())
	v, ok := index.Get("a")
	require.True(t, ok)
	require.Equal(t, "2", v)

	_, ok = index.DeleteFunc("a", func(v string) bool { return v == "1" })
	require.False(t, ok, "not the value that del wants")
	require.Equal(t, 1, index.Len())
	old, ok = index.DeleteFunc("a", func(v string) bool { return v == "2" })
	require.True(t, ok)
	require.Equal(t, "2", old)
	require.Zero(t, index.Len())
	index.DeleteFunc("a", func(string) bool { t.Error("called without a value"); return true })
}

func TestRetainedMatchesLikeMatch(t *testing.T) {
	index := topics.NewRetained[string]()
	for _, tt := range matchCases {
		index.Set(tt.name, tt.name)
	}
	for _, tt := range matchCases {
		found := maps.Collect(index.All(tt.filter))
		require.Equal(t, tt.want, found[tt.name] == tt.name, "%q, %q", tt.filter, tt.name)
		for name := range found {
			require.True(t, reference(tt.filter, name), "%q, %q", tt.filter, name)
		}
	}
}

func TestTopicsBelowATopicFollowIt(t *testing.T) {
	want := []string{"/", "//a", "/a", "a", "a/", "a/b", "a/b/c", "a/b\x01", "a/b c", "a\x01", "a b", "a b/c", "a-b", "ab", "b"}
	index := topics.NewRetained[int]()
	for i, topic := range want {
		index.Set(topic, i)
	}
	got := []string{}
	for topic := range index.All("#") {
		got = append(got, topic)
	}
	require.Equal(t, want, got)
}

func TestManyRetained(t *testing.T) {
	const n = 20_000
	orders := map[string]func(i int) int{
		"ascending":  func(i int) int { return i },
		"descending": func(i int) int { return n - 1 - i },
		"scattered":  func(i int) int { return i * 7919 % n },
	}
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			index := topics.NewRetained[int]()
			for i := range n {
				index.Set(fmt.Sprintf("a/%06d/c", order(i)), order(i))
			}
			requireSound(t, index)
			chunks, _ := index.Chunks()
			require.Less(t, chunks, n/200, "chunks are not too empty")
			require.Equal(t, n, index.Len())
			next := 0
			for topic, v := range index.All("a/+/c") {
				require.Equal(t, fmt.Sprintf("a/%06d/c", next), topic)
				require.Equal(t, next, v)
				next++
			}
			require.Equal(t, n, next)
			for i := range n {
				v, ok := index.Delete(fmt.Sprintf("a/%06d/c", order(i*3%n)))
				require.True(t, ok && v == order(i*3%n))
				if i == n*9/10 {
					requireSound(t, index)
					chunks, _ := index.Chunks()
					require.LessOrEqual(t, chunks, n/10/150, "chunks are joined")
				}
			}
			chunks, _ = index.Chunks()
			require.Zero(t, chunks)
		})
	}
}

func requireSound(t *testing.T, index *topics.Retained[int]) {
	t.Helper()
	_, broken := index.Chunks()
	require.Empty(t, broken)
}

func TestCursor(t *testing.T) {
	index := topics.NewRetained[int]()
	for i := range 10 {
		index.Set(fmt.Sprintf("a/%d", i), i)
	}
	c := topics.NewCursor("a/+")
	require.Equal(t, "a/+", c.Filter())
	require.Equal(t, []int{99, 0, 1, 2}, index.Next(&c, []int{99}, 3), "appends")
	require.Empty(t, index.Next(&c, nil, 0))
	require.Empty(t, index.Next(&c, nil, -1))
	require.False(t, c.Done())

	index.Delete("a/2")    // where the cursor stands
	index.Set("a/1/x", -1) // behind it
	index.Set("a/25", 25)  // before it
	index.Delete("a/3")
	require.Equal(t, []int{25, 4}, index.Next(&c, nil, 2))
	require.Equal(t, []int{5, 6, 7, 8, 9}, index.Next(&c, nil, 5))
	require.True(t, c.Done(), "known at the end of the index")
	require.Empty(t, index.Next(&c, nil, 5))

	c = topics.NewCursor("a/4")
	require.Equal(t, []int{4}, index.Next(&c, nil, 1))
	require.True(t, c.Done(), "a filter without wildcard has one match at most")
	c = topics.NewCursor("none")
	require.Empty(t, index.Next(&c, nil, 1))
	require.True(t, c.Done())
	c = topics.NewCursor("#")
	require.Empty(t, topics.NewRetained[int]().Next(&c, nil, 1))
	require.True(t, c.Done())
}

// A walk that goes on with a new cursor finds what the old one would have found.
func TestCursorBehindATopic(t *testing.T) {
	index := topics.NewRetained[string]()
	for _, topic := range []string{"a", "a/b", "a/b/c", "a/b0", "a/c", "b", "b/b", "$a/b"} {
		index.Set(topic, topic)
	}
	for _, filter := range []string{"#", "a/#", "+/b", "a/b", "+", "$a/#", "none"} {
		c := topics.NewCursor(filter)
		all := index.Next(&c, nil, 100)
		for i := range len(all) + 1 {
			behind := ""
			if i > 0 {
				behind = all[i-1]
			}
			c := topics.NewCursorBehind(filter, behind)
			require.Equal(t, append([]string{}, all[i:]...), append([]string{}, index.Next(&c, nil, 100)...), "%s behind %q", filter, behind)
		}
	}
	index.Delete("a/b")
	c := topics.NewCursorBehind("a/#", "a/b")
	require.Equal(t, []string{"a/b/c", "a/b0", "a/c"}, index.Next(&c, nil, 100), "the topic need not be there")
}

func TestOneCallLooksAtABoundedNumberOfEntries(t *testing.T) {
	index := topics.NewRetained[int]()
	const n = 5000
	for i := range n {
		index.Set(fmt.Sprintf("%05d/a", i), i) // each has to be looked at for +/b
	}
	index.Set("99999/b", n)
	calls := 0
	var values []int
	for c := topics.NewCursor("+/b"); !c.Done(); calls++ {
		values = index.Next(&c, values, 10)
	}
	require.Equal(t, []int{n}, values)
	require.GreaterOrEqual(t, calls, n/topics.StepsPerCall)
	require.LessOrEqual(t, calls, 2*n/topics.StepsPerCall+2)
}

func TestWalkSkipsWhatCannotMatch(t *testing.T) {
	index := topics.NewRetained[int]()
	for i := range 20 {
		for k := range 1000 {
			index.Set(fmt.Sprintf("%d/x/%d", i, k), 0)
		}
		index.Set(fmt.Sprintf("%d/y", i), i)
	}
	c := topics.NewCursor("+/y")
	require.Len(t, index.Next(&c, nil, 100), 20, "in one call, so the others were not looked at")
}

func TestAllCanStopAndChangeTheIndex(t *testing.T) {
	index := topics.NewRetained[int]()
	for i := range 1000 {
		index.Set(fmt.Sprint(i), i)
	}
	for range index.All("#") {
		break
	}
	for topic := range index.All("#") {
		index.Delete(topic)
	}
	require.Zero(t, index.Len())
}

func TestRetainedDeepTopics(t *testing.T) {
	index := topics.NewRetained[int]()
	slashes := strings.Repeat("/", 65535)
	index.Set(slashes, 1)
	index.Set(slashes[1:], 2)
	pluses := "+" + strings.Repeat("/+", 32767)
	require.Len(t, slices.Collect(maps.Values(maps.Collect(index.All("#")))), 2)
	require.Empty(t, maps.Collect(index.All(pluses)))
	require.Len(t, maps.Collect(index.All(pluses[:65533]+"/#")), 2)
}

func TestNextDoesNotAllocate(t *testing.T) {
	index := topics.NewRetained[int]()
	for i := range 5000 {
		index.Set(fmt.Sprintf("a/%d/c", i), i)
		index.Set(fmt.Sprintf("a/%d/d", i), i)
	}
	dst := make([]int, 0, 5000)
	require.Zero(t, testing.AllocsPerRun(10, func() {
		dst = dst[:0]
		for c := topics.NewCursor("a/+/c"); !c.Done(); {
			dst = index.Next(&c, dst, 100)
		}
	}))
	require.Len(t, dst, 5000)
}

func TestRetainedMemoryComesBack(t *testing.T) {
	n := scaled(100_000)
	index := topics.NewRetained[int]()
	before := heap()
	for i := range n {
		index.Set(fmt.Sprintf("a/%d", i*7919%n), i)
	}
	require.Greater(t, heap(), before+uint64(n)*24)
	for i := range n {
		index.Delete(fmt.Sprintf("a/%d", i))
	}
	require.Less(t, heap(), before+1<<20)
}

func TestCursorAllFindsEveryTopic(t *testing.T) {
	r := topics.NewRetained[int]()
	want := []string{"$SYS/a", "$x", "/", "a", "a/b", "b"}
	for i, topic := range want {
		r.Set(topic, i)
	}
	c := topics.NewCursorAll()
	var got []int
	for !c.Done() {
		got = r.Next(&c, got, 2)
	}
	if len(got) != len(want) {
		t.Fatalf("found %d topics; want %d", len(got), len(want))
	}
	seen := make(map[int]bool)
	for _, i := range got {
		seen[i] = true
	}
	if len(seen) != len(want) {
		t.Fatalf("found %v; want each of %d topics once", got, len(want))
	}
}
