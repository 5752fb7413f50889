// Package bolt keeps the state of a broker in one file, a bbolt database: small,
// without background work, and fast enough for most. For queues of millions of
// messages see package pebble.
package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/petrelmq/petrel"
)

// FileName is the name of the database in its directory.
const FileName = "petrel.db"

// format is the version of how records stand in the database. It is the
// sequence number of their bucket.
const format = 1

var bucketName = []byte("petrel")

var _ petrel.Store = (*Store)(nil)

// Store is a [petrel.Store] in a file. Make one with [Open].
type Store struct {
	db    *bbolt.DB
	close func() error
}

// Options configures [Open]. The zero value is fine.
type Options struct {
	// Logger is told of damage. Nil means [slog.Default].
	Logger *slog.Logger
	// LockTimeout is how long Open waits for another process that has the file.
	// Zero means 1 second.
	LockTimeout time.Duration
}

// Open opens the database in dir, and makes both where they are not there:
// nobody but the owner may read them. It refuses a file that another process
// has open, and one that a newer petrel has written.
//
// A file whose structure is damaged is set aside under another name. What can be
// read of it is copied to a new one, and the log tells what became of it.
func Open(dir string, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = time.Second
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("petrel: open store in %s: %w", dir, err)
	}
	path := filePath(dir)
	if err := contain(path, &o); err != nil {
		return nil, fmt.Errorf("petrel: open store %s: %w", path, err)
	}
	db, err := openFile(path, &o)
	if err != nil {
		return nil, fmt.Errorf("petrel: open store %s: %w", path, err)
	}
	return &Store{db, sync.OnceValue(func() error { return errors.Join(db.Sync(), db.Close()) })}, nil
}

func filePath(dir string) string { return filepath.Join(dir, FileName) }

func openFile(path string, o *Options) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: o.LockTimeout,
		// A long list of free pages would be written with each commit. Without it,
		// they are found when the file is opened.
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
		NoStatistics:   true,
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("another process has it open: %w", err)
	}
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketName)
		if b == nil {
			if b, err = tx.CreateBucket(bucketName); err != nil {
				return err
			}
			return b.SetSequence(format)
		}
		if v := b.Sequence(); v != format {
			return fmt.Errorf("it has format %d, written by a newer petrel; this one knows %d", v, format)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// Load is that of [petrel.Store]. A commit that makes the file grow waits until
// it has ended.
func (s *Store) Load(ctx context.Context, from, to []byte, each func(key, value []byte) error) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketName).Cursor()
		for k, v := c.Seek(from); k != nil && string(k) < string(to); k, v = c.Next() {
			if err := each(k, v); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Commit is that of [petrel.Store].
func (s *Store) Commit(_ context.Context, b *petrel.Batch) error {
	if b.Len() == 0 {
		if b.Sync() {
			return s.db.Sync()
		}
		return nil
	}
	s.db.NoSync = !b.Sync() // read by nothing but the commit below
	return withCause(s.db.Update(func(tx *bbolt.Tx) error {
		records := tx.Bucket(bucketName)
		at := records.Cursor() // Bucket.Delete makes a new one each time
		for c := range b.Changes() {
			var err error
			if c.Delete {
				if key, _ := at.Seek(c.Key); bytes.Equal(key, c.Key) {
					err = at.Delete()
				}
			} else {
				err = records.Put(c.Key, c.Value)
			}
			if err != nil {
				return fmt.Errorf("petrel: change record %x: %w", c.Key, err)
			}
		}
		return nil
	}))
}

// withCause puts back into the tree of err that there was no room for the file to
// grow, of which bbolt keeps no more than the text.
func withCause(err error) error {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if err != nil && !errors.Is(err, cause) && strings.HasSuffix(err.Error(), cause.Error()) {
			return caused{err, cause}
		}
	}
	return err
}

type caused struct{ err, cause error }

func (c caused) Error() string   { return c.err.Error() }
func (c caused) Unwrap() []error { return []error{c.err, c.cause} }

// Close is that of [petrel.Store]. It may be called more than once.
func (s *Store) Close() error { return s.close() }
