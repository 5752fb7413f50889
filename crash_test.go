package petrel_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/store/storetest"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// machine is a computer on which a broker can crash: what is on its disk stays.
type machine struct {
	t     *testing.T
	disk  *storetest.Disk
	store *storetest.Faults

	mu     sync.Mutex
	broker *brokertest.Broker
}

func newMachine(t *testing.T) *machine { return &machine{t: t, disk: storetest.NewDisk()} }

// start starts a broker with what is on the disk.
func (m *machine) start(o petrel.Options) *brokertest.Broker {
	m.t.Helper()
	s, err := m.disk.Open()
	require.NoError(m.t, err)
	m.store = &storetest.Faults{Store: onePartition{s, m.t}}
	o.Hooks = append(o.Hooks[:len(o.Hooks):len(o.Hooks)], m.store)
	b := brokertest.New(m.t, o)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broker = b
	return b
}

// onePartition is a store whose batches must not span two partitions, as each may
// live elsewhere one day.
type onePartition struct {
	petrel.Store
	t *testing.T
}

func (s onePartition) Commit(ctx context.Context, b *petrel.Batch) error {
	partitions := make(map[string]int) // how many changes are in each
	for c := range b.Changes() {
		partitions[string(c.Key[:2])]++
	}
	assert.LessOrEqual(s.t, len(partitions), 1, "changes of one batch by partition: %q", partitions)
	return s.Store.Commit(ctx, b)
}

// crash ends the broker: nothing of what it still does reaches the disk.
func (m *machine) crash() {
	m.t.Helper()
	m.mu.Lock()
	b := m.broker
	m.broker = nil
	m.mu.Unlock()
	m.disk.Crash()
	require.NoError(m.t, b.Close())
}

// restart crashes and starts again.
func (m *machine) restart(o petrel.Options) *brokertest.Broker {
	m.t.Helper()
	m.crash()
	return m.start(o)
}

var errDown = errors.New("the broker is down")

func (m *machine) dial() (net.Conn, error) {
	m.mu.Lock()
	b := m.broker
	m.mu.Unlock()
	if b == nil {
		return nil, errDown
	}
	client, server := net.Pipe()
	go func() { _ = b.ServeConn(server) }()
	return client, nil
}

// TestCrashesLoseNothing lets a broker crash again and again, each time at another
// commit, while clients publish and receive.
func TestCrashesLoseNothing(t *testing.T) {
	rounds := 60
	if underRaceDetector() {
		rounds = 12
	}
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				crashes(t, rand.New(rand.NewPCG(seed, 0)), rounds, 0, petrel.Options{})
			})
		})
	}
}

// The same with subscribers that are away so long that their queues are in the store
// only, for the most part.
func TestCrashesLoseNothingOfLongQueues(t *testing.T) {
	rounds := 30
	if underRaceDetector() {
		rounds = 5
	}
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := petrel.Options{}
				if seed%2 == 1 {
					o.MemoryLimit, o.MaximumRetainedBytes = 300, -1
				}
				crashes(t, rand.New(rand.NewPCG(seed, 1)), rounds, 600*time.Millisecond, o)
			})
		})
	}
}

// crashes lets subscribers stay away for as long as it is told.
func crashes(t *testing.T, r *rand.Rand, rounds int, away time.Duration, o petrel.Options) {
	m := newMachine(t)
	o.Logger, o.QueueMessages, o.QueueBytes = silent(), -1, -1
	m.start(o)
	l := brokertest.NewLedger(m.dial)
	defer func() {
		l.Close()
		require.Empty(t, l.Broken())
	}()
	var publishers []*brokertest.Publisher
	subscribers := []*brokertest.Subscriber{
		l.Subscriber("all with QoS 2", "t/#", packets.ExactlyOnce),
		l.Subscriber("all with QoS 1", "t/#", packets.AtLeastOnce),
		l.Subscriber("one topic", "t/2/a", packets.ExactlyOnce),
	}
	for _, s := range subscribers {
		<-s.Subscribed()
	}
	topics := []string{"t/1/a", "t/2/a", "t/2/b"}
	for i, topic := range topics {
		publishers = append(publishers, l.Publisher(topic, packets.QoS(min(i+1, 2)), i == 2, 1+r.IntN(8), time.Millisecond))
	}
	for range rounds {
		switch r.IntN(4) {
		case 0: // between two commits
			time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond)
		default: // at a commit, all of which fail from then on
			m.store.FailAt(1+r.IntN(60), true)
			time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
		}
		for _, s := range subscribers {
			switch n := r.IntN(3); {
			case n == 0:
				s.Drop()
			case n == 1 && away > 0:
				s.Leave(time.Duration(r.Int64N(int64(away))))
			}
		}
		m.crash()
		time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
		m.start(o)
		for _, s := range subscribers {
			if r.IntN(3) == 0 {
				s.Drop()
			}
		}
	}
	for _, p := range publishers {
		p.Finish()
	}
	time.Sleep(time.Minute) // of a fake clock: until all is delivered
	for i, p := range publishers {
		require.Equal(t, p.Sent(), p.Acknowledged(), topics[i])
		require.Greater(t, p.Sent(), rounds, "there was traffic")
		require.Equal(t, p.Sent(), subscribers[0].Last(topics[i]))
		require.Equal(t, p.Sent(), subscribers[1].Last(topics[i]))
	}
	require.Equal(t, publishers[1].Sent(), subscribers[2].Last("t/2/a"))
	for kept := range m.broker.Retained("t/2/b") {
		require.Equal(t, fmt.Sprint(publishers[2].Sent()), string(kept.Payload))
	}
	l.Close()
	require.Empty(t, l.Broken())
	time.Sleep(time.Second)
	for k := range m.disk.Records() {
		require.NotContains(t, "qfmix", k[2:3], "nothing is left of what was delivered: %x", k)
	}
}

// Whatever commit fails, once or from there on, while long queues grow and drain:
// nothing is lost, and with QoS 2 nothing comes twice.
func TestFaultAtEveryCommitOfALongQueue(t *testing.T) {
	commits := 40
	if underRaceDetector() {
		commits = 6
	}
	for n := 1; n <= commits; n++ {
		for _, stop := range []bool{false, true} {
			t.Run(fmt.Sprintf("commit %d, stop %v", n, stop), func(t *testing.T) {
				onMachine(t, func(t *testing.T, m *machine) { faultInALongQueue(t, m, n, stop) })
			})
		}
	}
}

func faultInALongQueue(t *testing.T, m *machine, n int, stop bool) {
	o := petrel.Options{Logger: silent()}
	m.start(o)
	l := brokertest.NewLedger(m.dial)
	defer l.Close()
	subscribers := []*brokertest.Subscriber{
		l.Subscriber("all", "t/#", packets.ExactlyOnce),
		l.Subscriber("one", "t/1", packets.ExactlyOnce),
	}
	for _, s := range subscribers {
		<-s.Subscribed()
		s.Leave(100 * time.Millisecond)
	}
	publishers := []*brokertest.Publisher{
		l.Publisher("t/1", packets.ExactlyOnce, false, 20, 400*time.Microsecond),
		l.Publisher("t/2", packets.AtLeastOnce, false, 20, 400*time.Microsecond),
	}
	time.Sleep(100 * time.Millisecond)
	m.store.FailAt(n, stop)
	time.Sleep(100 * time.Millisecond)
	m.crash()
	m.start(o)
	for _, p := range publishers {
		p.Finish()
	}
	time.Sleep(time.Minute)
	for i, topic := range []string{"t/1", "t/2"} {
		require.Greater(t, publishers[i].Sent(), 200)
		require.Equal(t, publishers[i].Sent(), publishers[i].Acknowledged())
		require.Equal(t, publishers[i].Sent(), subscribers[0].Last(topic))
	}
	require.Equal(t, publishers[0].Sent(), subscribers[1].Last("t/1"))
	l.Close()
	require.Empty(t, l.Broken())
	time.Sleep(time.Second)
	for k := range m.disk.Records() {
		require.NotContains(t, "qfmix", k[2:3], "nothing is left of what was delivered: %x", k)
	}
}
