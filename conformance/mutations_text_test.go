package conformance_test

import (
	"bytes"

	"github.com/petrelmq/petrel/packets"
)

// Mutations of strings, numbers and the first byte.

var mutationsOfText = []mutation{
	{
		name: "overlong-utf8", broken: "Overlong forms of UTF-8 are taken in PUBLISH.",
		mqtt5: "1.5.4-1", mqtt311: "1.5.3-1",
		acts: up(replace(packets.TypePublish, "\xC0\x80", "??", "\xC0\xAF", "??")),
	},
	{
		name: "surrogates", broken: "Encoded surrogates are taken for characters.",
		mqtt5: "1.5.4-1", mqtt311: "1.5.3-1",
		acts: up(both(replace(packets.TypePublish, "\xED\xA0\x80", "???", "\xED\xBF\xBF", "???"),
			replace(packets.TypeConnect, "\xED\xA0\x80", "???", "\xED\xBF\xBF", "???"))),
	},
	{
		name: "null-character", broken: "U+0000 is taken in client identifiers, user names and will topics.",
		mqtt5: "1.5.4-2", mqtt311: "1.5.3-2",
		acts: up(replace(packets.TypeConnect, "a\x00b", "a?b")),
	},
	{
		name: "null-character-in-topic-name", broken: "U+0000 is taken in the topic name of a PUBLISH.",
		mqtt5: "1.5.4-2 4.7.3-2", mqtt311: "1.5.3-2 4.7.3-2",
		acts: up(rewrite(packets.TypePublish, func(_ *link, b []byte) []byte {
			if len(b) >= 6 && b[4] == 'a' && b[5] == 0 && b[3] >= 2 {
				b[5] = '?'
			}
			return b
		})),
	},
	{
		name: "byte-order-mark", broken: "EF BB BF is stripped from the topics of messages.",
		mqtt5: "1.5.4-3", mqtt311: "1.5.3-3",
		acts: down(edit(func(_ *link, p *packets.Publish) bool {
			p.Topic = bytes.ReplaceAll(p.Topic, []byte("\uFEFF"), nil)
			return true
		})),
	},
	{
		name: "long-length", broken: "A Remaining Length of three bytes is written in four.",
		mqtt5: "1.5.5-1",
		acts: down(rewrite(packets.TypePublish, func(_ *link, b []byte) []byte {
			if b[1] >= 0x80 && b[2] >= 0x80 && b[3] < 0x80 {
				b[3] |= 0x80
				b = append(b[:4:4], append([]byte{0}, b[4:]...)...)
			}
			return b
		})),
	},
	{
		name: "latin1-user-property", broken: "The byte FF is taken in the User Properties of a PUBLISH.",
		mqtt5: "1.5.7-1",
		acts:  up(replace(packets.TypePublish, "\x26\x00\x02a\xFF", "\x26\x00\x02a?", "\x01n\x00\x02a\xFF", "\x01n\x00\x02a?")),
	},
	{
		name: "latin1-response-topic", broken: "The byte FF is taken in a Response Topic.",
		mqtt5: "3.3.2-13",
		acts:  up(replace(packets.TypePublish, "\x08\x00\x02a\xFF", "\x08\x00\x02a?")),
	},
	{
		name: "latin1-content-type", broken: "The byte FF is taken in a Content Type.",
		mqtt5: "3.3.2-19",
		acts:  up(replace(packets.TypePublish, "\x03\x00\x02a\xFF", "\x03\x00\x02a?")),
	},
	{
		name: "latin1-topic-name", broken: "The byte FF is taken in a topic name.",
		mqtt5: "3.3.2-1", mqtt311: "3.3.2-1",
		acts: up(rewrite(packets.TypePublish, func(_ *link, b []byte) []byte {
			if len(b) > 5 && b[3] == 2 && b[5] == 0xFF {
				b[5] = '?'
			}
			return b
		})),
	},
	{
		name: "latin1-filter", broken: "The byte FF is taken in the filters of SUBSCRIBE.",
		mqtt5: "3.8.3-1", mqtt311: "3.8.3-1",
		acts: up(replace(packets.TypeSubscribe, "a\xFF", "a?")),
	},
	{
		name: "latin1-filter-of-unsubscribe", broken: "The byte FF is taken in the filters of UNSUBSCRIBE.",
		mqtt5: "3.10.3-1", mqtt311: "3.10.3-1",
		acts: up(replace(packets.TypeUnsubscribe, "a\xFF", "a?")),
	},
	{
		name: "latin1-user-name", broken: "The byte FF is taken in a user name.",
		mqtt5: "3.1.3-12", mqtt311: "3.1.3-11",
		acts: up(rewrite(packets.TypeConnect, func(_ *link, b []byte) []byte {
			if len(b) > 9 && b[9]&0x80 != 0 && b[len(b)-1] == 0xFF {
				b[len(b)-1] = '?'
			}
			return b
		})),
	},
	{
		name: "latin1-will-topic", broken: "The byte FF is taken in a will topic.",
		mqtt5: "3.1.3-11", mqtt311: "3.1.3-10",
		acts: up(replace(packets.TypeConnect, "\x00\x02a\xFF\x00\x01x", "\x00\x02a?\x00\x01x")),
	},
}

var mutationsOfFlags = []mutation{
	{
		name: "flags-of-pubrel", broken: "The flags of PUBREL are not looked at.",
		mqtt5: "2.1.3-1 3.6.1-1", mqtt311: "3.6.1-1",
		acts: up(setFlags(packets.TypePubrel, 2)),
	},
	{
		name: "flags-of-subscribe", broken: "The flags of SUBSCRIBE are not looked at.",
		mqtt5: "2.1.3-1 3.8.1-1", mqtt311: "3.8.1-1",
		acts: up(setFlags(packets.TypeSubscribe, 2)),
	},
	{
		name: "flags-of-unsubscribe", broken: "The flags of UNSUBSCRIBE are not looked at.",
		mqtt5: "2.1.3-1 3.10.1-1", mqtt311: "3.10.1-1",
		acts: up(setFlags(packets.TypeUnsubscribe, 2)),
	},
	{
		name: "flags-of-pingreq", broken: "The flags of PINGREQ are not looked at.",
		mqtt5: "2.1.3-1", mqtt311: "2.2.2-1 2.2.2-2 4.8.0-1",
		acts: up(setFlags(packets.TypePingreq, 0)),
	},
	{
		name: "flags-of-disconnect", broken: "The flags of DISCONNECT are not looked at: it is a normal end, without a will.",
		mqtt5: "2.1.3-1 3.14.1-1", mqtt311: "3.14.1-1",
		acts: up(setFlags(packets.TypeDisconnect, 0)),
	},
	{
		name: "flags-of-auth", broken: "The flags of AUTH are not looked at.",
		mqtt5: "3.15.1-1",
		acts:  up(setFlags(packets.TypeAuth, 0)),
	},
	{
		name: "pingreq-with-a-body", broken: "The body of a PINGREQ is skipped.",
		mqtt5: "4.13.1-1 4.13.2-1",
		acts:  up(rewrite(packets.TypePingreq, func(_ *link, b []byte) []byte { return []byte{b[0], 0} })),
	},
	{
		name: "unknown-property", broken: "A property that is unknown is skipped in PUBLISH.",
		mqtt5: "4.13.1-1 4.13.2-1",
		acts:  up(replace(packets.TypePublish, "\x30\x06\x00\x01a\x02\x7E\x00", "\x30\x06\x00\x01a\x02\x01\x00")),
	},
}
