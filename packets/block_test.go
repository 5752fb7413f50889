package packets_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/packets"
)

var tooLong = strings.Repeat("x", 65536)

func TestPropertiesReadBack(t *testing.T) {
	require.Equal(t, packets.Properties(wire(t, messageWire)), message)
	require.NoError(t, message.Check())
	format, ok := message.PayloadFormat()
	require.True(t, ok)
	require.Equal(t, byte(1), format)
	require.Equal(t, "t", string(message.ContentType()))
	require.Equal(t, "r", string(message.ResponseTopic()))
	require.Equal(t, []byte{0, 1}, message.CorrelationData())
	require.Equal(t, 2, message.UserPropertyCount())
	var pairs []string
	for name, value := range message.UserProperties() {
		pairs = append(pairs, string(name)+"="+string(value))
	}
	require.Equal(t, []string{"k=v", "k="}, pairs)
	for name := range message.UserProperties() {
		require.Equal(t, "k", string(name))
		break
	}
}

func TestPropertiesAbsent(t *testing.T) {
	var p packets.Properties
	require.NoError(t, p.Check())
	_, ok := p.PayloadFormat()
	require.False(t, ok)
	require.Nil(t, p.ContentType())
	require.Nil(t, p.ResponseTopic())
	require.Nil(t, p.CorrelationData())
	require.Zero(t, p.UserPropertyCount())

	p = p.AppendCorrelationData(nil)
	require.NotNil(t, p.CorrelationData(), "present but empty")
	require.Empty(t, p.CorrelationData())
}

func TestPropertiesCheck(t *testing.T) {
	var none packets.Properties
	for _, c := range []struct {
		name  string
		block packets.Properties
		want  packets.ReasonCode
	}{
		{"payload format 2", none.AppendPayloadFormat(2), packets.ProtocolError},
		{"content type twice", none.AppendContentType("a").AppendContentType("a"), packets.ProtocolError},
		{"content type not UTF-8", none.AppendContentType("\xFF"), packets.MalformedPacket},
		{"content type too long", none.AppendContentType(tooLong), packets.MalformedPacket},
		{"too long, then something legal", none.AppendContentType(tooLong).AppendPayloadFormat(1), packets.MalformedPacket},
		{"response topic with wildcard", none.AppendResponseTopic("a/+"), packets.ProtocolError},
		{"response topic empty", none.AppendResponseTopic(""), packets.ProtocolError},
		{"correlation data too long", none.AppendCorrelationData([]byte(tooLong)), packets.MalformedPacket},
		{"user property with U+0000", none.AppendUserProperty("a", "\x00"), packets.MalformedPacket},
		{"user property too long", none.AppendUserProperty("a", tooLong), packets.MalformedPacket},
		{"topic alias", packets.Properties(wire(t, "23 00 01")), packets.MalformedPacket},
		{"message expiry", packets.Properties(wire(t, "02 00 00 00 01")), packets.MalformedPacket},
		{"incomplete", message[:len(message)-1], packets.MalformedPacket},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, packets.ReasonOf(c.block.Check()))
		})
	}
}

// Whatever bytes a block has, walking it ends and stays inside it.
func TestBlocksOfAnyBytesAreWalked(t *testing.T) {
	for i := range len(message) {
		for id := range 256 {
			b := append([]byte(nil), message[i:]...)
			b[0] = byte(id)
			p := packets.Properties(b)
			p.PayloadFormat()
			p.ContentType()
			p.ResponseTopic()
			p.CorrelationData()
			require.LessOrEqual(t, p.UserPropertyCount(), len(b)/5)
			require.LessOrEqual(t, packets.UserProperties(b).Len(), len(b)/5)
			require.LessOrEqual(t, packets.Subscriptions(b).Len(), len(b)/3)
			require.LessOrEqual(t, packets.Filters(b).Len(), len(b)/2)
		}
	}
}

func TestUserPropertiesKeepOrderAndRepeats(t *testing.T) {
	u := user("b", "1", "a", "2", "b", "3")
	require.Equal(t, 3, u.Len())
	var got []string
	for name, value := range u.All() {
		require.Equal(t, len(name), cap(name))
		got = append(got, string(name)+string(value))
	}
	require.Equal(t, []string{"b1", "a2", "b3"}, got)
	_, _, _, ok := packets.UserProperties(nil).Next()
	require.False(t, ok)
}

func TestSubscriptionsAndFiltersReadBack(t *testing.T) {
	want := []packets.Subscription{
		{Filter: []byte("a/+"), QoS: 2, NoLocal: true, RetainHandling: 2},
		{Filter: []byte{}, RetainAsPublished: true},
		{Filter: []byte("#"), QoS: 1, RetainHandling: 1},
	}
	s := subs(want...)
	require.Equal(t, 3, s.Len())
	var got []packets.Subscription
	for sub := range s.All() {
		got = append(got, sub)
	}
	require.Equal(t, want, got)

	f := packets.Filters(nil).Append("a").Append("").Append("#")
	require.Equal(t, 3, f.Len())
	var filters []string
	for filter := range f.All() {
		filters = append(filters, string(filter))
	}
	require.Equal(t, []string{"a", "", "#"}, filters)
}
