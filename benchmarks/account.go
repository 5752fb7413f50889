//go:build linux

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/petrelmq/petrel/benchmarks/internal/process"
	"github.com/petrelmq/petrel/benchmarks/internal/table"
)

// accounted are the scenarios of which the account tells where the time goes.
var accounted = []string{
	"p2p/qos0/10", "p2p/qos1/100", "p2p/qos2/10", "fanout/qos0/1000", "fanout/qos1/1000", "fanin/qos1/1000",
	"wildcard/100k", "large/64KiB", "paced/5000", "churn",
}

// entry of the account: what is spent below functions whose names contain one of
// these, unless an entry before it stands nearer to the end of the stack.
type accountEntry struct {
	name  string
	marks []string
}

var accountEntries = []accountEntry{
	{"read", []string{"engine.read", "engine.receive", "syscall.Read"}},
	{"write", []string{"engine.write", "engine.send", "syscall.Write"}},
	{"open, close", []string{"engine.accept", "engine.(*rawAcceptor)", "engine.closeSocket", "engine.epollCtl", "engine.addressOf", "syscall.Shutdown"}},
	{"memory", []string{"runtime.mallocgc", "runtime.gcBgMarkWorker", "runtime.gcAssist", "runtime.growslice", "runtime.bgsweep", "runtime.bgscavenge", "runtime.newobject"}},
	{"packets", []string{"petrel/packets."}},
	{"matching", []string{"petrel/topics."}},
	{"wait", []string{"engine.epollReady", "engine.(*loop).pollOnce", "runtime.findRunnable", "runtime.schedule", "runtime.park_m", "runtime.mcall", "os.(*rawConn).Read", "engine.(*watch)", "runtime.sysmon", "runtime.ready"}},
	{"sessions", []string{"petrelmq/petrel"}},
}

const otherEntry = "other"

// account measures the scenarios with profiles, and tells the parts of each cost.
func account(s settings, dir string, progress io.Writer) error {
	path, err := build(dir, profiledBroker)
	if err != nil {
		return err
	}
	head := []string{"scenario", "CPU µs:"}
	for _, e := range accountEntries {
		head = append(head, e.name+" %:")
	}
	t := table.New(append(head, otherEntry+" %:")...)
	list, err := choose(s)
	if err != nil {
		return err
	}
	for i := range list {
		if !isAccounted(&list[i]) {
			continue
		}
		fmt.Fprintln(progress, list[i].name)
		if err := accountRow(s, &list[i], path, t); err != nil {
			return fmt.Errorf("%s: %w", list[i].name, err)
		}
	}
	s.rounds = 1
	return publish(s, "account", machine(s)+"\n\n"+t.String())
}

func isAccounted(s *scenario) bool {
	for _, name := range accounted {
		if s.name == name {
			return true
		}
	}
	return false
}

// accountRow measures one scenario.
func accountRow(s settings, c *scenario, path string, t *table.Table) error {
	broker := process.Broker{Name: process.Profiled, Kind: process.Profiled, Path: path}
	type outcome struct {
		shares map[string]float64
		err    error
	}
	profiled := make(chan outcome, 1)
	bench := &bench{seconds: s.seconds, watch: func(p *process.Process, window time.Duration) {
		go func() {
			shares, err := profileOf(p.Figures(), window)
			profiled <- outcome{shares, err}
		}()
	}}
	got, err := c.run(bench, &broker)
	if err != nil {
		return err
	}
	o := <-profiled
	if o.err != nil {
		return o.err
	}
	row := []string{c.name, micro(got.Cost)}
	for _, e := range accountEntries {
		row = append(row, table.Figure(100*o.shares[e.name]))
	}
	t.Row(append(row, table.Figure(100*o.shares[otherEntry]))...)
	return nil
}

// profileOf asks a broker for a profile of the next while, and returns the part of
// each entry in it.
func profileOf(address netip.AddrPort, window time.Duration) (map[string]float64, error) {
	seconds := max(1, int(window.Seconds())-1) // the broker ends soon after the window
	response, err := http.Get(fmt.Sprintf("http://%v/debug/pprof/profile?seconds=%d", address, seconds))
	if err != nil {
		return nil, fmt.Errorf("ask for a profile: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	p, err := profile.Parse(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read the profile: %w", err)
	}
	return sharesOf(p), nil
}

// sharesOf shares out what the samples have seen.
func sharesOf(p *profile.Profile) map[string]float64 {
	shares, sum := map[string]float64{}, 0.0
	for _, s := range p.Sample {
		time := float64(s.Value[len(s.Value)-1])
		shares[entryOf(s)] += time
		sum += time
	}
	for name := range shares {
		shares[name] /= sum
	}
	return shares
}

// entryOf is the entry of the innermost function that one of them names.
func entryOf(s *profile.Sample) string {
	for _, location := range s.Location {
		for _, line := range location.Line {
			for _, e := range accountEntries {
				for _, mark := range e.marks {
					if strings.Contains(line.Function.Name, mark) {
						return e.name
					}
				}
			}
		}
	}
	return otherEntry
}
