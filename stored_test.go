package petrel_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// long is how many messages are many: some pages, and more than memory keeps.
const long = 1500

// offline makes sessions with a subscription of QoS 2 for their name and for "all".
func offline(b *brokertest.Broker, ids ...string) {
	for _, id := range ids {
		c := b.Connect(brokertest.Durable(id))
		c.Subscribe(packets.ExactlyOnce, id, "all")
		c.Leave(packets.NormalDisconnection)
	}
}

// fill publishes the numbers from first to last, with QoS 1 and 2 in turn.
func fill(t *testing.T, b *brokertest.Broker, topic string, first, last int) {
	t.Helper()
	for i := first; i <= last; i++ {
		hostPublishesTo(t, b, petrel.QoS(1+i%2), topic, strconv.Itoa(i))
	}
}

// take takes and acknowledges what comes until n messages are there, or nothing more
// comes, and returns the payloads.
func take(t *testing.T, c *brokertest.Client, n int) (payloads []string) {
	t.Helper()
	for len(payloads) < n {
		if c.Waiting() == 0 {
			if synctest.Wait(); c.Waiting() == 0 {
				return payloads
			}
		}
		payloads = append(payloads, answer(c, c.Receive())...)
	}
	return payloads
}

// answer acknowledges a packet, and returns its payload if it is a PUBLISH.
func answer(c *brokertest.Client, packet packets.Packet) []string {
	switch p := packet.(type) {
	case *packets.Publish:
		switch p.QoS {
		case packets.AtLeastOnce:
			c.Send(&packets.Puback{PacketID: p.PacketID})
		case packets.ExactlyOnce:
			c.Send(&packets.Pubrec{PacketID: p.PacketID})
		}
		return []string{string(p.Payload)}
	case *packets.Pubrel:
		c.Send(&packets.Pubcomp{PacketID: p.PacketID})
	}
	return nil
}

// same compares payloads, of which there are many.
func same(t *testing.T, want, got []string) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		require.Equal(t, want[i], got[i], "payload %d, of %d", i, len(got))
	}
	require.Equal(t, len(want), len(got), "payloads")
}

// numbers are those from first to last, as payloads.
func numbers(first, last int) (list []string) {
	for i := first; i <= last; i++ {
		list = append(list, strconv.Itoa(i))
	}
	return list
}

const everything = 1 << 30

func queuedFor(b *brokertest.Broker, id string) petrel.ClientInfo {
	for c := range b.Clients() {
		if c.ID == id {
			return c
		}
	}
	return petrel.ClientInfo{}
}

// expectEmpty checks that nothing is left of any message, in memory or on the disk.
func (m *machine) expectEmpty(t *testing.T, b *brokertest.Broker) {
	t.Helper()
	kinds := m.kinds()
	delete(kinds, "s")
	delete(kinds, "u")
	require.Empty(t, kinds)
	require.Zero(t, b.Stats().MessageBytes)
}

func TestLongQueuesAreInTheStoreOnly(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		offline(b, "a", "b")
		fill(t, b, "all", 1, long)
		fill(t, b, "a", long+1, 2*long)
		require.Equal(t, 2*long, queuedFor(b, "a").Queued)
		require.Equal(t, long, queuedFor(b, "b").Queued)
		size := len("all") + 4
		require.Less(t, b.Stats().MessageBytes, int64(200*size), "memory has the ends of each")
		require.Equal(t, map[string]int{"s": 2, "u": 4, "q": 3 * long, "m": long}, m.kinds())

		a := b.Connect(brokertest.Durable("a"))
		same(t, numbers(1, 2*long), take(t, a, everything))
		require.Equal(t, map[string]int{"s": 2, "u": 4, "q": long, "m": long}, m.kinds(), "b holds what is for both")
		same(t, numbers(1, long), take(t, b.Connect(brokertest.Durable("b")), everything))
		m.expectEmpty(t, b)
		fill(t, b, "all", 1, 3) // is one in memory again
		same(t, numbers(1, 3), take(t, a, everything))
	})
}

func TestLongQueuesAfterARestart(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		offline(b, "a", "b")
		fill(t, b, "all", 1, long)
		size := queuedFor(b, "a").QueuedBytes
		b = m.restart(discreet)
		require.Less(t, b.Stats().MessageBytes, int64(size/10), "memory has the beginnings")
		require.Equal(t, []int{long, size}, []int{queuedFor(b, "a").Queued, queuedFor(b, "a").QueuedBytes})
		fill(t, b, "all", long+1, 2*long)

		p := brokertest.Durable("a")
		p.ReceiveMaximum = 10
		a := b.Connect(p)
		same(t, numbers(1, 700), take(t, a, 700))
		synctest.Wait()
		b = m.restart(discreet)
		same(t, numbers(701, 2*long), take(t, b.Connect(p), everything))
		b = m.restart(discreet)
		same(t, numbers(1, 2*long), take(t, b.Connect(brokertest.Durable("b")), everything))
		m.expectEmpty(t, b)
	})
}

// A subscriber that is slow, and never offline.
func TestLongQueueOfASlowSubscriber(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		p := brokertest.Durable("a")
		p.ReceiveMaximum = 5
		a := b.Connect(p)
		a.Subscribe(packets.ExactlyOnce, "a")
		const n = 4000
		for i := 1; i <= n; i++ {
			hostPublishesTo(t, b, petrel.QoS(i%3), "a", strconv.Itoa(i))
		}
		same(t, numbers(1, n), take(t, a, everything)) // all QoS levels in one order
		m.expectEmpty(t, b)
		require.Zero(t, queuedFor(b, "a").Queued)
	})
}

// Publishers go on while a long queue drains.
func TestLongQueueIsCaughtUpWith(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		offline(b, "a")
		fill(t, b, "a", 1, long)
		p := brokertest.Durable("a")
		p.ReceiveMaximum = 30
		a := b.Connect(p)
		var got []string
		for i := long + 1; i <= 2*long; i++ {
			hostPublishesTo(t, b, petrel.QoS(i%3), "a", strconv.Itoa(i))
			got = append(got, take(t, a, 3)...)
		}
		got = append(got, take(t, a, everything)...)
		same(t, numbers(1, 2*long), got)
		m.expectEmpty(t, b)
	})
}

func TestMessagesThatExpireInALongQueue(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		seen := new(dropRecorder)
		o := petrel.Options{Logger: silent(), Hooks: []petrel.Hook{seen}}
		b := m.start(o)
		offline(b, "a", "b")
		for i := 1; i <= long; i++ {
			message := petrel.Message{Topic: "all", Payload: []byte(strconv.Itoa(i)), QoS: 1}
			if i > 200 && i <= 1200 {
				message.Expiry = time.Minute
			}
			require.NoError(t, b.Publish(t.Context(), message))
		}
		want := append(numbers(1, 200), numbers(1201, long)...)
		for _, id := range []string{"a", "b"} {
			time.Sleep(2 * time.Minute)
			same(t, want, take(t, b.Connect(brokertest.Durable(id)), everything))
			require.Len(t, seen.take(), 1000)
			b = m.restart(o)
		}
		m.expectEmpty(t, b)
		require.Zero(t, b.Stats().Dropped[petrel.DropExpired])
	})
}

func TestLimitsOfALongQueue(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		o := petrel.Options{Logger: silent(), QueueMessages: 500}
		b := m.start(o)
		offline(b, "a")
		fill(t, b, "a", 1, 600)
		require.Equal(t, 500, queuedFor(b, "a").Queued)
		require.EqualValues(t, 100, b.Stats().Dropped[petrel.DropQueueFull])
		o.QueueMessages, o.QueueBytes = 0, queuedFor(b, "a").QueuedBytes+10
		b = m.restart(o)
		fill(t, b, "a", 601, 610)
		require.EqualValues(t, 8, b.Stats().Dropped[petrel.DropQueueFull])
		same(t, append(numbers(1, 500), numbers(601, 602)...), take(t, b.Connect(brokertest.Durable("a")), everything))
		m.expectEmpty(t, b)
	})
}

// What has expired in front makes room, although it has to be read for that.
func TestFullLongQueueOfExpiredMessages(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		o := petrel.Options{Logger: silent(), QueueMessages: 500}
		b := m.start(o)
		offline(b, "a")
		for range 500 {
			require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "a", Payload: []byte("old"), QoS: 1, Expiry: time.Minute}))
		}
		time.Sleep(2 * time.Minute)
		b = m.restart(o)
		for i := range 40 {
			hostPublishesTo(t, b, 1, "a", strconv.Itoa(i))
			time.Sleep(2 * time.Second)
		}
		require.Greater(t, queuedFor(b, "a").Queued, 0)
		got := take(t, b.Connect(brokertest.Durable("a")), everything)
		require.Greater(t, len(got), 30)
		m.expectEmpty(t, b)
	})
}

func TestDropOldestOfALongQueue(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				seen := new(dropRecorder)
				o := petrel.Options{Logger: silent(), QueueMessages: 500, QueueFull: petrel.DropOldest, Hooks: []petrel.Hook{seen}}
				b := m.start(o)
				offline(b, "a")
				fill(t, b, "a", 1, 500)
				if restart {
					b = m.restart(o)
				}
				for i := 501; i < long; i += 100 { // it may be a page longer for a moment
					fill(t, b, "a", i, i+99)
					synctest.Wait()
					require.Equal(t, 500, queuedFor(b, "a").Queued)
				}
				require.Len(t, seen.take(), long-500)
				same(t, numbers(long-499, long), take(t, b.Connect(brokertest.Durable("a")), everything))
				m.expectEmpty(t, b)
			})
		})
	}
}

// With the memory limit reached, what the store has room for waits there.
func TestMemoryLimitLeavesMessagesToTheStore(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		const limit = 20_000
		o := petrel.Options{Logger: silent(), MemoryLimit: limit}
		b := m.start(o)
		ids := []string{"a", "b", "c", "d"}
		offline(b, ids...)
		payload := bytes.Repeat([]byte("x"), 1000)
		for i := range 200 {
			hostPublishesTo(t, b, 1, "all", fmt.Sprintf("%d %s", i, payload))
			require.LessOrEqual(t, b.Stats().MessageBytes, int64(limit))
		}
		require.Zero(t, b.Stats().Dropped[petrel.DropMemory])
		p := brokertest.Durable("")
		p.ReceiveMaximum = 4
		for _, id := range ids {
			p.ClientID = []byte(id)
			c := b.Connect(p)
			for i := range 200 {
				got := take(t, c, 1)
				require.Equal(t, []string{fmt.Sprintf("%d %s", i, payload)}, got)
				require.LessOrEqual(t, b.Stats().MessageBytes, int64(limit+10)) // as one can be larger than most are
			}
			c.Leave(packets.NormalDisconnection)
		}
		m.expectEmpty(t, b)
	})
}

// What the store has room for leaves the last quarter of what retained messages leave
// to what it has no room for, also in flight and when it is read back.
func TestMemoryLimitLeavesRoomBesideTheStore(t *testing.T) {
	const limit = 20_000
	payload := strings.Repeat("x", 997)
	for _, tc := range []struct {
		name         string
		kept, atMost int // bytes
	}{
		{"nothing retained", 0, 15_000},
		{"as much retained as may be", 15_000, 18_750},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				o := petrel.Options{Logger: silent(), MemoryLimit: limit, MaximumRetainedBytes: -1}
				b := m.start(o)
				full := func(of string) {
					t.Helper()
					synctest.Wait()
					require.LessOrEqual(t, b.Stats().MessageBytes, int64(tc.atMost), of)
					require.Greater(t, b.Stats().MessageBytes, int64(tc.atMost-1000), of)
				}
				if tc.kept > 0 {
					retainBytes(t, b, "kept", tc.kept)
				}
				flights := b.Connect(brokertest.Durable("a"))
				flights.Subscribe(packets.AtLeastOnce, "all")
				for range 30 {
					hostPublishesTo(t, b, 1, "all", payload)
				}
				full("in flight")
				retainBytes(t, b, "more", limit-tc.atMost)
				retainBytes(t, b, "more", 0)
				require.Len(t, take(t, flights, everything), 30)
				flights.Leave(packets.NormalDisconnection)
				for range 30 {
					hostPublishesTo(t, b, 1, "all", payload)
				}
				full("waiting")
				b = m.restart(o)
				full("restored")
				c := b.Connect(brokertest.Durable("a"))
				for range 15 {
					full("read back")
					take(t, c, 1)
				}
				full("read back")
				retainBytes(t, b, "more", limit-tc.atMost)
				require.Zero(t, b.Stats().Dropped[petrel.DropMemory])
			})
		})
	}
}

// After a start, too, what waits leaves memory to what is in flight, whose session may be
// read later.
func TestRestoredQueuesLeaveRoomForFlights(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		o := petrel.Options{Logger: silent(), MemoryLimit: 20_000}
		b := m.start(o)
		offline(b, "a", "b")
		payload := strings.Repeat("x", 999)
		inFlight := b.Connect(brokertest.Durable("b"))
		for range 14 {
			hostPublishesTo(t, b, 1, "b", payload)
			inFlight.ExpectPublish("b", payload)
		}
		for range 14 {
			hostPublishesTo(t, b, 1, "a", payload)
		}
		b = m.restart(o)
		require.EqualValues(t, 14_000, b.Stats().MessageBytes)
		require.Len(t, take(t, b.Connect(brokertest.Durable("a")), everything), 14)
		require.Len(t, take(t, b.Connect(brokertest.Durable("b")), everything), 14)
		m.expectEmpty(t, b)
	})
}

// retainBytes has the broker retain a message of so many bytes, none to remove it.
func retainBytes(t *testing.T, b *brokertest.Broker, topic string, size int) {
	t.Helper()
	payload := make([]byte, max(size-len(topic), 0))
	require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: topic, Payload: payload, QoS: 1, Retain: true}))
}

// The bubble waits with a load that is held up.
func (m *machine) holdLoads() (release func()) { return m.holdLoadsFrom(1) }

// holdLoadsFrom lets the first n-1 loads pass.
func (m *machine) holdLoadsFrom(n int64) (release func()) {
	gate := make(chan struct{})
	var loads atomic.Int64
	m.store.BeforeLoad(func(_, _ []byte) error {
		if loads.Add(1) >= n {
			<-gate
		}
		return nil
	})
	return func() { m.store.BeforeLoad(nil); close(gate) }
}

func TestTakeoverWhileAPageIsRead(t *testing.T) {
	for _, tc := range []struct {
		name string
		by   func(b *brokertest.Broker, first *brokertest.Client) *brokertest.Client
	}{
		{"by another connection", func(b *brokertest.Broker, first *brokertest.Client) *brokertest.Client {
			return b.Connect(brokertest.Durable("a"))
		}},
		{"after it has left", func(b *brokertest.Broker, first *brokertest.Client) *brokertest.Client {
			first.Drop()
			return b.Connect(brokertest.Durable("a"))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b := m.start(discreet)
				offline(b, "a")
				fill(t, b, "a", 1, long)
				b = m.restart(discreet)
				release := m.holdLoads()
				first := b.Connect(brokertest.Durable("a"))
				synctest.Wait()
				require.Len(t, arrived(t, first), 32, "the rest is read, for which its reader does not wait")
				second := tc.by(b, first)
				fill(t, b, "a", long+1, long+5)
				release()
				same(t, numbers(1, long+5), take(t, second, everything))
				m.expectEmpty(t, b)
			})
		})
	}
}

func TestSubscriberThatLeavesInTheMiddleOfAPage(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		offline(b, "a")
		fill(t, b, "a", 1, long)
		p := brokertest.Durable("a")
		p.ReceiveMaximum = 1
		var got []string
		for i := 0; len(got) < long; i++ {
			c := b.Connect(p)
			some := take(t, c, 1+i*37%200)
			require.NotEmpty(t, some)
			got = append(got, some...)
			if synctest.Wait(); i%3 == 2 {
				b = m.restart(discreet)
			} else {
				c.Drop()
			}
		}
		same(t, numbers(1, long), got)
		require.Empty(t, take(t, b.Connect(p), everything))
		m.expectEmpty(t, b)
	})
}

// The page that is read goes behind what is in memory when it has come.
func TestSubscriberThatLeavesWhileItsNextPageIsRead(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		offline(b, "a")
		fill(t, b, "a", 1, long)
		b = m.restart(discreet)
		p := brokertest.Durable("a")
		p.ReceiveMaximum = 1
		a := b.Connect(p)
		got := take(t, a, 100)
		release := m.holdLoads()
		got = append(got, take(t, a, 80)...)
		synctest.Wait()
		a.Drop()
		fill(t, b, "a", long+1, long+300)
		synctest.Wait()
		release()
		got = append(got, take(t, b.Connect(p), everything)...)
		same(t, numbers(1, long+300), got)
		m.expectEmpty(t, b)
	})
}

// A store that cannot be read takes nothing away: who waits for it is told, and gets
// everything later.
func TestReadThatFails(t *testing.T) {
	for name, load := range map[string]func(_, _ []byte) error{
		"with an error": func(_, _ []byte) error { return errors.New("the disk is on fire") },
		"with a panic":  func(_, _ []byte) error { panic("on fire") },
	} {
		t.Run(name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				var log bytes.Buffer
				o := petrel.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
				b := m.start(o)
				offline(b, "a")
				fill(t, b, "a", 1, long)
				p := brokertest.Durable("a")
				p.ReceiveMaximum = 1
				a := b.Connect(p)
				same(t, numbers(1, 10), take(t, a, 10))
				m.store.BeforeLoad(load)
				got := numbers(1, 10)
				for {
					packet, ok := a.Next()
					require.True(t, ok, "it is told")
					if d, last := packet.(*packets.Disconnect); last {
						require.Equal(t, packets.UnspecifiedError, d.Reason)
						break
					}
					got = append(got, answer(a, packet)...)
				}
				synctest.Wait()
				require.Contains(t, log.String(), "what waits for a client cannot be read from the store")
				fill(t, b, "a", long+1, long+2) // goes on
				synctest.Wait()
				require.InDelta(t, long+2-len(got), queuedFor(b, "a").Queued, 2)
				m.store.BeforeLoad(nil)
				got = append(got, take(t, b.Connect(p), everything)...)
				same(t, numbers(1, long+2), slices.Compact(got)) // whose PUBACK came too late came again
				m.expectEmpty(t, b)
			})
		})
	}
}

func TestDamagedRecordInALongQueue(t *testing.T) {
	for _, tc := range []struct {
		name, topic, says string
		kind              byte
		damage            func(records map[string][]byte, key string)
		aside             int
	}{
		{"a delivery", "a", "its checksum is wrong", 'q', damageRecord, 1},
		{"a delivery that is gone", "a", "are not in the store any more", 'q', removeRecord, 0},
		{"a message", "all", "its message is missing", 'm', damageRecord, 1},
		{"a message that is gone", "all", "its message is missing", 'm', removeRecord, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				var log bytes.Buffer
				o := petrel.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
				b := m.start(o)
				offline(b, "a", "b")
				fill(t, b, tc.topic, 1, long)
				b.Connect(brokertest.Durable("b")).Leave(packets.NormalDisconnection)
				synctest.Wait()
				m.disk.Edit(func(records map[string][]byte) {
					var keys []string
					for k := range records {
						if k[2] == tc.kind {
							keys = append(keys, k)
						}
					}
					slices.Sort(keys)
					tc.damage(records, keys[699]) // of a, which comes first
				})
				a := b.Connect(brokertest.Durable("a"))
				same(t, append(numbers(1, 699), numbers(701, long)...), take(t, a, everything))
				synctest.Wait()
				require.Contains(t, log.String(), tc.says)
				require.Equal(t, tc.aside, m.kinds()["x"])
				fill(t, b, "a", 1, 2)
				same(t, numbers(1, 2), take(t, a, everything))
				require.Zero(t, queuedFor(b, "a").Queued)
				require.Zero(t, queuedFor(b, "a").QueuedBytes)
			})
		})
	}
}

func damageRecord(records map[string][]byte, key string) {
	v := bytes.Clone(records[key])
	v[len(v)/2] ^= 1
	records[key] = v
}

func removeRecord(records map[string][]byte, key string) { delete(records, key) }
