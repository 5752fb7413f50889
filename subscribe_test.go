package petrel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

var threeVersions = []packets.Version{packets.V31, packets.V311, packets.V5}

// speaking is a CONNECT of any version with a clean start.
func speaking(v packets.Version, id string) packets.Connect {
	return packets.Connect{Version: v, ClientID: []byte(id), CleanStart: true}
}

// on is a subscription with no other option than its QoS.
func on(filter string, qos packets.QoS) packets.Subscription {
	return packets.Subscription{Filter: []byte(filter), QoS: qos}
}

// asking is a SUBSCRIBE for the subscriptions.
func asking(subs ...packets.Subscription) packets.Subscribe {
	var p packets.Subscribe
	for _, s := range subs {
		p.Subscriptions = p.Subscriptions.Append(s)
	}
	return p
}

// identified is p with a Subscription Identifier.
func identified(id uint32, p packets.Subscribe) packets.Subscribe {
	p.SubscriptionID = id
	return p
}

// arrived returns the messages that have come, up to the answer to a PINGREQ.
// None of them is acknowledged.
func arrived(t *testing.T, c *brokertest.Client) (list []*packets.Publish) {
	t.Helper()
	c.Send(&packets.Pingreq{})
	for {
		switch p := c.Receive().(type) {
		case *packets.Publish:
			list = append(list, p)
		case *packets.Pingresp:
			return list
		default:
			t.Fatalf("%s: got %v; want messages", c, p.Type())
		}
	}
}

// payloads are those of the messages, in their order.
func payloads(list []*packets.Publish) []string {
	texts := make([]string, 0, len(list))
	for _, p := range list {
		texts = append(texts, string(p.Payload))
	}
	return texts
}

// sortedIDs are the Subscription Identifiers of p in ascending order.
func sortedIDs(p *packets.Publish) []uint32 { return slices.Sorted(slices.Values(p.SubscriptionIDs)) }

// keep publishes a retained message of QoS 1 and expects success.
func keep(t *testing.T, c *brokertest.Client, topic, payload string) {
	t.Helper()
	code := c.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: packets.AtLeastOnce, Retain: true})
	require.False(t, code.IsError(), "retaining %q got %v", topic, code)
}

// permission is an Authorizer made of a function.
type permission func(r *petrel.AccessRequest) error

func (f permission) Authorize(_ context.Context, r *petrel.AccessRequest) error { return f(r) }

var _ petrel.Authorizer = permission(nil)

func TestSubackOneCodePerFilterInOrder(t *testing.T) {
	want := map[packets.Version][]packets.ReasonCode{
		packets.V5:   {2, packets.TopicFilterInvalid, 0, 1, packets.TopicFilterInvalid, 2},
		packets.V311: {2, 0x80, 0, 1, 0x80, 2},
		packets.V31:  {2, 0, 0, 1, 0, 2}, // there is no code for a failure
	}
	for _, v := range threeVersions {
		t.Run(v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			c := b.Connect(speaking(v, "c"))
			codes := c.SubscribeWith(asking(on("a", 2), on("a/#/b", 1), on("b", 0), on("c", 1), on("d+", 2), on("e/#", 2)))
			require.Equal(t, want[v], codes)
			require.Equal(t, 4, b.Stats().Subscriptions)
			c.Publish("a/x/b", "to a refused filter", packets.AtMostOnce)
			c.ExpectNothing()
		})
	}
}

func TestSubscribeFilterSyntax(t *testing.T) {
	for _, tc := range []struct {
		filter string
		valid  bool
	}{
		{"#", true}, {"+", true}, {"/", true}, {"+/+", true}, {"a/#", true}, {"/+", true}, {"a//#", true}, {"$SYS/#", true},
		{"$share/g/a", true}, {"$share/g//f", true}, {"$share/g/#", true}, {"$shared/g", true}, {"a b", true}, {"$", true},
		{strings.Repeat("a/", 127) + "a", true}, {strings.Repeat("/", 127), true},
		{"", false}, {"a#", false}, {"#a", false}, {"a/#/b", false}, {"#/", false}, {"a+", false}, {"+a/b", false}, {"a/+b", false}, {"++", false},
		{"$share", false}, {"$share/", false}, {"$share/g", false}, {"$share/g/", false}, {"$share//f", false},
		{"$share/a+b/f", false}, {"$share/a#/f", false}, {"$share/#/f", false}, {"$share/g/a#", false}, {"$share/g/#/a", false},
		{strings.Repeat("a/", 128) + "a", false}, {strings.Repeat("/", 128), false}, {strings.Repeat("/", 65535), false},
	} {
		for _, v := range threeVersions {
			t.Run(fmt.Sprintf("%.20q in %v", tc.filter, v), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				c := b.Connect(speaking(v, "c"))
				want := packets.ReasonCode(1)
				switch {
				case tc.valid:
				case v == packets.V5:
					want = packets.TopicFilterInvalid
				case v == packets.V311:
					want = packets.UnspecifiedError
				default:
					want = 0
				}
				require.Equal(t, []packets.ReasonCode{want}, c.SubscribeWith(asking(on(tc.filter, 1))))
				c.ExpectNothing() // it is still connected
			})
		}
	}
}

func TestSubscribeMalformed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		packet []byte
		code   packets.ReasonCode
	}{
		{"QoS 3", []byte{0x82, 0x07, 0, 1, 0, 0, 1, 'a', 3}, packets.ProtocolError},
		{"retain handling 3", []byte{0x82, 0x07, 0, 1, 0, 0, 1, 'a', 0x30}, packets.ProtocolError},
		{"reserved option 0x40", []byte{0x82, 0x07, 0, 1, 0, 0, 1, 'a', 0x40}, packets.MalformedPacket},
		{"reserved option 0x80", []byte{0x82, 0x07, 0, 1, 0, 0, 1, 'a', 0x80}, packets.MalformedPacket},
		{"no filter", []byte{0x82, 0x03, 0, 1, 0}, packets.ProtocolError},
		{"no options", []byte{0x82, 0x06, 0, 1, 0, 0, 1, 'a'}, packets.MalformedPacket},
		{"flags 0000", []byte{0x80, 0x07, 0, 1, 0, 0, 1, 'a', 0}, packets.MalformedPacket},
		{"subscription identifier 0", []byte{0x82, 0x09, 0, 1, 2, 0x0B, 0, 0, 1, 'a', 0}, packets.ProtocolError},
		{"two subscription identifiers", []byte{0x82, 0x0B, 0, 1, 4, 0x0B, 1, 0x0B, 2, 0, 1, 'a', 0}, packets.ProtocolError},
		{"good filter before QoS 3", []byte{0x82, 0x0B, 0, 1, 0, 0, 1, 'a', 0, 0, 1, 'b', 3}, packets.ProtocolError},
		{"unsubscribe without filter", []byte{0xA2, 0x03, 0, 1, 0}, packets.ProtocolError},
		{"unsubscribe with flags 0000", []byte{0xA0, 0x06, 0, 1, 0, 0, 1, 'a'}, packets.MalformedPacket},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			c := b.Connect(brokertest.Durable("c"))
			c.SendRaw(tc.packet)
			c.ExpectDisconnect(tc.code)
			require.Zero(t, b.Stats().Subscriptions, "a packet with a fault must not do half of what it says")
		})
	}
}

func TestSameFilterTwiceInOneSubscribe(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	c := b.Connect(brokertest.ID("c"))
	codes := c.SubscribeWith(asking(on("a", 0), on("b", 2), on("a", 2), on("a", 1)))
	require.Equal(t, []packets.ReasonCode{0, 2, 2, 1}, codes)
	require.Equal(t, 2, b.Stats().Subscriptions)
	b.Connect(brokertest.ID("p")).Publish("a", "x", packets.ExactlyOnce)
	got := arrived(t, c)
	require.Equal(t, []string{"x"}, payloads(got), "one subscription, one copy")
	require.Equal(t, packets.AtLeastOnce, got[0].QoS, "the last one is in force")
	require.Equal(t, []packets.ReasonCode{0, 0x11, 0}, c.Unsubscribe("a", "a", "b"))
}

func TestMaximumFilters(t *testing.T) {
	const most = 3
	for _, v := range threeVersions {
		for n := most - 1; n <= most+1; n++ {
			t.Run(fmt.Sprintf("%d of %d filters in %v", n, most, v), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{MaximumFilters: most})
				c := b.Connect(speaking(v, "c"))
				topics := brokertest.Topics("t", n)
				var subs []packets.Subscription
				want := make([]packets.ReasonCode, n)
				for i, topic := range topics {
					subs, want[i] = append(subs, on(topic, 1)), 1
					if i >= most {
						want[i] = map[packets.Version]packets.ReasonCode{packets.V31: 0, packets.V311: 0x80, packets.V5: packets.QuotaExceeded}[v]
					}
				}
				require.Equal(t, want, c.SubscribeWith(asking(subs...)))
				require.Equal(t, min(n, most), b.Stats().Subscriptions)

				if n > most {
					c.Subscribe(1, topics[most:]...) // a SUBSCRIBE of its own is fine
				}
				codes := c.Unsubscribe(topics...)
				c.ExpectNothing() // nobody is disconnected
				require.Equal(t, n-min(n, most), b.Stats().Subscriptions)
				if v != packets.V5 {
					require.Empty(t, codes)
					return
				}
				require.Len(t, codes, n)
				for i, code := range codes {
					if i < most {
						require.Equal(t, packets.Success, code)
					} else { // UNSUBACK has no 0x97
						require.Equal(t, packets.ImplementationSpecificError, code)
					}
				}
			})
		}
	}
}

func TestMaximumSubscriptions(t *testing.T) {
	const most = 2
	for _, v := range threeVersions {
		t.Run(v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MaximumSubscriptions: most})
			refused := map[packets.Version]packets.ReasonCode{packets.V31: 0, packets.V311: 0x80, packets.V5: packets.QuotaExceeded}[v]
			c := b.Connect(speaking(v, "c"))
			c.Subscribe(1, "t/0")
			c.Subscribe(1, "$share/g/t/1")
			require.Equal(t, []packets.ReasonCode{refused}, c.SubscribeWith(asking(on("t/2", 1))))
			require.Equal(t, []packets.ReasonCode{2, refused, 0}, c.SubscribeWith(asking(on("t/0", 2), on("t/3", 1), on("$share/g/t/1", 0))),
				"one that exists can be replaced")
			require.Equal(t, most, b.Stats().Subscriptions)
			c.Publish("t/2", "x", packets.AtMostOnce)
			c.Publish("t/3", "x", packets.AtMostOnce)
			c.ExpectNothing()
			c.Unsubscribe("t/0")
			c.Subscribe(1, "t/2")

			other := b.Connect(speaking(v, "other"))
			other.Subscribe(1, "t/0", "t/1") // the limit is per session
		})
	}
}

func TestDisabledSubscriptionFeatures(t *testing.T) {
	for _, tc := range []struct {
		name    string
		options petrel.Options
		ask     packets.Subscribe
		code    packets.ReasonCode
		only5   bool
	}{
		{"shared", petrel.Options{DisableSharedSubscriptions: true}, asking(on("a", 1), on("$share/g/b", 1)), packets.SharedSubscriptionsNotSupported, false},
		{"wildcard #", petrel.Options{DisableWildcardSubscriptions: true}, asking(on("a", 1), on("b/#", 1)), packets.WildcardSubscriptionsNotSupported, false},
		{"wildcard +", petrel.Options{DisableWildcardSubscriptions: true}, asking(on("a", 1), on("+/b", 1)), packets.WildcardSubscriptionsNotSupported, false},
		{"wildcard in a shared filter", petrel.Options{DisableWildcardSubscriptions: true}, asking(on("a", 1), on("$share/g/+", 1)), packets.WildcardSubscriptionsNotSupported, false},
		{"identifier", petrel.Options{DisableSubscriptionIdentifiers: true}, identified(7, asking(on("a", 1))), packets.SubscriptionIdentifiersNotSupported, true},
	} {
		for _, v := range []packets.Version{packets.V311, packets.V5} {
			if tc.only5 && v != packets.V5 {
				continue
			}
			t.Run(tc.name+" in "+v.String(), func(t *testing.T) {
				b := brokertest.New(t, tc.options)
				connect := speaking(v, "c")
				connect.CleanStart, connect.SessionExpiryInterval = false, 100
				if v != packets.V5 {
					connect.SessionExpiryInterval = 0
				}
				c, ack := b.TryConnect(connect)
				c.Subscribe(1, "fine")
				tc.ask.PacketID = 9
				c.Send(&tc.ask)
				if v == packets.V5 {
					require.Equal(t, tc.options.DisableSharedSubscriptions, ack.SharedSubscriptionUnavailable)
					require.Equal(t, tc.options.DisableWildcardSubscriptions, ack.WildcardSubscriptionUnavailable)
					require.Equal(t, tc.options.DisableSubscriptionIdentifiers, ack.SubscriptionIdentifiersUnavailable)
					c.ExpectDisconnect(tc.code)
				} else {
					c.ExpectClosed()
				}
				require.Equal(t, 1, b.Stats().Subscriptions, "nothing of the packet takes effect")
			})
		}
	}
}

func TestNoLocalOnSharedSubscription(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	c := b.Connect(brokertest.Durable("c"))
	p := asking(on("a", 1), packets.Subscription{Filter: []byte("$share/g/b"), NoLocal: true})
	p.PacketID = 1
	c.Send(&p)
	c.ExpectDisconnect(packets.ProtocolError)
	require.Zero(t, b.Stats().Subscriptions)
}

func TestSubscribeRefusedByAuthorizer(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		code packets.ReasonCode
	}{
		{"an error without a code", errors.New("no"), packets.NotAuthorized},
		{"not authorized", packets.NotAuthorized, packets.NotAuthorized},
		{"quota exceeded", fmt.Errorf("why: %w", packets.QuotaExceeded), packets.QuotaExceeded},
		{"filter invalid", &petrel.Refusal{Code: packets.TopicFilterInvalid}, packets.TopicFilterInvalid},
		{"a code that SUBACK does not have", packets.Banned, packets.ImplementationSpecificError},
		{"a panic", nil, packets.NotAuthorized},
	} {
		for _, v := range threeVersions {
			t.Run(tc.name+" in "+v.String(), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{permission(func(r *petrel.AccessRequest) error {
					if r.Action != petrel.Subscribe || r.Topic != "no" {
						return nil
					}
					if tc.err == nil {
						panic("authorizer")
					}
					return tc.err
				})}})
				want := tc.code
				switch v {
				case packets.V311:
					want = packets.UnspecifiedError
				case packets.V31:
					want = 0
				}
				c := b.Connect(speaking(v, "c"))
				require.Equal(t, []packets.ReasonCode{1, want, 2}, c.SubscribeWith(asking(on("yes", 1), on("no", 1), on("also", 2))))
				require.Equal(t, 2, b.Stats().Subscriptions)
				c.Publish("no", "x", packets.AtMostOnce)
				c.ExpectNothing()
			})
		}
	}
}

func TestAuthorizerSeesSubscription(t *testing.T) {
	var mu sync.Mutex
	var asked []petrel.AccessRequest
	b := brokertest.New(t, petrel.Options{DisableQoS2: true, Hooks: []petrel.Hook{permission(func(r *petrel.AccessRequest) error {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, *r)
		asked[len(asked)-1].Client = nil
		return nil
	})}})
	c := b.Connect(brokertest.ID("c"))
	require.Equal(t, []packets.ReasonCode{1, 1, 0x8F}, c.SubscribeWith(asking(on("a/+", 1), on("$share/team/b/#", 2), on("a#", 0))))
	c.Send(&packets.Publish{Topic: []byte("a/b"), Payload: []byte("x")})
	c.ExpectPublish("a/b", "x")
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []petrel.AccessRequest{
		{Action: petrel.Subscribe, Topic: "a/+", QoS: 1},
		{Action: petrel.Subscribe, Topic: "b/#", Share: "team", QoS: 1},
		{Action: petrel.Publish, Topic: "a/b"},
	}, asked, "an invalid filter is not asked about, nor a delivery")
}

// checking lets everybody subscribe, and asks about each delivery to a filter
// for which checked reports true.
func checking(checked func(filter string) bool, mayReceive func(r *petrel.AccessRequest) bool) permission {
	return func(r *petrel.AccessRequest) error {
		switch r.Action {
		case petrel.Subscribe:
			r.CheckDeliveries = checked(r.Topic)
		case petrel.Receive:
			if !mayReceive(r) {
				return packets.NotAuthorized
			}
		}
		return nil
	}
}

func notSecret(r *petrel.AccessRequest) bool { return !strings.Contains(r.Topic, "secret") }

func everyFilter(string) bool { return true }

func TestCheckDeliveriesLive(t *testing.T) {
	for _, v := range threeVersions {
		t.Run(v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{checking(everyFilter, notSecret)}})
			c := b.Connect(speaking(v, "c"))
			p := b.Connect(speaking(v, "p"))
			c.Subscribe(1, "a/#")
			p.Publish("a/secret", "1", packets.AtLeastOnce)
			p.Publish("a/open", "2", packets.AtLeastOnce)
			p.Publish("a/secret", "3", packets.AtMostOnce)
			p.Publish("a/secret", "4", packets.ExactlyOnce)
			require.Equal(t, []string{"2"}, payloads(arrived(t, c)))
			require.Equal(t, uint64(3), b.Stats().Dropped[petrel.DropNotAuthorized])
		})
	}
}

func TestCheckDeliveriesOffline(t *testing.T) {
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{checking(everyFilter, func(r *petrel.AccessRequest) bool {
		return notSecret(r) && r.Client.ID() == "c"
	})}})
	c := b.Connect(brokertest.Durable("c"))
	c.Subscribe(1, "a/#")
	c.Drop()
	p := b.Connect(brokertest.ID("p"))
	p.Publish("a/secret", "1", packets.AtLeastOnce)
	p.Publish("a/open", "2", packets.AtLeastOnce)
	c = b.Connect(brokertest.Durable("c"))
	require.Equal(t, []string{"2"}, payloads(arrived(t, c)))
	require.Equal(t, uint64(1), b.Stats().Dropped[petrel.DropNotAuthorized])
}

func TestCheckDeliveriesRetained(t *testing.T) {
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{checking(everyFilter, notSecret)}})
	p := b.Connect(brokertest.ID("p"))
	for i := range 100 {
		keep(t, p, fmt.Sprintf("a/%02d/open", i), "o")
		keep(t, p, fmt.Sprintf("a/%02d/secret", i), "s")
	}
	c := b.Connect(brokertest.ID("c"))
	c.Subscribe(1, "a/#")
	got := arrived(t, c)
	require.Len(t, got, 100)
	for _, m := range got {
		require.Equal(t, "o", string(m.Payload))
		require.True(t, m.Retain)
	}
	require.Equal(t, uint64(100), b.Stats().Dropped[petrel.DropNotAuthorized])
}

// What is retained while the authorizer is asked about the messages of a new
// subscription must reach it one way or the other.
func TestCheckDeliveriesRetainedMeanwhile(t *testing.T) {
	for _, tc := range []struct {
		name, topic string
	}{
		{"the message that is asked about is replaced", "a/5"},
		{"a new topic behind the one that is asked about", "a/9"},
		{"a new topic before the one that is asked about", "a/1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b *brokertest.Broker
			var asked atomic.Bool
			b = brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{checking(everyFilter, func(r *petrel.AccessRequest) bool {
				if asked.CompareAndSwap(false, true) {
					err := b.Publish(context.Background(), petrel.Message{Topic: tc.topic, Payload: []byte("new"), QoS: 1, Retain: true})
					if err != nil {
						t.Error(err)
					}
				}
				return true
			})}})
			keep(t, b.Connect(brokertest.ID("p")), "a/5", "old")
			c := b.Connect(brokertest.ID("c"))
			c.Subscribe(1, "a/#")
			n := 0
			for _, m := range arrived(t, c) {
				if string(m.Topic) == tc.topic && string(m.Payload) == "new" {
					n++
				}
			}
			require.Equal(t, 1, n, "copies of the new message")
		})
	}
}

func TestCheckDeliveriesOverlapping(t *testing.T) {
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{checking(func(f string) bool { return f == "a/#" }, notSecret)}})
	c := b.Connect(brokertest.ID("c"))
	c.SubscribeWith(identified(1, asking(on("a/#", 2))))
	c.SubscribeWith(identified(2, asking(on("a/+", 1))))
	p := b.Connect(brokertest.ID("p"))
	p.Publish("a/secret", "1", packets.ExactlyOnce)
	p.Publish("a/open", "2", packets.ExactlyOnce)
	p.Publish("a/secret/deep", "3", packets.ExactlyOnce)
	got := arrived(t, c)
	require.Equal(t, []string{"1", "2"}, payloads(got))
	require.Equal(t, []uint32{2}, got[0].SubscriptionIDs, "only the subscription that was not refused counts")
	require.Equal(t, packets.AtLeastOnce, got[0].QoS)
	require.Equal(t, []uint32{1, 2}, sortedIDs(got[1]))
	require.Equal(t, packets.ExactlyOnce, got[1].QoS)
}

func TestCheckDeliveriesShared(t *testing.T) {
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{checking(everyFilter, func(r *petrel.AccessRequest) bool {
		return r.Client.ID() == "trusted" || notSecret(r)
	})}})
	trusted, other := b.Connect(brokertest.ID("trusted")), b.Connect(brokertest.ID("other"))
	other.Subscribe(1, "$share/g/a/#")
	trusted.Subscribe(1, "$share/g/a/#")
	p := b.Connect(brokertest.ID("p"))
	for range 10 {
		p.Publish("a/secret", "s", packets.AtLeastOnce)
	}
	require.Len(t, arrived(t, trusted), 10)
	other.ExpectNothing()

	trusted.Leave(packets.NormalDisconnection)
	p.Publish("a/secret", "s", packets.AtLeastOnce)
	p.Publish("a/open", "o", packets.AtLeastOnce)
	require.Equal(t, []string{"o"}, payloads(arrived(t, other)))
}

func TestDeliveredQoSIsTheLowerOfBoth(t *testing.T) {
	for published := packets.AtMostOnce; published <= packets.ExactlyOnce; published++ {
		for granted := packets.AtMostOnce; granted <= packets.ExactlyOnce; granted++ {
			t.Run(fmt.Sprintf("published %v, granted %v", published, granted), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				p := b.Connect(brokertest.ID("p"))
				p.PublishWith(packets.Publish{Topic: []byte("kept"), Payload: []byte("r"), QoS: published, Retain: true})
				c := b.Connect(brokertest.ID("c"))
				c.Subscribe(granted, "live", "kept")
				r := c.ExpectPublish("kept", "r")
				require.Equal(t, min(published, granted), r.QoS, "retained")
				c.Accept(r)
				p.Publish("live", "l", published)
				l := c.ExpectPublish("live", "l")
				require.Equal(t, min(published, granted), l.QoS, "live")
				c.Accept(l)
				c.ExpectNothing()
			})
		}
	}
}

func TestGrantedQoSWithQoSDisabled(t *testing.T) {
	for _, tc := range []struct {
		name    string
		options petrel.Options
		most    packets.QoS
	}{
		{"QoS 2", petrel.Options{DisableQoS2: true}, packets.AtLeastOnce},
		{"QoS 1", petrel.Options{DisableQoS1: true}, packets.AtMostOnce},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := brokertest.New(t, tc.options)
			c := b.Connect(brokertest.ID("c"))
			for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
				require.Equal(t, []packets.ReasonCode{packets.ReasonCode(min(qos, tc.most))}, c.SubscribeWith(asking(on("a", qos))))
			}
			require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "a", QoS: 2}))
			require.Equal(t, tc.most, c.ExpectPublish("a", "").QoS)
		})
	}
}

func TestOverlappingSubscriptions(t *testing.T) {
	subscribe := func(c *brokertest.Client) {
		c.SubscribeWith(identified(11, asking(on("a/#", 1))))
		c.SubscribeWith(identified(22, asking(on("a/+", 2))))
		c.SubscribeWith(asking(on("a/b", 0)))
		c.SubscribeWith(identified(11, asking(on("+/b", 0))))
		c.SubscribeWith(identified(33, asking(on("other", 2))))
	}
	t.Run("one copy at the highest QoS with all identifiers", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c := b.Connect(brokertest.ID("c"))
		subscribe(c)
		b.Connect(brokertest.ID("p")).Publish("a/b", "x", packets.ExactlyOnce)
		got := arrived(t, c)
		require.Len(t, got, 1)
		require.Equal(t, packets.ExactlyOnce, got[0].QoS)
		require.Equal(t, []uint32{11, 22}, slices.Compact(sortedIDs(got[0])))
	})
	t.Run("one copy for a 3.1.1 client", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c := b.Connect(speaking(packets.V311, "c"))
		c.Subscribe(0, "a/#")
		c.Subscribe(1, "a/+", "a/b")
		b.Connect(brokertest.ID("p")).Publish("a/b", "x", packets.ExactlyOnce)
		got := arrived(t, c)
		require.Len(t, got, 1)
		require.Equal(t, packets.AtLeastOnce, got[0].QoS)
	})
	t.Run("the copy keeps RETAIN if one of them asks for it", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c := b.Connect(brokertest.ID("c"))
		c.SubscribeWith(asking(on("a/#", 1), packets.Subscription{Filter: []byte("a/b"), RetainAsPublished: true}, on("+/b", 2)))
		keep(t, b.Connect(brokertest.ID("p")), "a/b", "x")
		got := arrived(t, c)
		require.Len(t, got, 1)
		require.True(t, got[0].Retain)
	})
	t.Run("DeliverPerSubscription: a copy for each", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{DeliverPerSubscription: true})
		c := b.Connect(brokertest.ID("c"))
		subscribe(c)
		b.Connect(brokertest.ID("p")).Publish("a/b", "x", packets.ExactlyOnce)
		var got []string
		for _, p := range arrived(t, c) {
			got = append(got, fmt.Sprint(p.QoS, p.SubscriptionIDs))
		}
		require.ElementsMatch(t, []string{"QoS 1 [11]", "QoS 2 [22]", "QoS 0 []", "QoS 0 [11]"}, got)
	})
	t.Run("many overlapping sessions", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		var clients []*brokertest.Client
		for i := range 40 {
			c := b.Connect(brokertest.ID(fmt.Sprint("c", i)))
			for j, filter := range []string{"a/b", "a/+", "a/#", "#", "+/b"} {
				if i>>j&1 == 1 {
					c.SubscribeWith(identified(uint32(j+1), asking(on(filter, packets.QoS(j%3)))))
				}
			}
			clients = append(clients, c)
		}
		p := b.Connect(brokertest.ID("p"))
		for range 3 {
			p.Publish("a/b", "x", packets.ExactlyOnce)
		}
		for i, c := range clients {
			set := i & 31
			got := arrived(t, c)
			if set == 0 {
				require.Empty(t, got)
				continue
			}
			require.Len(t, got, 3)
			for _, m := range got {
				require.Len(t, m.SubscriptionIDs, bits.OnesCount(uint(set)))
				for _, id := range m.SubscriptionIDs {
					require.NotZero(t, set>>(id-1)&1)
				}
			}
		}
	})
}

func TestSubscriptionIdentifier(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	p := b.Connect(brokertest.ID("p"))
	keep(t, p, "a", "r")
	c := b.Connect(brokertest.ID("c"))
	plain := b.Connect(brokertest.ID("plain"))
	plain.SubscribeWith(asking(packets.Subscription{Filter: []byte("a"), RetainHandling: 2}))
	old := b.Connect(speaking(packets.V311, "old"))
	old.Subscribe(0, "a")
	old.ExpectPublish("a", "r")

	for _, tc := range []struct {
		name string
		id   uint32
	}{
		{"the smallest", 1}, {"another replaces it", 127}, {"of two bytes", 128}, {"the largest", 268435455},
		{"removed by a SUBSCRIBE without one", 0}, {"back again", 5},
	} {
		var want []uint32
		if tc.id != 0 {
			want = []uint32{tc.id}
		}
		c.SubscribeWith(identified(tc.id, asking(on("a", 0))))
		require.Equal(t, want, c.ExpectPublish("a", "r").SubscriptionIDs, "%s, retained", tc.name)
		p.Publish("a", "l", packets.AtLeastOnce)
		require.Equal(t, want, c.ExpectPublish("a", "l").SubscriptionIDs, "%s, live", tc.name)
		require.Empty(t, plain.ExpectPublish("a", "l").SubscriptionIDs, "that of another client")
		old.ExpectPublish("a", "l")
	}
	c.ExpectNothing()
}

func TestSubscriptionIdentifierOfQueuedAndResentMessages(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	p := b.Connect(brokertest.ID("p"))
	c := b.Connect(brokertest.Durable("c"))
	c.SubscribeWith(identified(9, asking(on("a", 1))))
	p.Publish("a", "sent", packets.AtLeastOnce)
	c.ExpectPublish("a", "sent")
	c.Drop()
	p.Publish("a", "queued", packets.AtLeastOnce)
	c = b.Connect(brokertest.Durable("c"))
	require.Equal(t, []uint32{9}, c.ExpectPublish("a", "sent").SubscriptionIDs)
	require.Equal(t, []uint32{9}, c.ExpectPublish("a", "queued").SubscriptionIDs)
}

func TestNoLocal(t *testing.T) {
	local := func(filter string) packets.Subscription {
		return packets.Subscription{Filter: []byte(filter), QoS: 1, NoLocal: true}
	}
	t.Run("own messages do not come back, those of others do", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c, other := b.Connect(brokertest.ID("c")), b.Connect(brokertest.ID("other"))
		c.SubscribeWith(asking(local("a")))
		c.Publish("a", "own", packets.AtLeastOnce)
		other.Publish("a", "foreign", packets.AtLeastOnce)
		require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "a", Payload: []byte("host")}))
		require.Equal(t, []string{"foreign", "host"}, payloads(arrived(t, c)))
	})
	t.Run("only the match with No Local is dropped", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c := b.Connect(brokertest.ID("c"))
		c.SubscribeWith(identified(1, asking(local("a/#"))))
		c.SubscribeWith(identified(2, asking(on("a/b", 0))))
		c.Send(&packets.Publish{Topic: []byte("a/b"), Payload: []byte("x")})
		got := arrived(t, c)
		require.Len(t, got, 1)
		require.Equal(t, []uint32{2}, got[0].SubscriptionIDs)
		require.Equal(t, packets.AtMostOnce, got[0].QoS)
	})
	t.Run("the client identifier counts, not the connection", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c := b.Connect(brokertest.Durable("c"))
		c.SubscribeWith(asking(local("a")))
		c.Drop()
		c = b.Connect(brokertest.Durable("c"))
		c.Publish("a", "x", packets.AtLeastOnce)
		c.ExpectNothing()
	})
	t.Run("own will", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		with := brokertest.Durable("c")
		with.HasWill, with.Will = true, packets.Will{Topic: []byte("a"), Payload: []byte("will"), QoS: 1}
		c := b.Connect(with)
		c.SubscribeWith(asking(local("a")))
		watcher := b.Connect(brokertest.ID("watcher"))
		watcher.Subscribe(0, "a")
		c.Drop()
		watcher.ExpectPublish("a", "will")
		c = b.Connect(brokertest.Durable("c"))
		c.ExpectNothing()
	})
	t.Run("own retained message", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c, other := b.Connect(brokertest.ID("c")), b.Connect(brokertest.ID("other"))
		keep(t, c, "a/own", "x")
		keep(t, other, "a/foreign", "y")
		c.SubscribeWith(asking(local("a/#")))
		require.Equal(t, []string{"y"}, payloads(arrived(t, c)))
	})
	t.Run("a new SUBSCRIBE switches it off and on", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c := b.Connect(brokertest.ID("c"))
		c.SubscribeWith(asking(local("a")))
		c.SubscribeWith(asking(on("a", 0)))
		c.Send(&packets.Publish{Topic: []byte("a"), Payload: []byte("1")})
		require.Equal(t, []string{"1"}, payloads(arrived(t, c)))
		c.SubscribeWith(asking(local("a")))
		c.Publish("a", "2", packets.AtLeastOnce)
		c.ExpectNothing()
	})
}

func TestRetainAsPublished(t *testing.T) {
	as := func(asPublished bool) packets.Subscription {
		return packets.Subscription{Filter: []byte("a"), QoS: 1, RetainAsPublished: asPublished, RetainHandling: 2}
	}
	for _, retain := range []bool{false, true} {
		for _, offline := range []bool{false, true} {
			t.Run(fmt.Sprintf("published with retain %v, receiver offline %v", retain, offline), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				keeps, clears := b.Connect(brokertest.Durable("keeps")), b.Connect(brokertest.Durable("clears"))
				old := b.Connect(packets.Connect{Version: packets.V311, ClientID: []byte("old")})
				keeps.SubscribeWith(asking(as(true)))
				clears.SubscribeWith(asking(as(false)))
				old.Subscribe(1, "a")
				if offline {
					keeps.Drop()
					clears.Drop()
					old.Drop()
				}
				b.Connect(brokertest.ID("p")).PublishWith(packets.Publish{Topic: []byte("a"), Payload: []byte("x"), QoS: 1, Retain: retain})
				if offline {
					keeps, clears = b.Connect(brokertest.Durable("keeps")), b.Connect(brokertest.Durable("clears"))
					old = b.Connect(packets.Connect{Version: packets.V311, ClientID: []byte("old")})
				}
				require.Equal(t, retain, keeps.ExpectPublish("a", "x").Retain)
				require.False(t, clears.ExpectPublish("a", "x").Retain)
				require.False(t, old.ExpectPublish("a", "x").Retain)
			})
		}
	}
}

func TestRetainHandling(t *testing.T) {
	for handling := byte(0); handling <= 2; handling++ {
		ask := func(c *brokertest.Client) []string {
			c.SubscribeWith(asking(packets.Subscription{Filter: []byte("a/#"), QoS: 0, RetainHandling: handling}))
			return payloads(arrived(t, c))
		}
		begin := func(t *testing.T) (*brokertest.Broker, *brokertest.Client) {
			b := brokertest.New(t, petrel.Options{})
			keep(t, b.Connect(brokertest.ID("p")), "a/b", "r")
			return b, b.Connect(brokertest.Durable("c"))
		}
		sent := func(yes bool) []string {
			if yes {
				return []string{"r"}
			}
			return []string{}
		}
		name := func(s string) string { return fmt.Sprintf("handling %d: %s", handling, s) }
		t.Run(name("new, then existing, then new again"), func(t *testing.T) {
			_, c := begin(t)
			require.Equal(t, sent(handling < 2), ask(c), "new")
			require.Equal(t, sent(handling == 0), ask(c), "existing")
			c.Unsubscribe("a/#")
			require.Equal(t, sent(handling < 2), ask(c), "after UNSUBSCRIBE")
		})
		t.Run(name("resumed session has the subscription"), func(t *testing.T) {
			b, c := begin(t)
			ask(c)
			c.Drop()
			c = b.Connect(brokertest.Durable("c"))
			c.ExpectNothing() // a resumed session is sent nothing by itself
			require.Equal(t, sent(handling == 0), ask(c))
		})
		t.Run(name("session that was discarded"), func(t *testing.T) {
			b, c := begin(t)
			ask(c)
			c.Drop()
			c = b.Connect(brokertest.ID("c"))
			require.Equal(t, sent(handling < 2), ask(c))
		})
		t.Run(name("another filter with the same messages is new"), func(t *testing.T) {
			_, c := begin(t)
			c.SubscribeWith(asking(packets.Subscription{Filter: []byte("a/b"), RetainHandling: 2}))
			require.Equal(t, sent(handling < 2), ask(c))
		})
	}
	for _, v := range []packets.Version{packets.V31, packets.V311} {
		t.Run("each SUBSCRIBE of "+v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			keep(t, b.Connect(brokertest.ID("p")), "a/b", "r")
			c := b.Connect(speaking(v, "c"))
			for range 3 {
				c.Subscribe(0, "a/#")
				c.ExpectPublish("a/b", "r")
				c.ExpectNothing()
			}
		})
	}
}

// A SUBSCRIBE that replaces a subscription must not make a message come twice or
// not at all, whatever moment it comes at.
func TestResubscribeNeitherLosesNorDuplicates(t *testing.T) {
	const messages = 2000
	for _, filter := range []string{"a", "a/#", "+", "$share/g/a"} {
		t.Run(filter, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			c := b.Connect(brokertest.ID("c"))
			c.Subscribe(1, filter)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := range messages {
					if err := b.Publish(context.Background(), petrel.Message{Topic: "a", Payload: fmt.Append(nil, i), QoS: 1}); err != nil {
						t.Error(err)
						return
					}
				}
			}()
			next, subscribed := 0, true
			for next < messages {
				if subscribed {
					p := asking(on(filter, packets.QoS(1+next%2)))
					p.PacketID, p.SubscriptionID, subscribed = c.ID(), uint32(next+1), false
					c.Send(&p)
				}
				switch p := c.Receive().(type) {
				case *packets.Publish:
					require.Equal(t, fmt.Sprint(next), string(p.Payload))
					next++
					c.Send(&packets.Puback{PacketID: p.PacketID})
				case *packets.Suback:
					subscribed = true
				}
			}
			<-done
			for !subscribed {
				_, subscribed = c.Receive().(*packets.Suback)
			}
			c.ExpectNothing()
			require.Empty(t, b.Stats().Dropped)
		})
	}
}

func TestUnsubscribe(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	c := b.Connect(brokertest.ID("c"))
	c.Subscribe(1, "a", "b/#", "$share/g/a", "$share/h/a")
	require.Equal(t, []packets.ReasonCode{0x00, 0x11, 0x11, 0x8F, 0x00, 0x8F, 0x11},
		c.Unsubscribe("a", "b", "b/+", "b#", "$share/g/a", "$share/g", "$share/g/a"))
	require.Equal(t, 2, b.Stats().Subscriptions)
	require.Equal(t, 1, b.Stats().SharedSubscription)
	p := b.Connect(brokertest.ID("p"))
	p.Publish("a", "1", packets.AtLeastOnce)
	p.Publish("b/c", "2", packets.AtLeastOnce)
	require.ElementsMatch(t, []string{"1", "2"}, payloads(arrived(t, c)), "by $share/h/a and b/#")
	require.Equal(t, []packets.ReasonCode{0, 0}, c.Unsubscribe("b/#", "$share/h/a"))
	p.Publish("a", "3", packets.AtLeastOnce)
	p.Publish("b/c", "4", packets.AtLeastOnce)
	c.ExpectNothing()
	require.Equal(t, []packets.ReasonCode{0x11}, c.Unsubscribe("b/#"))
	require.Zero(t, b.Stats().Subscriptions)
}

func TestUnsubscribeFinishesWhatIsInFlight(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	c := b.Connect(brokertest.Durable("c"))
	c.Subscribe(2, "a")
	p := b.Connect(brokertest.ID("p"))
	p.Publish("a", "1", packets.ExactlyOnce)
	first := c.ExpectPublish("a", "1")
	require.Equal(t, []packets.ReasonCode{0}, c.Unsubscribe("a"))
	c.Drop()
	c = b.Connect(brokertest.Durable("c"))
	again := c.ExpectPublish("a", "1")
	require.True(t, again.Dup)
	require.Equal(t, first.PacketID, again.PacketID)
	c.Accept(again)
	c.ExpectNothing()
	require.Zero(t, b.Stats().MessageBytes)
}

func TestManySubscriptionsOfOneSession(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	c := b.Connect(brokertest.ID("c"))
	filters := brokertest.Topics("t", 60)
	c.Subscribe(1, filters...)
	c.Unsubscribe(filters[:30]...)
	c.Subscribe(2, filters[20:50]...)
	require.Equal(t, 40, b.Stats().Subscriptions)
	for i, filter := range filters {
		want := packets.NoSubscriptionExisted
		if i >= 20 {
			want = packets.Success
		}
		require.Equal(t, []packets.ReasonCode{want}, c.Unsubscribe(filter), filter)
	}
	require.Zero(t, b.Stats().Subscriptions)
}

// The bytes on the wire: a client of an older version takes a longer UNSUBACK
// for the beginning of the next packet.
func TestUnsubackOnTheWire(t *testing.T) {
	for _, tc := range []struct {
		name                         string
		connect, connack             []byte
		unsubscribe, unsuback, after []byte
	}{
		{"3.1", []byte("\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a"), []byte{0x20, 2, 0, 0},
			[]byte("\xa2\x08\x00\x02\x00\x01a\x00\x01b"), []byte{0xB0, 2, 0, 2}, []byte{0xD0, 0}},
		{"3.1, resent with DUP", []byte("\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a"), []byte{0x20, 2, 0, 0},
			[]byte("\xaa\x08\x00\x02\x00\x01a\x00\x01b"), []byte{0xB0, 2, 0, 2}, []byte{0xD0, 0}},
		{"3.1.1", []byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"), []byte{0x20, 2, 0, 0},
			[]byte("\xa2\x08\x00\x02\x00\x01a\x00\x01b"), []byte{0xB0, 2, 0, 2}, []byte{0xD0, 0}},
		{"5.0", []byte("\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a"), nil,
			[]byte("\xa2\x09\x00\x02\x00\x00\x01a\x00\x01b"), []byte{0xB0, 5, 0, 2, 0, 0x11, 0x11}, []byte{0xD0, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			conn, server := net.Pipe()
			done := make(chan error, 1)
			go func() { done <- b.ServeConn(server) }()
			say := func(p []byte) {
				_, err := conn.Write(p)
				require.NoError(t, err)
			}
			hear := func(n int) []byte {
				p := make([]byte, n)
				_, err := io.ReadFull(conn, p)
				require.NoError(t, err)
				return p
			}
			say(tc.connect)
			if head := hear(2); tc.connack != nil {
				require.Equal(t, tc.connack, append(head, hear(int(head[1]))...))
			} else {
				hear(int(head[1]))
			}
			say(tc.unsubscribe)
			require.Equal(t, tc.unsuback, hear(len(tc.unsuback)))
			say([]byte{0xC0, 0})
			require.Equal(t, tc.after, hear(2))
			conn.Close()
			<-done
		})
	}
}

func TestSubackThenRetainedThenLive(t *testing.T) {
	for _, v := range threeVersions {
		t.Run(v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			p := b.Connect(brokertest.ID("p"))
			for i := range 50 {
				keep(t, p, fmt.Sprintf("a/%02d", i), "r")
			}
			c := b.Connect(speaking(v, "c"))
			ask := asking(on("a/#", 1))
			ask.PacketID = 7
			// In one piece: what the client publishes itself is live.
			c.Send(&ask, &packets.Publish{Topic: []byte("a/x"), Payload: []byte("l")}, &packets.Pingreq{})
			require.Equal(t, uint16(7), brokertest.Expect[*packets.Suback](c).PacketID)
			for i := range 50 {
				require.True(t, c.ExpectPublish(fmt.Sprintf("a/%02d", i), "r").Retain)
			}
			require.False(t, c.ExpectPublish("a/x", "l").Retain)
			brokertest.Expect[*packets.Pingresp](c)
		})
	}
}

func TestFilterMatching(t *testing.T) {
	for _, tc := range []struct {
		filter  string
		matches []string
		others  []string
	}{
		{"#", []string{"a", "/", "a/b/c", "a//"}, []string{"$SYS/x", "$x", "$"}},
		{"+", []string{"a", "b"}, []string{"a/b", "/a", "$x"}},
		{"+/x", []string{"a/x", "/x"}, []string{"$SYS/x", "x", "a/b/x"}},
		{"+/#", []string{"a", "a/b", "/"}, []string{"$x/y", "$x"}},
		{"$x/#", []string{"$x", "$x/y", "$x/y/z"}, []string{"x", "$xx/y"}},
		{"$x/+", []string{"$x/y", "$x/"}, []string{"$x"}},
		{"a/#", []string{"a", "a/", "a/b/c"}, []string{"ab", "A/b", "/a"}},
		{"a/+", []string{"a/", "a/b"}, []string{"a", "a/b/c"}},
		{"a/+/#", []string{"a/b", "a/b/c", "a//"}, []string{"a"}},
		{"/a", []string{"/a"}, []string{"a", "//a"}},
		{"/+", []string{"/a", "/"}, []string{"a", "/a/b"}},
		{"a//b", []string{"a//b"}, []string{"a/b"}},
		{"+/+", []string{"/a", "a/b", "/"}, []string{"a"}},
	} {
		for _, prefix := range []string{"", "$share/g/"} {
			t.Run(prefix+tc.filter, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				c := b.Connect(brokertest.ID("c"))
				c.Subscribe(1, prefix+tc.filter)
				p := b.Connect(brokertest.ID("p"))
				for _, topic := range slices.Concat(tc.matches, tc.others) {
					if strings.HasPrefix(topic, "$SYS") { // a client may not
						require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: topic, Payload: []byte(topic), Retain: true}))
						continue
					}
					keep(t, p, topic, topic)
				}
				require.ElementsMatch(t, tc.matches, payloads(arrived(t, c)), "live")
				if prefix == "" {
					late := b.Connect(brokertest.ID("late"))
					late.Subscribe(0, tc.filter)
					require.ElementsMatch(t, tc.matches, payloads(arrived(t, late)), "retained")
				}
			})
		}
	}
}

// subscriptionJournal remembers what a SubscriptionObserver is told.
type subscriptionJournal struct {
	mu    sync.Mutex
	lines []string
}

var _ petrel.SubscriptionObserver = (*subscriptionJournal)(nil)

func (l *subscriptionJournal) Subscribed(c *petrel.Client, s petrel.Subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf("%s + %+v", c.ID(), s))
}

func (l *subscriptionJournal) Unsubscribed(c *petrel.Client, filter string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, c.ID()+" - "+filter)
}

func TestSubscriptionObserver(t *testing.T) {
	var log subscriptionJournal
	b := brokertest.New(t, petrel.Options{MaximumSubscriptions: 2, Hooks: []petrel.Hook{&log}})
	c := b.Connect(brokertest.ID("c"))
	c.SubscribeWith(identified(4, asking(
		packets.Subscription{Filter: []byte("a"), QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 1},
		on("b#", 0), on("$share/g/c", 1), on("d", 1))))
	c.Unsubscribe("a", "x", "b#")
	c.Drop() // the end of a session is no UNSUBSCRIBE
	log.mu.Lock()
	defer log.mu.Unlock()
	require.Equal(t, []string{
		"c + {Filter:a QoS:QoS 2 NoLocal:true RetainAsPublished:true RetainHandling:1 Identifier:4}",
		"c + {Filter:$share/g/c QoS:QoS 1 NoLocal:false RetainAsPublished:false RetainHandling:0 Identifier:4}",
		"c - a",
	}, log.lines)
}

func TestSubscriptionsEndWithTheSession(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	c := b.Connect(brokertest.ID("c"))
	c.Subscribe(1, "a", "$share/g/a")
	d := b.Connect(brokertest.Durable("d"))
	d.Subscribe(1, "a", "$share/g/a")
	c.Drop()
	d.Drop()
	require.Equal(t, 2, b.Stats().Subscriptions)
	require.Equal(t, 1, b.Stats().SharedGroups)
	b.Connect(brokertest.ID("d")).ExpectNothing() // a clean start
	require.Zero(t, b.Stats().Subscriptions)
	require.Zero(t, b.Stats().SharedGroups)
}
