//go:build linux

package main

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/benchmarks/internal/load"
	"github.com/petrelmq/petrel/benchmarks/internal/process"
)

// Everything that is measured runs once, small, against petrel and the relay.
func TestTinyScenarios(t *testing.T) {
	runtime.LockOSThread() // brokers die with the thread that has started them
	dir := t.TempDir()
	brokers, err := prepare(settings{brokers: "petrel,relay"}, dir)
	require.NoError(t, err)
	certificate, err := newCertificate(dir)
	require.NoError(t, err)
	bench := &bench{seconds: 0.2, certificate: certificate}

	list := []scenario{
		{name: "p2p/qos0", run: traffic(pairs(2, 0, 10))},
		{name: "p2p/qos1", run: traffic(pairs(2, 1, 10))},
		{name: "p2p/qos2", run: traffic(pairs(2, 2, 10))},
		{name: "fanout", run: traffic(fanOut(3, 1, 64, 10))},
		{name: "fanin", run: traffic(fanIn(3, 1, 1))},
		{name: "share", run: traffic(share(2, 2, 1)), without: noRelay},
		{name: "wildcards", run: traffic(wildcards(2, 10)), without: noRelay},
		{name: "large", run: traffic(fanOut(2, 0, 1<<20, 1))},
		{name: "paced", run: traffic(paced(2, 500))},
		{name: "churn", run: churn(2)},
	}
	all := runAll(bench, list, brokers, 1, t.Output())
	require.Empty(t, all.failures)
	for _, s := range list {
		for i := range brokers {
			if b := &brokers[i]; s.can(b) {
				require.Len(t, all.samples[s.name][b.Name], 1)
				got := all.samples[s.name][b.Name][0]
				require.Positive(t, got.Rate, "%s with %s", s.name, b.Name)
				require.Positive(t, got.P50, "%s with %s", s.name, b.Name)
				require.Zero(t, got.Lost, "%s with %s", s.name, b.Name)
			}
		}
	}
	text := report(list, brokers, all, "relay")
	for _, s := range list {
		require.Contains(t, text, "| "+s.name+" ")
	}

	bench.seconds = 1e-6 // in which nothing can be done, as on a busy machine
	busy := runAll(bench, []scenario{{name: "churn", run: churn(2)}}, brokers, 1, t.Output())
	require.Empty(t, busy.failures)
	require.Positive(t, busy.samples["churn"]["relay"][0].Rate)
}

// Brokers with stores keep what they have to, and say how often.
func TestTinyStores(t *testing.T) {
	runtime.LockOSThread()
	brokers, err := prepareStores(settings{brokers: "petrel,bolt,pebble"}, t.TempDir())
	require.NoError(t, err)
	state := t.TempDir()
	t.Setenv("TMPDIR", state)
	list := []scenario{{name: storeGoalAt, run: traffic(durable(20))}}
	all := runAll(&bench{seconds: 0.2}, list, brokers, 1, t.Output())
	require.Empty(t, all.failures)
	for _, b := range brokers {
		require.Len(t, all.samples[storeGoalAt][b.Name], 1)
		got := all.samples[storeGoalAt][b.Name][0]
		require.Zero(t, got.Lost, b.Name)
		require.Positive(t, got.AckP50, b.Name)
		require.Equal(t, b.Store != "", got.Shared > 0, "%s: %v messages for each sync", b.Name, got.Shared)
	}
	left, err := os.ReadDir(state)
	require.NoError(t, err)
	require.Empty(t, left, "the directories of the stores are removed")

	text := storeReport(list, brokers, all)
	require.Regexp(t, `\| bolt +\| [^|]+ \| [^|]+ % \|`, text)
	require.Regexp(t, `at least 50\.0 % of the rate without a store: (not )?reached`, text)
}

func TestTinyRetained(t *testing.T) {
	runtime.LockOSThread()
	brokers, err := prepare(settings{brokers: "petrel"}, t.TempDir())
	require.NoError(t, err)
	p, address, err := brokers[0].Start(process.TCP, process.Certificate{})
	require.NoError(t, err)
	defer p.Stop()
	const n = 500
	require.NoError(t, storeAll(address, n))
	got, err := fetchAll(address, n)
	require.NoError(t, err)
	require.EqualValues(t, n, got)
}

func TestTinyInProcess(t *testing.T) {
	dir := t.TempDir()
	program, err := build(dir, embedding)
	require.NoError(t, err)
	for _, kind := range []string{process.Petrel, process.Mochi} {
		got, err := inProcess(&bench{seconds: 0.1}, &process.Broker{Kind: kind, Embedded: program})
		require.NoError(t, err)
		require.Positive(t, got.Cost)
		require.Positive(t, got.Rate)
	}
}

// What a scenario says of itself is what it does.
func TestPlansFitTheirNames(t *testing.T) {
	subscribers := func(p load.Plan) (n, filters int) {
		for _, c := range p.Clients {
			if len(c.Filters) > 0 {
				n++
				filters += len(c.Filters)
			}
		}
		return n, filters
	}
	wild := wildcards(1000, 100)()
	clients, filters := subscribers(wild)
	require.Equal(t, []int{1000, 100_000}, []int{clients, filters})
	topics := map[string]bool{}
	for _, c := range wild.Clients {
		if c.Publish != nil {
			for _, topic := range c.Publish.Topics {
				topics[topic] = true
			}
		}
	}
	require.Len(t, topics, 100_000, "each filter has a topic")

	clients, _ = subscribers(fanOut(1000, 0, 64, 20)())
	require.Equal(t, 1000, clients)
	require.Len(t, fanIn(1000, 1, 1)().Clients, 1001)
	require.Equal(t, 99, strings.Count(deepPairs(100).Clients[0].Filters[0], "/"))
	require.Len(t, store(100_000).Clients[0].Publish.Topics, 100_000)
	require.Len(t, durable(1000)().Clients, 1010)
	clients, _ = subscribers(durable(1)())
	require.Equal(t, 10, clients)
	require.Equal(t, 9, deaf()().Clients[0].Publish.Fan, "of the tenth nothing is expected")
}

func TestCommandLine(t *testing.T) {
	var said bytes.Buffer
	s, err := parse([]string{"-quick"}, &said)
	require.NoError(t, err)
	require.Equal(t, []any{5, 1.0}, []any{s.rounds, s.seconds})
	s, err = parse(nil, &said)
	require.NoError(t, err)
	require.Equal(t, []any{5, 3.0}, []any{s.rounds, s.seconds})
	s, err = parse([]string{"-curves", "-rounds", "7"}, &said)
	require.NoError(t, err)
	require.Equal(t, []any{7, 1.0}, []any{s.rounds, s.seconds})
	_, err = parse([]string{"-congestion", "cubic", "-account"}, &said)
	require.ErrorContains(t, err, "-congestion")
	_, err = parse([]string{"what"}, &said)
	require.ErrorContains(t, err, `"what"`)

	s, err = parse([]string{"-durable"}, &said)
	require.NoError(t, err)
	require.Equal(t, withStore, s.brokers)

	list, err := choose(settings{scenarios: "^idle/"})
	require.NoError(t, err)
	require.Len(t, list, 3)
	list, err = choose(settings{durable: true})
	require.NoError(t, err)
	require.Len(t, list, 4)
	list, err = choose(settings{congestion: "cubic"})
	require.NoError(t, err)
	for i := range list {
		require.False(t, list[i].memory, list[i].name)
	}
	_, err = choose(settings{scenarios: "durable"})
	require.Error(t, err, "they have a table of their own")
	_, err = choose(settings{scenarios: "nothing like it"})
	require.Error(t, err)
	_, err = choose(settings{scenarios: "("})
	require.Error(t, err)
}

func TestBrokersOfTheCommandLine(t *testing.T) {
	brokers, err := prepare(settings{brokers: "old=/bin/a,new=/bin/b", brokerArgs: "-log  debug"}, t.TempDir())
	require.NoError(t, err)
	require.Equal(t, []process.Broker{
		{Name: "old", Kind: process.Petrel, Path: "/bin/a", Args: []string{"-log", "debug"}},
		{Name: "new", Kind: process.Petrel, Path: "/bin/b", Args: []string{"-log", "debug"}},
	}, brokers)
	require.Equal(t, "old", against(settings{}, brokers))
	require.Equal(t, "new", against(settings{against: "new"}, brokers))
	_, err = prepare(settings{brokers: "unheard"}, t.TempDir())
	require.ErrorContains(t, err, "unheard")
}

func TestStoresOfTheCommandLine(t *testing.T) {
	brokers, err := prepareStores(settings{brokers: "old=/bin/a,new=/bin/b"}, t.TempDir())
	require.NoError(t, err)
	require.Equal(t, []process.Broker{
		{Name: "old", Kind: process.Profiled, Path: "/bin/a", Store: "bolt"},
		{Name: "new", Kind: process.Profiled, Path: "/bin/b", Store: "bolt"},
	}, brokers)
	_, err = prepareStores(settings{brokers: "mochi"}, t.TempDir())
	require.ErrorContains(t, err, "mochi")
}

func TestStoreGoalIsAPartOfTheRateWithoutAStore(t *testing.T) {
	all := &results{}
	list := []scenario{{name: storeGoalAt}}
	brokers := []process.Broker{{Name: "petrel"}, {Name: "bolt"}}
	for _, rate := range []float64{100, 900, 1000} {
		all.add(storeGoalAt, "petrel", sample{Rate: rate})
		all.add(storeGoalAt, "bolt", sample{Rate: rate * 0.49, Shared: 77})
	}
	text := storeReport(list, brokers, all)
	require.Regexp(t, `\| bolt +\| +441 \| +49\.0 % \|.*\| +77\.0 \|`, text)
	require.Contains(t, text, ": not reached.")
	for range 5 {
		all.add(storeGoalAt, "bolt", sample{Rate: 450})
	}
	require.Contains(t, storeReport(list, brokers, all), ": reached.")
}

func TestReportIsOfMedians(t *testing.T) {
	all := &results{}
	for _, cost := range []float64{900, 100, 200} {
		all.add("s", "petrel", sample{Cost: cost, Lost: cost / 90_000})
		all.add("s", "mochi", sample{Cost: cost * 10})
	}
	list := []scenario{{name: "s"}}
	brokers := []process.Broker{{Name: "petrel"}, {Name: "mochi"}}
	text := report(list, brokers, all, "mochi")
	require.Regexp(t, `\| s +\| petrel \| +0\.200 \| +0\.100 to 0\.900 \| +1/10\.0 \|`, text)
	require.Contains(t, text, "1.00 %", "the worst loss")
}

func TestGoalsAreComparedWithTheRightBroker(t *testing.T) {
	all := &results{}
	all.add("paced/5000", "petrel", sample{Cost: 10, P99: 30})
	all.add("paced/5000", "mochi", sample{Cost: 100, P99: 10})
	all.add("paced/5000", "mosquitto", sample{Cost: 1, P99: 20})
	text := goalTable(all)
	require.Regexp(t, `CPU against mochi +\| +1/3\.00 \| +1/10\.0 \| yes`, text)
	require.Regexp(t, `p99 against mosquitto +\| +1\.00 \| +1\.50 \| no`, text)
	require.NotContains(t, text, "churn", "what was not measured")
}

func TestEveryGoalHasItsScenario(t *testing.T) {
	names := map[string]bool{}
	for _, s := range scenarios {
		require.False(t, names[s.name], "%s is there twice", s.name)
		names[s.name] = true
	}
	for _, g := range goals {
		require.True(t, names[g.scenario], g.scenario)
	}
}

func TestReadmeSaysWhatTheScenariosAre(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	updated, err := replacePart(string(readme), "scenarios", legend(scenarios))
	require.NoError(t, err)
	require.Equal(t, string(readme), updated, "go run ./benchmarks -list -readme")
}

func TestReadmeHasRoomForEveryPart(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	parts := []string{"figures", "million", "durable", "account"}
	for _, c := range curves {
		parts = append(parts, c.name)
	}
	for _, part := range parts {
		updated, err := replacePart(string(readme), part, "new text")
		require.NoError(t, err)
		require.Contains(t, updated, "\n\nnew text\n\n")
	}
	_, err = replacePart(string(readme), "unknown", "text")
	require.Error(t, err)
}
