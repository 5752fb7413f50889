package packets

// Pubrec answers a PUBLISH with QoS 2 (MQTT 5.0, section 3.5).
type Pubrec struct {
	PacketID uint16
	// Reason is Success and the properties are empty before MQTT 5.0.
	Reason ReasonCode
	// ReasonString is for a person to read.
	ReasonString   []byte
	UserProperties UserProperties

	scratch []byte
}

// Type returns [TypePubrec].
func (p *Pubrec) Type() Type {
	return TypePubrec
}

// AppendTo appends the wire form of p for a peer speaking v, in the shortest
// form there is. On error dst is returned unchanged.
func (p *Pubrec) AppendTo(dst []byte, v Version) ([]byte, error) {
	return (*ack)(p).appendTo(dst, TypePubrec, v)
}

// Decode parses the body of a PUBREC. ReasonString and UserProperties alias body;
// user properties with another property between them are moved to memory of p.
func (p *Pubrec) Decode(flags byte, body []byte, v Version) error {
	return (*ack)(p).decode(TypePubrec, flags, body, v)
}
