package packets

import (
	"encoding/binary"
	"iter"
	"math"
)

// notAProperty takes the place of a property that is too long to be written:
// identifier 0 exists nowhere, so the block is refused when it is used.
const notAProperty = 0x00

// UserProperties are the user properties of a packet in wire form, identifiers
// included, in the order they were sent. Names may repeat. Nil means none.
type UserProperties []byte

// Next splits off the first user property. name and value alias u.
func (u UserProperties) Next() (name, value []byte, rest UserProperties, ok bool) {
	id, v, more, ok := cutProperty(u)
	if !ok || id != propUserProperty {
		return nil, nil, nil, false
	}
	name, value = splitPair(v)
	return name, value, more, true
}

// All walks the names and values in order. They alias u.
func (u UserProperties) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for {
			name, value, rest, ok := u.Next()
			if !ok || !yield(name, value) {
				return
			}
			u = rest
		}
	}
}

// Len reports how many user properties there are.
func (u UserProperties) Len() int {
	n := 0
	for range u.All() {
		n++
	}
	return n
}

// Append returns u with one more user property. Name and value must be UTF-8
// without U+0000. If one is longer than 65535 bytes, the packet that u goes
// into will not encode.
func (u UserProperties) Append(name, value string) UserProperties {
	return appendPair(u, name, value)
}

// Properties are the properties that a message takes along from its publisher
// to its subscribers: Payload Format Indicator, Content Type, Response Topic,
// Correlation Data and User Property. They are in wire form, in the order they
// were sent, without a length in front. Nil means none.
//
// A block from a decoder is valid. One that was built with the Append methods
// should be checked once with [Properties.Check]; encoders look at its
// structure only.
type Properties []byte

// forwardableIDs has the identifiers that can be in Properties.
const forwardableIDs uint64 = 1<<propPayloadFormat | 1<<propContentType | 1<<propResponseTopic |
	1<<propCorrelationData | 1<<propUserProperty

// Check reports whether p could have been received: it applies the rules of
// the decoder.
func (p Properties) Check() error {
	r := reader{b: p}
	props := propertyReader{outer: p, in: forwardable}
	for props.next(&r) {
	}
	return r.err
}

// PayloadFormat returns the Payload Format Indicator: 1 says that the payload
// is UTF-8 text. ok is false if it is absent, which means the same as 0.
func (p Properties) PayloadFormat() (format byte, ok bool) {
	if v := p.find(propPayloadFormat); v != nil {
		return v[0], true
	}
	return 0, false
}

// ContentType returns the Content Type, nil if it is absent. It aliases p.
func (p Properties) ContentType() []byte {
	return p.findBytes(propContentType)
}

// ResponseTopic returns the Response Topic, nil if it is absent. It aliases p.
func (p Properties) ResponseTopic() []byte {
	return p.findBytes(propResponseTopic)
}

// CorrelationData returns the Correlation Data, nil if it is absent. It aliases
// p.
func (p Properties) CorrelationData() []byte {
	return p.findBytes(propCorrelationData)
}

// UserProperties walks the names and values in order. They alias p.
func (p Properties) UserProperties() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for {
			id, v, rest, ok := cutProperty(p)
			if !ok {
				return
			}
			if id == propUserProperty && !yield(splitPair(v)) {
				return
			}
			p = rest
		}
	}
}

// UserPropertyCount reports how many user properties there are.
func (p Properties) UserPropertyCount() int {
	n := 0
	for range p.UserProperties() {
		n++
	}
	return n
}

// AppendPayloadFormat returns p with a Payload Format Indicator: 1 for UTF-8
// text, 0 for bytes of no stated format.
func (p Properties) AppendPayloadFormat(v byte) Properties {
	return append(p, propPayloadFormat, v)
}

// AppendContentType returns p with a Content Type of at most 65535 bytes.
func (p Properties) AppendContentType(s string) Properties {
	return appendProperty(p, propContentType, s)
}

// AppendResponseTopic returns p with a Response Topic, which must be a Topic
// Name.
func (p Properties) AppendResponseTopic(s string) Properties {
	return appendProperty(p, propResponseTopic, s)
}

// AppendCorrelationData returns p with Correlation Data of at most 65535 bytes.
func (p Properties) AppendCorrelationData(b []byte) Properties {
	return appendProperty(p, propCorrelationData, b)
}

// AppendUserProperty returns p with one more User Property. Name and value have
// at most 65535 bytes each.
func (p Properties) AppendUserProperty(name, value string) Properties {
	return appendPair(p, name, value)
}

// find returns the wire form of the value of a property, nil if it is absent.
func (p Properties) find(id byte) []byte {
	for {
		got, v, rest, ok := cutProperty(p)
		switch {
		case !ok:
			return nil
		case got == id:
			return v
		}
		p = rest
	}
}

func (p Properties) findBytes(id byte) []byte {
	if v := p.find(id); v != nil {
		return v[2:]
	}
	return nil
}

func appendProperty[T []byte | string](dst []byte, id byte, value T) []byte {
	if len(value) > math.MaxUint16 {
		return append(dst, notAProperty)
	}
	return appendBytes(append(dst, id), value)
}

func appendPair(dst []byte, name, value string) []byte {
	if len(name) > math.MaxUint16 || len(value) > math.MaxUint16 {
		return append(dst, notAProperty)
	}
	dst = appendBytes(append(dst, propUserProperty), name)
	return appendBytes(dst, value)
}

// splitPair splits the value of a user property that cutProperty has measured.
func splitPair(v []byte) (name, value []byte) {
	i := 2 + int(binary.BigEndian.Uint16(v))
	return v[2:i:i], v[i+2:]
}

// cutProperty splits off the first property of a block by structure alone: the
// value is in wire form and not checked.
func cutProperty(b []byte) (id byte, value, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, nil, false
	}
	id, b = b[0], b[1:]
	n := 0
	switch propertyKindOf(id) {
	case kindFlag:
		n = 1
	case kindUint16:
		n = 2
	case kindUint32:
		n = 4
	case kindVarint:
		_, n, _ = DecodeVarint(b)
	case kindText, kindTopic, kindBinary:
		n = bytesLen(b)
	case kindPair:
		n = bytesLen(b)
		n += bytesLen(b[min(n, len(b)):])
	}
	if n == 0 || n > len(b) {
		return 0, nil, nil, false
	}
	return id, b[:n:n], b[n:], true
}

// bytesLen is the length of the length-prefixed field at the start of b. It is
// more than len(b) if the field is not all there.
func bytesLen(b []byte) int {
	if len(b) < 2 {
		return 2
	}
	return 2 + int(binary.BigEndian.Uint16(b))
}
