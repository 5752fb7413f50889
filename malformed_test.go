package petrel_test

import (
	"encoding/hex"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// octets are the bytes of a text such as "30 08 00 03".
func octets(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	require.NoError(t, err)
	return b
}

// framed is a packet with the given first byte, and a body in the form of octets.
func framed(t testing.TB, first byte, body string) []byte {
	b := octets(t, body)
	return append(packets.AppendVarint([]byte{first}, uint32(len(b))), b...)
}

// offence is a packet after CONNECT for which the broker ends the connection.
type offence struct {
	name  string
	first byte   // of the packet; 0 means that body is all of it
	body  string // in the form of octets
	code  packets.ReasonCode
	opts  petrel.Options
	// before brings offender and witness to where the packet is illegal. What it
	// returns is sent before the packet, in one piece with it.
	before func(t *testing.T, offender, witness *brokertest.Client) []byte
}

const (
	isMalformed = packets.MalformedPacket
	isProtocol  = packets.ProtocolError
)

// framingOffences are illegal in every version.
var framingOffences = []offence{
	{name: "packet type 0", body: "00 00", code: isMalformed},
	{name: "packet type 0 with flags", body: "0F 00", code: isMalformed},
	{name: "remaining length of five bytes", body: "30 FF FF FF FF 7F", code: isMalformed},
	{name: "remaining length of five bytes in PINGREQ", body: "C0 80 80 80 80 00", code: isMalformed},
	{name: "remaining length whose fourth byte announces a fifth that never comes", body: "30 FF FF FF FF", code: isMalformed},
	{name: "remaining length longer than needed", body: "C0 80 00", code: isMalformed},
	{name: "packet above the maximum, nothing but its header", body: "30 81 80 80 01", code: packets.PacketTooLarge},
	{name: "packet of 256 MB, nothing but its header", body: "30 FF FF FF 7F", code: packets.PacketTooLarge},

	{name: "second CONNECT of 3.1.1", first: 0x10, body: "00 04 4D 51 54 54 04 02 00 3C 00 01 61", code: isProtocol},
	{name: "second CONNECT of 5.0", first: 0x10, body: "00 04 4D 51 54 54 05 02 00 3C 00 00 01 61", code: isProtocol},
	{name: "second CONNECT that is malformed", first: 0x10, body: "00", code: isProtocol},
	{name: "CONNACK from a client", first: 0x20, body: "00 00", code: isProtocol},
	{name: "CONNACK of 5.0 from a client", first: 0x20, body: "00 00 00", code: isProtocol},
	{name: "SUBACK from a client", first: 0x90, body: "00 01 00", code: isProtocol},
	{name: "UNSUBACK from a client", first: 0xB0, body: "00 01", code: isProtocol},
	{name: "PINGRESP from a client", first: 0xD0, body: "", code: isProtocol},
	{name: "PINGREQ with a body", first: 0xC0, body: "00", code: isMalformed},

	{name: "PUBLISH with QoS 3", first: 0x36, body: "00 01 61 00 01 00", code: isMalformed},
	{name: "PUBLISH with QoS 3, DUP and RETAIN", first: 0x3F, body: "00 01 61 00 01 00", code: isMalformed},
	{name: "PUBLISH with DUP and QoS 0", first: 0x38, body: "00 01 61 00", code: isMalformed},
	{name: "PUBLISH without a body", first: 0x30, body: "", code: isMalformed},
	{name: "PUBLISH that ends in the topic", first: 0x30, body: "00 05 61", code: isMalformed},
	{name: "PUBLISH that ends before the packet identifier", first: 0x32, body: "00 01 61", code: isMalformed},
	{name: "PUBLISH that ends in the packet identifier", first: 0x32, body: "00 01 61 00", code: isMalformed},
	{name: "PUBLISH QoS 1 with packet identifier 0", first: 0x32, body: "00 01 61 00 00 00", code: isProtocol},
	{name: "PUBLISH QoS 2 with packet identifier 0", first: 0x34, body: "00 01 61 00 00 00", code: isProtocol},
	{name: "PUBLISH to +", first: 0x30, body: "00 03 61 2F 2B 00", code: packets.TopicNameInvalid},
	{name: "PUBLISH to #", first: 0x30, body: "00 01 23 00", code: packets.TopicNameInvalid},
	{name: "PUBLISH QoS 1 to a+", first: 0x32, body: "00 02 61 2B 00 01 00", code: packets.TopicNameInvalid},
	{name: "PUBLISH QoS 2 to a#", first: 0x34, body: "00 02 61 23 00 01 00", code: packets.TopicNameInvalid},
	{name: "PUBLISH to U+0000", first: 0x30, body: "00 01 00 00", code: isMalformed},
	{name: "PUBLISH to invalid UTF-8", first: 0x30, body: "00 01 FF 00", code: isMalformed},
	{name: "PUBLISH to a surrogate", first: 0x30, body: "00 03 ED A0 80 00", code: isMalformed},
	{name: "PUBLISH to the last surrogate", first: 0x30, body: "00 03 ED BF BF 00", code: isMalformed},
	{name: "PUBLISH to a long form of U+0000", first: 0x30, body: "00 02 C0 80 00", code: isMalformed},
	{name: "PUBLISH to a long form of /", first: 0x30, body: "00 02 C0 AF 00", code: isMalformed},
	{name: "PUBLISH above U+10FFFF", first: 0x30, body: "00 04 F4 90 80 80 00", code: isMalformed},

	{name: "PUBACK without a body", first: 0x40, body: "", code: isMalformed},
	{name: "PUBACK of one byte", first: 0x40, body: "00", code: isMalformed},
	{name: "PUBACK with packet identifier 0", first: 0x40, body: "00 00", code: isProtocol},
	{name: "PUBREC of one byte", first: 0x50, body: "00", code: isMalformed},
	{name: "PUBREC with packet identifier 0", first: 0x50, body: "00 00", code: isProtocol},
	{name: "PUBREL of one byte", first: 0x62, body: "00", code: isMalformed},
	{name: "PUBREL with packet identifier 0", first: 0x62, body: "00 00", code: isProtocol},
	{name: "PUBCOMP of one byte", first: 0x70, body: "00", code: isMalformed},
	{name: "PUBCOMP with packet identifier 0", first: 0x70, body: "00 00", code: isProtocol},
	{name: "SUBSCRIBE without a body", first: 0x82, body: "", code: isMalformed},
	{name: "UNSUBSCRIBE without a body", first: 0xA2, body: "", code: isMalformed},

	{name: "PUBACK for a QoS 2 message", first: 0x40, body: "00 01", code: isProtocol, before: oneInFlight(packets.ExactlyOnce)},
	{name: "PUBREC for a QoS 1 message", first: 0x50, body: "00 01", code: isProtocol, before: oneInFlight(packets.AtLeastOnce)},
	{name: "PUBCOMP for a message that was not received", first: 0x70, body: "00 01", code: isProtocol, before: oneInFlight(packets.ExactlyOnce)},
	{
		name: "PUBLISH above the maximum by one byte", code: packets.PacketTooLarge, first: 0x30,
		body: "00 01 61 00" + strings.Repeat(" 62", 35), opts: petrel.Options{MaximumPacketSize: 40},
	},
}

// strictOffences are flags that mean something else in MQTT 3.1, and what only
// later versions check.
var strictOffences = []offence{
	{name: "PUBACK with flags 0010", first: 0x42, body: "00 01", code: isMalformed},
	{name: "PUBREC with flags 0001", first: 0x51, body: "00 01", code: isMalformed},
	{name: "PUBREL with flags 0000", first: 0x60, body: "00 01", code: isMalformed},
	{name: "PUBREL with flags 1010", first: 0x6A, body: "00 01", code: isMalformed},
	{name: "PUBCOMP with flags 1000", first: 0x78, body: "00 01", code: isMalformed},
	{name: "PINGREQ with flags 0001", first: 0xC1, body: "", code: isMalformed},
	{name: "DISCONNECT with flags 0010", first: 0xE2, body: "", code: isMalformed},
}

// offences311 are of the layout that SUBSCRIBE and the like have without properties.
var offences311 = []offence{
	{name: "PUBLISH without topic", first: 0x30, body: "00 00 61"},
	{name: "SUBSCRIBE with flags 0000", first: 0x80, body: "00 01 00 01 61 00"},
	{name: "SUBSCRIBE with packet identifier 0", first: 0x82, body: "00 00 00 01 61 00"},
	{name: "SUBSCRIBE without filter", first: 0x82, body: "00 01"},
	{name: "SUBSCRIBE without QoS", first: 0x82, body: "00 01 00 01 61"},
	{name: "SUBSCRIBE with QoS 3", first: 0x82, body: "00 01 00 01 61 03"},
	{name: "SUBSCRIBE with options of 5.0", first: 0x82, body: "00 01 00 01 61 04"},
	{name: "SUBSCRIBE with a good and a short filter", first: 0x82, body: "00 01 00 01 61 00 00"},
	{name: "SUBSCRIBE to invalid UTF-8", first: 0x82, body: "00 01 00 01 FF 00"},
	{name: "SUBSCRIBE to U+0000", first: 0x82, body: "00 01 00 01 00 00"},
	{name: "UNSUBSCRIBE with flags 0000", first: 0xA0, body: "00 01 00 01 61"},
	{name: "UNSUBSCRIBE with packet identifier 0", first: 0xA2, body: "00 00 00 01 61"},
	{name: "UNSUBSCRIBE without filter", first: 0xA2, body: "00 01"},
	{name: "UNSUBSCRIBE with surplus bytes", first: 0xA2, body: "00 01 00 01 61 00"},
	{name: "UNSUBSCRIBE from invalid UTF-8", first: 0xA2, body: "00 01 00 01 FF"},
	{name: "PUBACK with a reason", first: 0x40, body: "00 0A 00"},
	{name: "PUBREC with a reason", first: 0x50, body: "00 0A 00"},
	{name: "PUBREL with a reason", first: 0x62, body: "00 0A 00"},
	{name: "PUBCOMP with a reason", first: 0x70, body: "00 0A 00"},
	{name: "DISCONNECT with a reason", first: 0xE0, body: "04"},
	{name: "AUTH", first: 0xF0, body: "19 04 15 00 01 4D"},
	{name: "AUTH of length 0", first: 0xF0, body: ""},
}

var offences5 = []offence{
	{name: "PUBLISH without topic and alias", first: 0x30, body: "00 00 00 61", code: isProtocol},
	{name: "PUBLISH with an alias that was not set", first: 0x30, body: "00 00 03 23 00 01", code: isProtocol},
	{name: "PUBLISH with topic alias 0", first: 0x30, body: "00 01 61 03 23 00 00", code: packets.TopicAliasInvalid},
	{name: "PUBLISH with a topic alias above the maximum", first: 0x30, body: "00 01 61 03 23 00 21", code: packets.TopicAliasInvalid},
	{
		name: "PUBLISH with a topic alias where none is allowed", first: 0x30, body: "00 01 61 03 23 00 01",
		code: packets.TopicAliasInvalid, opts: petrel.Options{TopicAliasMaximum: -1},
	},
	{name: "PUBLISH with a Subscription Identifier", first: 0x30, body: "00 01 61 02 0B 05", code: isProtocol},
	{name: "PUBLISH without a property length", first: 0x30, body: "00 01 61", code: isMalformed},
	{name: "PUBLISH with a property length behind its end", first: 0x30, body: "00 01 61 05 01 00", code: isMalformed},
	{name: "PUBLISH with a property length that ends inside a value", first: 0x30, body: "00 01 61 02 02 00 00 00 00", code: isMalformed},
	{name: "PUBLISH with a property length of five bytes", first: 0x30, body: "00 01 61 80 80 80 80 00", code: isMalformed},
	{name: "PUBLISH with unknown property 0x04", first: 0x30, body: "00 01 61 02 04 00", code: isMalformed},
	{name: "PUBLISH with unknown property 0x7F", first: 0x30, body: "00 01 61 02 7F 00", code: isMalformed},
	{name: "PUBLISH with a property identifier of two bytes", first: 0x30, body: "00 01 61 03 81 01 00", code: isMalformed},
	{name: "PUBLISH with a property of CONNECT", first: 0x30, body: "00 01 61 05 11 00 00 00 01", code: isMalformed},
	{name: "PUBLISH with Will Delay Interval", first: 0x30, body: "00 01 61 05 18 00 00 00 01", code: isMalformed},
	{name: "PUBLISH with two Payload Format Indicators", first: 0x30, body: "00 01 61 04 01 00 01 00", code: isProtocol},
	{name: "PUBLISH with two Message Expiry Intervals", first: 0x30, body: "00 01 61 0A 02 00 00 00 01 02 00 00 00 01", code: isProtocol},
	{name: "PUBLISH with two topic aliases", first: 0x30, body: "00 01 61 06 23 00 01 23 00 01", code: isProtocol},
	{name: "PUBLISH with Payload Format Indicator 2", first: 0x30, body: "00 01 61 02 01 02", code: isProtocol},
	{name: "PUBLISH with a wildcard in Response Topic", first: 0x30, body: "00 01 61 04 08 00 01 23", code: isProtocol},
	{name: "PUBLISH with invalid UTF-8 in Response Topic", first: 0x30, body: "00 01 61 04 08 00 01 FF", code: isMalformed},
	{name: "PUBLISH with invalid UTF-8 in Content Type", first: 0x30, body: "00 01 61 04 03 00 01 FF", code: isMalformed},
	{name: "PUBLISH with U+0000 in Content Type", first: 0x30, body: "00 01 61 04 03 00 01 00", code: isMalformed},
	{name: "PUBLISH with invalid UTF-8 in the name of a User Property", first: 0x30, body: "00 01 61 07 26 00 01 FF 00 01 61", code: isMalformed},
	{name: "PUBLISH with invalid UTF-8 in the value of a User Property", first: 0x30, body: "00 01 61 07 26 00 01 61 00 01 FF", code: isMalformed},
	{name: "PUBLISH with a surrogate in the value of a User Property", first: 0x30, body: "00 01 61 09 26 00 01 61 00 03 ED A0 80", code: isMalformed},

	{name: "PUBACK with an unknown reason", first: 0x40, body: "00 01 7F", code: isProtocol},
	{name: "PUBACK with a reason of CONNACK", first: 0x40, body: "00 01 85", code: isProtocol},
	{name: "PUBACK with surplus bytes", first: 0x40, body: "00 01 00 00 00", code: isMalformed},
	{name: "PUBACK with a property of PUBLISH", first: 0x40, body: "00 01 00 02 01 00", code: isMalformed},
	{name: "PUBACK with two Reason Strings", first: 0x40, body: "00 01 00 06 1F 00 00 1F 00 00", code: isProtocol},
	{name: "PUBACK with invalid UTF-8 in Reason String", first: 0x40, body: "00 01 00 04 1F 00 01 FF", code: isMalformed},
	{name: "PUBREC with an unknown reason", first: 0x50, body: "00 01 01", code: isProtocol},
	{name: "PUBREC with invalid UTF-8 in Reason String", first: 0x50, body: "00 01 00 04 1F 00 01 FF", code: isMalformed},
	{name: "PUBREL with a reason of PUBREC", first: 0x62, body: "00 01 87", code: isProtocol},
	{name: "PUBREL with invalid UTF-8 in a User Property", first: 0x62, body: "00 01 00 07 26 00 01 61 00 01 FF", code: isMalformed},
	{name: "PUBCOMP with a reason of PUBREC", first: 0x70, body: "00 01 91", code: isProtocol},
	{name: "PUBCOMP with invalid UTF-8 in Reason String", first: 0x70, body: "00 01 00 04 1F 00 01 FF", code: isMalformed},

	{name: "SUBSCRIBE with flags 0000", first: 0x80, body: "00 01 00 00 01 61 00", code: isMalformed},
	{name: "SUBSCRIBE with packet identifier 0", first: 0x82, body: "00 00 00 00 01 61 00", code: isProtocol},
	{name: "SUBSCRIBE without filter", first: 0x82, body: "00 01 00", code: isProtocol},
	{name: "SUBSCRIBE without options", first: 0x82, body: "00 01 00 00 01 61", code: isMalformed},
	{name: "SUBSCRIBE with QoS 3", first: 0x82, body: "00 01 00 00 01 61 03", code: isProtocol},
	{name: "SUBSCRIBE with Retain Handling 3", first: 0x82, body: "00 01 00 00 01 61 30", code: isProtocol},
	{name: "SUBSCRIBE with reserved option bit 6", first: 0x82, body: "00 01 00 00 01 61 40", code: isMalformed},
	{name: "SUBSCRIBE with reserved option bit 7", first: 0x82, body: "00 01 00 00 01 61 80", code: isMalformed},
	{name: "SUBSCRIBE with a good and a short filter", first: 0x82, body: "00 01 00 00 01 61 00 00", code: isMalformed},
	{name: "SUBSCRIBE with a good filter and one with QoS 3", first: 0x82, body: "00 01 00 00 01 61 00 00 01 62 03", code: isProtocol},
	{name: "SUBSCRIBE with No Local on a shared subscription", first: 0x82, body: "00 01 00 00 0A 24 73 68 61 72 65 2F 67 2F 61 04", code: isProtocol},
	{name: "SUBSCRIBE with Subscription Identifier 0", first: 0x82, body: "00 01 02 0B 00 00 01 61 00", code: isProtocol},
	{name: "SUBSCRIBE with two Subscription Identifiers", first: 0x82, body: "00 01 04 0B 01 0B 02 00 01 61 00", code: isProtocol},
	{name: "SUBSCRIBE with a Subscription Identifier of five bytes", first: 0x82, body: "00 01 06 0B 80 80 80 80 01 00 01 61 00", code: isMalformed},
	{name: "SUBSCRIBE with a Reason String", first: 0x82, body: "00 01 03 1F 00 00 00 01 61 00", code: isMalformed},
	{name: "SUBSCRIBE to invalid UTF-8", first: 0x82, body: "00 01 00 00 01 FF 00", code: isMalformed},
	{name: "SUBSCRIBE to U+0000", first: 0x82, body: "00 01 00 00 01 00 00", code: isMalformed},
	{name: "SUBSCRIBE with invalid UTF-8 in a User Property", first: 0x82, body: "00 01 07 26 00 01 FF 00 01 61 00 01 61 00", code: isMalformed},
	{name: "UNSUBSCRIBE with flags 0000", first: 0xA0, body: "00 01 00 00 01 61", code: isMalformed},
	{name: "UNSUBSCRIBE with packet identifier 0", first: 0xA2, body: "00 00 00 00 01 61", code: isProtocol},
	{name: "UNSUBSCRIBE without filter", first: 0xA2, body: "00 01 00", code: isProtocol},
	{name: "UNSUBSCRIBE with surplus bytes", first: 0xA2, body: "00 01 00 00 01 61 00", code: isMalformed},
	{name: "UNSUBSCRIBE with a Subscription Identifier", first: 0xA2, body: "00 01 02 0B 01 00 01 61", code: isMalformed},
	{name: "UNSUBSCRIBE from invalid UTF-8", first: 0xA2, body: "00 01 00 00 01 FF", code: isMalformed},
	{name: "UNSUBSCRIBE with invalid UTF-8 in a User Property", first: 0xA2, body: "00 01 07 26 00 01 61 00 01 FF 00 01 61", code: isMalformed},

	{name: "DISCONNECT with an unknown reason", first: 0xE0, body: "01", code: isProtocol},
	{name: "DISCONNECT with surplus bytes", first: 0xE0, body: "00 00 00", code: isMalformed},
	{name: "DISCONNECT with a Server Reference", first: 0xE0, body: "00 04 1C 00 01 61", code: isProtocol},
	{name: "DISCONNECT with a property of PUBLISH", first: 0xE0, body: "00 02 01 00", code: isMalformed},
	{name: "DISCONNECT with invalid UTF-8 in Reason String", first: 0xE0, body: "00 04 1F 00 01 FF", code: isMalformed},
	{name: "DISCONNECT with invalid UTF-8 in a User Property", first: 0xE0, body: "00 07 26 00 01 61 00 01 FF", code: isMalformed},
	{name: "DISCONNECT with a session expiry after none in CONNECT", first: 0xE0, body: "00 05 11 00 00 00 01", code: isProtocol},
	{name: "AUTH without a method in CONNECT", first: 0xF0, body: "19 04 15 00 01 4D", code: isProtocol},
	{name: "AUTH with reason 0x18 without a method in CONNECT", first: 0xF0, body: "18 04 15 00 01 4D", code: isProtocol},
	{name: "AUTH of length 0", first: 0xF0, body: "", code: isProtocol},
	{name: "AUTH without method", first: 0xF0, body: "19 00", code: isProtocol},
	{name: "AUTH with flags", first: 0xF1, body: "19 04 15 00 01 4D", code: isMalformed},
	{name: "AUTH with invalid UTF-8 in its method", first: 0xF0, body: "19 04 15 00 01 FF", code: isMalformed},

	{
		name: "PUBLISH with RETAIN where it is switched off", first: 0x31, body: "00 01 61 00 62",
		code: packets.RetainNotSupported, opts: petrel.Options{DisableRetain: true},
	},
	{
		name: "PUBLISH with QoS 2 where it is switched off", first: 0x34, body: "00 01 61 00 01 00",
		code: packets.QoSNotSupported, opts: petrel.Options{DisableQoS2: true},
	},
	{
		name: "PUBLISH with QoS 1 where it is switched off", first: 0x32, body: "00 01 61 00 01 00",
		code: packets.QoSNotSupported, opts: petrel.Options{DisableQoS1: true},
	},
	{
		name: "shared subscription where they are switched off", first: 0x82, body: "00 01 00 00 0A 24 73 68 61 72 65 2F 67 2F 61 00",
		code: packets.SharedSubscriptionsNotSupported, opts: petrel.Options{DisableSharedSubscriptions: true},
	},
	{
		name: "Subscription Identifier where they are switched off", first: 0x82, body: "00 01 02 0B 01 00 01 61 00",
		code: packets.SubscriptionIdentifiersNotSupported, opts: petrel.Options{DisableSubscriptionIdentifiers: true},
	},
	{
		name: "wildcard where they are switched off", first: 0x82, body: "00 01 00 00 01 23 00",
		code: packets.WildcardSubscriptionsNotSupported, opts: petrel.Options{DisableWildcardSubscriptions: true},
	},
	{
		name: "PUBLISH above the Receive Maximum", first: 0x34, body: "00 01 61 00 02 00",
		code: packets.ReceiveMaximumExceeded, opts: petrel.Options{ReceiveMaximum: 1},
		before: func(t *testing.T, offender, _ *brokertest.Client) []byte {
			offender.Send(&packets.Publish{Topic: []byte("a"), QoS: packets.ExactlyOnce, PacketID: 1})
			brokertest.Expect[*packets.Pubrec](offender)
			return nil
		},
	},
}

// oneInFlight lets the offender have received one message of the given QoS.
func oneInFlight(qos packets.QoS) func(*testing.T, *brokertest.Client, *brokertest.Client) []byte {
	return func(t *testing.T, offender, witness *brokertest.Client) []byte {
		offender.Subscribe(qos, "q")
		witness.Publish("q", "m", qos)
		require.EqualValues(t, 1, offender.ExpectPublish("q", "m").PacketID)
		return nil
	}
}

func TestIllegalPacketEndsItsConnectionOnly(t *testing.T) {
	v31, v311, v5 := packets.V31, packets.V311, packets.V5
	for _, group := range []struct {
		versions []packets.Version
		offences []offence
	}{
		{[]packets.Version{v31, v311, v5}, framingOffences},
		{[]packets.Version{v311, v5}, strictOffences},
		{[]packets.Version{v311}, offences311},
		{[]packets.Version{v5}, offences5},
	} {
		for _, o := range group.offences {
			for _, v := range group.versions {
				t.Run(o.name+" in "+v.String(), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { commit(t, o, v) })
				})
			}
		}
	}
}

// commit sends the packet from one client while another watches.
func commit(t *testing.T, o offence, v packets.Version) {
	b := brokertest.New(t, o.opts)
	witness := b.Connect(brokertest.ID("witness"))
	witness.Subscribe(packets.AtMostOnce, "will/offender", "witness")
	offender := b.Connect(packets.Connect{
		Version: v, ClientID: []byte("offender"), CleanStart: true,
		HasWill: true, Will: packets.Will{Topic: []byte("will/offender"), Payload: []byte("gone")},
	})
	var raw []byte
	if o.before != nil {
		raw = o.before(t, offender, witness)
	}
	if o.first == 0 {
		raw = append(raw, octets(t, o.body)...)
	} else {
		raw = append(raw, framed(t, o.first, o.body)...)
	}
	if o.first != 0 { // what comes behind the packet in the same read is not looked at
		behind, err := (&packets.Publish{Topic: []byte("witness"), Payload: []byte("behind")}).AppendTo(nil, v)
		require.NoError(t, err)
		raw = append(raw, behind...)
	}
	offender.SendRaw(raw)
	if v == packets.V5 {
		offender.ExpectDisconnect(o.code)
	} else {
		offender.ExpectClosed()
	}
	cause := offender.Served()
	require.Error(t, cause)
	if o.code != 0 {
		require.ErrorIs(t, cause, o.code)
	}
	witness.ExpectPublish("will/offender", "gone")
	witness.ExpectNothing()
	witness.Publish("elsewhere", "", packets.AtMostOnce)
	other := b.Connect(packets.Connect{Version: v, ClientID: []byte("offender"), CleanStart: true})
	other.Publish("witness", "hello", packets.AtMostOnce)
	witness.ExpectPublish("witness", "hello")
	require.Equal(t, 2, b.Stats().ClientsConnected)
}

// What comes behind a DISCONNECT in the same read changes nothing.
func TestPacketsBehindDisconnectAreIgnored(t *testing.T) {
	for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
		t.Run(v.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				witness := b.Connect(brokertest.ID("witness"))
				witness.Subscribe(packets.AtMostOnce, "#")
				c := b.Connect(packets.Connect{
					Version: v, ClientID: []byte("c"), CleanStart: true,
					HasWill: true, Will: packets.Will{Topic: []byte("will"), Payload: []byte("gone")},
				})
				c.Send(
					&packets.Publish{Topic: []byte("before"), Payload: []byte("1")},
					&packets.Disconnect{},
					&packets.Publish{Topic: []byte("behind"), Payload: []byte("2"), Retain: true},
					&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("a")})},
					&packets.Connect{Version: v, ClientID: []byte("again"), CleanStart: true},
				)
				c.ExpectClosed()
				require.NoError(t, c.Served())
				witness.ExpectPublish("before", "1")
				witness.ExpectNothing()
				require.Zero(t, b.Stats().Retained)
				require.Equal(t, 1, b.Stats().Sessions)
			})
		})
	}
}

// every is one good packet of each kind that a client may send.
func every(t testing.TB, v packets.Version) map[string][]byte {
	kinds := map[string]string{
		"CONNECT 3.1":                  "10 0F 00 06 4D 51 49 73 64 70 03 02 00 3C 00 01 61",
		"CONNECT 3.1.1":                "10 1B 00 04 4D 51 54 54 04 C6 00 3C 00 01 61 00 01 77 00 01 78 00 01 75 00 03 70 77 64",
		"CONNECT 5.0":                  "10 1F 00 04 4D 51 54 54 05 04 00 3C 05 11 00 00 00 0A 00 01 61 05 18 00 00 00 05 00 01 77 00 01 78",
		"PINGREQ":                      "C0 00",
		"PUBACK":                       "40 02 00 0A",
		"PUBREC":                       "50 02 00 0A",
		"PUBREL":                       "62 02 00 0A",
		"PUBCOMP":                      "70 02 00 0A",
		"DISCONNECT":                   "E0 00",
		"PUBLISH QoS 1 (3.1.1)":        "32 09 00 03 61 2F 62 00 0A 68 69",
		"SUBSCRIBE (3.1.1)":            "82 08 00 01 00 03 61 2F 23 01",
		"UNSUBSCRIBE (3.1.1)":          "A2 07 00 02 00 03 61 2F 23",
		"PUBLISH QoS 0 (5.0)":          "30 0F 00 03 61 2F 62 07 26 00 01 6B 00 01 76 68 69",
		"PUBLISH QoS 2 (5.0)":          "34 0A 00 03 61 2F 62 00 0A 00 68 69",
		"PUBLISH that sets an alias":   "30 0A 00 03 61 2F 62 03 23 00 01 78",
		"PUBACK with all (5.0)":        "40 08 00 0A 87 04 1F 00 01 61",
		"SUBSCRIBE (5.0)":              "82 0B 00 01 02 0B 05 00 03 61 2F 23 01",
		"UNSUBSCRIBE (5.0)":            "A2 08 00 02 00 00 03 61 2F 23",
		"DISCONNECT with all (5.0)":    "E0 0B 04 09 1F 00 06 72 65 61 73 6F 6E",
		"AUTH (5.0)":                   "F0 0A 19 08 15 00 01 4D 16 00 01 01",
		"CONNACK":                      "20 03 00 00 00",
		"SUBACK":                       "90 04 00 01 00 01",
		"PUBLISH of 300 bytes (5.0)":   "30 AC 02 00 01 61 00" + strings.Repeat(" 62", 296),
		"PUBLISH of 300 bytes (3.1.1)": "30 AC 02 00 01 61" + strings.Repeat(" 62", 297),
	}
	all := make(map[string][]byte)
	for name, text := range kinds {
		old, new := strings.Contains(name, "3.1"), strings.Contains(name, "5.0")
		if name[:4] == "CONN" || !old && !new || new == (v == packets.V5) {
			all[name] = octets(t, text)
		}
	}
	return all
}

// A connection that ends in the middle of any packet is let go of.
func TestEveryTruncationLeavesNothing(t *testing.T) {
	for _, v := range []packets.Version{packets.V311, packets.V5} {
		for name, whole := range every(t, v) {
			t.Run(name+" in "+v.String(), func(t *testing.T) {
				h, n, err := packets.DecodeHeader(whole)
				require.NoError(t, err)
				require.Equal(t, len(whole), n+h.Remaining, "the packet is whole")
				before := len(brokertest.Goroutines())
				b := brokertest.New(t, petrel.Options{Logger: silent()})
				for n := range whole {
					c := b.Dial(v)
					if h.Type != packets.TypeConnect {
						c.Send(&packets.Connect{Version: v, ClientID: []byte("a"), CleanStart: true})
						brokertest.Expect[*packets.Connack](c)
					}
					c.SendRaw(whole[:n])
					c.Conn.Close()
					require.Error(t, c.Served(), "after %d bytes", n)
				}
				s := b.Stats()
				require.Zero(t, s.ClientsConnected)
				require.Zero(t, s.Sessions)
				require.Zero(t, s.Subscriptions)
				require.Zero(t, s.MessageBytes)
				eventually(t, "no more goroutines than before", func() bool { return len(brokertest.Goroutines()) <= before })
			})
		}
	}
}

// The length that a packet announces is believed when its bytes have come.
func TestAnnouncedLengthReservesNothing(t *testing.T) {
	const clients = 1000
	const connect = "10 0D 00 04 4D 51 54 54 05 02 00 3C 00 00 00 "
	for _, c := range []struct {
		name string
		raw  string
	}{
		{"PUBLISH of 256 MB", connect + "30 FF FF FF 7F 00 01 61"},
		{"SUBSCRIBE of 256 MB", connect + "82 FF FF FF 7F 00 01"},
		{"properties of 256 MB", connect + "30 FF FF FF 7F 00 01 61 F0 FF FF 7F 26 FF FF"},
		{"topic of 64 KB in PUBLISH of 256 MB", connect + "30 FF FF FF 7F FF FF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MaximumPacketSize: -1, Logger: silent()})
			addr := serveTCP(t, b.Broker)
			raw := octets(t, c.raw)
			before := liveHeap()
			for range clients {
				conn, err := net.Dial("tcp", addr)
				require.NoError(t, err)
				defer conn.Close()
				_, err = conn.Write(raw)
				require.NoError(t, err)
				_, err = conn.Read(make([]byte, 64)) // CONNACK: what follows came in the same piece
				require.NoError(t, err)
			}
			require.Equal(t, clients, b.Stats().ClientsConnected)
			require.Less(t, int64(liveHeap())-int64(before), int64(16<<20))
		})
	}
	t.Run("CONNECT of 256 MB", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{MaximumConnectSize: -1, ConnectTimeout: -1, Logger: silent()})
		raw := octets(t, "10 FF FF FF 7F 00 04 4D 51 54 54 05")
		before := liveHeap()
		for range clients {
			conn, served := net.Pipe()
			defer conn.Close()
			go b.ServeConn(served)
			_, err := conn.Write(raw) // the broker has read all of it when this returns
			require.NoError(t, err)
		}
		// a plain connection keeps its read buffer while a packet has begun
		require.Less(t, int64(liveHeap())-int64(before), int64(64<<20))
	})
}

// liveHeap is what the heap holds after a collection, in bytes.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC() // what pools gave up in the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// serveTCP lets b serve a TCP port until the test ends, and returns its address.
func serveTCP(t testing.TB, b *petrel.Broker) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Serve(l); err != petrel.ErrBrokerClosed {
			t.Errorf("Serve = %v; want ErrBrokerClosed", err)
		}
	})
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	return l.Addr().String()
}

// 65,535 slashes are 65,536 levels.
func TestTopicOfSlashes(t *testing.T) {
	slashes := strings.Repeat("/", 65535)
	will := func(id string) packets.Connect {
		c := brokertest.ID(id)
		c.HasWill, c.Will = true, packets.Will{Topic: []byte(slashes), Payload: []byte("gone")}
		return c
	}
	t.Run("refused on every path by default", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			c := b.Connect(brokertest.ID("c"))
			subs := packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte(slashes)}).Append(packets.Subscription{Filter: []byte("a")})
			require.Equal(t, []packets.ReasonCode{packets.TopicFilterInvalid, packets.Success}, c.SubscribeWith(packets.Subscribe{Subscriptions: subs}))
			require.Equal(t, []packets.ReasonCode{packets.TopicFilterInvalid, packets.Success}, c.Unsubscribe(slashes, "a"))
			c.Send(&packets.Publish{Topic: []byte(slashes)})
			c.ExpectDisconnect(packets.TopicNameInvalid)
			_, ack := b.TryConnect(will("w"))
			require.Equal(t, packets.TopicNameInvalid, ack.Reason)
			require.ErrorIs(t, b.Broker.Publish(t.Context(), petrel.Message{Topic: slashes}), packets.TopicNameInvalid)
			require.Zero(t, b.Stats().Subscriptions)
		})
	})
	t.Run("refused on every path by default in 3.1.1", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			id := func(s string) packets.Connect {
				return packets.Connect{Version: packets.V311, ClientID: []byte(s), CleanStart: true}
			}
			c := b.Connect(id("c"))
			subs := packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte(slashes)})
			require.Equal(t, []packets.ReasonCode{packets.UnspecifiedError}, c.SubscribeWith(packets.Subscribe{Subscriptions: subs}))
			c.Unsubscribe(slashes)
			c.Send(&packets.Publish{Topic: []byte(slashes)})
			c.ExpectClosed()
			w := will("w")
			w.Version = packets.V311
			c = b.Dial(packets.V311)
			c.Send(&w)
			c.ExpectClosed()
		})
	})
	t.Run("delivered on every path without a limit of levels", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MaximumTopicLevels: -1})
			sub := b.Connect(brokertest.ID("sub"))
			sub.Subscribe(packets.AtLeastOnce, slashes, slashes[1:]+"+", slashes[2:]+"#", "#")
			c := b.Connect(will("c"))
			require.Equal(t, packets.Success, c.PublishWith(packets.Publish{Topic: []byte(slashes), Payload: []byte("kept"), Retain: true}))
			sub.ExpectPublish(slashes, "kept")
			c.Drop()
			sub.ExpectPublish(slashes, "gone")
			sub.ExpectNothing()
			late := b.Connect(brokertest.ID("late"))
			late.Subscribe(packets.AtMostOnce, strings.Repeat("+/", 32767)+"#")
			late.ExpectPublish(slashes, "kept")
			late.ExpectNothing()
			for _, code := range sub.Unsubscribe(slashes, slashes[1:]+"+", slashes[2:]+"#", "#") {
				require.Equal(t, packets.Success, code)
			}
			require.Equal(t, 1, b.Stats().Subscriptions)
		})
	})
}

// invalidText is what no UTF-8 Encoded String may hold (MQTT 5.0, section 1.5.4).
var invalidText = map[string]string{
	"a stray byte":           "a\xFFb",
	"a cut sequence":         "a\xE2\x82",
	"a surrogate":            "\xED\xA0\x80",
	"a long form of U+0000":  "\xC0\x80",
	"a long form of /":       "\xE0\x80\xAF",
	"a value above U+10FFFF": "\xF4\x90\x80\x80",
	"U+0000":                 "a\x00b",
}

// Invalid UTF-8 in a string of CONNECT: 5.0 clients are told, older ones are not.
func TestInvalidTextInConnect(t *testing.T) {
	for what, text := range invalidText {
		bad := []byte(text)
		forward := packets.Properties(nil)
		for _, c := range []struct {
			field string
			only5 bool
			set   func(*packets.Connect)
		}{
			{"client identifier", false, func(c *packets.Connect) { c.ClientID = bad }},
			{"user name", false, func(c *packets.Connect) { c.HasUserName, c.UserName = true, bad }},
			{"Authentication Method", true, func(c *packets.Connect) { c.HasAuthenticationMethod, c.AuthenticationMethod = true, bad }},
			{"name of a User Property", true, func(c *packets.Connect) { c.UserProperties = c.UserProperties.Append(text, "v") }},
			{"value of a User Property", true, func(c *packets.Connect) { c.UserProperties = c.UserProperties.Append("k", text) }},
			{"Content Type of the will", true, func(c *packets.Connect) { c.Will.Properties = forward.AppendContentType(text) }},
			{"Response Topic of the will", true, func(c *packets.Connect) { c.Will.Properties = forward.AppendResponseTopic(text) }},
			{"name of a User Property of the will", true, func(c *packets.Connect) { c.Will.Properties = forward.AppendUserProperty(text, "v") }},
			{"value of a User Property of the will", true, func(c *packets.Connect) { c.Will.Properties = forward.AppendUserProperty("k", text) }},
		} {
			for _, v := range []packets.Version{packets.V311, packets.V5} {
				if c.only5 && v != packets.V5 {
					continue
				}
				t.Run(what+" in "+c.field+" in "+v.String(), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						b := brokertest.New(t, petrel.Options{})
						p := packets.Connect{
							Version: v, ClientID: []byte("c"), CleanStart: true,
							HasWill: true, Will: packets.Will{Topic: []byte("will"), Payload: []byte("gone")},
						}
						c.set(&p)
						client := b.Dial(v)
						client.Send(&p)
						if v == packets.V5 {
							require.Equal(t, packets.MalformedPacket, brokertest.Expect[*packets.Connack](client).Reason)
						}
						client.ExpectClosed()
						require.ErrorIs(t, client.Served(), packets.MalformedPacket)
						require.Zero(t, b.Stats().Sessions)
					})
				})
			}
		}
		t.Run(what+" in the will topic", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				raw := octets(t, "00 04 4D 51 54 54 05 06 00 3C 00 00 01 61 00 00")
				raw = append(append(raw, byte(len(text))), text...)
				raw = append(raw, 0, 1, 'x')
				client := b.Dial(packets.V5)
				client.SendRaw(append([]byte{0x10, byte(len(raw))}, raw...))
				require.Equal(t, packets.MalformedPacket, brokertest.Expect[*packets.Connack](client).Reason)
				client.ExpectClosed()
			})
		})
	}
}

// What is binary may hold anything, and arrives as it was sent.
func TestBinaryFieldsArriveUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		sub := b.Connect(brokertest.ID("sub"))
		sub.Subscribe(packets.AtMostOnce, "#")
		const junk = "\x00\xFF\xED\xA0\x80"
		c := packets.Connect{
			Version: packets.V5, ClientID: []byte("c"), CleanStart: true, HasPassword: true, Password: []byte(junk),
			HasWill: true, Will: packets.Will{
				Topic: []byte("will"), Payload: []byte(junk), Properties: packets.Properties(nil).AppendCorrelationData([]byte(junk)),
			},
		}
		b.Connect(c).Drop()
		p := sub.ExpectPublish("will", junk)
		require.Equal(t, junk, string(p.Properties.CorrelationData()))
	})
}

// The least that MQTT 3.1 demands: flags that later versions refuse are borne.
func TestFlagsThatMQTT31Bears(t *testing.T) {
	for _, c := range []struct {
		name  string
		first byte
		body  string
		want  packets.Type
	}{
		{"SUBSCRIBE with DUP", 0x8A, "00 01 00 01 61 00", packets.TypeSuback},
		{"UNSUBSCRIBE with DUP", 0xAA, "00 02 00 01 61", packets.TypeUnsuback},
		{"PUBREL with DUP", 0x6A, "00 03", packets.TypePubcomp},
		{"PINGREQ with RETAIN", 0xC1, "", packets.TypePingresp},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				client := b.Connect(packets.Connect{Version: packets.V31, ClientID: []byte("c"), CleanStart: true})
				client.SendRaw(framed(t, c.first, c.body))
				require.Equal(t, c.want, client.Receive().Type())
				client.ExpectNothing()
			})
		})
	}
}

// What a filter gets wrong costs that filter, not the connection.
func TestInvalidFilterKeepsTheConnection(t *testing.T) {
	filters := []string{"a#", "a/#/b", "a+", "+a/b", "$share/g", "$share/g/", "$share//f", "$share/a+b/f", "$share/g/a#", ""}
	for _, v := range []packets.Version{packets.V311, packets.V5} {
		for _, filter := range filters {
			t.Run(fmt.Sprintf("%q in %v", filter, v), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := brokertest.New(t, petrel.Options{})
					c := b.Connect(packets.Connect{Version: v, ClientID: []byte("c"), CleanStart: true})
					subs := packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte(filter)}).
						Append(packets.Subscription{Filter: []byte("good")})
					refused := packets.TopicFilterInvalid
					if v != packets.V5 {
						refused = packets.UnspecifiedError
					}
					require.Equal(t, []packets.ReasonCode{refused, packets.Success}, c.SubscribeWith(packets.Subscribe{Subscriptions: subs}))
					codes := c.Unsubscribe(filter, "good")
					if v == packets.V5 {
						require.Equal(t, []packets.ReasonCode{refused, packets.Success}, codes)
					}
					c.ExpectNothing()
				})
			})
		}
	}
}
