package packets_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/packets"
)

func TestVarint(t *testing.T) {
	for _, c := range []struct {
		value uint32
		wire  string
	}{
		{0, "00"},
		{127, "7F"},
		{128, "80 01"},
		{16383, "FF 7F"},
		{16384, "80 80 01"},
		{2097151, "FF FF 7F"},
		{2097152, "80 80 80 01"},
		{packets.MaxRemaining, "FF FF FF 7F"},
	} {
		t.Run(c.wire, func(t *testing.T) {
			b := wire(t, c.wire)
			require.Equal(t, b, packets.AppendVarint(nil, c.value))
			require.Equal(t, len(b), packets.VarintLen(c.value))
			for i := range b {
				_, n, err := packets.DecodeVarint(b[:i])
				require.NoError(t, err)
				require.Zero(t, n, "%d bytes", i)
			}
			got, n, err := packets.DecodeVarint(append(b, 0xFF, 0xFF))
			require.NoError(t, err)
			require.Equal(t, len(b), n)
			require.Equal(t, c.value, got)
		})
	}
	require.Zero(t, packets.VarintLen(packets.MaxRemaining+1))
	require.Empty(t, packets.AppendVarint(nil, packets.MaxRemaining+1))
}

func TestVarintMalformed(t *testing.T) {
	for name, s := range map[string]string{
		"a fourth byte that announces a fifth": "80 80 80 80",
		"a fifth byte":                         "FF FF FF FF 7F",
		"0 in two bytes":                       "80 00",
		"127 in two bytes":                     "FF 00",
		"128 in four bytes":                    "80 81 80 00",
	} {
		t.Run(name, func(t *testing.T) {
			_, n, err := packets.DecodeVarint(wire(t, s))
			require.ErrorIs(t, err, packets.MalformedPacket)
			require.Zero(t, n)
		})
	}
}

func TestDecodeHeader(t *testing.T) {
	for _, c := range []struct {
		name, wire string
		want       packets.Header
		n          int
		code       packets.ReasonCode
	}{
		{name: "nothing yet"},
		{name: "first byte only", wire: "30"},
		{name: "remaining length not complete", wire: "30 FF FF FF"},
		{name: "empty body", wire: "C0 00", want: packets.Header{Type: packets.TypePingreq}, n: 2},
		{name: "flags", wire: "3D 05", want: packets.Header{Type: packets.TypePublish, Flags: 13, Remaining: 5}, n: 2},
		{name: "body is not looked at", wire: "F0 80 01 FF", want: packets.Header{Type: packets.TypeAuth, Remaining: 128}, n: 3},
		{name: "largest", wire: "30 FF FF FF 7F", want: packets.Header{Type: packets.TypePublish, Remaining: packets.MaxRemaining}, n: 5},
		{name: "type 0", wire: "00", code: packets.MalformedPacket},
		{name: "remaining length of five bytes", wire: "30 80 80 80 80", code: packets.MalformedPacket},
		{name: "remaining length longer than needed", wire: "30 80 00", code: packets.MalformedPacket},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, n, err := packets.DecodeHeader(wire(t, c.wire))
			require.Equal(t, c.code, packets.ReasonOf(err))
			require.Equal(t, c.want, h)
			require.Equal(t, c.n, n)
		})
	}
}

func TestNamesOfConstants(t *testing.T) {
	require.Equal(t, "CONNECT", packets.TypeConnect.String())
	require.Equal(t, "AUTH", packets.TypeAuth.String())
	require.Equal(t, "type 0", packets.Type(0).String())
	require.Equal(t, "type 16", packets.Type(16).String())
	require.Equal(t, "3.1", packets.V31.String())
	require.Equal(t, "3.1.1", packets.V311.String())
	require.Equal(t, "5.0", packets.V5.String())
	require.Equal(t, "level 9", packets.Version(9).String())
	require.Equal(t, "QoS 2", packets.ExactlyOnce.String())
}

func TestNew(t *testing.T) {
	for _, typ := range types {
		require.Equal(t, typ, packets.New(typ).Type())
	}
	require.Nil(t, packets.New(0))
	require.Nil(t, packets.New(16))
}
