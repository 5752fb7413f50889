package topics

import (
	"slices"
	"sort"
	"sync"
)

const (
	chunkSize = 512               // a fuller chunk is split
	chunkJoin = chunkSize * 3 / 4 // two neighbours with no more than that become one
	chunkPart = chunkSize/2 + 1   // where a full chunk is split
	chunkGrow = 4                 // a chunk gets room for a quarter more at a time
	chunkMin  = 8                 // entries that the smallest chunk has room for
)

// Retained is an index of values by topic name. Make one with [NewRetained].
// All methods may be called at any time from any goroutine. It costs about 24
// bytes for each entry with a value of 8, beside the topic's own.
type Retained[V any] struct {
	mu     sync.RWMutex
	chunks [][]item[V] // none is empty; in order, within and among each other
	len    int
}

type item[V any] struct {
	topic string
	value V
}

// place is a position in the index: chunks[chunk][i].
type place struct{ chunk, i int }

// NewRetained returns an empty index.
func NewRetained[V any]() *Retained[V] { return &Retained[V]{} }

// Len returns the number of topics with a value.
func (r *Retained[V]) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.len
}

// Get returns the value of topic, and whether it has one.
func (r *Retained[V]) Get(topic string) (V, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if p, ok := r.findLocked(topic); ok {
		return r.chunks[p.chunk][p.i].value, true
	}
	var none V
	return none, false
}

// Set gives topic the value v, and returns the one that it had before. The
// index keeps the string that came with the value; topic is a valid topic name.
func (r *Retained[V]) Set(topic string, v V) (old V, replaced bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.findLocked(topic)
	if ok {
		it := &r.chunks[p.chunk][p.i]
		old = it.value
		*it = item[V]{topic, v}
		return old, true
	}
	r.insertLocked(p, item[V]{topic, v})
	r.len++
	return old, false
}

// Delete takes the value of topic away and returns it.
func (r *Retained[V]) Delete(topic string) (old V, ok bool) {
	return r.DeleteFunc(topic, func(V) bool { return true })
}

// DeleteFunc takes the value of topic away if del says so about it, with no
// change in between. Then it returns the value and true. It calls del with the
// index locked: del must be short and not use the index.
func (r *Retained[V]) DeleteFunc(topic string, del func(V) bool) (old V, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.findLocked(topic)
	if !ok || !del(r.chunks[p.chunk][p.i].value) {
		return old, false
	}
	old = r.chunks[p.chunk][p.i].value
	r.deleteLocked(p)
	r.len--
	return old, true
}

// findLocked returns where topic is, or where it belongs. That can be the end
// of a chunk, but of the last one only if it belongs behind all others.
func (r *Retained[V]) findLocked(topic string) (place, bool) {
	p := r.seekLocked(bound{head: topic})
	if p.chunk == len(r.chunks) {
		if p.chunk > 0 {
			p = place{p.chunk - 1, len(r.chunks[p.chunk-1])}
		}
		return p, false
	}
	return p, r.chunks[p.chunk][p.i].topic == topic
}

// seekLocked returns the place of the first topic that is not to the left of
// b, which is the beginning of the chunk after the last if there is none.
func (r *Retained[V]) seekLocked(b bound) place {
	c := sort.Search(len(r.chunks), func(i int) bool {
		chunk := r.chunks[i]
		return !b.below(chunk[len(chunk)-1].topic)
	})
	if c == len(r.chunks) {
		return place{chunk: c}
	}
	return place{c, seekIn(r.chunks[c], b)}
}

// seekIn returns the index of the first topic in chunk that is not to the left of b.
func seekIn[V any](chunk []item[V], b bound) int {
	return sort.Search(len(chunk), func(i int) bool { return !b.below(chunk[i].topic) })
}

func (r *Retained[V]) insertLocked(p place, it item[V]) {
	if len(r.chunks) == 0 {
		r.chunks = [][]item[V]{append(make([]item[V], 0, chunkMin), it)}
		return
	}
	chunk := r.chunks[p.chunk]
	switch {
	case len(chunk) < chunkSize:
		r.chunks[p.chunk] = slices.Insert(roomier(chunk), p.i, it)
	case p.i == len(chunk):
		// Topics that come in order leave full chunks behind.
		r.chunks = slices.Insert(r.chunks, p.chunk+1, append(make([]item[V], 0, chunkMin), it))
	default:
		left, right := snug(chunk[:chunkPart]), snug(chunk[chunkPart:])
		r.chunks[p.chunk] = left
		r.chunks = slices.Insert(r.chunks, p.chunk+1, right)
		if p.i > chunkPart {
			p = place{p.chunk + 1, p.i - chunkPart}
		}
		r.insertLocked(p, it)
	}
}

// roomier returns chunk with room for at least one more.
func roomier[V any](chunk []item[V]) []item[V] {
	if len(chunk) < cap(chunk) {
		return chunk
	}
	n := len(chunk)
	return append(make([]item[V], 0, min(max(n+n/chunkGrow, chunkMin), chunkSize)), chunk...)
}

// snug returns a copy of chunk that has little room to spare.
func snug[V any](chunk []item[V]) []item[V] {
	n := len(chunk)
	return append(make([]item[V], 0, n+n/chunkGrow), chunk...)
}

func (r *Retained[V]) deleteLocked(p place) {
	chunk := slices.Delete(r.chunks[p.chunk], p.i, p.i+1)
	r.chunks[p.chunk] = chunk
	switch {
	case len(chunk) == 0:
		r.dropLocked(p.chunk)
	case p.chunk > 0 && len(r.chunks[p.chunk-1])+len(chunk) <= chunkJoin:
		r.joinLocked(p.chunk - 1)
	case p.chunk+1 < len(r.chunks) && len(r.chunks[p.chunk+1])+len(chunk) <= chunkJoin:
		r.joinLocked(p.chunk)
	case len(chunk) < cap(chunk)/4 && cap(chunk) > chunkMin:
		r.chunks[p.chunk] = snug(chunk)
	}
}

// joinLocked makes one chunk of chunk c and the one after it.
func (r *Retained[V]) joinLocked(c int) {
	a, b := r.chunks[c], r.chunks[c+1]
	joined := make([]item[V], 0, len(a)+len(b)+chunkMin)
	r.chunks[c] = append(append(joined, a...), b...)
	r.dropLocked(c + 1)
}

func (r *Retained[V]) dropLocked(c int) {
	r.chunks = slices.Delete(r.chunks, c, c+1)
	if len(r.chunks) < cap(r.chunks)/4 {
		r.chunks = append([][]item[V](nil), r.chunks...)
	}
}
