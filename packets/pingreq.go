package packets

// Pingreq asks the server for a sign of life (MQTT 5.0, section 3.12).
type Pingreq struct{}

// Type returns [TypePingreq].
func (p *Pingreq) Type() Type {
	return TypePingreq
}

// AppendTo appends the wire form of p, which is the same in every version.
func (p *Pingreq) AppendTo(dst []byte, v Version) ([]byte, error) {
	return append(dst, TypePingreq.first(), 0), nil
}

// Decode checks that the body of a PINGREQ is empty.
func (p *Pingreq) Decode(flags byte, body []byte, v Version) error {
	r := newReader(TypePingreq, flags, body, v)
	return r.end()
}
