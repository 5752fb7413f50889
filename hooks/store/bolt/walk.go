package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
)

// The walk reads a database without trusting it, which bbolt does: a damaged page
// would end the process. It knows of the file format what bbolt's page.go and
// meta.go say: a page has a header and elements of 16 bytes each; two pages in
// front, with a checksum, say where the tree begins.

const (
	headerSize   = 16
	elementSize  = 16
	branchPage   = 0x01
	leafPage     = 0x02
	bucketFlag   = 0x01
	magic        = 0xED0CDAED
	fileVersion  = 2
	metaSize     = 64
	pageSizeLow  = 512
	pageSizeHigh = 1 << 20

	formatsEver = 1 << 16 // a format above it is no newer one, but none
)

var native = binary.NativeEndian

// errNoRoot is found in a file of which neither root can be read.
var errNoRoot = errors.New("it is no database, or damaged beyond reading: neither of its two roots is whole")

// walker reads the records of one file.
type walker struct {
	f        *os.File
	pageSize int64
	pages    uint64 // in use
	root     uint64
	txid     uint64
	seen     []uint64 // a bit for each page
	broken   []error  // what could not be read
}

// newWalker finds the newer root that is whole.
func newWalker(f *os.File) (*walker, error) {
	w := &walker{f: f}
	found := w.meta(0)
	for size := int64(pageSizeLow); size <= pageSizeHigh; size *= 2 {
		if w.pageSize == 0 || size == w.pageSize {
			found = w.meta(size) || found
		}
	}
	if !found {
		return nil, errNoRoot
	}
	w.seen = make([]uint64, w.pages/64+1)
	return w, nil
}

// meta reads the root at an offset and keeps it if it is whole and newer.
func (w *walker) meta(at int64) bool {
	b := make([]byte, headerSize+metaSize)
	if _, err := w.f.ReadAt(b, at); err != nil {
		return false
	}
	b = b[headerSize:]
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	if native.Uint32(b) != magic || native.Uint32(b[4:]) != fileVersion || native.Uint64(b[metaSize-8:]) != sum.Sum64() {
		return false
	}
	if txid := native.Uint64(b[48:]); txid >= w.txid {
		w.pageSize, w.root, w.pages, w.txid = int64(native.Uint32(b[8:])), native.Uint64(b[16:]), native.Uint64(b[40:]), txid
	}
	return true
}

// page returns a page with those that continue it, marked as seen.
func (w *walker) page(id uint64) ([]byte, error) {
	if id < 2 || id >= w.pages {
		return nil, errors.New("it is outside of the file")
	}
	header := make([]byte, headerSize)
	if _, err := w.f.ReadAt(header, int64(id)*w.pageSize); err != nil {
		return nil, err
	}
	more := uint64(native.Uint32(header[12:]))
	if native.Uint64(header) != id || id+more >= w.pages {
		return nil, errors.New("it has the header of another page")
	}
	for n := id; n <= id+more; n++ {
		if w.seen[n/64]&(1<<(n%64)) != 0 {
			return nil, errors.New("it is in the tree twice")
		}
	}
	for n := id; n <= id+more; n++ {
		w.seen[n/64] |= 1 << (n % 64)
	}
	p := make([]byte, int64(more+1)*w.pageSize)
	_, err := w.f.ReadAt(p, int64(id)*w.pageSize)
	return p, err
}

// element returns the 16 bytes of an element, and where what it points to begins.
func element(p []byte, i int) (e []byte, at int, err error) {
	from := headerSize + i*elementSize
	if from+elementSize > len(p) {
		return nil, 0, errors.New("it has more elements than room")
	}
	return p[from : from+elementSize], from, nil
}

// cut returns n bytes of p, checked.
func cut(p []byte, from int, n uint32) ([]byte, error) {
	if from < 0 || from > len(p) || uint64(n) > uint64(len(p)-from) {
		return nil, errors.New("an element points out of it")
	}
	return p[from : from+int(n)], nil
}

// within are the keys that a page may have: from low, which is part of it, to
// high, which is not. Nil is no bound.
type within struct{ low, high []byte }

func (b within) has(key []byte) bool {
	return len(key) > 0 && bytes.Compare(key, b.low) >= 0 && (b.high == nil || bytes.Compare(key, b.high) < 0)
}

// visit is called for an element of a leaf.
type visit func(flags uint32, key, value []byte) error

func (w *walker) note(id uint64, format string, args ...any) {
	w.broken = append(w.broken, fmt.Errorf("page %d: %w", id, fmt.Errorf(format, args...)))
}

// walk calls each for the elements of the tree whose root is a page. What cannot
// be read is noted, and left out.
func (w *walker) walk(id uint64, bounds within, each visit) error {
	p, err := w.page(id)
	if err != nil {
		w.note(id, "%w", err)
		return nil
	}
	return w.walkPage(id, p, bounds, each)
}

func (w *walker) walkPage(id uint64, p []byte, bounds within, each visit) error {
	flags, count := native.Uint16(p[8:]), int(native.Uint16(p[10:]))
	if flags != branchPage && flags != leafPage || flags == branchPage && count == 0 {
		w.note(id, "it is no page of a tree (type %#x, %d elements)", flags, count)
		return nil
	}
	for i := range count {
		e, at, err := element(p, i)
		if err != nil {
			w.note(id, "%w", err)
			return nil
		}
		pos, size := native.Uint32(e), native.Uint32(e[4:])
		if flags == leafPage {
			pos, size = native.Uint32(e[4:]), native.Uint32(e[8:])
		}
		key, err := cut(p, at+int(pos), size)
		if err != nil {
			w.note(id, "%w", err)
			continue
		}
		if !bounds.has(key) {
			w.note(id, "a key is not where it belongs")
			continue
		}
		bounds.low = append(bytes.Clone(key), 0) // of what comes next
		if flags == branchPage {
			err = w.walk(native.Uint64(e[8:]), within{key, w.next(p, i, count, bounds.high)}, each)
		} else {
			err = w.leaf(id, p, e, at+int(pos)+int(size), key, each)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// next is the key at which what an element of a branch leads to ends.
func (w *walker) next(p []byte, i, count int, high []byte) []byte {
	if i+1 < count {
		if e, at, err := element(p, i+1); err == nil {
			if key, err := cut(p, at+int(native.Uint32(e)), native.Uint32(e[4:])); err == nil && len(key) > 0 {
				return key
			}
		}
	}
	return high
}

// leaf gives an element of a leaf, whose value begins at a place in p, to each.
func (w *walker) leaf(id uint64, p, e []byte, at int, key []byte, each visit) error {
	value, err := cut(p, at, native.Uint32(e[12:]))
	if err != nil {
		w.note(id, "%w", err)
		return nil
	}
	return each(native.Uint32(e), key, value)
}

// records walks over the records of the broker.
func (w *walker) records(each func(key, value []byte) error) error {
	there := false
	err := w.walk(w.root, within{}, func(flags uint32, name, bucket []byte) error {
		if flags != bucketFlag || !bytes.Equal(name, bucketName) || len(bucket) < 16 {
			w.note(w.root, "it has something that is no bucket of records")
			return nil
		}
		there = true
		if v := native.Uint64(bucket[8:]); v == 0 || v > formatsEver {
			w.note(w.root, "the format of the records is damaged")
		}
		record := func(flags uint32, key, value []byte) error {
			if flags != 0 {
				w.note(w.root, "a record has flags (%#x)", flags)
				return nil
			}
			return each(key, value)
		}
		if root := native.Uint64(bucket); root != 0 {
			return w.walk(root, within{}, record)
		}
		if len(bucket) < 16+headerSize {
			w.note(w.root, "a bucket is cut short")
			return nil
		}
		return w.walkPage(w.root, bucket[16:], within{}, record) // a small bucket stands in its element
	})
	if err == nil && !there && w.txid > 1 {
		w.note(w.root, "the records are missing")
	}
	return err
}
