package packets

import "encoding/binary"

// The flags of PUBLISH.
const (
	flagRetain = 1 << 0
	shiftQoS   = 1
	flagDup    = 1 << 3
)

// Publish carries an application message (MQTT 5.0, section 3.3).
type Publish struct {
	// Dup says that this may be a repeated delivery. QoS 0 has none.
	Dup    bool
	QoS    QoS
	Retain bool
	// Topic is the topic name; empty only together with a topic alias.
	Topic []byte
	// PacketID is not 0 for QoS 1 and 2; QoS 0 has none.
	PacketID      uint16
	HasTopicAlias bool
	TopicAlias    uint16

	HasMessageExpiry bool
	// MessageExpiryInterval is in seconds.
	MessageExpiryInterval uint32
	// SubscriptionIDs are only legal from a server to a client, which Decode
	// cannot tell: a server refuses them with ProtocolError. The slice is
	// used again by the next Decode.
	SubscriptionIDs []uint32
	// Properties are what is passed on to subscribers. They alias the body if
	// they are neighbours there; otherwise they are moved to memory of p that
	// the next Decode uses again.
	Properties Properties
	Payload    []byte

	scratch []byte
}

// Type returns [TypePublish].
func (p *Publish) Type() Type {
	return TypePublish
}

// AppendTo appends the wire form of p for a peer speaking v; versions before
// 5.0 have no properties. Properties are taken as they are if their structure
// is sound, and the topic if its length is: what no decoder has seen should be
// checked before. On error dst is returned unchanged.
func (p *Publish) AppendTo(dst []byte, v Version) ([]byte, error) {
	out, _, err := p.AppendHead(dst, v, len(p.Payload))
	if err != nil {
		return dst, err
	}
	return append(out, p.Payload...), nil
}

// AppendHead appends all of p that comes before the payload: fixed header,
// topic, packet identifier and properties. payloadLen is the length in bytes of
// the payload that the caller sends behind it; p.Payload is not looked at. idAt
// is the index in out of the packet identifier, two bytes, so that one head can
// be patched for many receivers; it is 0 for QoS 0. On error out is dst.
func (p *Publish) AppendHead(dst []byte, v Version, payloadLen int) (out []byte, idAt int, err error) {
	var size sizer
	if detail := p.badFlags(); detail != "" {
		size.fail(MalformedPacket, detail)
	}
	size.bytes("topic", p.Topic)
	if len(p.Topic) == 0 && (v != V5 || !p.HasTopicAlias) {
		size.fail(emptyTopic(v), "empty topic")
	}
	if p.QoS > AtMostOnce {
		size.packetID(p.PacketID)
	}
	var props propertyWriter
	if v == V5 {
		p.properties(&props)
		size.block(&props)
	}
	size.n += payloadLen
	out, err = size.header(dst, p.first())
	if err != nil {
		return dst, 0, err
	}
	out = appendBytes(out, p.Topic)
	if p.QoS > AtMostOnce {
		idAt = len(out)
		out = binary.BigEndian.AppendUint16(out, p.PacketID)
	}
	if v == V5 {
		props.begin(out)
		p.properties(&props)
		out = props.dst
	}
	return out, idAt, nil
}

// first is the first byte of the packet.
func (p *Publish) first() byte {
	b := byte(TypePublish)<<4 | byte(p.QoS)<<shiftQoS
	if p.Dup {
		b |= flagDup
	}
	if p.Retain {
		b |= flagRetain
	}
	return b
}

// badFlags tells what is wrong with the flags, "" if nothing is.
func (p *Publish) badFlags() string {
	switch {
	case p.QoS > ExactlyOnce:
		return "PUBLISH with " + p.QoS.String()
	case p.Dup && p.QoS == AtMostOnce:
		return "PUBLISH with DUP and QoS 0"
	}
	return ""
}

func (p *Publish) properties(w *propertyWriter) {
	if p.HasTopicAlias {
		w.number(propTopicAlias, uint32(p.TopicAlias))
	}
	if p.HasMessageExpiry {
		w.number(propMessageExpiry, p.MessageExpiryInterval)
	}
	for _, id := range p.SubscriptionIDs {
		w.number(propSubscriptionID, id)
	}
	w.wire(p.Properties, forwardableIDs)
}

// Decode parses the body of a PUBLISH. Topic, Properties and Payload alias body.
func (p *Publish) Decode(flags byte, body []byte, v Version) error {
	*p = Publish{
		Dup:             flags&flagDup != 0,
		QoS:             QoS(flags >> shiftQoS & 3),
		Retain:          flags&flagRetain != 0,
		SubscriptionIDs: p.SubscriptionIDs[:0],
		scratch:         p.scratch,
	}
	if detail := p.badFlags(); detail != "" {
		return &Error{Code: MalformedPacket, Detail: detail}
	}
	r := reader{b: body}
	p.Topic = r.topic("topic", TopicNameInvalid)
	if p.QoS > AtMostOnce {
		p.PacketID = r.packetID()
	}
	if v == V5 {
		p.decodeProperties(&r)
	}
	if len(p.Topic) == 0 && !p.HasTopicAlias {
		r.fail(emptyTopic(v), "empty topic", 0)
	}
	p.Payload = r.rest()
	return r.end()
}

func (p *Publish) decodeProperties(r *reader) {
	props := r.properties(inPublish, p.scratch)
	for props.next(r) {
		switch props.id {
		case propTopicAlias:
			p.HasTopicAlias, p.TopicAlias = true, uint16(props.num)
		case propMessageExpiry:
			p.HasMessageExpiry, p.MessageExpiryInterval = true, props.num
		case propSubscriptionID:
			p.SubscriptionIDs = append(p.SubscriptionIDs, props.num)
		default:
			props.keep(r)
		}
	}
	p.Properties, p.scratch = props.kept()
}

// emptyTopic is the code for a PUBLISH with neither topic nor topic alias.
func emptyTopic(v Version) ReasonCode {
	if v == V5 {
		return ProtocolError
	}
	return TopicNameInvalid
}
