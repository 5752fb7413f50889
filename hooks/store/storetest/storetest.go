// Package storetest tests implementations of [petrel.Store], and has one in
// memory that fails when it is told to.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/petrelmq/petrel"
)

// Open opens the store that is kept in a directory, which exists and is empty
// the first time.
type Open func(dir string) (petrel.Store, error)

// Run tests a backend: what it promises of batches, of order, and of what is
// there when it is opened again, after an orderly end and after any other.
func Run(t *testing.T, open Open) {
	RunInMemory(t, open)
	t.Run("a crash after any commit loses none and shows none in part", func(t *testing.T) { testCrashPoints(t, open) })
	t.Run("what is overwritten and deleted gives its room back", func(t *testing.T) { testChurn(t, open) })
}

// RunInMemory is Run without the tests that look at the files of a store, for
// one that has none: its directory is just a name.
func RunInMemory(t *testing.T, open Open) {
	for _, tc := range []struct {
		name string
		run  func(*testing.T, Open)
	}{
		{"a new store is empty", testEmpty},
		{"records come in the order of their keys", testOrder},
		{"a range begins with its first key and ends before its last", testRange},
		{"the error of a callback ends the walk", testCallbackError},
		{"a range is read in pages while its beginning is deleted", testPages},
		{"the last change of a key wins", testLastChangeWins},
		{"nothing of a batch is kept by the store", testBatchIsReusable},
		{"an empty batch can be committed, also to sync", testEmptyBatch},
		{"values of any size", testSizes},
		{"keys and values of any bytes", testBytes},
		{"a walk sees batches whole while others are committed", testConcurrentUse},
		{"everything is there after Close", testReopen},
		{"a store is not opened twice", testLock},
		{"a refused commit changes nothing, and can be repeated", testFaults},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, open) })
	}
}

// mustOpen opens a store in a directory that goes with the test.
func mustOpen(t *testing.T, open Open, dir string) petrel.Store {
	t.Helper()
	s, err := open(dir)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// commit puts and deletes (nil) what m says, in one batch.
func commit(t *testing.T, s petrel.Store, m map[string][]byte, sync bool) {
	t.Helper()
	if err := s.Commit(t.Context(), batch(m, sync)); err != nil {
		t.Fatalf("commit of %d changes: %v", len(m), err)
	}
}

func batch(m map[string][]byte, sync bool) *petrel.Batch {
	b := new(petrel.Batch)
	for k, v := range m {
		if v == nil {
			b.Delete([]byte(k))
		} else {
			b.Put([]byte(k), v)
		}
	}
	b.SetSync(sync)
	return b
}

// records loads a range, and checks that it comes in order.
func records(t *testing.T, s petrel.Store, from, to string) map[string][]byte {
	t.Helper()
	got := make(map[string][]byte)
	last := ""
	err := s.Load(t.Context(), []byte(from), []byte(to), func(key, value []byte) error {
		if len(got) > 0 && string(key) <= last {
			return fmt.Errorf("key %q after %q", key, last)
		}
		last = string(key)
		got[last] = append([]byte{}, value...)
		return nil
	})
	if err != nil {
		t.Fatalf("load from %q to %q: %v", from, to, err)
	}
	return got
}

// all is a range that every key of these tests is in.
const first, last = "\x00", "\xff\xff\xff\xff\xff"

func expect(t *testing.T, got, want map[string][]byte) {
	t.Helper()
	for k, v := range want {
		if g, ok := got[k]; !ok || !bytes.Equal(g, v) {
			t.Fatalf("record %q: got %d bytes, there: %v; want %d bytes", k, len(g), ok, len(v))
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Fatalf("record %q should not be there", k)
		}
	}
}

func testEmpty(t *testing.T, open Open) {
	expect(t, records(t, mustOpen(t, open, t.TempDir()), first, last), nil)
}

func testOrder(t *testing.T, open Open) {
	s := mustOpen(t, open, t.TempDir())
	want := make(map[string][]byte)
	for range 2000 {
		k := make([]byte, 1+rand.IntN(12))
		for i := range k {
			k[i] = byte(1 + rand.IntN(254))
		}
		want[string(k)] = k
	}
	commit(t, s, want, true)
	expect(t, records(t, s, first, last), want)
}

func testRange(t *testing.T, open Open) {
	s := mustOpen(t, open, t.TempDir())
	v := []byte("v")
	commit(t, s, map[string][]byte{"a": v, "b": v, "b\x00": v, "bb": v, "c": v}, true)
	for _, tc := range []struct {
		from, to string
		want     []string
	}{
		{"b", "c", []string{"b", "b\x00", "bb"}},
		{"b", "b\x00", []string{"b"}},
		{"aa", "b", nil},
		{"b", "b", nil},
		{"c", "b", nil},
		{"bb", "z", []string{"bb", "c"}},
	} {
		want := make(map[string][]byte)
		for _, k := range tc.want {
			want[k] = v
		}
		expect(t, records(t, s, tc.from, tc.to), want)
	}
}

func testCallbackError(t *testing.T, open Open) {
	s := mustOpen(t, open, t.TempDir())
	commit(t, s, map[string][]byte{"a": {1}, "b": {2}}, true)
	enough, calls := errors.New("enough"), 0
	err := s.Load(t.Context(), []byte(first), []byte(last), func(_, _ []byte) error { calls++; return enough })
	if err != enough || calls != 1 {
		t.Fatalf("got %v after %d calls; want the error of the callback after 1", err, calls)
	}
}

// A queue grows at its end and is read and deleted at its beginning. Each walk sees all
// that was committed before.
func testPages(t *testing.T, open Open) {
	s := mustOpen(t, open, t.TempDir())
	enough := errors.New("enough")
	const page, pages = 10, 30
	put, read := 0, 0
	for range pages {
		more := make(map[string][]byte)
		for range page {
			more[fmt.Sprintf("q%06d", put)] = fmt.Append(nil, put)
			put++
		}
		commit(t, s, more, false)
		if put < 5*page {
			continue // let it have some pages
		}
		done := make(map[string][]byte)
		err := s.Load(t.Context(), fmt.Appendf(nil, "q%06d", read), []byte("r"), func(key, value []byte) error {
			if want := fmt.Sprintf("q%06d", read); string(key) != want || string(value) != fmt.Sprint(read) {
				t.Errorf("got %q with %q; want %q", key, value, want)
			}
			if len(done) == page {
				return enough
			}
			done[string(key)] = nil
			read++
			return nil
		})
		if err != enough || len(done) != page {
			t.Fatalf("a page of %d records, %v; want %d, and the error of the callback", len(done), err, page)
		}
		commit(t, s, done, false)
	}
	left := make(map[string][]byte)
	for ; read < put; read++ {
		left[fmt.Sprintf("q%06d", read)] = fmt.Append(nil, read)
	}
	expect(t, records(t, s, first, last), left)
}

func testLastChangeWins(t *testing.T, open Open) {
	s := mustOpen(t, open, t.TempDir())
	commit(t, s, map[string][]byte{"old": {1}, "other": {1}}, true)
	b := new(petrel.Batch)
	b.Put([]byte("k"), []byte("1"))
	b.Put([]byte("k"), []byte("2"))
	b.Put([]byte("gone"), []byte("3"))
	b.Delete([]byte("gone"))
	b.Delete([]byte("old"))
	b.Put([]byte("old"), []byte("4"))
	b.Delete([]byte("never there"))
	b.Put([]byte("empty"), nil)
	if err := s.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	expect(t, records(t, s, first, last), map[string][]byte{"k": []byte("2"), "old": []byte("4"), "other": {1}, "empty": {}})
}

func testBatchIsReusable(t *testing.T, open Open) {
	s := mustOpen(t, open, t.TempDir())
	b := new(petrel.Batch)
	want := make(map[string][]byte)
	for i := range 100 {
		b.Reset()
		k := fmt.Sprintf("key-%03d", i)
		want[k] = bytes.Repeat([]byte{byte(i)}, 50)
		b.Put([]byte(k), want[k])
		if err := s.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, records(t, s, first, last), want)
}

func testEmptyBatch(t *testing.T, open Open) {
	s := mustOpen(t, open, t.TempDir())
	commit(t, s, nil, false)
	commit(t, s, map[string][]byte{"a": {1}}, false)
	commit(t, s, nil, true)
	expect(t, records(t, s, first, last), map[string][]byte{"a": {1}})
}

func testSizes(t *testing.T, open Open) {
	dir := t.TempDir()
	s := mustOpen(t, open, dir)
	want := make(map[string][]byte)
	for _, n := range []int{0, 1, 100, 4095, 4096, 4097, 65535, 65536, 1 << 20, 3 << 20} {
		v := make([]byte, n)
		for i := range v {
			v[i] = byte(i * 7)
		}
		want[fmt.Sprintf("size %d", n)] = v
	}
	commit(t, s, want, true)
	expect(t, records(t, s, first, last), want)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, records(t, mustOpen(t, open, dir), first, last), want)
}

func testBytes(t *testing.T, open Open) {
	s := mustOpen(t, open, t.TempDir())
	want := make(map[string][]byte)
	for i := range 256 {
		want["k"+string([]byte{byte(i)})] = []byte{byte(i), 0, byte(255 - i)}
	}
	want["k"+string(bytes.Repeat([]byte{0xff}, 2000))] = []byte("long")
	commit(t, s, want, true)
	expect(t, records(t, s, "k", "l"), want)
}

// Each batch gives the same value to a number of keys.
func testConcurrentUse(t *testing.T, open Open) {
	s := mustOpen(t, open, t.TempDir())
	one := func(i int) map[string][]byte {
		m := make(map[string][]byte)
		for k := range 50 {
			m[fmt.Sprintf("k%02d", k)] = fmt.Appendf(nil, "%d", i)
		}
		return m
	}
	commit(t, s, one(0), false)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got := ""
				err := s.Load(context.Background(), []byte(first), []byte(last), func(_, v []byte) error {
					if got == "" {
						got = string(v)
					}
					if got != string(v) {
						return fmt.Errorf("batch %s and batch %s in one walk", got, v)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 100 {
		commit(t, s, one(i+1), i%10 == 0)
	}
	close(stop)
	wg.Wait()
}

func testReopen(t *testing.T, open Open) {
	dir := t.TempDir()
	want := make(map[string][]byte)
	for i := range 5 {
		s := mustOpen(t, open, dir)
		expect(t, records(t, s, first, last), want)
		k := fmt.Sprintf("k%d", i)
		want[k] = []byte(k)
		commit(t, s, map[string][]byte{k: want[k]}, false)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func testLock(t *testing.T, open Open) {
	dir := t.TempDir()
	s := mustOpen(t, open, dir)
	if second, err := open(dir); err == nil {
		_ = second.Close()
		t.Fatal("a second store was opened on the same directory")
	}
	commit(t, s, map[string][]byte{"a": {1}}, true)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, records(t, mustOpen(t, open, dir), first, last), map[string][]byte{"a": {1}})
}

// step is the n-th batch of a script, as changes to a model.
func step(n int) map[string][]byte {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	m := make(map[string][]byte)
	for range 1 + r.IntN(20) {
		k := fmt.Sprintf("key-%02d", r.IntN(40))
		if m[k] = nil; r.IntN(3) > 0 {
			m[k] = bytes.Repeat([]byte{byte(n)}, r.IntN(3000))
		}
	}
	return m
}

func apply(model, changes map[string][]byte) {
	for k, v := range changes {
		if v == nil {
			delete(model, k)
		} else {
			model[k] = v
		}
	}
}

// The directory is copied after each commit, which is what the end of the
// process would leave, and the copy is opened.
func testCrashPoints(t *testing.T, open Open) {
	dir := t.TempDir()
	s := mustOpen(t, open, dir)
	model := make(map[string][]byte)
	for n := range 40 {
		changes := step(n)
		commit(t, s, changes, n%2 == 0)
		apply(model, changes)
		left := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		c, err := open(left)
		if err != nil {
			t.Fatalf("open what commit %d left: %v", n, err)
		}
		expect(t, records(t, c, first, last), model)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// For every n the n-th commit is refused, or everything stops there.
func testFaults(t *testing.T, open Open) {
	const steps = 12
	for n := 1; n <= steps; n++ {
		for _, stop := range []bool{false, true} {
			dir := t.TempDir()
			f := &Faults{Store: mustOpen(t, open, dir)}
			f.FailAt(n, stop)
			model := make(map[string][]byte)
			for i := range steps {
				b := batch(step(i), true)
				err := f.Commit(t.Context(), b)
				if refused := i+1 == n || stop && i+1 > n; refused != (err != nil) {
					t.Fatalf("fault at %d: commit %d: %v", n, i+1, err)
				}
				if err != nil && !stop {
					err = f.Commit(t.Context(), b)
				}
				if err == nil {
					apply(model, step(i))
				}
			}
			if err := f.Store.Close(); err != nil {
				t.Fatal(err)
			}
			expect(t, records(t, mustOpen(t, open, dir), first, last), model)
		}
	}
}

// A queue that is filled and drained many times needs the room of one filling,
// or some of them.
func testChurn(t *testing.T, open Open) {
	dir := t.TempDir()
	s := mustOpen(t, open, dir)
	var sizes []int64
	for round := range 12 {
		for part := range 10 {
			fill, drain := make(map[string][]byte), make(map[string][]byte)
			for i := range 200 {
				k := fmt.Sprintf("q%08d", (10*round+part)*200+i)
				fill[k], drain[k] = bytes.Repeat([]byte{byte(i)}, 1000), nil
			}
			commit(t, s, fill, false)
			commit(t, s, drain, false)
		}
		sizes = append(sizes, sizeOf(t, dir))
	}
	expect(t, records(t, s, first, last), nil)
	if most := slices.Max(sizes[6:]); most > 4*sizes[2]+64<<20 {
		t.Fatalf("the store grows although it is empty: %v bytes", sizes)
	}
}

func sizeOf(t testing.TB, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil // the store tidies up meanwhile
		}
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sorted are the keys of a model.
func sorted(m map[string][]byte) []string { return slices.Sorted(maps.Keys(m)) }
