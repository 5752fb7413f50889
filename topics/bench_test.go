package topics_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/petrelmq/petrel/topics"
)

var mixes = []struct {
	name   string
	filter func(i int) string
}{
	{"exact", func(i int) string { return fmt.Sprintf("site/%d/device/%d/state", i%100, i) }},
	{"plus", func(i int) string { return fmt.Sprintf("site/+/device/%d/+", i) }},
	{"hash", func(i int) string { return fmt.Sprintf("site/%d/device/%d/#", i%100, i) }},
	{"mixed", func(i int) string {
		switch i % 10 {
		case 0:
			return fmt.Sprintf("site/+/device/%d/+", i)
		case 1:
			return fmt.Sprintf("site/%d/device/%d/#", i%100, i)
		case 2:
			return fmt.Sprintf("$share/workers%d/site/%d/#", i%1000, i%100)
		}
		return fmt.Sprintf("site/%d/device/%d/state", i%100, i)
	}},
}

var sizes = []int{1_000, 100_000, 1_000_000}

func filters(n int, filter func(int) string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = filter(i)
	}
	return all
}

func eachMix(b *testing.B, run func(b *testing.B, filters []string)) {
	for _, mix := range mixes {
		for _, n := range sizes {
			if n > 100_000 && testing.Short() {
				continue
			}
			b.Run(fmt.Sprintf("%s/%d", mix.name, n), func(b *testing.B) {
				run(b, filters(n, mix.filter))
			})
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	eachMix(b, func(b *testing.B, filters []string) {
		before := heap()
		tree := topics.NewTree[int]()
		for _, f := range filters {
			tree.Add(f, &topics.Entry[int]{})
		}
		perSub := float64(heap()-before) / float64(len(filters))
		topic := make([][]byte, 4096)
		for i := range topic {
			k := i * 7919 % len(filters)
			topic[i] = fmt.Appendf(nil, "site/%d/device/%d/state", k%100, k)
		}
		var m topics.Matches[int]
		found := 0
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			tree.Match(topic[i%len(topic)], &m)
			found += len(m.Entries) + len(m.Groups)
		}
		b.ReportMetric(perSub, "B/sub")
		b.ReportMetric(float64(found)/float64(b.N), "found/op")
		runtime.KeepAlive(filters)
	})
}

func BenchmarkMatchParallel(b *testing.B) {
	tree := topics.NewTree[int]()
	for _, f := range filters(100_000, mixes[3].filter) {
		tree.Add(f, &topics.Entry[int]{})
	}
	b.RunParallel(func(pb *testing.PB) {
		var m topics.Matches[int]
		topic := []byte("site/7/device/7/state")
		for pb.Next() {
			tree.Match(topic, &m)
		}
	})
}

// BenchmarkMatchFanOut is one topic with very many subscriptions.
func BenchmarkMatchFanOut(b *testing.B) {
	for _, n := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			before := heap()
			tree := topics.NewTree[int]()
			for range n {
				tree.Add("news/sport", &topics.Entry[int]{})
			}
			perSub := float64(heap()-before) / float64(n)
			var m topics.Matches[int]
			topic := []byte("news/sport")
			b.ReportAllocs()
			for b.Loop() {
				tree.Match(topic, &m)
			}
			b.ReportMetric(perSub, "B/sub")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/sub")
		})
	}
}

// BenchmarkAdd subscribes to each filter of a mix once; an op is one filter.
func BenchmarkAdd(b *testing.B) {
	eachMix(b, func(b *testing.B, filters []string) {
		b.ReportAllocs()
		tree := topics.NewTree[int]()
		i := 0
		for b.Loop() {
			if i == len(filters) {
				i, tree = 0, topics.NewTree[int]()
			}
			tree.Add(filters[i], &topics.Entry[int]{})
			i++
		}
	})
}

// BenchmarkRemove takes all of a mix out again; an op is one entry.
func BenchmarkRemove(b *testing.B) {
	eachMix(b, func(b *testing.B, filters []string) {
		entries := make([]topics.Entry[int], len(filters))
		tree := topics.NewTree[int]()
		b.ReportAllocs()
		for i := 0; i < b.N; i++ {
			k := i % len(filters)
			if k == 0 {
				b.StopTimer()
				for k := range filters {
					if i == 0 || tree.Len() < len(filters) {
						tree.Add(filters[k], &entries[k])
					}
				}
				b.StartTimer()
			}
			tree.Remove(&entries[k])
		}
	})
}

// BenchmarkChurn removes and adds in a tree that is full.
func BenchmarkChurn(b *testing.B) {
	eachMix(b, func(b *testing.B, filters []string) {
		entries := make([]topics.Entry[int], len(filters))
		tree := topics.NewTree[int]()
		for i := range filters {
			tree.Add(filters[i], &entries[i])
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			k := i * 7919 % len(filters)
			tree.Remove(&entries[k])
			tree.Add(filters[k], &entries[k])
		}
	})
}

func BenchmarkCheckFilter(b *testing.B) {
	filter := []byte("$share/workers/site/+/device/17/#")
	for b.Loop() {
		_ = topics.CheckFilter(filter, 128)
	}
}

func BenchmarkFilterMatch(b *testing.B) {
	filter, name := "site/+/device/17/#", []byte("site/12/device/17/state")
	for b.Loop() {
		_ = topics.Match(filter, name)
	}
}

const retained = 100_000

func retainedTopic(i int) string { return fmt.Sprintf("a/%d/%c", i/4, 'a'+rune(i%4)) }

func retainedIndex() (*topics.Retained[*int], []string) {
	index := topics.NewRetained[*int]()
	names := make([]string, retained)
	for i := range names {
		names[i] = retainedTopic(i * 7919 % retained)
		index.Set(names[i], nil)
	}
	return index, names
}

func BenchmarkRetainedSet(b *testing.B) {
	_, names := retainedIndex()
	before := heap()
	full := topics.NewRetained[*int]()
	for _, n := range names {
		full.Set(n, nil)
	}
	perEntry := float64(heap()-before) / retained
	runtime.KeepAlive(full)
	index := topics.NewRetained[*int]()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i == len(names) {
			i, index = 0, topics.NewRetained[*int]()
		}
		index.Set(names[i], nil)
		i++
	}
	b.ReportMetric(perEntry, "B/entry")
}

func BenchmarkRetainedReplace(b *testing.B) {
	index, names := retainedIndex()
	for i := 0; b.Loop(); i++ {
		index.Set(names[i%len(names)], nil)
	}
}

func BenchmarkRetainedGet(b *testing.B) {
	index, names := retainedIndex()
	for i := 0; b.Loop(); i++ {
		index.Get(names[i%len(names)])
	}
}

// BenchmarkRetainedWalk walks all that a filter matches; also per match.
func BenchmarkRetainedWalk(b *testing.B) {
	index, _ := retainedIndex()
	for _, filter := range []string{"#", "a/+/c", "+/7/#", "a/7/c"} {
		b.Run(filter, func(b *testing.B) {
			var dst []*int
			found := 0
			b.ReportAllocs()
			for b.Loop() {
				for c := topics.NewCursor(filter); !c.Done(); {
					dst = index.Next(&c, dst[:0], 64)
					found += len(dst)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(found), "ns/found")
		})
	}
}
