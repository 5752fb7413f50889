package packets_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/packets"
)

// What cannot be sent is refused, and leaves the buffer as it was.
func TestIllegalPacketsDoNotEncode(t *testing.T) {
	long := []byte(tooLong)
	topic := []byte("a")
	for _, c := range []struct {
		name     string
		versions []packets.Version
		packet   packets.Packet
		want     packets.ReasonCode
	}{
		{"publish with QoS 3", versions, &packets.Publish{Topic: topic, QoS: 3, PacketID: 1}, malformed},
		{"publish with DUP and QoS 0", versions, &packets.Publish{Topic: topic, Dup: true}, malformed},
		{"publish with packet identifier 0", versions, &packets.Publish{Topic: topic, QoS: 1}, protocol},
		{"publish with a topic too long", versions, &packets.Publish{Topic: long}, malformed},
		{"publish without topic", onlyV5, &packets.Publish{}, protocol},
		{"publish with alias only", onlyV3, &packets.Publish{HasTopicAlias: true, TopicAlias: 1}, badTopic},
		{"publish with topic alias 0", onlyV5, &packets.Publish{Topic: topic, HasTopicAlias: true}, packets.TopicAliasInvalid},
		{"publish with subscription identifier 0", onlyV5, &packets.Publish{Topic: topic, SubscriptionIDs: []uint32{0}}, protocol},
		{"publish with a subscription identifier too large", onlyV5,
			&packets.Publish{Topic: topic, SubscriptionIDs: []uint32{packets.MaxRemaining + 1}}, protocol},
		{"publish with a property too long", onlyV5,
			&packets.Publish{Topic: topic, Properties: message.AppendUserProperty(tooLong, "")}, malformed},
		{"publish with a foreign property", onlyV5,
			&packets.Publish{Topic: topic, Properties: packets.Properties{0x23, 0, 1}}, malformed},
		{"publish that is too large", versions, &packets.Publish{Topic: topic, Payload: make([]byte, packets.MaxRemaining)}, packets.PacketTooLarge},
		{"puback with packet identifier 0", versions, &packets.Puback{}, protocol},
		{"puback with a foreign reason", onlyV5, &packets.Puback{PacketID: 1, Reason: packets.ServerBusy}, protocol},
		{"puback with a reason string too long", onlyV5, &packets.Puback{PacketID: 1, ReasonString: long}, malformed},
		{"puback with user properties cut short", onlyV5, &packets.Puback{PacketID: 1, UserProperties: user("a", "b")[:5]}, malformed},
		{"puback with a user property too long", onlyV5, &packets.Puback{PacketID: 1, UserProperties: user(tooLong, "b")}, malformed},
		{"pubrel with packet identifier 0", versions, &packets.Pubrel{}, protocol},
		{"connect of an unknown version", []packets.Version{0, 6}, &packets.Connect{}, packets.UnsupportedProtocolVersion},
		{"connect of a bridge", onlyV5, &packets.Connect{Bridge: true}, packets.UnsupportedProtocolVersion},
		{"connect with a client identifier too long", versions, &packets.Connect{ClientID: long}, malformed},
		{"connect with password but no user name", onlyV3, &packets.Connect{HasPassword: true}, malformed},
		{"connect with a user name too long", versions, &packets.Connect{HasUserName: true, UserName: long}, malformed},
		{"connect with will QoS 3", versions, &packets.Connect{HasWill: true, Will: packets.Will{QoS: 3, Topic: topic}}, malformed},
		{"connect with an empty will topic", versions, &packets.Connect{HasWill: true}, badTopic},
		{"connect with a wildcard will topic", versions, &packets.Connect{HasWill: true, Will: packets.Will{Topic: []byte("#")}}, badTopic},
		{"connect with a will payload too long", versions, &packets.Connect{HasWill: true, Will: packets.Will{Topic: topic, Payload: long}}, malformed},
		{"connect with authentication data alone", onlyV5, &packets.Connect{HasAuthenticationData: true}, protocol},
		{"connack with session present in a refusal", versions[1:], &packets.Connack{SessionPresent: true, Reason: packets.NotAuthorized}, protocol},
		{"connack with maximum QoS 3", onlyV5, &packets.Connack{HasMaximumQoS: true, MaximumQoS: 3}, protocol},
		{"connack without return code", onlyV3, &packets.Connack{Reason: packets.MalformedPacket}, protocol},
		{"subscribe without filter", versions, &packets.Subscribe{PacketID: 1}, protocol},
		{"subscribe with packet identifier 0", versions, &packets.Subscribe{Subscriptions: subs(packets.Subscription{})}, protocol},
		{"subscribe with QoS 4", onlyV5, &packets.Subscribe{PacketID: 1, Subscriptions: subs(packets.Subscription{QoS: 4})}, protocol},
		{"subscribe with retain handling 3", onlyV5, &packets.Subscribe{PacketID: 1, Subscriptions: subs(packets.Subscription{RetainHandling: 16})}, protocol},
		{"subscribe with no local", onlyV3, &packets.Subscribe{PacketID: 1, Subscriptions: subs(packets.Subscription{NoLocal: true})}, malformed},
		{"subscribe with a filter too long", versions, &packets.Subscribe{PacketID: 1, Subscriptions: subs(packets.Subscription{Filter: long})}, malformed},
		{"subscribe with an identifier too large", onlyV5,
			&packets.Subscribe{PacketID: 1, SubscriptionID: 1 << 31, Subscriptions: subs(packets.Subscription{})}, protocol},
		{"suback without codes", versions, &packets.Suback{PacketID: 1}, protocol},
		{"unsubscribe without filter", versions, &packets.Unsubscribe{PacketID: 1}, protocol},
		{"unsubscribe with a filter too long", versions, &packets.Unsubscribe{PacketID: 1, Filters: packets.Filters(nil).Append(tooLong)}, malformed},
		{"unsuback without codes", onlyV5, &packets.Unsuback{PacketID: 1}, protocol},
		{"auth without method", onlyV5, &packets.Auth{}, protocol},
		{"auth", onlyV3, &packets.Auth{HasAuthenticationMethod: true}, malformed},
	} {
		for _, v := range c.versions {
			t.Run(c.name+" in "+v.String(), func(t *testing.T) {
				dst := append(make([]byte, 0, 256), "before"...)
				got, err := c.packet.AppendTo(dst, v)
				require.Equal(t, c.want, packets.ReasonOf(err), "%v", err)
				require.Equal(t, "before", string(got))
			})
		}
	}
}

// Older versions have no place for properties and reasons.
func TestEncodeLeavesOutWhatTheVersionLacks(t *testing.T) {
	for _, c := range []golden{
		{"publish", onlyV3, "30 04 00 01 61 78", &packets.Publish{Topic: []byte("a"), Payload: []byte("x"), HasTopicAlias: true,
			HasMessageExpiry: true, SubscriptionIDs: []uint32{1}, Properties: message}},
		{"puback", onlyV3, "40 02 00 0A", &packets.Puback{PacketID: 10, Reason: packets.NotAuthorized, ReasonString: []byte("r")}},
		{"pubcomp", onlyV3, "70 02 00 0A", &packets.Pubcomp{PacketID: 10, Reason: packets.PacketIdentifierNotFound}},
		{"suback", only311, "90 05 00 01 02 80 80", &packets.Suback{PacketID: 1, Reasons: []packets.ReasonCode{2, 0x87, 0x80}}},
		{"suback", only31, "90 05 00 01 02 00 00", &packets.Suback{PacketID: 1, Reasons: []packets.ReasonCode{2, 0x87, 0x80}}},
		{"unsuback", onlyV3, "B0 02 00 01", &packets.Unsuback{PacketID: 1, Reasons: []packets.ReasonCode{0x11}}},
		{"disconnect", onlyV3, "E0 00", &packets.Disconnect{Reason: packets.ServerShuttingDown, ReasonString: []byte("r")}},
		{"connack", only31, "20 02 00 00", &packets.Connack{SessionPresent: true, ReceiveMaximum: 3}},
		{"connack", only311, "20 02 01 00", &packets.Connack{SessionPresent: true, ReceiveMaximum: 3}},
		{"connack with maximum QoS 2", onlyV5, "20 03 00 00 00", &packets.Connack{HasMaximumQoS: true, MaximumQoS: 2}},
		{"publish with an identifier it has no place for", versions[:2], "30 03 00 01 61", &packets.Publish{Topic: []byte("a"), PacketID: 7}},
		{"connect", only311, "10 0C 00 04 4D 51 54 54 04 00 00 00 00 00", &packets.Connect{SessionExpiryInterval: 5, UserProperties: user("a", "b")}},
	} {
		for _, v := range c.versions {
			t.Run(c.name+" in "+v.String(), func(t *testing.T) {
				got, err := c.packet.AppendTo(nil, v)
				require.NoError(t, err)
				require.Equal(t, wire(t, c.wire), got)
			})
		}
	}
}

func TestAppendHeadLeavesThePacketIdentifierToPatch(t *testing.T) {
	for _, v := range versions {
		p := &packets.Publish{QoS: 1, Topic: []byte("a/b"), PacketID: 1, Properties: message, Payload: []byte("not looked at")}
		head, idAt, err := p.AppendHead([]byte("before"), v, 2)
		require.NoError(t, err)
		head[idAt], head[idAt+1] = 0x12, 0x34
		got, err := decode(t, append(head[6:], "hi"...), v)
		require.NoError(t, err)
		require.Equal(t, uint16(0x1234), got.(*packets.Publish).PacketID)
		require.Equal(t, "hi", string(got.(*packets.Publish).Payload))

		p.QoS = packets.AtMostOnce
		_, idAt, err = p.AppendHead(nil, v, 2)
		require.NoError(t, err)
		require.Zero(t, idAt)
		out, _, err := p.AppendHead([]byte("before"), v, packets.MaxRemaining)
		require.ErrorIs(t, err, packets.PacketTooLarge)
		require.Equal(t, "before", string(out))
	}
}

func TestLargestPacketHasAHeader(t *testing.T) {
	p := &packets.Publish{Topic: []byte("a")}
	head, _, err := p.AppendHead(nil, v311, packets.MaxRemaining-3)
	require.NoError(t, err)
	h, _, err := packets.DecodeHeader(head)
	require.NoError(t, err)
	require.Equal(t, packets.MaxRemaining, h.Remaining)
}
