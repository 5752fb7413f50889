package engine

import (
	"math/bits"
	"sync"
)

// bufferSize is how much one read takes at most while no packet is larger.
const bufferSize = 32 << 10

// buffer is a read buffer. All connections share them: only those that are being
// handled, or are in the middle of a large packet, hold one.
type buffer struct{ b []byte }

// buffers has a pool for each size: bufferSize, twice that, and so on. Larger
// packets than the last are rare enough for the garbage collector.
var buffers [8]sync.Pool

// sizeClass is the index of the pool whose buffers have at least so many bytes.
func sizeClass(size int) int { return bits.Len(uint(max(size-1, 0) / bufferSize)) }

func getBuffer(size int) *buffer {
	class := sizeClass(size)
	if class >= len(buffers) {
		return &buffer{b: make([]byte, size)}
	}
	if b, ok := buffers[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{b: make([]byte, bufferSize<<class)}
}

func putBuffer(b *buffer) {
	if class := sizeClass(len(b.b)); class < len(buffers) {
		buffers[class].Put(b)
	}
}
