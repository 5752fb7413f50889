package topics_test

import (
	"testing"

	"github.com/petrelmq/petrel/topics"
	"github.com/stretchr/testify/require"
)

// What a million subscriptions took is there again when they are gone, in
// whatever order they went.
func TestMemoryOfAMillionSubscriptionsComesBack(t *testing.T) {
	const n = 1_000_000
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
	require.Greater(t, grown, before+n*50, "the test measures something")
	require.Less(t, heap(), before+1<<20)
	require.True(t, tree.Bare())
	require.Zero(t, tree.Nodes())
}
