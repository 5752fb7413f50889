package petrel_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/store/storetest"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// onMachine runs f with a machine in fake time.
func onMachine(t *testing.T, f func(t *testing.T, m *machine)) {
	synctest.Test(t, func(t *testing.T) { f(t, newMachine(t)) })
}

// discreet is how brokers are run in these tests.
var discreet = petrel.Options{Logger: silent()}

// kinds counts the records on the disk by kind.
func (m *machine) kinds() map[string]int {
	synctest.Wait()
	n := make(map[string]int)
	for k := range m.disk.Records() {
		n[k[2:3]]++
	}
	delete(n, "v")
	return n
}

func TestSecondStoreIsAnError(t *testing.T) {
	a, err := storetest.NewDisk().Open()
	require.NoError(t, err)
	b, err := storetest.NewDisk().Open()
	require.NoError(t, err)
	_, err = petrel.New(petrel.Options{Hooks: []petrel.Hook{allowEverybody, a, b}})
	require.ErrorContains(t, err, "is a second Store after")
}

var allowEverybody = petrel.AuthenticatorFunc(func(context.Context, *petrel.ConnectRequest) error { return nil })

// almostStore has a method of a Store with another signature.
type almostStore struct{}

func (almostStore) Commit(context.Context) error { return nil }

func TestAlmostAStoreIsAnError(t *testing.T) {
	_, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{allowEverybody, almostStore{}}})
	require.ErrorContains(t, err, "petrel.Store")
}

func TestStoreOfANewerVersionIsRefused(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.start(discreet)
		synctest.Wait()
		m.crash()
		m.disk.Edit(func(records map[string][]byte) {
			for k := range records {
				records[k] = sealed(k, []byte{99})
			}
		})
		s, err := m.disk.Open()
		require.NoError(t, err)
		_, err = petrel.New(petrel.Options{Logger: silent(), Hooks: []petrel.Hook{allowEverybody, s}})
		require.ErrorContains(t, err, "the store has version 99, written by a newer petrel; this one knows 2")
	})
}

// acknowledgements are packets that a client sends and the types of the answers
// that promise something.
var acknowledgements = []struct {
	name string
	send packets.Packet
	want packets.Type
}{
	{"PUBACK", &packets.Publish{Topic: []byte("kept"), QoS: 1, PacketID: 11}, packets.TypePuback},
	{"PUBREC", &packets.Publish{Topic: []byte("kept"), QoS: 2, PacketID: 12}, packets.TypePubrec},
	{"PUBREC of a message that nobody gets", &packets.Publish{Topic: []byte("nobody"), QoS: 2, PacketID: 13}, packets.TypePubrec},
	{"PUBREC of a message to the broker itself", &packets.Publish{Topic: []byte("$SYS/x"), QoS: 2, PacketID: 14}, packets.TypePubrec},
	{"PUBACK of a retained message", &packets.Publish{Topic: []byte("nobody"), QoS: 1, PacketID: 15, Retain: true, Payload: []byte("x")}, packets.TypePuback},
	{"SUBACK", &packets.Subscribe{PacketID: 16, Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("f"), QoS: 1})}, packets.TypeSuback},
	{"UNSUBACK", &packets.Unsubscribe{PacketID: 17, Filters: packets.Filters(nil).Append("g")}, packets.TypeUnsuback},
	{"PUBCOMP", &packets.Pubrel{PacketID: 18}, packets.TypePubcomp},
}

// slowly makes each commit wait until release is called.
func (m *machine) slowly() (release func()) {
	gate := make(chan struct{})
	m.store.Before(func(*petrel.Batch) { <-gate })
	return func() { m.store.Before(nil); close(gate) }
}

func TestAcknowledgementsWaitForTheCommit(t *testing.T) {
	for _, tc := range acknowledgements {
		t.Run(tc.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b := m.start(discreet)
				sub := b.Connect(brokertest.Durable("subscriber"))
				sub.Subscribe(packets.ExactlyOnce, "kept")
				c := b.Connect(brokertest.Durable("client"))
				c.Subscribe(packets.AtLeastOnce, "g")
				c.Send(&packets.Publish{Topic: []byte("nobody"), QoS: 2, PacketID: 18})
				brokertest.Expect[*packets.Pubrec](c)

				release := m.slowly()
				c.Send(tc.send)
				synctest.Wait()
				require.Zero(t, c.Waiting(), "nothing may come before the commit")
				c.Send(&packets.Pingreq{}) // is read, and answered behind
				synctest.Wait()
				require.Zero(t, c.Waiting())
				release()
				require.Equal(t, tc.want, c.Receive().Type())
				brokertest.Expect[*packets.Pingresp](c)
			})
		})
	}
}

func TestConnackWaitsForTheCommit(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		synctest.Wait()
		release := m.slowly()
		c := b.Dial(packets.V5)
		p := brokertest.Durable("client")
		p.Version = packets.V5
		c.Send(&p)
		synctest.Wait()
		require.Zero(t, c.Waiting())
		release()
		brokertest.Expect[*packets.Connack](c)
	})
}

// Who is displaced before its CONNACK has left is told nothing: no other packet
// may come first.
func TestDisplacedBeforeItsConnackLeaves(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		synctest.Wait()
		release := m.slowly()
		p := brokertest.Durable("client")
		p.Version = packets.V5
		first, second := b.Dial(packets.V5), b.Dial(packets.V5)
		first.Send(&p)
		synctest.Wait()
		second.Send(&p)
		first.ExpectClosed()
		release()
		require.True(t, brokertest.Expect[*packets.Connack](second).SessionPresent)
	})
}

func TestWhatNeedsNoStoreDoesNotWait(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		synctest.Wait()
		release := m.slowly()
		defer release()
		sub := b.Connect(brokertest.ID("of the moment"))
		sub.Subscribe(packets.ExactlyOnce, "a")
		pub := b.Connect(brokertest.ID("publisher"))
		pub.Publish("a", "1", packets.AtLeastOnce)
		sub.ExpectPublish("a", "1")
		pub.Publish("a", "2", packets.ExactlyOnce)
		sub.ExpectPublish("a", "2")
		require.Empty(t, m.kinds())
	})
}

func TestQoS1IsDeliveredBeforeTheCommitAndQoS2After(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		sub := b.Connect(brokertest.Durable("subscriber"))
		sub.Subscribe(packets.ExactlyOnce, "a")
		pub := b.Connect(brokertest.ID("publisher"))
		release := m.slowly()
		pub.Send(&packets.Publish{Topic: []byte("a"), Payload: []byte("1"), QoS: 1, PacketID: 1})
		sub.ExpectPublish("a", "1")
		pub.Send(&packets.Publish{Topic: []byte("a"), Payload: []byte("2"), QoS: 2, PacketID: 2},
			&packets.Publish{Topic: []byte("a"), Payload: []byte("3")})
		synctest.Wait()
		require.Zero(t, sub.Waiting(), "a QoS 2 message waits, and what follows does not overtake it")
		require.Zero(t, pub.Waiting())
		release()
		sub.ExpectPublish("a", "2")
		sub.ExpectPublish("a", "3")
		brokertest.Expect[*packets.Puback](pub)
		brokertest.Expect[*packets.Pubrec](pub)
	})
}

func TestWhatCameDuringACommitIsCommittedTogether(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		sub := b.Connect(brokertest.Durable("subscriber"))
		sub.Subscribe(packets.AtLeastOnce, "#")
		sub.Leave(packets.NormalDisconnection)
		var publishers []*brokertest.Client
		for i := range 50 {
			publishers = append(publishers, b.Connect(brokertest.ID(fmt.Sprint("publisher ", i))))
		}
		synctest.Wait()
		release := m.slowly()
		m.store.FailAt(0, false)
		for i, p := range publishers {
			p.Send(&packets.Publish{Topic: fmt.Appendf(nil, "t/%d", i), Payload: []byte("x"), QoS: 1, PacketID: 1})
			synctest.Wait()
		}
		release()
		for _, p := range publishers {
			brokertest.Expect[*packets.Puback](p)
		}
		require.Equal(t, 2, m.store.Commits(), "the first message alone, all others together")
	})
}

func TestFailedCommitIsNoAcknowledgement(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code packets.ReasonCode
	}{
		{&diskFull{}, packets.QuotaExceeded},
		{errors.New("the disk is on fire"), packets.UnspecifiedError},
	} {
		for _, qos := range []packets.QoS{1, 2} {
			t.Run(fmt.Sprintf("%v, QoS %d", tc.err, qos), func(t *testing.T) {
				onMachine(t, func(t *testing.T, m *machine) { failedCommit(t, m, tc.err, tc.code, qos) })
			})
		}
	}
}

type diskFull struct{}

func (*diskFull) Error() string { return "write petrel.db: no space left on device" }
func (*diskFull) Unwrap() error { return syscall.ENOSPC }

func failedCommit(t *testing.T, m *machine, err error, code packets.ReasonCode, qos packets.QoS) {
	b := m.start(discreet)
	sub := b.Connect(brokertest.Durable("subscriber"))
	sub.Subscribe(packets.ExactlyOnce, "a")
	sub.Leave(packets.NormalDisconnection)
	pub := b.Connect(brokertest.Durable("publisher"))
	old := b.Connect(packets.Connect{Version: packets.V311, ClientID: []byte("old"), CleanStart: true})
	bystander := b.Connect(brokertest.ID("bystander"))

	m.store.Fail(err)
	message := packets.Publish{Topic: []byte("a"), Payload: []byte("1"), QoS: qos, PacketID: 1}
	pub.Send(&message)
	pub.ExpectDisconnect(code)
	old.Send(&packets.Publish{Topic: []byte("a"), Payload: []byte("old"), QoS: qos, PacketID: 1})
	old.ExpectClosed()

	// As long as it fails, what it is needed for is refused, and all else works.
	_, ack := b.TryConnect(brokertest.Durable("publisher"))
	require.Equal(t, code, ack.Reason)
	fleeting := b.Connect(brokertest.ID("fleeting"))
	fleeting.Subscribe(packets.AtMostOnce, "b")
	bystander.Publish("b", "still there", packets.AtMostOnce)
	fleeting.ExpectPublish("b", "still there")
	bystander.Send(&packets.Publish{Topic: []byte("b"), QoS: 1, PacketID: 1, Payload: []byte("x"), Retain: true})
	bystander.ExpectDisconnect(code)
	require.Error(t, b.Publish(t.Context(), petrel.Message{Topic: "a", QoS: 1}))

	// Then the publisher sends again what was not acknowledged.
	m.store.Fail(nil)
	time.Sleep(5 * time.Second)
	pub = b.Connect(brokertest.Durable("publisher"))
	message.Dup = true
	require.Equal(t, packets.Success, pub.PublishWith(message))
	b = m.restart(discreet)
	sub = b.Connect(brokertest.Durable("subscriber"))
	p := sub.ExpectPublish("a", "1")
	sub.Accept(p)
	if qos == packets.AtLeastOnce {
		sub.Accept(sub.ExpectPublish("a", "1")) // it came twice, and both were for QoS 1
	}
	sub.ExpectNothing()
}

// Whatever commit of a life fails, once or from there on: what was acknowledged
// is there after a restart.
func TestFaultAtEveryCommit(t *testing.T) {
	for _, stop := range []bool{false, true} {
		for n := 1; n < 40; n++ {
			done := false
			t.Run(fmt.Sprintf("commit %d, stop %v", n, stop), func(t *testing.T) {
				onMachine(t, func(t *testing.T, m *machine) {
					b := m.start(discreet)
					synctest.Wait()
					m.store.FailAt(n, stop)
					known := shortLife(b)
					synctest.Wait()
					done = m.store.Commits() < n
					b = m.restart(discreet)
					known.check(t, b)
				})
			})
			if done {
				return
			}
		}
	}
}

// life is what a client knows of its short life.
type life struct {
	session, subscribed, published, received, released, retained bool
}

// shortLife goes on until the broker ends the connection.
func shortLife(b *brokertest.Broker) (l life) {
	c := b.Dial(packets.V5)
	p := brokertest.Durable("client")
	p.Version, p.ReceiveMaximum = packets.V5, 100
	filters := packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("a/#"), QoS: 2})
	for _, step := range []struct {
		send packets.Packet
		want packets.Type
		know *bool
	}{
		{&p, packets.TypeConnack, &l.session},
		{&packets.Subscribe{PacketID: 1, Subscriptions: filters}, packets.TypeSuback, &l.subscribed},
		{&packets.Publish{Topic: []byte("a/1"), Payload: []byte("1"), QoS: 1, PacketID: 2}, packets.TypePuback, &l.published},
		{&packets.Publish{Topic: []byte("a/2"), Payload: []byte("2"), QoS: 2, PacketID: 3}, packets.TypePubrec, &l.received},
		{&packets.Pubrel{PacketID: 3}, packets.TypePubcomp, &l.released},
		{&packets.Publish{Topic: []byte("r"), Payload: []byte("kept"), QoS: 1, PacketID: 4, Retain: true}, packets.TypePuback, &l.retained},
	} {
		c.Send(step.send)
		for {
			got, ok := c.Next()
			if !ok {
				return l
			}
			if d, ok := got.(*packets.Connack); ok && d.Reason.IsError() {
				return l
			}
			if got.Type() == step.want {
				*step.know = true
				break
			}
		}
	}
	return l
}

// check compares what the client knows with what a broker says.
func (l life) check(t *testing.T, b *brokertest.Broker) {
	c, ack := b.TryConnect(brokertest.Durable("client"))
	if l.session {
		require.True(t, ack.SessionPresent)
	}
	got := make(map[string]int)
	c.Send(&packets.Pingreq{})
	for {
		p := c.Receive()
		if _, end := p.(*packets.Pingresp); end {
			break
		}
		if m, ok := p.(*packets.Publish); ok {
			got[string(m.Topic)]++
		}
	}
	if l.published {
		require.Equal(t, 1, got["a/1"])
	}
	if l.received {
		require.Equal(t, 1, got["a/2"])
	}
	require.LessOrEqual(t, got["a/2"], 1)
	if !l.released && l.received {
		c.Send(&packets.Publish{Topic: []byte("a/2"), Payload: []byte("2"), QoS: 2, PacketID: 3, Dup: true})
		brokertest.Expect[*packets.Pubrec](c)
	}
	if l.subscribed {
		require.Equal(t, packets.ReasonCode(packets.Success), c.Unsubscribe("a/#")[0])
	}
	if l.retained {
		require.Len(t, slices.Collect(b.Retained("r")), 1)
	}
}

func TestMessageForManyIsStoredOnce(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		const receivers = 20
		for i := range receivers {
			c := b.Connect(brokertest.Durable(fmt.Sprint("receiver ", i)))
			c.Subscribe(packets.AtLeastOnce, "news")
			c.Leave(packets.NormalDisconnection)
		}
		pub := b.Connect(brokertest.ID("publisher"))
		pub.Publish("news", "to everybody", packets.AtLeastOnce)
		require.Equal(t, map[string]int{"s": receivers, "u": receivers, "q": receivers, "m": 1}, m.kinds())

		b = m.restart(discreet)
		for i := range receivers {
			require.Equal(t, 1, m.kinds()["m"])
			c := b.Connect(brokertest.Durable(fmt.Sprint("receiver ", i)))
			c.Accept(c.ExpectPublish("news", "to everybody"))
			c.ExpectNothing()
		}
		require.Equal(t, map[string]int{"s": receivers, "u": receivers}, m.kinds(), "it goes with its last holder")
	})
}

func TestMessageForOneIsOneRecord(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		c := b.Connect(brokertest.Durable("receiver"))
		c.Subscribe(packets.AtLeastOnce, "news")
		b.Connect(brokertest.ID("publisher")).Publish("news", "to one", packets.AtLeastOnce)
		require.Equal(t, map[string]int{"s": 1, "u": 1, "q": 1}, m.kinds())
		c.Accept(c.ExpectPublish("news", "to one"))
		c.ExpectNothing()
		require.Equal(t, map[string]int{"s": 1, "u": 1}, m.kinds())
		c.Send(&packets.Disconnect{HasSessionExpiryInterval: true})
		c.ExpectClosed()
		require.Empty(t, m.kinds(), "nothing is left of a session that has ended")
	})
}

func TestDamagedRecordsAreSetAside(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		pub := b.Connect(brokertest.ID("publisher"))
		for i := range 10 {
			pub.PublishWith(packets.Publish{Topic: fmt.Appendf(nil, "r/%d", i), Payload: []byte("kept"), QoS: 1, Retain: true})
		}
		m.crash()
		m.disk.Edit(func(records map[string][]byte) {
			for k, v := range records {
				if strings.HasSuffix(k, "r/3") {
					v = bytes.Clone(v)
					v[len(v)/2] ^= 1
					records[k] = v
				}
			}
		})
		var log bytes.Buffer
		b = m.start(petrel.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.Len(t, slices.Collect(b.Retained("r/+")), 9)
		require.Contains(t, log.String(), "a record of the store is damaged and was set aside")
		require.Contains(t, log.String(), "its checksum is wrong")
		require.Equal(t, map[string]int{"r": 9, "x": 1}, m.kinds())
	})
}

func TestHostWaitsForTheCommit(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		b.Connect(brokertest.Durable("receiver")).Subscribe(packets.AtLeastOnce, "news")
		release := m.slowly()
		published := make(chan error, 1)
		go func() { published <- b.Publish(t.Context(), petrel.Message{Topic: "news", QoS: 1}) }()
		synctest.Wait()
		require.Empty(t, published)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, b.Publish(ctx, petrel.Message{Topic: "news", QoS: 1}), context.DeadlineExceeded)
		release()
		require.NoError(t, <-published)
	})
}

// A journal that is full holds up who fills it, and memory stays bounded.
func TestFullJournalHoldsUpItsWriters(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(petrel.Options{Logger: silent(), QueueMessages: -1, QueueBytes: -1})
		sub := b.Connect(brokertest.Durable("receiver"))
		sub.Subscribe(packets.AtLeastOnce, "news")
		sub.Leave(packets.NormalDisconnection)
		pub := b.Connect(brokertest.ID("publisher"))
		release := m.slowly()
		const messages, size = 60, 1 << 20
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for i := range messages {
				pub.Send(&packets.Publish{Topic: []byte("news"), Payload: make([]byte, size), QoS: 1, PacketID: uint16(i + 1)})
			}
		}()
		synctest.Wait()
		select {
		case <-sent:
			t.Fatal("60 MiB were taken while nothing could be written")
		default:
		}
		release()
		<-sent
		for i := range messages {
			require.EqualValues(t, i+1, brokertest.Expect[*packets.Puback](pub).PacketID)
		}
	})
}

// When a store fails that has held up a publisher, nobody waits for it.
func TestFullJournalThatFailsHoldsUpNobody(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		b.Connect(brokertest.Durable("receiver")).Subscribe(packets.AtLeastOnce, "news")
		pub := b.Connect(brokertest.ID("publisher"))
		release := m.slowly()
		go func() {
			for i := range 60 {
				pub.Send(&packets.Publish{Topic: []byte("news"), Payload: make([]byte, 1<<20), QoS: 1, PacketID: uint16(i + 1)})
			}
		}()
		synctest.Wait()
		m.store.Fail(storetest.ErrFault)
		release()
		last := packets.Packet(nil)
		for p, ok := pub.Next(); ok; p, ok = pub.Next() {
			last = p
		}
		require.Equal(t, packets.UnspecifiedError, last.(*packets.Disconnect).Reason)
	})
}

func TestSyncPolicies(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy petrel.SyncPolicy
		within time.Duration // the longest time without a sync; 0 means that each commit syncs
	}{
		{"each", petrel.SyncEach, 0},
		{"interval", petrel.SyncInterval(time.Second), time.Second},
		{"never", petrel.SyncNever, -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				b := m.start(petrel.Options{Logger: silent(), Sync: tc.policy})
				synctest.Wait()
				type commit struct {
					at   time.Time
					sync bool
				}
				var commits []commit
				m.store.Before(func(batch *petrel.Batch) { commits = append(commits, commit{time.Now(), batch.Sync()}) })
				pub := b.Connect(brokertest.ID("publisher"))
				for range 30 {
					pub.PublishWith(packets.Publish{Topic: []byte("r"), Payload: []byte("x"), QoS: 1, Retain: true})
					time.Sleep(100 * time.Millisecond)
				}
				last := time.Now()
				time.Sleep(5 * time.Second)
				synctest.Wait()
				require.GreaterOrEqual(t, len(commits), 30)
				syncs, synced := 0, time.Time{}
				for _, c := range commits {
					if c.sync {
						syncs, synced = syncs+1, c.at
					}
				}
				switch tc.within {
				case 0:
					require.Equal(t, len(commits), syncs)
				case -1:
					require.Zero(t, syncs)
				default:
					require.InDelta(t, 4, syncs, 1)
					require.False(t, synced.Before(last.Add(-100*time.Millisecond)), "the last changes are synced although nothing follows")
				}
			})
		})
	}
}

// sealed is a value with the checksum that the broker expects.
func sealed(key string, body []byte) []byte {
	sum := crc32.Checksum(append([]byte(key), body...), crc32.MakeTable(crc32.Castagnoli))
	return binary.LittleEndian.AppendUint32(bytes.Clone(body), sum)
}
