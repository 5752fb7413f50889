package packets_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/packets"
)

// The tests over all golden packets say something about every packet only if
// every packet is among them.
func TestEveryTypeIsGolden(t *testing.T) {
	type kind struct {
		typ     packets.Type
		version packets.Version
	}
	plain, withUserProperties := map[kind]bool{}, map[packets.Type]bool{}
	for _, g := range goldens {
		for _, v := range g.versions {
			plain[kind{g.packet.Type(), v}] = true
		}
		user, _ := values(g.packet)["UserProperties"].(packets.UserProperties)
		block, _ := values(g.packet)["Properties"].(packets.Properties)
		if user.Len()+block.UserPropertyCount() > 0 {
			withUserProperties[g.packet.Type()] = true
		}
	}
	for _, typ := range types {
		for _, v := range versions {
			exists := typ != packets.TypeAuth || v == v5
			require.Equal(t, exists, plain[kind{typ, v}], "%v in %v", typ, v)
		}
		ping := typ == packets.TypePingreq || typ == packets.TypePingresp
		require.Equal(t, !ping, withUserProperties[typ], "%v with user properties", typ)
	}
}

// Of a packet that has not arrived as a whole the header either is not complete
// or announces more than there is.
func TestTruncatedPacketsAreWaitedFor(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			b := wire(t, g.wire)
			for i := range b {
				h, n, err := packets.DecodeHeader(b[:i:i])
				require.NoError(t, err)
				require.True(t, n == 0 || n+h.Remaining == len(b), "%d of %d bytes", i, len(b))
				require.Equal(t, i < 2, n == 0, "%d of %d bytes", i, len(b))
			}
		})
	}
}

// A property block is long enough for a length of two bytes, and a packet for a
// remaining length of two and of three.
func TestLengthsOfSeveralBytes(t *testing.T) {
	for _, n := range []int{100, 200, 20_000} {
		value := string(slices.Repeat([]byte("v"), n))
		u := user("k", value)
		for _, p := range []packets.Packet{
			&packets.Connect{Version: v5, ReceiveMaximum: 1, UserProperties: u},
			&packets.Connack{UserProperties: u},
			&packets.Publish{Topic: []byte("a"), Properties: packets.Properties(nil).AppendUserProperty("k", value)},
			&packets.Puback{PacketID: 1, UserProperties: u},
			&packets.Pubrec{PacketID: 1, UserProperties: u},
			&packets.Pubrel{PacketID: 1, UserProperties: u},
			&packets.Pubcomp{PacketID: 1, UserProperties: u},
			&packets.Subscribe{PacketID: 1, UserProperties: u, Subscriptions: subs(packets.Subscription{Filter: []byte("a")})},
			&packets.Suback{PacketID: 1, UserProperties: u, Reasons: []packets.ReasonCode{0}},
			&packets.Unsubscribe{PacketID: 1, UserProperties: u, Filters: packets.Filters(nil).Append("a")},
			&packets.Unsuback{PacketID: 1, UserProperties: u, Reasons: []packets.ReasonCode{0}},
			&packets.Disconnect{UserProperties: u},
			&packets.Auth{Reason: packets.Reauthenticate, HasAuthenticationMethod: true, AuthenticationMethod: []byte("M"), UserProperties: u},
		} {
			b, err := p.AppendTo(nil, v5)
			require.NoError(t, err, "%v", p.Type())
			got, err := decode(t, b, v5)
			require.NoError(t, err, "%v", p.Type())
			require.Equal(t, values(p), values(got), "%v", p.Type())
			again, err := got.AppendTo(nil, v5)
			require.NoError(t, err)
			require.Equal(t, b, again, "%v", p.Type())
		}
	}
}
