package petrel_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

var everyVersion = []packets.Version{packets.V31, packets.V311, packets.V5}

// fresh is a CONNECT that begins a session which ends with its connection.
func fresh(v packets.Version, id string) packets.Connect {
	return packets.Connect{Version: v, ClientID: []byte(id), CleanStart: true}
}

// lasting is a CONNECT that goes on with a session which outlives its connection.
func lasting(v packets.Version, id string) packets.Connect {
	p := packets.Connect{Version: v, ClientID: []byte(id)}
	if v == packets.V5 {
		p.SessionExpiryInterval = 3600
	}
	return p
}

// hostPublishes publishes from the host: "m1" on topic "t", and so on.
func hostPublishes(t *testing.T, b *brokertest.Broker, qos petrel.QoS, payloads ...string) {
	t.Helper()
	for _, payload := range payloads {
		require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "t", Payload: []byte(payload), QoS: qos}))
	}
}

// inVersion is the code that a client of the version can see.
func inVersion(v packets.Version, code packets.ReasonCode) packets.ReasonCode {
	if v != packets.V5 {
		return packets.Success
	}
	return code
}

// expectEnd checks that the broker ends the connection, and says why if it can.
func expectEnd(c *brokertest.Client, v packets.Version, code packets.ReasonCode) {
	if v == packets.V5 {
		c.ExpectDisconnect(code)
		return
	}
	c.ExpectClosed()
}

// Each pair of versions and of QoS: what was published, and what was granted.
func TestDeliveredQoS(t *testing.T) {
	levels := []packets.QoS{packets.AtMostOnce, packets.AtLeastOnce, packets.ExactlyOnce}
	for _, from := range everyVersion {
		for _, to := range everyVersion {
			t.Run(fmt.Sprintf("%v to %v", from, to), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{Logger: silent()})
				sub := b.Connect(fresh(to, "sub"))
				pub := b.Connect(fresh(from, "pub"))
				for _, granted := range levels {
					sub.Subscribe(granted, "t")
					for _, published := range levels {
						payload := fmt.Sprintf("%v, granted %v", published, granted)
						pub.Publish("t", payload, published)
						p := sub.ExpectPublish("t", payload)
						require.Equal(t, min(granted, published), p.QoS, payload)
						require.False(t, p.Dup, payload)
						require.False(t, p.Retain, payload)
						require.Equal(t, p.QoS > 0, p.PacketID != 0, payload)
						sub.Accept(p)
						sub.ExpectNothing()
					}
				}
			})
		}
	}
}

func TestInboundExchange(t *testing.T) {
	type step struct {
		send   packets.Packet
		answer packets.Packet // nil for none
		comes  bool           // the message comes to the subscriber
	}
	publish := func(qos packets.QoS, id uint16, dup bool) *packets.Publish {
		return &packets.Publish{Topic: []byte("t"), Payload: []byte("m"), QoS: qos, PacketID: id, Dup: dup}
	}
	rel := func(id uint16) *packets.Pubrel { return &packets.Pubrel{PacketID: id} }
	ack := func(id uint16) *packets.Puback { return &packets.Puback{PacketID: id} }
	rec := func(id uint16) *packets.Pubrec { return &packets.Pubrec{PacketID: id} }
	comp := func(id uint16, code packets.ReasonCode) *packets.Pubcomp {
		return &packets.Pubcomp{PacketID: id, Reason: code}
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"qos 1 with dup on a live connection is a new message", []step{
			{publish(1, 7, false), ack(7), true}, {publish(1, 7, true), ack(7), true}, {publish(1, 7, false), ack(7), true},
		}},
		{"qos 1 with dup that was never seen", []step{{publish(1, 65535, true), ack(65535), true}}},
		{"qos 2 repeated with dup before pubrel", []step{
			{publish(2, 7, false), rec(7), true}, {publish(2, 7, true), rec(7), false}, {rel(7), comp(7, 0), false},
		}},
		{"qos 2 repeated without dup before pubrel", []step{
			{publish(2, 7, false), rec(7), true}, {publish(2, 7, false), rec(7), false}, {rel(7), comp(7, 0), false},
		}},
		{"qos 2 identifier is new again after pubrel, whatever dup says", []step{
			{publish(2, 7, false), rec(7), true}, {rel(7), comp(7, 0), false},
			{publish(2, 7, true), rec(7), true}, {rel(7), comp(7, 0), false},
		}},
		{"pubrel of an unknown identifier", []step{{rel(9), comp(9, packets.PacketIdentifierNotFound), false}}},
		{"pubrel repeated", []step{
			{publish(2, 7, false), rec(7), true}, {rel(7), comp(7, 0), false}, {rel(7), comp(7, packets.PacketIdentifierNotFound), false},
		}},
		{"pubrel of a qos 1 message", []step{
			{publish(1, 7, false), ack(7), true}, {rel(7), comp(7, packets.PacketIdentifierNotFound), false},
		}},
		{"several qos 2 messages open, released in another order", []step{
			{publish(2, 1, false), rec(1), true}, {publish(2, 2, false), rec(2), true}, {publish(2, 65535, false), rec(65535), true},
			{rel(65535), comp(65535, 0), false}, {rel(1), comp(1, 0), false}, {publish(2, 2, true), rec(2), false}, {rel(2), comp(2, 0), false},
		}},
		{"qos 1 with the identifier of an open qos 2 message", []step{
			{publish(2, 7, false), rec(7), true}, {publish(1, 7, false), ack(7), true}, {rel(7), comp(7, 0), false},
		}},
	}
	for _, v := range everyVersion {
		for _, tt := range tests {
			t.Run(v.String()+" "+tt.name, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				sub := b.Connect(brokertest.ID("sub"))
				sub.Subscribe(packets.AtMostOnce, "t")
				pub := b.Connect(fresh(v, "pub"))
				for i, s := range tt.steps {
					pub.Send(s.send)
					got := pub.Receive()
					require.Equal(t, s.answer.Type(), got.Type(), "step %d", i)
					expectAck(t, s.answer, got, v)
					if s.comes {
						require.False(t, sub.ExpectPublish("t", "m").Dup, "step %d", i)
					}
					sub.ExpectNothing()
				}
				pub.ExpectNothing()
			})
		}
	}
}

// expectAck compares the identifiers and, where the version has them, the codes
// of two acknowledgements.
func expectAck(t *testing.T, want, got packets.Packet, v packets.Version) {
	t.Helper()
	wantID, wantCode := idAndCode(t, want)
	gotID, gotCode := idAndCode(t, got)
	require.Equal(t, wantID, gotID, "identifier of %v", got.Type())
	require.Equal(t, inVersion(v, wantCode), gotCode, "code of %v", got.Type())
}

func idAndCode(t *testing.T, p packets.Packet) (uint16, packets.ReasonCode) {
	t.Helper()
	switch p := p.(type) {
	case *packets.Puback:
		return p.PacketID, p.Reason
	case *packets.Pubrec:
		return p.PacketID, p.Reason
	case *packets.Pubrel:
		return p.PacketID, p.Reason
	case *packets.Pubcomp:
		return p.PacketID, p.Reason
	}
	t.Fatalf("%v is no acknowledgement", p.Type())
	return 0, 0
}

// An identifier of QoS 2 belongs to the session, and ends with it.
func TestInboundQoS2AcrossConnections(t *testing.T) {
	drop := func(t *testing.T, c *brokertest.Client) { c.Drop() }
	tests := []struct {
		name   string
		end    func(*testing.T, *brokertest.Client)
		clean  bool // the new connection has Clean Start
		repeat bool // the second PUBLISH is a repeat
	}{
		{"qos 2 duplicate after reconnect", drop, false, true},
		{"qos 2 duplicate after disconnect", func(t *testing.T, c *brokertest.Client) { c.Leave(0) }, false, true},
		{"qos 2 duplicate after takeover", func(*testing.T, *brokertest.Client) {}, false, true},
		{"qos 2 after clean start is new", drop, true, false},
		{"qos 2 after takeover with clean start is new", func(*testing.T, *brokertest.Client) {}, true, false},
	}
	for _, v := range everyVersion {
		for _, tt := range tests {
			t.Run(v.String()+" "+tt.name, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				sub := b.Connect(brokertest.ID("sub"))
				sub.Subscribe(packets.AtMostOnce, "t")
				pub := b.Connect(lasting(v, "pub"))
				m := &packets.Publish{Topic: []byte("t"), Payload: []byte("m"), QoS: packets.ExactlyOnce, PacketID: 7}
				pub.Send(m)
				require.EqualValues(t, 7, brokertest.Expect[*packets.Pubrec](pub).PacketID)
				sub.ExpectPublish("t", "m")
				tt.end(t, pub)

				again := lasting(v, "pub")
				again.CleanStart = tt.clean
				pub = b.Connect(again)
				m.Dup = true
				pub.Send(m)
				require.Equal(t, packets.Success, brokertest.Expect[*packets.Pubrec](pub).Reason)
				if !tt.repeat {
					sub.ExpectPublish("t", "m")
				}
				sub.ExpectNothing()
				pub.Send(&packets.Pubrel{PacketID: 7})
				require.Equal(t, packets.Success, brokertest.Expect[*packets.Pubcomp](pub).Reason)
				pub.Send(m)
				require.Equal(t, packets.Success, brokertest.Expect[*packets.Pubrec](pub).Reason)
				sub.ExpectPublish("t", "m")
			})
		}
		t.Run(v.String()+" pubrel after reconnect", func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			pub := b.Connect(lasting(v, "pub"))
			pub.Send(&packets.Publish{Topic: []byte("t"), QoS: packets.ExactlyOnce, PacketID: 7})
			brokertest.Expect[*packets.Pubrec](pub)
			pub.Drop()
			pub = b.Connect(lasting(v, "pub"))
			pub.Send(&packets.Pubrel{PacketID: 7}, &packets.Pubrel{PacketID: 7})
			require.Equal(t, packets.Success, brokertest.Expect[*packets.Pubcomp](pub).Reason)
			require.Equal(t, inVersion(v, packets.PacketIdentifierNotFound), brokertest.Expect[*packets.Pubcomp](pub).Reason)
		})
	}
	t.Run("qos 2 after the session has expired is new", func(t *testing.T) {
		inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			sub := b.Connect(brokertest.ID("sub"))
			sub.Subscribe(packets.AtMostOnce, "t")
			m := &packets.Publish{Topic: []byte("t"), Payload: []byte("m"), QoS: packets.ExactlyOnce, PacketID: 7}
			pub := b.Connect(lasting(packets.V5, "pub"))
			pub.Send(m)
			brokertest.Expect[*packets.Pubrec](pub)
			sub.ExpectPublish("t", "m")
			pub.Drop()
			time.Sleep(3601 * time.Second)
			pub = b.Connect(lasting(packets.V5, "pub"))
			pub.Send(m)
			brokertest.Expect[*packets.Pubrec](pub)
			sub.ExpectPublish("t", "m")
		})
	})
}

// received is a message at a subscriber that has not answered it.
type received struct {
	*testing.T
	*brokertest.Client
	version packets.Version
	id      uint16
}

func (r *received) expectPubrel(id uint16, code packets.ReasonCode) {
	r.Helper()
	expectAck(r.T, &packets.Pubrel{PacketID: id, Reason: code}, brokertest.Expect[*packets.Pubrel](r.Client), r.version)
}

// What a subscriber may answer to a message, and what comes of it. Its window is
// one message, so that the next one comes exactly when this one is finished.
func TestOutboundExchange(t *testing.T) {
	tests := []struct {
		name   string
		qos    packets.QoS
		only5  bool // the answer has a reason code
		answer func(r *received)
		open   bool               // the message is not finished
		code   packets.ReasonCode // with which the connection ends; 0 if it does not
	}{
		{name: "puback", qos: 1, answer: func(r *received) {
			r.Send(&packets.Puback{PacketID: r.id})
		}},
		{name: "puback with an error finishes", qos: 1, only5: true, answer: func(r *received) {
			r.Send(&packets.Puback{PacketID: r.id, Reason: packets.UnspecifiedError})
		}},
		{name: "puback with no matching subscribers", qos: 1, only5: true, answer: func(r *received) {
			r.Send(&packets.Puback{PacketID: r.id, Reason: packets.NoMatchingSubscribers})
		}},
		{name: "puback of an unknown identifier is ignored", qos: 1, open: true, answer: func(r *received) {
			r.Send(&packets.Puback{PacketID: r.id + 1}, &packets.Puback{PacketID: 40000})
		}},
		{name: "pubcomp of an unknown identifier is ignored", qos: 2, open: true, answer: func(r *received) {
			r.Send(&packets.Pubcomp{PacketID: r.id + 1}, &packets.Pubcomp{PacketID: 40000})
		}},
		{name: "pubrec of a qos 1 message", qos: 1, code: packets.ProtocolError, answer: func(r *received) {
			r.Send(&packets.Pubrec{PacketID: r.id})
		}},
		{name: "puback of a qos 2 message", qos: 2, code: packets.ProtocolError, answer: func(r *received) {
			r.Send(&packets.Puback{PacketID: r.id})
		}},
		{name: "pubrec alone does not finish", qos: 2, open: true, answer: func(r *received) {
			r.Send(&packets.Pubrec{PacketID: r.id})
			r.expectPubrel(r.id, packets.Success)
		}},
		{name: "pubrec and pubcomp", qos: 2, answer: func(r *received) {
			r.Send(&packets.Pubrec{PacketID: r.id})
			r.expectPubrel(r.id, packets.Success)
			r.Send(&packets.Pubcomp{PacketID: r.id})
		}},
		{name: "pubrec repeated gets pubrel again", qos: 2, answer: func(r *received) {
			for range 3 {
				r.Send(&packets.Pubrec{PacketID: r.id})
				r.expectPubrel(r.id, packets.Success)
				r.ExpectNothing()
			}
			r.Send(&packets.Pubcomp{PacketID: r.id})
		}},
		{name: "pubrec of an unknown identifier gets pubrel with an error", qos: 2, open: true, answer: func(r *received) {
			r.Send(&packets.Pubrec{PacketID: 40000})
			r.expectPubrel(40000, packets.PacketIdentifierNotFound)
		}},
		{name: "pubrec with an error of an unknown identifier is ignored", qos: 2, only5: true, open: true, answer: func(r *received) {
			r.Send(&packets.Pubrec{PacketID: 40000, Reason: packets.QuotaExceeded})
		}},
		{name: "pubrec with an error finishes without pubrel", qos: 2, only5: true, answer: func(r *received) {
			r.Send(&packets.Pubrec{PacketID: r.id, Reason: packets.NotAuthorized})
		}},
		{name: "pubrec with no matching subscribers is a success", qos: 2, only5: true, answer: func(r *received) {
			r.Send(&packets.Pubrec{PacketID: r.id, Reason: packets.NoMatchingSubscribers})
			r.expectPubrel(r.id, packets.Success)
			r.Send(&packets.Pubcomp{PacketID: r.id})
		}},
		{name: "pubcomp with an error finishes", qos: 2, only5: true, answer: func(r *received) {
			r.Send(&packets.Pubrec{PacketID: r.id})
			r.expectPubrel(r.id, packets.Success)
			r.Send(&packets.Pubcomp{PacketID: r.id, Reason: packets.PacketIdentifierNotFound})
		}},
	}
	for _, v := range everyVersion {
		for _, tt := range tests {
			if tt.only5 && v != packets.V5 {
				continue
			}
			t.Run(v.String()+" "+tt.name, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{MaximumInflight: 1})
				sub := b.Connect(lasting(v, "sub"))
				sub.Subscribe(packets.ExactlyOnce, "t")
				hostPublishes(t, b, tt.qos, "m", "next")
				m := sub.ExpectPublish("t", "m")
				sub.ExpectNothing()
				tt.answer(&received{t, sub, v, m.PacketID})
				if tt.code != 0 {
					expectEnd(sub, v, tt.code)
					return
				}
				if !tt.open {
					sub.Accept(sub.ExpectPublish("t", "next"))
				}
				sub.ExpectNothing()
				sub.Drop()
				sub = b.Connect(lasting(v, "sub"))
				if !tt.open { // finished means that no later connection sees it
					sub.ExpectNothing()
				}
			})
		}
	}
}

// A message that the subscriber has refused is reported, once.
func TestRefusedByClient(t *testing.T) {
	inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
		sub := b.Connect(brokertest.ID("sub"))
		sub.Subscribe(packets.ExactlyOnce, "t")
		hostPublishes(t, b, packets.AtLeastOnce, "m")
		hostPublishes(t, b, packets.ExactlyOnce, "m")
		sub.Send(&packets.Puback{PacketID: sub.ExpectPublish("t", "m").PacketID, Reason: packets.UnspecifiedError})
		sub.Send(&packets.Pubrec{PacketID: sub.ExpectPublish("t", "m").PacketID, Reason: packets.UnspecifiedError})
		sub.ExpectNothing()
		synctest.Wait()
		require.Equal(t, map[petrel.DropReason]uint64{petrel.DropRefusedByClient: 2}, b.Stats().Dropped)
	})
}

func TestPubrecAfterPubcomp(t *testing.T) {
	for _, v := range everyVersion {
		t.Run(v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			sub := b.Connect(fresh(v, "sub"))
			sub.Subscribe(packets.ExactlyOnce, "t")
			hostPublishes(t, b, packets.ExactlyOnce, "m")
			m := sub.ExpectPublish("t", "m")
			sub.Accept(m)
			sub.Send(&packets.Pubrec{PacketID: m.PacketID})
			(&received{t, sub, v, m.PacketID}).expectPubrel(m.PacketID, packets.PacketIdentifierNotFound)
			sub.Send(&packets.Pubcomp{PacketID: m.PacketID})
			sub.ExpectNothing()
		})
	}
}

// The client and the broker number their messages independently: the same
// identifier is open in both directions at once, with every pair of QoS.
func TestIdentifiersOfBothDirections(t *testing.T) {
	for _, v := range everyVersion {
		t.Run(v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			c := b.Connect(fresh(v, "c"))
			c.Subscribe(packets.ExactlyOnce, "t")
			hostPublishes(t, b, packets.ExactlyOnce, "m")
			m := c.ExpectPublish("t", "m")
			id := m.PacketID

			c.Send(&packets.Publish{Topic: []byte("other"), QoS: packets.ExactlyOnce, PacketID: id})
			require.Equal(t, id, brokertest.Expect[*packets.Pubrec](c).PacketID)
			c.Send(&packets.Pubrec{PacketID: id})
			require.Equal(t, id, brokertest.Expect[*packets.Pubrel](c).PacketID)
			c.Send(&packets.Pubrel{PacketID: id})
			comp := brokertest.Expect[*packets.Pubcomp](c)
			require.Equal(t, id, comp.PacketID)
			require.Equal(t, packets.Success, comp.Reason)
			c.Send(&packets.Publish{Topic: []byte("other"), QoS: packets.AtLeastOnce, PacketID: id})
			require.Equal(t, id, brokertest.Expect[*packets.Puback](c).PacketID)
			// the client's SUBSCRIBE shares the space of its PUBLISH packets only
			require.Equal(t, []packets.ReasonCode{packets.GrantedQoS1}, c.SubscribeWith(packets.Subscribe{
				PacketID: id, Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("u"), QoS: 1}),
			}))
			c.Send(&packets.Pubcomp{PacketID: id})
			c.ExpectNothing()
			require.Zero(t, inflightOf(t, b, "c"))
		})
	}
}

// inflightOf is how many messages on their way to the client are not finished.
func inflightOf(t *testing.T, b *brokertest.Broker, id string) int {
	t.Helper()
	for info := range b.Clients() {
		if info.ID == id {
			return info.Inflight
		}
	}
	t.Fatalf("no session %q", id)
	return 0
}

// The identifiers go round, and past those that are still in use: of a QoS 1
// message, of a QoS 2 message, and of one that waits for PUBCOMP.
func TestIdentifiersWrapAround(t *testing.T) {
	b := brokertest.New(t, petrel.Options{Logger: silent(), QueueMessages: -1})
	sub := b.Connect(brokertest.ID("sub"))
	sub.Subscribe(packets.ExactlyOnce, "t")
	hostPublishes(t, b, packets.AtLeastOnce, "open")
	hostPublishes(t, b, packets.ExactlyOnce, "open", "released")
	open := make(map[uint16]bool)
	for _, payload := range []string{"open", "open", "released"} {
		m := sub.ExpectPublish("t", payload)
		open[m.PacketID] = true
		if payload == "released" {
			sub.Send(&packets.Pubrec{PacketID: m.PacketID})
			brokertest.Expect[*packets.Pubrel](sub)
		}
	}
	require.Len(t, open, 3)

	seen := make(map[uint16]int)
	const step = 500
	for range 65536/step + 2 {
		hostPublishes(t, b, packets.AtLeastOnce, make([]string, step)...)
		acks := make([]packets.Packet, 0, step)
		for range step {
			m := sub.ExpectPublish("t", "")
			if open[m.PacketID] || m.PacketID == 0 {
				t.Fatalf("identifier %d is in use", m.PacketID)
			}
			seen[m.PacketID]++
			acks = append(acks, &packets.Puback{PacketID: m.PacketID})
		}
		sub.Send(acks...)
	}
	sub.ExpectNothing()
	twice := 0
	for _, n := range seen {
		if n > 1 {
			twice++
		}
	}
	require.NotZero(t, twice, "it did not wrap around")
	require.Equal(t, 3, inflightOf(t, b, "sub"))
}

// expectAgain expects a message that was sent on an earlier connection.
func expectAgain(t *testing.T, c *brokertest.Client, payload string, first *packets.Publish) *packets.Publish {
	t.Helper()
	p := c.ExpectPublish("t", payload)
	require.True(t, p.Dup, "DUP of %q", payload)
	require.Equal(t, first.PacketID, p.PacketID, "identifier of %q", payload)
	require.Equal(t, first.QoS, p.QoS, "QoS of %q", payload)
	require.False(t, p.Retain, "RETAIN of %q", payload)
	return p
}

// openFlows has messages "a" to "e" under way: "b" is released, and waits for
// PUBCOMP; "d" is finished; all others were not answered.
func openFlows(t *testing.T, b *brokertest.Broker, sub *brokertest.Client) map[string]*packets.Publish {
	t.Helper()
	sub.Subscribe(packets.ExactlyOnce, "t")
	sent := make(map[string]*packets.Publish)
	for i, payload := range []string{"a", "b", "c", "d", "e"} {
		hostPublishes(t, b, packets.AtLeastOnce+packets.QoS(i%2), payload)
		sent[payload] = sub.ExpectPublish("t", payload)
	}
	sub.Send(&packets.Pubrec{PacketID: sent["b"].PacketID})
	brokertest.Expect[*packets.Pubrel](sub)
	sub.Accept(sent["d"])
	sub.ExpectNothing()
	return sent
}

func TestRedelivery(t *testing.T) {
	for _, v := range everyVersion {
		t.Run(v.String()+" in the old order, with dup and the old identifiers, before what was queued", func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			sub := b.Connect(lasting(v, "sub"))
			sent := openFlows(t, b, sub)
			sub.Drop()
			hostPublishes(t, b, packets.AtLeastOnce, "queued")

			for range 2 { // also when nothing was answered on the connection
				sub = b.Connect(lasting(v, "sub"))
				a := expectAgain(t, sub, "a", sent["a"])
				require.Equal(t, sent["b"].PacketID, brokertest.Expect[*packets.Pubrel](sub).PacketID)
				c := expectAgain(t, sub, "c", sent["c"])
				e := expectAgain(t, sub, "e", sent["e"])
				queued := sub.ExpectPublish("t", "queued")
				if sent["queued"] == nil {
					require.False(t, queued.Dup)
					sent["queued"] = queued
				} else {
					require.True(t, queued.Dup)
					require.Equal(t, sent["queued"].PacketID, queued.PacketID)
					sub.Send(&packets.Pubcomp{PacketID: sent["b"].PacketID})
					for _, p := range []*packets.Publish{a, c, e, queued} {
						sub.Accept(p)
					}
				}
				sub.ExpectNothing()
				sub.Drop()
			}
			sub = b.Connect(lasting(v, "sub"))
			sub.ExpectNothing()
		})
		t.Run(v.String()+" after takeover", func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			old := b.Connect(lasting(v, "sub"))
			sent := openFlows(t, b, old)
			sub := b.Connect(lasting(v, "sub"))
			expectAgain(t, sub, "a", sent["a"])
			require.Equal(t, sent["b"].PacketID, brokertest.Expect[*packets.Pubrel](sub).PacketID)
			expectAgain(t, sub, "c", sent["c"])
			expectAgain(t, sub, "e", sent["e"])
			sub.ExpectNothing()
			expectEnd(old, v, packets.SessionTakenOver)
		})
		t.Run(v.String()+" released before a pubrec is repeated", func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			sub := b.Connect(lasting(v, "sub"))
			id := openFlows(t, b, sub)["b"].PacketID
			sub.Drop()
			sub = b.Connect(lasting(v, "sub"))
			for range 4 {
				sub.Receive()
			}
			sub.Send(&packets.Pubrec{PacketID: id})
			(&received{t, sub, v, id}).expectPubrel(id, packets.Success)
			sub.Send(&packets.Pubcomp{PacketID: id})
			sub.ExpectNothing()
			require.Equal(t, 3, inflightOf(t, b, "sub"))
		})
		t.Run(v.String()+" never on a live connection", func(t *testing.T) {
			inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
				sub := b.Connect(lasting(v, "sub"))
				openFlows(t, b, sub)
				time.Sleep(24 * time.Hour)
				sub.ExpectNothing()
			})
		})
		t.Run(v.String()+" not to a new session", func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			sub := b.Connect(lasting(v, "sub"))
			openFlows(t, b, sub)
			sub.Drop()
			sub = b.Connect(fresh(v, "sub"))
			sub.ExpectNothing()
			sub.Drop()
		})
	}
	t.Run("to another version", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		sub := b.Connect(lasting(packets.V311, "sub"))
		sent := openFlows(t, b, sub)
		sub.Drop()
		for _, v := range []packets.Version{packets.V5, packets.V31} {
			sub = b.Connect(lasting(v, "sub"))
			expectAgain(t, sub, "a", sent["a"])
			require.Equal(t, sent["b"].PacketID, brokertest.Expect[*packets.Pubrel](sub).PacketID)
			expectAgain(t, sub, "c", sent["c"])
			expectAgain(t, sub, "e", sent["e"])
			sub.ExpectNothing()
			sub.Drop()
		}
	})
}

// A new connection with a smaller Receive Maximum gets what is sent again in
// portions; a PUBREL takes nothing from it.
func TestRedeliveryInPortions(t *testing.T) {
	for _, most := range []uint16{1, 2} {
		t.Run("receive maximum "+strconv.Itoa(int(most)), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			sub := b.Connect(lasting(packets.V5, "sub"))
			sent := openFlows(t, b, sub)
			sub.Drop()
			hostPublishes(t, b, packets.AtMostOnce, "lost")
			hostPublishes(t, b, packets.AtLeastOnce, "queued")
			narrow := lasting(packets.V5, "sub")
			narrow.ReceiveMaximum = most

			sub = b.Connect(narrow)
			expectAgain(t, sub, "a", sent["a"])
			require.Equal(t, sent["b"].PacketID, brokertest.Expect[*packets.Pubrel](sub).PacketID)
			if most == 2 {
				expectAgain(t, sub, "c", sent["c"])
			}
			sub.ExpectNothing()
			sub.Drop() // the rest is still to be sent again to the next connection

			sub = b.Connect(narrow)
			unanswered := []*packets.Publish{expectAgain(t, sub, "a", sent["a"])}
			brokertest.Expect[*packets.Pubrel](sub)
			hostPublishes(t, b, packets.AtMostOnce, "live") // waits behind the older ones
			for i, payload := range []string{"c", "e", "queued"} {
				if i+2 > int(most) {
					sub.ExpectNothing()
					sub.Accept(unanswered[0])
					unanswered = unanswered[1:]
				}
				if payload == "queued" {
					p := sub.ExpectPublish("t", "queued")
					require.False(t, p.Dup)
					unanswered = append(unanswered, p)
					continue
				}
				unanswered = append(unanswered, expectAgain(t, sub, payload, sent[payload]))
			}
			sub.ExpectPublish("t", "live")
			for _, p := range unanswered {
				sub.Accept(p)
			}
			sub.ExpectNothing()
		})
	}
}

// Nothing overtakes what is still to be sent again, also if no queue holds it up.
func TestLiveWaitsBehindRedelivery(t *testing.T) {
	for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
		t.Run(qos.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			sub := b.Connect(lasting(packets.V5, "sub"))
			sub.Subscribe(packets.ExactlyOnce, "t")
			hostPublishes(t, b, packets.AtLeastOnce, "a", "b")
			first := []*packets.Publish{sub.ExpectPublish("t", "a"), sub.ExpectPublish("t", "b")}
			sub.Drop()
			narrow := lasting(packets.V5, "sub")
			narrow.ReceiveMaximum = 1
			sub = b.Connect(narrow)
			a := expectAgain(t, sub, "a", first[0])
			hostPublishes(t, b, qos, "live")
			sub.ExpectNothing()
			sub.Accept(a)
			again := expectAgain(t, sub, "b", first[1])
			if qos > packets.AtMostOnce {
				sub.Accept(again)
			}
			sub.Accept(sub.ExpectPublish("t", "live"))
			sub.ExpectNothing()
		})
	}
}

// A message that was sent once is sent again although it has expired meanwhile;
// one that only waited is not.
func TestRedeliveryOfExpiredMessages(t *testing.T) {
	for _, qos := range []petrel.QoS{petrel.AtLeastOnce, petrel.ExactlyOnce} {
		t.Run(qos.String(), func(t *testing.T) {
			inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
				sub := b.Connect(lasting(packets.V5, "sub"))
				sub.Subscribe(packets.ExactlyOnce, "t")
				send := func(payload string) {
					m := petrel.Message{Topic: "t", Payload: []byte(payload), QoS: qos, Expiry: 10 * time.Second}
					require.NoError(t, b.Publish(context.Background(), m))
				}
				send("sent")
				first := sub.ExpectPublish("t", "sent")
				require.EqualValues(t, 10, first.MessageExpiryInterval)
				sub.Drop()
				send("queued")
				time.Sleep(time.Minute)
				sub = b.Connect(lasting(packets.V5, "sub"))
				p := expectAgain(t, sub, "sent", first)
				require.True(t, p.HasMessageExpiry)
				require.Zero(t, p.MessageExpiryInterval)
				sub.Accept(p)
				sub.ExpectNothing()
			})
		})
	}
}
