package conformance_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Rules without a number about framing and packet layouts.

// frame is a packet of a first byte and a body.
func frame(first byte, body ...[]byte) []byte {
	all := slices.Concat(body...)
	return slices.Concat([]byte{first}, varint(len(all)), all)
}

func varint(n int) (b []byte) {
	for ; n > 127; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// block is a property block.
func block(properties ...[]byte) []byte {
	all := slices.Concat(properties...)
	return slices.Concat(varint(len(all)), all)
}

// props is an empty property block in 5.0, and nothing in the other versions.
func (t *T) props() []byte {
	if t.version == packets.V5 {
		return []byte{0}
	}
	return nil
}

// connectBody is a CONNECT of the version of the test, with rest behind the
// client identifier.
func (t *T) connectBody(flags byte, rest ...[]byte) []byte {
	head := slices.Concat(text("MQTT"), []byte{byte(t.version), flags, 0, 60}, t.props(), text(t.Unique("c")))
	return frame(0x10, head, slices.Concat(rest...))
}

func init() {
	framing()
	layouts()
	propertyRules()
}

func framing() {
	sized := func(t *T, remaining int) {
		t.Helper()
		topic := t.Unique("t")
		sub, pub := t.Client(), t.Client()
		sub.Subscribe(0, topic)
		head := slices.Concat(text(topic), t.props())
		pub.SendRaw(frame(0x30, head, make([]byte, remaining-len(head))))
		sub.ExpectPublish(topic, string(make([]byte, remaining-len(head))))
	}
	for _, n := range []int{127, 128, 16383, 16384} {
		rule("framing-1", fmt.Sprint(n), func(t *T) { sized(t, n) })
	}
	for _, n := range []int{2097151, 2097152} {
		rule("framing-2", fmt.Sprint(n), func(t *T) {
			if *targetFlag == "" {
				t.With(petrel.Options{MaximumPacketSize: 3 << 20})
			}
			sized(t, n)
		})
	}
	rule("framing-3", "", func(t *T) {
		c := t.Client()
		c.SendRaw([]byte{0xC0, 0x80, 0})
		switch p, ok := c.Next(); {
		case !ok:
			t.Saw("a plain close")
		case p.Type() == packets.TypePingresp:
			t.Saw("that it is read")
		default:
			if code := disconnectCode(t, p); code != packets.MalformedPacket {
				t.Fatalf("DISCONNECT with %v", code)
			}
			t.Saw("DISCONNECT 0x81")
		}
	})
	rule("framing-4", "", func(t *T) {
		t.With(petrel.Options{MaximumPacketSize: 1000})
		c := t.Client()
		c.SendRaw([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}) // and no byte more
		t.Refused(c, packets.PacketTooLarge)
	})
	for name, p := range map[string]packets.Packet{
		"CONNACK": &packets.Connack{}, "SUBACK": &packets.Suback{PacketID: 1, Reasons: []packets.ReasonCode{0}},
		"UNSUBACK": &packets.Unsuback{PacketID: 1, Reasons: []packets.ReasonCode{0}}, "PINGRESP": &packets.Pingresp{},
	} {
		rule("framing-5", name, func(t *T) {
			c := t.Client()
			c.Send(p)
			t.Refused(c, malformed...)
		})
	}
	for name, cut := range map[string]struct {
		first byte
		body  []byte // with the properties of 5.0 left out
	}{
		"PUBLISH in its topic":      {0x30, []byte{0, 5, 'a'}},
		"PUBLISH in its identifier": {0x32, []byte{0, 1, 'a', 0}},
		"PUBACK":                    {0x40, []byte{0}},
		"PUBREL":                    {0x62, []byte{0}},
		"PUBREC without a body":     {0x50, nil},
		"SUBSCRIBE":                 {0x82, []byte{0}},
		"UNSUBSCRIBE":               {0xA2, []byte{0}},
	} {
		rule("framing-6", name, func(t *T) {
			c := t.Client()
			c.SendRaw(frame(cut.first, cut.body))
			t.Refused(c, malformed...)
		})
	}
	rule("framing-6", "SUBSCRIBE in its filter", func(t *T) {
		c := t.Client()
		c.SendRaw(frame(0x82, []byte{0, 1}, t.props(), []byte{0, 9, 'a'}))
		t.Refused(c, malformed...)
	})
	rule("framing-6", "SUBSCRIBE before the options", func(t *T) {
		c := t.Client()
		c.SendRaw(frame(0x82, []byte{0, 1}, t.props(), []byte{0, 1, 'a'}))
		t.Refused(c, malformed...)
	})
}

// disconnectCode is the code of p, which must be a DISCONNECT.
func disconnectCode(t *T, p packets.Packet) packets.ReasonCode {
	t.Helper()
	d, ok := p.(*packets.Disconnect)
	if !ok || t.version != packets.V5 {
		t.Fatalf("got %v", p.Type())
	}
	return d.Reason
}

func layouts() {
	rule("packets-3", "", func(t *T) {
		conn, p := t.dialConn(), t.CONNECT()
		if _, err := conn.Write(raw(t, &p)); err != nil {
			t.Fatal(err)
		}
		b := readPacket(t, conn)
		if t.version != packets.V5 {
			if !slices.Equal(b, []byte{0x20, 2, 0, 0}) {
				t.Fatalf("CONNACK % x", b)
			}
			return
		}
		if b[0] != 0x20 || b[2] != 0 || b[3] != 0 {
			t.Fatalf("CONNACK % x", b)
		}
		if n, width := binary.Uvarint(b[4:]); width < 1 || int(n) != len(b)-4-width {
			t.Fatalf("CONNACK % x: %d bytes of properties", b, n)
		}
	})
	rule("packets-4", "", func(t *T) {
		topic := t.Unique("t")
		sub, pub := t.Client(), t.Client()
		sub.Subscribe(0, topic)
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(i)
		}
		for _, payload := range []string{"", "\x00", string(every)} {
			pub.Publish(topic, payload, 1)
			sub.ExpectPublish(topic, payload)
		}
	})
	rule("packets-5", "", func(t *T) {
		expectWill(t, packets.Will{}, func(c *brokertest.Client) { c.SendRaw([]byte{0xE0, 1, 0}) })
	})
	ruleBytes("packets-6", "", []byte{0xF0, 0}, packets.ProtocolError)
}

// sample has a legal value of each property.
var sample = map[byte][]byte{
	0x01: {0x01, 0}, 0x02: {0x02, 0, 0, 0, 9}, 0x03: append([]byte{0x03}, text("t")...), 0x08: append([]byte{0x08}, text("r")...),
	0x09: {0x09, 0, 1, 0xFF}, 0x0B: {0x0B, 1}, 0x11: {0x11, 0, 0, 0, 0}, 0x12: append([]byte{0x12}, text("c")...), 0x13: {0x13, 0, 60},
	0x15: append([]byte{0x15}, text("M")...), 0x16: {0x16, 0, 1, 0xFF}, 0x17: {0x17, 1}, 0x18: {0x18, 0, 0, 0, 0}, 0x19: {0x19, 1},
	0x1A: append([]byte{0x1A}, text("i")...), 0x1C: append([]byte{0x1C}, text("s")...), 0x1F: append([]byte{0x1F}, text("r")...),
	0x21: {0x21, 0, 10}, 0x22: {0x22, 0, 0}, 0x23: {0x23, 0, 1}, 0x24: {0x24, 1}, 0x25: {0x25, 1},
	0x26: slices.Concat([]byte{0x26}, text("n"), text("v")), 0x27: {0x27, 0, 1, 0, 0}, 0x28: {0x28, 1}, 0x29: {0x29, 1}, 0x2A: {0x2A, 1},
}

// carrier is a packet from a client that has a property block.
type carrier struct {
	allowed []byte
	connect bool // it is a CONNECT
	bytes   func(t *T, block []byte) []byte
}

var acknowledgement = []byte{0x1F, 0x26}

var carriers = map[string]carrier{
	"CONNECT": {[]byte{0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27}, true, func(t *T, b []byte) []byte {
		return frame(0x10, text("MQTT"), []byte{5, 2, 0, 60}, b, text(t.Unique("c")))
	}},
	"will": {[]byte{0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26}, true, func(t *T, b []byte) []byte {
		return t.connectBody(6, b, text(t.Unique("t")), text("will"))
	}},
	"PUBLISH": {[]byte{0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26}, false, func(t *T, b []byte) []byte {
		return frame(0x30, text(t.Unique("t")), b)
	}},
	"PUBACK":      {acknowledgement, false, func(t *T, b []byte) []byte { return frame(0x40, []byte{0, 9, 0}, b) }},
	"PUBREC":      {acknowledgement, false, func(t *T, b []byte) []byte { return frame(0x50, []byte{0, 9, 0}, b) }},
	"PUBREL":      {acknowledgement, false, func(t *T, b []byte) []byte { return frame(0x62, []byte{0, 9, 0}, b) }},
	"PUBCOMP":     {acknowledgement, false, func(t *T, b []byte) []byte { return frame(0x70, []byte{0, 9, 0}, b) }},
	"SUBSCRIBE":   {[]byte{0x0B, 0x26}, false, func(t *T, b []byte) []byte { return frame(0x82, []byte{0, 9}, b, text(t.Unique("t")), []byte{0}) }},
	"UNSUBSCRIBE": {[]byte{0x26}, false, func(t *T, b []byte) []byte { return frame(0xA2, []byte{0, 9}, b, text(t.Unique("t"))) }},
	"DISCONNECT":  {[]byte{0x11, 0x1F, 0x26}, false, func(t *T, b []byte) []byte { return frame(0xE0, []byte{0}, b) }},
}

// refuses sends the packet with the property block, and wants it refused.
func (k carrier) refuses(t *T, name string, b []byte, codes ...packets.ReasonCode) {
	t.Helper()
	switch {
	case k.connect:
		refusesConnect(t, k.bytes(t, b), codes...)
	case name == "DISCONNECT": // which closes the connection either way
		expectWill(t, packets.Will{}, func(c *brokertest.Client) {
			c.SendRaw(k.bytes(t, b))
			t.Refused(c, codes...)
		})
	default:
		c := t.Client()
		c.SendRaw(k.bytes(t, b))
		t.Refused(c, codes...)
	}
}

// accepts is the opposite of refuses.
func (k carrier) accepts(t *T, name string, b []byte) {
	t.Helper()
	if name == "DISCONNECT" {
		expectNoWill(t, func(c *brokertest.Client) {
			c.SendRaw(k.bytes(t, b))
			c.ExpectClosed()
		})
		return
	}
	c := t.Dial()
	if !k.connect {
		c = t.Client()
	}
	c.SendRaw(append(k.bytes(t, b), 0xC0, 0))
	for {
		switch p := c.Receive().(type) {
		case *packets.Connack:
			if p.Reason != packets.Success {
				t.Fatalf("CONNACK with %v", p.Reason)
			}
		case *packets.Disconnect:
			t.Fatalf("DISCONNECT with %v", p.Reason)
		case *packets.Pingresp:
			return
		}
	}
}

func propertyRules() {
	for name, k := range carriers {
		rule("framing-8", name, func(t *T) { k.refuses(t, name, block([]byte{0x7E, 0}), malformed...) })
		for id, value := range sample {
			what := fmt.Sprintf("%s with 0x%02X", name, id)
			if !slices.Contains(k.allowed, id) {
				rule("packets-1", what, func(t *T) { k.refuses(t, name, block(value), malformed...) })
				continue
			}
			if id != 0x26 {
				rule("framing-9", what, func(t *T) { k.refuses(t, name, block(value, value), packets.ProtocolError) })
			}
			if id != 0x15 && id != 0x16 { // they need a method that the server has
				rule("packets-2", what, func(t *T) { k.accepts(t, name, block(value)) })
			}
		}
	}
	for id, value := range sample {
		if !slices.Contains([]byte{0x15, 0x16, 0x1F, 0x26}, id) {
			rule("packets-1", fmt.Sprintf("AUTH with 0x%02X", id), func(t *T) {
				c, _ := asked(t)
				c.SendRaw(frame(0xF0, []byte{0x18}, block(sample[0x15], value)))
				t.Refused(c, malformed...)
			})
		}
	}
	rule("packets-2", "PUBLISH with 1000 user properties", func(t *T) {
		pair := slices.Concat([]byte{0x26}, text("n"), text("v"))
		k := carriers["PUBLISH"]
		if *targetFlag == "" {
			t.With(petrel.Options{MaximumUserProperties: 1000})
		}
		k.accepts(t, "PUBLISH", block([]byte(strings.Repeat(string(pair), 1000))))
	})
}
