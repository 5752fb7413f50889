package packets

import (
	"encoding/binary"
	"fmt"
	"math"
)

// sizer adds up the length of a body before anything is written, and keeps the
// first reason why it cannot be written.
type sizer struct {
	n   int
	err error
}

func (s *sizer) fail(code ReasonCode, detail string) {
	if s.err == nil {
		s.err = &Error{Code: code, Detail: detail}
	}
}

// bytes counts a field with a two byte length in front.
func (s *sizer) bytes(field string, b []byte) {
	if len(b) > math.MaxUint16 {
		s.fail(MalformedPacket, fmt.Sprintf("%s of %d bytes", field, len(b)))
	}
	s.n += 2 + len(b)
}

// packetID counts a Packet Identifier.
func (s *sizer) packetID(id uint16) {
	if id == 0 {
		s.fail(ProtocolError, "packet identifier 0")
	}
	s.n += 2
}

// reason counts a reason code that a packet of type t carries.
func (s *sizer) reason(c ReasonCode, t Type) {
	if !c.AllowedIn(t) {
		s.fail(ProtocolError, fmt.Sprintf("reason code 0x%02X in %v", byte(c), t))
	}
	s.n++
}

// block counts a property block that w has measured.
func (s *sizer) block(w *propertyWriter) {
	if s.err == nil {
		s.err = w.err
	}
	s.n += w.blockLen()
}

// header appends the fixed header that goes with what was counted.
func (s *sizer) header(dst []byte, first byte) ([]byte, error) {
	if s.err != nil {
		return dst, s.err
	}
	return appendHeader(dst, first, s.n)
}

// appendBytes appends b with its two byte length in front.
func appendBytes[T []byte | string](dst []byte, b T) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(b)))
	return append(dst, b...)
}
