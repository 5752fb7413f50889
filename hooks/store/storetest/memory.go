package storetest

import (
	"context"
	"errors"
	"maps"
	"sync"

	"github.com/petrelmq/petrel"
)

// Disk is a disk in memory. Stores that are opened on it find what those before
// them have committed. All methods may be called from any goroutine.
type Disk struct {
	mu      sync.Mutex
	records map[string][]byte
	open    *memory
}

// NewDisk returns an empty disk.
func NewDisk() *Disk { return &Disk{records: make(map[string][]byte)} }

// ErrOpen is returned by [Disk.Open] while another store is open.
var ErrOpen = errors.New("storetest: the disk is in use by another store")

// ErrClosed is returned by a store that was closed.
var ErrClosed = errors.New("storetest: the store is closed")

// Open opens the store of the disk.
func (d *Disk) Open() (petrel.Store, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open != nil {
		return nil, ErrOpen
	}
	d.open = &memory{disk: d}
	return d.open, nil
}

// Crash takes the disk from the store that is open, whose calls fail from now
// on, as if its process had ended.
func (d *Disk) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = nil
}

// Records returns a copy of all records.
func (d *Disk) Records() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.records)
}

// Edit changes the records as a damage would. The values must not be changed in place.
func (d *Disk) Edit(edit func(records map[string][]byte)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	edit(d.records)
}

type memory struct{ disk *Disk }

var _ petrel.Store = (*memory)(nil)

func (m *memory) Load(ctx context.Context, from, to []byte, each func(key, value []byte) error) error {
	m.disk.mu.Lock()
	if m.disk.open != m {
		m.disk.mu.Unlock()
		return ErrClosed
	}
	some := make(map[string][]byte)
	for k, v := range m.disk.records {
		if k >= string(from) && k < string(to) {
			some[k] = v
		}
	}
	m.disk.mu.Unlock()
	for _, k := range sorted(some) {
		if err := each([]byte(k), some[k]); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (m *memory) Commit(_ context.Context, b *petrel.Batch) error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.disk.open != m {
		return ErrClosed
	}
	for c := range b.Changes() {
		if c.Delete {
			delete(m.disk.records, string(c.Key))
		} else {
			m.disk.records[string(c.Key)] = append([]byte{}, c.Value...)
		}
	}
	return nil
}

func (m *memory) Close() error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.disk.open == m {
		m.disk.open = nil
	}
	return nil
}

// Faults is a store whose commits and loads fail when they are told to.
type Faults struct {
	petrel.Store

	mu      sync.Mutex
	commits int
	at      int
	stop    bool
	err     error
	before  func(*petrel.Batch)
	load    func(from, to []byte) error
}

// ErrFault is what an injected fault returns, unless [Faults.Fail] gave another error.
var ErrFault = errors.New("storetest: injected fault")

// FailAt lets the n-th commit from now on fail, counted from 1, and with stop all
// that come after it.
func (f *Faults) FailAt(n int, stop bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commits, f.at, f.stop = 0, n, stop
}

// Fail lets every commit fail with err, until it is called with nil.
func (f *Faults) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// Before makes f call each before a commit; it may block. Nil ends that.
func (f *Faults) Before(each func(*petrel.Batch)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = each
}

// BeforeLoad makes f call each before a load, which fails with the error that it
// returns; it may block. Nil ends that.
func (f *Faults) BeforeLoad(each func(from, to []byte) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.load = each
}

// Load is that of the store, unless it is to fail.
func (f *Faults) Load(ctx context.Context, from, to []byte, each func(key, value []byte) error) error {
	f.mu.Lock()
	before := f.load
	f.mu.Unlock()
	if before != nil {
		if err := before(from, to); err != nil {
			return err
		}
	}
	return f.Store.Load(ctx, from, to, each)
}

// Commits returns how many commits were tried since the last call of FailAt.
func (f *Faults) Commits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.commits
}

// Commit is that of the store, unless it is to fail.
func (f *Faults) Commit(ctx context.Context, b *petrel.Batch) error {
	f.mu.Lock()
	f.commits++
	err, before := f.err, f.before
	if f.at > 0 && (f.commits == f.at || f.stop && f.commits > f.at) {
		err = ErrFault
	}
	f.mu.Unlock()
	if before != nil {
		before(b)
	}
	if err != nil {
		return err
	}
	return f.Store.Commit(ctx, b)
}
