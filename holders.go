package petrel

import "iter"

// holders counts who refers to the messages of the store that are records of their
// own, as far as nobody in memory does it: about 5 bytes for each of many messages
// in a row, and about 100 for one alone, however large. What a count is made of:
//
//   - one for each delivery that is in the store only, or was read back from there;
//   - one for all deliveries together that have had the message in memory since it
//     was published, and count themselves in message.holders.
//
// A message without a count is one that nobody but the latter has. Nothing of this is
// in the store: the records of the deliveries are, and are counted at the start.
// Guarded by journal.mu.
type holders struct {
	// The n-th message has the count n%16 of block n/16. There are no pointers
	// in it, so that it costs the garbage collector nothing.
	blocks map[uint64]holderBlock
}

type holderBlock [16]uint32

// of returns how many hold a message.
func (h *holders) of(number uint64) uint32 {
	if len(h.blocks) == 0 {
		return 0
	}
	return h.blocks[number/16][number%16]
}

// add counts n more, or less, and returns how many there are now.
func (h *holders) add(number uint64, n int32) uint32 {
	if h.blocks == nil {
		h.blocks = make(map[uint64]holderBlock)
	}
	b := h.blocks[number/16]
	c := &b[number%16]
	*c += uint32(n)
	left := *c
	h.put(number/16, &b)
	return left
}

// put keeps a block unless nothing in it is held any more.
func (h *holders) put(at uint64, b *holderBlock) {
	if *b != (holderBlock{}) {
		h.blocks[at] = *b
		return
	}
	if delete(h.blocks, at); len(h.blocks) == 0 {
		h.blocks = nil // a map that was large stays so
	}
}

// release counts one less for each message, and yields those that nobody is left to hold.
func (h *holders) release() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for at, b := range h.blocks {
			before := b
			for i := range b {
				if b[i] > 0 {
					b[i]--
				}
			}
			h.put(at, &b)
			for i := range b {
				if before[i] == 1 && !yield(16*at+uint64(i)) {
					return
				}
			}
		}
	}
}
