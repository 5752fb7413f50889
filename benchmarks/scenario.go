//go:build linux

package main

import (
	"slices"

	"github.com/petrelmq/petrel/benchmarks/internal/load"
	"github.com/petrelmq/petrel/benchmarks/internal/process"
)

// scenario is one thing that brokers do.
type scenario struct {
	name   string
	about  string
	unit   string // of what is counted: a message is one that was delivered
	quick  bool   // belongs to the quick set
	memory bool   // is about resident memory as well
	stored bool   // is about brokers with and without a store, and has a table of its own

	without []string // kinds of broker that cannot do it
	run     func(bench *bench, b *process.Broker) (sample, error)
}

// sample is what one run of a scenario has shown.
type sample struct {
	Cost      float64 `json:"cost"`      // CPU of the broker per unit, nanoseconds
	Generator float64 `json:"generator"` // CPU of the load generator per unit, nanoseconds
	Rate      float64 `json:"rate"`      // units per second
	P50       float64 `json:"p50"`       // latency, nanoseconds
	P99       float64 `json:"p99"`
	P999      float64 `json:"p999"`
	Lost      float64 `json:"lost"`   // part of the messages, 0 to 1
	Memory    float64 `json:"memory"` // resident bytes per unit, where that is the question
	AckP50    float64 `json:"ackp50"` // time until an acknowledgement, nanoseconds, where that is the question
	AckP99    float64 `json:"ackp99"`
	Shared    float64 `json:"shared"` // messages for each batch that the broker has put into its store
}

// scenarios are in the order of the table.
var scenarios = []scenario{
	{name: "p2p/qos0/10", about: "10 publishers with a window of 500 messages, each with one subscriber", quick: true, run: traffic(pairs(10, 0, 500))},
	{name: "p2p/qos0/100", about: "100 such pairs, windows of 100", run: traffic(pairs(100, 0, 100))},
	{name: "p2p/qos1/10", about: "10 pairs, QoS 1, windows of 100", run: traffic(pairs(10, 1, 100))},
	{name: "p2p/qos1/100", about: "100 pairs, QoS 1, windows of 100", quick: true, run: traffic(pairs(100, 1, 100))},
	{name: "p2p/qos2/10", about: "10 pairs, QoS 2, windows of 100", quick: true, run: traffic(pairs(10, 2, 100))},
	{name: "p2p/qos2/100", about: "100 pairs, QoS 2, windows of 100", run: traffic(pairs(100, 2, 100))},
	{name: "fanout/qos0/1000", about: "one publisher with a window of 20, 1,000 subscribers", quick: true, run: traffic(fanOut(1000, 0, 64, 20))},
	{name: "fanout/qos1/1000", about: "the same with QoS 1", run: traffic(fanOut(1000, 1, 64, 20))},
	{name: "fanin/qos0/1000", about: "1,000 publishers with windows of 5, one subscriber", run: traffic(fanIn(1000, 0, 5))},
	{name: "fanin/qos1/1000", about: "the same with QoS 1 and windows of 1", quick: true, run: traffic(fanIn(1000, 1, 1))},
	{name: "share/qos0/4", about: "10 publishers with windows of 100, 4 subscribers that share", without: noRelay, run: traffic(share(10, 4, 0))},
	{name: "share/qos1/4", about: "the same with QoS 1", without: noRelay, run: traffic(share(10, 4, 1))},
	{name: "wildcard/100k", about: "100,000 filters `site/N/+/N/#` over 1,000 subscribers; 10 publishers with windows of 100", without: noRelay, run: traffic(wildcards(1000, 100))},
	{name: "large/64KiB", about: "one publisher with a window of 16, 10 subscribers, payload 64 KiB", run: traffic(fanOut(10, 0, 64<<10, 16))},
	{name: "large/1MiB", about: "the same, window of 4, payload 1 MiB", run: traffic(fanOut(10, 0, 1<<20, 4))},
	{name: "paced/5000", about: "5,000 messages a second over 100 pairs, at even distances", quick: true, run: traffic(paced(100, 5000))},
	{name: "beside/1000+100", about: "1,000 messages a second over 100 pairs, beside one publisher with 1,000 subscribers, who sends again when all have it; the times are those of the pairs", run: traffic(beside(100, 1000, 1000))},
	{name: "deaf/9+1", about: "9 subscribers beside one that never reads: 2,000 messages of 4 KiB a second", without: noRelay, run: traffic(deaf())},
	{name: "churn", about: "50 clients at a time connect, subscribe, disconnect", unit: "cycle", quick: true, run: churn(50)},
	{name: "retained/100k", about: "all of 100,000 retained messages to one subscriber; bytes of each one stored", without: noRelay, memory: true, run: retained(100_000)},
	{name: "idle/tcp/10000", about: "10,000 clients that have one subscription each and do nothing", unit: "connection", memory: true, run: idle(10_000, process.TCP)},
	{name: "idle/tls/10000", about: "the same over TLS", unit: "connection", without: noRelay, memory: true, run: idle(10_000, process.TLS)},
	{name: "idle/ws/10000", about: "the same over WebSocket", unit: "connection", without: noRelay, memory: true, run: idle(10_000, process.WebSocket)},
	{name: "durable/qos1/1", about: "one publisher with a window of 10, QoS 1, one of 10 subscribers whose sessions last", stored: true, run: traffic(durable(1))},
	{name: "durable/qos1/10", about: "10 such publishers, each with a subscriber", stored: true, run: traffic(durable(10))},
	{name: "durable/qos1/100", about: "100 such publishers, 10 for each subscriber", stored: true, run: traffic(durable(100))},
	{name: "durable/qos1/1000", about: "1,000 such publishers, 100 for each subscriber", stored: true, run: traffic(durable(1000))},
	{name: "inprocess", about: "a host program publishes to a subscription of its own; all of its CPU counts", without: external, run: inProcess},
}

var (
	noRelay  = []string{process.Relay}
	external = []string{process.Relay, process.Mosquitto}
)

// can reports whether a broker can do the scenario.
func (s *scenario) can(b *process.Broker) bool { return !slices.Contains(s.without, b.Kind) }

// traffic measures a plan.
func traffic(plan func() load.Plan) func(*bench, *process.Broker) (sample, error) {
	return func(bench *bench, b *process.Broker) (sample, error) { return bench.traffic(b, plan()) }
}
