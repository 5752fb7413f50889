package petrel_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// An acknowledgement waits for the commit that is on its way when its packet
// comes, and for the next one, which has the packet: for no more, however many
// clients there are. A disk that needs 100 ms for a sync lets it wait 200 ms at most.
func TestAcknowledgementWaitsForTwoCommitsAtMost(t *testing.T) {
	const delay, publishers = 100 * time.Millisecond, 50
	for _, qos := range []packets.QoS{packets.AtLeastOnce, packets.ExactlyOnce} {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b := m.start(discreet)
				sub := b.Connect(brokertest.Durable("subscriber"))
				sub.Subscribe(packets.ExactlyOnce, "#")
				sub.Leave(packets.NormalDisconnection)
				var clients []*brokertest.Client
				for i := range publishers {
					clients = append(clients, b.Connect(brokertest.Durable(fmt.Sprint("publisher ", i))))
				}
				synctest.Wait()
				m.store.FailAt(0, false) // which begins to count
				m.store.Before(func(*petrel.Batch) { time.Sleep(delay) })
				begun := time.Now()
				sent := make([]time.Time, publishers)
				for i, c := range clients { // at all times of several commits
					sent[i] = time.Now()
					c.Send(&packets.Publish{Topic: fmt.Appendf(nil, "t/%d", i), Payload: []byte("x"), QoS: qos, PacketID: 1})
					time.Sleep(7 * time.Millisecond)
				}
				time.Sleep(2 * delay)
				synctest.Wait()
				for i, c := range clients {
					require.Equal(t, 1, c.Waiting(), "message %d of %v is acknowledged", i, sent[i].Sub(begun))
				}
				busy := time.Since(begun)
				require.LessOrEqual(t, m.store.Commits(), int(busy/delay), "one commit is on its way at a time")
			})
		})
	}
}

// The same for one message, to the millisecond: what comes at the beginning of a
// commit waits for that one and its own, what comes at its end for hardly more
// than its own, and what finds the disk at rest for its own only.
func TestHowLongAnAcknowledgementWaits(t *testing.T) {
	const delay = 100 * time.Millisecond
	for _, tc := range []struct {
		name  string
		after time.Duration // since a commit began; negative: there is none
		waits time.Duration
	}{
		{"at rest", -1, delay},
		{"at the beginning of a commit", 0, 2 * delay},
		{"in its middle", delay / 2, delay + delay/2},
		{"at its end", delay - time.Millisecond, delay + time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b := m.start(discreet)
				first, second := b.Connect(brokertest.ID("first")), b.Connect(brokertest.ID("second"))
				synctest.Wait()
				m.store.Before(func(*petrel.Batch) { time.Sleep(delay) })
				kept := packets.Publish{Topic: []byte("first"), Payload: []byte("x"), QoS: 1, Retain: true, PacketID: 1}
				if tc.after >= 0 {
					first.Send(&kept)
					synctest.Wait()
					time.Sleep(tc.after)
				}
				kept.Topic = []byte("second")
				begun := time.Now()
				second.Send(&kept)
				brokertest.Expect[*packets.Puback](second)
				require.Equal(t, tc.waits, time.Since(begun))
			})
		})
	}
}

// After a commit with very many changes the next one is put off for as long as that
// took, but not for ever; after any other it is not.
func TestCommitAfterALargeOneGathersMore(t *testing.T) {
	for _, tc := range []struct {
		name                string
		messages            int // of the commit before
		delay, acknowledged time.Duration
	}{
		{"a small one", 3000, 5 * time.Millisecond, 5 * time.Millisecond},
		{"a large one", 4500, 5 * time.Millisecond, 10 * time.Millisecond},
		{"a large one that took long", 4500, 100 * time.Millisecond, 120 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b := m.start(discreet)
				sub := b.Connect(brokertest.Durable("subscriber"))
				sub.Subscribe(packets.AtLeastOnce, "#")
				sub.Leave(packets.NormalDisconnection)
				pub := b.Connect(brokertest.ID("publisher"))
				var others []*brokertest.Client
				for i := range tc.messages / 500 {
					others = append(others, b.Connect(brokertest.ID(fmt.Sprint("publisher ", i))))
				}
				synctest.Wait()
				begin := make(chan struct{})
				m.store.Before(func(*petrel.Batch) { <-begin; time.Sleep(tc.delay) })
				pub.Send(&packets.Publish{Topic: []byte("t"), Payload: []byte("first"), QoS: 1, PacketID: 1})
				synctest.Wait() // it is on its way to the store
				for _, c := range others {
					for id := range uint16(500) {
						c.Send(&packets.Publish{Topic: []byte("t"), Payload: []byte("x"), QoS: 1, PacketID: id + 1})
					}
				}
				synctest.Wait()
				close(begin)
				brokertest.Expect[*packets.Puback](pub)
				time.Sleep(time.Second)

				for i, want := range []time.Duration{tc.acknowledged, tc.delay} {
					sent := time.Now()
					pub.Send(&packets.Publish{Topic: []byte("t"), Payload: []byte("x"), QoS: 1, PacketID: 1})
					brokertest.Expect[*packets.Puback](pub)
					require.Equal(t, want, time.Since(sent), "message %d after it", i+1)
				}
			})
		})
	}
}
