package hostile

import (
	"fmt"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

func hello(id string) packets.Connect {
	return packets.Connect{Version: packets.V5, CleanStart: true, ClientID: []byte(id)}
}

func properties(n int) (list packets.UserProperties) {
	for range n {
		list = list.Append("a", "b")
	}
	return list
}

// packetAttacks are packets that are as expensive as a client can make them.
var packetAttacks = []attack{
	{
		name: "user property bombs", n: 300, bound: perConnection,
		run: func(a *arena) {
			many := properties(40_000)
			var props packets.Properties
			for range 200_000 {
				props = props.AppendUserProperty("", "")
			}
			p := hello("")
			p.UserProperties = many
			bombs := [][]byte{
				encode(&p),
				encode(helloPointer(), &packets.Publish{Topic: []byte("t"), Properties: props}),
				encode(helloPointer(), &packets.Subscribe{PacketID: 1, UserProperties: many, Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("t")})}),
				encode(helloPointer(), &packets.Unsubscribe{PacketID: 1, UserProperties: many, Filters: packets.Filters(nil).Append("t")}),
				encode(helloPointer(), &packets.Puback{PacketID: 1, UserProperties: many}),
				encode(helloPointer(), &packets.Disconnect{UserProperties: many}),
			}
			a.each(func(i int) {
				conn := a.dial()
				a.swallow(conn)
				a.write(conn, bombs[i%len(bombs)])
			})
			a.until("all are refused", func() bool { return a.b.Stats().ClientsConnected == 2 })
		},
	},
	{
		name: "filters with as many levels as there can be", n: 20,
		options: petrel.Options{MaximumSubscriptions: 200},
		// A filter of 128 levels is 128 nodes of the tree, if it has none in common.
		bound: func(n int, o *petrel.Options) int64 { return int64(n) * int64(o.MaximumSubscriptions) * 128 * 512 / 2 },
		run: func(a *arena) {
			a.each(func(i int) {
				conn := a.connect(hello(fmt.Sprint("bomber ", i)))
				a.swallow(conn)
				for j := range 10 {
					var filters []string
					for k := range 40 {
						filters = append(filters, fmt.Sprintf("%s%d/%d/%d%s", strings.Repeat("+/", 60), i, j, k, strings.Repeat("/+", 60)))
					}
					filters = append(filters, strings.Repeat("+/", 200)+"#", strings.Repeat("/", 65_000))
					a.subscribe(conn, 0, filters...)
				}
				topic := []byte(strings.Repeat("a/", 127) + "a")
				for range 100 {
					a.write(conn, encode(&packets.Publish{Topic: topic}))
				}
				a.write(conn, encode(&packets.Publish{Topic: []byte(strings.Repeat("/", 65_000))})) // which ends it
			})
			a.until("all are refused", func() bool { return a.b.Stats().ClientsConnected == 2 })
		},
	},
	{
		name: "subscriptions that come and go", n: 20, bound: perConnection,
		run: func(a *arena) {
			a.each(func(i int) {
				conn := a.connect(hello(fmt.Sprint("fickle ", i)))
				a.swallow(conn)
				for j := range 1000 {
					filter := fmt.Sprintf("churn/%d/+/%d/#", i, j)
					a.subscribe(conn, 1, filter, "$share/g/"+filter)
					a.write(conn, encode(&packets.Unsubscribe{PacketID: 2, Filters: packets.Filters(nil).Append(filter).Append("$share/g/" + filter)}))
				}
			})
			a.until("nothing is left of them", func() bool { return a.b.Stats().Subscriptions == 1 })
		},
	},
	{
		name: "acknowledgements of what was never sent", n: 30,
		options: petrel.Options{OutboundBytes: 128 * kB},
		bound:   func(n int, o *petrel.Options) int64 { return int64(n) * int64(4*o.OutboundBytes+perConn) },
		run: func(a *arena) {
			var storm []byte
			for id := uint16(1); id < 20_000; id++ {
				storm = append(storm, encode(&packets.Puback{PacketID: id}, &packets.Pubrec{PacketID: id}, &packets.Pubrel{PacketID: id}, &packets.Pubcomp{PacketID: id})...)
			}
			a.each(func(i int) {
				conn := a.connect(hello(fmt.Sprint("confused ", i)))
				if i%2 == 0 {
					a.swallow(conn)
					a.write(conn, storm)
					return
				}
				// Nobody reads the answers: the broker stops to read, and this waits.
				a.wg.Go(func() { _, _ = conn.Write(storm) })
			})
		},
	},
	{
		name: "packets of random bytes", n: 2000, bound: func(int, *petrel.Options) int64 { return 0 },
		run: func(a *arena) {
			bad := make([][]byte, a.n)
			for i := range bad {
				body := make([]byte, a.r.IntN(60))
				for j := range body {
					body[j] = byte(a.r.Uint32() >> uint(a.r.IntN(8))) // small values are more often legal
				}
				bad[i] = append([]byte{byte(i%16)<<4 | byte(a.r.IntN(16)*a.r.IntN(2)), byte(len(body))}, body...)
			}
			a.each(func(i int) {
				conn := a.dial()
				a.swallow(conn)
				greeting := encode(helloPointer())
				if i%5 == 0 {
					greeting = nil
				}
				a.write(conn, append(greeting, bad[i]...))
			})
			a.closeAll()
			a.until("only the pair is left", func() bool {
				s := a.b.Stats()
				return s.ClientsConnected == 2 && s.Sessions == 2 && s.Subscriptions == 1
			})
		},
	},
}

func helloPointer() *packets.Connect { p := hello(""); return &p }
