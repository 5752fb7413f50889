package packets

// Pingresp answers a PINGREQ (MQTT 5.0, section 3.13).
type Pingresp struct{}

// Type returns [TypePingresp].
func (p *Pingresp) Type() Type {
	return TypePingresp
}

// AppendTo appends the wire form of p, which is the same in every version.
func (p *Pingresp) AppendTo(dst []byte, v Version) ([]byte, error) {
	return append(dst, TypePingresp.first(), 0), nil
}

// Decode checks that the body of a PINGRESP is empty.
func (p *Pingresp) Decode(flags byte, body []byte, v Version) error {
	r := newReader(TypePingresp, flags, body, v)
	return r.end()
}
