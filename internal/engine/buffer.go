package engine

import "sync"

// bufferSize is how much one read takes at most while no packet is larger.
const bufferSize = 32 << 10

type buffer struct{ b []byte }

// buffers are shared by all connections: only those that are being handled hold one.
var buffers bufferPool

type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) get() *buffer {
	if b, ok := p.pool.Get().(*buffer); ok {
		return b
	}
	return &buffer{b: make([]byte, bufferSize)}
}

func (p *bufferPool) put(b *buffer) { p.pool.Put(b) }
