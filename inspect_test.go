package petrel_test

import (
	"bytes"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

func TestInspectStoreDescribesEveryRecord(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(discreet)
		for _, id := range []string{"one", "two"} {
			p := brokertest.Durable(id)
			p.HasWill, p.Will = true, packets.Will{Topic: []byte("will"), Payload: []byte("gone")}
			c := b.Connect(p)
			c.Subscribe(packets.ExactlyOnce, "a")
			c.Send(&packets.Publish{Topic: []byte("b"), QoS: 2, PacketID: 9, Retain: true, Payload: bytes.Repeat([]byte("x"), 100)})
			brokertest.Expect[*packets.Pubrec](c)
		}
		c := b.Connect(brokertest.ID("publisher"))
		c.Publish("a", "for both", packets.ExactlyOnce)
		sub := b.Connect(brokertest.Durable("one"))
		sub.Send(&packets.Pubrec{PacketID: sub.ExpectPublish("a", "for both").PacketID})
		brokertest.Expect[*packets.Pubrel](sub)
		synctest.Wait()
		m.crash()
		m.disk.Edit(func(records map[string][]byte) {
			records["\x00\x00r"+"damaged"] = []byte("nonsense")
			records["\x00\x00?"] = nil
		})

		s, err := m.disk.Open()
		require.NoError(t, err)
		texts, wrong := make(map[string]string), 0
		require.NoError(t, petrel.InspectStore(t.Context(), s, func(r petrel.StoreRecord) error {
			if r.Err != nil {
				wrong++
				return nil
			}
			texts[r.Kind] = r.Text
			return nil
		}))
		require.Equal(t, 2, wrong)
		require.Equal(t, "2", texts["version"])
		require.Contains(t, texts["session"], `client "two" of "", connected, expiry interval 3600`)
		require.Contains(t, texts["will"], `topic "will", QoS 0, payload "gone"`)
		require.Contains(t, texts["subscription"], `Filter:a QoS:QoS 2`)
		require.Contains(t, texts["received"], "packet identifier 9")
		require.Contains(t, texts["delivery"], "QoS 2, sent as 1, message 1")
		require.Contains(t, texts["flight"], "packet identifier 1, to be completed")
		require.Contains(t, texts["message"], `topic "a", QoS 2, payload "for both"`)
		require.Contains(t, texts["retained"], `topic "b", QoS 2, payload of 100 bytes "xxxx`)
	})
}
