package packets_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/packets"
)

const (
	malformed = packets.MalformedPacket
	protocol  = packets.ProtocolError
	badTopic  = packets.TopicNameInvalid
)

func TestIllegalPackets(t *testing.T) {
	for _, c := range []struct {
		name     string
		versions []packets.Version
		first    byte
		body     string
		want     packets.ReasonCode
	}{
		{"pubrel with flags 0000", versions[1:], 0x60, "00 0A", malformed},
		{"subscribe with flags 0000", only311, 0x80, "00 01 00 01 61 00", malformed},
		{"subscribe with flags 0000", onlyV5, 0x80, "00 01 00 00 01 61 00", malformed},
		{"unsubscribe with flags 0000", only311, 0xA0, "00 01 00 01 61", malformed},
		{"unsubscribe with flags 0000", onlyV5, 0xA0, "00 01 00 00 01 61", malformed},
		{"connect with flags", versions[1:], 0x11, "00 04 4D 51 54 54 04 02 00 00 00 01 61", malformed},
		{"pingreq with flags", versions[1:], 0xC1, "", malformed},
		{"pingresp with flags", versions[1:], 0xD8, "", malformed},
		{"disconnect with flags", versions[1:], 0xE2, "", malformed},
		{"puback with flags", versions[1:], 0x42, "00 01", malformed},
		{"connack with flags", only311, 0x22, "00 00", malformed},
		{"suback with flags", only311, 0x92, "00 01 00", malformed},
		{"unsuback with flags", only311, 0xB2, "00 01", malformed},
		{"auth with flags", onlyV5, 0xF2, "18 04 15 00 01 4D", malformed},

		{"pingreq with a body", versions, 0xC0, "00", malformed},
		{"pingresp with a body", versions, 0xD0, "00", malformed},
		{"disconnect with a body", onlyV3, 0xE0, "00", malformed},
		{"puback with a reason", onlyV3, 0x40, "00 0A 00", malformed},
		{"puback with surplus bytes", onlyV5, 0x40, "00 0A 00 00 00", malformed},
		{"puback of one byte", versions, 0x40, "00", malformed},
		{"puback with packet identifier 0", versions, 0x40, "00 00", protocol},
		{"connack with surplus bytes", onlyV3, 0x20, "00 00 00", malformed},
		{"connack without properties", onlyV5, 0x20, "00 00", malformed},
		{"connack with reserved flags", versions[1:], 0x20, "02 00 00", malformed},
		{"connack with return code 6", onlyV3, 0x20, "00 06", protocol},
		{"connack with session present in a refusal", only311, 0x20, "01 05", protocol},
		{"connack with session present in a refusal", onlyV5, 0x20, "01 87 00", protocol},
		{"connack with authentication data alone", onlyV5, 0x20, "00 00 03 16 00 00", protocol},
		{"disconnect with surplus bytes", onlyV5, 0xE0, "00 00 00", malformed},
		{"unsuback with codes", onlyV3, 0xB0, "00 02 00", malformed},
		{"unsuback without codes", onlyV5, 0xB0, "00 02 00", protocol},
		{"suback without codes", onlyV3, 0x90, "00 02", protocol},
		{"suback with a code of 5.0", only311, 0x90, "00 01 87", protocol},
		{"suback with a failure", only31, 0x90, "00 01 80", protocol},

		{"publish with QoS 3", versions, 0x36, "00 01 61 00 01", malformed},
		{"publish with DUP and QoS 0", versions, 0x38, "00 01 61 00", malformed},
		{"publish with packet identifier 0", versions, 0x32, "00 01 61 00 00 00", protocol},
		{"publish that ends in the packet identifier", versions, 0x32, "00 01 61 00", malformed},
		{"publish that ends in the topic", versions, 0x30, "00 05 61", malformed},
		{"publish without topic", onlyV3, 0x30, "00 00 61", badTopic},
		{"publish without topic and alias", onlyV5, 0x30, "00 00 00 61", protocol},
		{"publish to +", versions, 0x30, "00 03 61 2F 2B 00", badTopic},
		{"publish to #", versions, 0x30, "00 01 23 00", badTopic},
		{"publish to U+0000", versions, 0x30, "00 01 00 00", malformed},
		{"publish to a surrogate", versions, 0x30, "00 03 ED A0 80 00", malformed},
		{"publish to the last surrogate", versions, 0x30, "00 03 ED BF BF 00", malformed},
		{"publish to a long form of U+0000", versions, 0x30, "00 02 C0 80 00", malformed},
		{"publish above U+10FFFF", versions, 0x30, "00 04 F4 90 80 80 00", malformed},
		{"publish with topic alias 0", onlyV5, 0x30, "00 01 61 03 23 00 00", packets.TopicAliasInvalid},

		{"subscribe without filter", onlyV3, 0x82, "00 01", protocol},
		{"subscribe without filter", onlyV5, 0x82, "00 01 00", protocol},
		{"subscribe without options", versions[:2], 0x82, "00 01 00 01 61", malformed},
		{"subscribe with packet identifier 0", onlyV3, 0x82, "00 00 00 01 61 00", protocol},
		{"subscribe with QoS 3", onlyV3, 0x82, "00 01 00 01 61 03", malformed},
		{"subscribe with QoS 3", onlyV5, 0x82, "00 01 00 00 01 61 03", protocol},
		{"subscribe with retain handling 3", onlyV5, 0x82, "00 01 00 00 01 61 30", protocol},
		{"subscribe with reserved option bits", onlyV5, 0x82, "00 01 00 00 01 61 40", malformed},
		{"subscribe with options of 5.0", only311, 0x82, "00 01 00 01 61 04", malformed},
		{"subscribe to bad UTF-8", onlyV3, 0x82, "00 01 00 01 FF 00", malformed},
		{"subscribe to U+0000", onlyV5, 0x82, "00 01 00 00 01 00 00", malformed},
		{"subscribe with a good and a short filter", onlyV3, 0x82, "00 01 00 01 61 00 00", malformed},
		{"unsubscribe without filter", onlyV3, 0xA2, "00 01", protocol},
		{"unsubscribe without filter", onlyV5, 0xA2, "00 01 00", protocol},
		{"unsubscribe to bad UTF-8", onlyV3, 0xA2, "00 01 00 01 FF", malformed},
		{"unsubscribe with surplus bytes", onlyV3, 0xA2, "00 01 00 01 61 00", malformed},

		{"auth", onlyV3, 0xF0, "18 04 15 00 01 4D", malformed},
		{"auth of length 0", onlyV5, 0xF0, "", protocol},
		{"auth without method", onlyV5, 0xF0, "18 00", protocol},
		{"auth with surplus bytes", onlyV5, 0xF0, "18 04 15 00 01 4D 00", malformed},
	} {
		for _, v := range c.versions {
			t.Run(c.name+" in "+v.String(), func(t *testing.T) {
				p := packets.New(packets.Type(c.first >> 4))
				err := p.Decode(c.first&15, wire(t, c.body), v)
				require.Equal(t, c.want, packets.ReasonOf(err), "%v", err)
			})
		}
	}
}

func TestIllegalConnect(t *testing.T) {
	const (
		unsupported = packets.UnsupportedProtocolVersion

		mqtt4 = "00 04 4D 51 54 54 04 "
		mqtt5 = "00 04 4D 51 54 54 05 "
		mqtt3 = "00 06 4D 51 49 73 64 70 03 "
	)
	for _, c := range []struct {
		name    string
		body    string
		want    packets.ReasonCode
		version packets.Version
	}{
		{"empty", "", malformed, 0},
		{"name not complete", "00 04 4D 51", malformed, 0},
		{"level missing", "00 04 4D 51 54 54", malformed, 0},
		{"unknown name", "00 04 48 54 54 50 04 02 00 00 00 00", unsupported, 0},
		{"empty name", "00 00 04 02 00 00 00 00", unsupported, 0},
		{"name in lower case", "00 04 6D 71 74 74 04 02 00 00 00 00", unsupported, 0},
		{"MQTT level 3", "00 04 4D 51 54 54 03 02 00 00 00 00", unsupported, v311},
		{"MQTT level 0", "00 04 4D 51 54 54 00", unsupported, v311},
		{"MQTT level 6", "00 04 4D 51 54 54 06 02 00 00 00 00", unsupported, v5},
		{"MQTT level 5 of a bridge", "00 04 4D 51 54 54 85 02 00 00 00 00", unsupported, v5},
		{"MQIsdp level 4", "00 06 4D 51 49 73 64 70 04", unsupported, v311},
		{"MQIsdp level 5", "00 06 4D 51 49 73 64 70 05", unsupported, v311},
		{"ends after the level", mqtt5, malformed, v5},
		{"reserved flag", mqtt4 + "03 00 00 00 00", malformed, v311},
		{"reserved flag", mqtt5 + "03 00 00 00 00 00", malformed, v5},
		{"will QoS without will", mqtt4 + "0A 00 00 00 00", malformed, v311},
		{"will retain without will", mqtt5 + "22 00 00 00 00 00", malformed, v5},
		{"will QoS 3", mqtt5 + "1C 00 00 00 00 00 00 00 01 77 00 00", malformed, v5},
		{"password without user name", mqtt4 + "42 00 00 00 00 00 00", malformed, v311},
		{"password without user name", mqtt3 + "42 00 00 00 01 61 00 00", malformed, v31},
		{"user name missing", mqtt4 + "82 00 00 00 00", malformed, v311},
		{"password missing", mqtt5 + "42 00 00 00 00 00", malformed, v5},
		{"user name not complete", mqtt3 + "82 00 00 00 01 61 00", malformed, v31},
		{"will missing", mqtt4 + "06 00 00 00 00", malformed, v311},
		{"will properties missing", mqtt5 + "06 00 00 00 00 00", malformed, v5},
		{"will topic empty", mqtt4 + "06 00 00 00 00 00 00 00 00", badTopic, v311},
		{"will topic with wildcard", mqtt5 + "06 00 00 00 00 00 00 00 01 23 00 00", badTopic, v5},
		{"will topic not UTF-8", mqtt5 + "06 00 00 00 00 00 00 00 01 FF 00 00", malformed, v5},
		{"client identifier not UTF-8", mqtt4 + "02 00 00 00 01 FF", malformed, v311},
		{"client identifier with U+0000", mqtt5 + "02 00 00 00 00 01 00", malformed, v5},
		{"user name not UTF-8", mqtt4 + "82 00 00 00 00 00 01 FF", malformed, v311},
		{"surplus bytes", mqtt4 + "02 00 00 00 00 00", malformed, v311},
		{"surplus bytes", mqtt3 + "02 00 00 00 01 61 00", malformed, v31},
		{"authentication data without method", mqtt5 + "02 00 00 04 16 00 01 01 00 00", protocol, v5},
		{"will property among connect properties", mqtt5 + "02 00 00 05 18 00 00 00 01 00 00", malformed, v5},
		{"connect property among will properties", mqtt5 + "06 00 00 00 00 00 05 11 00 00 00 01 00 01 77 00 00", malformed, v5},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p packets.Connect
			err := p.Decode(0, wire(t, c.body), 0)
			require.Equal(t, c.want, packets.ReasonOf(err), "%v", err)
			require.Equal(t, c.version, p.Version)
		})
	}
}

func TestDecodeErrorsNameFieldAndOffset(t *testing.T) {
	err := new(packets.Publish).Decode(2, wire(t, "00 01 61 00"), v5)
	require.EqualError(t, err, "mqtt: malformed packet: packet identifier at byte 3")
	err = new(packets.Publish).Decode(0, wire(t, "00 01 61 05 26 00 01 FF 00"), v5)
	require.EqualError(t, err, "mqtt: malformed packet: user property at byte 5")
	err = new(packets.Pubrel).Decode(0, wire(t, "00 01"), v5)
	require.EqualError(t, err, "mqtt: malformed packet: flags 0000 of PUBREL")
}

func TestBinaryFieldsMayHoldAnything(t *testing.T) {
	var p packets.Connect
	require.NoError(t, p.Decode(0, wire(t, "00 04 4D 51 54 54 04 C6 00 00 00 00 00 01 77 00 02 FF 00 00 00 00 02 FF 00"), 0))
	require.Equal(t, []byte{0xFF, 0}, p.Will.Payload)
	require.Equal(t, []byte{0xFF, 0}, p.Password)
	require.True(t, p.HasUserName, "present but empty")
}

func TestByteOrderMarkIsKept(t *testing.T) {
	var p packets.Publish
	require.NoError(t, p.Decode(0, wire(t, "00 04 EF BB BF 61"), v311))
	require.Equal(t, "\uFEFFa", string(p.Topic))
}
