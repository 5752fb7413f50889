package limit

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"time"
)

// buckets are token buckets for any number of keys, in memory of a fixed size.
// Each key has one place in each row, and shares it with other keys. What a key
// has used is what the least used of its places says.
//
// So no key ever gets more than its rate, whatever other keys do: nothing is
// evicted. A key gets less only if all of its places are shared with others that
// have used up theirs.
type buckets struct {
	interval time.Duration // in which one more is allowed
	burst    time.Duration // of that many intervals a bucket is full
	start    time.Time

	mu   sync.Mutex
	rows [4][]time.Duration // since start, when the bucket of the place is full again
}

func newBuckets(r Rate, places int) *buckets {
	if r == (Rate{}) {
		return nil
	}
	b := &buckets{interval: r.Period / time.Duration(r.Count), start: time.Now()}
	b.burst = time.Duration(r.Burst) * b.interval
	size := 1 << bits.Len(uint(places-1))
	for i := range b.rows {
		b.rows[i] = make([]time.Duration, size)
	}
	return b
}

// take uses one of what the key has, and reports false if there is none.
func (b *buckets) take(key uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Since(b.start)
	full := b.fullLocked(key, now) + b.interval
	if full-now > b.burst {
		return false
	}
	b.setLocked(key, full)
	return true
}

// has reports whether take would find something.
func (b *buckets) has(key uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Since(b.start)
	return b.fullLocked(key, now)+b.interval-now <= b.burst
}

// charge uses one, and goes into debt where there is none: as far as mostDebt bursts.
func (b *buckets) charge(key uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Since(b.start)
	b.setLocked(key, min(b.fullLocked(key, now)+b.interval, now+(1+mostDebt)*b.burst))
}

// mostDebt bounds how long a key has to wait that was charged again and again.
const mostDebt = 10

// fullLocked is when the bucket of the key is full again, now if it is.
func (b *buckets) fullLocked(key uint64, now time.Duration) time.Duration {
	full := b.rows[0][b.place(0, key)]
	for i := 1; i < len(b.rows); i++ {
		full = min(full, b.rows[i][b.place(i, key)])
	}
	return max(full, now)
}

func (b *buckets) setLocked(key uint64, full time.Duration) {
	for i := range b.rows {
		at := &b.rows[i][b.place(i, key)]
		*at = max(*at, full)
	}
}

// place is that of the key in one row: other keys that share it share none, or
// hardly any, of the places in other rows.
func (b *buckets) place(row int, key uint64) int {
	h := uint32(key) + uint32(row)*(uint32(key>>32)|1)
	h ^= h >> 16
	h *= 0x7feb352d
	h ^= h >> 15
	return int(h) & (len(b.rows[row]) - 1)
}

// hash makes a key of anything, in a way that nobody outside can foresee.
func hash[T comparable](seed maphash.Seed, v T) uint64 { return maphash.Comparable(seed, v) }
