package packets

// Pubcomp answers a PUBREL and ends the exchange (MQTT 5.0, section 3.7).
type Pubcomp struct {
	PacketID uint16
	// Reason is Success and the properties are empty before MQTT 5.0.
	Reason ReasonCode
	// ReasonString is for a person to read.
	ReasonString   []byte
	UserProperties UserProperties

	scratch []byte
}

// Type returns [TypePubcomp].
func (p *Pubcomp) Type() Type {
	return TypePubcomp
}

// AppendTo appends the wire form of p for a peer speaking v, in the shortest
// form there is. On error dst is returned unchanged.
func (p *Pubcomp) AppendTo(dst []byte, v Version) ([]byte, error) {
	return (*ack)(p).appendTo(dst, TypePubcomp, v)
}

// Decode parses the body of a PUBCOMP. ReasonString and UserProperties alias body;
// user properties with another property between them are moved to memory of p.
func (p *Pubcomp) Decode(flags byte, body []byte, v Version) error {
	return (*ack)(p).decode(TypePubcomp, flags, body, v)
}
