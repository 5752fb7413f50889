package pebble_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/store/pebble"
)

// TestPowerLoss takes the power away after each commit: of what was not synced,
// some blocks have reached the disk and some have not. What was synced is there,
// and beyond that whole commits in their order, or none.
func TestPowerLoss(t *testing.T) {
	for seed := range uint64(6) {
		for _, syncEach := range []int{1, 3, 7} {
			t.Run(fmt.Sprintf("seed %d, every %d. commit synced", seed, syncEach), func(t *testing.T) {
				losePower(t, rand.New(rand.NewPCG(seed, 0)), syncEach)
			})
		}
	}
}

func losePower(t *testing.T, r *rand.Rand, syncEach int) {
	fs := vfs.NewCrashableMem()
	s, err := pebble.OpenFS(fs)
	require.NoError(t, err)
	defer func() { _ = s.Close() }()
	history := []map[string][]byte{{}}
	synced := 0
	for n := 1; n <= 40; n++ {
		model := maps.Clone(history[n-1])
		var b petrel.Batch
		for range 1 + r.IntN(20) {
			k := fmt.Sprintf("key %02d", r.IntN(50))
			if r.IntN(3) == 0 {
				b.Delete([]byte(k))
				delete(model, k)
			} else {
				v := bytes.Repeat([]byte{byte(n)}, r.IntN(20_000))
				b.Put([]byte(k), v)
				model[k] = v
			}
		}
		history = append(history, model)
		if b.SetSync(n%syncEach == 0); b.Sync() {
			synced = n
		}
		require.NoError(t, s.Commit(t.Context(), &b))
		left := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[r.IntN(3)], RNG: rand.New(rand.NewPCG(r.Uint64(), 1))})
		after, err := pebble.OpenFS(left)
		require.NoError(t, err)
		got := make(map[string][]byte)
		require.NoError(t, after.Load(t.Context(), nil, []byte{0xff}, func(k, v []byte) error {
			got[string(k)] = bytes.Clone(v)
			return nil
		}))
		require.NoError(t, after.Close())
		found := false
		for k := n; k >= synced && !found; k-- {
			found = maps.EqualFunc(history[k], got, bytes.Equal)
		}
		require.True(t, found, "after commit %d, of which %d were synced, the records are those of no commit from there on", n, synced)
	}
}
