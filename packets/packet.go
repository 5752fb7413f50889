package packets

// Packet is any of the fifteen control packets.
type Packet interface {
	// Type reports which control packet it is.
	Type() Type

	// AppendTo appends the wire form, fixed header included, for a peer
	// speaking v. What v has no place for (properties, reason codes) is left
	// out. On error dst is returned unchanged.
	//
	// Lengths and ranges are checked; the UTF-8 of text that did not come from
	// a decoder is the caller's business.
	AppendTo(dst []byte, v Version) ([]byte, error)

	// Decode parses the body after the fixed header. flags are the low four
	// bits of the first byte. Byte slices alias body. Every field is
	// overwritten, so that a packet value can be used again.
	Decode(flags byte, body []byte, v Version) error
}

// New returns a zero packet of type t, nil if there is no such type.
func New(t Type) Packet {
	switch t {
	case TypeConnect:
		return new(Connect)
	case TypeConnack:
		return new(Connack)
	case TypePublish:
		return new(Publish)
	case TypePuback:
		return new(Puback)
	case TypePubrec:
		return new(Pubrec)
	case TypePubrel:
		return new(Pubrel)
	case TypePubcomp:
		return new(Pubcomp)
	case TypeSubscribe:
		return new(Subscribe)
	case TypeSuback:
		return new(Suback)
	case TypeUnsubscribe:
		return new(Unsubscribe)
	case TypeUnsuback:
		return new(Unsuback)
	case TypePingreq:
		return new(Pingreq)
	case TypePingresp:
		return new(Pingresp)
	case TypeDisconnect:
		return new(Disconnect)
	case TypeAuth:
		return new(Auth)
	}
	return nil
}
