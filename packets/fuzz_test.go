package packets_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/packets"
)

func FuzzConnect(f *testing.F)     { fuzz(f, packets.TypeConnect) }
func FuzzConnack(f *testing.F)     { fuzz(f, packets.TypeConnack) }
func FuzzPublish(f *testing.F)     { fuzz(f, packets.TypePublish) }
func FuzzPuback(f *testing.F)      { fuzz(f, packets.TypePuback) }
func FuzzPubrec(f *testing.F)      { fuzz(f, packets.TypePubrec) }
func FuzzPubrel(f *testing.F)      { fuzz(f, packets.TypePubrel) }
func FuzzPubcomp(f *testing.F)     { fuzz(f, packets.TypePubcomp) }
func FuzzSubscribe(f *testing.F)   { fuzz(f, packets.TypeSubscribe) }
func FuzzSuback(f *testing.F)      { fuzz(f, packets.TypeSuback) }
func FuzzUnsubscribe(f *testing.F) { fuzz(f, packets.TypeUnsubscribe) }
func FuzzUnsuback(f *testing.F)    { fuzz(f, packets.TypeUnsuback) }
func FuzzPingreq(f *testing.F)     { fuzz(f, packets.TypePingreq) }
func FuzzPingresp(f *testing.F)    { fuzz(f, packets.TypePingresp) }
func FuzzDisconnect(f *testing.F)  { fuzz(f, packets.TypeDisconnect) }
func FuzzAuth(f *testing.F)        { fuzz(f, packets.TypeAuth) }

func fuzz(f *testing.F, typ packets.Type) {
	for _, g := range goldens {
		if b := wire(f, g.wire); packets.Type(b[0]>>4) == typ {
			for _, v := range g.versions {
				f.Add(b[0]&15, b[2:], byte(v))
			}
		}
	}
	f.Fuzz(func(t *testing.T, flags byte, body []byte, version byte) {
		roundTrip(t, packets.Header{Type: typ, Flags: flags & 15}, body, versions[version%3])
	})
}

// roundTrip checks that what decodes encodes again and then decodes to the same
// value, and that decoding reserves no more memory than the body has.
func roundTrip(t *testing.T, h packets.Header, body []byte, v packets.Version) {
	p := packets.New(h.Type)
	err := p.Decode(h.Flags, body, v)
	require.LessOrEqual(t, reserved(p), len(body))
	byteSlices(p, func(name string, b []byte) {
		require.LessOrEqual(t, cap(b), len(body), name)
	})
	if err != nil {
		code := packets.ReasonOf(err)
		require.True(t, code.AllowedIn(packets.TypeConnack) || code.AllowedIn(packets.TypeDisconnect), "%v", err)
		return
	}
	byteSlices(p, func(name string, b []byte) {
		require.Equal(t, len(b), cap(b), "%s is not capped", name)
		switch name {
		case "Properties", "UserProperties", "Subscriptions": // may be put together elsewhere
		default:
			require.True(t, len(b) == 0 || aliases(b, body), "%s is a copy", name)
		}
	})
	out, err := p.AppendTo(nil, v)
	require.NoError(t, err)
	h, n, err := packets.DecodeHeader(out)
	require.NoError(t, err)
	require.Len(t, out, n+h.Remaining)
	require.LessOrEqual(t, h.Remaining, len(body), "longer than it was")
	again := packets.New(h.Type)
	require.NoError(t, again.Decode(h.Flags, out[n:], v))
	require.Equal(t, values(p), values(again))
}

// FuzzStream cuts any bytes into packets, as a connection does, with the first
// bytes arriving one by one.
func FuzzStream(f *testing.F) {
	var all []byte
	for _, g := range goldens {
		f.Add(wire(f, g.wire), byte(g.versions[0]))
		all = append(all, wire(f, g.wire)...)
	}
	f.Add(all, byte(2))
	f.Fuzz(func(t *testing.T, stream []byte, version byte) {
		for len(stream) > 0 {
			h, n, err := packets.DecodeHeader(stream)
			for i := range min(n, len(stream)) {
				_, early, earlyErr := packets.DecodeHeader(stream[:i])
				require.NoError(t, earlyErr)
				require.Zero(t, early, "complete after %d of %d bytes", i, n)
			}
			if err != nil {
				require.Zero(t, n)
				require.Equal(t, packets.MalformedPacket, packets.ReasonOf(err))
				return
			}
			if n == 0 {
				require.Less(t, len(stream), 5)
				return
			}
			require.LessOrEqual(t, n, 5)
			require.LessOrEqual(t, h.Remaining, packets.MaxRemaining)
			if len(stream)-n < h.Remaining {
				return
			}
			end := n + h.Remaining
			roundTrip(t, h, stream[n:end:end], versions[version%3])
			stream = stream[end:]
		}
	})
}
