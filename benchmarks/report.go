//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/petrelmq/petrel/benchmarks/internal/process"
	"github.com/petrelmq/petrel/benchmarks/internal/stats"
	"github.com/petrelmq/petrel/benchmarks/internal/table"
)

// report writes the medians of all samples as tables, and what failed.
func report(list []scenario, brokers []process.Broker, all *results, against string) string {
	var parts []string
	for _, part := range []string{
		trafficTable(list, brokers, all, against), memoryTable(list, brokers, all, against), goalTable(all),
	} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "\n") + all.notMeasured()
}

// notMeasured says what failed, if anything did.
func (r *results) notMeasured() string {
	if len(r.failures) == 0 {
		return ""
	}
	return "\nNot measured:\n\n- " + strings.Join(r.failures, "\n- ") + "\n"
}

func trafficTable(list []scenario, brokers []process.Broker, all *results, against string) string {
	t := table.New("scenario", "broker", "CPU µs:", "least to most:", "against "+against+":", "per second:",
		"p50 ms:", "p99 ms:", "p99.9 ms:", "lost:", "generator µs:")
	rows(list, brokers, all, false, func(scenario string, b *process.Broker, samples []sample) {
		costs := each(samples, sample.cost)
		t.Row(scenario, b.Name, micro(stats.Median(costs)), micro(slices.Min(costs))+" to "+micro(slices.Max(costs)),
			ratio(stats.Median(costs), all.cost(scenario, against)), table.Figure(median(samples, sample.rate)),
			milli(median(samples, sample.p50)), milli(median(samples, sample.p99)), milli(median(samples, sample.p999)),
			percent(slices.Max(each(samples, sample.lost))), micro(median(samples, sample.generator)))
	})
	return t.String()
}

func memoryTable(list []scenario, brokers []process.Broker, all *results, against string) string {
	t := table.New("scenario", "broker", "bytes:", "against "+against+":", "CPU µs:", "against "+against+":", "lost:", "generator µs:")
	rows(list, brokers, all, true, func(scenario string, b *process.Broker, samples []sample) {
		bytes, base := median(samples, sample.memory), median(all.samples[scenario][against], sample.memory)
		t.Row(scenario, b.Name, table.Figure(bytes), ratio(bytes, base),
			micro(median(samples, sample.cost)), ratio(median(samples, sample.cost), all.cost(scenario, against)),
			percent(slices.Max(each(samples, sample.lost))), micro(median(samples, sample.generator)))
	})
	return t.String()
}

// rows calls row for everything of one sort that was measured.
func rows(list []scenario, brokers []process.Broker, all *results, memory bool, row func(string, *process.Broker, []sample)) {
	for _, s := range list {
		if s.memory != memory {
			continue
		}
		for i := range brokers {
			if samples := all.samples[s.name][brokers[i].Name]; len(samples) > 0 {
				row(s.name, &brokers[i], samples)
			}
		}
	}
}

// legend says what the scenarios are.
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

func (s sample) cost() float64      { return s.Cost }
func (s sample) generator() float64 { return s.Generator }
func (s sample) rate() float64      { return s.Rate }
func (s sample) p50() float64       { return s.P50 }
func (s sample) p99() float64       { return s.P99 }
func (s sample) p999() float64      { return s.P999 }
func (s sample) lost() float64      { return s.Lost }
func (s sample) memory() float64    { return s.Memory }
func (s sample) ackP50() float64    { return s.AckP50 }
func (s sample) ackP99() float64    { return s.AckP99 }
func (s sample) shared() float64    { return s.Shared }

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

func micro(ns float64) string { return orNothing(ns / 1e3) }
func milli(ns float64) string { return orNothing(ns / 1e6) }

// orNothing leaves out what was not measured.
func orNothing(v float64) string {
	if v == 0 {
		return ""
	}
	return table.Figure(v)
}

// ratio writes a part as 1/N, and more than the whole as a number.
func ratio(v, base float64) string {
	switch {
	case base <= 0 || v <= 0:
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
