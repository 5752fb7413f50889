package packets_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/packets"
)

// standardProperties is table 2-4 of the standard: a legal entry, the packets
// it may be in, those where it may repeat, and values that are not legal.
var standardProperties = []struct {
	id      byte
	value   string
	in      string
	repeats string
	bad     map[string]packets.ReasonCode
}{
	{id: 0x01, value: "01", in: "PUBLISH Will", bad: flagOnly},
	{id: 0x02, value: "00 00 00 00", in: "PUBLISH Will"},
	{id: 0x03, value: "00 01 74", in: "PUBLISH Will", bad: textOnly},
	{id: 0x08, value: "00 01 74", in: "PUBLISH Will", bad: map[string]packets.ReasonCode{
		"00 01 FF": packets.MalformedPacket, "00 01 00": packets.MalformedPacket, "00 00": packets.ProtocolError,
		"00 01 23": packets.ProtocolError, "00 03 61 2F 2B": packets.ProtocolError,
	}},
	{id: 0x09, value: "00 02 FF 00", in: "PUBLISH Will"},
	{id: 0x0B, value: "FF FF FF 7F", in: "PUBLISH SUBSCRIBE", repeats: "PUBLISH", bad: map[string]packets.ReasonCode{
		"00": packets.ProtocolError, "80 00": packets.MalformedPacket, "81 00": packets.MalformedPacket, "FF FF FF FF": packets.MalformedPacket,
	}},
	{id: 0x11, value: "FF FF FF FF", in: "CONNECT CONNACK DISCONNECT"},
	{id: 0x12, value: "00 01 69", in: "CONNACK", bad: textOnly},
	{id: 0x13, value: "00 00", in: "CONNACK"},
	{id: 0x15, value: "00 01 4D", in: "CONNECT CONNACK AUTH", bad: textOnly},
	{id: 0x16, value: "00 02 FF 00", in: "CONNECT CONNACK AUTH"},
	{id: 0x17, value: "00", in: "CONNECT", bad: flagOnly},
	{id: 0x18, value: "00 00 00 00", in: "Will"},
	{id: 0x19, value: "01", in: "CONNECT", bad: flagOnly},
	{id: 0x1A, value: "00 01 69", in: "CONNACK", bad: textOnly},
	{id: 0x1C, value: "00 01 69", in: "CONNACK DISCONNECT", bad: textOnly},
	{id: 0x1F, value: "00 01 72", in: "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH", bad: textOnly},
	{id: 0x21, value: "00 01", in: "CONNECT CONNACK", bad: map[string]packets.ReasonCode{"00 00": packets.ProtocolError}},
	{id: 0x22, value: "00 00", in: "CONNECT CONNACK"},
	{id: 0x23, value: "00 01", in: "PUBLISH", bad: map[string]packets.ReasonCode{"00 00": packets.TopicAliasInvalid}},
	{id: 0x24, value: "01", in: "CONNACK", bad: flagOnly},
	{id: 0x25, value: "00", in: "CONNACK", bad: flagOnly},
	{id: 0x26, value: "00 01 61 00 00", in: everywhere, repeats: everywhere, bad: map[string]packets.ReasonCode{
		"00 01 FF 00 00": packets.MalformedPacket, "00 00 00 01 00": packets.MalformedPacket, "00 00 00 02 C0 80": packets.MalformedPacket,
	}},
	{id: 0x27, value: "00 00 00 01", in: "CONNECT CONNACK", bad: map[string]packets.ReasonCode{"00 00 00 00": packets.ProtocolError}},
	{id: 0x28, value: "00", in: "CONNACK", bad: flagOnly},
	{id: 0x29, value: "00", in: "CONNACK", bad: flagOnly},
	{id: 0x2A, value: "00", in: "CONNACK", bad: flagOnly},
}

const everywhere = "CONNECT CONNACK PUBLISH Will PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK DISCONNECT AUTH"

var (
	flagOnly = map[string]packets.ReasonCode{"02": packets.ProtocolError, "FF": packets.ProtocolError}
	textOnly = map[string]packets.ReasonCode{
		"00 01 FF":       packets.MalformedPacket, // no UTF-8
		"00 01 00":       packets.MalformedPacket, // U+0000
		"00 03 ED A0 80": packets.MalformedPacket, // surrogate
		"00 02 C0 80":    packets.MalformedPacket, // longer than needed
	}
)

// placeForm is where a property block can be: the packet around it is in hex
// with the block as PP. AUTH needs a method, and Authentication Data needs one
// everywhere; propertyIn puts it in.
var placeForm = map[string]string{
	"CONNECT":     "10 00 04 4D 51 54 54 05 02 00 00 PP 00 00",
	"Will":        "10 00 04 4D 51 54 54 05 06 00 00 00 00 00 PP 00 01 77 00 00",
	"CONNACK":     "20 00 00 PP",
	"PUBLISH":     "30 00 01 61 PP",
	"PUBACK":      "40 00 01 00 PP",
	"PUBREC":      "50 00 01 00 PP",
	"PUBREL":      "62 00 01 00 PP",
	"PUBCOMP":     "70 00 01 00 PP",
	"SUBSCRIBE":   "82 00 01 PP 00 01 61 00",
	"SUBACK":      "90 00 01 PP 00",
	"UNSUBSCRIBE": "A2 00 01 PP 00 01 61",
	"UNSUBACK":    "B0 00 01 PP 00",
	"DISCONNECT":  "E0 00 PP",
	"AUTH":        "F0 18 PP",
}

// propertyIn decodes a packet with a block of entries of the property id, and
// encodes it if that went well.
func propertyIn(t *testing.T, place string, id byte, entries ...string) error {
	block := ""
	if id != 0x15 && (place == "AUTH" || id == 0x16 && place != "Will") {
		if strings.Contains("AUTH CONNECT CONNACK", place) {
			block = "15 00 01 4D"
		}
	}
	for _, v := range entries {
		block += fmt.Sprintf("%02X", id) + v
	}
	n := len(wire(t, block))
	b := wire(t, strings.Replace(placeForm[place], "PP", fmt.Sprintf("%02X", n)+block, 1))
	p := packets.New(packets.Type(b[0] >> 4))
	if err := p.Decode(b[0]&15, b[1:], v5); err != nil {
		return err
	}
	out, err := p.AppendTo(nil, v5)
	require.NoError(t, err)
	again, err := decode(t, out, v5)
	require.NoError(t, err)
	require.Equal(t, values(p), values(again))
	return nil
}

func TestPropertyMatrix(t *testing.T) {
	for place := range placeForm {
		for _, def := range standardProperties {
			t.Run(fmt.Sprintf("0x%02X in %s", def.id, place), func(t *testing.T) {
				err := propertyIn(t, place, def.id, def.value)
				if !listed(def.in, place) {
					require.Equal(t, packets.MalformedPacket, packets.ReasonOf(err))
					return
				}
				require.NoError(t, err)
				err = propertyIn(t, place, def.id, def.value, def.value)
				if listed(def.repeats, place) {
					require.NoError(t, err, "repeated")
				} else {
					require.Equal(t, packets.ProtocolError, packets.ReasonOf(err), "repeated: %v", err)
				}
				for value, code := range def.bad {
					require.Equal(t, code, packets.ReasonOf(propertyIn(t, place, def.id, value)), value)
				}
				for i := range wire(t, def.value) {
					short := fmt.Sprintf("%X", wire(t, def.value)[:i])
					require.Error(t, propertyIn(t, place, def.id, short), "value ends after %d bytes", i)
				}
			})
		}
	}
}

func listed(list, place string) bool {
	for _, s := range strings.Fields(list) {
		if s == place {
			return true
		}
	}
	return false
}

func TestUnknownPropertiesAreMalformed(t *testing.T) {
	known := map[byte]bool{}
	for _, def := range standardProperties {
		known[def.id] = true
	}
	for id := range 256 {
		for place := range placeForm {
			if !known[byte(id)] {
				err := propertyIn(t, place, byte(id), "00 00 00 00 00")
				require.Equal(t, packets.MalformedPacket, packets.ReasonOf(err), "0x%02X in %s", id, place)
			}
		}
	}
}

func TestPropertyLength(t *testing.T) {
	for _, c := range []struct{ name, wire string }{
		{"missing", "30 03 00 01 61"},
		{"not complete", "30 04 00 01 61 80"},
		{"longer than needed", "30 05 00 01 61 80 00"},
		{"larger than the packet", "30 06 00 01 61 03 01 01"},
		{"ends inside a value", "30 07 00 01 61 02 23 00 01"},
		{"ends inside an identifier's string length", "30 07 00 01 61 02 03 00 00"},
		{"the largest there is", "30 07 00 01 61 FF FF FF 7F"},
		{"ends inside the second half of a pair", "30 0B 00 01 61 05 26 00 00 00 01 61 61"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := wire(t, c.wire)
			p := new(packets.Publish)
			require.ErrorIs(t, p.Decode(0, b[2:], v5), packets.MalformedPacket)
		})
	}
}
