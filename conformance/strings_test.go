package conformance_test

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Statements of sections 1.5.3 and 1.5.4: UTF-8 strings; and 1.5.5: variable
// byte integers.

// badText are strings that MQTT forbids, by what is wrong with them.
var badText = map[string]string{
	"a lone continuation byte": "a\x80",
	"a cut sequence":           "a\xE2\x82",
	"an overlong slash":        "a\xC0\xAF",
	"an overlong zero":         "a\xC0\x80",
	"a high surrogate":         "a\xED\xA0\x80",
	"a low surrogate":          "a\xED\xBF\xBF",
	"above U+10FFFF":           "a\xF4\x90\x80\x80",
}

// sendText sends p, in which a text of the same length stands for the given one:
// what is illegal would not be encoded.
func sendText(t *T, c *brokertest.Client, p packets.Packet, text string) {
	b, err := p.AppendTo(nil, t.version)
	if err != nil {
		t.Fatal(err)
	}
	stand := []byte(standIn(text))
	if bytes.Count(b, stand) != 1 {
		t.Fatalf("% x does not have %q once", b, stand)
	}
	c.SendRaw(bytes.Replace(b, stand, []byte(text), 1))
}

func standIn(text string) string { return strings.Repeat("~", len(text)) }

// textFields sends a packet with the given text in one field, on a connection
// that is ready for it.
func textFields(v packets.Version) map[string]func(t *T, text string) *brokertest.Client {
	connected := func(p func(text string) packets.Packet) func(t *T, text string) *brokertest.Client {
		return func(t *T, text string) *brokertest.Client {
			c := t.Client()
			sendText(t, c, p(standIn(text)), text)
			return c
		}
	}
	connecting := func(set func(p *packets.Connect, text string)) func(t *T, text string) *brokertest.Client {
		return func(t *T, text string) *brokertest.Client {
			c, p := t.Dial(), t.CONNECT()
			set(&p, standIn(text))
			sendText(t, c, &p, text)
			return c
		}
	}
	fields := map[string]func(t *T, text string) *brokertest.Client{
		"client identifier": connecting(func(p *packets.Connect, text string) { p.ClientID = []byte(text) }),
		"will topic":        connecting(func(p *packets.Connect, text string) { p.HasWill, p.Will.Topic = true, []byte(text) }),
		"user name":         connecting(func(p *packets.Connect, text string) { p.HasUserName, p.UserName = true, []byte(text) }),
		"topic name":        connected(func(text string) packets.Packet { return &packets.Publish{Topic: []byte(text)} }),
		"topic filter": connected(func(text string) packets.Packet {
			return &packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte(text)})}
		}),
		"topic filter of UNSUBSCRIBE": connected(func(text string) packets.Packet {
			return &packets.Unsubscribe{PacketID: 1, Filters: packets.Filters(nil).Append(text)}
		}),
	}
	if v == packets.V5 {
		publish := func(props func(text string) packets.Properties) func(t *T, text string) *brokertest.Client {
			return connected(func(text string) packets.Packet {
				return &packets.Publish{Topic: []byte("a"), Properties: props(text)}
			})
		}
		fields["content type"] = publish(func(text string) packets.Properties { return packets.Properties(nil).AppendContentType(text) })
		fields["response topic"] = publish(func(text string) packets.Properties { return packets.Properties(nil).AppendResponseTopic(text) })
		fields["user property name"] = publish(func(text string) packets.Properties { return packets.Properties(nil).AppendUserProperty(text, "v") })
		fields["user property value"] = publish(func(text string) packets.Properties { return packets.Properties(nil).AppendUserProperty("n", text) })
	}
	return fields
}

func init() {
	for field, send := range textFields(packets.V5) {
		for what, text := range badText {
			mqtt5("MQTT-1.5.4-1", fmt.Sprintf("%s with %s", field, what), func(t *T) {
				t.Refused(send(t, text), packets.MalformedPacket)
			})
		}
		mqtt5("MQTT-1.5.4-2", field, func(t *T) { t.Refused(send(t, "a\x00b"), packets.MalformedPacket) })
	}
	for field, send := range textFields(packets.V311) {
		for what, text := range badText {
			mqtt311("MQTT-1.5.3-1", fmt.Sprintf("%s with %s", field, what), func(t *T) { t.Refused(send(t, text)) })
		}
		mqtt311("MQTT-1.5.3-2", field, func(t *T) { t.Refused(send(t, "a\x00b")) })
	}
	mqtt5("MQTT-1.5.4-3", "", keepsFEFF)
	mqtt311("MQTT-1.5.3-3", "", keepsFEFF)
	mqtt5("MQTT-1.5.7-1", "", func(t *T) {
		for _, pair := range [][2]string{{"a\xFF", "v"}, {"n", "a\xFF"}, {"a\x00", "v"}, {"n", "a\x00"}} {
			c := t.Client()
			bad, good := pair[0], pair[1]
			props := packets.Properties(nil).AppendUserProperty(standIn(bad), good)
			if len(good) > 1 {
				bad, good = good, bad
				props = packets.Properties(nil).AppendUserProperty(good, standIn(bad))
			}
			sendText(t, c, &packets.Publish{Topic: []byte("a"), Properties: props}, bad)
			t.Refused(c, packets.MalformedPacket)
		}
	})
}

// keepsFEFF: U+FEFF is a character like any other.
func keepsFEFF(t *T) {
	topic := t.Unique("t")
	with := "\uFEFF" + topic + "\uFEFF"
	c := t.Client()
	c.Subscribe(0, with)
	c.Publish(topic, "without", 0)
	c.Send(&packets.Publish{Topic: []byte(with), Payload: []byte("with")})
	if p := c.ExpectPublish(with, "with"); !bytes.Equal(p.Topic, []byte(with)) {
		t.Fatalf("topic %q; want %q", p.Topic, with)
	}
}
