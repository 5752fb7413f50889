// Package stats holds the arithmetic of the measurements.
package stats

import "math/bits"

// Values are told apart to one part in 64: the upper seven bits of each count.
const (
	precision = 6
	cells     = (64 - precision) << precision
)

// Histogram counts durations in nanoseconds, each with an error of at most 1.6 %.
// Its zero value is empty. Recording costs no allocation and no search.
type Histogram struct {
	counts [cells]uint32
	total  uint64
}

// Record counts one value; a negative one counts as 0.
func (h *Histogram) Record(v int64) {
	h.counts[cell(uint64(max(v, 0)))]++
	h.total++
}

// Total is how many values were recorded.
func (h *Histogram) Total() uint64 { return h.total }

// Reset forgets all values.
func (h *Histogram) Reset() { *h = Histogram{} }

// Percentile returns the smallest value that p percent of the recorded ones do
// not exceed; 0 if there are none.
func (h *Histogram) Percentile(p float64) int64 {
	if h.total == 0 {
		return 0
	}
	rank := max(uint64(p/100*float64(h.total)+0.999999), 1)
	var seen uint64
	for i, n := range h.counts {
		if seen += uint64(n); seen >= rank {
			return int64(upper(i))
		}
	}
	return int64(upper(len(h.counts) - 1))
}

func cell(v uint64) int {
	if v < 1<<precision {
		return int(v)
	}
	shift := bits.Len64(v) - precision - 1
	return (shift+1)<<precision + int(v>>shift) - 1<<precision
}

// upper is the largest value of a cell.
func upper(i int) uint64 {
	if i < 1<<precision {
		return uint64(i)
	}
	shift := i>>precision - 1
	return (uint64(i&(1<<precision-1))+1<<precision+1)<<shift - 1
}
