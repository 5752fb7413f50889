package petrel_test

import (
	"bytes"
	"context"
	"fmt"
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

// acceptAll receives n messages and acknowledges each as soon as it comes,
// whatever else is under way.
func acceptAll(t *testing.T, c *brokertest.Client, n int) []*packets.Publish {
	t.Helper()
	var got []*packets.Publish
	for open := 0; len(got) < n || open > 0; {
		switch p := c.Receive().(type) {
		case *packets.Publish:
			got = append(got, p)
			switch p.QoS {
			case packets.AtLeastOnce:
				c.Send(&packets.Puback{PacketID: p.PacketID})
			case packets.ExactlyOnce:
				c.Send(&packets.Pubrec{PacketID: p.PacketID})
				open++
			}
		case *packets.Pubrel:
			c.Send(&packets.Pubcomp{PacketID: p.PacketID})
			open--
		default:
			t.Fatalf("got %v among messages", p.Type())
		}
	}
	return got
}

// One line for all QoS levels: nothing overtakes, live or waiting.
func TestOrderOverMixedQoS(t *testing.T) {
	for _, v := range everyVersion {
		for _, window := range []int{1, 2, 3, 1024} {
			t.Run(fmt.Sprintf("%v, window of %d", v, window), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{MaximumInflight: window, Logger: silent()})
				sub, pub := b.Connect(fresh(v, "sub")), b.Connect(fresh(v, "pub"))
				sub.Subscribe(packets.ExactlyOnce, "t")
				const n = 60
				for i := range n {
					pub.Publish("t", fmt.Sprint("m", i), packets.QoS((i*i+i/4)%3))
				}
				for i, m := range acceptAll(t, sub, n) {
					require.Equal(t, fmt.Sprint("m", i), string(m.Payload))
				}
				sub.ExpectNothing()
			})
		}
	}
}

// What waited for a session comes before what is published after its return.
func TestQueueComesBeforeLive(t *testing.T) {
	for _, v := range everyVersion {
		t.Run(v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MaximumInflight: 2})
			sub := b.Connect(lasting(v, "sub"))
			sub.Subscribe(packets.ExactlyOnce, "t")
			sub.Drop()
			pub := b.Connect(fresh(v, "pub"))
			var want []string
			publish := func(from, to int) {
				for i := from; i < to; i++ {
					want = append(want, fmt.Sprint("m", i))
					pub.Publish("t", want[i], packets.QoS(1+i%2))
				}
			}
			publish(0, 5)
			sub = b.Connect(lasting(v, "sub"))
			publish(5, 10)
			for i, m := range acceptAll(t, sub, len(want)) {
				require.Equal(t, want[i], string(m.Payload))
				require.False(t, m.Dup)
				require.Equal(t, packets.QoS(1+i%2), m.QoS)
			}
			sub.ExpectNothing()
		})
	}
}

// Acknowledgements leave in the order in which the messages came.
func TestOrderOfAcknowledgements(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	pub := b.Connect(brokertest.ID("pub"))
	var batch []packets.Packet
	for id := range uint16(30) {
		batch = append(batch, &packets.Publish{Topic: []byte("t"), QoS: packets.QoS(1 + id%2), PacketID: 100 - id})
	}
	pub.Send(batch...)
	for id := range uint16(30) {
		got, code := idAndCode(t, pub.Receive())
		require.Equal(t, 100-id, got)
		require.Equal(t, packets.NoMatchingSubscribers, code)
	}
}

func TestNoMatchingSubscribers(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client)
		want    packets.ReasonCode
	}{
		{"nobody", func(*testing.T, *brokertest.Broker, *brokertest.Client) {}, packets.NoMatchingSubscribers},
		{"another topic", func(t *testing.T, b *brokertest.Broker, _ *brokertest.Client) {
			b.Connect(brokertest.ID("sub")).Subscribe(packets.AtMostOnce, "u")
		}, packets.NoMatchingSubscribers},
		{"one", func(t *testing.T, b *brokertest.Broker, _ *brokertest.Client) {
			b.Connect(brokertest.ID("sub")).Subscribe(packets.AtMostOnce, "t")
		}, packets.Success},
		{"the publisher", func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client) {
			pub.Subscribe(packets.AtMostOnce, "t")
		}, packets.Success},
		{"the publisher with no local", func(t *testing.T, b *brokertest.Broker, pub *brokertest.Client) {
			pub.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("t"), NoLocal: true})})
		}, packets.NoMatchingSubscribers},
		{"a session that is offline", func(t *testing.T, b *brokertest.Broker, _ *brokertest.Client) {
			sub := b.Connect(brokertest.Durable("sub"))
			sub.Subscribe(packets.AtLeastOnce, "t")
			sub.Drop()
		}, packets.Success},
		{"a session that has ended", func(t *testing.T, b *brokertest.Broker, _ *brokertest.Client) {
			sub := b.Connect(brokertest.ID("sub"))
			sub.Subscribe(packets.AtLeastOnce, "t")
			sub.Drop()
		}, packets.NoMatchingSubscribers},
		{"unsubscribed", func(t *testing.T, b *brokertest.Broker, _ *brokertest.Client) {
			sub := b.Connect(brokertest.ID("sub"))
			sub.Subscribe(packets.AtLeastOnce, "t")
			sub.Unsubscribe("t")
		}, packets.NoMatchingSubscribers},
		{"a shared subscription", func(t *testing.T, b *brokertest.Broker, _ *brokertest.Client) {
			b.Connect(brokertest.ID("sub")).Subscribe(packets.AtMostOnce, "$share/g/t")
		}, packets.Success},
	}
	for _, tt := range tests {
		for _, v := range []packets.Version{packets.V311, packets.V5} {
			t.Run(v.String()+" "+tt.name, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				pub := b.Connect(fresh(packets.V5, "pub"))
				tt.prepare(t, b, pub)
				if v != packets.V5 {
					pub = b.Connect(fresh(v, "older"))
					if strings.HasPrefix(tt.name, "the publisher") {
						return
					}
				}
				for qos := packets.AtLeastOnce; qos <= packets.ExactlyOnce; qos++ {
					id := pub.ID()
					pub.Send(&packets.Publish{Topic: []byte("t"), QoS: qos, PacketID: id})
					p := pub.Receive()
					if strings.HasPrefix(tt.name, "the publisher") && p.Type() == packets.TypePublish {
						p = pub.Receive() // its own message came first
					}
					_, code := idAndCode(t, p)
					require.Equal(t, inVersion(v, tt.want), code)
				}
			})
		}
	}
}

func TestMessageExpiry(t *testing.T) {
	const interval = 10
	tests := []struct {
		name string
		wait time.Duration
		want uint32 // 0 means that it has expired
	}{
		{"at once", 0, 10},
		{"a nanosecond", 1, 10},
		{"one second", time.Second, 9},
		{"rounded up", 2500 * time.Millisecond, 8},
		{"the last second", 9*time.Second + 1, 1},
		{"a nanosecond before", 10*time.Second - 1, 1},
		{"on the deadline", 10 * time.Second, 0},
		{"long after", 30 * time.Minute, 0},
	}
	paths := []struct {
		name  string
		waits func(t *testing.T, b *brokertest.Broker, publish func(), wait time.Duration) *brokertest.Client
	}{
		{"queue of an offline session", func(t *testing.T, b *brokertest.Broker, publish func(), wait time.Duration) *brokertest.Client {
			sub := b.Connect(brokertest.Durable("sub"))
			sub.Subscribe(packets.ExactlyOnce, "t")
			sub.Drop()
			publish()
			time.Sleep(wait)
			return b.Connect(brokertest.Durable("sub"))
		}},
		{"full window", func(t *testing.T, b *brokertest.Broker, publish func(), wait time.Duration) *brokertest.Client {
			sub := narrowSubscriber(b, 1)
			hostPublishes(t, b, packets.AtLeastOnce, "first")
			first := sub.ExpectPublish("t", "first")
			publish()
			time.Sleep(wait)
			sub.Accept(first)
			return sub
		}},
		{"retained", func(t *testing.T, b *brokertest.Broker, publish func(), wait time.Duration) *brokertest.Client {
			publish()
			time.Sleep(wait)
			sub := b.Connect(brokertest.ID("sub"))
			sub.Subscribe(packets.ExactlyOnce, "t")
			return sub
		}},
	}
	for _, path := range paths {
		for _, tt := range tests {
			t.Run(path.name+", "+tt.name, func(t *testing.T) {
				inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
					pub := b.Connect(brokertest.ID("pub"))
					sub := path.waits(t, b, func() {
						require.False(t, pub.PublishWith(packets.Publish{
							Topic: []byte("t"), Payload: []byte("m"), QoS: packets.AtLeastOnce, Retain: path.name == "retained",
							HasMessageExpiry: true, MessageExpiryInterval: interval,
						}).IsError())
					}, tt.wait)
					if tt.want > 0 {
						m := sub.ExpectPublish("t", "m")
						require.True(t, m.HasMessageExpiry)
						require.Equal(t, tt.want, m.MessageExpiryInterval)
						sub.Accept(m)
					}
					sub.ExpectNothing()
					synctest.Wait()
					dropped := map[petrel.DropReason]uint64{}
					if tt.want == 0 && path.name != "retained" {
						dropped[petrel.DropExpired] = 1
					}
					require.Equal(t, dropped, b.Stats().Dropped)
				})
			})
		}
	}
}

func TestMessageExpiryOfLiveMessages(t *testing.T) {
	t.Run("the interval as it came", func(t *testing.T) {
		inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			sub, older, pub := b.Connect(brokertest.ID("sub")), b.Connect(fresh(packets.V311, "older")), b.Connect(brokertest.ID("pub"))
			sub.Subscribe(packets.AtLeastOnce, "t")
			older.Subscribe(packets.AtLeastOnce, "t")
			for _, interval := range []uint32{1, 3600, 1<<32 - 1} {
				pub.PublishWith(packets.Publish{Topic: []byte("t"), QoS: 1, HasMessageExpiry: true, MessageExpiryInterval: interval})
				m := sub.ExpectPublish("t", "")
				require.True(t, m.HasMessageExpiry)
				require.Equal(t, interval, m.MessageExpiryInterval)
				older.ExpectPublish("t", "")
			}
			pub.Publish("t", "never", packets.AtLeastOnce)
			require.False(t, sub.ExpectPublish("t", "never").HasMessageExpiry)
		})
	})
	t.Run("the time that a hook takes counts", func(t *testing.T) {
		hook := intercept(func(context.Context, *petrel.PublishRequest) error {
			time.Sleep(3 * time.Second)
			return nil
		})
		inFakeTime(t, petrel.Options{HookTimeout: time.Minute, Hooks: []petrel.Hook{hook}}, func(t *testing.T, b *brokertest.Broker) {
			sub, pub := b.Connect(brokertest.ID("sub")), b.Connect(brokertest.ID("pub"))
			sub.Subscribe(packets.AtLeastOnce, "t")
			pub.PublishWith(packets.Publish{Topic: []byte("t"), QoS: 1, HasMessageExpiry: true, MessageExpiryInterval: 10})
			require.EqualValues(t, 7, sub.ExpectPublish("t", "").MessageExpiryInterval)
			pub.PublishWith(packets.Publish{Topic: []byte("t"), QoS: 1, HasMessageExpiry: true, MessageExpiryInterval: 2})
			sub.ExpectNothing()
		})
	})
	t.Run("an interval of 0 is acknowledged, and never waits", func(t *testing.T) {
		inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			sub, pub := b.Connect(brokertest.Durable("sub")), b.Connect(brokertest.ID("pub"))
			sub.Subscribe(packets.ExactlyOnce, "t")
			sub.Drop()
			for qos := packets.AtLeastOnce; qos <= packets.ExactlyOnce; qos++ {
				code := pub.PublishWith(packets.Publish{Topic: []byte("t"), QoS: qos, Retain: true, Payload: []byte("m"), HasMessageExpiry: true})
				require.False(t, code.IsError())
			}
			synctest.Wait()
			require.Equal(t, map[petrel.DropReason]uint64{petrel.DropExpired: 2}, b.Stats().Dropped)
			require.Zero(t, b.Stats().Retained)
			sub = b.Connect(brokertest.Durable("sub"))
			sub.Subscribe(packets.AtMostOnce, "+")
			sub.ExpectNothing()
		})
	})
	t.Run("a host that is late", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		sub := b.Connect(brokertest.Durable("sub"))
		sub.Subscribe(packets.AtLeastOnce, "t")
		sub.Drop()
		require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "t", QoS: 1, Expiry: -1}))
		require.EqualValues(t, 1, b.Stats().Dropped[petrel.DropExpired])
	})
}

// Large payloads reach everybody whole, live and queued, whoever else is sent
// something at the same time.
func TestLargePayloads(t *testing.T) {
	b := brokertest.New(t, petrel.Options{Logger: silent()})
	const size = 1 << 20
	payloads := make([][]byte, 4)
	for i := range payloads {
		payloads[i] = bytes.Repeat([]byte{byte('a' + i)}, size)
	}
	var subs []*brokertest.Client
	for i := range 6 {
		sub := b.Connect(lasting(everyVersion[i%3], fmt.Sprint("sub", i)))
		sub.Subscribe(packets.QoS(i%3), "large")
		sub.Subscribe(packets.AtMostOnce, "small")
		subs = append(subs, sub)
	}
	offline := b.Connect(lasting(packets.V5, "offline"))
	offline.Subscribe(packets.ExactlyOnce, "large")
	offline.Drop()
	pub := b.Connect(brokertest.ID("pub"))
	for i, payload := range payloads {
		code := pub.PublishWith(packets.Publish{Topic: []byte("large"), Payload: payload, QoS: packets.QoS(1 + i%2), Retain: true})
		require.Equal(t, packets.Success, code)
		pub.Publish("small", fmt.Sprint(i), packets.AtMostOnce)
	}
	check := func(m *packets.Publish, topic string, want []byte) {
		t.Helper()
		require.Equal(t, topic, string(m.Topic))
		require.True(t, bytes.Equal(want, m.Payload), "got %d bytes %.8q; want %d bytes %.8q", len(m.Payload), m.Payload, len(want), want)
	}
	for _, sub := range subs {
		for i, m := range acceptAll(t, sub, 2*len(payloads)) {
			if i%2 == 0 {
				check(m, "large", payloads[i/2])
			} else {
				check(m, "small", fmt.Append(nil, i/2))
			}
		}
		sub.ExpectNothing()
	}
	offline = b.Connect(lasting(packets.V5, "offline"))
	for i, m := range acceptAll(t, offline, len(payloads)) {
		check(m, "large", payloads[i])
	}
	late := b.Connect(brokertest.ID("late"))
	late.Subscribe(packets.AtMostOnce, "large")
	check(late.ExpectPublish("large", string(payloads[3])), "large", payloads[3])
}

// Payloads that many sessions share are not changed by what their publisher
// sends next in the same buffer, also while a subscriber does not read.
func TestPayloadsAreNotOverwritten(t *testing.T) {
	for _, tt := range []struct {
		name    string
		size, n int
		retain  bool
	}{
		{"small", 10, 300, false},
		{"small, retained", 10, 300, true},
		{"as large as is copied", 16<<10 - 1, 40, false},
		{"as large as is referred to", 16 << 10, 40, false},
		{"as large as is referred to, retained", 16 << 10, 40, true},
		{"larger than a read", 100_000, 40, false},
		{"larger than a read, retained", 100_000, 40, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{Logger: silent(), QueueBytes: -1})
			var subs []*brokertest.Client
			for i := range 6 {
				sub := b.Connect(brokertest.Durable(fmt.Sprint("sub", i)))
				sub.Subscribe(packets.QoS(i%3), "t/#")
				switch i {
				case 0, 1:
					sub.Drop()
				case 2, 3:
					sub.Stall()
				}
				subs = append(subs, sub)
			}
			payload := func(i int) string { return fmt.Sprintf("%*d", tt.size, i) }
			pub := b.Connect(brokertest.ID("pub"))
			for i := range tt.n {
				m := &packets.Publish{Topic: fmt.Appendf(nil, "t/%d", i), Payload: []byte(payload(i)), QoS: packets.QoS(i % 2), Retain: tt.retain}
				if m.QoS > 0 {
					m.PacketID = pub.ID()
				}
				pub.Send(m)
			}
			for range tt.n / 2 {
				brokertest.Expect[*packets.Puback](pub)
			}
			pub.ExpectNothing()
			for i, sub := range subs {
				first, step := 0, 1
				switch i {
				case 0:
					continue // QoS 0, and offline
				case 1:
					sub = b.Connect(brokertest.Durable("sub1"))
					first, step = 1, 2 // without QoS 0
				}
				sub.Resume()
				for j := first; j < tt.n; j += step {
					m := brokertest.Expect[*packets.Publish](sub)
					require.Equal(t, fmt.Sprint("t/", j), string(m.Topic))
					if string(m.Payload) != payload(j) {
						t.Fatalf("message %d is %.10q", j, bytes.TrimSpace(m.Payload))
					}
				}
				sub.ExpectNothing()
			}
			if tt.retain {
				late := b.Connect(brokertest.ID("late"))
				late.Subscribe(packets.AtMostOnce, "t/+")
				for range tt.n {
					m := brokertest.Expect[*packets.Publish](late)
					require.Equal(t, strings.TrimPrefix(string(m.Topic), "t/"), string(bytes.TrimSpace(m.Payload)))
				}
			}
		})
	}
}

// What the standard has forwarded arrives unaltered, by every way, and not at
// all at older clients.
func TestPropertiesAreForwarded(t *testing.T) {
	sent := packets.Properties(nil).
		AppendPayloadFormat(1).AppendContentType("text/plain; ö").AppendResponseTopic("answer/to/+me"[:9]).
		AppendCorrelationData([]byte{0, 255, 0, 7}).
		AppendUserProperty("b", "1").AppendUserProperty("a", "2").AppendUserProperty("b", "1").AppendUserProperty("", "").AppendUserProperty("b", "")
	user := [][2]string{{"b", "1"}, {"a", "2"}, {"b", "1"}, {"", ""}, {"b", ""}}
	check := func(t *testing.T, m *packets.Publish) {
		t.Helper()
		format, ok := m.Properties.PayloadFormat()
		require.True(t, ok)
		require.EqualValues(t, 1, format)
		require.Equal(t, "text/plain; ö", string(m.Properties.ContentType()))
		require.Equal(t, "answer/to", string(m.Properties.ResponseTopic()))
		require.Equal(t, []byte{0, 255, 0, 7}, m.Properties.CorrelationData())
		var got [][2]string
		for name, value := range m.Properties.UserProperties() {
			got = append(got, [2]string{string(name), string(value)})
		}
		require.Equal(t, user, got)
		require.False(t, m.HasMessageExpiry)
		require.False(t, m.HasTopicAlias)
	}
	b := brokertest.New(t, petrel.Options{})
	live, away := b.Connect(brokertest.ID("live")), b.Connect(brokertest.Durable("away"))
	old, oldAway := b.Connect(fresh(packets.V311, "old")), b.Connect(lasting(packets.V31, "old away"))
	for _, c := range []*brokertest.Client{live, away, old, oldAway} {
		c.Subscribe(packets.ExactlyOnce, "t")
	}
	away.Drop()
	oldAway.Drop()
	pub := b.Connect(brokertest.ID("pub"))
	code := pub.PublishWith(packets.Publish{
		Topic: []byte("t"), Payload: []byte("m"), QoS: packets.ExactlyOnce, Retain: true, HasTopicAlias: true, TopicAlias: 3, Properties: sent,
	})
	require.Equal(t, packets.Success, code)
	check(t, live.ExpectPublish("t", "m"))
	old.ExpectPublish("t", "m") // its decoder has no properties: they would be in the payload
	away = b.Connect(brokertest.Durable("away"))
	check(t, away.ExpectPublish("t", "m"))
	away.Drop()
	away = b.Connect(brokertest.Durable("away"))
	check(t, away.ExpectPublish("t", "m")) // the second time
	oldAway = b.Connect(lasting(packets.V31, "old away"))
	oldAway.ExpectPublish("t", "m")
	live.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("t")})})
	check(t, live.ExpectPublish("t", "m"))
	old.Subscribe(packets.AtMostOnce, "t")
	require.True(t, old.ExpectPublish("t", "m").Retain)
	t.Run("none of an older client", func(t *testing.T) {
		older := b.Connect(fresh(packets.V311, "older pub"))
		older.Publish("t", "\x05plain", packets.AtLeastOnce)
		m := live.ExpectPublish("t", "\x05plain")
		require.Empty(t, m.Properties)
		require.False(t, m.HasMessageExpiry)
		old.ExpectPublish("t", "\x05plain")
	})
}

// The payload format is passed on as it is, or checked if the host wants that.
func TestPayloadFormat(t *testing.T) {
	for _, strict := range []bool{false, true} {
		for name, tt := range map[string]struct {
			format  byte
			payload string
			bad     bool
		}{
			"utf-8":                        {1, "größer", false},
			"utf-8 that is empty":          {1, "", false},
			"utf-8 with a zero":            {1, "a\x00b", false},
			"not utf-8":                    {1, "a\xff", true},
			"a surrogate":                  {1, "\xed\xa0\x80", true},
			"bytes that happen to be text": {0, "a", false},
			"bytes":                        {0, "\xff", false},
		} {
			t.Run(fmt.Sprintf("strict %v, %s", strict, name), func(t *testing.T) {
				inFakeTime(t, petrel.Options{ValidatePayloadFormat: strict}, func(t *testing.T, b *brokertest.Broker) {
					sub, pub := b.Connect(brokertest.ID("sub")), b.Connect(brokertest.ID("pub"))
					sub.Subscribe(packets.AtMostOnce, "t")
					for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
						code := pub.PublishWith(packets.Publish{
							Topic: []byte("t"), Payload: []byte(tt.payload), QoS: qos, Properties: packets.Properties(nil).AppendPayloadFormat(tt.format),
						})
						if !strict || !tt.bad {
							require.Equal(t, packets.Success, code)
							got, ok := sub.ExpectPublish("t", tt.payload).Properties.PayloadFormat()
							require.True(t, ok)
							require.Equal(t, tt.format, got)
							continue
						}
						if qos > 0 {
							require.Equal(t, packets.PayloadFormatInvalid, code)
						}
						sub.ExpectNothing()
						synctest.Wait()
						require.EqualValues(t, qos+1, b.Stats().Dropped[petrel.DropInvalidPayload])
					}
				})
			})
		}
	}
}

// What clients publish to the topics of the broker is acknowledged, and no more.
func TestPublishToSys(t *testing.T) {
	for _, v := range everyVersion {
		for _, tt := range []struct {
			topic  string
			routed bool
		}{
			{"$SYS", false}, {"$SYS/", false}, {"$SYS/broker/uptime", false}, {"$SYS/x", false},
			{"$SYSTEM", true}, {"$sys/x", true}, {"$other/x", true}, {"x/$SYS/y", true},
		} {
			t.Run(v.String()+" "+tt.topic, func(t *testing.T) {
				drops := new(dropRecorder)
				inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{drops}}, func(t *testing.T, b *brokertest.Broker) {
					sub, pub := b.Connect(brokertest.ID("sub")), b.Connect(fresh(v, "pub"))
					sub.Subscribe(packets.ExactlyOnce, "#", "$SYS/#", tt.topic)
					for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
						code := pub.PublishWith(packets.Publish{Topic: []byte(tt.topic), Payload: []byte("m"), QoS: qos, Retain: true})
						require.False(t, code.IsError())
						if tt.routed {
							sub.Accept(sub.ExpectPublish(tt.topic, "m"))
						}
						sub.ExpectNothing()
						synctest.Wait()
						if !tt.routed {
							require.Equal(t, []petrel.Drop{{Topic: tt.topic, QoS: qos, Reason: petrel.DropReserved}}, drops.take())
						}
					}
					require.Empty(t, drops.take())
					require.Equal(t, tt.routed, b.Stats().Retained == 1)
				})
			})
		}
	}
}

// dropRecorder keeps what it is told.
type dropRecorder struct {
	mu   sync.Mutex
	list []petrel.Drop
}

func (r *dropRecorder) MessageDropped(_ context.Context, d *petrel.Drop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, *d)
}

// take returns what came since the last call.
func (r *dropRecorder) take() []petrel.Drop {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = nil
	return list
}

// What this broker does not offer, or no client may send, ends the connection,
// and nobody gets it.
func TestPublishEndsTheConnection(t *testing.T) {
	tests := []struct {
		name    string
		options petrel.Options
		publish packets.Publish
		code    packets.ReasonCode
		only5   bool
	}{
		{name: "retain disabled, qos 0", options: petrel.Options{DisableRetain: true},
			publish: packets.Publish{Retain: true, Topic: []byte("t")}, code: packets.RetainNotSupported},
		{name: "retain disabled, qos 1", options: petrel.Options{DisableRetain: true},
			publish: packets.Publish{Retain: true, QoS: 1, PacketID: 1, Topic: []byte("t")}, code: packets.RetainNotSupported},
		{name: "retain disabled, empty payload that would delete", options: petrel.Options{DisableRetain: true},
			publish: packets.Publish{Retain: true, QoS: 2, PacketID: 1, Topic: []byte("t")}, code: packets.RetainNotSupported},
		{name: "qos 2 disabled, qos 2", options: petrel.Options{DisableQoS2: true},
			publish: packets.Publish{QoS: 2, PacketID: 1, Topic: []byte("t")}, code: packets.QoSNotSupported},
		{name: "qos 1 disabled, qos 1", options: petrel.Options{DisableQoS1: true},
			publish: packets.Publish{QoS: 1, PacketID: 1, Topic: []byte("t")}, code: packets.QoSNotSupported},
		{name: "qos 1 disabled, qos 2", options: petrel.Options{DisableQoS1: true},
			publish: packets.Publish{QoS: 2, PacketID: 1, Topic: []byte("t")}, code: packets.QoSNotSupported},
		{name: "four levels of three", options: petrel.Options{MaximumTopicLevels: 3},
			publish: packets.Publish{QoS: 1, PacketID: 1, Topic: []byte("a/b/c/d")}, code: packets.TopicNameInvalid},
		{name: "four empty levels of three", options: petrel.Options{MaximumTopicLevels: 3},
			publish: packets.Publish{Topic: []byte("///")}, code: packets.TopicNameInvalid},
		{name: "four user properties of three", options: petrel.Options{MaximumUserProperties: 3},
			publish: packets.Publish{QoS: 1, PacketID: 1, Topic: []byte("t"), Properties: userProperties(4)}, code: packets.QuotaExceeded, only5: true},
		{name: "257 user properties by default",
			publish: packets.Publish{Topic: []byte("t"), Properties: userProperties(257)}, code: packets.QuotaExceeded, only5: true},
		{name: "subscription identifier",
			publish: packets.Publish{Topic: []byte("t"), SubscriptionIDs: []uint32{1}}, code: packets.ProtocolError, only5: true},
	}
	for _, v := range everyVersion {
		for _, tt := range tests {
			if tt.only5 && v != packets.V5 {
				continue
			}
			t.Run(v.String()+" "+tt.name, func(t *testing.T) {
				b := brokertest.New(t, tt.options)
				sub, pub := b.Connect(brokertest.ID("sub")), b.Connect(fresh(v, "pub"))
				sub.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("#"), QoS: 2})})
				pub.Send(&tt.publish)
				expectEnd(pub, v, tt.code)
				sub.ExpectNothing()
				require.Zero(t, b.Stats().Retained)
			})
		}
	}
}

func userProperties(n int) packets.Properties {
	var p packets.Properties
	for i := range n {
		p = p.AppendUserProperty("n", fmt.Sprint(i))
	}
	return p
}

// The same just within the limits.
func TestPublishWithinLimits(t *testing.T) {
	tests := []struct {
		name    string
		options petrel.Options
		publish packets.Publish
	}{
		{"retain disabled, no retain", petrel.Options{DisableRetain: true}, packets.Publish{Topic: []byte("t"), QoS: 2}},
		{"qos 2 disabled, qos 1", petrel.Options{DisableQoS2: true}, packets.Publish{Topic: []byte("t"), QoS: 1}},
		{"qos 1 disabled, qos 0", petrel.Options{DisableQoS1: true}, packets.Publish{Topic: []byte("t")}},
		{"three levels of three", petrel.Options{MaximumTopicLevels: 3}, packets.Publish{Topic: []byte("a/b/c")}},
		{"two levels of three", petrel.Options{MaximumTopicLevels: 3}, packets.Publish{Topic: []byte("/b")}},
		{"128 levels by default", petrel.Options{}, packets.Publish{Topic: []byte(strings.Repeat("/", 127))}},
		{"any number of levels", petrel.Options{MaximumTopicLevels: -1}, packets.Publish{Topic: []byte(strings.Repeat("/", 65535))}},
		{"three user properties of three", petrel.Options{MaximumUserProperties: 3}, packets.Publish{Topic: []byte("t"), Properties: userProperties(3)}},
		{"two user properties of three", petrel.Options{MaximumUserProperties: 3}, packets.Publish{Topic: []byte("t"), Properties: userProperties(2)}},
		{"any number of user properties", petrel.Options{MaximumUserProperties: -1}, packets.Publish{Topic: []byte("t"), Properties: userProperties(5000)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := brokertest.New(t, tt.options)
			sub, pub := b.Connect(brokertest.ID("sub")), b.Connect(brokertest.ID("pub"))
			sub.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("#"), QoS: 2})})
			require.Equal(t, packets.Success, pub.PublishWith(tt.publish))
			m := sub.ExpectPublish(string(tt.publish.Topic), "")
			require.Equal(t, tt.publish.QoS, m.QoS)
			require.Equal(t, tt.publish.Properties.UserPropertyCount(), m.Properties.UserPropertyCount())
		})
	}
}

// What the host may publish, and what is refused with which code.
func TestHostPublish(t *testing.T) {
	long := strings.Repeat("x", 65536)
	tests := []struct {
		name    string
		message petrel.Message
		code    packets.ReasonCode
	}{
		{"plain", petrel.Message{Topic: "t"}, packets.Success},
		{"to $SYS", petrel.Message{Topic: "$SYS/mine"}, packets.Success},
		{"qos 2", petrel.Message{Topic: "t", QoS: 2}, packets.Success},
		{"empty topic", petrel.Message{}, packets.TopicNameInvalid},
		{"wildcard", petrel.Message{Topic: "a/+"}, packets.TopicNameInvalid},
		{"zero in the topic", petrel.Message{Topic: "a\x00"}, packets.TopicNameInvalid},
		{"topic that is not utf-8", petrel.Message{Topic: "\xff"}, packets.TopicNameInvalid},
		{"topic that is too long", petrel.Message{Topic: long}, packets.TopicNameInvalid},
		{"too many levels", petrel.Message{Topic: strings.Repeat("/", 128)}, packets.TopicNameInvalid},
		{"qos 3", petrel.Message{Topic: "t", QoS: 3}, packets.QoSNotSupported},
		{"content type that is not utf-8", petrel.Message{Topic: "t", ContentType: "\xff"}, packets.MalformedPacket},
		{"response topic with a wildcard", petrel.Message{Topic: "t", ResponseTopic: "#"}, packets.ProtocolError},
		{"long correlation data", petrel.Message{Topic: "t", CorrelationData: []byte(long)}, packets.PacketTooLarge},
		{"long user property", petrel.Message{Topic: "t", UserProperties: []petrel.UserProperty{{Name: "n", Value: long}}}, packets.PacketTooLarge},
		{"user property that is not utf-8", petrel.Message{Topic: "t", UserProperties: []petrel.UserProperty{{Name: "\xff"}}}, packets.MalformedPacket},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			sub := b.Connect(brokertest.ID("sub"))
			sub.Subscribe(packets.ExactlyOnce, "#", "$SYS/#")
			err := b.Publish(context.Background(), tt.message)
			if tt.code == packets.Success {
				require.NoError(t, err)
				require.Equal(t, tt.message.QoS, sub.ExpectPublish(tt.message.Topic, "").QoS)
				return
			}
			require.ErrorIs(t, err, tt.code)
			sub.ExpectNothing()
		})
	}
	t.Run("context has ended", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, b.Publish(ctx, petrel.Message{Topic: "t"}), context.Canceled)
	})
	t.Run("closed", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		require.NoError(t, b.Close())
		require.ErrorIs(t, b.Publish(context.Background(), petrel.Message{Topic: "t"}), petrel.ErrBrokerClosed)
	})
}

// intercept is a PublishInterceptor made of a function.
type intercept func(ctx context.Context, r *petrel.PublishRequest) error

func (f intercept) InterceptPublish(ctx context.Context, r *petrel.PublishRequest) error {
	return f(ctx, r)
}
