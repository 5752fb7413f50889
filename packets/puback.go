package packets

// Puback answers a PUBLISH with QoS 1 (MQTT 5.0, section 3.4).
type Puback struct {
	PacketID uint16
	// Reason is Success and the properties are empty before MQTT 5.0.
	Reason ReasonCode
	// ReasonString is for a person to read.
	ReasonString   []byte
	UserProperties UserProperties

	scratch []byte
}

// Type returns [TypePuback].
func (p *Puback) Type() Type {
	return TypePuback
}

// AppendTo appends the wire form of p for a peer speaking v, in the shortest
// form there is. On error dst is returned unchanged.
func (p *Puback) AppendTo(dst []byte, v Version) ([]byte, error) {
	return (*ack)(p).appendTo(dst, TypePuback, v)
}

// Decode parses the body of a PUBACK. ReasonString and UserProperties alias body;
// user properties with another property between them are moved to memory of p.
func (p *Puback) Decode(flags byte, body []byte, v Version) error {
	return (*ack)(p).decode(TypePuback, flags, body, v)
}
