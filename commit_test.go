package petrel

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The memory of large commits is used again while there is more to do, and goes when
// there is not.
func TestMemoryOfChangesIsKeptAsLongAsItIsOfUse(t *testing.T) {
	j := &journal{}
	with := func(changes int) *commit {
		c := &commit{journal: j}
		for range changes {
			c.batch.Put(make([]byte, 20), make([]byte, 1000))
		}
		return c
	}
	large := func() *commit { return with(2 * keepBatch / 1000) }

	j.open = with(1)
	j.spareLocked(large())
	require.Greater(t, j.spare.reserved(), keepBatch, "more is waiting")
	require.Zero(t, j.spare.Len())

	j.open, j.spare = &commit{journal: j, batch: j.spare}, Batch{}
	j.spareLocked(large())
	require.Zero(t, j.spare.reserved()+j.open.batch.reserved(), "nothing is waiting")

	j.open = with(0)
	j.spareLocked(with(10))
	require.Greater(t, j.spare.reserved(), 10_000, "a small one is kept")
}
