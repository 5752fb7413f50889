package bolt

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// contain looks through the file before bbolt does, and replaces a damaged one by
// what can be read of it. The damaged file stays under another name.
func contain(path string, o *Options) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Size() == 0 { // what is left of a first start that was cut short, or of a worse accident
		o.Logger.Warn("petrel: the store is an empty file: the broker starts with nothing", "file", path)
		return nil
	}
	unlock, err := share(path, o)
	if err != nil {
		return err
	}
	defer unlock()
	found, err := check(path)
	if err != nil || len(found) == 0 {
		return err
	}
	aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000000")
	for _, e := range found[:min(len(found), 10)] {
		o.Logger.Error("petrel: the store is damaged", "file", path, "error", e)
	}
	kept, err := salvage(path, path+".salvaged")
	if err != nil {
		return fmt.Errorf("salvage a damaged file: %w", err)
	}
	// The name is never without a file: a crash here must not lead to an empty start.
	if err := os.Link(path, aside); err != nil {
		return err
	}
	if err := os.Rename(path+".salvaged", path); err != nil {
		return err
	}
	o.Logger.Error("petrel: the damaged store was set aside, the broker goes on with what could be read",
		"file", path, "aside", aside, "records", kept, "damages", len(found))
	return nil
}

// share keeps others from writing while the file is looked through.
func share(path string, o *Options) (unlock func(), err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: o.LockTimeout, ReadOnly: true})
	switch {
	case err == nil:
		return func() { _ = db.Close() }, nil
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("another process has it open: %w", err)
	case errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("a newer program has written it: %w", err)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum):
		return nil, errors.Join(errNoRoot, err)
	}
	return nil, err
}

// check returns what is damaged in the structure of a file.
func check(path string) (found []error, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	w, err := newWalker(f)
	if err != nil {
		return nil, err
	}
	err = w.records(func(_, _ []byte) error { return nil })
	return w.broken, err
}

// salvage copies the records that can be read to a new file, and returns how many.
func salvage(from, to string) (kept int, err error) {
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	f, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	w, err := newWalker(f)
	if err != nil {
		return 0, err
	}
	db, err := openFile(to, &Options{LockTimeout: time.Second})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	const step = 10_000 // records in one transaction
	var tx *bbolt.Tx
	defer func() {
		if tx != nil {
			_ = tx.Rollback() // of no effect after a commit
		}
	}()
	err = w.records(func(key, value []byte) (err error) {
		if kept%step == 0 {
			if tx != nil {
				err = tx.Commit()
			}
			if err == nil {
				tx, err = db.Begin(true)
			}
			if err != nil {
				return err
			}
		}
		kept++
		return tx.Bucket(bucketName).Put(key, value)
	})
	if err == nil && tx != nil {
		err = tx.Commit()
	}
	return kept, err
}

// Check looks through the database in dir, which nobody has open, and returns
// what is damaged in its structure, joined into one error.
func Check(dir string) error {
	path, o := filePath(dir), &Options{LockTimeout: time.Second}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("petrel: check store: %w", err)
	}
	unlock, err := share(path, o)
	if err != nil {
		return fmt.Errorf("petrel: check store %s: %w", path, err)
	}
	defer unlock()
	found, err := check(path)
	if err = errors.Join(append(found, err)...); err != nil {
		return fmt.Errorf("petrel: check store %s: %w", path, err)
	}
	return nil
}

// Compact rewrites the database in dir, which nobody has open, without its free
// pages, and returns its size in bytes before and after.
func Compact(dir string) (before, after int64, err error) {
	path := filePath(dir)
	fail := func(err error) (int64, int64, error) {
		return 0, 0, fmt.Errorf("petrel: compact store %s: %w", path, err)
	}
	if err := Check(dir); err != nil {
		return fail(err)
	}
	o := &Options{LockTimeout: time.Second}
	db, err := openFile(path, o)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	info, err := os.Stat(path)
	if err != nil {
		return fail(err)
	}
	small := path + ".compacted"
	if err := os.Remove(small); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fail(err)
	}
	to, err := bbolt.Open(small, 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return fail(err)
	}
	if err := errors.Join(bbolt.Compact(to, db, 64<<20), to.Sync(), to.Close()); err != nil {
		return fail(err)
	}
	if err := os.Rename(small, path); err != nil {
		return fail(err)
	}
	smaller, err := os.Stat(path)
	if err != nil {
		return fail(err)
	}
	return info.Size(), smaller.Size(), nil
}
