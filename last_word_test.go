package petrel_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// lateEnd is the handler of a log that holds up connections which have ended, before
// they have given up their session.
type lateEnd struct {
	slog.Handler
	gate atomic.Pointer[chan struct{}] // nil holds up nobody
	held atomic.Int32                  // connections that it has held up
}

func newLateEnd() *lateEnd { return &lateEnd{Handler: silent().Handler()} }

func (l *lateEnd) Enabled(context.Context, slog.Level) bool { return true }

func (l *lateEnd) Handle(_ context.Context, r slog.Record) error {
	if gate := l.gate.Load(); gate != nil && r.Message == "petrel: connection ended" {
		l.held.Add(1)
		<-*gate
	}
	return nil
}

// hold makes connections wait until release is called.
func (l *lateEnd) hold() (release func()) {
	gate := make(chan struct{})
	l.gate.Store(&gate)
	return func() { l.gate.Store(nil); close(gate) }
}

// A client that has said DISCONNECT has taken its will back, also if the end of its
// session overtakes the end of its connection.
func TestWillThatWasTakenBackDoesNotComeAfterARestart(t *testing.T) {
	clean := brokertest.ID("c")
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, b *brokertest.Broker)
	}{
		{"clean start", func(_ *testing.T, b *brokertest.Broker) { b.Connect(clean) }},
		{"revoked", func(t *testing.T, b *brokertest.Broker) {
			require.NoError(t, b.Revoke(context.Background(), petrel.ByClientID("c")))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				late := newLateEnd()
				b := m.start(petrel.Options{Logger: slog.New(late)})
				b.Connect(brokertest.Durable("watch")).Subscribe(packets.AtLeastOnce, "w")
				c := b.Connect(withWill(packets.V5, comingBack))
				release := late.hold()
				c.Send(&packets.Disconnect{})
				synctest.Wait()
				require.EqualValues(t, 1, late.held.Load())
				tt.end(t, b)
				release()
				synctest.Wait()
				require.Zero(t, m.kinds()["w"], "wills in the store")
				b = m.restart(discreet)
				b.Connect(brokertest.Durable("watch")).ExpectNothing()
			})
		})
	}
}

// A CONNECT that is refused after it has claimed the session is no return of the
// client: its delayed will comes when it is due.
func TestDelayedWillSurvivesACONNECTThatIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		offline bool
		after   time.Duration
	}{{"still connected", false, 15 * time.Second}, {"offline", true, 10 * time.Second}} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, petrel.Options{Logger: silent()}, func(t *testing.T, b *brokertest.Broker) {
				watch := watcher(b)
				c := b.Connect(withWill(packets.V5, resuming, delayed(10, 100)))
				began := time.Now()
				if tt.offline {
					c.Drop()
				}
				time.Sleep(5 * time.Second)
				for range 3 { // which do not put it off
					connectInVain(b)
					time.Sleep(time.Second)
				}
				watch.ExpectPublish("w", "gone")
				require.Equal(t, tt.after, time.Since(began))
				time.Sleep(time.Hour)
				watch.ExpectNothing()
			})
		})
	}
}

// A restart does not change that: the will is due when the store says so.
func TestDelayedWillOfARestoredSessionIsNotPutOff(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.start(discreet).Connect(withWill(packets.V5, resuming, delayed(10, 100))).Drop()
		began := time.Now()
		synctest.Wait()
		b := m.restart(discreet)
		watch := watcher(b)
		time.Sleep(5 * time.Second)
		connectInVain(b)
		watch.ExpectPublish("w", "gone")
		require.Equal(t, 10*time.Second, time.Since(began))
	})
}

// connectInVain sends a CONNECT with a will that is refused after it has claimed the
// session of [withWill].
func connectInVain(b *brokertest.Broker) {
	c := b.Dial(packets.V5)
	p := withWill(packets.V5, resuming, delayed(10, 100))
	p.Will.Payload, p.MaximumPacketSize = []byte("never accepted"), 4
	c.Send(&p)
	c.ExpectClosed()
}

// holdPubrec is a PacketTracer that holds up each PUBREC which comes.
type holdPubrec chan struct{}

func (h holdPubrec) PacketReceived(_ *petrel.Client, packet []byte) {
	if packets.Type(packet[0]>>4) == packets.TypePubrec {
		<-h
	}
}

func (h holdPubrec) PacketSent(*petrel.Client, []byte) {}

// A connection that has lost its session has no say in what that has on its way: an
// answer to its PUBREC would release an identifier that its successor is sent again.
func TestPubrecOfADisplacedConnectionIsNotAnswered(t *testing.T) {
	for _, v := range []packets.Version{packets.V311, packets.V5} {
		t.Run(v.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hold := make(holdPubrec)
				b := brokertest.New(t, petrel.Options{Logger: silent(), Hooks: []petrel.Hook{hold}})
				p := brokertest.Durable("c")
				p.Version = v
				old := b.Connect(p)
				old.Subscribe(packets.ExactlyOnce, "a")
				b.Connect(brokertest.ID("publisher")).Publish("a", "1", packets.ExactlyOnce)
				first := old.ExpectPublish("a", "1")
				old.Send(&packets.Pubrec{PacketID: first.PacketID})
				next := b.Connect(p)
				again := next.ExpectPublish("a", "1")
				require.Equal(t, []any{first.PacketID, true}, []any{again.PacketID, again.Dup})
				close(hold)
				if v == packets.V5 {
					old.ExpectDisconnect(packets.SessionTakenOver)
				}
				old.ExpectClosed()
				next.Accept(again)
			})
		})
	}
}

// A client that says late, on its next connection, that it has a QoS 2 message is sent
// it again, as that waits for room. It must not let go of the identifier before, or it
// would take the message twice.
func TestPubrecBeforeTheMessageIsSentAgain(t *testing.T) {
	inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
		p := lasting(packets.V5, "sub")
		sub := b.Connect(p)
		sub.Subscribe(packets.ExactlyOnce, "t")
		hostPublishes(t, b, packets.ExactlyOnce, "1")
		hostPublishes(t, b, packets.ExactlyOnce, "2")
		sub.ExpectPublish("t", "1")
		second := sub.ExpectPublish("t", "2")
		sub.Drop()
		p.ReceiveMaximum = 1
		sub = b.Connect(p)
		first := sub.ExpectPublish("t", "1")
		sub.Send(&packets.Pubrec{PacketID: second.PacketID})
		sub.ExpectNothing()
		sub.Accept(first)
		again := sub.ExpectPublish("t", "2")
		require.Equal(t, []any{second.PacketID, true}, []any{again.PacketID, again.Dup})
		sub.Accept(again)
		sub.ExpectNothing()
		require.Zero(t, inflightOf(t, b, "sub"))
	})
}
