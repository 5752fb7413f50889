package topics_test

import (
	"runtime/debug"
	"slices"
	"testing"

	"github.com/petrelmq/petrel/topics"
	"github.com/stretchr/testify/require"
)

// scaled is n, or a tenth of it in a build with -race, which takes ten times as long.
func scaled(n int) int {
	info, ok := debug.ReadBuildInfo()
	if ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return n / 10
	}
	return n
}

// What a million subscriptions took is there again when they are gone, in
// whatever order they went.
func TestMemoryOfAMillionSubscriptionsComesBack(t *testing.T) {
	n := scaled(1_000_000)
	mixed := mixes[3].filter
	tree := topics.NewTree[int]()
	before := heap()
	grown := func() uint64 {
		entries := make([]topics.Entry[int], n)
		for i := range entries {
			tree.Add(mixed(i), &entries[i])
		}
		require.Equal(t, n, tree.Len())
		grown := heap()
		for i := range entries {
			tree.Remove(&entries[i*7919%n])
		}
		return grown
	}()
	require.Greater(t, grown, before+uint64(n)*50, "the test measures something")
	require.Less(t, heap(), before+1<<20)
	require.True(t, tree.Bare())
	require.Zero(t, tree.Nodes())
}
