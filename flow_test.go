package petrel_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// open sends a QoS 2 message and leaves it open.
func open(t *testing.T, c *brokertest.Client, id uint16) {
	t.Helper()
	c.Send(&packets.Publish{Topic: []byte("t"), QoS: packets.ExactlyOnce, PacketID: id})
	require.Equal(t, id, brokertest.Expect[*packets.Pubrec](c).PacketID)
}

// What the broker takes from a client that has as many messages open as it may.
func TestInboundReceiveMaximum(t *testing.T) {
	tests := []struct {
		name string
		send packets.Packet
		over bool // it is one too many
	}{
		{"qos 2", &packets.Publish{Topic: []byte("t"), QoS: packets.ExactlyOnce, PacketID: 9}, true},
		{"qos 1", &packets.Publish{Topic: []byte("t"), QoS: packets.AtLeastOnce, PacketID: 9}, true},
		{"qos 0 is not counted", &packets.Publish{Topic: []byte("t")}, false},
		{"repeat of an open message is not counted", &packets.Publish{Topic: []byte("t"), QoS: packets.ExactlyOnce, PacketID: 1, Dup: true}, false},
		{"pubrel", &packets.Pubrel{PacketID: 1}, false},
		{"pubrel of an unknown identifier", &packets.Pubrel{PacketID: 9}, false},
	}
	for _, most := range []int{1, 2, 3} {
		for _, v := range everyVersion {
			for _, tt := range tests {
				t.Run(fmt.Sprintf("%d open, %v, then %s", most, v, tt.name), func(t *testing.T) {
					b := brokertest.New(t, petrel.Options{ReceiveMaximum: most})
					c := b.Connect(fresh(v, "c"))
					for id := range uint16(most) {
						open(t, c, id+1)
					}
					c.Send(tt.send)
					if tt.over && v == packets.V5 {
						c.ExpectDisconnect(packets.ReceiveMaximumExceeded)
						require.EqualValues(t, 1, b.Stats().ReceiveMaximumExceeded)
						return
					}
					if p, ok := tt.send.(*packets.Publish); !ok || p.QoS > 0 {
						c.Receive()
					}
					c.ExpectNothing()
					require.Zero(t, b.Stats().ReceiveMaximumExceeded, "older clients have no Receive Maximum")
				})
			}
		}
	}
}

func TestInboundReceiveMaximumIsGivenBack(t *testing.T) {
	one := func(t *testing.T, o petrel.Options) (*brokertest.Broker, *brokertest.Client) {
		o.ReceiveMaximum = 1
		b := brokertest.New(t, o)
		return b, b.Connect(lasting(packets.V5, "c"))
	}
	t.Run("by the end of each exchange", func(t *testing.T) {
		_, c := one(t, petrel.Options{})
		for range 3 {
			c.Publish("t", "", packets.AtLeastOnce)
			c.Publish("t", "", packets.ExactlyOnce)
		}
	})
	t.Run("by a pubrec with an error", func(t *testing.T) {
		_, c := one(t, petrel.Options{Hooks: []petrel.Hook{access(func(*petrel.AccessRequest) error { return packets.NotAuthorized })}})
		for range 3 {
			require.Equal(t, packets.NotAuthorized, c.PublishWith(packets.Publish{Topic: []byte("t"), QoS: packets.ExactlyOnce}))
		}
	})
	t.Run("once only by a pubrel that is repeated", func(t *testing.T) {
		_, c := one(t, petrel.Options{})
		open(t, c, 1)
		c.Send(&packets.Pubrel{PacketID: 1}, &packets.Pubrel{PacketID: 1}, &packets.Pubrel{PacketID: 2})
		for range 3 {
			brokertest.Expect[*packets.Pubcomp](c)
		}
		open(t, c, 3)
		c.Send(&packets.Publish{Topic: []byte("t"), QoS: packets.AtLeastOnce, PacketID: 4})
		c.ExpectDisconnect(packets.ReceiveMaximumExceeded)
	})
	t.Run("by a new connection, on which a repeat counts", func(t *testing.T) {
		b, c := one(t, petrel.Options{})
		open(t, c, 1)
		c.Drop()
		c = b.Connect(lasting(packets.V5, "c"))
		open(t, c, 1)
		c.Send(&packets.Publish{Topic: []byte("t"), QoS: packets.ExactlyOnce, PacketID: 2})
		c.ExpectDisconnect(packets.ReceiveMaximumExceeded)
	})
	t.Run("by a pubrel for a message of an earlier connection, not at all", func(t *testing.T) {
		b, c := one(t, petrel.Options{})
		open(t, c, 1)
		c.Drop()
		c = b.Connect(lasting(packets.V5, "c"))
		open(t, c, 2)
		c.Send(&packets.Pubrel{PacketID: 1})
		require.Equal(t, packets.Success, brokertest.Expect[*packets.Pubcomp](c).Reason)
		c.Send(&packets.Publish{Topic: []byte("t"), QoS: packets.ExactlyOnce, PacketID: 3})
		c.ExpectDisconnect(packets.ReceiveMaximumExceeded)
	})
	t.Run("not needed if it is tolerated", func(t *testing.T) {
		b, c := one(t, petrel.Options{TolerateReceiveMaximum: true})
		for id := range uint16(5) {
			open(t, c, id+1)
		}
		c.ExpectNothing()
		require.EqualValues(t, 4, b.Stats().ReceiveMaximumExceeded)
	})
}

// windows are the ways to a window of n messages towards a client.
func windows(n int) map[string]struct {
	petrel.Options
	packets.Connect
} {
	announced := lasting(packets.V5, "sub")
	announced.ReceiveMaximum = uint16(n)
	larger := lasting(packets.V5, "sub")
	larger.ReceiveMaximum = uint16(n + 1)
	type window = struct {
		petrel.Options
		packets.Connect
	}
	return map[string]window{
		"announced by the client":       {petrel.Options{}, announced},
		"of the option, client larger":  {petrel.Options{MaximumInflight: n}, larger},
		"of the option, client smaller": {petrel.Options{MaximumInflight: n + 1}, announced},
		"of the option, 3.1":            {petrel.Options{MaximumInflight: n}, lasting(packets.V31, "sub")},
		"of the option, 3.1.1":          {petrel.Options{MaximumInflight: n}, lasting(packets.V311, "sub")},
	}
}

func TestOutboundWindow(t *testing.T) {
	for _, n := range []int{1, 2} {
		for name, w := range windows(n) {
			t.Run(fmt.Sprintf("%d, %s", n, name), func(t *testing.T) {
				b := brokertest.New(t, w.Options)
				sub := b.Connect(w.Connect)
				sub.Subscribe(packets.ExactlyOnce, "t", "other")
				var payloads []string
				for i := range 10 {
					payloads = append(payloads, fmt.Sprint("m", i))
					hostPublishes(t, b, petrel.QoS(1+i%2), payloads[i])
				}
				var open []*packets.Publish
				for i, payload := range payloads {
					if i >= n {
						sub.ExpectNothing()
						acceptSlowly(sub, open[0])
						open = open[1:]
					}
					open = append(open, sub.ExpectPublish("t", payload))
				}
				for _, m := range open {
					sub.Accept(m)
				}
				sub.ExpectNothing()
				require.Zero(t, inflightOf(t, b, "sub"))
			})
		}
	}
}

// acceptSlowly acknowledges a message and checks that only the end of the
// exchange makes the broker go on.
func acceptSlowly(c *brokertest.Client, m *packets.Publish) {
	if m.QoS == packets.ExactlyOnce {
		c.Send(&packets.Pubrec{PacketID: m.PacketID})
		brokertest.Expect[*packets.Pubrel](c)
		c.ExpectNothing()
		c.Send(&packets.Pubcomp{PacketID: m.PacketID})
		return
	}
	c.Accept(m)
}

// narrowSubscriber has a Receive Maximum of n and gets topic "t".
func narrowSubscriber(b *brokertest.Broker, n uint16) *brokertest.Client {
	p := lasting(packets.V5, "sub")
	p.ReceiveMaximum = n
	sub := b.Connect(p)
	sub.Subscribe(packets.ExactlyOnce, "t")
	return sub
}

// What is not a message of QoS 1 or 2 goes on while the window is full.
func TestFullWindowHoldsUpNothingElse(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	sub := narrowSubscriber(b, 1)
	hostPublishes(t, b, packets.ExactlyOnce, "m")
	m := sub.ExpectPublish("t", "m")
	hostPublishes(t, b, packets.AtMostOnce, "free") // nothing waits that it could overtake
	sub.ExpectPublish("t", "free")
	hostPublishes(t, b, packets.AtLeastOnce, "waits")
	sub.ExpectNothing() // PINGRESP comes
	sub.Publish("other", "", packets.AtLeastOnce)
	sub.Publish("other", "", packets.ExactlyOnce)
	sub.Subscribe(packets.AtLeastOnce, "more")
	require.Equal(t, []packets.ReasonCode{packets.Success}, sub.Unsubscribe("more"))
	sub.Send(&packets.Pubrec{PacketID: m.PacketID})
	brokertest.Expect[*packets.Pubrel](sub)
	sub.ExpectNothing()
	sub.Send(&packets.Pubcomp{PacketID: m.PacketID})
	sub.ExpectPublish("t", "waits")
}

func TestQuotaIsNotRaised(t *testing.T) {
	t.Run("by acknowledgements of unknown identifiers", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		sub := narrowSubscriber(b, 1)
		for id := range uint16(100) {
			sub.Send(&packets.Puback{PacketID: 1000 + id}, &packets.Pubcomp{PacketID: 2000 + id},
				&packets.Pubrec{PacketID: 3000 + id, Reason: packets.UnspecifiedError})
		}
		hostPublishes(t, b, packets.AtLeastOnce, "a", "b", "c")
		a := sub.ExpectPublish("t", "a")
		for id := range uint16(100) {
			sub.Send(&packets.Puback{PacketID: 1000 + id}, &packets.Pubcomp{PacketID: 2000 + id},
				&packets.Pubrec{PacketID: 3000 + id, Reason: packets.UnspecifiedError})
		}
		sub.ExpectNothing()
		sub.Accept(a)
		sub.Accept(sub.ExpectPublish("t", "b"))
		sub.ExpectPublish("t", "c")
	})
	t.Run("by an acknowledgement that is repeated", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		sub := narrowSubscriber(b, 1)
		hostPublishes(t, b, packets.AtLeastOnce, "a", "b", "c")
		a := sub.ExpectPublish("t", "a")
		sub.Accept(a)
		sub.ExpectPublish("t", "b")
		sub.Accept(a)
		sub.Send(&packets.Puback{PacketID: a.PacketID})
		sub.ExpectNothing()
	})
	t.Run("by pubcomp for a pubrel of an earlier connection", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		sub := narrowSubscriber(b, 2)
		hostPublishes(t, b, packets.ExactlyOnce, "x", "y")
		for _, m := range []*packets.Publish{sub.ExpectPublish("t", "x"), sub.ExpectPublish("t", "y")} {
			sub.Send(&packets.Pubrec{PacketID: m.PacketID})
			brokertest.Expect[*packets.Pubrel](sub)
		}
		sub.Drop()
		p := lasting(packets.V5, "sub")
		p.ReceiveMaximum = 2
		sub = b.Connect(p)
		x := brokertest.Expect[*packets.Pubrel](sub).PacketID
		y := brokertest.Expect[*packets.Pubrel](sub).PacketID
		hostPublishes(t, b, packets.AtLeastOnce, "a", "b", "c", "d")
		a := sub.ExpectPublish("t", "a")
		sub.ExpectPublish("t", "b")
		sub.Send(&packets.Pubcomp{PacketID: x}, &packets.Pubcomp{PacketID: y})
		sub.ExpectNothing()
		sub.Accept(a)
		sub.ExpectPublish("t", "c")
		sub.ExpectNothing()
	})
	t.Run("by the end of a connection, and starts anew with the next", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		sub := narrowSubscriber(b, 1)
		hostPublishes(t, b, packets.AtLeastOnce, "a", "b")
		first := sub.ExpectPublish("t", "a")
		sub.Drop()
		p := lasting(packets.V5, "sub")
		p.ReceiveMaximum = 1
		sub = b.Connect(p)
		a := expectAgain(t, sub, "a", first)
		sub.ExpectNothing()
		sub.Accept(a)
		sub.ExpectPublish("t", "b")
	})
}

// sizeOf is the size of a packet on the wire.
func sizeOf(t *testing.T, p packets.Packet) int {
	t.Helper()
	b, err := p.AppendTo(nil, packets.V5)
	require.NoError(t, err)
	return len(b)
}

// A message that is larger than the client takes is dropped as if it had been
// sent: the next ones come, the identifier and the place in the window are free.
func TestOutboundPacketSize(t *testing.T) {
	const id = 300                                                                // Subscription Identifier: it counts, too
	for _, payload := range []int{20, 119, 120, 121, 122, 200, 16 << 10, 20000} { // around the sizes of the length field and of shared payloads
		for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
			for _, path := range []string{"live", "queued"} {
				for _, spare := range []int{-1, 0, 1} {
					t.Run(fmt.Sprintf("%s, %v, %d bytes of payload, %+d to spare", path, qos, payload, spare), func(t *testing.T) {
						inFakeTime(t, petrel.Options{QueueQoS0: true, Logger: silent()}, func(t *testing.T, b *brokertest.Broker) {
							body := strings.Repeat("x", payload)
							p := lasting(packets.V5, "sub")
							p.ReceiveMaximum = 1
							p.MaximumPacketSize = uint32(spare + sizeOf(t, &packets.Publish{
								Topic: []byte("t"), Payload: []byte(body), QoS: qos, PacketID: uint16(qos), SubscriptionIDs: []uint32{id},
							}))
							sub := b.Connect(p)
							sub.SubscribeWith(packets.Subscribe{SubscriptionID: id, Subscriptions: packets.Subscriptions(nil).Append(
								packets.Subscription{Filter: []byte("t"), QoS: packets.ExactlyOnce})})
							if path == "queued" {
								sub.Drop()
							}
							hostPublishes(t, b, qos, body, body, "1", "2")
							if path == "queued" {
								sub = b.Connect(p)
							}
							if spare >= 0 {
								sub.Accept(sub.ExpectPublish("t", body))
								sub.Accept(sub.ExpectPublish("t", body))
							}
							sub.Accept(sub.ExpectPublish("t", "1"))
							sub.Accept(sub.ExpectPublish("t", "2"))
							sub.ExpectNothing()
							synctest.Wait()
							want := map[petrel.DropReason]uint64{}
							if spare < 0 {
								want[petrel.DropTooLarge] = 2
							}
							require.Equal(t, want, b.Stats().Dropped)
							require.Zero(t, inflightOf(t, b, "sub"))
						})
					})
				}
			}
		}
	}
}

// The next connection may take less than the one on which a message was sent.
func TestOutboundPacketSizeOfRedelivery(t *testing.T) {
	inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
		sub := b.Connect(lasting(packets.V5, "sub"))
		sub.Subscribe(packets.ExactlyOnce, "t")
		hostPublishes(t, b, packets.AtLeastOnce, strings.Repeat("x", 100))
		hostPublishes(t, b, packets.ExactlyOnce, strings.Repeat("x", 100))
		hostPublishes(t, b, packets.AtLeastOnce, "small")
		sub.Receive()
		exact := brokertest.Expect[*packets.Publish](sub)
		sub.Receive()
		sub.Drop()
		p := lasting(packets.V5, "sub")
		p.MaximumPacketSize, p.ReceiveMaximum = 50, 1
		sub = b.Connect(p)
		rel := brokertest.Expect[*packets.Pubrel](sub) // the client has to let go of the identifier
		require.Equal(t, exact.PacketID, rel.PacketID)
		sub.Send(&packets.Pubcomp{PacketID: rel.PacketID})
		m := sub.ExpectPublish("t", "small")
		require.True(t, m.Dup)
		hostPublishes(t, b, packets.AtLeastOnce, "next")
		sub.Accept(m)
		sub.Accept(sub.ExpectPublish("t", "next"))
		sub.ExpectNothing()
		synctest.Wait()
		require.EqualValues(t, 2, b.Stats().Dropped[petrel.DropTooLarge])
		require.Zero(t, inflightOf(t, b, "sub"))
		require.Zero(t, b.Stats().MessageBytes)
	})
}

func TestInboundPacketSize(t *testing.T) {
	const most = 200
	publish := func(v packets.Version, size int) []byte {
		p := packets.Publish{Topic: []byte("t")}
		for {
			b, _ := p.AppendTo(nil, v)
			if len(b) >= size {
				return b
			}
			p.Payload = append(p.Payload, make([]byte, size-len(b))...)
			if b, _ = p.AppendTo(nil, v); len(b) > size { // the length field has grown
				p.Payload = p.Payload[:len(p.Payload)-(len(b)-size)]
			}
		}
	}
	for _, v := range everyVersion {
		for size := most - 1; size <= most; size++ {
			t.Run(fmt.Sprintf("%v, %d of %d bytes", v, size, most), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{MaximumPacketSize: most})
				c := b.Connect(fresh(v, "c"))
				packet := publish(v, size)
				require.Len(t, packet, size)
				c.SendRaw(packet)
				c.ExpectNothing()
			})
		}
		for name, packet := range map[string][]byte{
			"publish one byte too large":                   publish(v, most+1),
			"fixed header of a publish, nothing behind it": publish(v, most+1)[:3],
			"fixed header of a large subscribe":            {0x82, 0xFF, 0xFF, 0xFF, 0x7F},
			"fixed header of a large pingreq":              {0xC0, 0xFF, 0x01},
		} {
			t.Run(v.String()+", "+name, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{MaximumPacketSize: most})
				c := b.Connect(fresh(v, "c"))
				c.SendRaw(packet)
				expectEnd(c, v, packets.PacketTooLarge)
			})
		}
	}
	t.Run("no limit", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{MaximumPacketSize: -1})
		c := b.Connect(brokertest.ID("c"))
		c.Publish("t", strings.Repeat("x", 3<<20), packets.AtLeastOnce)
	})
}

// Acknowledgements leave out what explains them where it does not fit, or is not wanted.
func TestAcksLeaveOutExplanations(t *testing.T) {
	reason := strings.Repeat("no ", 40)
	refuse := access(func(*petrel.AccessRequest) error {
		return &petrel.Refusal{Code: packets.NotAuthorized, ReasonString: reason, UserProperties: []petrel.UserProperty{{Name: "n", Value: "v"}}}
	})
	full := sizeOf(t, &packets.Puback{
		PacketID: 1, Reason: packets.NotAuthorized, ReasonString: []byte(reason), UserProperties: packets.UserProperties(nil).Append("n", "v"),
	})
	tests := []struct {
		name      string
		most      uint32
		noProblem bool
		explained bool
	}{
		{"no limit", 0, false, true},
		{"fits exactly", uint32(full), false, true},
		{"one byte too large", uint32(full) - 1, false, false},
		{"not wanted", 0, true, false},
	}
	for _, qos := range []packets.QoS{packets.AtLeastOnce, packets.ExactlyOnce} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%v, %s", qos, tt.name), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{refuse}})
				c := brokertest.ID("c")
				c.MaximumPacketSize, c.NoProblemInformation = tt.most, tt.noProblem
				pub := b.Connect(c)
				pub.Send(&packets.Publish{Topic: []byte("t"), QoS: qos, PacketID: 1})
				var got packets.Puback
				switch p := pub.Receive().(type) {
				case *packets.Puback:
					got = *p
				case *packets.Pubrec:
					got = packets.Puback{Reason: p.Reason, ReasonString: p.ReasonString, UserProperties: p.UserProperties}
				}
				require.Equal(t, packets.NotAuthorized, got.Reason)
				require.Equal(t, tt.explained, string(got.ReasonString) == reason)
				require.Equal(t, tt.explained, got.UserProperties.Len() == 1)
				require.True(t, tt.explained || len(got.ReasonString) == 0 && got.UserProperties.Len() == 0)
				pub.ExpectNothing()
			})
		}
	}
}

// access is an Authorizer made of a function.
type access func(r *petrel.AccessRequest) error

func (f access) Authorize(_ context.Context, r *petrel.AccessRequest) error { return f(r) }

// A client above its rate is read from more slowly, and not disconnected; others
// are not held up.
func TestMessageRate(t *testing.T) {
	inFakeTime(t, petrel.Options{MessageRate: 10}, func(t *testing.T, b *brokertest.Broker) {
		fast, other := b.Connect(brokertest.ID("fast")), b.Connect(brokertest.ID("other"))
		start := time.Now()
		var batch []packets.Packet
		for id := range uint16(50) {
			batch = append(batch, &packets.Publish{Topic: []byte("t"), QoS: packets.AtLeastOnce, PacketID: id + 1})
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			fast.Send(batch...)
		}()
		other.Publish("t", "", packets.AtLeastOnce)
		require.Zero(t, time.Since(start), "another client is held up")
		for i := range 50 {
			brokertest.Expect[*packets.Puback](fast)
			// A second's worth is free, and one message may overdraw it.
			if least := time.Duration(i-10) * 100 * time.Millisecond; time.Since(start) < least {
				t.Fatalf("message %d was taken after %v; want %v", i+1, time.Since(start), least)
			}
		}
		<-sent
		require.LessOrEqual(t, time.Since(start), 5*time.Second, "the rate is not reached")
		// a second of rest is worth a second's messages again
		time.Sleep(2 * time.Second)
		start = time.Now()
		for range 10 {
			fast.Publish("t", "", packets.AtLeastOnce)
		}
		require.Zero(t, time.Since(start))
	})
	t.Run("other packets are not counted", func(t *testing.T) {
		inFakeTime(t, petrel.Options{MessageRate: 1}, func(t *testing.T, b *brokertest.Broker) {
			c := b.Connect(brokertest.ID("c"))
			start := time.Now()
			for range 100 {
				c.ExpectNothing()
			}
			c.Subscribe(packets.AtMostOnce, brokertest.Topics("x", 20)...)
			require.Zero(t, time.Since(start))
		})
	})
}

func TestByteRate(t *testing.T) {
	inFakeTime(t, petrel.Options{ByteRate: 1000}, func(t *testing.T, b *brokertest.Broker) {
		c := b.Connect(brokertest.ID("c"))
		start := time.Now()
		const n = 20
		payload := strings.Repeat("x", 500)
		for range n {
			c.Publish("t", payload, packets.AtLeastOnce)
		}
		least := time.Duration(n-1)*500*time.Millisecond - time.Second
		require.GreaterOrEqual(t, time.Since(start), least)
		require.LessOrEqual(t, time.Since(start), 2*least)
	})
}

// A rate does not keep a connection from its end.
func TestRateAndTheEnd(t *testing.T) {
	inFakeTime(t, petrel.Options{MessageRate: 1}, func(t *testing.T, b *brokertest.Broker) {
		c := b.Connect(brokertest.ID("c"))
		c.Send(&packets.Publish{Topic: []byte("t")}, &packets.Publish{Topic: []byte("t")}, &packets.Publish{Topic: []byte("t")})
		synctest.Wait()
		start := time.Now()
		require.NoError(t, b.Disconnect("c", nil))
		c.ExpectDisconnect(packets.AdministrativeAction)
		require.Zero(t, time.Since(start))
	})
}

// The most that the standard allows is a limit like any other.
func TestWindowWithoutLimit(t *testing.T) {
	b := brokertest.New(t, petrel.Options{MaximumInflight: -1, ReceiveMaximum: -1, Logger: silent()})
	sub := b.Connect(brokertest.ID("sub"))
	sub.Subscribe(packets.AtLeastOnce, "t")
	ids := make(map[uint16]bool)
	for range math.MaxUint16 / 257 {
		hostPublishes(t, b, packets.AtLeastOnce, make([]string, 257)...)
		for range 257 {
			ids[sub.ExpectPublish("t", "").PacketID] = true
		}
	}
	require.Len(t, ids, math.MaxUint16)
	hostPublishes(t, b, packets.AtLeastOnce, "waits")
	sub.ExpectNothing()
	sub.Send(&packets.Puback{PacketID: 4711})
	require.EqualValues(t, 4711, sub.ExpectPublish("t", "waits").PacketID)
	sub.ExpectNothing()
}
