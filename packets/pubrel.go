package packets

// Pubrel answers a PUBREC and releases its packet identifier (MQTT 5.0, section
// 3.6).
type Pubrel struct {
	PacketID uint16
	// Reason is Success and the properties are empty before MQTT 5.0.
	Reason ReasonCode
	// ReasonString is for a person to read.
	ReasonString   []byte
	UserProperties UserProperties

	scratch []byte
}

// Type returns [TypePubrel].
func (p *Pubrel) Type() Type {
	return TypePubrel
}

// AppendTo appends the wire form of p for a peer speaking v, in the shortest
// form there is. On error dst is returned unchanged.
func (p *Pubrel) AppendTo(dst []byte, v Version) ([]byte, error) {
	return (*ack)(p).appendTo(dst, TypePubrel, v)
}

// Decode parses the body of a PUBREL. ReasonString and UserProperties alias body;
// user properties with another property between them are moved to memory of p.
func (p *Pubrel) Decode(flags byte, body []byte, v Version) error {
	return (*ack)(p).decode(TypePubrel, flags, body, v)
}
