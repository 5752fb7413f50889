package packets

import (
	"encoding/binary"
	"fmt"
)

// Suback answers a SUBSCRIBE (MQTT 5.0, section 3.9).
type Suback struct {
	PacketID uint16
	// ReasonString is for a person to read.
	ReasonString   []byte
	UserProperties UserProperties
	// Reasons has one code for every subscription, in the same order. The
	// slice is used again by the next Decode.
	Reasons []ReasonCode

	scratch []byte
}

// Type returns [TypeSuback].
func (p *Suback) Type() Type {
	return TypeSuback
}

// AppendTo appends the wire form of p for a peer speaking v. Failures become
// 0x80 in MQTT 3.1.1 and, as there is no code for them, QoS 0 in MQTT 3.1. On
// error dst is returned unchanged.
func (p *Suback) AppendTo(dst []byte, v Version) ([]byte, error) {
	var size sizer
	var props propertyWriter
	size.packetID(p.PacketID)
	if v == V5 {
		p.properties(&props)
		size.block(&props)
	}
	size.reasons(p.Reasons, TypeSuback)
	out, err := size.header(dst, TypeSuback.first())
	if err != nil {
		return dst, err
	}
	out = binary.BigEndian.AppendUint16(out, p.PacketID)
	if v == V5 {
		props.begin(out)
		p.properties(&props)
		out = props.dst
	}
	for _, c := range p.Reasons {
		switch {
		case c.IsError() && v == V31:
			c = GrantedQoS0
		case c.IsError() && v != V5:
			c = UnspecifiedError
		}
		out = append(out, byte(c))
	}
	return out, nil
}

func (p *Suback) properties(w *propertyWriter) {
	w.text(propReasonString, p.ReasonString)
	w.user(p.UserProperties)
}

// Decode parses the body of a SUBACK. ReasonString and UserProperties alias
// body.
func (p *Suback) Decode(flags byte, body []byte, v Version) error {
	*p = Suback{Reasons: p.Reasons[:0], scratch: p.scratch}
	r := newReader(TypeSuback, flags, body, v)
	p.PacketID = r.packetID()
	if v == V5 {
		p.ReasonString, p.UserProperties, p.scratch = r.diagnostics(inSuback, p.scratch)
	}
	p.Reasons = r.reasons(p.Reasons, TypeSuback)
	for i, c := range p.Reasons {
		if c.IsError() && (v == V31 || v == V311 && c != UnspecifiedError) {
			r.fail(ProtocolError, fmt.Sprintf("reason code 0x%02X in %v", byte(c), TypeSuback), len(body)-len(p.Reasons)+i)
		}
	}
	return r.end()
}

// reasons reads the list of reason codes at the end of SUBACK and UNSUBACK.
func (r *reader) reasons(dst []ReasonCode, t Type) []ReasonCode {
	if r.left() == 0 {
		r.fail(ProtocolError, "no reason code", r.off)
	}
	if n := r.left(); r.err == nil && cap(dst) < n {
		dst = make([]ReasonCode, 0, n)
	}
	for r.err == nil && r.left() > 0 {
		dst = append(dst, r.reason(t))
	}
	return dst
}

// reasons counts the list of reason codes at the end of SUBACK and UNSUBACK.
func (s *sizer) reasons(codes []ReasonCode, t Type) {
	if len(codes) == 0 {
		s.fail(ProtocolError, t.String()+" without reason code")
	}
	for _, c := range codes {
		s.reason(c, t)
	}
}
