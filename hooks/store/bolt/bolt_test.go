package bolt_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/store/bolt"
	"github.com/petrelmq/petrel/hooks/store/storetest"
)

func open(dir string) (petrel.Store, error) {
	s, err := bolt.Open(dir, bolt.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), LockTimeout: 50 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func TestStore(t *testing.T) { storetest.Run(t, open) }

// TestKilled is that of examples/broker.

func TestKilledWithLongQueues(t *testing.T) { storetest.RunKilledWithLongQueues(t, open) }

func TestFull(t *testing.T) { storetest.RunFull(t, open, true) }

// fill puts n records into a new store and returns the directory.
func fill(t *testing.T, n int) string {
	dir := filepath.Join(t.TempDir(), "data")
	s, err := open(dir)
	require.NoError(t, err)
	var b petrel.Batch
	for i := range n {
		b.Put(fmt.Appendf(nil, "key %06d", i), fmt.Appendf(nil, "value of %d", i))
	}
	b.SetSync(true)
	require.NoError(t, s.Commit(t.Context(), &b))
	require.NoError(t, s.Close())
	return dir
}

// load returns the records that a store has, each checked.
func load(t *testing.T, s petrel.Store) (n int) {
	require.NoError(t, s.Load(t.Context(), nil, []byte{0xff}, func(key, value []byte) error {
		var i int
		_, err := fmt.Sscanf(string(key), "key %06d", &i)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("value of %d", i), string(value))
		n++
		return nil
	}))
	return n
}

func TestOnlyTheOwnerMayRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // which has no such modes
	}
	dir := fill(t, 1)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	info, err = os.Stat(filepath.Join(dir, bolt.FileName))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := fill(t, 10)
	db, err := bbolt.Open(filepath.Join(dir, bolt.FileName), 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("petrel")).SetSequence(2) }))
	require.NoError(t, db.Close())
	_, err = open(dir)
	require.ErrorContains(t, err, "it has format 2, written by a newer petrel; this one knows 1")
}

// damaged returns a store whose n-th page of the given type, from a place in the
// middle on, is overwritten.
func damaged(t *testing.T, records int, flag byte, damage func(page []byte)) (dir string) {
	dir = fill(t, records)
	path := filepath.Join(dir, bolt.FileName)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	size := os.Getpagesize()
	for at := len(b) / 2 / size * size; at < len(b); at += size {
		if b[at+8] == flag && b[at+9] == 0 && bytes.Contains(b[at:at+size], []byte("key ")) {
			damage(b[at : at+size])
			require.NoError(t, os.WriteFile(path, b, 0o600))
			return dir
		}
	}
	t.Fatal("no such page")
	return ""
}

func TestDamagedPageIsContained(t *testing.T) {
	const records = 20_000
	for _, tc := range []struct {
		name   string
		damage func(page []byte)
	}{
		{"zeros", func(p []byte) { clear(p) }},
		{"ones", func(p []byte) { copy(p, bytes.Repeat([]byte{0xff}, len(p))) }},
		{"another page", func(p []byte) { p[0]++ }},
		{"elements that point out of it", func(p []byte) { p[16+4+2] = 0xff }},
		{"more elements than room", func(p []byte) { p[11] = 0xff }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := damaged(t, records, 2, tc.damage)
			require.Error(t, bolt.Check(dir))
			var log bytes.Buffer
			s, err := bolt.Open(dir, bolt.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			require.NoError(t, err)
			require.Contains(t, log.String(), "the damaged store was set aside")
			n := load(t, s)
			require.LessOrEqual(t, n, records)
			require.Greater(t, n, records-1000, "all that was not in the page is kept")
			require.NoError(t, s.Close())
			aside, err := filepath.Glob(filepath.Join(dir, bolt.FileName+".damaged-*"))
			require.NoError(t, err)
			require.Len(t, aside, 1)
			require.NoError(t, bolt.Check(dir))
		})
	}
}

func TestTruncatedFileIsContained(t *testing.T) {
	const records = 20_000
	dir := fill(t, records)
	path := filepath.Join(dir, bolt.FileName)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, info.Size()/2))
	s, err := open(dir)
	require.NoError(t, err)
	defer s.Close()
	n := load(t, s)
	require.Less(t, n, records)
	aside, err := filepath.Glob(path + ".damaged-*")
	require.NoError(t, err)
	require.Len(t, aside, 1)
}

func TestFileWithoutARootIsRefused(t *testing.T) {
	dir := fill(t, 100)
	path := filepath.Join(dir, bolt.FileName)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	clear(b[:2*os.Getpagesize()])
	require.NoError(t, os.WriteFile(path, b, 0o600))
	_, err = open(dir)
	require.ErrorContains(t, err, "neither of its two roots is whole")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, b, after, "it is left as it is")
}

// Whatever bytes are damaged, the process goes on: with an error, or with what
// can be read.
func TestAnyDamageIsSurvived(t *testing.T) {
	whole := fill(t, 3000)
	b, err := os.ReadFile(filepath.Join(whole, bolt.FileName))
	require.NoError(t, err)
	for i := range 150 {
		dir := t.TempDir()
		broken := bytes.Clone(b)
		at := i * len(broken) / 150
		copy(broken[at:], bytes.Repeat([]byte{byte(i * 37)}, 1+i%700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, bolt.FileName), broken, 0o600))
		s, err := open(dir)
		if err != nil {
			continue
		}
		n := 0
		require.NoError(t, s.Load(t.Context(), nil, []byte{0xff, 0xff}, func(_, _ []byte) error { n++; return nil }))
		require.LessOrEqual(t, n, 3000)
		var batch petrel.Batch
		batch.Put([]byte("new"), []byte("record"))
		require.NoError(t, s.Commit(t.Context(), &batch))
		require.NoError(t, s.Close())
	}
}

func TestCompact(t *testing.T) {
	dir := fill(t, 50_000)
	s, err := open(dir)
	require.NoError(t, err)
	var b petrel.Batch
	for i := range 49_000 {
		b.Delete(fmt.Appendf(nil, "key %06d", i))
	}
	require.NoError(t, s.Commit(t.Context(), &b))
	require.NoError(t, s.Close())
	before, after, err := bolt.Compact(dir)
	require.NoError(t, err)
	require.Less(t, after, before/4)
	s, err = open(dir)
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, 1000, load(t, s))
}

func BenchmarkBroker(b *testing.B) { storetest.Benchmark(b, open) }

func BenchmarkRestore(b *testing.B) { storetest.BenchmarkRestore(b, open) }

func BenchmarkLongQueue(b *testing.B) { storetest.BenchmarkLongQueue(b, open) }
