//go:build linux

package main

import (
	"github.com/petrelmq/petrel/benchmarks/internal/process"
	"github.com/petrelmq/petrel/benchmarks/internal/table"
)

// goal is what petrel aims at in a scenario.
type goal struct {
	scenario string
	what     string
	of       func(sample) float64
	against  string  // the broker that it is a part or a multiple of; "" if it is absolute
	most     float64 // of the quotient, or absolute
	show     func(float64) string
}

var goals = []goal{
	costGoal("p2p/qos0/10", 16),
	costGoal("p2p/qos1/100", 8),
	costGoal("p2p/qos2/10", 15),
	costGoal("fanout/qos0/1000", 9),
	costGoal("fanout/qos1/1000", 6),
	costGoal("fanin/qos1/1000", 6),
	costGoal("wildcard/100k", 3.5),
	costGoal("large/64KiB", 13),
	costGoal("paced/5000", 3),
	{"paced/5000", "p99 against mosquitto", sample.p99, process.Mosquitto, 1, part},
	costGoal("churn", 2.5),
	{"idle/tcp/10000", "bytes", sample.memory, "", 1536, table.Figure},
	{"retained/100k", "CPU µs", sample.cost, "", 1000, micro},
	{"retained/100k", "bytes", sample.memory, "", 600, table.Figure},
}

func costGoal(scenario string, times float64) goal {
	return goal{scenario, "CPU against mochi", sample.cost, process.Mochi, 1 / times, part}
}

func part(v float64) string { return ratio(v, 1) }

// goalTable compares what was measured of petrel with what it aims at.
func goalTable(all *results) string {
	t := table.New("scenario", "goal", "at most:", "petrel:", "reached")
	for _, g := range goals {
		own, base := all.samples[g.scenario][process.Petrel], 1.0
		if g.against != "" {
			base = median(all.samples[g.scenario][g.against], g.of)
		}
		if len(own) == 0 || base == 0 {
			continue
		}
		is, reached := median(own, g.of)/base, "no"
		if is <= g.most {
			reached = "yes"
		}
		t.Row(g.scenario, g.what, g.show(g.most), g.show(is), reached)
	}
	return t.String()
}
