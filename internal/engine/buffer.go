package engine

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// bufferSize is how much one read takes at most while no packet is larger.
const bufferSize = 32 << 10

// Buffer is a read buffer, with what it holds. All connections share them: only those
// that are being handled, or are in the middle of a large packet, have one.
//
// Who holds a buffer may read the packets in it, which nobody changes any more. The
// engine holds it as long as it reads into it; a [Handler] that wants to refer to
// a packet for longer than it handles it retains its buffer, which the engine then
// replaces. Whoever is the last to release it gives it back to all. The zero value
// is an empty buffer that nobody holds.
type Buffer struct {
	all     []byte
	holders atomic.Int32

	// Of the engine.
	b    []byte // received and not used: the beginning of all
	need int    // size of the packet that b begins, 0 if not known
}

// buffers has a pool for each size: bufferSize, twice that, and so on. Larger
// packets than the last are rare enough for the garbage collector.
var buffers [8]sync.Pool

// sizeClass is the index of the pool whose buffers have at least so many bytes.
func sizeClass(size int) int { return bits.Len(uint(max(size-1, 0) / bufferSize)) }

// getBuffer returns a buffer that is empty, and that the caller alone holds.
func getBuffer(size int) *Buffer {
	class := sizeClass(size)
	if class >= len(buffers) {
		return newBuffer(make([]byte, size))
	}
	b, ok := buffers[class].Get().(*Buffer)
	if !ok {
		return newBuffer(make([]byte, bufferSize<<class))
	}
	b.b, b.need = b.all[:0], 0
	b.holders.Store(1)
	return b
}

// newBuffer makes a buffer of all.
func newBuffer(all []byte) *Buffer {
	b := &Buffer{all: all, b: all[:0]}
	b.holders.Store(1)
	return b
}

// Retain makes one holder more. The caller must hold the buffer, or be called by
// the engine, which does.
func (b *Buffer) Retain() { b.holders.Add(1) }

// Release ends what getBuffer or Retain began. The caller must not look at the
// buffer again.
func (b *Buffer) Release() {
	switch left := b.holders.Add(-1); {
	case left > 0:
		return
	case left < 0:
		panic("petrel: a read buffer was released more often than retained")
	}
	spoil(b.all)
	if class := sizeClass(len(b.all)); class < len(buffers) && len(b.all) == bufferSize<<class {
		buffers[class].Put(b)
	}
}

// retained reports whether somebody else holds the buffer too. Once it is false
// it stays so until the caller lends the buffer again.
func (b *Buffer) retained() bool { return b.holders.Load() > 1 }
