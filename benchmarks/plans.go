//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/petrelmq/petrel/benchmarks/internal/load"
)

// payload is how long most messages are.
const payload = 64

// pairs are publishers that have one subscriber each.
func pairs(n int, qos byte, window int) func() load.Plan {
	return func() (plan load.Plan) {
		for i := range n {
			topic := fmt.Sprintf("pair/%04d/value", i)
			plan.Clients = append(plan.Clients,
				load.Client{ID: fmt.Sprintf("sub-%d", i), Filters: []string{topic}, QoS: qos},
				load.Client{ID: fmt.Sprintf("pub-%d", i), Publish: &load.Publishing{
					Topics: []string{topic}, QoS: qos, Payload: payload, Window: window, Fan: 1,
				}})
		}
		return plan
	}
}

// fanOut is one publisher with many subscribers.
func fanOut(n int, qos byte, payload, window int) func() load.Plan {
	return func() load.Plan {
		plan := load.Plan{Clients: []load.Client{{ID: "pub", Publish: &load.Publishing{
			Topics: []string{"fan/out/value"}, QoS: qos, Payload: payload, Window: window, Fan: n,
		}}}}
		for i := range n {
			plan.Clients = append(plan.Clients, load.Client{ID: fmt.Sprintf("sub-%d", i), Filters: []string{"fan/out/value"}, QoS: qos})
		}
		return plan
	}
}

// fanIn is many publishers with one subscriber to all. All windows together are
// smaller than what brokers let be in flight to one client.
func fanIn(n int, qos byte, window int) func() load.Plan {
	return func() load.Plan {
		plan := load.Plan{Clients: []load.Client{{ID: "sub", Filters: []string{"fan/in/value"}, QoS: qos}}}
		for i := range n {
			plan.Clients = append(plan.Clients, load.Client{ID: fmt.Sprintf("pub-%d", i), Publish: &load.Publishing{
				Topics: []string{"fan/in/value"}, QoS: qos, Payload: payload, Window: window, Fan: 1,
			}})
		}
		return plan
	}
}

// share is a group whose members get the messages in turn.
func share(publishers, members int, qos byte) func() load.Plan {
	return func() (plan load.Plan) {
		for i := range members {
			plan.Clients = append(plan.Clients, load.Client{
				ID: fmt.Sprintf("sub-%d", i), Filters: []string{"$share/group/shared/+"}, QoS: qos,
			})
		}
		for i := range publishers {
			plan.Clients = append(plan.Clients, load.Client{ID: fmt.Sprintf("pub-%d", i), Publish: &load.Publishing{
				Topics: []string{fmt.Sprintf("shared/%d", i)}, QoS: qos, Payload: payload, Window: 100, Fan: 1,
			}})
		}
		return plan
	}
}

// wildcards is one subscription for each message, to be found among very many.
func wildcards(clients, each int) func() load.Plan {
	return func() (plan load.Plan) {
		var topics []string
		for i := range clients {
			c := load.Client{ID: fmt.Sprintf("sub-%d", i)}
			for j := range each {
				c.Filters = append(c.Filters, fmt.Sprintf("site/%d/+/%d/#", i, j))
				topics = append(topics, fmt.Sprintf("site/%d/pump/%d/value", i, j))
			}
			plan.Clients = append(plan.Clients, c)
		}
		plan.Clients = append(plan.Clients, scattered(topics, 10, 1)...)
		return plan
	}
}

// scattered are publishers that have a part of the topics each, in no order.
func scattered(topics []string, publishers, fan int) (clients []load.Client) {
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(topics), func(i, k int) { topics[i], topics[k] = topics[k], topics[i] })
	for i := range publishers {
		part := topics[i*len(topics)/publishers : (i+1)*len(topics)/publishers]
		clients = append(clients, load.Client{ID: fmt.Sprintf("pub-%d", i), Publish: &load.Publishing{
			Topics: part, Payload: payload, Window: 100, Fan: fan,
		}})
	}
	return clients
}

// paced are pairs with few messages, which come at their time.
func paced(n int, rate float64) func() load.Plan {
	return func() load.Plan {
		plan := pairs(n, 0, 1)()
		plan.Rate = rate
		return plan
	}
}

// beside is a few messages, which come at their time, beside one publisher that sends
// to many subscribers, and again when they all have it.
func beside(pairs, subscribers int, rate float64) func() load.Plan {
	return func() load.Plan {
		plan := fanOut(subscribers, 0, payload, 1)()
		plan.Clients[0].Publish.Background = true
		few := paced(pairs, rate)()
		for _, c := range few.Clients {
			c.ID = "paced-" + c.ID
			plan.Clients = append(plan.Clients, c)
		}
		plan.Rate = few.Rate
		return plan
	}
}

// deaf is a subscriber that never reads, beside nine that do. What is published
// soon exceeds what its socket and its queue hold.
func deaf() func() load.Plan {
	return func() load.Plan {
		plan := fanOut(9, 0, 4<<10, 1)()
		plan.Clients = append(plan.Clients, load.Client{ID: "deaf", Filters: []string{"fan/out/value"}, Deaf: true})
		plan.Rate = 2000
		return plan
	}
}

// durable is publishers whose messages have to be kept until one of ten
// subscribers, whose sessions last, has acknowledged them. All windows of one
// subscriber together are smaller than what brokers let be in flight to it.
func durable(n int) func() load.Plan {
	const subscribers = 10
	return func() (plan load.Plan) {
		topic := func(i int) []string { return []string{fmt.Sprintf("durable/%d/value", i%subscribers)} }
		for i := range subscribers {
			plan.Clients = append(plan.Clients, load.Client{ID: fmt.Sprintf("sub-%d", i), Filters: topic(i), QoS: 1, Lasting: true})
		}
		for i := range n {
			plan.Clients = append(plan.Clients, load.Client{ID: fmt.Sprintf("pub-%d", i), Publish: &load.Publishing{
				Topics: topic(i), QoS: 1, Payload: payload, Window: 10, Fan: 1, TimeAcks: true,
			}})
		}
		return plan
	}
}

// comeAndGo are clients that connect, subscribe, disconnect, and do it again.
func comeAndGo(n int) load.Plan {
	plan := load.Plan{Churn: true}
	for i := range n {
		plan.Clients = append(plan.Clients, load.Client{ID: fmt.Sprintf("guest-%d", i), Filters: []string{fmt.Sprintf("guest/%d", i)}})
	}
	return plan
}

// store is a publisher of retained messages, each with a topic of its own.
func store(n int) load.Plan {
	p := &load.Publishing{QoS: 1, Retain: true, Payload: payload, Window: 100, Limit: n}
	for i := range n {
		p.Topics = append(p.Topics, fmt.Sprintf("site/%d/pump/%d/value", i/100, i%100))
	}
	return load.Plan{Clients: []load.Client{{ID: "pub", Publish: p}}}
}
