package topics_test

import (
	"runtime/debug"
	"slices"
	"testing"

	"github.com/petrelmq/petrel/topics"
	"github.com/stretchr/testify/require"
)

// underRaceDetector reports whether this is a build with -race.
func underRaceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// What a million subscriptions took is there again when they are gone, in
// whatever order they went.
func TestMemoryOfAMillionSubscriptionsComesBack(t *testing.T) {
	n := 1_000_000
	if underRaceDetector() {
		n = 100_000 // which is slow enough
	}
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
