package pebble_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/store/pebble"
	"github.com/petrelmq/petrel/hooks/store/storetest"
)

func open(dir string) (petrel.Store, error) {
	s, err := pebble.Open(dir, pebble.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func TestStore(t *testing.T) { storetest.Run(t, open) }

func TestKilled(t *testing.T) { storetest.RunKilled(t, open) }

func TestKilledWithLongQueues(t *testing.T) { storetest.RunKilledWithLongQueues(t, open) }

func TestFull(t *testing.T) { storetest.RunFull(t, open, false) }

func TestOnlyTheOwnerMayRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // which has no such modes
	}
	dir := filepath.Join(t.TempDir(), "data")
	s, err := open(dir)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	for _, d := range []string{dir, filepath.Join(dir, pebble.DirName)} {
		info, err := os.Stat(d)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm(), d)
	}
}

// value is what the i-th record has: nothing that could be compressed.
func value(i int) []byte {
	v := make([]byte, 1000)
	chacha := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)})
	_, _ = chacha.Read(v)
	return v
}

// fill puts n records into a new store, in tables, and returns the directory.
func fill(t *testing.T, n int) string {
	dir := t.TempDir()
	s, err := open(dir)
	require.NoError(t, err)
	for from := 0; from < n; from += 1000 {
		var b petrel.Batch
		for i := from; i < from+1000; i++ {
			b.Put(fmt.Appendf(nil, "key %06d", i), value(i))
		}
		require.NoError(t, s.Commit(t.Context(), &b))
	}
	require.NoError(t, s.Close())
	_, _, err = pebble.Compact(dir)
	require.NoError(t, err)
	return dir
}

func count(t *testing.T, s petrel.Store) (n int) {
	require.NoError(t, s.Load(t.Context(), nil, []byte{0xff}, func(_, _ []byte) error { n++; return nil }))
	return n
}

func TestDamagedTableIsContained(t *testing.T) {
	const records = 20_000
	dir := fill(t, records)
	tables, err := filepath.Glob(filepath.Join(dir, pebble.DirName, "*.sst"))
	require.NoError(t, err)
	require.Greater(t, len(tables), 2)
	path := tables[len(tables)/2]
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	copy(b[len(b)/3:], bytes.Repeat([]byte{0x55}, 1000))
	require.NoError(t, os.WriteFile(path, b, 0o600))
	require.Error(t, pebble.Check(dir))

	var log bytes.Buffer
	s, err := pebble.Open(dir, pebble.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.Contains(t, log.String(), "the damaged store was set aside")
	n := count(t, s)
	require.Less(t, n, records)
	require.Greater(t, n, records/2, "what is in other tables is kept")
	require.NoError(t, s.Close())
	aside, err := filepath.Glob(filepath.Join(dir, pebble.DirName+".damaged-*"))
	require.NoError(t, err)
	require.Len(t, aside, 1)
	require.NoError(t, pebble.Check(dir))
}

func TestDatabaseWithoutItsManifestIsRefused(t *testing.T) {
	dir := fill(t, 1000)
	manifests, err := filepath.Glob(filepath.Join(dir, pebble.DirName, "MANIFEST-*"))
	require.NoError(t, err)
	for _, m := range manifests {
		require.NoError(t, os.WriteFile(m, []byte("damaged"), 0o600))
	}
	_, err = open(dir)
	require.Error(t, err, "it must not be taken for a new one")
}

// A replacement that ended between its two renames is finished.
func TestReplacementIsFinished(t *testing.T) {
	dir := fill(t, 1000)
	path := filepath.Join(dir, pebble.DirName)
	require.NoError(t, os.Rename(path, path+".salvaged"))
	s, err := open(dir)
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, 1000, count(t, s))
}

func TestCompact(t *testing.T) {
	dir := fill(t, 20_000)
	s, err := open(dir)
	require.NoError(t, err)
	var b petrel.Batch
	for i := range 19_000 {
		b.Delete(fmt.Appendf(nil, "key %06d", i))
	}
	require.NoError(t, s.Commit(t.Context(), &b))
	require.NoError(t, s.Close())
	before, after, err := pebble.Compact(dir)
	require.NoError(t, err)
	require.Less(t, after, before)
	s, err = open(dir)
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, 1000, count(t, s))
}

func BenchmarkBroker(b *testing.B) { storetest.Benchmark(b, open) }

func BenchmarkRestore(b *testing.B) { storetest.BenchmarkRestore(b, open) }

func BenchmarkLongQueue(b *testing.B) { storetest.BenchmarkLongQueue(b, open) }
