package packets

import (
	"encoding/binary"
	"fmt"
	"math"
)

// propertyWriter writes one property block. A packet lists its properties
// twice: the first time they are checked and counted, and after begin they are
// written.
type propertyWriter struct {
	dst     []byte
	size    int
	writing bool
	err     error
}

// blockLen is the length of the block with its length in front.
func (w *propertyWriter) blockLen() int {
	return VarintLen(uint32(min(w.size, MaxRemaining))) + w.size
}

// begin appends the property length to dst and makes w write.
func (w *propertyWriter) begin(dst []byte) {
	w.dst = AppendVarint(dst, uint32(w.size))
	w.writing = true
}

func (w *propertyWriter) fail(code ReasonCode, detail string) {
	if w.err == nil {
		w.err = &Error{Code: code, Detail: detail}
	}
}

// number puts a property that is an integer.
func (w *propertyWriter) number(id byte, n uint32) {
	def := &properties[id]
	if !w.writing {
		if n == 0 && def.zero != Success {
			w.fail(def.zero, def.name+" 0")
		}
		w.count(def.kind, def.name, n)
		return
	}
	w.dst = append(w.dst, id)
	switch def.kind {
	case kindFlag:
		w.dst = append(w.dst, byte(n))
	case kindUint16:
		w.dst = binary.BigEndian.AppendUint16(w.dst, uint16(n))
	case kindUint32:
		w.dst = binary.BigEndian.AppendUint32(w.dst, n)
	case kindVarint:
		w.dst = AppendVarint(w.dst, n)
	}
}

func (w *propertyWriter) count(kind propertyKind, name string, n uint32) {
	limit, width := uint32(math.MaxUint32), 4
	switch kind {
	case kindFlag:
		limit, width = 1, 1
	case kindUint16:
		limit, width = math.MaxUint16, 2
	case kindVarint:
		limit, width = MaxRemaining, VarintLen(n)
	}
	if n > limit {
		w.fail(ProtocolError, fmt.Sprintf("%s %d", name, n))
	}
	w.size += 1 + width
}

// optional puts a number that is left out when it is 0.
func (w *propertyWriter) optional(id byte, n uint32) {
	if n != 0 {
		w.number(id, n)
	}
}

// flag puts a byte of the given value if set.
func (w *propertyWriter) flag(id byte, set bool, value uint32) {
	if set {
		w.number(id, value)
	}
}

// bytes puts a property that is a string or Binary Data.
func (w *propertyWriter) bytes(id byte, b []byte) {
	if w.writing {
		w.dst = appendBytes(append(w.dst, id), b)
		return
	}
	if len(b) > math.MaxUint16 {
		w.fail(MalformedPacket, fmt.Sprintf("%s of %d bytes", properties[id].name, len(b)))
	}
	w.size += 3 + len(b)
}

// text puts a string that is left out when it is empty.
func (w *propertyWriter) text(id byte, b []byte) {
	if len(b) > 0 {
		w.bytes(id, b)
	}
}

// authentication puts the method and data of CONNECT, CONNACK and AUTH.
func (w *propertyWriter) authentication(hasMethod bool, method []byte, hasData bool, data []byte) {
	if hasMethod {
		w.bytes(propAuthenticationMethod, method)
	}
	if hasData {
		if !hasMethod {
			w.fail(ProtocolError, "authentication data without method")
		}
		w.bytes(propAuthenticationData, data)
	}
}

// user puts user properties.
func (w *propertyWriter) user(u UserProperties) {
	w.wire(u, 1<<propUserProperty)
}

// wire puts properties that are in wire form already; allowed are the
// identifiers they may have.
func (w *propertyWriter) wire(block []byte, allowed uint64) {
	if w.writing {
		w.dst = append(w.dst, block...)
		return
	}
	w.size += len(block)
	for len(block) > 0 {
		id, _, rest, ok := cutProperty(block)
		if !ok || allowed>>id&1 == 0 {
			w.fail(MalformedPacket, fmt.Sprintf("property 0x%02X in a block of properties", block[0]))
			return
		}
		block = rest
	}
}
