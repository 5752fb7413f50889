package petrel_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/store/storetest"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// takesOne connects a, which takes a message and no more.
func takesOne(t *testing.T, b *brokertest.Broker) *brokertest.Client {
	t.Helper()
	p := brokertest.Durable("a")
	p.ReceiveMaximum = 1
	a := b.Connect(p)
	require.Equal(t, []string{"1"}, take(t, a, 1))
	return a
}

// endings are the ways in which a session ends.
var endings = []struct {
	name string
	end  func(t *testing.T, b *brokertest.Broker)
}{
	{"it expires", func(*testing.T, *brokertest.Broker) { time.Sleep(2 * time.Hour) }},
	{"clean start", func(_ *testing.T, b *brokertest.Broker) {
		p := brokertest.Durable("a")
		p.CleanStart = true
		b.Connect(p)
	}},
	{"the client ends it", func(_ *testing.T, b *brokertest.Broker) {
		p := brokertest.Durable("a")
		p.ReceiveMaximum = 1
		c := b.Connect(p)
		c.Send(&packets.Disconnect{HasSessionExpiryInterval: true})
		for ok := true; ok; {
			_, ok = c.Next()
		}
	}},
	{"revoked", func(t *testing.T, b *brokertest.Broker) {
		require.NoError(t, b.Revoke(t.Context(), petrel.ByClientID("a")))
	}},
}

// The removal of a long queue is complete, counted, and holds up nobody: no commit of
// it is large. A crash in the middle of it leaves nothing either.
func TestSessionWithALongQueueEnds(t *testing.T) {
	const n = 4000
	for _, tc := range endings {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, crash %v", tc.name, crash), func(t *testing.T) {
				onMachine(t, func(t *testing.T, m *machine) {
					b := m.start(discreet)
					offline(b, "a", "b")
					fill(t, b, "a", 1, n/2)
					fill(t, b, "all", n/2+1, n)
					synctest.Wait()
					b = m.restart(discreet)
					var largest atomic.Int64
					m.store.Before(func(batch *petrel.Batch) { largest.Store(max(largest.Load(), int64(batch.Len()))) })
					if crash {
						m.store.FailAt(3, true)
						if tc.name == "it expires" {
							time.Sleep(2 * time.Hour)
						} else {
							go func() { _ = b.Revoke(t.Context(), petrel.ByClientID("a")) }()
						}
						synctest.Wait()
						b = m.restart(discreet)
						synctest.Wait()
					} else {
						tc.end(t, b)
						synctest.Wait()
						require.EqualValues(t, n, b.Stats().Dropped[petrel.DropSessionEnded]-ended(b, tc.name, n))
						require.Less(t, largest.Load(), int64(3000))
					}
					kinds := m.kinds()
					if tc.name != "it expires" {
						require.Equal(t, map[string]int{"q": n / 2, "m": n / 2}, map[string]int{"q": kinds["q"], "m": kinds["m"]}, "b holds the rest")
						same(t, numbers(n/2+1, n), take(t, b.Connect(brokertest.Durable("b")), everything))
					}
					m.expectEmpty(t, b)
				})
			})
		}
	}
}

// ended is what was dropped for b, which expires with a.
func ended(_ *brokertest.Broker, name string, n int) uint64 {
	if name == "it expires" {
		return uint64(n / 2)
	}
	return 0
}

// A session that ends while a page is read, or while it hands over.
func TestLongQueueEndsWhileItIsRead(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		offline(b, "a")
		fill(t, b, "a", 1, long)
		b = m.restart(discreet)
		release := m.holdLoads()
		c := b.Connect(brokertest.Durable("a"))
		synctest.Wait()
		require.NoError(t, b.Revoke(t.Context(), petrel.ByClientID("a")))
		for ok := true; ok; {
			_, ok = c.Next()
		}
		release()
		m.expectEmpty(t, b)
		require.EqualValues(t, long, b.Stats().Dropped[petrel.DropSessionEnded])
	})
}

// sharing makes a member of a shared subscription whose queue is long, and another
// one that is connected.
func sharing(t *testing.T, m *machine) (b *brokertest.Broker, other *brokertest.Client) {
	t.Helper()
	b = m.start(discreet)
	a := b.Connect(brokertest.Durable("a"))
	a.Subscribe(packets.AtLeastOnce, "$share/g/jobs", "own")
	a.Leave(packets.NormalDisconnection)
	for i := range 2 * long {
		hostPublishesTo(t, b, 1, []string{"jobs", "own"}[i%2], strconv.Itoa(1+i/2))
	}
	other = b.Connect(brokertest.Durable("b"))
	other.Subscribe(packets.AtLeastOnce, "$share/g/jobs")
	require.Zero(t, other.Waiting())
	return b, other
}

func TestLongQueueIsHandedOver(t *testing.T) {
	for _, tc := range []struct {
		name string
		held bool // by a store that is slow just then
	}{{"at once", false}, {"while a page is read", true}} {
		t.Run(tc.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b, other := sharing(t, m)
				p := brokertest.Durable("a")
				p.ReceiveMaximum = 1
				release := func() {}
				if tc.held {
					release = m.holdLoads()
				}
				a := b.Connect(p)
				require.Equal(t, []string{"1"}, take(t, a, 1))
				synctest.Wait()
				a.Drop()
				synctest.Wait()
				release()
				same(t, numbers(2, long), take(t, other, everything))
				got := take(t, b.Connect(brokertest.Durable("a")), everything)
				same(t, numbers(1, long), got) // what is its own
				m.expectEmpty(t, b)
			})
		})
	}
}

// eachOnce checks that two members have got all jobs together, none twice, and that
// the first has got what is its own.
func eachOnce(t *testing.T, a, other *brokertest.Client) (moved, rest int) {
	t.Helper()
	jobs := make(map[string]int)
	for _, job := range take(t, other, everything) {
		moved++
		jobs[job]++
	}
	own := 0
	for {
		if synctest.Wait(); a.Waiting() == 0 {
			break
		}
		got := a.Receive().(*packets.Publish)
		answer(a, got)
		if string(got.Topic) == "own" {
			own++
			continue
		}
		rest++
		jobs[string(got.Payload)]++
	}
	require.Equal(t, []int{long, long - 1}, []int{own, len(jobs)})
	for job, n := range jobs {
		require.Equal(t, 1, n, job)
	}
	return moved, rest
}

// Who comes back gets what has not been handed over yet, and nothing twice.
func TestLongQueueIsHandedOverInPart(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b, other := sharing(t, m)
		a := takesOne(t, b)
		synctest.Wait()
		release := m.holdLoadsFrom(2)
		a.Drop()
		synctest.Wait()
		a = b.Connect(brokertest.Durable("a"))
		synctest.Wait()
		release()
		moved, rest := eachOnce(t, a, other)
		require.Greater(t, moved, 100)
		require.Greater(t, rest, 100)
		m.expectEmpty(t, b)
	})
}

// Who comes back does not get what was handed over, although the disk still has it.
func TestLongQueueIsHandedOverBeforeTheDiskKnows(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b, other := sharing(t, m)
		p := brokertest.Durable("a")
		p.ReceiveMaximum = 1
		a := b.Connect(p)
		require.Equal(t, []string{"1"}, take(t, a, 1))
		synctest.Wait()
		var release func()
		m.store.BeforeLoad(func(_, _ []byte) error {
			if release == nil {
				release = m.slowly()
			}
			return nil
		})
		a.Drop()
		synctest.Wait()
		p.ReceiveMaximum = 1000
		a = b.Dial(packets.V5)
		a.Send(&p)
		synctest.Wait()
		release()
		brokertest.Expect[*packets.Connack](a)
		eachOnce(t, a, other)
		m.expectEmpty(t, b)
	})
}

func TestEndedLongQueueGoesToOtherMembers(t *testing.T) {
	for _, tc := range endings[1:] {
		t.Run(tc.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b, other := sharing(t, m)
				tc.end(t, b)
				same(t, numbers(1, long), take(t, other, everything))
				require.EqualValues(t, long, b.Stats().Dropped[petrel.DropSessionEnded])
				m.expectEmpty(t, b)
			})
		})
	}
}

// The Authorizers are asked about a long queue page by page.
func TestRightsOfALongQueue(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(s *scene)
	}{
		{"they have changed when it comes back", func(*scene) {}},
		{"they are applied while it is offline", func(s *scene) { s.reauthorize() }},
		{"they are applied, and the broker crashes", func(s *scene) { s.reauthorize(); s.restart() }},
		{"they change after a crash", func(s *scene) { s.restart() }},
	} {
		for _, check := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, check %v", tc.name, check), func(t *testing.T) {
				onMachine(t, func(t *testing.T, m *machine) {
					s := &scene{T: t, policy: &policy{check: check}, version: packets.V5, machine: m}
					s.start()
					c := s.anna()
					c.Subscribe(packets.AtLeastOnce, "good/#", "bad/#")
					c.Leave(packets.NormalDisconnection)
					var want []string
					refused := 0
					for i := range long {
						topic := fmt.Sprintf("good/%d", i%5)
						if i%3 == 0 || i > 600 && i < 1000 {
							topic = "bad/1"
							refused++
						} else {
							want = append(want, strconv.Itoa(i))
						}
						s.publish(topic, strconv.Itoa(i), 1)
					}
					s.deny("subscribe anna bad/#", "subscribe anna bad/1", "receive anna bad/1")
					tc.change(s)
					c = s.anna()
					same(t, want, take(t, c, everything))
					s.publish("good/1", "goes on", 1)
					same(t, []string{"goes on"}, take(t, c, everything))
					require.Zero(t, queuedFor(s.b, "a").Queued)
					if !strings.Contains(tc.name, "and the broker crashes") {
						s.dropped(refused)
					}
					m.expectEmpty(t, s.b)
				})
			})
		}
	}
}

// Rights that change while a long queue drains.
func TestRightsChangeWhileALongQueueDrains(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		s := &scene{T: t, policy: &policy{check: true}, version: packets.V5, machine: m}
		s.start()
		p := staying(s.version, "anna", "a")
		p.ReceiveMaximum = 10
		c := s.b.Connect(p)
		c.Subscribe(packets.AtLeastOnce, "good", "bad")
		c.Leave(packets.NormalDisconnection)
		for i := range 2 * long {
			s.publish([]string{"good", "bad"}[i%2], []string{"+", "-"}[i%2], 1)
		}
		s.restart()
		c = s.b.Connect(p)
		before := take(t, c, 500)
		s.deny("subscribe anna bad", "receive anna bad")
		s.reauthorize()
		after := take(t, c, everything)
		require.LessOrEqual(t, strings.Count(strings.Join(after, ""), "-"), 10, "those that were on their way")
		require.Equal(t, long, strings.Count(strings.Join(append(before, after...), ""), "+"))
		m.expectEmpty(t, s.b)
	})
}

// An Authorizer that cannot decide takes nothing away, and lets nothing through.
func TestUndecidedRightsOfALongQueue(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		s := &scene{T: t, policy: &policy{check: true}, version: packets.V5, machine: m}
		s.start()
		c := s.anna()
		c.Subscribe(packets.AtLeastOnce, "t/#")
		c.Leave(packets.NormalDisconnection)
		for i := range long {
			s.publish(fmt.Sprintf("t/%d", i), strconv.Itoa(i), 1)
		}
		s.restart()
		p := staying(s.version, "anna", "a")
		p.ReceiveMaximum = 10
		c = s.b.Connect(p)
		got := take(t, c, 100)
		s.fail(fmt.Errorf("the directory is down"))
		for {
			packet, ok := c.Next()
			require.True(t, ok)
			if d, last := packet.(*packets.Disconnect); last {
				require.Equal(t, packets.ServerBusy, d.Reason)
				break
			}
			got = append(got, answer(c, packet)...)
		}
		require.Less(t, len(got), long/2)
		s.fail(nil)
		got = append(got, take(t, s.anna(), everything)...)
		require.LessOrEqual(t, len(got), long+10)
		last := -1
		for _, p := range got { // each, in order, but for what came again
			n, err := strconv.Atoi(p)
			require.NoError(t, err)
			require.LessOrEqual(t, n, last+1)
			last = max(last, n)
		}
		require.Equal(t, long-1, last)
		m.expectEmpty(t, s.b)
	})
}

// What was removed between two messages is not read again, although the disk still has it.
func TestGapInALongQueue(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		offline(b, "a", "b")
		for i := 1; i <= 100; i++ {
			message := petrel.Message{Topic: "all", Payload: []byte(strconv.Itoa(i)), QoS: 1}
			if i == 70 {
				message.Expiry = time.Minute
			}
			require.NoError(t, b.Publish(t.Context(), message))
		}
		time.Sleep(2 * time.Minute)
		b = m.restart(discreet)
		synctest.Wait()
		release := m.slowly()
		p := brokertest.Durable("a")
		p.Version, p.ReceiveMaximum = packets.V5, 1
		c := b.Dial(packets.V5)
		c.Send(&p)
		synctest.Wait() // a page was read, and what has expired is dropped
		require.EqualValues(t, 1, b.Stats().Dropped[petrel.DropExpired])
		c.Drop() // and most of it is left to the store again
		synctest.Wait()
		p.ReceiveMaximum = 3
		c = b.Dial(packets.V5)
		c.Send(&p)
		synctest.Wait()
		release()
		brokertest.Expect[*packets.Connack](c)
		want := append(numbers(1, 69), numbers(71, 100)...)
		same(t, want, take(t, c, everything))
		require.EqualValues(t, 1, b.Stats().Dropped[petrel.DropExpired])
		same(t, want, take(t, b.Connect(brokertest.Durable("b")), everything))
		m.expectEmpty(t, b)
	})
}

// What has ended is removed to the end, although the store cannot be read for a while.
func TestLongQueueEndsWithAStoreThatFails(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		offline(b, "a")
		fill(t, b, "a", 1, long)
		synctest.Wait()
		m.disk.Edit(func(records map[string][]byte) {
			for k := range records {
				if k[2] == 'q' && strings.HasSuffix(k, "\x01\x00") { // of place 256, 512 and so on
					damageRecord(records, k)
				}
			}
		})
		var loads atomic.Int64
		m.store.BeforeLoad(func(_, _ []byte) error {
			if n := loads.Add(1); n < 3 || n == 5 {
				return storetest.ErrFault
			}
			return nil
		})
		require.NoError(t, b.Revoke(t.Context(), petrel.ByClientID("a")))
		m.store.FailAt(2, false)
		time.Sleep(time.Minute)
		require.Greater(t, loads.Load(), int64(5))
		require.Equal(t, map[string]int{"x": 1}, m.kinds())
		require.EqualValues(t, long-1, b.Stats().Dropped[petrel.DropSessionEnded])
		require.Zero(t, b.Stats().MessageBytes)
	})
}

// A broker that is closed does not wait until a long queue is removed. The next one goes on.
func TestShutdownWhileALongQueueIsRemoved(t *testing.T) {
	for _, fails := range []error{nil, storetest.ErrFault} {
		t.Run(fmt.Sprint(fails), func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b := m.start(discreet)
				offline(b, "a")
				fill(t, b, "a", 1, 2*long)
				gate := make(chan struct{})
				loads := 0
				m.store.BeforeLoad(func(_, _ []byte) error {
					if loads++; loads > 1 {
						<-gate
						return fails
					}
					return nil
				})
				require.NoError(t, b.Revoke(t.Context(), petrel.ByClientID("a")))
				synctest.Wait()
				ended := make(chan error, 1)
				go func() { ended <- b.Shutdown(t.Context()) }()
				synctest.Wait()
				close(gate)
				require.NoError(t, <-ended)
				require.Positive(t, m.kinds()["q"])
				b = m.start(discreet)
				require.Zero(t, b.Stats().Sessions)
				m.expectEmpty(t, b)
			})
		})
	}
}

// A session that ends while its queue goes to others: each message goes once.
func TestLongQueueEndsWhileItIsHandedOver(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b, other := sharing(t, m)
		a := takesOne(t, b)
		synctest.Wait()
		release := m.holdLoadsFrom(2)
		a.Drop()
		synctest.Wait()
		require.NoError(t, b.Revoke(t.Context(), petrel.ByClientID("a")))
		synctest.Wait()
		release()
		same(t, numbers(2, long), take(t, other, everything))
		m.expectEmpty(t, b)
	})
}

// Who has left a shared subscription still has what came by it, and others get that
// when its session ends.
func TestLongQueueOfWhoHasUnsubscribed(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b, other := sharing(t, m)
		a := takesOne(t, b)
		a.Send(&packets.Unsubscribe{PacketID: 1, Filters: packets.Filters(nil).Append("$share/g/jobs")})
		synctest.Wait()
		a.Drop()
		synctest.Wait()
		require.NoError(t, b.Revoke(t.Context(), petrel.ByClientID("a")))
		same(t, numbers(2, long), take(t, other, everything))
		m.expectEmpty(t, b)
	})
}

// While the store fails, who wants to wait for it is told so at once, and holds up no end.
func TestRevokeWhileTheStoreFails(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		offline(b, "a", "b")
		synctest.Wait()
		m.store.FailAt(1, true)
		revoke := func(id string) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return b.Revoke(ctx, petrel.ByClientID(id))
		}
		require.ErrorIs(t, revoke("a"), packets.UnspecifiedError, "the first to see it")
		require.ErrorIs(t, revoke("b"), packets.UnspecifiedError, "while it is tried again")
		require.NoError(t, b.Close())
	})
}
