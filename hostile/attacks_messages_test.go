package hostile

import (
	"fmt"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// queueBound is what n sessions may hold that take no messages: what waits, what is
// on its way with its books, and what is encoded for the socket.
func queueBound(n int, o *petrel.Options) int64 {
	const books = 256 // of one message for one session
	messages := int64(o.QueueMessages + o.MaximumInflight)
	return int64(n)*(int64(o.QueueBytes)+messages*books+int64(2*o.OutboundBytes)+perConn) + messages*2*kB
}

// small are limits that an attack reaches soon.
var small = petrel.Options{QueueMessages: 500, QueueBytes: 256 * kB, MaximumInflight: 100, OutboundBytes: 64 * kB}

// flood publishes n messages of 1 kB from a client of its own, and waits until the
// broker has taken them.
func (a *arena) flood(topic string, qos packets.QoS, n int) {
	conn := a.connect(hello("flooder"))
	payload := make([]byte, kB)
	for i := range n {
		p := packets.Publish{Topic: []byte(topic), Payload: payload, QoS: qos}
		if qos > 0 {
			p.PacketID = uint16(i%60_000) + 1
		}
		a.write(conn, encode(&p))
		for qos > 0 { // the answers would fill its socket
			packet, err := readPacket(conn)
			if err != nil {
				a.t.Fatalf("message %d: %v", i, err)
			}
			if packet.Type() == packets.TypePubrec {
				a.write(conn, encode(&packets.Pubrel{PacketID: p.PacketID}))
				continue
			}
			break
		}
	}
	a.write(conn, encode(&packets.Pingreq{}))
	if _, err := readPacket(conn); err != nil {
		a.t.Fatal(err)
	}
}

// messageAttacks make the broker keep messages.
var messageAttacks = []attack{
	{
		name: "subscribers that never read", n: 50, options: small, bound: queueBound,
		run: func(a *arena) {
			a.each(func(i int) {
				a.subscribe(a.connect(hello(fmt.Sprint("deaf ", i))), packets.QoS(i%3), "flood/#")
			})
			a.until("all have subscribed", func() bool { return a.b.Stats().Subscriptions == a.n+1 })
			a.flood("flood/0", packets.AtMostOnce, 10_000)
			a.flood("flood/1", packets.AtLeastOnce, 2_000)
		},
	},
	{
		name: "QoS 2 messages that are never answered", n: 50, options: small, bound: queueBound,
		run: func(a *arena) {
			a.each(func(i int) {
				p := hello(fmt.Sprint("mute ", i))
				p.SessionExpiryInterval = 3600
				conn := a.connect(p)
				a.subscribe(conn, packets.ExactlyOnce, "flood/#")
				if i%2 == 0 {
					a.swallow(conn) // reads, and never sends a PUBREC
				} else {
					a.wg.Go(func() { a.halfAnswer(conn) })
				}
			})
			a.until("all have subscribed", func() bool { return a.b.Stats().Subscriptions == a.n+1 })
			a.flood("flood/2", packets.ExactlyOnce, 2_000)
		},
	},
	{
		name: "QoS 2 messages that are never released", n: 100,
		options: petrel.Options{ReceiveMaximum: 200},
		// An identifier that is not released costs an entry of a map.
		bound: func(n int, o *petrel.Options) int64 { return int64(n) * (3*int64(o.ReceiveMaximum)*64 + perConn) },
		run: func(a *arena) {
			a.each(func(i int) {
				for round := range 3 { // the identifiers outlive the connection
					p := packets.Connect{ClientID: fmt.Append(nil, "hoarder ", i), SessionExpiryInterval: 3600}
					conn := a.connect(p)
					a.swallow(conn)
					var b []byte
					for id := range a.o.ReceiveMaximum + 1 {
						b = append(b, encode(&packets.Publish{Topic: []byte("t"), QoS: 2, PacketID: uint16(round*1000 + id + 1)})...)
					}
					a.write(conn, b)
				}
			})
			a.until("all are refused", func() bool { return a.b.Stats().ClientsConnected == 2 })
		},
	},
	{
		name: "retained messages without end", n: 20,
		options: petrel.Options{MemoryLimit: 8 * mB, MaximumRetained: 20_000, OutboundBytes: 64 * kB},
		bound: func(n int, o *petrel.Options) int64 {
			return o.MemoryLimit + int64(o.MaximumRetained)*512 + int64(n)*int64(2*o.OutboundBytes+perConn)
		},
		run: func(a *arena) {
			payload := make([]byte, kB)
			a.each(func(i int) {
				conn := a.connect(hello(fmt.Sprint("litterer ", i)))
				a.swallow(conn)
				a.subscribe(conn, 0, "litter/#")
				for j := range 1000 {
					if _, err := conn.Write(encode(&packets.Publish{Topic: fmt.Appendf(nil, "litter/%d/%d", i, j), Payload: payload, Retain: true})); err != nil {
						break
					}
				}
			})
			if held := a.b.Stats().MessageBytes; held > a.o.MemoryLimit {
				a.t.Errorf("%d bytes of messages are held; Options.MemoryLimit is %d", held, a.o.MemoryLimit)
			}
			a.until("their share of the limit is taken", func() bool { return a.b.Stats().MessageBytes > a.o.MemoryLimit*7/10 })
		},
	},
	{
		name: "retained messages that are asked for again and again", n: 50, options: small, bound: queueBound,
		run: func(a *arena) {
			for i := range 2000 {
				m := petrel.Message{Topic: fmt.Sprint("kept/", i), Payload: make([]byte, kB), Retain: true, QoS: packets.QoS(i % 3)}
				if err := a.b.Publish(a.t.Context(), m); err != nil {
					a.t.Fatal(err)
				}
			}
			a.each(func(i int) {
				conn := a.connect(hello(fmt.Sprint("greedy ", i)))
				a.subscribe(conn, 2, "kept/#", "kept/+", "#")
				a.wg.Go(func() { // the broker stops to read when it is owed too much
					again := encode(&packets.Subscribe{PacketID: 2, Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("kept/#"), QoS: 2})})
					for range 1000 {
						if _, err := conn.Write(again); err != nil {
							return
						}
					}
				})
			})
			a.until("all have subscribed", func() bool { return a.b.Stats().Subscriptions == 3*a.n+1 })
		},
	},
}

// halfAnswer sends PUBREC for what comes, and never PUBCOMP.
func (a *arena) halfAnswer(conn interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
}) {
	for {
		packet, err := readPacket(conn)
		if err != nil {
			return
		}
		if p, ok := packet.(*packets.Publish); ok && p.QoS == packets.ExactlyOnce {
			if _, err := conn.Write(encode(&packets.Pubrec{PacketID: p.PacketID})); err != nil {
				return
			}
		}
	}
}
