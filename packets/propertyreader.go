package packets

import "fmt"

// propertyReader walks one property block. While it does, the reader of the
// packet ends where the block ends. That reader is an argument everywhere: held
// here, it would be moved to the heap.
type propertyReader struct {
	outer []byte // what the reader goes back to once the block is done
	in    packetSet
	seen  uint64 // by identifier, all of which are below 64

	// The current property.
	id    byte
	num   uint32
	data  []byte
	start int

	// The kept properties: outer[from:to], unless a gap made them move to
	// scratch.
	from, to int
	scratch  []byte
	moved    bool
}

// properties starts on the property block that comes next, in a packet of in.
// scratch is memory for keep; it is replaced only if it is too small.
func (r *reader) properties(in packetSet, scratch []byte) propertyReader {
	p := propertyReader{outer: r.b, in: in, scratch: scratch[:0]}
	at := r.off
	n := r.varint("property length")
	if int(n) > r.left() {
		r.fail(MalformedPacket, "property length", at)
		return p
	}
	r.b = r.b[:r.off+int(n)]
	return p
}

// next reads one property into id, num and data. It reports false at the end of
// the block and on failure.
func (p *propertyReader) next(r *reader) bool {
	if r.err != nil {
		return false
	}
	if r.left() == 0 {
		r.b = p.outer
		return false
	}
	p.start = r.off
	p.id = r.uint8("property identifier")
	if propertyKindOf(p.id) == 0 || properties[p.id].in&p.in == 0 {
		r.fail(MalformedPacket, fmt.Sprintf("property 0x%02X", p.id), p.start)
		return false
	}
	def := &properties[p.id]
	if p.seen>>p.id&1 != 0 && def.repeats&p.in == 0 {
		r.fail(ProtocolError, "repeated "+def.name, p.start)
		return false
	}
	p.seen |= 1 << p.id
	p.read(r, def.kind, def.name)
	if p.num == 0 && def.zero != Success {
		r.fail(def.zero, def.name+" 0", p.start)
	}
	return r.err == nil
}

// read reads the value of the current property.
func (p *propertyReader) read(r *reader, kind propertyKind, name string) {
	p.num, p.data = 0, nil
	switch kind {
	case kindFlag:
		p.num = uint32(r.uint8(name))
		if p.num > 1 {
			r.fail(ProtocolError, name, p.start)
		}
	case kindUint16:
		p.num = uint32(r.uint16(name))
	case kindUint32:
		p.num = r.uint32(name)
	case kindVarint:
		p.num = r.varint(name)
	case kindText:
		p.data = r.text(name)
	case kindTopic:
		p.data = r.topic(name, ProtocolError)
		if len(p.data) == 0 {
			r.fail(ProtocolError, "empty "+name, p.start)
		}
	case kindBinary:
		p.data = r.binary(name)
	case kindPair:
		r.text(name)
		r.text(name)
	}
}

// keep adds the current property, in wire form, to what kept returns.
func (p *propertyReader) keep(r *reader) {
	b := r.b
	switch {
	case p.moved:
		p.scratch = append(p.scratch, b[p.start:r.off]...)
	case p.from == p.to:
		p.from, p.to = p.start, r.off
	case p.to == p.start:
		p.to = r.off
	default:
		if cap(p.scratch) < len(b)-p.from {
			p.scratch = make([]byte, 0, len(b)-p.from)
		}
		p.scratch = append(p.scratch, b[p.from:p.to]...)
		p.scratch = append(p.scratch, b[p.start:r.off]...)
		p.moved = true
	}
}

// kept returns the kept properties, nil if there are none, and the scratch
// memory for the next packet.
func (p *propertyReader) kept() (block, scratch []byte) {
	switch {
	case p.moved:
		return p.scratch[:len(p.scratch):len(p.scratch)], p.scratch
	case p.from == p.to:
		return nil, p.scratch
	}
	return p.outer[p.from:p.to:p.to], p.scratch
}
