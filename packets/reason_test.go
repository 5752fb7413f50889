package packets_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/packets"
)

// reasonPackets is table 2-6 of the standard.
var reasonPackets = map[packets.ReasonCode]string{
	0x00: "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH",
	0x01: "SUBACK", 0x02: "SUBACK", 0x04: "DISCONNECT", 0x10: "PUBACK PUBREC", 0x11: "UNSUBACK",
	0x18: "AUTH", 0x19: "AUTH",
	0x80: "CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT",
	0x81: "CONNACK DISCONNECT", 0x82: "CONNACK DISCONNECT",
	0x83: "CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT",
	0x84: "CONNACK", 0x85: "CONNACK", 0x86: "CONNACK",
	0x87: "CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT",
	0x88: "CONNACK", 0x89: "CONNACK DISCONNECT", 0x8A: "CONNACK", 0x8B: "DISCONNECT",
	0x8C: "CONNACK DISCONNECT", 0x8D: "DISCONNECT", 0x8E: "DISCONNECT",
	0x8F: "SUBACK UNSUBACK DISCONNECT", 0x90: "CONNACK PUBACK PUBREC DISCONNECT",
	0x91: "PUBACK PUBREC SUBACK UNSUBACK", 0x92: "PUBREL PUBCOMP",
	0x93: "DISCONNECT", 0x94: "DISCONNECT", 0x95: "CONNACK DISCONNECT", 0x96: "DISCONNECT",
	0x97: "CONNACK PUBACK PUBREC SUBACK DISCONNECT", 0x98: "DISCONNECT",
	0x99: "CONNACK PUBACK PUBREC DISCONNECT",
	0x9A: "CONNACK DISCONNECT", 0x9B: "CONNACK DISCONNECT", 0x9C: "CONNACK DISCONNECT", 0x9D: "CONNACK DISCONNECT",
	0x9E: "SUBACK DISCONNECT", 0x9F: "CONNACK DISCONNECT", 0xA0: "DISCONNECT",
	0xA1: "SUBACK DISCONNECT", 0xA2: "SUBACK DISCONNECT",
}

// reasonBodies has a body for every packet with a reason code, written XX.
var reasonBodies = map[packets.Type]string{
	packets.TypeConnack:    "00 XX 00",
	packets.TypePuback:     "00 01 XX",
	packets.TypePubrec:     "00 01 XX",
	packets.TypePubrel:     "00 01 XX",
	packets.TypePubcomp:    "00 01 XX",
	packets.TypeSuback:     "00 01 00 XX",
	packets.TypeUnsuback:   "00 01 00 XX",
	packets.TypeDisconnect: "XX",
	packets.TypeAuth:       "XX 04 15 00 01 4D",
}

func TestReasonCodesAreAllowedWhereTheStandardListsThem(t *testing.T) {
	for i := range 256 {
		c := packets.ReasonCode(i)
		allowed := strings.Fields(reasonPackets[c])
		for _, typ := range types {
			want := false
			for _, name := range allowed {
				want = want || name == typ.String()
			}
			require.Equal(t, want, c.AllowedIn(typ), "0x%02X in %v", i, typ)
			body, ok := reasonBodies[typ]
			if !ok {
				continue
			}
			p := packets.New(typ)
			flags := byte(0)
			if typ == packets.TypePubrel {
				flags = 2
			}
			err := p.Decode(flags, wire(t, strings.ReplaceAll(body, "XX", fmt.Sprintf("%02X", i))), v5)
			if want {
				require.NoError(t, err, "0x%02X in %v", i, typ)
				continue
			}
			require.Equal(t, packets.ProtocolError, packets.ReasonOf(err), "0x%02X in %v", i, typ)
			_, err = p.AppendTo(nil, v5)
			require.Error(t, err, "0x%02X in %v encodes", i, typ)
		}
		require.Equal(t, i >= 0x80, c.IsError())
		require.Equal(t, len(allowed) == 0, strings.HasPrefix(c.String(), "reason code 0x"), c.String())
	}
}

func TestErrorText(t *testing.T) {
	for _, c := range []struct {
		want string
		err  error
	}{
		{"mqtt: not authorized", packets.NotAuthorized},
		{"mqtt: reason code 0xFF", packets.ReasonCode(0xFF)},
		{"mqtt: QoS not supported", &packets.Error{Code: packets.QoSNotSupported}},
		{"mqtt: malformed packet: topic at byte 2", &packets.Error{Code: packets.MalformedPacket, Detail: "topic at byte 2"}},
		{"mqtt: server busy: queue: EOF", &packets.Error{Code: packets.ServerBusy, Detail: "queue", Err: io.EOF}},
	} {
		require.EqualError(t, c.err, c.want)
	}
}

func TestErrorTreeHasCodeAndCause(t *testing.T) {
	err := fmt.Errorf("connect: %w", &packets.Error{Code: packets.Banned, Err: io.EOF})
	require.ErrorIs(t, err, packets.Banned)
	require.ErrorIs(t, err, io.EOF)
	require.NotErrorIs(t, err, packets.NotAuthorized)
	var c packets.ReasonCode
	require.ErrorAs(t, err, &c)
	require.Equal(t, packets.Banned, c)
}

func TestReasonOf(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want packets.ReasonCode
	}{
		{"no error", nil, packets.Success},
		{"a failure", packets.Banned, packets.Banned},
		{"a wrapped failure", fmt.Errorf("hook: %w", packets.NotAuthorized), packets.NotAuthorized},
		{"a failure with detail", &packets.Error{Code: packets.QuotaExceeded, Err: io.EOF}, packets.QuotaExceeded},
		{"a failure as cause of no code", &packets.Error{Err: packets.ServerBusy}, packets.ServerBusy},
		{"joined errors", errors.Join(io.EOF, packets.Banned), packets.Banned},
		{"any error", io.EOF, packets.UnspecifiedError},
		{"a success code as error", packets.GrantedQoS1, packets.UnspecifiedError},
		{"a success code with detail", &packets.Error{Code: packets.Success}, packets.UnspecifiedError},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, packets.ReasonOf(c.err))
		})
	}
}

func TestConnackReturnCode(t *testing.T) {
	want := map[packets.ReasonCode]byte{
		0x00: 0, 0x84: 1, 0x85: 2, 0x88: 3, 0x89: 3, 0x9C: 3, 0x9D: 3, 0x9F: 3, 0x97: 3, 0x80: 3, 0x83: 3,
		0x86: 4, 0x8C: 4, 0x87: 5, 0x8A: 5,
	}
	for i := range 256 {
		c := packets.ReasonCode(i)
		code, ok := packets.ConnackReturnCode(c)
		expected, known := want[c]
		require.Equal(t, known, ok, "0x%02X", i)
		require.Equal(t, expected, code, "0x%02X", i)
		for _, v := range onlyV3 {
			b, err := (&packets.Connack{Reason: c}).AppendTo(nil, v)
			if !known {
				require.Error(t, err, "0x%02X", i)
				require.Empty(t, b)
				continue
			}
			require.NoError(t, err, "0x%02X", i)
			require.Equal(t, []byte{0x20, 2, 0, expected}, b)
		}
	}
}
