package bolt_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/store/bolt"
)

const sector = 512 // what a disk writes whole or not at all

// disk makes files as a loss of power leaves them. A commit of bbolt that syncs
// writes pages that nothing refers to yet, syncs, writes one of the two pages in
// front, which refers to them, and syncs. The files before and after it tell which
// pages those were.
type disk struct {
	r             *rand.Rand
	before, after []byte
}

// sectors returns the offsets of the sectors that the commit has changed: of the
// two pages in front, and of all others.
func (d *disk) sectors() (front, others []int) {
	size := os.Getpagesize()
	for at := 0; at < len(d.after); at += sector {
		if at >= len(d.before) || !bytes.Equal(d.before[at:at+sector], d.after[at:at+sector]) {
			if at < 2*size {
				front = append(front, at)
			} else {
				others = append(others, at)
			}
		}
	}
	return front, others
}

// lost returns the file with some of the changed sectors: each one is there, or
// not, or torn in the middle.
func (d *disk) lost(some []int, all ...int) []byte {
	f := bytes.Clone(d.before)
	if n := len(d.after) - len(f); n > 0 && d.r.IntN(2) == 0 {
		f = append(f, make([]byte, n)...) // it has its new size already
	}
	put := func(at, n int) {
		if at+sector > len(f) {
			f = append(f, make([]byte, at+sector-len(f))...)
		}
		copy(f[at:at+n], d.after[at:at+n])
	}
	for _, at := range all {
		put(at, sector)
	}
	for _, at := range some {
		switch d.r.IntN(3) {
		case 0:
			put(at, sector)
		case 1:
			put(at, d.r.IntN(sector))
		}
	}
	for len(f)%os.Getpagesize() != 0 {
		f = append(f, 0)
	}
	return f
}

// openAfter opens a file, and returns the records in it.
func openAfter(t *testing.T, file []byte) (records map[string]string, log string, err error) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, bolt.FileName), file, 0o600))
	var lines bytes.Buffer
	s, err := bolt.Open(dir, bolt.Options{Logger: slog.New(slog.NewTextHandler(&lines, nil))})
	if err != nil {
		return nil, lines.String(), err
	}
	records = make(map[string]string)
	require.NoError(t, s.Load(t.Context(), nil, []byte{0xff}, func(k, v []byte) error {
		records[string(k)] = string(v)
		return nil
	}))
	require.NoError(t, s.Close())
	return records, lines.String(), nil
}

// change makes a random batch, and applies it to a model.
func change(r *rand.Rand, n int, model map[string]string) *petrel.Batch {
	b := new(petrel.Batch)
	for range 1 + r.IntN(60) {
		k := fmt.Sprintf("key %03d", r.IntN(200))
		if r.IntN(3) == 0 {
			b.Delete([]byte(k))
			delete(model, k)
		} else {
			v := string(binary.BigEndian.AppendUint32(bytes.Repeat([]byte{byte(n)}, r.IntN(3000)), uint32(n)))
			b.Put([]byte(k), []byte(v))
			model[k] = v
		}
	}
	return b
}

// A loss of power in the middle of a synced commit leaves the state before it, or
// the one after it, and nothing that looks like damage.
func TestPowerLossInACommit(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	dir := t.TempDir()
	path := filepath.Join(dir, bolt.FileName)
	s, err := open(dir)
	require.NoError(t, err)
	defer s.Close()
	model := make(map[string]string)
	for n := range 40 {
		old := maps.Clone(model)
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		b := change(r, n, model)
		b.SetSync(true)
		require.NoError(t, s.Commit(t.Context(), b))
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		d := &disk{r, before, after}
		front, others := d.sectors()
		for range 6 {
			got, log, err := openAfter(t, d.lost(others)) // before the first of the two syncs
			require.NoError(t, err)
			require.Empty(t, log)
			require.Equal(t, old, got)
			got, log, err = openAfter(t, d.lost(front, others...)) // before the second
			require.NoError(t, err)
			require.Empty(t, log)
			if !maps.Equal(got, old) {
				require.Equal(t, model, got)
			}
		}
	}
}

// Without syncs a loss of power can tear anything. The store is opened with what
// can be read, and says so, or it is refused.
func TestPowerLossWithoutSyncs(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	dir := t.TempDir()
	path := filepath.Join(dir, bolt.FileName)
	s, err := open(dir)
	require.NoError(t, err)
	defer s.Close()
	model := make(map[string]string)
	opened, damaged := 0, 0
	for n := range 20 {
		b := change(r, n, model)
		b.SetSync(true)
		require.NoError(t, s.Commit(t.Context(), b))
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		for range 5 {
			require.NoError(t, s.Commit(t.Context(), change(r, n, model)))
		}
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		d := &disk{r, before, after}
		front, others := d.sectors()
		for range 6 {
			_, log, err := openAfter(t, d.lost(append(front, others...)))
			if err != nil {
				require.ErrorContains(t, err, "neither of its two roots is whole")
				continue
			}
			if opened++; log != "" {
				require.Contains(t, log, "the damaged store was set aside")
				damaged++
			}
		}
	}
	require.Positive(t, opened)
	require.Positive(t, damaged, "the test does damage")
}
