//go:build linux

package main

import (
	"fmt"

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
		for i := range 10 {
			plan.Clients = append(plan.Clients, load.Client{ID: fmt.Sprintf("pub-%d", i), Publish: &load.Publishing{
				Topics: topics, Payload: payload, Window: 100, Fan: 1,
			}})
		}
		return plan
	}
}

// paced are pairs with few messages, which come at their time.
func paced(n int, rate float64) func() load.Plan {
	return func() load.Plan {
		plan := pairs(n, 0, 1)()
		plan.Rate = rate
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

// comeAndGo are clients that connect, subscribe, disconnect, and do it again.
func comeAndGo(n int) load.Plan {
	plan := load.Plan{Churn: true}
	for i := range n {
		plan.Clients = append(plan.Clients, load.Client{ID: fmt.Sprintf("guest-%d", i), Filters: []string{fmt.Sprintf("guest/%d", i)}})
	}
	return plan
}
