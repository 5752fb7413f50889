//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/petrelmq/petrel/benchmarks/internal/process"
	"github.com/petrelmq/petrel/benchmarks/internal/table"
)

// storeGoal is the least part of its rate without a store that petrel is to have
// with bolt, in the scenario storeGoalAt.
const (
	storeGoal   = 0.5
	storeGoalAt = "durable/qos1/1000"
)

// compareStores runs the scenarios that are about stores.
func compareStores(s settings, dir string, progress io.Writer) error {
	list, err := choose(s)
	if err != nil {
		return err
	}
	brokers, err := prepareStores(s, dir)
	if err != nil {
		return err
	}
	all := runAll(&bench{seconds: s.seconds}, list, brokers, s.rounds, progress)
	return publish(s, "durable", machine(s)+"\n\n"+storeReport(list, brokers, all))
}

// prepareStores finds and builds the brokers of the command line: petrel is
// without a store, and all others have one.
func prepareStores(s settings, dir string) (brokers []process.Broker, err error) {
	program := ""
	for name := range strings.SplitSeq(s.brokers, ",") {
		name, path, given := strings.Cut(name, "=")
		b := process.Broker{Name: name, Kind: process.Profiled, Path: path, Store: name}
		switch {
		case given:
			b.Store = bolt
		case name == process.Mosquitto:
			b.Kind, b.Store = process.Mosquitto, "file"
			b.Path, err = mosquitto()
		case name == process.Petrel, name == bolt, name == pebble:
			if name == process.Petrel {
				b.Store = ""
			}
			if program == "" {
				program, err = build(dir, profiledBroker)
			}
			b.Path = program
		default:
			err = fmt.Errorf("-brokers: %q is not petrel, bolt, pebble, mosquitto or NAME=FILE", name)
		}
		if err != nil {
			return nil, err
		}
		brokers = append(brokers, b)
	}
	return brokers, nil
}

// The stores of petrel.
const (
	bolt   = "bolt"
	pebble = "pebble"
)

// storeReport writes what stores cost as a table, and what failed.
func storeReport(list []scenario, brokers []process.Broker, all *results) string {
	t := table.New("scenario", "broker", "per second:", "of no store:", "CPU µs:", "ack p50 ms:", "ack p99 ms:",
		"messages for each sync:", "lost:", "generator µs:")
	rows(list, brokers, all, false, func(scenario string, b *process.Broker, samples []sample) {
		kept := ""
		if part := all.keptRate(scenario, b.Name); part > 0 {
			kept = percent(part)
		}
		t.Row(scenario, b.Name, table.Figure(median(samples, sample.rate)), kept,
			micro(median(samples, sample.cost)), milli(median(samples, sample.ackP50)), milli(median(samples, sample.ackP99)),
			orNothing(median(samples, sample.shared)), percent(slices.Max(each(samples, sample.lost))),
			micro(median(samples, sample.generator)))
	})
	text := t.String()
	if kept := all.keptRate(storeGoalAt, bolt); kept > 0 {
		reached := "reached"
		if kept < storeGoal {
			reached = "not reached"
		}
		text += fmt.Sprintf("\nGoal for bolt in `%s`: at least %s of the rate without a store: %s.\n", storeGoalAt, percent(storeGoal), reached)
	}
	return text + all.notMeasured()
}

// keptRate is the rate of a broker as a part of petrel's without a store, 0 if
// that is no question.
func (r *results) keptRate(scenario, broker string) float64 {
	own, base := r.samples[scenario][broker], r.samples[scenario][process.Petrel]
	if len(own) == 0 || len(base) == 0 || broker == process.Petrel {
		return 0
	}
	return median(own, sample.rate) / median(base, sample.rate)
}
