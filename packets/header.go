package packets

import "strconv"

// Type is a control packet type, the upper four bits of the first byte.
type Type byte

// The control packet types (MQTT 5.0, section 2.1.2).
const (
	TypeConnect Type = iota + 1
	TypeConnack
	TypePublish
	TypePuback
	TypePubrec
	TypePubrel
	TypePubcomp
	TypeSubscribe
	TypeSuback
	TypeUnsubscribe
	TypeUnsuback
	TypePingreq
	TypePingresp
	TypeDisconnect
	TypeAuth
)

var typeNames = [...]string{
	TypeConnect:     "CONNECT",
	TypeConnack:     "CONNACK",
	TypePublish:     "PUBLISH",
	TypePuback:      "PUBACK",
	TypePubrec:      "PUBREC",
	TypePubrel:      "PUBREL",
	TypePubcomp:     "PUBCOMP",
	TypeSubscribe:   "SUBSCRIBE",
	TypeSuback:      "SUBACK",
	TypeUnsubscribe: "UNSUBSCRIBE",
	TypeUnsuback:    "UNSUBACK",
	TypePingreq:     "PINGREQ",
	TypePingresp:    "PINGRESP",
	TypeDisconnect:  "DISCONNECT",
	TypeAuth:        "AUTH",
}

// String returns the name the standard uses, such as "CONNECT".
func (t Type) String() string {
	if int(t) < len(typeNames) && t != 0 {
		return typeNames[t]
	}
	return "type " + strconv.Itoa(int(t))
}

// flags are the low four bits that the first byte of a packet of type t has.
// PUBLISH, whose flags vary, is not covered.
func (t Type) flags() byte {
	switch t {
	case TypePubrel, TypeSubscribe, TypeUnsubscribe:
		return 0b0010
	}
	return 0
}

// first is the first byte of every packet of type t but PUBLISH.
func (t Type) first() byte {
	return byte(t)<<4 | t.flags()
}

// Header is a fixed header (MQTT 5.0, section 2.1).
type Header struct {
	Type Type
	// Flags are the low four bits of the first byte. Decode judges them.
	Flags byte
	// Remaining is the length of the body in bytes, 0 to [MaxRemaining].
	Remaining int
}

// DecodeHeader reads the fixed header at the start of b. n is its length in
// bytes, 0 while b does not hold all of it yet. Type 0 and a badly encoded
// Remaining Length are MalformedPacket. Bytes behind the header are not looked
// at, so a packet can be refused for its size before its body is read.
func DecodeHeader(b []byte) (h Header, n int, err error) {
	if len(b) == 0 {
		return Header{}, 0, nil
	}
	t := Type(b[0] >> 4)
	if t == 0 {
		return Header{}, 0, &Error{Code: MalformedPacket, Detail: "packet type 0"}
	}
	remaining, n, err := DecodeVarint(b[1:])
	if err != nil {
		return Header{}, 0, &Error{Code: MalformedPacket, Detail: "remaining length of " + t.String(), Err: err}
	}
	if n == 0 {
		return Header{}, 0, nil
	}
	return Header{Type: t, Flags: b[0] & 0x0F, Remaining: int(remaining)}, n + 1, nil
}

// appendHeader appends a fixed header; it refuses a body that is too large.
func appendHeader(dst []byte, first byte, remaining int) ([]byte, error) {
	if remaining > MaxRemaining {
		return dst, &Error{Code: PacketTooLarge, Detail: Type(first>>4).String() + " of " + strconv.Itoa(remaining) + " bytes"}
	}
	return AppendVarint(append(dst, first), uint32(remaining)), nil
}
