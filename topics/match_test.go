package topics_test

import (
	"strings"
	"testing"

	"github.com/petrelmq/petrel/topics"
	"github.com/stretchr/testify/require"
)

// matchCases is used for Match, the tree and the retained index alike.
var matchCases = []struct {
	filter, name string
	want         bool
}{
	{"a", "a", true},
	{"a", "A", false},
	{"a", "b", false},
	{"a", "ab", false},
	{"ab", "a", false},
	{"a", "a/", false},
	{"a/", "a", false},
	{"a/", "a/", true},
	{"/a", "a", false},
	{"/", "/", true},
	{"/", "//", false},
	{"a/b/c", "a/b/c", true},
	{"a/b/c", "a/b", false},
	{"a/b", "a/b/c", false},
	{"a//b", "a//b", true},
	{"a//b", "a/b", false},
	{"+", "a", true},
	{"+", "a/b", false},
	{"+", "/a", false},
	{"+/+", "/a", true},
	{"/+", "/a", true},
	{"+/+", "/", true},
	{"+/+", "a", false},
	{"a/+", "a/", true},
	{"a/+", "a", false},
	{"a/+", "a/b", true},
	{"a/+", "a/b/c", false},
	{"a/+/c", "a/b/c", true},
	{"a/+/c", "a//c", true},
	{"a/+/c", "a/b/d", false},
	{"a/+/c", "a/c", false},
	{"+/b/+", "a/b/c", true},
	{"+/b/+", "a/c/b", false},
	{"#", "a", true},
	{"#", "/", true},
	{"#", "a/b/c", true},
	{"a/#", "a", true},
	{"a/#", "a/", true},
	{"a/#", "a/b/c", true},
	{"a/#", "ab", false},
	{"a/#", "b", false},
	{"a/+/#", "a", false},
	{"a/+/#", "a/b", true},
	{"a/+/#", "a/b/c/d", true},
	{"+/#", "a", true},
	{"+/#", "/", true},
	{"a//#", "a/", true},
	{"a//#", "a", false},
	{"#", "$SYS/x", false},
	{"+/x", "$SYS/x", false},
	{"+/#", "$SYS/x", false},
	{"+", "$", false},
	{"$SYS/#", "$SYS/x", true},
	{"$SYS/#", "$SYS", true},
	{"$SYS/+", "$SYS/x", true},
	{"$SYS/x", "$SYS/x", true},
	{"a/+", "a/$b", true},
	{"a/#", "a/$b", true},
	{"+/+", "a/$b", true},
	{"a b", "a b", true},
	{"a/+", "a b/c", false},
	{"\xff/+", "\xff/\xfe", true},
}

func TestMatch(t *testing.T) {
	for _, tt := range matchCases {
		require.Equal(t, tt.want, reference(tt.filter, tt.name), "reference: %q, %q", tt.filter, tt.name)
		require.Equal(t, tt.want, topics.Match(tt.filter, tt.name), "%q, %q", tt.filter, tt.name)
		require.Equal(t, tt.want, topics.Match([]byte(tt.filter), []byte(tt.name)), "bytes: %q, %q", tt.filter, tt.name)
	}
}

func TestMatchOfVeryManyLevels(t *testing.T) {
	slashes := strings.Repeat("/", 65535)
	require.True(t, topics.Match(slashes, slashes))
	require.False(t, topics.Match(slashes[1:], slashes))
	pluses := "+" + strings.Repeat("/+", 32767)
	require.True(t, topics.Match(pluses, slashes[:32767]))
	require.False(t, topics.Match(pluses, slashes))
}

func FuzzMatch(f *testing.F) {
	for _, tt := range matchCases {
		f.Add(tt.filter, tt.name)
	}
	f.Fuzz(func(t *testing.T, filter, name string) {
		_, _, shared := topics.SplitShared(filter)
		if shared || topics.CheckFilter(filter, 0) != nil || topics.CheckName(name, 0) != nil {
			return
		}
		require.Equal(t, reference(filter, name), topics.Match(filter, name), "%q, %q", filter, name)

		tree := topics.NewTree[int]()
		tree.Add(filter, &topics.Entry[int]{})
		var m topics.Matches[int]
		tree.Match([]byte(name), &m)
		require.Equal(t, reference(filter, name), len(m.Entries) == 1, "tree: %q, %q", filter, name)

		index := topics.NewRetained[int]()
		index.Set(name, 1)
		c := topics.NewCursor(filter)
		found := 0
		for !c.Done() {
			found += len(index.Next(&c, nil, 10))
		}
		require.Equal(t, reference(filter, name), found == 1, "retained: %q, %q", filter, name)
	})
}
