package petreltest_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/petreltest"
)

func payloads(list []petreltest.Message) []string {
	var s []string
	for _, m := range list {
		s = append(s, m.String())
	}
	return s
}

func TestWaitFor(t *testing.T) {
	for _, tt := range []struct {
		name, filter string
		before       []string // topics that are published before
		after        []string // and one second later
		want         []string // of consecutive calls; "" is a failure
	}{
		{"a message that came before", "a", []string{"a"}, nil, []string{"a"}},
		{"a message that comes later", "a", nil, []string{"a"}, []string{"a"}},
		{"each one once", "a/+", []string{"a/1", "a/2", "a/1"}, nil, []string{"a/1", "a/2", "a/1", ""}},
		{"what was before comes first", "#", []string{"a"}, []string{"b"}, []string{"a", "b", ""}},
		{"others are passed over", "b", []string{"a", "b", "c"}, nil, []string{"b", ""}},
		{"nothing", "a/#", []string{"b"}, []string{"c"}, []string{""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []string
				run(func(fake testing.TB) {
					b := petreltest.StartInMemory(fake)
					c := connect(t, b.Dial(), brokertest.ID("x"))
					for _, topic := range tt.before {
						c.Publish(topic, topic, packets.AtLeastOnce)
					}
					time.AfterFunc(time.Second, func() {
						for _, topic := range tt.after {
							c.Publish(topic, topic, packets.AtLeastOnce)
						}
					})
					for range tt.want {
						got = append(got, "")
						got[len(got)-1] = b.WaitFor(tt.filter).String()
					}
				})
				require.Equal(t, tt.want, got)
			})
		})
	}
}

func TestWaitForFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		failures := run(func(fake testing.TB) {
			b := petreltest.StartInMemory(fake)
			c := connect(t, b.Dial(), brokertest.ID("sensor"))
			c.Publish("home/temp", "17.5", packets.AtLeastOnce)
			c.PublishWith(packets.Publish{Topic: []byte("home/state"), Payload: []byte("on\n"), Retain: true})
			b.PublishMessage(petrel.Message{Topic: "home/picture", Payload: make([]byte, 201)})
			b.WaitFor("home/temp")
			b.WaitFor("home/heater/set")
		})
		require.Equal(t, 5*time.Second, time.Since(start))
		require.Equal(t, []string{`petreltest: no message on "home/heater/set" within 5s; messages that arrived: 
	home/temp "17.5" (from "sensor", QoS 1) that WaitFor has returned already
	home/state "on\n" (from "sensor", QoS 0, retained)
	home/picture ` + fmt.Sprintf("%q", make([]byte, 200)) + `... (201 bytes) (from the test, QoS 0)`}, failures)
	})
}

func TestWaitForFailureWithNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := run(func(fake testing.TB) { petreltest.StartInMemory(fake).WaitFor("a") })
		require.Equal(t, []string{`petreltest: no message on "a" within 5s; messages that arrived: none`}, failures)
	})
}

func TestFiltersAndTopicsThatAreNone(t *testing.T) {
	for _, tt := range []struct {
		name string
		call func(*petreltest.Broker)
		want string
	}{
		{"WaitFor", func(b *petreltest.Broker) { b.WaitFor("a/#/b") }, `petreltest: filter "a/#/b"`},
		{"WaitFor with a shared one", func(b *petreltest.Broker) { b.WaitFor("$share/x/a") }, `petreltest: filter "$share/x/a" is one of a shared subscription`},
		{"Messages", func(b *petreltest.Broker) { b.Messages("") }, `petreltest: filter ""`},
		{"Publish", func(b *petreltest.Broker) { b.Publish("a/+", "") }, `petreltest: topic "a/+"`},
		{"PublishMessage", func(b *petreltest.Broker) { b.PublishMessage(petrel.Message{Topic: "a/+"}) }, `petrel: publish to "a/+"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b *petreltest.Broker
			failures := run(func(fake testing.TB) {
				b = petreltest.StartInMemory(fake)
				tt.call(b)
				fake.Error("it went on")
			})
			require.Len(t, failures, 1)
			require.Contains(t, failures[0], tt.want)
			require.Empty(t, b.Messages("#"), "what is refused has not arrived")
		})
	}
}

// What a message is seen of, and where it may come from.
func TestMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		p := brokertest.ID("leaver")
		p.HasWill, p.Will = true, packets.Will{Topic: []byte("gone"), Payload: []byte("leaver"), QoS: packets.AtLeastOnce}
		connect(t, b.Dial(), p).Close()
		will := b.WaitFor("gone")
		require.Equal(t, "leaver", will.String())
		require.Equal(t, "leaver", will.PublisherID)

		c := connect(t, b.Dial(), brokertest.ID("x"))
		c.PublishWith(packets.Publish{Topic: []byte("state"), Payload: []byte("on"), QoS: packets.ExactlyOnce, Retain: true})
		retained := b.WaitFor("state")
		require.True(t, retained.Retain)
		require.Equal(t, packets.ExactlyOnce, retained.QoS)
		require.Equal(t, packets.V5, retained.PublisherVersion)

		b.PublishMessage(petrel.Message{Topic: "own", Payload: []byte("1"), ContentType: "text/plain"})
		own := b.WaitFor("own")
		require.Equal(t, "text/plain", own.ContentType)
		require.Empty(t, own.PublisherID)

		c.Publish("own", "2", packets.AtMostOnce)
		require.Equal(t, []string{"1", "2"}, payloads(b.Messages("own")), "returned by WaitFor or not")
		require.Equal(t, []string{"leaver", "on", "1", "2"}, payloads(b.Messages("#")))
		require.Empty(t, b.Messages("none/of/them"))
		require.Equal(t, "17.5 \"17.5\"", fmt.Sprintf("%v %[1]q", petreltest.Message{Message: petrel.Message{Payload: []byte("17.5")}}))
	})
}

func TestMessageThatAHookStops(t *testing.T) {
	b := petreltest.StartInMemory(t, petrel.Options{Hooks: []petrel.Hook{readOnly{}}})
	c := connect(t, b.Dial(), brokertest.ID("x"))
	code := c.PublishWith(packets.Publish{Topic: []byte("a"), Payload: []byte("1"), QoS: packets.AtLeastOnce})
	require.Equal(t, packets.NotAuthorized, code)
	require.Empty(t, b.Messages("#"))
}

func TestPublishWaitsForASubscriber(t *testing.T) {
	const later = 2 * time.Second
	subscribe := func(filter string) func(testing.TB, *petreltest.Broker) {
		return func(t testing.TB, b *petreltest.Broker) {
			c := connect(t, b.Dial(), brokertest.ID("x"))
			time.Sleep(later)
			c.Subscribe(packets.AtMostOnce, "other", filter)
		}
	}
	for _, tt := range []struct {
		name    string
		program func(testing.TB, *petreltest.Broker) // gets going before Publish
		waits   bool                                 // a/b is not published before the program has slept
	}{
		{"to the topic", subscribe("a/b"), true},
		{"to a filter", subscribe("a/+"), true},
		{"in a group", subscribe("$share/group/a/b"), true},
		{"who is there already", func(t testing.TB, b *petreltest.Broker) {
			connect(t, b.Dial(), brokertest.ID("x")).Subscribe(packets.AtMostOnce, "#")
		}, false},
		{"who is offline and will be back", func(t testing.TB, b *petreltest.Broker) {
			connect(t, b.Dial(), brokertest.Durable("x")).Subscribe(packets.AtMostOnce, "#")
			b.Kick("x")
		}, false},
		{"who has left, and comes back anew", func(t testing.TB, b *petreltest.Broker) {
			connect(t, b.Dial(), brokertest.ID("x")).Subscribe(packets.AtMostOnce, "a/b", "other")
			b.Kick("x")
			subscribe("a/b")(t, b)
		}, true},
		{"who has begun a new session", func(t testing.TB, b *petreltest.Broker) {
			connect(t, b.Dial(), brokertest.Durable("x")).Subscribe(packets.AtMostOnce, "a/b")
			c := connect(t, b.Dial(), brokertest.ID("x"))
			c.Subscribe(packets.AtMostOnce, "other")
			time.Sleep(later)
			c.Subscribe(packets.AtMostOnce, "a/b")
		}, true},
		{"who has unsubscribed meanwhile", func(t testing.TB, b *petreltest.Broker) {
			c := connect(t, b.Dial(), brokertest.ID("x"))
			c.Subscribe(packets.AtMostOnce, "a/b", "other")
			c.Unsubscribe("a/b")
			time.Sleep(later)
			c.Subscribe(packets.AtMostOnce, "a/b")
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := petreltest.StartInMemory(t)
				ready := make(chan struct{})
				start := time.Now()
				go func() {
					defer close(ready)
					tt.program(t, b)
				}()
				time.Sleep(later / 2) // it is there, or sleeps
				b.Publish("a/b", "1")
				require.Equal(t, tt.waits, time.Since(start) >= later)
				require.Equal(t, []string{"1"}, payloads(b.Messages("#")))
				<-ready
			})
		})
	}
}

func TestPublishToNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *petreltest.Broker
		start := time.Now()
		failures := run(func(fake testing.TB) {
			b = petreltest.StartInMemory(fake)
			connect(t, b.Dial(), brokertest.ID("x")).Subscribe(packets.AtMostOnce, "a", "$share/g/b/#")
			connect(t, b.Dial(), brokertest.ID("y"))
			b.Publish("c", "1")
		})
		require.Equal(t, 5*time.Second, time.Since(start))
		require.Equal(t, []string{`petreltest: nobody has subscribed to "c" within 5s; subscriptions: 
	$share/g/b/# (of "x")
	a (of "x")`}, failures)
		require.Empty(t, b.Messages("#"))
	})
}

func TestPublishMessageWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		start := time.Now()
		b.PublishMessage(petrel.Message{Topic: "config", Payload: []byte("1"), QoS: petrel.AtLeastOnce, Retain: true})
		require.Zero(t, time.Since(start))
		c := connect(t, b.Dial(), brokertest.ID("x"))
		c.Subscribe(packets.AtLeastOnce, "#")
		p := c.ExpectPublish("config", "1")
		require.True(t, p.Retain)
		require.Equal(t, packets.AtLeastOnce, p.QoS)
	})
}
