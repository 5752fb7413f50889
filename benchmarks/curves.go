//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/petrelmq/petrel/benchmarks/internal/load"
	"github.com/petrelmq/petrel/benchmarks/internal/plot"
	"github.com/petrelmq/petrel/benchmarks/internal/process"
	"github.com/petrelmq/petrel/benchmarks/internal/table"
)

// curve is a cost as something grows.
type curve struct {
	name  string // of the file, too
	title string
	x     string
	at    []int
	plan  func(x int) load.Plan

	without []string // kinds of broker that cannot do it
}

var curves = []curve{
	{
		name: "connections", title: "10,000 messages a second over all pairs of n connections", x: "connections",
		at:   []int{100, 300, 1000, 3000, 10_000, 15_000},
		plan: func(n int) load.Plan { return paced(n/2, 10_000)() },
	},
	{
		name: "subscriptions", title: "n filters site/N/+/N/# over 1,000 subscribers, one of which matches", x: "subscriptions",
		at:   []int{1000, 10_000, 100_000, 1_000_000},
		plan: func(n int) load.Plan { return wildcards(1000, n/1000)() }, without: noRelay,
	},
	{
		name: "depth", title: "10 pairs whose topics have n levels", x: "levels",
		at: []int{1, 3, 10, 30, 100}, plan: deepPairs,
	},
	{
		name: "fanout", title: "one publisher, n subscribers", x: "subscribers",
		at:   []int{1, 10, 100, 1000, 10_000},
		plan: func(n int) load.Plan { return fanOut(n, 0, payload, 20)() },
	},
	{
		name: "payload", title: "10 pairs with payloads of n bytes", x: "bytes",
		at:   []int{16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20},
		plan: heavyPairs,
	},
}

// deepPairs are pairs whose topics have some number of levels.
func deepPairs(levels int) load.Plan {
	return pairsOf(10, payload, 100, func(i int) string {
		return strings.Repeat("level/", levels-1) + fmt.Sprint(i)
	})
}

// heavyPairs have at most one MiB on its way each.
func heavyPairs(payload int) load.Plan {
	return pairsOf(10, payload, min(100, max(2, 1<<20/payload)), func(i int) string { return fmt.Sprint("heavy/", i) })
}

func pairsOf(n, payload, window int, topic func(i int) string) load.Plan {
	plan := pairs(n, 0, window)()
	for i := range n {
		sub, pub := &plan.Clients[2*i], &plan.Clients[2*i+1]
		sub.Filters = []string{topic(i)}
		pub.Publish.Topics, pub.Publish.Payload = sub.Filters, payload
	}
	return plan
}

// drawCurves measures the curves, writes their pictures, and publishes their tables.
func drawCurves(s settings, dir string, progress io.Writer) error {
	pattern, err := regexp.Compile(s.scenarios)
	if err != nil {
		return fmt.Errorf("-scenarios: %w", err)
	}
	brokers, err := prepare(s, dir)
	if err != nil {
		return err
	}
	home, err := directory()
	if err != nil {
		return err
	}
	for _, c := range curves {
		if !pattern.MatchString(c.name) {
			continue
		}
		all := runAll(&bench{seconds: s.seconds}, c.scenarios(), brokers, s.rounds, progress)
		svg := c.chart(brokers, all).SVG()
		if err := os.WriteFile(filepath.Join(home, "plots", c.name+".svg"), []byte(svg), 0o644); err != nil {
			return err
		}
		if err := publish(s, c.name, fmt.Sprintf("![](plots/%s.svg)\n\n%s\n\n%s", c.name, machine(s), c.table(brokers, all))); err != nil {
			return err
		}
	}
	return nil
}

// scenarios are the points of the curve.
func (c *curve) scenarios() (list []scenario) {
	for _, x := range c.at {
		plan := func() load.Plan { return c.plan(x) }
		list = append(list, scenario{name: c.point(x), without: c.without, run: traffic(plan)})
	}
	return list
}

func (c *curve) point(x int) string { return fmt.Sprintf("%s/%d", c.name, x) }

func (c *curve) chart(brokers []process.Broker, all *results) *plot.Chart {
	chart := &plot.Chart{Title: c.title, X: c.x, Y: "CPU of the broker per delivered message, µs"}
	for _, b := range brokers {
		series := plot.Series{Name: b.Name}
		for _, x := range c.at {
			if cost := all.cost(c.point(x), b.Name); cost > 0 {
				series.Points = append(series.Points, plot.Point{X: float64(x), Y: cost / 1e3})
			}
		}
		chart.Series = append(chart.Series, series)
	}
	return chart
}

// table has the values of the curve.
func (c *curve) table(brokers []process.Broker, all *results) string {
	head := []string{c.x + ":"}
	for _, b := range brokers {
		head = append(head, b.Name+" µs:", "lost:")
	}
	t := table.New(head...)
	for _, x := range c.at {
		row := []string{table.Count(x)}
		for _, b := range brokers {
			samples := all.samples[c.point(x)][b.Name]
			if len(samples) == 0 {
				row = append(row, "", "")
				continue
			}
			row = append(row, micro(all.cost(c.point(x), b.Name)), percent(median(samples, sample.lost)))
		}
		t.Row(row...)
	}
	return t.String() + all.notMeasured()
}
