package packets_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/packets"
)

const (
	v31  = packets.V31
	v311 = packets.V311
	v5   = packets.V5
)

var (
	onlyV3  = []packets.Version{v31, v311}
	onlyV5  = []packets.Version{v5}
	only31  = []packets.Version{v31}
	only311 = []packets.Version{v311}
)

// golden is a packet in wire form and as a value.
type golden struct {
	name     string
	versions []packets.Version
	wire     string
	packet   packets.Packet
}

func user(pairs ...string) packets.UserProperties {
	var u packets.UserProperties
	for i := 0; i < len(pairs); i += 2 {
		u = u.Append(pairs[i], pairs[i+1])
	}
	return u
}

func subs(list ...packets.Subscription) packets.Subscriptions {
	var s packets.Subscriptions
	for _, sub := range list {
		s = s.Append(sub)
	}
	return s
}

var message = packets.Properties(nil).
	AppendPayloadFormat(1).
	AppendContentType("t").
	AppendResponseTopic("r").
	AppendCorrelationData([]byte{0, 1}).
	AppendUserProperty("k", "v").
	AppendUserProperty("k", "")

const messageWire = "01 01  03 00 01 74  08 00 01 72  09 00 02 00 01  26 00 01 6B 00 01 76  26 00 01 6B 00 00"

// goldens encode to exactly these bytes and decode to exactly these values.
var goldens = []golden{
	{"connect 3.1", only31, "10 0F 00 06 4D 51 49 73 64 70 03 02 00 3C 00 01 61",
		&packets.Connect{Version: v31, CleanStart: true, KeepAlive: 60, ClientID: []byte("a"), ReceiveMaximum: 65535}},
	{"connect 3.1 of a bridge", only31, "10 0F 00 06 4D 51 49 73 64 70 83 02 00 3C 00 01 61",
		&packets.Connect{Version: v31, Bridge: true, CleanStart: true, KeepAlive: 60, ClientID: []byte("a"), ReceiveMaximum: 65535}},
	{"connect 3.1.1", only311, "10 0D 00 04 4D 51 54 54 04 02 00 3C 00 01 61",
		&packets.Connect{Version: v311, CleanStart: true, KeepAlive: 60, ClientID: []byte("a"), ReceiveMaximum: 65535}},
	{"connect 3.1.1 of a bridge", only311, "10 0D 00 04 4D 51 54 54 84 02 00 3C 00 01 61",
		&packets.Connect{Version: v311, Bridge: true, CleanStart: true, KeepAlive: 60, ClientID: []byte("a"), ReceiveMaximum: 65535}},
	{"connect 3.1.1 with will, user name and password", only311,
		"10 19 00 04 4D 51 54 54 04 F4 00 00 00 01 61 00 01 77 00 00 00 01 75 00 02 FF 00",
		&packets.Connect{Version: v311, ClientID: []byte("a"), ReceiveMaximum: 65535,
			HasWill: true, Will: packets.Will{QoS: 2, Retain: true, Topic: []byte("w")},
			HasUserName: true, UserName: []byte("u"), HasPassword: true, Password: []byte{0xFF, 0}}},
	{"connect 5.0 with an empty client identifier", onlyV5, "10 0D 00 04 4D 51 54 54 05 02 00 3C 00 00 00",
		&packets.Connect{Version: v5, CleanStart: true, KeepAlive: 60, ReceiveMaximum: 65535}},
	{"connect 5.0 with session expiry and delayed will", onlyV5,
		"10 1F 00 04 4D 51 54 54 05 04 00 3C 05 11 00 00 00 0A 00 01 61 05 18 00 00 00 05 00 01 77 00 01 78",
		&packets.Connect{Version: v5, KeepAlive: 60, ClientID: []byte("a"), ReceiveMaximum: 65535, SessionExpiryInterval: 10,
			HasWill: true, Will: packets.Will{Topic: []byte("w"), Payload: []byte("x"), DelayInterval: 5}}},
	{"connect 5.0 with password but no user name", onlyV5, "10 10 00 04 4D 51 54 54 05 40 00 00 00 00 00 00 01 70",
		&packets.Connect{Version: v5, ReceiveMaximum: 65535, HasPassword: true, Password: []byte("p")}},
	{"connect 5.0 with every property", onlyV5,
		"10 5E 00 04 4D 51 54 54 05 2C 00 00" +
			"23 11 00 00 00 0A 21 00 14 27 00 00 10 00 22 00 05 19 01 17 00 15 00 01 4D 16 00 01 01 26 00 01 61 00 01 62" +
			"00 01 61" +
			"26 18 00 00 00 05 02 00 00 00 06" + messageWire + "00 01 77 00 01 78",
		&packets.Connect{Version: v5, ClientID: []byte("a"), SessionExpiryInterval: 10, ReceiveMaximum: 20,
			MaximumPacketSize: 4096, TopicAliasMaximum: 5, RequestResponseInformation: true, NoProblemInformation: true,
			HasAuthenticationMethod: true, AuthenticationMethod: []byte("M"), HasAuthenticationData: true, AuthenticationData: []byte{1},
			UserProperties: user("a", "b"),
			HasWill:        true, Will: packets.Will{QoS: 1, Retain: true, Topic: []byte("w"), Payload: []byte("x"), DelayInterval: 5,
				HasMessageExpiry: true, MessageExpiryInterval: 6, Properties: message}}},

	{"connack accepted", onlyV3, "20 02 00 00", &packets.Connack{}},
	{"connack session present", only311, "20 02 01 00", &packets.Connack{SessionPresent: true}},
	{"connack unacceptable version", onlyV3, "20 02 00 01", &packets.Connack{Reason: packets.UnsupportedProtocolVersion}},
	{"connack identifier rejected", onlyV3, "20 02 00 02", &packets.Connack{Reason: packets.ClientIdentifierNotValid}},
	{"connack server unavailable", onlyV3, "20 02 00 03", &packets.Connack{Reason: packets.ServerUnavailable}},
	{"connack bad password", onlyV3, "20 02 00 04", &packets.Connack{Reason: packets.BadUserNameOrPassword}},
	{"connack not authorized", onlyV3, "20 02 00 05", &packets.Connack{Reason: packets.NotAuthorized}},
	{"connack accepted", onlyV5, "20 03 00 00 00", &packets.Connack{}},
	{"connack session present", onlyV5, "20 03 01 00 00", &packets.Connack{SessionPresent: true}},
	{"connack unsupported version", onlyV5, "20 03 00 84 00", &packets.Connack{Reason: packets.UnsupportedProtocolVersion}},
	{"connack with every property", onlyV5,
		"20 3E 00 00 3B 11 00 00 00 00 21 00 14 24 01 25 00 27 00 00 10 00 12 00 01 69 22 00 05 1F 00 01 72 26 00 01 61 00 01 62" +
			"28 00 29 00 2A 00 13 00 1E 1A 00 01 72 1C 00 01 73 15 00 01 4D 16 00 00",
		&packets.Connack{HasSessionExpiryInterval: true, ReceiveMaximum: 20, HasMaximumQoS: true, MaximumQoS: 1,
			RetainUnavailable: true, WildcardSubscriptionUnavailable: true, SubscriptionIdentifiersUnavailable: true,
			SharedSubscriptionUnavailable: true, MaximumPacketSize: 4096, AssignedClientID: []byte("i"), TopicAliasMaximum: 5,
			ReasonString: []byte("r"), UserProperties: user("a", "b"), HasServerKeepAlive: true, ServerKeepAlive: 30,
			ResponseInformation: []byte("r"), ServerReference: []byte("s"),
			HasAuthenticationMethod: true, AuthenticationMethod: []byte("M"), HasAuthenticationData: true}},

	{"publish qos 0", onlyV5, "30 08 00 03 61 2F 62 00 68 69", &packets.Publish{Topic: []byte("a/b"), Payload: []byte("hi")}},
	{"publish qos 0", onlyV3, "30 07 00 03 61 2F 62 68 69", &packets.Publish{Topic: []byte("a/b"), Payload: []byte("hi")}},
	{"publish qos 1", onlyV3, "32 09 00 03 61 2F 62 00 0A 68 69",
		&packets.Publish{QoS: 1, PacketID: 10, Topic: []byte("a/b"), Payload: []byte("hi")}},
	{"publish qos 2 again, retained, without payload", versions[:2], "3D 05 00 01 61 00 0A",
		&packets.Publish{Dup: true, QoS: 2, Retain: true, PacketID: 10, Topic: []byte("a")}},
	{"publish setting a topic alias", onlyV5, "30 0A 00 03 61 2F 62 03 23 00 01 78",
		&packets.Publish{Topic: []byte("a/b"), HasTopicAlias: true, TopicAlias: 1, Payload: []byte("x")}},
	{"publish using a topic alias", onlyV5, "30 07 00 00 03 23 00 01 79",
		&packets.Publish{HasTopicAlias: true, TopicAlias: 1, Payload: []byte("y")}},
	{"publish with every property", onlyV5,
		"3B 33 00 01 61 00 0A 2B 23 00 01 02 00 00 00 00 0B 01 0B FF FF FF 7F" + messageWire + "68 69",
		&packets.Publish{Dup: true, QoS: 1, Retain: true, Topic: []byte("a"), PacketID: 10, HasTopicAlias: true, TopicAlias: 1,
			HasMessageExpiry: true, SubscriptionIDs: []uint32{1, packets.MaxRemaining}, Properties: message, Payload: []byte("hi")}},

	{"puback", versions, "40 02 00 0A", &packets.Puback{PacketID: 10}},
	{"puback with reason", onlyV5, "40 03 00 0A 10", &packets.Puback{PacketID: 10, Reason: packets.NoMatchingSubscribers}},
	{"puback with properties", onlyV5, "40 0F 00 0A 87 0B 1F 00 01 72 26 00 01 61 00 01 62",
		&packets.Puback{PacketID: 10, Reason: packets.NotAuthorized, ReasonString: []byte("r"), UserProperties: user("a", "b")}},
	{"pubrec", versions, "50 02 00 0A", &packets.Pubrec{PacketID: 10}},
	{"pubrec with reason", onlyV5, "50 03 00 0A 97", &packets.Pubrec{PacketID: 10, Reason: packets.QuotaExceeded}},
	{"pubrec with properties", onlyV5, "50 0F 00 0A 00 0B 1F 00 01 72 26 00 01 61 00 01 62",
		&packets.Pubrec{PacketID: 10, ReasonString: []byte("r"), UserProperties: user("a", "b")}},
	{"pubrel", versions, "62 02 00 0A", &packets.Pubrel{PacketID: 10}},
	{"pubrel with reason", onlyV5, "62 03 00 0A 92", &packets.Pubrel{PacketID: 10, Reason: packets.PacketIdentifierNotFound}},
	{"pubrel with properties", onlyV5, "62 0B 00 0A 92 07 26 00 01 61 00 01 62",
		&packets.Pubrel{PacketID: 10, Reason: packets.PacketIdentifierNotFound, UserProperties: user("a", "b")}},
	{"pubrel with every property", onlyV5, "62 0F 00 0A 92 0B 1F 00 01 72 26 00 01 61 00 01 62",
		&packets.Pubrel{PacketID: 10, Reason: packets.PacketIdentifierNotFound, ReasonString: []byte("r"), UserProperties: user("a", "b")}},
	{"pubcomp", versions, "70 02 00 0A", &packets.Pubcomp{PacketID: 10}},
	{"pubcomp with reason", onlyV5, "70 03 00 0A 92", &packets.Pubcomp{PacketID: 10, Reason: packets.PacketIdentifierNotFound}},
	{"pubcomp with properties", onlyV5, "70 08 00 0A 92 04 1F 00 01 72",
		&packets.Pubcomp{PacketID: 10, Reason: packets.PacketIdentifierNotFound, ReasonString: []byte("r")}},
	{"pubcomp with every property", onlyV5, "70 0F 00 0A 92 0B 1F 00 01 72 26 00 01 61 00 01 62",
		&packets.Pubcomp{PacketID: 10, Reason: packets.PacketIdentifierNotFound, ReasonString: []byte("r"), UserProperties: user("a", "b")}},

	{"subscribe", onlyV3, "82 08 00 01 00 03 61 2F 23 01",
		&packets.Subscribe{PacketID: 1, Subscriptions: subs(packets.Subscription{Filter: []byte("a/#"), QoS: 1})}},
	{"subscribe with an identifier", onlyV5, "82 0B 00 01 02 0B 05 00 03 61 2F 23 01",
		&packets.Subscribe{PacketID: 1, SubscriptionID: 5, Subscriptions: subs(packets.Subscription{Filter: []byte("a/#"), QoS: 1})}},
	{"subscribe with an identifier and user properties", onlyV5, "82 10 00 01 09 0B 05 26 00 01 61 00 01 62 00 01 61 01",
		&packets.Subscribe{PacketID: 1, SubscriptionID: 5, UserProperties: user("a", "b"),
			Subscriptions: subs(packets.Subscription{Filter: []byte("a"), QoS: 1})}},
	{"subscribe to an empty filter", onlyV5, "82 06 00 01 00 00 00 00",
		&packets.Subscribe{PacketID: 1, Subscriptions: subs(packets.Subscription{})}},
	{"subscribe with every option", onlyV5, "82 13 00 01 07 26 00 01 61 00 01 62 00 01 61 2E 00 02 2B 2F 10",
		&packets.Subscribe{PacketID: 1, UserProperties: user("a", "b"), Subscriptions: subs(
			packets.Subscription{Filter: []byte("a"), QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2},
			packets.Subscription{Filter: []byte("+/"), RetainHandling: 1})}},
	{"suback", onlyV3, "90 03 00 01 01", &packets.Suback{PacketID: 1, Reasons: []packets.ReasonCode{1}}},
	{"suback with a failure", only311, "90 04 00 01 80 02", &packets.Suback{PacketID: 1, Reasons: []packets.ReasonCode{0x80, 2}}},
	{"suback", onlyV5, "90 04 00 01 00 01", &packets.Suback{PacketID: 1, Reasons: []packets.ReasonCode{1}}},
	{"suback with properties", onlyV5, "90 10 00 01 0B 1F 00 01 72 26 00 01 61 00 01 62 87 00",
		&packets.Suback{PacketID: 1, ReasonString: []byte("r"), UserProperties: user("a", "b"),
			Reasons: []packets.ReasonCode{packets.NotAuthorized, packets.GrantedQoS0}}},
	{"unsubscribe", onlyV3, "A2 07 00 02 00 03 61 2F 23", &packets.Unsubscribe{PacketID: 2, Filters: packets.Filters(nil).Append("a/#")}},
	{"unsubscribe", onlyV5, "A2 08 00 02 00 00 03 61 2F 23", &packets.Unsubscribe{PacketID: 2, Filters: packets.Filters(nil).Append("a/#")}},
	{"unsubscribe with properties", onlyV5, "A2 10 00 02 07 26 00 01 61 00 01 62 00 01 61 00 01 62",
		&packets.Unsubscribe{PacketID: 2, UserProperties: user("a", "b"), Filters: packets.Filters(nil).Append("a").Append("b")}},
	{"unsuback", onlyV3, "B0 02 00 02", &packets.Unsuback{PacketID: 2}},
	{"unsuback", onlyV5, "B0 04 00 02 00 00", &packets.Unsuback{PacketID: 2, Reasons: []packets.ReasonCode{0}}},
	{"unsuback with properties", onlyV5, "B0 09 00 02 04 1F 00 01 72 11 87",
		&packets.Unsuback{PacketID: 2, ReasonString: []byte("r"),
			Reasons: []packets.ReasonCode{packets.NoSubscriptionExisted, packets.NotAuthorized}}},
	{"unsuback with every property", onlyV5, "B0 10 00 02 0B 1F 00 01 72 26 00 01 61 00 01 62 00 11",
		&packets.Unsuback{PacketID: 2, ReasonString: []byte("r"), UserProperties: user("a", "b"),
			Reasons: []packets.ReasonCode{packets.Success, packets.NoSubscriptionExisted}}},

	{"pingreq", versions, "C0 00", &packets.Pingreq{}},
	{"pingresp", versions, "D0 00", &packets.Pingresp{}},
	{"disconnect", versions, "E0 00", &packets.Disconnect{}},
	{"disconnect with will", onlyV5, "E0 01 04", &packets.Disconnect{Reason: packets.DisconnectWithWill}},
	{"disconnect with session expiry 0", onlyV5, "E0 07 00 05 11 00 00 00 00", &packets.Disconnect{HasSessionExpiryInterval: true}},
	{"disconnect with every property", onlyV5, "E0 16 9C 14 11 00 00 00 07 1F 00 01 72 26 00 01 61 00 01 62 1C 00 01 73",
		&packets.Disconnect{Reason: packets.UseAnotherServer, HasSessionExpiryInterval: true, SessionExpiryInterval: 7,
			ReasonString: []byte("r"), UserProperties: user("a", "b"), ServerReference: []byte("s")}},
	{"auth", onlyV5, "F0 0A 18 08 15 00 01 4D 16 00 01 01",
		&packets.Auth{Reason: packets.ContinueAuthentication, HasAuthenticationMethod: true, AuthenticationMethod: []byte("M"),
			HasAuthenticationData: true, AuthenticationData: []byte{1}}},
	{"auth with every property", onlyV5, "F0 14 19 12 15 00 01 4D 16 00 00 1F 00 01 72 26 00 01 61 00 01 62",
		&packets.Auth{Reason: packets.Reauthenticate, HasAuthenticationMethod: true, AuthenticationMethod: []byte("M"),
			HasAuthenticationData: true, ReasonString: []byte("r"), UserProperties: user("a", "b")}},
}

// eachGolden runs f for every golden packet in every version that has it.
func eachGolden(t *testing.T, f func(t *testing.T, g golden, v packets.Version)) {
	for _, g := range goldens {
		for _, v := range g.versions {
			t.Run(g.name+" in "+v.String(), func(t *testing.T) { f(t, g, v) })
		}
	}
}

func TestGoldenBytesEncode(t *testing.T) {
	eachGolden(t, func(t *testing.T, g golden, v packets.Version) {
		got, err := g.packet.AppendTo([]byte("before"), v)
		require.NoError(t, err)
		require.Equal(t, "before", string(got[:6]))
		require.Equal(t, wire(t, g.wire), got[6:])
	})
}

func TestGoldenBytesDecode(t *testing.T) {
	eachGolden(t, func(t *testing.T, g golden, v packets.Version) {
		b := wire(t, g.wire)
		got, err := decode(t, b, v)
		require.NoError(t, err)
		require.Equal(t, g.packet, got)
		require.Equal(t, got.Type(), g.packet.Type())
		byteSlices(got, func(name string, s []byte) {
			require.Equal(t, len(s), cap(s), "%s is not capped", name)
			require.True(t, len(s) == 0 || aliases(s, b), "%s is a copy", name)
		})
		require.LessOrEqual(t, reserved(got), len(b))
	})
}

func TestDecodeOverwritesEveryField(t *testing.T) {
	richest := map[packets.Type]packets.Packet{}
	for _, g := range goldens { // the last one of a type has the most in it
		p := packets.New(g.packet.Type())
		h, body := split(t, wire(t, g.wire))
		require.NoError(t, p.Decode(h.Flags, body, g.versions[len(g.versions)-1]))
		richest[p.Type()] = p
	}
	eachGolden(t, func(t *testing.T, g golden, v packets.Version) {
		p := richest[g.packet.Type()]
		h, body := split(t, wire(t, g.wire))
		require.NoError(t, p.Decode(h.Flags, body, v))
		for name, got := range values(p) {
			if want := values(g.packet)[name]; name == "Reasons" || name == "SubscriptionIDs" {
				require.ElementsMatch(t, want, got, name)
			} else {
				require.Equal(t, want, got, name)
			}
		}
	})
}

// A truncated body is refused, or is a shorter packet that encodes again.
func TestGoldenBytesTruncated(t *testing.T) {
	eachGolden(t, func(t *testing.T, g golden, v packets.Version) {
		h, body := split(t, wire(t, g.wire))
		for i := range body {
			p := packets.New(h.Type)
			if err := p.Decode(h.Flags, body[:i:i], v); err != nil {
				require.True(t, packets.ReasonOf(err).IsError(), "%d bytes: %v", i, err)
				require.NotEqual(t, packets.UnspecifiedError, packets.ReasonOf(err), "%d bytes", i)
				continue
			}
			_, err := p.AppendTo(nil, v)
			require.NoError(t, err, "%d bytes", i)
		}
	})
}

// Forms that are legal but not the ones that are written.
func TestOtherFormsDecode(t *testing.T) {
	for _, c := range []golden{
		{"puback with reason and empty block", onlyV5, "40 04 00 0A 87 00", &packets.Puback{PacketID: 10, Reason: packets.NotAuthorized}},
		{"puback with reason success", onlyV5, "40 03 00 0A 00", &packets.Puback{PacketID: 10}},
		{"disconnect with empty block", onlyV5, "E0 02 8E 00", &packets.Disconnect{Reason: packets.SessionTakenOver}},
		{"disconnect with reason 0", onlyV5, "E0 01 00", &packets.Disconnect{}},
		{"connect with receive maximum 65535", onlyV5, "10 10 00 04 4D 51 54 54 05 02 00 3C 03 21 FF FF 00 00",
			&packets.Connect{Version: v5, CleanStart: true, KeepAlive: 60, ReceiveMaximum: 65535}},
		{"connect with reserved flag in 3.1", only31, "10 0F 00 06 4D 51 49 73 64 70 03 03 00 3C 00 01 61",
			&packets.Connect{Version: v31, CleanStart: true, KeepAlive: 60, ClientID: []byte("a"), ReceiveMaximum: 65535}},
		{"connect 3.1 that ends before user name", only31, "10 0F 00 06 4D 51 49 73 64 70 03 C2 00 3C 00 01 61",
			&packets.Connect{Version: v31, CleanStart: true, KeepAlive: 60, ClientID: []byte("a"), ReceiveMaximum: 65535}},
		{"connect 3.1 that ends before password", only31, "10 12 00 06 4D 51 49 73 64 70 03 C2 00 3C 00 01 61 00 01 75",
			&packets.Connect{Version: v31, CleanStart: true, KeepAlive: 60, ClientID: []byte("a"), ReceiveMaximum: 65535,
				HasUserName: true, UserName: []byte("u")}},
		{"connack flags in 3.1", only31, "20 02 FF 00", &packets.Connack{}},
		{"connack with defaults spelled out", onlyV5, "20 0D 00 00 0A 25 01 28 01 29 01 2A 01 1F 00", nil},
		{"connack with capabilities that are there", onlyV5, "20 0B 00 00 08 25 01 28 01 29 01 2A 01", &packets.Connack{}},
		{"pubrel again in 3.1", only31, "6A 02 00 0A", &packets.Pubrel{PacketID: 10}},
		{"pubrel with flags 0 in 3.1", only31, "60 02 00 0A", &packets.Pubrel{PacketID: 10}},
		{"pingreq with flags in 3.1", only31, "CF 00", &packets.Pingreq{}},
		{"unsubscribe again in 3.1", only31, "AA 05 00 02 00 01 61", &packets.Unsubscribe{PacketID: 2, Filters: packets.Filters(nil).Append("a")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := decode(t, wire(t, c.wire), c.versions[0])
			if c.packet == nil {
				require.ErrorIs(t, err, packets.MalformedPacket)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.packet, got)
		})
	}
}

func TestSubscribeOptionsOf31AreCleared(t *testing.T) {
	b := wire(t, "8A 0A 00 01 00 01 61 FD 00 01 62 02")
	p, err := decode(t, b, v31)
	require.NoError(t, err)
	want := subs(packets.Subscription{Filter: []byte("a"), QoS: 1}, packets.Subscription{Filter: []byte("b"), QoS: 2})
	require.Equal(t, want, p.(*packets.Subscribe).Subscriptions)
	require.Equal(t, wire(t, "8A 0A 00 01 00 01 61 FD 00 01 62 02"), b, "the body was written to")
}

// Properties that are no neighbours are put together in memory that is used
// again.
func TestInterleavedPropertiesKeepTheirOrder(t *testing.T) {
	b := wire(t, "30 18 00 01 61 13 26 00 01 61 00 00 23 00 07 26 00 01 62 00 00 0B 05 01 01 78")
	p := new(packets.Publish)
	h, body := split(t, b)
	for range 2 {
		require.NoError(t, p.Decode(h.Flags, body, v5))
		require.Equal(t, packets.Properties(wire(t, "26 00 01 61 00 00 26 00 01 62 00 00 01 01")), p.Properties)
		require.Equal(t, len(p.Properties), cap(p.Properties))
		require.Equal(t, []uint32{5}, p.SubscriptionIDs)
		require.Equal(t, "x", string(p.Payload))
	}
	require.LessOrEqual(t, reserved(p), len(body))
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = p.Decode(h.Flags, body, v5) }))
}
