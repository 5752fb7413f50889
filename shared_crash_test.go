package petrel_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// doorkeeper is an Authorizer that is asked about everything, allows all, and may
// take its time.
type doorkeeper struct {
	mu      sync.Mutex
	receive func(ctx context.Context, client string) // nil for nothing
	deliver func(client string)
}

func (d *doorkeeper) Authorize(ctx context.Context, r *petrel.AccessRequest) error {
	r.CheckDeliveries = true
	d.mu.Lock()
	receive := d.receive
	d.mu.Unlock()
	if r.Action == petrel.Receive && receive != nil {
		receive(ctx, r.Client.ID())
	}
	return nil
}

// interceptor has the doorkeeper asked about copies, too.
type interceptor struct{ of *doorkeeper }

func (i interceptor) InterceptDeliver(_ context.Context, r *petrel.DeliverRequest) error {
	i.of.mu.Lock()
	deliver := i.of.deliver
	i.of.mu.Unlock()
	if deliver != nil {
		deliver(r.ClientID)
	}
	return nil
}

// onReceive and onDeliver say what it does; nil is nothing.
func (d *doorkeeper) onReceive(f func(ctx context.Context, client string)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.receive = f
}

func (d *doorkeeper) onDeliver(f func(client string)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deliver = f
}

func (d *doorkeeper) options() petrel.Options {
	return petrel.Options{Logger: silent(), Hooks: []petrel.Hook{d, interceptor{d}}}
}

// The member that was chosen ends before it gets its copy. The copy of another
// member is safe together with the identifier and all other copies.
func TestCrashAfterAMemberHasEndedRepeatsNothing(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		d := &doorkeeper{}
		b := m.start(d.options())
		plain := b.Connect(brokertest.Durable("plain"))
		plain.Subscribe(packets.ExactlyOnce, "jobs")
		late := members(b, "$share/g/jobs", packets.ExactlyOnce, brokertest.Durable, "late")[0]
		late.Drop()
		fleeting := members(b, "$share/g/jobs", packets.ExactlyOnce, brokertest.ID, "fleeting")[0]
		pub := b.Connect(brokertest.Durable("publisher"))

		entered, leave := make(chan struct{}), make(chan struct{})
		d.onDeliver(func(client string) {
			if client == "fleeting" {
				close(entered)
				<-leave
			}
		})
		d.onReceive(func(ctx context.Context, client string) {
			if client == "late" {
				<-ctx.Done()
			}
		})
		message := packets.Publish{Topic: []byte("jobs"), Payload: []byte("1"), QoS: 2, PacketID: 7}
		pub.Send(&message)
		<-entered
		fleeting.Drop()
		synctest.Wait()
		close(leave)
		plain.ExpectPublish("jobs", "1")
		synctest.Wait()
		m.crash()

		d.onDeliver(nil)
		d.onReceive(nil)
		b = m.start(d.options())
		pub = b.Connect(brokertest.Durable("publisher"))
		message.Dup = true
		pub.Send(&message)
		brokertest.Expect[*packets.Pubrec](pub)
		for _, id := range []string{"plain", "late"} {
			c := b.Connect(brokertest.Durable(id))
			c.Accept(c.ExpectPublish("jobs", "1"))
			c.ExpectNothing()
		}
	})
}

// A member that has to be asked about gets a copy of which it could not be asked
// in time only if it may have it.
func TestCopyOfAMemberThatHasEndedIsAskedAbout(t *testing.T) {
	for _, refused := range []bool{false, true} {
		t.Run(fmt.Sprint("refused: ", refused), func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				d := &doorkeeper{}
				r := &unwilling{}
				o := d.options()
				o.Hooks = append(o.Hooks, r)
				b := m.start(o)
				fleeting := members(b, "$share/g/jobs", packets.ExactlyOnce, brokertest.ID, "fleeting")[0]
				second := members(b, "$share/g/jobs", packets.ExactlyOnce, brokertest.Durable, "second")[0]
				pub := b.Connect(brokertest.Durable("publisher"))
				d.onDeliver(func(string) {
					d.onDeliver(nil)
					fleeting.Drop()
				})
				r.refuse.Store(refused)
				pub.Publish("jobs", "1", packets.ExactlyOnce)
				synctest.Wait()
				if refused {
					second.ExpectNothing()
					require.Equal(t, map[petrel.DropReason]uint64{petrel.DropNotAuthorized: 1}, b.Stats().Dropped)
					require.Zero(t, m.kinds()["q"])
					return
				}
				second.Accept(second.ExpectPublish("jobs", "1"))
				second.ExpectNothing()
				require.Empty(t, b.Stats().Dropped)
			})
		})
	}
}

// unwilling is an Authorizer that refuses what "second" receives.
type unwilling struct{ refuse atomic.Bool }

func (a *unwilling) Authorize(_ context.Context, r *petrel.AccessRequest) error {
	if r.Action == petrel.Receive && r.Client.ID() == "second" && a.refuse.Load() {
		return packets.NotAuthorized
	}
	return nil
}

// What an ended session leaves to the other members of its group is not lost when
// the broker crashes before they have all of it.
func TestCrashWhileAnEndedSessionIsSettled(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		d := &doorkeeper{}
		b := m.start(d.options())
		short := brokertest.Durable("short")
		short.SessionExpiryInterval = 60
		c := b.Connect(short)
		c.Subscribe(packets.ExactlyOnce, "$share/g/jobs")
		c.Drop()
		send(t, b, "jobs", 2, 3)
		late := members(b, "$share/g/jobs", packets.ExactlyOnce, brokertest.Durable, "late")[0]
		late.Drop()
		var asked atomic.Int32
		d.onReceive(func(ctx context.Context, _ string) {
			if asked.Add(1) == 2 {
				<-ctx.Done()
			}
		})
		time.Sleep(61 * time.Second)
		require.EqualValues(t, 2, asked.Load(), "the session has ended, and one of its messages is elsewhere")
		m.crash()

		d.onReceive(nil)
		b = m.start(d.options())
		synctest.Wait()
		late = b.Connect(brokertest.Durable("late"))
		require.Equal(t, []string{"0", "1", "2"}, payloads(finish(t, late)))
		require.Equal(t, map[string]int{"s": 1, "u": 1}, m.kinds())
	})
}

// Whatever commit fails while messages move from one member to another, with all
// that come after it: each is with one of them, and one of QoS 2 with only one.
func TestFaultAtEveryCommitWhileMessagesMove(t *testing.T) {
	const messages = 6
	for _, tc := range []struct {
		name  string
		leave func(b *brokertest.Broker, c *brokertest.Client)
	}{
		{"its connection ends", func(_ *brokertest.Broker, c *brokertest.Client) { c.Drop() }},
		{"its session ends", func(_ *brokertest.Broker, c *brokertest.Client) {
			c.Send(&packets.Disconnect{HasSessionExpiryInterval: true})
		}},
		{"its session is discarded", func(b *brokertest.Broker, _ *brokertest.Client) {
			p := brokertest.ID("first")
			b.Dial(packets.V5).Send(&p)
		}},
	} {
		for n, done := 1, false; !done; n++ {
			require.Less(t, n, 200)
			t.Run(fmt.Sprintf("%s, commit %d", tc.name, n), func(t *testing.T) {
				onMachine(t, func(t *testing.T, m *machine) {
					d := &doorkeeper{}
					b := m.start(d.options())
					first := members(b, "$share/g/jobs", packets.ExactlyOnce, func(id string) packets.Connect {
						return window(1, brokertest.Durable(id))
					}, "first")[0]
					want := send(t, b, "jobs", 1, 1)
					for i := 1; i < messages; i++ {
						want = append(want, fmt.Sprint(i))
						m := petrel.Message{Topic: "jobs", Payload: fmt.Append(nil, i), QoS: petrel.QoS(1 + i%2)}
						require.NoError(t, b.Publish(t.Context(), m))
					}
					first.ExpectPublish("jobs", "0") // and so all others wait
					members(b, "$share/g/jobs", packets.ExactlyOnce, brokertest.Durable, "second")
					synctest.Wait()

					d.onReceive(func(context.Context, string) { time.Sleep(time.Millisecond) }) // for a commit
					m.store.FailAt(n, true)
					tc.leave(b, first)
					time.Sleep(time.Minute)
					done = m.store.Commits() < n
					m.crash()
					d.onReceive(nil)
					b = m.start(d.options())
					synctest.Wait()
					var got []*packets.Publish
					for _, id := range []string{"second", "first"} {
						c := b.Connect(brokertest.Durable(id))
						synctest.Wait() // for what is read from the store
						got = append(got, arrived(t, c)...)
					}
					require.ElementsMatch(t, want, payloads(got))
				})
			})
		}
	}
}

// What a member did not finish stays with its session, if the only other member goes
// while it is on its way there.
func TestOtherMemberGoesWhileMessagesMove(t *testing.T) {
	for _, queued := range []int{0, 3 * long} { // in flight only; most of them in the store
		t.Run(fmt.Sprint(queued), func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				d := &doorkeeper{}
				o := d.options()
				o.MaximumInflight, o.QueueMessages = 2, -1
				b := m.start(o)
				stays := members(b, "$share/g/jobs", packets.AtLeastOnce, brokertest.Durable, "stays")[0]
				payloads := send(t, b, "jobs", packets.AtLeastOnce, 2+queued)
				for _, payload := range payloads[:2] {
					stays.ExpectPublish("jobs", payload)
				}
				fleeting := members(b, "$share/g/jobs", packets.AtLeastOnce, brokertest.ID, "fleeting")[0]
				d.onReceive(func(_ context.Context, client string) {
					if client == "fleeting" {
						d.onReceive(nil)
						fleeting.Drop()
					}
				})
				stays.Drop()
				synctest.Wait()
				require.Zero(t, b.Stats().Dropped[petrel.DropSessionEnded])

				stays = b.Connect(brokertest.Durable("stays"))
				var got []string
				for range payloads {
					p := brokertest.Expect[*packets.Publish](stays)
					got = append(got, string(p.Payload))
					stays.Accept(p)
				}
				require.ElementsMatch(t, payloads, got)
				stays.ExpectNothing()
			})
		})
	}
}

// A member of a group that comes back while its messages go to others begins to count
// packet identifiers anew. A crash before they are there leaves two with the same.
func TestRestoredFlightsWithTheSameIdentifier(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		id := flightsWithTheSameIdentifier(t, m)
		require.Equal(t, 3, m.kinds()["q"])
		b := m.restart(discreet)
		a := b.Connect(brokertest.Durable("a"))
		two := a.ExpectPublish("own", "2")
		three := a.ExpectPublish("own", "3")
		one := a.ExpectPublish("jobs", "1")
		require.Equal(t, []any{id, true}, []any{two.PacketID, two.Dup})
		require.NotEqual(t, one.PacketID, two.PacketID)
		for _, p := range []*packets.Publish{one, two, three} {
			a.Accept(p)
		}
		m.expectEmpty(t, b)
		b = m.restart(discreet)
		b.Connect(brokertest.Durable("a")).ExpectNothing()
	})
}

// The same if memory has room for none of them at the start: each comes once, whatever
// lies beside it in the store.
func TestRestoredFlightsWithTheSameIdentifierAndNoMemory(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		flightsWithTheSameIdentifier(t, m)
		retainBytes(t, m.broker, "kept", 100)
		b := m.restart(petrel.Options{Logger: silent(), MemoryLimit: 100, MaximumRetainedBytes: -1})
		require.EqualValues(t, 100+len("own2"), b.Stats().MessageBytes)
		require.Equal(t, 2, queuedFor(b, "a").Queued)
		retainBytes(t, b, "kept", 0)
		a := b.Connect(brokertest.Durable("a"))
		synctest.Wait()
		require.Zero(t, queuedFor(b, "a").Queued)
		require.Equal(t, []string{"2", "3", "1"}, take(t, a, everything))
		m.expectEmpty(t, b)
	})
}

// flightsWithTheSameIdentifier leaves to a durable session "a" the message "1" of a group,
// "2" with the same identifier, and "3" that waits.
func flightsWithTheSameIdentifier(t *testing.T, m *machine) (id uint16) {
	d := &doorkeeper{}
	b := m.start(petrel.Options{Logger: silent(), HookTimeout: time.Hour, Hooks: []petrel.Hook{d}})
	a := b.Connect(brokertest.Durable("a"))
	a.Subscribe(packets.AtLeastOnce, "$share/g/jobs", "own")
	pub := b.Connect(brokertest.ID("publisher"))
	pub.Publish("jobs", "1", packets.AtLeastOnce)
	job := a.ExpectPublish("jobs", "1")
	other := b.Connect(brokertest.ID("b"))
	other.Subscribe(packets.AtLeastOnce, "$share/g/jobs")
	var asked atomic.Int32
	d.onReceive(func(ctx context.Context, client string) {
		if client == "b" && asked.Add(1) == 2 { // when the message is taken from its session
			<-ctx.Done()
		}
	})
	a.Conn.Close() // whose end is held up
	synctest.Wait()
	require.EqualValues(t, 2, asked.Load())
	a = b.Connect(window(1, brokertest.Durable("a")))
	pub.Publish("own", "2", packets.AtLeastOnce)
	pub.Publish("own", "3", packets.AtLeastOnce)
	require.Equal(t, job.PacketID, a.ExpectPublish("own", "2").PacketID)
	return job.PacketID
}
