package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// salvaged is appended to the name of a database that is to replace a damaged one.
const salvaged = ".salvaged"

// adopt finishes a replacement that was cut short after the damaged database had
// been set aside.
func adopt(path string, o *Options) error {
	if _, err := o.fs.Stat(path); err == nil {
		return nil
	}
	if _, err := o.fs.Stat(path + salvaged); err != nil {
		return nil
	}
	return o.fs.Rename(path+salvaged, path)
}

// contain reads everything once. If something cannot be read, it goes on with
// what can, and sets the database aside.
func contain(s *Store, path string, o *Options) (*Store, error) {
	if found, err := s.read(func(_, _ []byte) error { return nil }); err != nil || len(found) == 0 {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
		return s, err
	}
	if err := o.fs.RemoveAll(path + salvaged); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	to, err := openDir(path+salvaged, o)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	kept := 0
	batch := to.db.NewBatch()
	found, err := s.read(func(key, value []byte) error {
		kept++
		if err := batch.Set(key, value, nil); err != nil || batch.Len() < 4<<20 {
			return err
		}
		err := batch.Commit(pebble.NoSync)
		batch = to.db.NewBatch()
		return err
	})
	if err = errors.Join(err, batch.Commit(pebble.Sync), to.db.Flush(), to.Close(), s.Close()); err != nil {
		return nil, fmt.Errorf("salvage a damaged database: %w", err)
	}
	aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000000")
	if err := errors.Join(o.fs.Rename(path, aside), o.fs.Rename(path+salvaged, path)); err != nil {
		return nil, err
	}
	for _, e := range found[:min(len(found), 10)] {
		o.Logger.Error("petrel: the store is damaged", "database", path, "error", e)
	}
	o.Logger.Error("petrel: the damaged store was set aside, the broker goes on with what could be read",
		"database", path, "aside", aside, "records", kept, "damages", len(found))
	return openDir(path, o)
}

// read calls each for every record that can be read, and returns the errors of
// the tables that cannot.
func (s *Store) read(each func(key, value []byte) error) (found []error, err error) {
	ends, err := s.ends()
	if err != nil {
		return nil, err
	}
	var from []byte
	for {
		last, damage, err := s.readFrom(from, each)
		if err != nil || damage == nil {
			return found, err
		}
		found = append(found, damage)
		// Go on behind the table that the walk has stopped in.
		i, _ := slices.BinarySearchFunc(ends, append(later(last, from), 0), bytes.Compare)
		if i == len(ends) {
			return found, nil
		}
		from = append(slices.Clone(ends[i]), 0)
	}
}

// later returns a copy of the key that is later in the order.
func later(a, b []byte) []byte {
	if bytes.Compare(a, b) > 0 {
		return slices.Clone(a)
	}
	return slices.Clone(b)
}

// readFrom calls each for the records from a key on. It returns the last key that
// was read, and the damage that ended the walk.
func (s *Store) readFrom(from []byte, each func(key, value []byte) error) (last []byte, damage, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from})
	if err != nil {
		return nil, nil, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		last = append(last[:0], it.Key()...)
		value, err := it.ValueAndErr()
		if err != nil {
			break // Close returns it, or finds another
		}
		if err := each(it.Key(), value); err != nil {
			return last, nil, errors.Join(err, it.Close())
		}
	}
	return last, it.Close(), nil
}

// ends are the last keys of all tables, in order.
func (s *Store) ends() (keys [][]byte, err error) {
	levels, err := s.db.SSTables()
	if err != nil {
		return nil, err
	}
	for _, tables := range levels {
		for _, t := range tables {
			keys = append(keys, slices.Clone(t.Largest.UserKey))
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal), nil
}

// Check reads the database in dir, which nobody has open, and returns what is
// damaged, joined into one error.
func Check(dir string) error {
	return offline(dir, "check", func(s *Store) error {
		found, err := s.read(func(_, _ []byte) error { return nil })
		return errors.Join(append(found, err)...)
	})
}

// Compact rewrites the database in dir, which nobody has open, without what is
// deleted, and returns its size in bytes before and after.
func Compact(dir string) (before, after int64, err error) {
	if before, err = size(dir); err != nil {
		return 0, 0, err
	}
	err = offline(dir, "compact", func(s *Store) error {
		return s.db.Compact(context.Background(), []byte{0}, bytes.Repeat([]byte{0xff}, 16), false)
	})
	if err != nil {
		return 0, 0, err
	}
	after, err = size(dir)
	return before, after, err
}

// size is what the files of the database in dir take, in bytes.
func size(dir string) (n int64, err error) {
	list, err := os.ReadDir(filepath.Join(dir, DirName))
	if err != nil {
		return 0, fmt.Errorf("petrel: compact store: %w", err)
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			return 0, fmt.Errorf("petrel: compact store: %w", err)
		}
		n += info.Size()
	}
	return n, nil
}

func offline(dir, what string, do func(*Store) error) error {
	path := filepath.Join(dir, DirName)
	if _, err := vfs.Default.Stat(path); err != nil {
		return fmt.Errorf("petrel: %s store: %w", what, err)
	}
	s, err := openDir(path, &Options{Logger: slog.New(slog.DiscardHandler), fs: vfs.Default})
	if err != nil {
		return fmt.Errorf("petrel: %s store %s: %w", what, path, err)
	}
	if err := errors.Join(do(s), s.Close()); err != nil {
		return fmt.Errorf("petrel: %s store %s: %w", what, path, err)
	}
	return nil
}
