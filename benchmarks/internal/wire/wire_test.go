package wire

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/packets"
)

// decode reads b as one whole packet with petrel's codec.
func decode[P packets.Packet](t *testing.T, b []byte) P {
	t.Helper()
	h, n, err := packets.DecodeHeader(b)
	require.NoError(t, err)
	require.Equal(t, len(b), n+h.Remaining)
	p := packets.New(h.Type)
	require.NoError(t, p.Decode(h.Flags, b[n:], packets.V311))
	require.IsType(t, *new(P), p)
	return p.(P)
}

func encode(t *testing.T, p packets.Packet) []byte {
	t.Helper()
	b, err := p.AppendTo(nil, packets.V311)
	require.NoError(t, err)
	return b
}

func TestConnect(t *testing.T) {
	for _, clean := range []bool{true, false} {
		p := decode[*packets.Connect](t, AppendConnect(nil, "client-7", clean))
		require.Equal(t, packets.V311, p.Version)
		require.Equal(t, clean, p.CleanStart)
		require.Equal(t, "client-7", string(p.ClientID))
		require.Zero(t, p.KeepAlive)
	}
}

func TestSubscribe(t *testing.T) {
	filters := []string{"a/+", strings.Repeat("long/", 50) + "#", "$share/g/b"}
	p := decode[*packets.Subscribe](t, AppendSubscribe(nil, 513, 1, filters...))
	require.EqualValues(t, 513, p.PacketID)
	var got []string
	for s := range p.Subscriptions.All() {
		require.Equal(t, packets.AtLeastOnce, s.QoS)
		got = append(got, string(s.Filter))
	}
	require.Equal(t, filters, got)
}

func TestPublishIsWhatTheBrokerWouldWrite(t *testing.T) {
	for qos := range byte(3) {
		for _, size := range []int{0, 1, 100, 127, 128, 20_000, 3 << 20} {
			t.Run(fmt.Sprintf("QoS %d, %d bytes", qos, size), func(t *testing.T) {
				payload := []byte(strings.Repeat("p", size))
				p := &packets.Publish{Topic: []byte("a/b/c"), QoS: packets.QoS(qos), Retain: qos == 1, Payload: payload}
				if qos > 0 {
					p.PacketID = 258
				}
				b := AppendPublish(nil, "a/b/c", qos, qos == 1, 258, payload)
				require.Equal(t, encode(t, p), b)

				body, end := Frame(b)
				require.Equal(t, len(b), end)
				topic, rest, ok := Topic(b[body:])
				require.True(t, ok)
				require.Equal(t, "a/b/c", string(topic))
				require.Equal(t, qos, QoS(b[0]))
				if qos > 0 {
					require.EqualValues(t, 258, ID(rest))
					rest = rest[2:]
				}
				require.Len(t, rest, size)
			})
		}
	}
}

func TestAnswersAreWhatTheBrokerWouldWrite(t *testing.T) {
	require.Equal(t, encode(t, &packets.Puback{PacketID: 258}), AppendAck(nil, Puback, 258))
	require.Equal(t, encode(t, &packets.Pubrec{PacketID: 258}), AppendAck(nil, Pubrec, 258))
	require.Equal(t, encode(t, &packets.Pubrel{PacketID: 258}), AppendAck(nil, Pubrel, 258))
	require.Equal(t, encode(t, &packets.Pubcomp{PacketID: 258}), AppendAck(nil, Pubcomp, 258))
	require.Equal(t, encode(t, &packets.Connack{}), AppendConnack(nil))
	require.Equal(t, encode(t, &packets.Disconnect{}), AppendDisconnect(nil))
	suback := &packets.Suback{PacketID: 258, Reasons: make([]packets.ReasonCode, 200)}
	require.Equal(t, encode(t, suback), AppendSuback(nil, 258, 200, 0))
}

func TestFrameOfIncompleteAndImpossiblePackets(t *testing.T) {
	for _, test := range []struct {
		name      string
		b         []byte
		body, end int
	}{
		{"nothing", nil, 0, 0},
		{"only the first byte", []byte{0x30}, 0, 0},
		{"half a length", []byte{0x30, 0x80}, 0, 0},
		{"a length of four bytes, half", []byte{0x30, 0xFF, 0xFF, 0xFF}, 0, 0},
		{"body that has not come", []byte{0x30, 0x81, 0x01}, 3, 3 + 129},
		{"the longest", []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, 5, 5 + 268435455},
		{"a length of five bytes", []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF}, -1, -1},
	} {
		body, end := Frame(test.b)
		require.Equal(t, []int{test.body, test.end}, []int{body, end}, test.name)
	}
}

func TestTopicThatIsCutOff(t *testing.T) {
	body := []byte("\x00\x03a/b")
	for n := range body {
		_, _, ok := Topic(body[:n])
		require.False(t, ok, "%d bytes", n)
	}
	topic, rest, ok := Topic(body)
	require.True(t, ok)
	require.Equal(t, "a/b", string(topic))
	require.Empty(t, rest)
}
