//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/petrelmq/petrel/benchmarks/internal/process"
)

// results are what was measured.
type results struct {
	samples  map[string]map[string][]sample // by scenario, then by broker
	failures []string                       // each once
}

// cost is the median of a broker in a scenario, 0 if it was not measured.
func (r *results) cost(scenario, broker string) float64 {
	return median(r.samples[scenario][broker], sample.cost)
}

func (r *results) add(scenario, broker string, s sample) {
	if r.samples == nil {
		r.samples = map[string]map[string][]sample{}
	}
	if r.samples[scenario] == nil {
		r.samples[scenario] = map[string][]sample{}
	}
	r.samples[scenario][broker] = append(r.samples[scenario][broker], s)
}

func (r *results) fail(scenario, broker string, err error) {
	failure := fmt.Sprintf("`%s` with %s: %v", scenario, broker, err)
	if !slices.Contains(r.failures, failure) {
		r.failures = append(r.failures, failure)
	}
}

// runAll measures the brokers in turn, A B C A B C, so that what the machine does
// meanwhile meets all of them.
func runAll(bench *bench, list []scenario, brokers []process.Broker, rounds int, progress io.Writer) *results {
	all := &results{}
	for i := range list {
		s := &list[i]
		for round := range rounds {
			for k := range brokers {
				b := &brokers[k]
				if !s.can(b) {
					continue
				}
				fmt.Fprintf(progress, "%s, round %d of %d: %s", s.name, round+1, rounds, b.Name)
				got, err := s.run(bench, b)
				if err != nil {
					all.fail(s.name, b.Name, err)
					fmt.Fprintf(progress, ": %v\n", err)
					continue
				}
				fmt.Fprintf(progress, ": %.2f µs, %.0f/s, generator %.2f µs\n", got.Cost/1e3, got.Rate, got.Generator/1e3)
				all.add(s.name, b.Name, got)
			}
		}
	}
	return all
}
