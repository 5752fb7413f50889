package packets_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/packets"
)

func TestEncodeDoesNotAllocate(t *testing.T) {
	eachGolden(t, func(t *testing.T, g golden, v packets.Version) {
		dst := make([]byte, 0, 512)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if _, err := g.packet.AppendTo(dst, v); err != nil {
				t.Error(err)
			}
		}))
	})
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	eachGolden(t, func(t *testing.T, g golden, v packets.Version) {
		h, body := split(t, wire(t, g.wire))
		p := packets.New(h.Type)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if err := p.Decode(h.Flags, body, v); err != nil {
				t.Error(err)
			}
		}))
	})
}

func TestHeadersAndWalksDoNotAllocate(t *testing.T) {
	b := wire(t, "30 FF 7F")
	s, f := subs(packets.Subscription{Filter: []byte("a")}), packets.Filters(nil).Append("a")
	n := 0
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, k, _ := packets.DecodeHeader(b)
		n += k + message.UserPropertyCount() + s.Len() + f.Len() + len(message.ContentType())
		for name, value := range message.UserProperties() {
			n += len(name) + len(value)
		}
	}))
	require.NotZero(t, n)
}

// benchmarked are the packets of the hot paths and one of every other type.
func benchmarked(b *testing.B, run func(b *testing.B, g golden, v packets.Version)) {
	last := map[packets.Type]golden{}
	for _, g := range goldens { // the last one of a type has the most in it
		last[g.packet.Type()] = g
	}
	for _, typ := range types {
		g := last[typ]
		b.Run(typ.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(wire(b, g.wire))))
			run(b, g, g.versions[len(g.versions)-1])
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	benchmarked(b, func(b *testing.B, g golden, v packets.Version) {
		dst := make([]byte, 0, 512)
		for b.Loop() {
			if _, err := g.packet.AppendTo(dst, v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	benchmarked(b, func(b *testing.B, g golden, v packets.Version) {
		h, body := split(b, wire(b, g.wire))
		p := packets.New(h.Type)
		for b.Loop() {
			if err := p.Decode(h.Flags, body, v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
