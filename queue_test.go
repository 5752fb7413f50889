package petrel_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// queued is a message for a session that is offline.
type queued struct {
	payload string
	qos     petrel.QoS
}

// q makes messages of words like "a1": payload "a", QoS 1. What follows the digit
// belongs to the payload, too.
func q(words string) (list []queued) {
	for _, w := range strings.Fields(words) {
		list = append(list, queued{w, petrel.QoS(w[1] - '0')})
	}
	return list
}

// What a queue keeps at one below its limit, at it, and above it.
func TestQueueLimits(t *testing.T) {
	const full, offline = petrel.DropQueueFull, petrel.DropOffline
	tests := []struct {
		name    string
		options petrel.Options
		publish string
		kept    string
		dropped []petrel.Drop // in order
	}{
		{"two of three messages", petrel.Options{QueueMessages: 3}, "a1 b2", "a1 b2", nil},
		{"three of three", petrel.Options{QueueMessages: 3}, "a1 b2 c1", "a1 b2 c1", nil},
		{"four of three, newest goes", petrel.Options{QueueMessages: 3}, "a1 b1 c1 d2", "a1 b1 c1", drops(full, 2)},
		{"six of three, newest go", petrel.Options{QueueMessages: 3}, "a1 b1 c1 d2 e1 f2", "a1 b1 c1", drops(full, 2, 1, 2)},
		{"three of three, oldest would go", petrel.Options{QueueMessages: 3, QueueFull: petrel.DropOldest}, "a2 b1 c1", "a2 b1 c1", nil},
		{"four of three, oldest goes", petrel.Options{QueueMessages: 3, QueueFull: petrel.DropOldest}, "a2 b1 c1 d1", "b1 c1 d1", drops(full, 2)},
		{"six of three, oldest go", petrel.Options{QueueMessages: 3, QueueFull: petrel.DropOldest}, "a2 b1 c2 d1 e1 f1", "d1 e1 f1", drops(full, 2, 1, 2)},
		{"one of one, oldest goes", petrel.Options{QueueMessages: 1, QueueFull: petrel.DropOldest}, "a1 b2 c1", "c1", drops(full, 1, 2)},
		{"no limit", petrel.Options{QueueMessages: -1, QueueBytes: -1}, "a1 b1 c1 d1 e1 f1 g1 h1", "a1 b1 c1 d1 e1 f1 g1 h1", nil},

		// a message is its topic of one byte and its payload
		{"one below the limit in bytes", petrel.Options{QueueBytes: 10}, "a1xx b1x", "a1xx b1x", nil},
		{"at the limit in bytes", petrel.Options{QueueBytes: 10}, "a1xx b1xx", "a1xx b1xx", nil},
		{"one above the limit in bytes, newest goes", petrel.Options{QueueBytes: 10}, "a1xx b2xxx", "a1xx", drops(full, 2)},
		{"a smaller one still fits", petrel.Options{QueueBytes: 10}, "a1xx b2xxx c1", "a1xx c1", drops(full, 2)},
		{"above the limit in bytes, as many of the oldest go as it takes", petrel.Options{QueueBytes: 10, QueueFull: petrel.DropOldest},
			"a1 b2 c1 d1xxxx", "c1 d1xxxx", drops(full, 1, 2)},
		{"larger than the whole queue, newest goes", petrel.Options{QueueBytes: 10}, "a1 b1xxxxxxxx", "a1", drops(full, 1)},
		{"larger than the whole queue, nothing gives way", petrel.Options{QueueBytes: 10, QueueFull: petrel.DropOldest},
			"a1 b2 c1xxxxxxxx", "a1 b2", drops(full, 1)},
		{"larger than the whole queue, not even qos 0 gives way", petrel.Options{QueueBytes: 10, QueueQoS0: true},
			"a0 b0 c1xxxxxxxx", "a0 b0", drops(full, 1)},
		{"exactly the whole queue", petrel.Options{QueueBytes: 10}, "a1xxxxxxx", "a1xxxxxxx", nil},
		{"exactly the whole queue, all others go", petrel.Options{QueueBytes: 10, QueueFull: petrel.DropOldest},
			"a1 b2 c1xxxxxxx", "c1xxxxxxx", drops(full, 1, 2)},

		{"qos 0 is not queued", petrel.Options{}, "a0 b1 c0", "b1", drops(offline, 0, 0)},
		{"qos 0 is queued by option", petrel.Options{QueueQoS0: true}, "a0 b1 c0 d2 e0", "a0 b1 c0 d2 e0", nil},
		{"qos 0 gives way to qos 1", petrel.Options{QueueQoS0: true, QueueMessages: 3}, "a1 b0 c0 d1", "a1 c0 d1", drops(full, 0)},
		{"qos 0 gives way to qos 2", petrel.Options{QueueQoS0: true, QueueMessages: 3}, "a0 b0 c0 d2 e2", "c0 d2 e2", drops(full, 0, 0)},
		{"qos 0 gives way until there is none", petrel.Options{QueueQoS0: true, QueueMessages: 2}, "a0 b0 c1 d1 e2", "c1 d1", drops(full, 0, 0, 2)},
		{"qos 0 gives way before the oldest", petrel.Options{QueueQoS0: true, QueueMessages: 3, QueueFull: petrel.DropOldest},
			"a1 b0 c1 d1 e1", "c1 d1 e1", drops(full, 0, 1)},
		{"qos 0 does not give way to qos 0", petrel.Options{QueueQoS0: true, QueueMessages: 2}, "a0 b0 c0", "a0 b0", drops(full, 0)},
		{"oldest qos 0 goes for qos 0", petrel.Options{QueueQoS0: true, QueueMessages: 2, QueueFull: petrel.DropOldest}, "a0 b0 c0", "b0 c0", drops(full, 0)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			seen := new(dropRecorder)
			tt.options.Hooks = []petrel.Hook{seen}
			inFakeTime(t, tt.options, func(t *testing.T, b *brokertest.Broker) {
				sub := b.Connect(brokertest.Durable("sub"))
				sub.Subscribe(packets.ExactlyOnce, "t")
				sub.Drop()
				for _, m := range q(tt.publish) {
					hostPublishes(t, b, m.qos, m.payload)
				}
				synctest.Wait()
				require.Equal(t, tt.dropped, seen.take())
				info := sessionInfo(t, b, "sub")
				require.Equal(t, len(q(tt.kept)), info.Queued)
				require.Equal(t, len(strings.ReplaceAll(tt.kept, " ", ""))+info.Queued, info.QueuedBytes)
				require.EqualValues(t, info.QueuedBytes, b.Stats().MessageBytes)

				sub = b.Connect(brokertest.Durable("sub"))
				kept := q(tt.kept)
				for i, m := range acceptAll(t, sub, len(kept)) {
					require.Equal(t, kept[i].payload, string(m.Payload))
					require.Equal(t, kept[i].qos, m.QoS)
				}
				sub.ExpectNothing()
				synctest.Wait()
				require.Zero(t, b.Stats().MessageBytes)
				require.Empty(t, seen.take())
			})
		})
	}
}

// drops are drops of topic "t" for session "sub", one for each QoS.
func drops(reason petrel.DropReason, qos ...petrel.QoS) (list []petrel.Drop) {
	for _, level := range qos {
		list = append(list, petrel.Drop{ClientID: "sub", Topic: "t", QoS: level, Reason: reason})
	}
	return list
}

func sessionInfo(t *testing.T, b *brokertest.Broker, id string) petrel.ClientInfo {
	t.Helper()
	for info := range b.Clients() {
		if info.ID == id {
			return info
		}
	}
	t.Fatalf("no session %q", id)
	return petrel.ClientInfo{}
}

// The queue of a client that is connected and whose window is full has the same
// limits; what is in the window does not count.
func TestQueueLimitsBehindAFullWindow(t *testing.T) {
	seen := new(dropRecorder)
	inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{seen}, QueueMessages: 2}, func(t *testing.T, b *brokertest.Broker) {
		sub := narrowSubscriber(b, 1)
		hostPublishes(t, b, packets.AtLeastOnce, "sent", "1", "2")
		require.Empty(t, seen.take())
		hostPublishes(t, b, packets.ExactlyOnce, "too many")
		hostPublishes(t, b, packets.AtMostOnce, "too many")
		require.Equal(t, drops(petrel.DropQueueFull, 2, 0), seen.take())
		for _, payload := range []string{"sent", "1", "2"} {
			sub.Accept(sub.ExpectPublish("t", payload))
		}
		sub.ExpectNothing()
		hostPublishes(t, b, packets.AtMostOnce, "0")
		sub.ExpectPublish("t", "0")
	})
}

// Messages that have expired make room before any other is given up.
func TestExpiredMessagesMakeRoom(t *testing.T) {
	for _, policy := range []petrel.DropPolicy{petrel.DropNewest, petrel.DropOldest} {
		seen := new(dropRecorder)
		inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{seen}, QueueMessages: 3, QueueFull: policy}, func(t *testing.T, b *brokertest.Broker) {
			sub := b.Connect(brokertest.Durable("sub"))
			sub.Subscribe(packets.ExactlyOnce, "t")
			sub.Drop()
			hostPublishes(t, b, packets.AtLeastOnce, "a")
			for range 2 {
				require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "t", QoS: 2, Expiry: 10 * time.Second}))
			}
			time.Sleep(10 * time.Second)
			hostPublishes(t, b, packets.AtLeastOnce, "b", "c")
			require.Equal(t, drops(petrel.DropExpired, 2, 2), seen.take())
			sub = b.Connect(brokertest.Durable("sub"))
			for _, payload := range []string{"a", "b", "c"} {
				sub.Accept(sub.ExpectPublish("t", payload))
			}
			sub.ExpectNothing()
			require.Empty(t, seen.take())
		})
	}
}

// Each way in which a message is lost, told once, with who, what and why.
func TestDropReasons(t *testing.T) {
	tests := []struct {
		name    string
		options petrel.Options
		lose    func(t *testing.T, b *brokertest.Broker)
		want    []petrel.Drop
	}{
		{"a session ends with its queue and what was not acknowledged", petrel.Options{MaximumInflight: 1}, func(t *testing.T, b *brokertest.Broker) {
			sub := b.Connect(brokertest.ID("sub"))
			sub.Subscribe(packets.ExactlyOnce, "t")
			hostPublishes(t, b, packets.ExactlyOnce, "sent")
			hostPublishes(t, b, packets.AtLeastOnce, "queued")
			sub.ExpectPublish("t", "sent")
			sub.Drop()
		}, drops(petrel.DropSessionEnded, 2, 1)},
		{"a session ends with a message that was released", petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			sub := b.Connect(brokertest.ID("sub"))
			sub.Subscribe(packets.ExactlyOnce, "t")
			hostPublishes(t, b, packets.ExactlyOnce, "sent")
			sub.Send(&packets.Pubrec{PacketID: sub.ExpectPublish("t", "sent").PacketID})
			brokertest.Expect[*packets.Pubrel](sub)
			sub.Drop()
		}, nil},
		{"a session expires", petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			sub := b.Connect(brokertest.Durable("sub"))
			sub.Subscribe(packets.ExactlyOnce, "t")
			sub.Drop()
			hostPublishes(t, b, packets.AtLeastOnce, "queued")
			time.Sleep(2 * time.Hour)
		}, drops(petrel.DropSessionEnded, 1)},
		{"a session is discarded", petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			sub := b.Connect(brokertest.Durable("sub"))
			sub.Subscribe(packets.ExactlyOnce, "t")
			sub.Drop()
			hostPublishes(t, b, packets.AtLeastOnce, "queued")
			b.Connect(brokertest.ID("sub")).ExpectNothing()
		}, drops(petrel.DropSessionEnded, 1)},
		{"expired in the queue", petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			sub := b.Connect(brokertest.Durable("sub"))
			sub.Subscribe(packets.ExactlyOnce, "t")
			sub.Drop()
			require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "t", QoS: 1, Expiry: time.Second}))
			time.Sleep(time.Minute)
			b.Connect(brokertest.Durable("sub")).ExpectNothing()
		}, drops(petrel.DropExpired, 1)},
		{"retained messages at their limit", petrel.Options{MaximumRetained: 1}, func(t *testing.T, b *brokertest.Broker) {
			pub := b.Connect(brokertest.ID("pub"))
			m := packets.Publish{Topic: []byte("a"), Payload: []byte("m"), QoS: 1, Retain: true}
			require.False(t, pub.PublishWith(m).IsError())
			require.False(t, pub.PublishWith(m).IsError(), "one is replaced")
			m.Topic, m.PacketID = []byte("b"), 0
			require.Equal(t, packets.QuotaExceeded, pub.PublishWith(m))
		}, []petrel.Drop{{Topic: "b", QoS: 1, Reason: petrel.DropRetainedFull}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			seen := new(dropRecorder)
			tt.options.Hooks = []petrel.Hook{seen}
			inFakeTime(t, tt.options, func(t *testing.T, b *brokertest.Broker) {
				tt.lose(t, b)
				synctest.Wait()
				require.Equal(t, tt.want, seen.take())
				count := make(map[petrel.DropReason]uint64)
				for _, d := range tt.want {
					count[d.Reason]++
				}
				require.Equal(t, count, b.Stats().Dropped)
			})
		})
	}
}

// At the memory limit of the broker queues count as full, whoever's they are.
func TestMemoryLimit(t *testing.T) {
	seen := new(dropRecorder)
	inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{seen}, MemoryLimit: 100}, func(t *testing.T, b *brokertest.Broker) {
		for _, id := range []string{"sub", "other"} {
			sub := b.Connect(brokertest.Durable(id))
			sub.Subscribe(packets.AtLeastOnce, map[string]string{"sub": "t", "other": "o"}[id])
			sub.Drop()
		}
		hostPublishesTo(t, b, packets.AtLeastOnce, "o", strings.Repeat("x", 59))
		require.EqualValues(t, 60, b.Stats().MessageBytes)
		hostPublishes(t, b, packets.AtLeastOnce, strings.Repeat("x", 40)) // 41 bytes: one too many
		require.Equal(t, drops(petrel.DropMemory, 1), seen.take())
		hostPublishes(t, b, packets.AtLeastOnce, strings.Repeat("x", 39)) // 40 bytes
		require.Empty(t, seen.take())
		require.EqualValues(t, 100, b.Stats().MessageBytes)
		hostPublishes(t, b, packets.AtLeastOnce, "")
		require.Equal(t, drops(petrel.DropMemory, 1), seen.take())

		pub := b.Connect(brokertest.ID("pub"))
		code := pub.PublishWith(packets.Publish{Topic: []byte("kept"), Payload: []byte("m"), QoS: 1, Retain: true})
		require.Equal(t, packets.QuotaExceeded, code)
		synctest.Wait()
		require.Equal(t, []petrel.Drop{{Topic: "kept", QoS: 1, Reason: petrel.DropMemory}}, seen.take())

		other := b.Connect(brokertest.Durable("other"))
		other.Accept(other.ExpectPublish("o", strings.Repeat("x", 59)))
		other.ExpectNothing()
		require.EqualValues(t, 40, b.Stats().MessageBytes)
		code = pub.PublishWith(packets.Publish{Topic: []byte("kept"), Payload: []byte("m"), QoS: 1, Retain: true})
		require.Equal(t, packets.NoMatchingSubscribers, code)
		require.EqualValues(t, 45, b.Stats().MessageBytes)
		sub := b.Connect(brokertest.Durable("sub"))
		sub.Accept(sub.ExpectPublish("t", strings.Repeat("x", 39)))
		sub.ExpectNothing()
		hostPublishesTo(t, b, packets.AtLeastOnce, "nobody", "m")
		require.Equal(t, packets.NoMatchingSubscribers, pub.PublishWith(packets.Publish{Topic: []byte("kept"), QoS: 1, Retain: true}))
		require.Zero(t, b.Stats().MessageBytes)
	})
}

// A subscriber that reads nothing holds up neither the publisher nor others, and
// gets everything it is owed, in order, when it reads again.
func TestStalledSubscriber(t *testing.T) {
	tests := []struct {
		name    string
		options petrel.Options
		size    int
		n       int
	}{
		{"small messages", petrel.Options{QueueMessages: -1, QueueBytes: -1}, 200, 700},
		{"messages that are shared", petrel.Options{QueueMessages: -1, QueueBytes: -1}, 20_000, 120},
		{"a small outbound buffer", petrel.Options{QueueMessages: -1, QueueBytes: -1, OutboundBytes: 1000}, 100, 500},
		{"a small window", petrel.Options{QueueMessages: -1, QueueBytes: -1, MaximumInflight: 3}, 100, 300},
	}
	for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s, %v", tt.name, qos), func(t *testing.T) {
				inFakeTime(t, tt.options, func(t *testing.T, b *brokertest.Broker) {
					stalled, other, pub := b.Connect(brokertest.ID("stalled")), b.Connect(brokertest.ID("other")), b.Connect(brokertest.ID("pub"))
					stalled.Subscribe(qos, "t")
					other.Subscribe(qos, "t")
					stalled.Stall()
					start := time.Now()
					payload := func(i int) string { return fmt.Sprintf("%*d", tt.size, i) }
					for i := range tt.n {
						pub.Publish("t", payload(i), qos)
						other.Accept(other.ExpectPublish("t", payload(i)))
					}
					require.Zero(t, time.Since(start), "somebody was held up")
					stalled.Resume()
					for i, m := range acceptAll(t, stalled, tt.n) {
						if string(m.Payload) != payload(i) {
							t.Fatalf("message %d is %.10q", i, strings.TrimSpace(string(m.Payload)))
						}
					}
					stalled.ExpectNothing()
					require.Empty(t, b.Stats().Dropped)
					require.Zero(t, b.Stats().MessageBytes)
				})
			})
		}
	}
}

// What a stalled subscriber costs is bounded by its buffer and its queue; then
// its messages are dropped, and only its.
func TestStalledSubscriberIsBounded(t *testing.T) {
	const size, n = 1000, 500
	options := petrel.Options{OutboundBytes: 50_000, QueueMessages: 100, QueueBytes: -1, Logger: silent()}
	for _, policy := range []petrel.DropPolicy{petrel.DropNewest, petrel.DropOldest} {
		options.QueueFull = policy
		inFakeTime(t, options, func(t *testing.T, b *brokertest.Broker) {
			stalled, other := b.Connect(brokertest.ID("stalled")), b.Connect(brokertest.ID("other"))
			stalled.Subscribe(packets.AtMostOnce, "t")
			other.Subscribe(packets.AtMostOnce, "t")
			stalled.Stall()
			payload := func(i int) string { return fmt.Sprintf("%*d", size, i) }
			for i := range n {
				hostPublishes(t, b, packets.AtMostOnce, payload(i))
				other.ExpectPublish("t", payload(i))
				if i == 0 {
					synctest.Wait() // the read that has begun ends, and nothing makes room later
				}
			}
			synctest.Wait()
			require.Equal(t, 100, sessionInfo(t, b, "stalled").Queued)
			lost := int(b.Stats().Dropped[petrel.DropQueueFull])
			require.Greater(t, lost, n-100-100)
			stalled.Resume()
			last := -1
			for range n - lost {
				m := brokertest.Expect[*packets.Publish](stalled)
				var i int
				_, err := fmt.Sscan(string(m.Payload), &i)
				require.NoError(t, err)
				require.Greater(t, i, last, "out of order")
				last = i
			}
			if policy == petrel.DropOldest {
				require.Equal(t, n-1, last)
			} else {
				require.Equal(t, n-lost-1, last)
			}
			stalled.ExpectNothing()
		})
	}
}

// A stalled subscriber of large messages that are shared with others.
func TestStalledSubscriberOfLargePayloads(t *testing.T) {
	inFakeTime(t, petrel.Options{QueueBytes: -1, Logger: silent()}, func(t *testing.T, b *brokertest.Broker) {
		stalled, other, pub := b.Connect(brokertest.ID("stalled")), b.Connect(brokertest.ID("other")), b.Connect(brokertest.ID("pub"))
		stalled.Subscribe(packets.AtLeastOnce, "t")
		other.Subscribe(packets.AtLeastOnce, "t")
		stalled.Stall()
		payload := func(i int) string { return strings.Repeat(string(rune('a'+i)), 1<<20) }
		for i := range 12 {
			pub.Publish("t", payload(i), packets.AtLeastOnce)
			other.Accept(other.ExpectPublish("t", payload(i)))
		}
		stalled.Resume()
		for i, m := range acceptAll(t, stalled, 12) {
			require.True(t, string(m.Payload) == payload(i), "message %d", i)
		}
		stalled.ExpectNothing()
	})
}

// A stalled client that goes away while much waits for it leaves nothing behind.
func TestStalledSubscriberLeaves(t *testing.T) {
	inFakeTime(t, petrel.Options{Logger: silent()}, func(t *testing.T, b *brokertest.Broker) {
		stalled := b.Connect(brokertest.ID("stalled"))
		stalled.Subscribe(packets.AtLeastOnce, "t")
		stalled.Stall()
		for range 2000 {
			hostPublishes(t, b, packets.AtLeastOnce, strings.Repeat("x", 500))
		}
		stalled.Drop()
		synctest.Wait()
		require.Zero(t, b.Stats().MessageBytes)
		require.Zero(t, b.Stats().Sessions)
		require.Equal(t, map[petrel.DropReason]uint64{petrel.DropSessionEnded: 2000}, b.Stats().Dropped)
	})
}

// A durable session whose client stalled gets after its return what it did not
// acknowledge, then what waited, each message once.
func TestStalledSubscriberReturns(t *testing.T) {
	inFakeTime(t, petrel.Options{Logger: silent(), MaximumInflight: 50}, func(t *testing.T, b *brokertest.Broker) {
		stalled := b.Connect(brokertest.Durable("sub"))
		stalled.Subscribe(packets.AtLeastOnce, "t")
		stalled.Stall()
		const n = 500
		for i := range n {
			hostPublishes(t, b, packets.AtLeastOnce, fmt.Sprint(i))
		}
		sub := b.Connect(brokertest.Durable("sub"))
		for i, m := range acceptAll(t, sub, n) {
			require.Equal(t, fmt.Sprint(i), string(m.Payload))
			require.Equal(t, i < 50, m.Dup)
		}
		sub.ExpectNothing()
		require.Zero(t, b.Stats().MessageBytes)
	})
}

// A client that publishes and does not read its acknowledgements is not read
// from any more; others go on.
func TestPublisherThatDoesNotRead(t *testing.T) {
	inFakeTime(t, petrel.Options{OutboundBytes: 1000}, func(t *testing.T, b *brokertest.Broker) {
		sub, pub := b.Connect(brokertest.ID("sub")), b.Connect(brokertest.ID("pub"))
		sub.Subscribe(packets.AtMostOnce, "t")
		pub.Stall()
		const n = 3000
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for id := range uint16(n) {
				pub.Send(&packets.Publish{Topic: []byte("t"), QoS: packets.AtLeastOnce, PacketID: id + 1})
			}
		}()
		synctest.Wait()
		select {
		case <-sent:
			t.Fatal("everything was taken, and the answers are without bound")
		default:
		}
		sub.ExpectPublish("t", "")
		other := b.Connect(brokertest.ID("other"))
		other.Publish("x", "", packets.AtLeastOnce)
		pub.Resume()
		for id := range uint16(n) {
			require.Equal(t, id+1, brokertest.Expect[*packets.Puback](pub).PacketID)
		}
		<-sent
		for range n - 1 {
			sub.ExpectPublish("t", "")
		}
	})
}
