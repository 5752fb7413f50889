// Package wire is the little of MQTT 3.1.1 that the load generator and the relay
// speak. It knows no client and no broker, only bytes; it checks nothing that a
// broker under test has to get right anyway.
package wire

import "encoding/binary"

// The first four bits of a packet.
const (
	Connect    = 1
	Connack    = 2
	Publish    = 3
	Puback     = 4
	Pubrec     = 5
	Pubrel     = 6
	Pubcomp    = 7
	Subscribe  = 8
	Suback     = 9
	Disconnect = 14
)

// AckSize is the length of PUBACK, PUBREC, PUBREL and PUBCOMP.
const AckSize = 4

// AppendConnect appends a CONNECT without keep alive. A session that is not clean
// goes on where an earlier one has ended, and outlives the connection.
func AppendConnect(dst []byte, clientID string, clean bool) []byte {
	flags := byte(0)
	if clean {
		flags |= 0x02
	}
	dst = append(dst, Connect<<4)
	dst = appendLength(dst, 12+len(clientID))
	dst = append(dst, 0, 4, 'M', 'Q', 'T', 'T', 4, flags, 0, 0)
	return appendString(dst, clientID)
}

// AppendSubscribe appends one SUBSCRIBE with all filters, at one QoS.
func AppendSubscribe(dst []byte, id uint16, qos byte, filters ...string) []byte {
	length := 2
	for _, f := range filters {
		length += 3 + len(f)
	}
	dst = append(dst, Subscribe<<4|2)
	dst = appendLength(dst, length)
	dst = binary.BigEndian.AppendUint16(dst, id)
	for _, f := range filters {
		dst = append(appendString(dst, f), qos)
	}
	return dst
}

// AppendPublish appends a PUBLISH. The identifier is left out with QoS 0.
func AppendPublish(dst []byte, topic string, qos byte, retain bool, id uint16, payload []byte) []byte {
	first := byte(Publish<<4) | qos<<1
	if retain {
		first |= 1
	}
	length := 2 + len(topic) + len(payload)
	if qos > 0 {
		length += 2
	}
	dst = append(dst, first)
	dst = appendLength(dst, length)
	dst = appendString(dst, topic)
	if qos > 0 {
		dst = binary.BigEndian.AppendUint16(dst, id)
	}
	return append(dst, payload...)
}

// AppendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP.
func AppendAck(dst []byte, kind byte, id uint16) []byte {
	first := kind << 4
	if kind == Pubrel {
		first |= 2
	}
	return append(dst, first, 2, byte(id>>8), byte(id))
}

// AppendConnack appends a CONNACK that accepts.
func AppendConnack(dst []byte) []byte {
	return append(dst, Connack<<4, 2, 0, 0)
}

// AppendSuback appends a SUBACK that grants the same QoS to each filter.
func AppendSuback(dst []byte, id uint16, filters int, qos byte) []byte {
	dst = append(dst, Suback<<4)
	dst = appendLength(dst, 2+filters)
	dst = binary.BigEndian.AppendUint16(dst, id)
	for range filters {
		dst = append(dst, qos)
	}
	return dst
}

// AppendDisconnect appends a DISCONNECT.
func AppendDisconnect(dst []byte) []byte { return append(dst, Disconnect<<4, 0) }

// Frame reads a fixed header: where the body of the first packet of b begins and
// where the packet ends, which may be behind the end of b. Zeros mean that the
// header itself is incomplete; a length that MQTT does not allow gives negative
// numbers.
func Frame(b []byte) (body, end int) {
	length := 0
	for i := 1; i < len(b); i++ {
		length |= int(b[i]&0x7F) << (7 * (i - 1))
		if b[i] < 0x80 {
			return i + 1, i + 1 + length
		}
		if i == 4 {
			return -1, -1
		}
	}
	return 0, 0
}

// QoS reads the first byte of a PUBLISH.
func QoS(first byte) byte { return first >> 1 & 3 }

// ID reads a packet identifier at the beginning of b.
func ID(b []byte) uint16 { return binary.BigEndian.Uint16(b) }

// Topic returns the topic of a PUBLISH, which lies in body, and what follows it.
// ok is false when body is too short for it.
func Topic(body []byte) (topic, rest []byte, ok bool) {
	if len(body) < 2 {
		return nil, nil, false
	}
	end := 2 + int(binary.BigEndian.Uint16(body))
	if end > len(body) {
		return nil, nil, false
	}
	return body[2:end], body[end:], true
}

func appendString(dst []byte, s string) []byte {
	return append(append(dst, byte(len(s)>>8), byte(len(s))), s...)
}

func appendLength(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}
