package packets

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// reader reads the fields of a packet body in order. The first failure sticks:
// what is read after it is zero, so that a decoder checks once, at its end.
type reader struct {
	b   []byte
	off int
	err error
}

// newReader starts on the body of a packet of type t and judges its flags.
// MQTT 3.1 gives no meaning to the flags outside PUBLISH, so any will do.
func newReader(t Type, flags byte, body []byte, v Version) reader {
	r := reader{b: body}
	r.checkFlags(t, flags, v)
	return r
}

func (r *reader) checkFlags(t Type, flags byte, v Version) {
	if flags != t.flags() && v != V31 && r.err == nil {
		r.err = &Error{Code: MalformedPacket, Detail: fmt.Sprintf("flags %04b of %v", flags, t)}
	}
}

// fail records the first failure: field is what was read, at where it starts.
func (r *reader) fail(code ReasonCode, field string, at int) {
	if r.err == nil {
		r.err = &Error{Code: code, Detail: field + " at byte " + strconv.Itoa(at)}
	}
}

func (r *reader) left() int {
	return len(r.b) - r.off
}

// take returns the next n bytes, nil if n is 0.
func (r *reader) take(n int, field string) []byte {
	if r.err != nil || n == 0 {
		return nil
	}
	if n > r.left() {
		r.fail(MalformedPacket, field, r.off)
		return nil
	}
	i := r.off
	r.off += n
	return r.b[i:r.off:r.off]
}

// rest returns all bytes that are left.
func (r *reader) rest() []byte {
	return r.take(r.left(), "")
}

func (r *reader) uint8(field string) byte {
	if b := r.take(1, field); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16(field string) uint16 {
	if b := r.take(2, field); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32(field string) uint32 {
	if b := r.take(4, field); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) varint(field string) uint32 {
	if r.err != nil {
		return 0
	}
	value, n, err := DecodeVarint(r.b[r.off:])
	if err != nil || n == 0 {
		r.fail(MalformedPacket, field, r.off)
		return 0
	}
	r.off += n
	return value
}

// binary reads Binary Data: a two byte length and as many bytes.
func (r *reader) binary(field string) []byte {
	return r.take(int(r.uint16(field)), field)
}

// text reads a UTF-8 Encoded String.
func (r *reader) text(field string) []byte {
	at := r.off
	b := r.binary(field)
	if !validText(b) {
		r.fail(MalformedPacket, field, at)
	}
	return b
}

// topic reads a Topic Name, which may be empty; wildcard is the code for one
// with a wildcard in it.
func (r *reader) topic(field string, wildcard ReasonCode) []byte {
	at := r.off
	b := r.binary(field)
	if code := checkTopic(b); code == TopicNameInvalid {
		r.fail(wildcard, "wildcard in "+field, at)
	} else if code != Success {
		r.fail(code, field, at)
	}
	return b
}

func (r *reader) packetID() uint16 {
	at := r.off
	id := r.uint16("packet identifier")
	if id == 0 {
		r.fail(ProtocolError, "packet identifier 0", at)
	}
	return id
}

// reason reads a reason code that a packet of type t may carry.
func (r *reader) reason(t Type) ReasonCode {
	at := r.off
	c := ReasonCode(r.uint8("reason code"))
	if r.err == nil && !c.AllowedIn(t) {
		r.fail(ProtocolError, fmt.Sprintf("reason code 0x%02X in %v", byte(c), t), at)
	}
	return c
}

// end reports the failure, which is also that bytes are left.
func (r *reader) end() error {
	if r.left() > 0 {
		r.fail(MalformedPacket, "surplus bytes", r.off)
	}
	return r.err
}

// validText reports whether b is legal in a UTF-8 Encoded String.
func validText(b []byte) bool {
	return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0
}

// checkTopic reports what is wrong with a Topic Name: MalformedPacket for bad
// text, TopicNameInvalid for a wildcard. One pass, as most topics are short.
func checkTopic(b []byte) ReasonCode {
	ascii, wildcard := true, false
	for _, c := range b {
		switch {
		case c == 0:
			return MalformedPacket
		case c == '+' || c == '#':
			wildcard = true
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	switch {
	case !ascii && !utf8.Valid(b):
		return MalformedPacket
	case wildcard:
		return TopicNameInvalid
	}
	return Success
}
