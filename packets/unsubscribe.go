package packets

import (
	"encoding/binary"
	"iter"
)

// Filters are the topic filters of an UNSUBSCRIBE in wire form, in the order
// they were sent.
type Filters []byte

// Next splits off the first filter, which aliases f.
func (f Filters) Next() ([]byte, Filters, bool) {
	n := bytesLen(f)
	if n > len(f) {
		return nil, nil, false
	}
	return f[2:n:n], f[n:], true
}

// All walks the filters in order. They alias f.
func (f Filters) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for {
			filter, rest, ok := f.Next()
			if !ok || !yield(filter) {
				return
			}
			f = rest
		}
	}
}

// Len reports how many filters there are.
func (f Filters) Len() int {
	n := 0
	for range f.All() {
		n++
	}
	return n
}

// Append returns f with one more filter. One that is longer than 65535 bytes is
// found when the UNSUBSCRIBE is encoded.
func (f Filters) Append(filter string) Filters {
	return appendFilter(f, filter)
}

// Unsubscribe ends subscriptions (MQTT 5.0, section 3.10).
type Unsubscribe struct {
	PacketID       uint16
	UserProperties UserProperties
	// Filters has at least one entry. Decode checks that they are UTF-8, but
	// not their syntax; a filter may even be empty.
	Filters Filters

	scratch []byte
}

// Type returns [TypeUnsubscribe].
func (p *Unsubscribe) Type() Type {
	return TypeUnsubscribe
}

// AppendTo appends the wire form of p for a peer speaking v. On error dst is
// returned unchanged.
func (p *Unsubscribe) AppendTo(dst []byte, v Version) ([]byte, error) {
	var size sizer
	var props propertyWriter
	size.packetID(p.PacketID)
	if v == V5 {
		props.user(p.UserProperties)
		size.block(&props)
	}
	r := reader{b: p.Filters, err: size.err}
	r.filters()
	size.err = r.err
	size.n += len(p.Filters)
	out, err := size.header(dst, TypeUnsubscribe.first())
	if err != nil {
		return dst, err
	}
	out = binary.BigEndian.AppendUint16(out, p.PacketID)
	if v == V5 {
		props.begin(out)
		props.user(p.UserProperties)
		out = props.dst
	}
	return append(out, p.Filters...), nil
}

// Decode parses the body of an UNSUBSCRIBE. UserProperties and Filters alias
// body.
func (p *Unsubscribe) Decode(flags byte, body []byte, v Version) error {
	*p = Unsubscribe{scratch: p.scratch}
	r := newReader(TypeUnsubscribe, flags, body, v)
	p.PacketID = r.packetID()
	if v == V5 {
		_, p.UserProperties, p.scratch = r.diagnostics(inUnsubscribe, p.scratch)
	}
	start := r.off
	r.filters()
	if r.err != nil {
		return r.err
	}
	p.Filters = body[start:len(body):len(body)]
	return nil
}

// filters checks what is left as a list of topic filters.
func (r *reader) filters() {
	if r.left() == 0 {
		r.fail(ProtocolError, "no topic filter", r.off)
	}
	for r.err == nil && r.left() > 0 {
		r.text("topic filter")
	}
}
