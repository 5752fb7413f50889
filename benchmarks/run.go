//go:build linux

package main

import (
	"fmt"
	"io"

	"github.com/petrelmq/petrel/benchmarks/internal/process"
)

// results are all samples: by scenario, then by broker.
type results map[string]map[string][]sample

// runAll measures the brokers in turn, A B C A B C, so that what the machine does
// meanwhile meets all of them. What goes wrong is told and leaves a gap.
func runAll(bench *bench, list []scenario, brokers []process.Broker, rounds int, progress io.Writer) results {
	all := results{}
	for i := range list {
		s := &list[i]
		all[s.name] = map[string][]sample{}
		for round := range rounds {
			for k := range brokers {
				b := &brokers[k]
				if !s.can(b) {
					continue
				}
				fmt.Fprintf(progress, "%s, round %d of %d: %s", s.name, round+1, rounds, b.Name)
				got, err := s.run(bench, b)
				if err != nil {
					fmt.Fprintf(progress, ": %v\n", err)
					continue
				}
				fmt.Fprintf(progress, ": %.2f µs, %.0f/s, generator %.2f µs\n", got.Cost/1e3, got.Rate, got.Generator/1e3)
				all[s.name][b.Name] = append(all[s.name][b.Name], got)
			}
		}
	}
	return all
}
