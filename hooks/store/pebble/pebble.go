// Package pebble keeps the state of a broker in a directory, a Pebble database:
// for queues of millions of messages, where it grows and shrinks with them. It
// makes a program larger than package bolt does, and works in the background.
package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/petrelmq/petrel"
)

// DirName is the name of the database in its directory.
const DirName = "petrel.pebble"

// format is the version of the file format that databases are written in. The next
// one writes down in the log how far it was synced, and takes a log that ends before
// that for damaged; but the syncs of a lazyFS are left out.
const format = pebble.FormatColumnarBlocks

const (
	// memTable is the memory for changes before they become a table, in bytes; there are two
	// at most. The C library keeps the memory of some more, so they are not larger.
	memTable = 4 << 20
	// batchHeader is what a batch begins with, in bytes, and recordOverhead what each
	// record needs at most beside key and value: its kind, and two lengths.
	batchHeader    = 12
	recordOverhead = 1 + 2*binary.MaxVarintLen32
)

var _ petrel.Store = (*Store)(nil)

// Store is a [petrel.Store] in a directory. Make one with [Open].
type Store struct {
	db    *pebble.DB
	fs    *lazyFS
	close func() error

	mu     sync.Mutex
	failed error // after a write that failed the database takes no more
}

// Options configures [Open]. The zero value is fine.
type Options struct {
	// Logger is told of damage and of errors in the background. Nil means [slog.Default].
	Logger *slog.Logger
	// CacheBytes bounds the memory for what was read. Zero means 8 MiB.
	CacheBytes int64

	fs vfs.FS // of tests
}

// Open opens the database in dir, and makes both where they are not there:
// nobody but the owner may read them. It refuses one that another process has
// open, and one that a newer petrel has written. It reads all records once.
//
// A database with damaged tables is set aside under another name. What can be
// read of it is copied to a new one, and the log tells what became of it.
//
// When a write fails, because the disk is full say, the store takes no more until
// it is opened again.
func Open(dir string, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.fs == nil {
		o.fs = vfs.Default
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("petrel: open store in %s: %w", dir, err)
		}
	}
	path := filepath.Join(dir, DirName)
	s, err := open(path, &o)
	if err != nil {
		return nil, fmt.Errorf("petrel: open store %s: %w", path, err)
	}
	return s, nil
}

func open(path string, o *Options) (*Store, error) {
	if err := adopt(path, o); err != nil {
		return nil, err
	}
	s, err := openDir(path, o)
	if err != nil {
		return nil, err
	}
	if s, err = contain(s, path, o); err != nil {
		return nil, err
	}
	return s, nil
}

func openDir(path string, o *Options) (*Store, error) {
	if o.fs == vfs.Default {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, err
		}
	}
	fs := &lazyFS{FS: o.fs}
	db, err := pebble.Open(path, &pebble.Options{
		FS: fs, Logger: logger{o.Logger}, FormatMajorVersion: format, CacheSize: max(o.CacheBytes, 8<<20), MemTableSize: memTable,
		EventListener: &pebble.EventListener{
			// Without a function here the first damaged block would end the process.
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				o.Logger.Error("petrel: the store is damaged", "database", path, "file", i.Path, "error", i.Details)
			},
		},
	})
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, fs: fs}
	s.close = sync.OnceValue(func() error {
		fs.lazy.Store(false)
		return db.Close()
	})
	return s, nil
}

// Load is that of [petrel.Store].
func (s *Store) Load(ctx context.Context, from, to []byte, each func(key, value []byte) error) (err error) {
	if string(from) >= string(to) {
		return nil
	}
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return fmt.Errorf("petrel: read records: %w", err)
	}
	defer func() {
		if closing := it.Close(); err == nil {
			err = closing // which tells what ended the walk early
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("petrel: read record %x: %w", it.Key(), err)
		}
		if err := each(it.Key(), value); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// Commit is that of [petrel.Store].
func (s *Store) Commit(_ context.Context, b *petrel.Batch) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	defer func() {
		if f, ok := recover().(*fatal); ok { // Pebble does not go on after a write that failed
			s.failed = fmt.Errorf("petrel: commit: %w", f)
			err = s.failed
		}
	}()
	s.fs.lazy.Store(!b.Sync())
	if b.Len() == 0 {
		if b.Sync() {
			return s.db.LogData(nil, pebble.Sync)
		}
		return nil
	}
	batch := s.db.NewBatchWithSize(batchHeader + b.Size() + recordOverhead*b.Len())
	for c := range b.Changes() {
		if c.Delete {
			err = batch.Delete(c.Key, nil)
		} else {
			err = batch.Set(c.Key, c.Value, nil)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("petrel: change record %x: %w", c.Key, err), batch.Close())
		}
	}
	return errors.Join(batch.Commit(pebble.Sync), batch.Close())
}

// Close is that of [petrel.Store]. It may be called more than once.
func (s *Store) Close() error { return s.close() }

// fatal is what Pebble panics with when it cannot go on.
type fatal struct {
	text   string
	causes []error
}

func (f *fatal) Error() string   { return f.text }
func (f *fatal) Unwrap() []error { return f.causes }

type logger struct{ *slog.Logger }

func (logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.Error("petrel: store: " + fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) {
	l.Errorf(format, args...)
	f := &fatal{text: fmt.Sprintf(format, args...)}
	for _, arg := range args {
		if err, ok := arg.(error); ok {
			f.causes = append(f.causes, err)
		}
	}
	panic(f)
}
