package petrel_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// crowded is a broker with a memory limit of 100 bytes, and sessions "a", "b" and
// "c" that are offline, each with a subscription for its name.
func crowded(t *testing.T, f func(t *testing.T, b *brokertest.Broker, seen *dropRecorder, limits *limitRecorder)) {
	t.Helper()
	seen, limits := new(dropRecorder), new(limitRecorder)
	o := petrel.Options{Hooks: []petrel.Hook{seen, limits}, MemoryLimit: 100, MaximumRetainedBytes: -1, QueueQoS0: true}
	inFakeTime(t, o, func(t *testing.T, b *brokertest.Broker) {
		for _, id := range []string{"a", "b", "c"} {
			c := b.Connect(brokertest.Durable(id))
			c.Subscribe(packets.ExactlyOnce, id)
			c.Drop()
		}
		f(t, b, seen, limits)
	})
}

// hold publishes a message that takes n bytes.
func hold(t *testing.T, b *brokertest.Broker, topic string, qos packets.QoS, n int) {
	t.Helper()
	hostPublishesTo(t, b, qos, topic, strings.Repeat("x", n-len(topic)))
}

// The order in which the memory limit gives messages up.
func TestMemoryLimitOrder(t *testing.T) {
	crowded(t, func(t *testing.T, b *brokertest.Broker, seen *dropRecorder, limits *limitRecorder) {
		for range 3 {
			hold(t, b, "a", 0, 20)
		}
		hold(t, b, "b", 0, 40)
		require.Empty(t, seen.take())
		require.EqualValues(t, 100, b.Stats().MessageBytes)

		hold(t, b, "c", 0, 2) // new ones of QoS 0 first
		require.Equal(t, []petrel.Drop{{ClientID: "c", Topic: "c", QoS: 0, Reason: petrel.DropMemory}}, seen.take())
		require.Equal(t, []reachedLimit{{petrel.LimitMemory, "c", "c"}}, limits.take())

		hold(t, b, "c", 1, 10) // then those that wait, for anybody
		hold(t, b, "c", 2, 10)
		dropped := seen.take()
		require.NotEmpty(t, dropped)
		for _, d := range dropped {
			require.Equal(t, petrel.AtMostOnce, d.QoS)
			require.Equal(t, petrel.DropMemory, d.Reason)
			require.NotEqual(t, "c", d.ClientID)
		}
		require.Empty(t, limits.take(), "at most once a second")
		require.LessOrEqual(t, b.Stats().MessageBytes, int64(100))

		time.Sleep(time.Second)
		pub := b.Connect(brokertest.ID("pub"))
		kept := packets.Publish{Topic: []byte("k"), Payload: make([]byte, 79), QoS: 1, Retain: true}
		require.False(t, pub.PublishWith(kept).IsError(), "a retained message as well")
		synctest.Wait()
		require.NotEmpty(t, limits.take())
		require.EqualValues(t, 100, b.Stats().MessageBytes)
		all := append(dropped, seen.take()...)
		require.Len(t, all, 4, "all of QoS 0 has given way")

		for _, qos := range []packets.QoS{0, 1, 2} { // and then new ones of any QoS
			hold(t, b, "a", qos, 2)
			require.Equal(t, []petrel.Drop{{ClientID: "a", Topic: "a", QoS: qos, Reason: petrel.DropMemory}}, seen.take())
		}
		kept.Topic, kept.PacketID = []byte("l"), 0
		require.Equal(t, packets.QuotaExceeded, pub.PublishWith(kept))
		require.EqualValues(t, 100, b.Stats().MessageBytes)
		sub := b.Connect(brokertest.Durable("c"))
		for _, qos := range []packets.QoS{1, 2} { // what was accepted is there
			p := sub.ExpectPublish("c", strings.Repeat("x", 9))
			require.Equal(t, qos, p.QoS)
		}
	})
}

// Retained messages leave a quarter to those on their way, if nothing else is said.
func TestMemoryLimitLeavesRoomBesideRetained(t *testing.T) {
	inFakeTime(t, petrel.Options{MemoryLimit: 100}, func(t *testing.T, b *brokertest.Broker) {
		pub, sub := b.Connect(brokertest.ID("pub")), b.Connect(brokertest.ID("sub"))
		sub.Subscribe(packets.ExactlyOnce, "t")
		kept := packets.Publish{Topic: []byte("k"), Payload: make([]byte, 74), QoS: 1, Retain: true}
		require.False(t, pub.PublishWith(kept).IsError())
		kept.Topic, kept.PacketID, kept.Payload = []byte("l"), 0, []byte{0}
		require.Equal(t, packets.QuotaExceeded, pub.PublishWith(kept))
		hold(t, b, "t", 2, 25)
		sub.ExpectPublish("t", strings.Repeat("x", 24))
	})
}

// As much gives way as is needed, the oldest of a session first.
func TestMemoryLimitDropsTheOldest(t *testing.T) {
	crowded(t, func(t *testing.T, b *brokertest.Broker, seen *dropRecorder, _ *limitRecorder) {
		for i := range 10 {
			hostPublishesTo(t, b, petrel.AtMostOnce, "a", fmt.Sprintf("message %d", i)) // 10 bytes each
		}
		require.EqualValues(t, 100, b.Stats().MessageBytes)
		hold(t, b, "b", 1, 21)
		require.Len(t, seen.take(), 3)
		require.EqualValues(t, 91, b.Stats().MessageBytes)
		a := b.Connect(brokertest.Durable("a"))
		for i := 3; i < 10; i++ {
			a.ExpectPublish("a", fmt.Sprintf("message %d", i))
		}
		a.ExpectNothing()
	})
}

// What is in flight counts: a client that acknowledges nothing cannot hold more.
func TestMemoryLimitInFlight(t *testing.T) {
	for _, beyond := range []int{-1, 0, 1} {
		t.Run(fmt.Sprintf("%+d", beyond), func(t *testing.T) {
			crowded(t, func(t *testing.T, b *brokertest.Broker, seen *dropRecorder, _ *limitRecorder) {
				a := b.Connect(brokertest.Durable("a"))
				hold(t, b, "a", 1, 60)
				first := a.ExpectPublish("a", strings.Repeat("x", 59))
				hold(t, b, "a", 1, 40+beyond)
				if beyond > 0 {
					require.Equal(t, []petrel.Drop{{ClientID: "a", Topic: "a", QoS: 1, Reason: petrel.DropMemory}}, seen.take())
					a.ExpectNothing()
					a.Accept(first)
					a.ExpectNothing()
					hold(t, b, "a", 1, 40+beyond)
				}
				a.ExpectPublish("a", strings.Repeat("x", 39+beyond))
				require.Empty(t, seen.take())
				hold(t, b, "a", 0, 50) // nothing is held of that
				a.ExpectPublish("a", strings.Repeat("x", 49))
			})
		})
	}
}

// Sessions that end while they have messages that could give way are forgotten.
func TestMemoryLimitForgetsSessions(t *testing.T) {
	crowded(t, func(t *testing.T, b *brokertest.Broker, seen *dropRecorder, _ *limitRecorder) {
		for _, id := range []string{"a", "b", "c"} {
			hold(t, b, id, 0, 30)
		}
		b.Connect(brokertest.ID("b")) // discards its session
		synctest.Wait()
		require.Equal(t, []petrel.Drop{{ClientID: "b", Topic: "b", Reason: petrel.DropSessionEnded}}, seen.take())
		require.EqualValues(t, 60, b.Stats().MessageBytes)
		hostPublishesTo(t, b, petrel.AtLeastOnce, "a", strings.Repeat("x", 99))
		who := []string{}
		for _, d := range seen.take() {
			who = append(who, d.ClientID)
		}
		slices.Sort(who)
		require.Equal(t, []string{"a", "c"}, who)
		require.EqualValues(t, 100, b.Stats().MessageBytes)
	})
}

// Whatever is published to whom, the limit holds, messages of QoS 1 and 2 are
// refused only if they would not fit without those of QoS 0, and the books agree.
func TestMemoryLimitAtRandom(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			crowded(t, func(t *testing.T, b *brokertest.Broker, seen *dropRecorder, _ *limitRecorder) {
				ids := []string{"a", "b", "c"}
				held := make(map[string]int) // bytes of QoS 1 and 2
				for range 300 {
					id := ids[r.IntN(3)]
					if r.IntN(10) == 0 {
						acknowledgeAll(b.Connect(brokertest.Durable(id)))
						held[id] = 0
						continue
					}
					qos, n := packets.QoS(r.IntN(3)), 1+r.IntN(60)
					firm := held["a"] + held["b"] + held["c"]
					hold(t, b, id, qos, n)
					refused := false
					for _, d := range seen.take() {
						require.Equal(t, petrel.DropMemory, d.Reason)
						refused = refused || d.QoS > 0
					}
					if qos > 0 {
						require.Equal(t, firm+n > 100, refused, "%d bytes beside %d", n, firm)
					}
					if qos > 0 && !refused {
						held[id] += n
					}
					require.LessOrEqual(t, b.Stats().MessageBytes, int64(100))
				}
				for _, id := range ids {
					b.Connect(brokertest.ID(id)).ExpectNothing() // discards the session
				}
				require.Zero(t, b.Stats().MessageBytes)
			})
		})
	}
}

// acknowledgeAll acknowledges whatever comes, and leaves.
func acknowledgeAll(c *brokertest.Client) {
	for synctest.Wait(); c.Waiting() > 0; synctest.Wait() {
		switch p := c.Receive().(type) {
		case *packets.Publish:
			switch p.QoS {
			case packets.AtLeastOnce:
				c.Send(&packets.Puback{PacketID: p.PacketID})
			case packets.ExactlyOnce:
				c.Send(&packets.Pubrec{PacketID: p.PacketID})
			}
		case *packets.Pubrel:
			c.Send(&packets.Pubcomp{PacketID: p.PacketID})
		}
	}
	c.Drop()
}
