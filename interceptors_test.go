package petrel_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// tenant gives each user topics of its own, which the user does not see: what
// "anna" calls "door" is "anna/door" to the broker.
type tenant struct{}

func (tenant) Authenticate(context.Context, *petrel.ConnectRequest) error { return nil }

func (tenant) InterceptPublish(_ context.Context, r *petrel.PublishRequest) error {
	r.Message.Topic = r.Client.Identity() + "/" + r.Message.Topic
	return nil
}

func (tenant) InterceptSubscribe(_ context.Context, r *petrel.SubscribeRequest) error {
	r.Subscription.Filter = r.Client.Identity() + "/" + r.Subscription.Filter
	return nil
}

func (tenant) InterceptDeliver(_ context.Context, r *petrel.DeliverRequest) error {
	_, topic, ok := strings.Cut(r.Message.Topic, "/")
	if !ok {
		return errors.New("no tenant")
	}
	r.Message.Topic = topic
	return nil
}

func as(user, id string) packets.Connect {
	p := brokertest.Durable(id)
	p.HasUserName, p.UserName = true, []byte(user)
	return p
}

func TestTenantsSeeTheirOwnTopicsOnly(t *testing.T) {
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{tenant{}}})
	anna, otto := b.Connect(as("anna", "a")), b.Connect(as("otto", "o"))
	otto.Subscribe(1, "#")
	anna.Subscribe(1, "door")
	anna.PublishWith(packets.Publish{Topic: []byte("lamp"), Payload: []byte("kept"), QoS: 1, Retain: true})
	anna.Publish("other", "x", 1)
	anna.Subscribe(1, "lamp")
	p := anna.ExpectPublish("lamp", "kept") // a retained one goes the same way
	require.True(t, p.Retain)
	anna.Accept(p)

	host := petrel.Message{Topic: "anna/door", Payload: []byte("open"), QoS: 1}
	require.NoError(t, b.Publish(t.Context(), host))
	anna.Accept(anna.ExpectPublish("door", "open"))

	// What waits for a session was changed before it waited.
	anna.Drop()
	require.NoError(t, b.Publish(t.Context(), host))
	anna = b.Connect(as("anna", "a"))
	anna.Accept(anna.ExpectPublish("door", "open"))

	require.Equal(t, []packets.ReasonCode{packets.Success, packets.NoSubscriptionExisted}, anna.Unsubscribe("door", "anna/door"))
	require.NoError(t, b.Publish(t.Context(), host))
	anna.ExpectNothing()
	otto.ExpectNothing()
	var kept []string
	for m := range b.Retained("#") {
		kept = append(kept, m.Topic)
	}
	require.Equal(t, []string{"anna/lamp"}, kept)
}

// subscribeHook is a SubscribeInterceptor made of a function.
type subscribeHook func(r *petrel.SubscribeRequest) error

func (f subscribeHook) InterceptSubscribe(_ context.Context, r *petrel.SubscribeRequest) error {
	return f(r)
}

func TestSubscribeInterceptorChangesAndRefuses(t *testing.T) {
	deny := petrel.AuthorizerFunc(func(_ context.Context, r *petrel.AccessRequest) error {
		if r.Topic == "forbidden" {
			return packets.NotAuthorized
		}
		return nil
	})
	for _, tc := range []struct {
		name string
		hook subscribeHook
		want packets.ReasonCode
		got  petrel.Subscription // what an observer is told, if it is granted
	}{
		{"nothing", func(*petrel.SubscribeRequest) error { return nil }, packets.GrantedQoS2, petrel.Subscription{Filter: "a", QoS: 2, Identifier: 7}},
		{"lower qos and other options", func(r *petrel.SubscribeRequest) error {
			r.Subscription.QoS, r.Subscription.NoLocal, r.Subscription.RetainHandling, r.Subscription.Identifier = 1, true, 2, 0
			return nil
		}, packets.GrantedQoS1, petrel.Subscription{Filter: "a", QoS: 1, NoLocal: true, RetainHandling: 2}},
		{"a reason code", func(*petrel.SubscribeRequest) error { return packets.QuotaExceeded }, packets.QuotaExceeded, petrel.Subscription{}},
		{"any error", func(*petrel.SubscribeRequest) error { return errors.New("no") }, packets.NotAuthorized, petrel.Subscription{}},
		{"a panic", func(*petrel.SubscribeRequest) error { panic("as the test wants") }, packets.NotAuthorized, petrel.Subscription{}},
		{"a filter that is authorised again", func(r *petrel.SubscribeRequest) error {
			r.Subscription.Filter = "forbidden"
			return nil
		}, packets.NotAuthorized, petrel.Subscription{}},
		{"an invalid filter", func(r *petrel.SubscribeRequest) error {
			r.Subscription.Filter = "a#"
			return nil
		}, packets.ImplementationSpecificError, petrel.Subscription{}},
		{"an impossible qos", func(r *petrel.SubscribeRequest) error {
			r.Subscription.QoS = 3
			return nil
		}, packets.ImplementationSpecificError, petrel.Subscription{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seen := make(grantedLog, 1)
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{deny, tc.hook, seen}})
			c := b.Connect(brokertest.ID("c"))
			codes := c.SubscribeWith(packets.Subscribe{SubscriptionID: 7, Subscriptions: packets.Subscriptions(nil).
				Append(packets.Subscription{Filter: []byte("a"), QoS: 2})})
			require.Equal(t, []packets.ReasonCode{tc.want}, codes)
			c.ExpectNothing()
			if tc.want.IsError() {
				require.Empty(t, seen)
				require.Zero(t, b.Stats().Subscriptions)
				return
			}
			require.Equal(t, tc.got, <-seen)
		})
	}
}

type grantedLog chan petrel.Subscription

func (l grantedLog) Subscribed(_ *petrel.Client, s petrel.Subscription) { l <- s }
func (l grantedLog) Unsubscribed(*petrel.Client, string)                {}

// deliverHook is a DeliverInterceptor made of a function.
type deliverHook func(r *petrel.DeliverRequest) error

func (f deliverHook) InterceptDeliver(_ context.Context, r *petrel.DeliverRequest) error { return f(r) }

func TestDeliverInterceptorConcernsOneReceiver(t *testing.T) {
	for _, tc := range []struct {
		name    string
		hook    deliverHook
		payload string // what one gets; the other always gets the original
		drop    petrel.DropReason
	}{
		{"changed payload", func(r *petrel.DeliverRequest) error { r.Message.Payload = []byte("for one"); return nil }, "for one", 0},
		{"an error", func(*petrel.DeliverRequest) error { return errors.New("no") }, "", petrel.DropIntercepted},
		{"a panic", func(*petrel.DeliverRequest) error { panic("as the test wants") }, "", petrel.DropIntercepted},
		{"an invalid topic", func(r *petrel.DeliverRequest) error { r.Message.Topic = "a/#"; return nil }, "", petrel.DropIntercepted},
	} {
		t.Run(tc.name, func(t *testing.T) {
			hook := deliverHook(func(r *petrel.DeliverRequest) error {
				if r.ClientID != "one" {
					return nil
				}
				return tc.hook(r)
			})
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{hook}})
			one, two := b.Connect(brokertest.ID("one")), b.Connect(brokertest.ID("two"))
			one.Subscribe(1, "a")
			two.Subscribe(1, "a")
			two.Publish("b", "", 0)
			require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "a", Payload: []byte("for all"), QoS: 1}))
			two.Accept(two.ExpectPublish("a", "for all"))
			if tc.drop != 0 {
				one.ExpectNothing()
				require.EqualValues(t, 1, b.Stats().Dropped[tc.drop])
				return
			}
			one.Accept(one.ExpectPublish("a", tc.payload))
		})
	}
}

// selectHook is a SharedSelector made of a function.
type selectHook func(r *petrel.SelectRequest) int

func (f selectHook) SelectMember(_ context.Context, r *petrel.SelectRequest) int { return f(r) }

func TestSharedSelector(t *testing.T) {
	var last petrel.SelectRequest
	choice := 1
	hook := selectHook(func(r *petrel.SelectRequest) int {
		last = *r
		last.Members = append([]petrel.Member(nil), r.Members...)
		if choice == 99 {
			panic("as the test wants")
		}
		return choice
	})
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{hook}})
	one, two := b.Connect(brokertest.Durable("one")), b.Connect(brokertest.Durable("two"))
	one.Subscribe(1, "$share/g/a/+")
	two.Subscribe(1, "$share/g/a/+")
	pub := b.Connect(brokertest.ID("pub"))

	pub.Publish("a/b", "1", 1)
	pub.Publish("a/b", "2", 1)
	two.ExpectPublish("a/b", "1")
	two.ExpectPublish("a/b", "2")
	require.Equal(t, petrel.SelectRequest{Share: "g", Filter: "a/+", Topic: "a/b", QoS: 1, Members: []petrel.Member{
		{ClientID: "one", Connected: true}, {ClientID: "two", Connected: true, Inflight: 1},
	}}, last)

	for _, choice = range []int{-1, 2, 99} { // no choice, nonsense, a panic
		pub.Publish("a/b", "any", 1)
	}
	got := 0
	for _, c := range []*brokertest.Client{one, two} {
		c.Send(&packets.Pingreq{})
		for {
			if _, ok := c.Receive().(*packets.Pingresp); ok {
				break
			}
			got++
		}
	}
	require.Equal(t, 3, got)

	_, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{tenant{}, hook, hook}})
	require.ErrorContains(t, err, "second SharedSelector")
}
