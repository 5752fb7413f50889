//go:build linux

package main

import (
	"fmt"
	"strings"

	"github.com/petrelmq/petrel/benchmarks/internal/process"
	"github.com/petrelmq/petrel/benchmarks/internal/stats"
	"github.com/petrelmq/petrel/benchmarks/internal/table"
)

// report writes the medians of all samples as a table.
func report(list []scenario, brokers []process.Broker, all results, against string) string {
	t := table.New("scenario", "broker", "CPU µs:", "least to most:", "against "+against+":", "per second:",
		"p50 ms:", "p99 ms:", "p99.9 ms:", "lost:", "generator µs:")
	for _, s := range list {
		base := median(all[s.name][against], cost)
		name := s.name
		for _, b := range brokers {
			samples := all[s.name][b.Name]
			if len(samples) == 0 {
				continue
			}
			costs := each(samples, cost)
			t.Row(name, b.Name, micro(stats.Median(costs)), micro(low(costs))+" to "+micro(high(costs)),
				ratio(stats.Median(costs), base), table.Figure(median(samples, func(s sample) float64 { return s.Rate })),
				milli(median(samples, func(s sample) float64 { return s.P50 })),
				milli(median(samples, func(s sample) float64 { return s.P99 })),
				milli(median(samples, func(s sample) float64 { return s.P999 })),
				percent(high(each(samples, func(s sample) float64 { return s.Lost }))),
				micro(median(samples, func(s sample) float64 { return s.Generator })))
			name = ""
		}
	}
	return t.String()
}

// legend says what the rows and the columns mean.
func legend(list []scenario) string {
	var b strings.Builder
	for _, s := range list {
		fmt.Fprintf(&b, "- `%s`: %s", s.name, s.about)
		if s.unit != "" {
			fmt.Fprintf(&b, "; per %s", s.unit)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func cost(s sample) float64 { return s.Cost }

func each(samples []sample, of func(sample) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	return values
}

func median(samples []sample, of func(sample) float64) float64 {
	return stats.Median(each(samples, of))
}

func low(values []float64) float64  { return least(values, 1) }
func high(values []float64) float64 { return -least(values, -1) }

func least(values []float64, sign float64) float64 {
	found := sign * values[0]
	for _, v := range values[1:] {
		found = min(found, sign*v)
	}
	return found
}

func micro(ns float64) string { return table.Figure(ns / 1e3) }
func milli(ns float64) string { return table.Figure(ns / 1e6) }

// ratio writes a part as 1/N, and more than the whole as a number.
func ratio(v, base float64) string {
	switch {
	case base == 0 || v == 0:
		return ""
	case v < base:
		return "1/" + table.Figure(base/v)
	}
	return table.Figure(v / base)
}

func percent(part float64) string {
	if part == 0 {
		return "0"
	}
	return table.Figure(part*100) + " %"
}
