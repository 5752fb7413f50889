package petrel_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// clearRetained publishes a retained message without payload.
func clearRetained(t *testing.T, c *brokertest.Client, topic string) {
	t.Helper()
	code := c.PublishWith(packets.Publish{Topic: []byte(topic), QoS: packets.AtLeastOnce, Retain: true})
	require.False(t, code.IsError(), "clearing %q got %v", topic, code)
}

// retainAll keeps n messages "PREFIX/0000" and so on, with the payload "old".
func retainAll(t *testing.T, b *brokertest.Broker, prefix string, n int, qos packets.QoS) []string {
	t.Helper()
	topics := make([]string, n)
	for i := range topics {
		topics[i] = fmt.Sprintf("%s/%04d", prefix, i)
		err := b.Publish(context.Background(), petrel.Message{Topic: topics[i], Payload: []byte("old"), QoS: qos, Retain: true})
		require.NoError(t, err)
	}
	return topics
}

// takeAll accepts messages of QoS 0 and 1 until n have come, and returns them as
// "TOPIC PAYLOAD".
func takeAll(c *brokertest.Client, n int) []string {
	list := make([]string, 0, n)
	for range n {
		p := brokertest.Expect[*packets.Publish](c)
		list = append(list, string(p.Topic)+" "+string(p.Payload))
		c.Accept(p)
	}
	return list
}

// window is c with a Receive Maximum.
func window(n uint16, c packets.Connect) packets.Connect {
	c.ReceiveMaximum = n
	return c
}

func withPayload(topics []string, payload string) []string {
	list := make([]string, len(topics))
	for i, topic := range topics {
		list[i] = topic + " " + payload
	}
	return list
}

func TestRetainedMessageIsReplaced(t *testing.T) {
	for _, v := range threeVersions {
		t.Run(v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			p := b.Connect(speaking(v, "p"))
			for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
				p.PublishWith(packets.Publish{Topic: []byte("a"), Payload: fmt.Append(nil, "v", qos), QoS: qos, Retain: true})
				p.Publish("a", "not retained", qos)
				c := b.Connect(speaking(v, "c"))
				c.Subscribe(2, "a")
				m := c.ExpectPublish("a", fmt.Sprint("v", qos))
				require.Equal(t, qos, m.QoS)
				require.True(t, m.Retain)
				require.False(t, m.Dup)
				c.ExpectNothing()
				require.Equal(t, 1, b.Stats().Retained)
				c.Drop()
			}
			p.Drop()
			require.Equal(t, 1, b.Stats().Retained, "the end of the publisher's session does not touch it")
		})
	}
}

func TestRetainedMessageKeepsItsProperties(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	p := b.Connect(brokertest.ID("p"))
	var props packets.Properties
	props = props.AppendPayloadFormat(1).AppendContentType("text/plain").AppendResponseTopic("answer").AppendCorrelationData([]byte{0, 1}).
		AppendUserProperty("b", "2").AppendUserProperty("a", "1").AppendUserProperty("b", "2")
	p.PublishWith(packets.Publish{Topic: []byte("a"), Payload: []byte("x"), QoS: 1, Retain: true, Properties: props, HasTopicAlias: true, TopicAlias: 1})
	p.PublishWith(packets.Publish{Payload: []byte("y"), QoS: 1, Retain: true, Properties: props, HasTopicAlias: true, TopicAlias: 1})
	c := b.Connect(brokertest.ID("c"))
	c.Subscribe(1, "a")
	m := c.ExpectPublish("a", "y")
	require.Equal(t, []byte(props), []byte(m.Properties))
	require.False(t, m.HasTopicAlias)

	p.PublishWith(packets.Publish{Topic: []byte("a"), Payload: []byte("z"), QoS: 1, Retain: true})
	c.ExpectPublish("a", "z")
	c.Subscribe(1, "a")
	require.Empty(t, c.ExpectPublish("a", "z").Properties, "those of the message that was replaced are gone")
}

func TestRetainedMessageDeletedByEmptyPayload(t *testing.T) {
	for _, v := range threeVersions {
		for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
			t.Run(fmt.Sprintf("%v in %v", qos, v), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				p := b.Connect(speaking(v, "p"))
				keep(t, p, "a", "x")
				live, asPublished := b.Connect(speaking(v, "live")), b.Connect(brokertest.ID("as"))
				live.Subscribe(2, "a")
				live.Accept(live.ExpectPublish("a", "x"))
				asPublished.SubscribeWith(asking(packets.Subscription{Filter: []byte("a"), QoS: 2, RetainAsPublished: true, RetainHandling: 2}))

				p.Publish("a", "", qos) // without RETAIN it deletes nothing
				live.Accept(live.ExpectPublish("a", ""))
				asPublished.Accept(asPublished.ExpectPublish("a", ""))
				require.Equal(t, 1, b.Stats().Retained)

				for range 2 { // the second time there is nothing to delete
					require.False(t, p.PublishWith(packets.Publish{Topic: []byte("a"), QoS: qos, Retain: true}).IsError())
					require.Zero(t, b.Stats().Retained)
					m := live.ExpectPublish("a", "")
					require.False(t, m.Retain)
					require.Equal(t, qos, m.QoS)
					live.Accept(m)
					require.True(t, asPublished.ExpectPublish("a", "").Retain)
				}
				late := b.Connect(speaking(v, "late"))
				late.Subscribe(2, "a")
				late.ExpectNothing()
			})
		}
	}
}

func TestRetainedWill(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	with := brokertest.ID("w")
	with.HasWill, with.Will = true, packets.Will{Topic: []byte("status"), Payload: []byte("off"), QoS: 2, Retain: true}
	b.Connect(with).Drop()
	c := b.Connect(brokertest.ID("c"))
	c.Subscribe(1, "status")
	m := c.ExpectPublish("status", "off")
	require.True(t, m.Retain)
	require.Equal(t, packets.AtLeastOnce, m.QoS)
}

func TestRetainedExpiry(t *testing.T) {
	expiring := func(seconds uint32, payload string) packets.Publish {
		return packets.Publish{Topic: []byte("a"), Payload: []byte(payload), QoS: 1, Retain: true, HasMessageExpiry: true, MessageExpiryInterval: seconds}
	}
	t.Run("the remaining time goes along, rounded up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			defer b.Close()
			b.Connect(brokertest.ID("p")).PublishWith(expiring(10, "x"))
			c := b.Connect(brokertest.ID("c"))
			for _, step := range []struct {
				sleep time.Duration
				left  uint32
			}{{0, 10}, {time.Second, 9}, {2500 * time.Millisecond, 7}, {6 * time.Second, 1}, {499 * time.Millisecond, 1}} {
				time.Sleep(step.sleep)
				c.Subscribe(0, "a")
				m := c.ExpectPublish("a", "x")
				require.True(t, m.HasMessageExpiry)
				require.Equal(t, step.left, m.MessageExpiryInterval)
			}
			time.Sleep(time.Millisecond)
			c.Subscribe(0, "a")
			c.ExpectNothing()
			require.Zero(t, b.Stats().Retained, "it was found to have expired")
			require.Zero(t, b.Stats().MessageBytes)
		})
	})
	t.Run("an interval of 0 is not kept, and removes what there was", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		p := b.Connect(brokertest.ID("p"))
		keep(t, p, "a", "old")
		live := b.Connect(brokertest.ID("live"))
		live.SubscribeWith(asking(packets.Subscription{Filter: []byte("a"), RetainHandling: 2}))
		require.Equal(t, packets.Success, p.PublishWith(expiring(0, "now or never")))
		live.ExpectPublish("a", "now or never")
		require.Zero(t, b.Stats().Retained)
	})
	t.Run("nobody asks: the memory comes back all the same", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			defer b.Close()
			for round := range 3 {
				for i := range 1000 {
					m := petrel.Message{Topic: fmt.Sprint("a/", i), Payload: make([]byte, 100), Retain: true, Expiry: time.Duration(1+i%90) * time.Second}
					require.NoError(t, b.Publish(t.Context(), m))
				}
				require.Equal(t, 1000, b.Stats().Retained, "round %d", round)
				require.Greater(t, b.Stats().MessageBytes, int64(100_000))
				time.Sleep(3 * time.Minute)
				require.Zero(t, b.Stats().Retained)
				require.Zero(t, b.Stats().MessageBytes)
			}
		})
	})
	t.Run("the successor of an expiring message stays", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			defer b.Close()
			p := b.Connect(brokertest.ID("p"))
			p.PublishWith(expiring(5, "short"))
			p.PublishWith(expiring(300, "long"))
			time.Sleep(3 * time.Minute)
			c := b.Connect(brokertest.ID("c"))
			c.Subscribe(0, "a")
			require.Equal(t, uint32(120), c.ExpectPublish("a", "long").MessageExpiryInterval)
			keep(t, p, "a", "for ever")
			c.ExpectPublish("a", "for ever")
			time.Sleep(time.Hour)
			c.Subscribe(0, "a")
			require.False(t, c.ExpectPublish("a", "for ever").HasMessageExpiry)
		})
	})
	t.Run("it expires while the replay waits for the client", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			defer b.Close()
			p := b.Connect(brokertest.ID("p"))
			p.PublishWith(packets.Publish{Topic: []byte("a/1"), Payload: []byte("first"), QoS: 1, Retain: true})
			p.PublishWith(packets.Publish{Topic: []byte("a/2"), Payload: []byte("expires"), QoS: 1, Retain: true, HasMessageExpiry: true, MessageExpiryInterval: 5})
			p.PublishWith(packets.Publish{Topic: []byte("a/3"), Payload: []byte("third"), QoS: 1, Retain: true})
			c := b.Connect(window(1, brokertest.ID("c")))
			c.Subscribe(1, "a/#")
			first := c.ExpectPublish("a/1", "first")
			time.Sleep(5 * time.Second)
			c.Accept(first)
			c.ExpectPublish("a/3", "third")
		})
	})
	t.Run("a 3.1.1 subscriber gets it as long as it lives", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			defer b.Close()
			b.Connect(brokertest.ID("p")).PublishWith(expiring(5, "x"))
			c := b.Connect(speaking(packets.V311, "c"))
			c.Subscribe(0, "a")
			c.ExpectPublish("a", "x")
			time.Sleep(5 * time.Second)
			c.Subscribe(0, "a")
			c.ExpectNothing()
		})
	})
}

func TestMaximumRetained(t *testing.T) {
	const most = 3
	for _, v := range threeVersions {
		for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
			t.Run(fmt.Sprintf("%v in %v", qos, v), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{MaximumRetained: most})
				live := b.Connect(brokertest.ID("live"))
				live.Subscribe(0, "#")
				p := b.Connect(speaking(v, "p"))
				put := func(topic, payload string) packets.ReasonCode {
					return p.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, Retain: true})
				}
				refused := packets.Success // what cannot be said is acknowledged and dropped
				if v == packets.V5 && qos > 0 {
					refused = packets.QuotaExceeded
				}
				for i := range most {
					require.Equal(t, packets.Success, put(fmt.Sprint(i), "x"))
				}
				require.Equal(t, refused, put("one more", "x"))
				require.Equal(t, most, b.Stats().Retained)
				require.Equal(t, uint64(1), b.Stats().Dropped[petrel.DropRetainedFull])
				require.Equal(t, packets.Success, put("0", "y"), "one that exists can be replaced")
				require.Equal(t, packets.Success, put("1", ""), "or deleted")
				require.Equal(t, packets.Success, put("another", "x"))
				require.Equal(t, refused, put("one more", "x"))
				p.Publish("one more", "live", qos)
				got := payloads(arrived(t, live))
				require.Equal(t, []string{"x", "x", "x", "y", "", "x", "live"}, got)
			})
		}
	}
	t.Run("$SYS does not count", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MaximumRetained: most, SysInterval: time.Second})
			defer b.Close()
			time.Sleep(2 * time.Second)
			require.Greater(t, b.Stats().Retained, most)
			for i := range most + 1 {
				err := b.Publish(t.Context(), petrel.Message{Topic: fmt.Sprint(i), Payload: []byte("x"), Retain: true})
				require.Equal(t, i < most, err == nil, "%d: %v", i, err)
			}
			require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "0", Retain: true}))
			require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "3", Payload: []byte("x"), Retain: true}))
		})
	})
}

func TestMemoryLimitOfRetainedMessages(t *testing.T) {
	// A message counts with topic, properties and payload.
	const size = int64(len("topic") + len("payload"))
	for _, tc := range []struct {
		name  string
		limit int64
		fits  bool
	}{{"one byte more than needed", size + 1, true}, {"as much as needed", size, true}, {"one byte less", size - 1, false}} {
		t.Run(tc.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MemoryLimit: tc.limit, MaximumRetainedBytes: -1})
			p := b.Connect(brokertest.ID("p"))
			put := func(topic, payload string) packets.ReasonCode {
				return p.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: 1, Retain: true})
			}
			code := put("topic", "payload")
			if !tc.fits {
				require.Equal(t, packets.QuotaExceeded, code)
				require.Zero(t, b.Stats().MessageBytes)
				require.Zero(t, b.Stats().Retained)
				require.Equal(t, uint64(1), b.Stats().Dropped[petrel.DropMemory])
				return
			}
			require.False(t, code.IsError())
			require.Equal(t, size, b.Stats().MessageBytes)
			require.Equal(t, packets.QuotaExceeded, put("other", "payload"))
			require.False(t, put("topic", "PAYLOAD").IsError(), "of the same size")
			require.False(t, put("topic", "p").IsError(), "smaller")
			require.Equal(t, size-6, b.Stats().MessageBytes)
			require.Equal(t, packets.QuotaExceeded, put("topic", "far too long to fit"))
			require.False(t, put("topic", "").IsError())
			require.Zero(t, b.Stats().MessageBytes)
			require.False(t, put("other", "payload").IsError())
		})
	}
}

// Retained messages are sent to a client that acknowledges none as far as memory has room
// for them in flight, but always one, so that it comes to all of them.
func TestReplayKeepsToTheMemoryLimit(t *testing.T) {
	const limit = 20_000
	for _, tc := range []struct {
		name     string
		connect  packets.Connect
		kept     int // messages of 1,000 bytes
		inFlight int
	}{
		{"room for some", brokertest.ID("a"), 15, 5},
		{"room for none", brokertest.ID("a"), 20, 1},
		{"what no store has leaves room", brokertest.Durable("a"), 15, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b := m.start(petrel.Options{Logger: silent(), MemoryLimit: limit, MaximumRetainedBytes: -1})
				topics := brokertest.Topics("t", tc.kept)
				for _, topic := range topics {
					retainBytes(t, b, topic, 1000)
				}
				a := b.Connect(tc.connect)
				a.Subscribe(packets.AtLeastOnce, "#")
				slices.Sort(topics)
				for i, topic := range topics {
					synctest.Wait()
					held := min(tc.inFlight, tc.kept-i)
					require.Equal(t, held, a.Waiting())
					require.EqualValues(t, 1000*(tc.kept+held), b.Stats().MessageBytes)
					p := brokertest.Expect[*packets.Publish](a)
					require.Equal(t, topic, string(p.Topic))
					a.Accept(p)
				}
				a.ExpectNothing()
			})
		})
	}
}

// Replayed messages wait in the index, not in a queue: a small one does not matter.
func TestReplayToSlowReader(t *testing.T) {
	const n = 5000
	t.Run("QoS 0, the reader stalls", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{QueueMessages: 1, OutboundBytes: 1000})
		want := withPayload(retainAll(t, b, "a/"+strings.Repeat("long", 30), n, 0), "old")
		held := b.Stats().MessageBytes
		c := b.Connect(brokertest.ID("c"))
		p := asking(on("a/#", 0))
		p.PacketID = 1
		c.Stall()
		c.Send(&p, &packets.Pingreq{})
		require.Equal(t, held, b.Stats().MessageBytes)
		c.Resume()
		brokertest.Expect[*packets.Suback](c)
		var got []string
		answered := false
		for len(got) < n || !answered {
			switch p := c.Receive().(type) {
			case *packets.Publish:
				got = append(got, string(p.Topic)+" "+string(p.Payload))
				if len(got)%1000 == 0 {
					c.Stall()
					c.Resume()
				}
			case *packets.Pingresp:
				answered = true
			}
		}
		require.Equal(t, want, got)
		c.ExpectNothing()
		require.Empty(t, b.Stats().Dropped)
	})
	t.Run("QoS 1 with Receive Maximum 1", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{QueueMessages: 1})
		want := withPayload(retainAll(t, b, "a", n, 1), "old")
		c := b.Connect(window(1, brokertest.ID("c")))
		c.Subscribe(1, "a/#")
		require.Equal(t, want, takeAll(c, n))
		c.ExpectNothing()
		require.Empty(t, b.Stats().Dropped)
	})
	t.Run("QoS 2 with Receive Maximum 1", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{QueueMessages: 1})
		want := withPayload(retainAll(t, b, "a", 200, 2), "old")
		c := b.Connect(window(1, brokertest.ID("c")))
		c.Subscribe(2, "a/#")
		require.Equal(t, want, takeAll(c, 200))
		c.ExpectNothing()
	})
	t.Run("payloads larger than the outbound buffer", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{OutboundBytes: 1000})
		for i := range 20 {
			m := petrel.Message{Topic: fmt.Sprintf("a/%02d", i), Payload: make([]byte, 100_000), Retain: true}
			require.NoError(t, b.Publish(context.Background(), m))
		}
		c := b.Connect(brokertest.ID("c"))
		c.Subscribe(0, "a/#")
		for i := range 20 {
			require.Equal(t, fmt.Sprintf("a/%02d", i), string(brokertest.Expect[*packets.Publish](c).Topic))
		}
		c.ExpectNothing()
	})
	t.Run("one that is too large for the client is left out", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		for i, size := range []int{10, 1000, 10} {
			m := petrel.Message{Topic: fmt.Sprint("a/", i), Payload: make([]byte, size), QoS: 1, Retain: true}
			require.NoError(t, b.Publish(context.Background(), m))
		}
		connect := window(1, brokertest.ID("c"))
		connect.MaximumPacketSize = 100
		c := b.Connect(connect)
		c.Subscribe(1, "a/#")
		for _, topic := range []string{"a/0", "a/2"} {
			p := brokertest.Expect[*packets.Publish](c)
			require.Equal(t, topic, string(p.Topic))
			c.Accept(p)
		}
		c.ExpectNothing()
		require.Equal(t, uint64(1), b.Stats().Dropped[petrel.DropTooLarge])
	})
}

func TestReplayGoesOnAfterReconnect(t *testing.T) {
	const n = 200
	b := brokertest.New(t, petrel.Options{})
	want := withPayload(retainAll(t, b, "a", n, 1), "old")
	c := b.Connect(window(1, brokertest.Durable("c")))
	c.Subscribe(1, "a/#")
	var got []string
	for i := 0; len(got) < n; i++ {
		got = append(got, takeAll(c, min(7, n-len(got)))...)
		if len(got) == n {
			break
		}
		lost := brokertest.Expect[*packets.Publish](c) // on its way when the connection breaks
		c.Drop()
		c = b.Connect(window(1, brokertest.Durable("c")))
		again := c.ExpectPublish(string(lost.Topic), "old")
		require.True(t, again.Dup)
		require.True(t, again.Retain)
		require.Equal(t, lost.PacketID, again.PacketID)
		c.Accept(again)
		got = append(got, string(again.Topic)+" old")
	}
	require.Equal(t, want, got)
	c.ExpectNothing()
	c.Drop()
	c = b.Connect(window(1, brokertest.Durable("c")))
	c.ExpectNothing() // the replay does not begin again
}

func TestReplayAndChangesMeanwhile(t *testing.T) {
	const n = 100 // more than the broker reads from the index at once
	change := func(t *testing.T, b *brokertest.Broker, topic, payload string, qos packets.QoS) {
		err := b.Publish(context.Background(), petrel.Message{Topic: topic, Payload: []byte(payload), QoS: qos, Retain: true})
		require.NoError(t, err)
	}
	for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
		t.Run(fmt.Sprintf("each replaced message comes once, in its new value, with %v", qos), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			topics := retainAll(t, b, "a", n, 1)
			c := b.Connect(window(1, brokertest.ID("c")))
			c.Subscribe(2, "a/#")
			first := c.ExpectPublish(topics[0], "old") // the replay waits for its acknowledgement
			want := withPayload(topics, "old")
			for i := range topics {
				if i%3 == 0 {
					change(t, b, topics[i], "new", qos)
					want[i] = topics[i] + " new"
				}
			}
			change(t, b, "a/new", "topic", qos)
			change(t, b, "a/0000/new", "topic", qos)
			want = append(want, topics[0]+" old", "a/new topic", "a/0000/new topic")
			got := []string{topics[0] + " old"}
			if qos == 0 { // these do not wait for the acknowledgement
				got = append(got, takeAll(c, n/3+3)...)
			}
			c.Accept(first)
			got = append(got, takeAll(c, len(want)-len(got))...)
			require.ElementsMatch(t, want, got)
			c.ExpectNothing()
		})
	}
	t.Run("what is deleted meanwhile does not come as retained", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		topics := retainAll(t, b, "a", n, 1)
		c := b.Connect(window(1, brokertest.ID("c")))
		c.Subscribe(1, "a/#")
		first := c.ExpectPublish(topics[0], "old")
		for _, topic := range topics[1:] {
			change(t, b, topic, "", 1)
		}
		c.Accept(first)
		require.Equal(t, withPayload(topics[1:], ""), takeAll(c, n-1))
		c.ExpectNothing()
	})
	t.Run("what was replaced with QoS 0 while the client was away comes as retained", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		topics := retainAll(t, b, "a", n, 1)
		c := b.Connect(window(1, brokertest.Durable("c")))
		c.Subscribe(1, "a/#")
		c.ExpectPublish(topics[0], "old")
		c.Drop()
		change(t, b, topics[n-1], "new", 0)
		change(t, b, topics[n-2], "new", 1)
		c = b.Connect(window(1, brokertest.Durable("c")))
		got := takeAll(c, n)
		want := withPayload(topics, "old")
		want[n-1], want[n-2] = topics[n-1]+" new", topics[n-2]+" new"
		require.ElementsMatch(t, want, got)
		c.ExpectNothing()
	})
	t.Run("UNSUBSCRIBE stops it", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		topics := retainAll(t, b, "a", n, 1)
		keepOn := retainAll(t, b, "b", 3, 1)
		c := b.Connect(window(1, brokertest.ID("c")))
		c.Subscribe(1, "a/#")
		first := c.ExpectPublish(topics[0], "old")
		c.Subscribe(1, "b/#")
		require.Equal(t, []packets.ReasonCode{0}, c.Unsubscribe("a/#"))
		c.Accept(first)
		require.Equal(t, withPayload(keepOn, "old"), takeAll(c, 3), "of the other subscription")
		c.ExpectNothing()
	})
	t.Run("a SUBSCRIBE that asks for them again begins again", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		topics := retainAll(t, b, "a", n, 1)
		c := b.Connect(window(1, brokertest.ID("c")))
		c.Subscribe(1, "a/#")
		first := c.ExpectPublish(topics[0], "old")
		c.Subscribe(1, "a/#")
		c.Accept(first)
		require.Equal(t, withPayload(topics, "old"), takeAll(c, n))
		c.ExpectNothing()
	})
	t.Run("a SUBSCRIBE that does not ask for them lets it go on", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		topics := retainAll(t, b, "a", n, 1)
		c := b.Connect(window(1, brokertest.ID("c")))
		c.SubscribeWith(identified(1, asking(on("a/#", 1))))
		first := c.ExpectPublish(topics[0], "old")
		for handling := byte(1); handling <= 2; handling++ {
			c.SubscribeWith(identified(5, asking(packets.Subscription{Filter: []byte("a/#"), QoS: 1, RetainHandling: handling})))
		}
		c.Accept(first)
		for _, topic := range topics[1:] {
			p := c.ExpectPublish(topic, "old")
			require.Equal(t, []uint32{5}, p.SubscriptionIDs, "the options of now")
			c.Accept(p)
		}
		c.ExpectNothing()
	})
}

func TestReplayOfOverlappingFilters(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	p := b.Connect(brokertest.ID("p"))
	p.PublishWith(packets.Publish{Topic: []byte("a/b"), Payload: []byte("x"), QoS: 2, Retain: true})
	c := b.Connect(brokertest.ID("c"))
	c.SubscribeWith(identified(3, asking(on("a/#", 1), on("a/+", 2), on("b", 2))))
	var got []packets.QoS
	for _, m := range arrived(t, c) {
		require.Equal(t, []uint32{3}, m.SubscriptionIDs)
		got = append(got, m.QoS)
	}
	require.Equal(t, []packets.QoS{1, 2}, got, "each subscription is sent its own")
}

func TestRetainedMessagesAreNotSentForSharedSubscriptions(t *testing.T) {
	for _, v := range threeVersions {
		t.Run(v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			p := b.Connect(brokertest.ID("p"))
			keep(t, p, "a", "old")
			c := b.Connect(speaking(v, "c"))
			c.Subscribe(1, "$share/g/a", "$share/g/#")
			c.Subscribe(1, "$share/g/a") // again
			c.ExpectNothing()
			keep(t, p, "a", "new")
			got := arrived(t, c)
			require.Equal(t, []string{"new", "new"}, payloads(got), "live, by two groups")
			require.False(t, got[0].Retain)
		})
	}
}

func TestBridge(t *testing.T) {
	for _, v := range []packets.Version{packets.V31, packets.V311} {
		bridge := speaking(v, "bridge")
		bridge.Bridge = true
		t.Run("refused in "+v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			c, ack := b.TryConnect(bridge)
			require.Equal(t, packets.UnsupportedProtocolVersion, ack.Reason)
			c.ExpectClosed()
			require.Equal(t, uint64(1), b.Stats().BridgeLevels)
		})
		t.Run("tolerated in "+v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{TolerateBridgeLevel: true})
			p := b.Connect(brokertest.ID("p"))
			keep(t, p, "a/old", "r")
			c := b.Connect(bridge)
			require.Equal(t, uint64(1), b.Stats().BridgeLevels)
			c.Subscribe(1, "a/#", "$share/g/s")
			require.True(t, c.ExpectPublish("a/old", "r").Retain)
			c.Publish("a/own", "x", packets.AtLeastOnce)
			keep(t, c, "a/own", "x")
			c.ExpectNothing() // No Local
			p.Publish("a/b", "1", packets.AtLeastOnce)
			keep(t, p, "a/b", "2")
			clearRetained(t, p, "a/b")
			got := arrived(t, c)
			require.Equal(t, []string{"1", "2", ""}, payloads(got))
			require.Equal(t, []bool{false, true, true}, []bool{got[0].Retain, got[1].Retain, got[2].Retain}, "Retain As Published")
			c.Send(&packets.Publish{Topic: []byte("s"), Payload: []byte("shared")})
			c.ExpectPublish("s", "shared") // a shared subscription has no No Local
		})
	}
}

func TestRetainDisabled(t *testing.T) {
	b := brokertest.New(t, petrel.Options{DisableRetain: true})
	c, ack := b.TryConnect(brokertest.ID("c"))
	require.True(t, ack.RetainUnavailable)
	c.Publish("a", "x", packets.AtLeastOnce)
	c.Send(&packets.Publish{Topic: []byte("a"), Payload: []byte("x"), Retain: true})
	c.ExpectDisconnect(packets.RetainNotSupported)
	old := b.Connect(speaking(packets.V311, "old"))
	old.Send(&packets.Publish{Topic: []byte("a"), Payload: []byte("x"), Retain: true})
	old.ExpectClosed()
	require.Zero(t, b.Stats().Retained)
}

// However publishers and subscribers meet, each subscriber ends up with the last
// value of each topic, and never goes back to an older one.
func TestRetainedConvergesUnderConcurrency(t *testing.T) {
	const publishers, rounds, subscribers = 4, 200, 8
	b := brokertest.New(t, petrel.Options{})
	var publishing sync.WaitGroup
	for i := range publishers {
		publishing.Go(func() {
			for round := range rounds {
				m := petrel.Message{Topic: fmt.Sprint("a/", i), Payload: fmt.Appendf(nil, "%04d", round), QoS: 1, Retain: true}
				if err := b.Publish(context.Background(), m); err != nil {
					t.Error(err)
				}
			}
		})
	}
	clients := make([]*brokertest.Client, subscribers)
	for i := range clients {
		clients[i] = b.Connect(brokertest.ID(fmt.Sprint("c", i)))
		p := asking(on("a/#", 1))
		p.PacketID = 1
		clients[i].Send(&p)
	}
	publishing.Wait()
	for _, c := range clients {
		brokertest.Expect[*packets.Suback](c)
		last := make(map[string]string)
		for _, p := range arrived(t, c) {
			require.LessOrEqual(t, last[string(p.Topic)], string(p.Payload), "of %s", p.Topic)
			last[string(p.Topic)] = string(p.Payload)
		}
		require.Len(t, last, publishers)
		for topic, payload := range last {
			require.Equal(t, fmt.Sprintf("%04d", rounds-1), payload, "%s, topic %s", c, topic)
		}
	}
}

func TestReplayIsInAFixedOrder(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	p := b.Connect(brokertest.ID("p"))
	for _, i := range []int{5, 3, 9, 1, 7, 0, 2, 8, 6, 4} {
		keep(t, p, fmt.Sprint("a/", i, "/x"), "x")
	}
	order := func(id string) (topics []string) {
		c := b.Connect(brokertest.ID(id))
		c.Subscribe(0, "a/+/x")
		for _, m := range arrived(t, c) {
			topics = append(topics, string(m.Topic))
		}
		return topics
	}
	first := order("c1")
	require.Len(t, first, 10)
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(first))), 10)
	require.Equal(t, first, order("c2"))
}
