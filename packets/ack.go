package packets

import "encoding/binary"

// ack is the layout that PUBACK, PUBREC, PUBREL and PUBCOMP share.
type ack struct {
	PacketID       uint16
	Reason         ReasonCode
	ReasonString   []byte
	UserProperties UserProperties

	scratch []byte
}

// appendTo leaves out what may be left out: the properties, and then the reason
// code if it is Success.
func (p *ack) appendTo(dst []byte, t Type, v Version) ([]byte, error) {
	var size sizer
	size.packetID(p.PacketID)
	var props propertyWriter
	if v == V5 {
		p.properties(&props)
		if props.size > 0 {
			size.reason(p.Reason, t)
			size.block(&props)
		} else if p.Reason != Success {
			size.reason(p.Reason, t)
		}
	}
	out, err := size.header(dst, t.first())
	if err != nil {
		return dst, err
	}
	out = binary.BigEndian.AppendUint16(out, p.PacketID)
	if size.n > 2 {
		out = append(out, byte(p.Reason))
	}
	if props.size > 0 {
		props.begin(out)
		p.properties(&props)
		out = props.dst
	}
	return out, nil
}

func (p *ack) properties(w *propertyWriter) {
	w.text(propReasonString, p.ReasonString)
	w.user(p.UserProperties)
}

func (p *ack) decode(t Type, flags byte, body []byte, v Version) error {
	*p = ack{scratch: p.scratch}
	r := newReader(t, flags, body, v)
	p.PacketID = r.packetID()
	if v == V5 && r.left() > 0 {
		p.Reason = r.reason(t)
	}
	if v == V5 && r.left() > 0 {
		p.ReasonString, p.UserProperties, p.scratch = r.diagnostics(1<<packetSet(t), p.scratch)
	}
	return r.end()
}

// diagnostics reads the property block of a packet whose only properties are
// Reason String and User Property.
func (r *reader) diagnostics(in packetSet, scratch []byte) (reason []byte, user UserProperties, _ []byte) {
	props := r.properties(in, scratch)
	for props.next(r) {
		switch props.id {
		case propReasonString:
			reason = props.data
		case propUserProperty:
			props.keep(r)
		}
	}
	user, scratch = props.kept()
	return reason, user, scratch
}
