package petrel_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/store/storetest"
	"github.com/petrelmq/petrel/packets"
)

// lastingWorld is a world on a machine that crashes, with a memory limit that is
// always reached.
type lastingWorld struct {
	*world
	m    *machine
	o    petrel.Options
	host []*petrel.LocalSubscription
	busy atomic.Bool // the host takes its time
	seen *dropRecorder
}

// TestMemoryLimitWithAStoreAtRandom does what it likes, and looks at the memory after
// each step: the books agree, the limit holds but for what each session needs to go on,
// and nothing is dropped for it that the store has or that had been accepted. Afterwards
// everything that waits is delivered, and nothing is left of it.
func TestMemoryLimitWithAStoreAtRandom(t *testing.T) {
	seeds := uint64(40)
	if underRaceDetector() {
		seeds = 8
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) { newLastingWorld(t, m, seed).run(150) })
		})
	}
}

func newLastingWorld(t *testing.T, m *machine, seed uint64) *lastingWorld {
	r := rand.New(rand.NewPCG(seed, 7))
	w := &lastingWorld{world: &world{t: t, r: r}, m: m, seen: new(dropRecorder)}
	w.o = petrel.Options{
		Logger: silent(), Hooks: []petrel.Hook{w.seen}, MemoryLimit: 500 + r.Int64N(2500),
		QueueMessages: 2 + r.IntN(10), MaximumInflight: 1 + r.IntN(6), QueueBytes: 500 + r.IntN(5000),
		QueueQoS0: r.IntN(2) == 0, QueueFull: petrel.DropPolicy(r.IntN(2)), SharedStrategy: petrel.SharedStrategy(r.IntN(4)),
		DeliverPerSubscription: r.IntN(3) == 0,
	}
	if r.IntN(2) == 0 {
		w.o.QueueMessages, w.o.QueueBytes = -1, -1
	}
	if r.IntN(2) == 0 {
		w.o.MaximumRetainedBytes = -1
	}
	w.b = m.start(w.o)
	for i := range 5 {
		w.actors = append(w.actors, &actor{id: fmt.Sprintf("actor-%d", i)})
	}
	return w
}

func (w *lastingWorld) run(steps int) {
	for range steps {
		lasting := w.lasting()
		publishes := w.step()
		w.check(lasting, publishes)
	}
	w.drain()
	w.endAll()
	w.check(w.lasting(), true)
	w.m.expectEmpty(w.t, w.b)
}

// lasting says whose sessions outlive the process.
func (w *lastingWorld) lasting() map[string]bool {
	ids := make(map[string]bool)
	for _, a := range w.actors {
		ids[a.id] = w.b.Outlives(a.id)
	}
	return ids
}

// step reports whether it may have published something.
func (w *lastingWorld) step() (publishes bool) {
	switch w.r.IntN(24) {
	case 0:
		w.restart(w.m.crash)
	case 1:
		w.fault()
		return true
	case 2:
		w.subscribeAsHost()
	case 3:
		w.busy.Store(!w.busy.Load())
	case 4:
		w.failToRead()
	case 5, 6:
		w.answerAll(w.actors[w.r.IntN(len(w.actors))])
	case 7:
		time.Sleep(time.Duration(w.r.IntN(100)) * time.Second)
	case 8, 9:
		w.retain()
		return true
	case 10:
		if a := w.actors[w.r.IntN(len(w.actors))]; a.client != nil {
			a.client.Drop()
			a.client = nil
		}
	default:
		w.world.step()
		return true
	}
	return false
}

// check is made when nobody is at work.
func (w *lastingWorld) check(before map[string]bool, published bool) {
	w.t.Helper()
	synctest.Wait()
	found, beyond := w.b.Recount(w.host)
	require.Equal(w.t, found, w.b.Counted(), "what is counted is what there is")
	require.LessOrEqual(w.t, found.All, w.o.MemoryLimit+beyond)
	for _, d := range w.seen.take() {
		if d.Reason != petrel.DropMemory || d.QoS == petrel.AtMostOnce || d.ClientID == "" {
			continue
		}
		require.False(w.t, before[d.ClientID] && w.b.Outlives(d.ClientID), "the store has room for %+v", d)
		require.True(w.t, published || d.Topic == "a/b", "%+v had been accepted, unless it is a will", d)
	}
}

// restart lets the broker end in some way, and starts it anew.
func (w *lastingWorld) restart(end func()) {
	end()
	for _, a := range w.actors {
		a.client = nil
	}
	w.host = nil
	w.busy.Store(false)
	w.b = w.m.start(w.o)
}

// fault crashes at one of the next commits.
func (w *lastingWorld) fault() {
	w.m.store.FailAt(1+w.r.IntN(8), true)
	for range 10 {
		_ = w.b.Publish(w.t.Context(), w.message())
	}
	w.restart(w.m.crash)
}

// failToRead lets a client come back while its messages cannot be read.
func (w *lastingWorld) failToRead() {
	a := w.actors[w.r.IntN(len(w.actors))]
	if a.client != nil {
		return
	}
	w.m.store.BeforeLoad(func(_, _ []byte) error { return storetest.ErrFault })
	c := w.b.Dial(packets.V5)
	c.Send(&packets.Connect{Version: packets.V5, ClientID: []byte(a.id), SessionExpiryInterval: 60, ReceiveMaximum: 9})
	synctest.Wait()
	c.Drop()
	w.m.store.BeforeLoad(nil)
}

func (w *lastingWorld) subscribeAsHost() {
	if len(w.host) > 3 {
		require.NoError(w.t, w.host[0].Close())
		w.host = w.host[1:]
	}
	o := petrel.SubscribeOptions{QoS: packets.QoS(w.r.IntN(3))}
	l, err := w.b.Subscribe(worldFilters[w.r.IntN(len(worldFilters))], o, func(ctx context.Context, _ *petrel.Message) {
		if w.busy.Load() {
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Second):
			}
		}
	})
	require.NoError(w.t, err)
	w.host = append(w.host, l)
}

func (w *lastingWorld) message() petrel.Message {
	m := petrel.Message{
		Topic: worldTopics[w.r.IntN(len(worldTopics))], Payload: make([]byte, w.r.IntN(200)),
		QoS: packets.QoS(w.r.IntN(3)), Retain: w.r.IntN(4) == 0,
	}
	if w.r.IntN(3) == 0 {
		m.Expiry = time.Duration(w.r.IntN(8000)) * time.Millisecond
	}
	return m
}

// retain keeps a message that may be as large as all of the memory.
func (w *lastingWorld) retain() {
	m := petrel.Message{Topic: worldTopics[w.r.IntN(len(worldTopics))], QoS: packets.QoS(w.r.IntN(3)), Retain: true}
	if w.r.IntN(3) > 0 {
		m.Payload = make([]byte, w.r.Int64N(w.o.MemoryLimit*2/3))
	}
	if err := w.b.Publish(w.t.Context(), m); err != nil {
		require.ErrorIs(w.t, err, packets.QuotaExceeded)
	}
}

// answerAll answers until nothing more comes, and reports whether anything came.
func (w *lastingWorld) answerAll(a *actor) (some bool) {
	for a.client != nil {
		synctest.Wait()
		if w.settle(a); len(a.open) == 0 {
			return some
		}
		some = true
		w.answer(a)
	}
	return some
}

// drain lets everybody take what waits for him.
func (w *lastingWorld) drain() {
	lasting := w.lasting()
	w.busy.Store(false)
	time.Sleep(time.Hour)
	for _, a := range w.actors {
		w.connect(a)
	}
	for some := true; some; {
		some = false
		for _, a := range w.actors {
			some = w.answerAll(a) || some
		}
	}
	w.check(lasting, false)
	counted := w.b.Counted()
	require.Equal(w.t, counted.Kept, counted.All, "all is delivered")
	kinds := w.m.kinds()
	for _, kind := range []string{"q", "f", "m"} {
		require.Zero(w.t, kinds[kind], "%v", kinds)
	}
}
