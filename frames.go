package petrel

import (
	"net"
	"sync"

	"github.com/petrelmq/petrel/internal/engine"
)

const (
	// shareFrom is the payload size in bytes from which a payload is referred to
	// by every outbound buffer instead of copied into each.
	shareFrom = 16 << 10
	// keepUpTo bounds the buffers that go back to a pool, in bytes. Frames that are
	// longer go on in another one: to double it further would copy megabytes for a
	// client that does not read, while a publisher waits.
	keepUpTo = 128 << 10
)

// frames are encoded packets: bytes, and payloads that are spliced in by reference.
type frames struct {
	full net.Buffers // what comes before b, complete
	b    []byte
	refs []reference      // into b
	lent []*engine.Buffer // retained until recycle: payloads of full and refs lie in them
	v    net.Buffers      // what buffers has returned last, to be used again
}

// content is the payload of a packet, and how long its bytes hold.
type content struct {
	b    []byte
	kept bool           // for ever: it is immutable
	lent *engine.Buffer // as long as this is retained, if not nil
}

// reference is a payload that stands before b[at].
type reference struct {
	at      int
	payload []byte
}

var framesPool = sync.Pool{New: func() any { return new(frames) }}

// recycle gives f back when nobody writes it any more. Frames that are not given
// back are left to the garbage collector, with the buffers that they retain.
func (f *frames) recycle() {
	for _, b := range f.lent {
		b.Release()
	}
	clear(f.lent)
	f.lent = f.lent[:0]
	clear(f.refs)
	clear(f.v)
	f.full, f.b, f.refs, f.v = nil, f.b[:0], f.refs[:0], f.v[:0]
	if cap(f.b) <= keepUpTo {
		framesPool.Put(f)
	}
}

// add appends a packet; see [outbound.push].
func (f *frames) add(head []byte, payload content, idAt int, id uint16) {
	refer := (payload.kept || payload.lent != nil) && len(payload.b) >= shareFrom
	need := len(head)
	if !refer {
		need += len(payload.b)
	}
	if len(f.b) > 0 && len(f.b)+need > keepUpTo {
		f.beginChunk(need)
	}
	start := len(f.b)
	f.b = append(f.b, head...)
	if idAt != 0 {
		f.b[start+idAt], f.b[start+idAt+1] = byte(id>>8), byte(id)
	}
	if !refer {
		f.b = append(f.b, payload.b...)
		return
	}
	f.refs = append(f.refs, reference{len(f.b), payload.b})
	if !payload.kept {
		payload.lent.Retain()
		f.lent = append(f.lent, payload.lent)
	}
}

// beginChunk lets b be, and goes on with a new one that has room for need bytes.
func (f *frames) beginChunk(need int) {
	f.full = f.split(f.full)
	clear(f.refs)
	f.b, f.refs = make([]byte, 0, max(need, keepUpTo)), f.refs[:0]
}

// split appends to v the slices of which b and its references are made, in order.
func (f *frames) split(v net.Buffers) net.Buffers {
	from := 0
	for _, r := range f.refs {
		if r.at > from {
			v = append(v, f.b[from:r.at])
		}
		v = append(v, r.payload)
		from = r.at
	}
	if from < len(f.b) {
		v = append(v, f.b[from:])
	}
	return v
}

// buffers splits f into the slices to be written, in order. They are valid until
// the next call.
func (f *frames) buffers() net.Buffers {
	f.v = f.split(append(f.v[:0], f.full...))
	return f.v
}

// append returns f with g behind it, and recycles g. f may be nil.
func (f *frames) append(g *frames) *frames {
	if f == nil {
		return g
	}
	if len(f.b) > 0 && (len(g.full) > 0 || len(f.b)+len(g.b) > keepUpTo) {
		f.beginChunk(len(g.b))
	}
	f.full = append(f.full, g.full...)
	for _, r := range g.refs {
		f.refs = append(f.refs, reference{len(f.b) + r.at, r.payload})
	}
	f.b = append(f.b, g.b...)
	f.lent = append(f.lent, g.lent...)
	clear(g.lent)
	g.lent = g.lent[:0] // they are retained by f now
	g.recycle()
	return f
}

// first is the first byte of the first packet; f must not be empty.
func (f *frames) first() byte {
	if len(f.full) > 0 {
		return f.full[0][0]
	}
	return f.b[0]
}

func (f *frames) total() int {
	n := len(f.b)
	for _, full := range f.full {
		n += len(full)
	}
	for _, r := range f.refs {
		n += len(r.payload)
	}
	return n
}

// after is what remains of f behind its first n bytes.
func (f *frames) after(n int) net.Buffers {
	v := f.buffers()
	for len(v) > 0 && n >= len(v[0]) {
		n -= len(v[0])
		v = v[1:]
	}
	if len(v) > 0 {
		v[0] = v[0][n:]
	}
	return v
}
