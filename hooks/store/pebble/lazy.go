package pebble

import (
	"path/filepath"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// lazyFS leaves out the syncs of the write-ahead log while it is lazy. Pebble's
// own commits without a sync stay in the memory of the process for a while, and
// are lost with it; these are with the operating system when they return.
type lazyFS struct {
	vfs.FS
	lazy atomic.Bool
}

func (fs *lazyFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	return fs.wrap(name, f, err)
}

func (fs *lazyFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.ReuseForWrite(old, name, category)
	return fs.wrap(name, f, err)
}

func (fs *lazyFS) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil || filepath.Ext(name) != ".log" {
		return f, err
	}
	return &lazyFile{File: f, fs: fs}, nil
}

// lazyFile is a write-ahead log.
type lazyFile struct {
	vfs.File
	fs    *lazyFS
	dirty atomic.Bool // a sync was left out
}

func (f *lazyFile) skip() bool {
	if f.fs.lazy.Load() {
		f.dirty.Store(true)
		return true
	}
	f.dirty.Store(false)
	return false
}

func (f *lazyFile) Sync() error {
	if f.skip() {
		return nil
	}
	return f.File.Sync()
}

func (f *lazyFile) SyncData() error {
	if f.skip() {
		return nil
	}
	return f.File.SyncData()
}

// Close syncs what was left out: a later sync reaches the next log only.
func (f *lazyFile) Close() error {
	if f.dirty.Load() {
		if err := f.File.SyncData(); err != nil {
			_ = f.File.Close()
			return err
		}
	}
	return f.File.Close()
}
