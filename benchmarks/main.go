//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/petrelmq/petrel/benchmarks/internal/process"
)

func init() {
	runtime.LockOSThread() // brokers die with the thread that has started them
}

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

// settings are the command line.
type settings struct {
	brokers    string
	petrel     string
	brokerArgs string
	scenarios  string
	against    string
	congestion string
	rounds     int
	seconds    float64
	quick      bool
	list       bool
	curves     bool
	million    bool
	account    bool
	durable    bool
	readme     bool
}

// The brokers that are measured if the command line does not say.
const (
	withoutStore = "petrel,mochi,mosquitto,relay"
	withStore    = "petrel,bolt,pebble,mosquitto"
)

func parse(args []string, w io.Writer) (settings, error) {
	var s settings
	f := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	f.SetOutput(w)
	f.StringVar(&s.brokers, "brokers", "", "measure these, in this order (default "+withoutStore+", and "+withStore+" for -durable); NAME=FILE is a build of petrel, of ./benchmarks/brokers/profiled with bolt for -durable")
	f.StringVar(&s.petrel, "petrel", "", "the `FILE` of petrel's broker instead of a build of this workspace")
	f.StringVar(&s.brokerArgs, "broker-args", "", "`ARGUMENTS` for every build of petrel, separated by spaces")
	f.StringVar(&s.scenarios, "scenarios", "", "only scenarios whose names match `REGEXP`")
	f.StringVar(&s.against, "against", "", "the `BROKER` that ratios are told against (default mochi, if measured, or else the first)")
	f.StringVar(&s.congestion, "congestion", "", "measure what moves messages in a network of its own where TCP uses `NAME`, cubic say, instead of what the machine uses; takes root")
	f.IntVar(&s.rounds, "rounds", 0, "measure as often with each broker (default 5; 3 for -curves)")
	f.Float64Var(&s.seconds, "seconds", 0, "length of each measured window (default 3; 1 for -quick and -curves)")
	f.BoolVar(&s.quick, "quick", false, "only the quick set: less than five minutes")
	f.BoolVar(&s.curves, "curves", false, "measure cost as work grows, and draw plots/*.svg; -scenarios picks curves by name")
	f.BoolVar(&s.million, "million", false, "simulate a million clients in one process")
	f.BoolVar(&s.account, "account", false, "tell where petrel spends the time of a message, from profiles")
	f.BoolVar(&s.durable, "durable", false, "measure what it costs to keep messages in a store")
	f.BoolVar(&s.list, "list", false, "only say what the scenarios are")
	f.BoolVar(&s.readme, "readme", false, "write the result into README.md instead of printing it")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if s.congestion != "" && (s.million || s.account || s.durable || s.curves) {
		return s, errors.New("-congestion goes with none of -curves, -million, -account and -durable")
	}
	s.fillIn()
	return s, nil
}

// fillIn sets what the command line leaves open.
func (s *settings) fillIn() {
	if s.brokers == "" {
		s.brokers = withoutStore
		if s.durable {
			s.brokers = withStore
		}
	}
	if s.rounds == 0 {
		s.rounds = 5
		if s.curves {
			s.rounds = 3
		}
	}
	if s.seconds == 0 {
		s.seconds = 3
		switch {
		case s.curves || s.quick:
			s.seconds = 1
		case s.account:
			s.seconds = 5
		}
	}
}

func run(args []string, progress io.Writer) error {
	s, err := parse(args, progress)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := raiseFileLimit(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "benchmarks-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // for brokers that give up their rights
		return err
	}
	switch {
	case s.list:
		return publish(s, "scenarios", legend(scenarios))
	case s.million:
		return million(s, dir)
	case s.account:
		return account(s, dir, progress)
	case s.durable:
		return compareStores(s, dir, progress)
	case s.curves:
		return drawCurves(s, dir, progress)
	}
	return compare(s, dir, progress)
}

// compare runs the scenarios and publishes the tables.
func compare(s settings, dir string, progress io.Writer) error {
	list, err := choose(s)
	if err != nil {
		return err
	}
	brokers, err := prepare(s, dir)
	if err != nil {
		return err
	}
	certificate, err := newCertificate(dir)
	if err != nil {
		return err
	}
	part := "figures"
	if s.congestion != "" {
		part = "congestion"
		if err := useCongestion(s.congestion); err != nil {
			return err
		}
	}
	all := runAll(&bench{seconds: s.seconds, certificate: certificate}, list, brokers, s.rounds, progress)
	return publish(s, part, machine(s)+"\n\n"+report(list, brokers, all, against(s, brokers)))
}

// choose picks scenarios by the command line.
func choose(s settings) ([]scenario, error) {
	pattern, err := regexp.Compile(s.scenarios)
	if err != nil {
		return nil, fmt.Errorf("-scenarios: %w", err)
	}
	var list []scenario
	for _, c := range scenarios {
		if pattern.MatchString(c.name) && (c.quick || !s.quick) && c.stored == s.durable && (s.congestion == "" || !c.memory) {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("-scenarios %q matches none", s.scenarios)
	}
	return list, nil
}

func against(s settings, brokers []process.Broker) string {
	if s.against != "" {
		return s.against
	}
	for _, b := range brokers {
		if b.Kind == process.Mochi {
			return b.Name
		}
	}
	return brokers[0].Name
}

// raiseFileLimit gives this process, and those that it starts, as many open files
// as there may be.
func raiseFileLimit() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}
