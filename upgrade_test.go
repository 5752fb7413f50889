package petrel_test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
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

// oldMachine is one on which the last petrel with version 1 of the scheme has crashed, in
// the first second of the clock of a bubble. What it left is a line of hexadecimal key
// and value for each record:
//
//   - a was offline while 80 messages came for "all". It came back, and got three of
//     them: PUBREC for the first was answered, and nothing for the others. It was
//     connected.
//   - b is offline. It has the 80 messages, three for itself, and one more, "not
//     released", of which the client "publisher" has not sent PUBREL, with identifier 7.
//   - "kept" has a retained message.
//   - "will" has gone, and its will for b is due after 400 seconds.
//
// The messages have QoS 2 and 1 in turn.
func oldMachine(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	f, err := os.Open("testdata/store-version-1.txt")
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	m.disk.Edit(func(records map[string][]byte) {
		for lines.Scan() {
			k, v, found := strings.Cut(lines.Text(), " ")
			key, err := hex.DecodeString(k)
			require.NoError(t, err)
			value, err := hex.DecodeString(v)
			require.NoError(t, err)
			require.True(t, found)
			records[string(key)] = value
		}
	})
	require.NoError(t, lines.Err())
	return m
}

// version is that of the store.
func (m *machine) version() byte {
	synctest.Wait()
	return m.disk.Records()["\x00\x00v"][0]
}

// A store of version 1 is brought to this version, and nothing of it is lost, even by a
// crash on the way or right behind it.
func TestStoreOfVersion1IsUpgraded(t *testing.T) {
	for _, tc := range []struct {
		name string
		then func(t *testing.T, m *machine)
	}{
		{"once", func(*testing.T, *machine) {}},
		{"after a crash before it is in the store", func(t *testing.T, m *machine) {
			m.crash()
			require.EqualValues(t, 1, m.version())
		}},
		{"and started again", func(t *testing.T, m *machine) {
			require.EqualValues(t, 2, m.version())
			m.crash()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := oldMachine(t)
				require.EqualValues(t, 1, m.version())
				b := m.start(discreet)
				tc.then(t, m)
				if m.broker == nil {
					b = m.start(discreet)
				}
				require.EqualValues(t, 2, m.version())
				require.Zero(t, m.kinds()["x"])
				upgraded(t, b)
				m.expectEmpty(t, b)
			})
		})
	}
}

// upgraded checks that all is there that was.
func upgraded(t *testing.T, b *brokertest.Broker) {
	t.Helper()
	sizes := func(first, last int) (n int) {
		for i := first; i <= last; i++ {
			n += len("all") + len(payload80(i))
		}
		return n
	}
	of := queuedFor(b, "a")
	require.Equal(t, []int{77, sizes(4, 80), 3}, []int{of.Queued, of.QueuedBytes, of.Inflight})
	of = queuedFor(b, "b")
	require.Equal(t, []int{84, sizes(1, 80) + 3*len("b1 for b") + len("bnot released"), 0}, []int{of.Queued, of.QueuedBytes, of.Inflight})
	require.Equal(t, 1, b.Stats().Retained)

	var all []string
	for i := 1; i <= 80; i++ {
		all = append(all, payload80(i))
	}
	a := b.Connect(brokertest.Durable("a"))
	require.EqualValues(t, 1, brokertest.Expect[*packets.Pubrel](a).PacketID)
	a.Send(&packets.Pubcomp{PacketID: 1})
	same(t, all[1:], take(t, a, everything))

	again := b.Connect(brokertest.Durable("publisher"))
	again.Send(&packets.Publish{Topic: []byte("b"), Payload: []byte("not released"), QoS: 2, PacketID: 7, Dup: true})
	brokertest.Expect[*packets.Pubrec](again)
	again.Send(&packets.Pubrel{PacketID: 7})
	brokertest.Expect[*packets.Pubcomp](again)
	c := b.Connect(brokertest.Durable("b"))
	same(t, slices.Concat(all, []string{"1 for b", "2 for b", "3 for b", "not released"}), take(t, c, everything))
	time.Sleep(410 * time.Second)
	c.Accept(c.ExpectPublish("b", "will"))
	c.Subscribe(packets.AtMostOnce, "kept")
	c.ExpectPublish("kept", "retained")
	require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "kept", Retain: true}))
}

func payload80(i int) string { return fmt.Sprintf("%d of 80", i) }

// A page of messages that version 1 has kept is as large as one of this version.
func TestMemoryOfAStoreOfVersion1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := oldMachine(t)
		b := m.start(petrel.Options{Logger: silent(), MemoryLimit: 100, MaximumRetainedBytes: -1})
		p := brokertest.Durable("b")
		p.ReceiveMaximum = 1
		c := b.Connect(p)
		for i := 1; i <= 80; i++ {
			require.Equal(t, []string{payload80(i)}, take(t, c, 1))
			require.LessOrEqual(t, b.Stats().MessageBytes, int64(150)) // what is in flight for a is there whatever the limit
		}
	})
}
