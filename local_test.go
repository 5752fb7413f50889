package petrel_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// inbox collects what a subscription of the host gets.
type inbox struct {
	mu   sync.Mutex
	list []*petrel.Message
}

func (in *inbox) handle(_ context.Context, m *petrel.Message) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.list = append(in.list, m)
}

// payloads are what has come, when everything has.
func (in *inbox) payloads() (all []string) {
	synctest.Wait()
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, m := range in.list {
		all = append(all, string(m.Payload))
	}
	return all
}

// inBubble runs a test of a broker in a synctest bubble.
func inBubble(t *testing.T, o petrel.Options, f func(t *testing.T, b *brokertest.Broker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, o)
		f(t, b)
	})
}

func mustSubscribe(t *testing.T, b *brokertest.Broker, filter string, o petrel.SubscribeOptions, h func(context.Context, *petrel.Message)) *petrel.LocalSubscription {
	t.Helper()
	l, err := b.Subscribe(filter, o, h)
	require.NoError(t, err)
	require.Equal(t, filter, l.Filter())
	return l
}

func publish(t *testing.T, b *brokertest.Broker, m petrel.Message) {
	t.Helper()
	require.NoError(t, b.Publish(t.Context(), m))
}

func TestHostGetsWhatClientsAndItselfPublish(t *testing.T) {
	inBubble(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
		var in inbox
		mustSubscribe(t, b, "a/+", petrel.SubscribeOptions{QoS: 2}, in.handle)
		c := b.Connect(brokertest.ID("c"))
		c.Publish("a/1", "from a client", 2)
		c.Publish("b", "not matched", 1)
		publish(t, b, petrel.Message{Topic: "a/2", Payload: []byte("from the host"), QoS: 1, ContentType: "text/plain"})
		require.Equal(t, []string{"from a client", "from the host"}, in.payloads())
		first, second := in.list[0], in.list[1]
		require.Equal(t, "a/1", first.Topic)
		require.Equal(t, petrel.ExactlyOnce, first.QoS)
		require.Equal(t, "c", first.PublisherID)
		require.Equal(t, petrel.AtLeastOnce, second.QoS)
		require.Equal(t, "text/plain", second.ContentType)
		require.Empty(t, second.PublisherID)
	})
}

func TestHostSubscriptionOptions(t *testing.T) {
	retained := petrel.Message{Topic: "a/kept", Payload: []byte("kept"), Retain: true, QoS: 2}
	for _, tc := range []struct {
		name    string
		options petrel.SubscribeOptions
		want    []string // payload, QoS, retain
	}{
		{"nothing said", petrel.SubscribeOptions{}, []string{"kept QoS 0 true", "host QoS 0 false", "client QoS 0 false"}},
		{"qos 1", petrel.SubscribeOptions{QoS: 1}, []string{"kept QoS 1 true", "host QoS 1 false", "client QoS 1 false"}},
		{"no local", petrel.SubscribeOptions{NoLocal: true}, []string{"client QoS 0 false"}},
		{"retain as published", petrel.SubscribeOptions{RetainAsPublished: true}, []string{"kept QoS 0 true", "host QoS 0 true", "client QoS 0 false"}},
		{"without retained messages", petrel.SubscribeOptions{RetainHandling: 2}, []string{"host QoS 0 false", "client QoS 0 false"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
				publish(t, b, retained)
				var in inbox
				mustSubscribe(t, b, "a/#", tc.options, in.handle)
				synctest.Wait()
				publish(t, b, petrel.Message{Topic: "a/host", Payload: []byte("host"), Retain: true, QoS: 2})
				c := b.Connect(brokertest.ID("c"))
				c.Publish("a/client", "client", 2)
				in.payloads()
				var got []string
				for _, m := range in.list {
					got = append(got, fmt.Sprintf("%s %v %v", m.Payload, m.QoS, m.Retain))
				}
				require.Equal(t, tc.want, got)
			})
		})
	}
}

func TestHostSubscriptionsThatAreRefused(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	nothing := func(context.Context, *petrel.Message) {}
	for _, tc := range []struct {
		name, filter string
		options      petrel.SubscribeOptions
		code         packets.ReasonCode
	}{
		{"empty filter", "", petrel.SubscribeOptions{}, packets.TopicFilterInvalid},
		{"wildcard inside a level", "a+", petrel.SubscribeOptions{}, packets.TopicFilterInvalid},
		{"no UTF-8", "a/\xff", petrel.SubscribeOptions{}, packets.TopicFilterInvalid},
		{"qos 3", "a/b/c", petrel.SubscribeOptions{QoS: 3}, packets.QoSNotSupported},
		{"retain handling 3", "a", petrel.SubscribeOptions{RetainHandling: 3}, packets.ProtocolError},
		{"no local on a shared subscription", "$share/g/a", petrel.SubscribeOptions{NoLocal: true}, packets.ProtocolError},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := b.Subscribe(tc.filter, tc.options, nothing)
			require.ErrorIs(t, err, tc.code)
		})
	}
	require.NoError(t, b.Close())
	_, err := b.Subscribe("a", petrel.SubscribeOptions{}, nothing)
	require.ErrorIs(t, err, petrel.ErrBrokerClosed)
	require.Zero(t, b.Stats().Subscriptions)
}

func TestHostIsAMemberOfASharedSubscription(t *testing.T) {
	inBubble(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
		var in inbox
		host := mustSubscribe(t, b, "$share/g/a", petrel.SubscribeOptions{QoS: 1}, in.handle)
		c := b.Connect(brokertest.ID("c"))
		c.Subscribe(1, "$share/g/a")
		for i := range 4 {
			publish(t, b, petrel.Message{Topic: "a", Payload: []byte{byte('0' + i)}, QoS: 1})
		}
		require.Equal(t, []string{"0", "2"}, in.payloads())
		c.Accept(c.ExpectPublish("a", "1"))
		c.Accept(c.ExpectPublish("a", "3"))
		require.NoError(t, host.Close())
		publish(t, b, petrel.Message{Topic: "a", Payload: []byte("alone"), QoS: 1})
		c.Accept(c.ExpectPublish("a", "alone"))
		c.ExpectNothing()
	})
}

// A handler that does not come back holds up nobody, and what it leaves when its
// subscription ends goes to another member.
func TestSlowHandlerHoldsUpNobody(t *testing.T) {
	drops := new(dropCounter)
	inBubble(t, petrel.Options{QueueMessages: 3, Hooks: []petrel.Hook{drops}}, func(t *testing.T, b *brokertest.Broker) {
		goOn := make(chan struct{})
		begun := make(chan string, 10)
		slow := mustSubscribe(t, b, "$share/g/a", petrel.SubscribeOptions{QoS: 1}, func(_ context.Context, m *petrel.Message) {
			begun <- string(m.Payload)
			<-goOn
		})
		c := b.Connect(brokertest.ID("c"))
		for i := range 6 {
			c.Publish("a", fmt.Sprint(i), 1)
			synctest.Wait() // the first is taken before the queue is full
		}
		require.Equal(t, "0", <-begun)
		require.Equal(t, []petrel.DropReason{petrel.DropQueueFull, petrel.DropQueueFull}, drops.reasons())
		c.Subscribe(1, "$share/g/a")
		require.NoError(t, slow.Close())
		require.NoError(t, slow.Close(), "twice")
		for _, want := range []string{"1", "2", "3"} {
			c.Accept(c.ExpectPublish("a", want))
		}
		close(goOn)
		synctest.Wait()
		require.Empty(t, begun, "the handler is not called after Close")
		c.ExpectNothing()
		require.Zero(t, b.Stats().MessageBytes)
	})
}

type dropCounter struct {
	mu   sync.Mutex
	list []petrel.DropReason
}

func (d *dropCounter) MessageDropped(_ context.Context, x *petrel.Drop) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, x.Reason)
}

func (d *dropCounter) reasons() []petrel.DropReason {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]petrel.DropReason(nil), d.list...)
}

func TestHandlerThatPanicsGetsTheNextMessage(t *testing.T) {
	inBubble(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
		var in inbox
		mustSubscribe(t, b, "a", petrel.SubscribeOptions{}, func(ctx context.Context, m *petrel.Message) {
			if string(m.Payload) == "bad" {
				panic("as the test wants")
			}
			in.handle(ctx, m)
		})
		for _, payload := range []string{"bad", "good"} {
			publish(t, b, petrel.Message{Topic: "a", Payload: []byte(payload)})
		}
		require.Equal(t, []string{"good"}, in.payloads())
	})
}

func TestHandlerMayPublishSubscribeAndClose(t *testing.T) {
	inBubble(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
		var in inbox
		mustSubscribe(t, b, "answers", petrel.SubscribeOptions{}, in.handle)
		var self *petrel.LocalSubscription
		self = mustSubscribe(t, b, "questions", petrel.SubscribeOptions{}, func(ctx context.Context, m *petrel.Message) {
			if err := b.Publish(ctx, petrel.Message{Topic: "answers", Payload: append([]byte("to "), m.Payload...)}); err != nil {
				t.Error(err)
			}
			if err := self.Close(); err != nil {
				t.Error(err)
			}
		})
		publish(t, b, petrel.Message{Topic: "questions", Payload: []byte("1")})
		synctest.Wait()
		publish(t, b, petrel.Message{Topic: "questions", Payload: []byte("2")})
		require.Equal(t, []string{"to 1"}, in.payloads())
	})
}

func TestHandlerContextEndsWithTheBroker(t *testing.T) {
	inBubble(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
		begun := make(chan struct{})
		ended := make(chan error, 1)
		mustSubscribe(t, b, "a", petrel.SubscribeOptions{}, func(ctx context.Context, _ *petrel.Message) {
			close(begun)
			<-ctx.Done()
			ended <- ctx.Err()
		})
		publish(t, b, petrel.Message{Topic: "a"})
		<-begun
		require.NoError(t, b.Close())
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}

func TestMessageThatExpiresBeforeItsHandlerTakesIt(t *testing.T) {
	inBubble(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
		var in inbox
		mustSubscribe(t, b, "a", petrel.SubscribeOptions{}, func(ctx context.Context, m *petrel.Message) {
			in.handle(ctx, m)
			time.Sleep(10 * time.Second)
		})
		publish(t, b, petrel.Message{Topic: "a", Payload: []byte("first")})
		publish(t, b, petrel.Message{Topic: "a", Payload: []byte("gone"), Expiry: 5 * time.Second})
		publish(t, b, petrel.Message{Topic: "a", Payload: []byte("alive"), Expiry: 15 * time.Second})
		time.Sleep(time.Minute)
		require.Equal(t, []string{"first", "alive"}, in.payloads())
		require.Equal(t, 5*time.Second, in.list[1].Expiry)
		require.EqualValues(t, 1, b.Stats().Dropped[petrel.DropExpired])
	})
}
