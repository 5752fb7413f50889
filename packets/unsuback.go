package packets

import "encoding/binary"

// Unsuback answers an UNSUBSCRIBE (MQTT 5.0, section 3.11).
type Unsuback struct {
	PacketID uint16
	// ReasonString is for a person to read.
	ReasonString   []byte
	UserProperties UserProperties
	// Reasons has one code for every filter, in the same order; it is empty
	// before MQTT 5.0. The slice is used again by the next Decode.
	Reasons []ReasonCode

	scratch []byte
}

// Type returns [TypeUnsuback].
func (p *Unsuback) Type() Type {
	return TypeUnsuback
}

// AppendTo appends the wire form of p for a peer speaking v. On error dst is
// returned unchanged.
func (p *Unsuback) AppendTo(dst []byte, v Version) ([]byte, error) {
	var size sizer
	var props propertyWriter
	size.packetID(p.PacketID)
	if v == V5 {
		p.properties(&props)
		size.block(&props)
		size.reasons(p.Reasons, TypeUnsuback)
	}
	out, err := size.header(dst, TypeUnsuback.first())
	if err != nil {
		return dst, err
	}
	out = binary.BigEndian.AppendUint16(out, p.PacketID)
	if v != V5 {
		return out, nil
	}
	props.begin(out)
	p.properties(&props)
	out = props.dst
	for _, c := range p.Reasons {
		out = append(out, byte(c))
	}
	return out, nil
}

func (p *Unsuback) properties(w *propertyWriter) {
	w.text(propReasonString, p.ReasonString)
	w.user(p.UserProperties)
}

// Decode parses the body of an UNSUBACK. ReasonString and UserProperties alias
// body.
func (p *Unsuback) Decode(flags byte, body []byte, v Version) error {
	*p = Unsuback{Reasons: p.Reasons[:0], scratch: p.scratch}
	r := newReader(TypeUnsuback, flags, body, v)
	p.PacketID = r.packetID()
	if v == V5 {
		p.ReasonString, p.UserProperties, p.scratch = r.diagnostics(inUnsuback, p.scratch)
		p.Reasons = r.reasons(p.Reasons, TypeUnsuback)
	}
	return r.end()
}
