//go:build linux

package load

import (
	"encoding/binary"

	"github.com/petrelmq/petrel/benchmarks/internal/wire"
)

// PayloadMin is the least size of a payload: when the message was sent (or was
// due), in nanoseconds of the loop's clock, who published it, and its number.
const PayloadMin = 16

// message is what a received PUBLISH says.
type message struct {
	sent      int64
	publisher uint32
	number    uint32
	id        uint16
	qos       byte
}

// parseMessage reads a message from its first byte and the beginning of its body.
// ok is false when that is too little.
func parseMessage(first byte, body []byte) (m message, ok bool) {
	_, rest, ok := wire.Topic(body)
	if !ok {
		return m, false
	}
	if m.qos = wire.QoS(first); m.qos > 0 {
		if len(rest) < 2 {
			return m, false
		}
		m.id, rest = wire.ID(rest), rest[2:]
	}
	if len(rest) < PayloadMin {
		return m, false
	}
	m.sent = int64(binary.LittleEndian.Uint64(rest))
	m.publisher = binary.LittleEndian.Uint32(rest[8:])
	m.number = binary.LittleEndian.Uint32(rest[12:])
	return m, true
}

// template is an encoded PUBLISH of which only a few bytes change.
type template struct {
	packet  []byte
	id      int // where the packet identifier is, 0 with QoS 0
	payload int // where the payload begins
}

func newTemplate(topic string, p *Publishing, publisher uint32) template {
	payload := make([]byte, max(p.Payload, PayloadMin))
	for i := range payload {
		payload[i] = byte('a' + i%26)
	}
	binary.LittleEndian.PutUint32(payload[8:], publisher)
	t := template{packet: wire.AppendPublish(nil, topic, p.QoS, p.Retain, 1, payload)}
	t.payload = len(t.packet) - len(payload)
	if p.QoS > 0 {
		t.id = t.payload - 2
	}
	return t
}

// stamp makes a packet of the template, which may be a copy of it, the message of
// this number.
func (t *template) stamp(packet []byte, number uint64, sent int64) {
	if t.id > 0 {
		binary.BigEndian.PutUint16(packet[t.id:], packetID(number))
	}
	binary.LittleEndian.PutUint64(packet[t.payload:], uint64(sent))
	binary.LittleEndian.PutUint32(packet[t.payload+12:], uint32(number))
}

// packetID gives neighbours different identifiers, none of them 0. Windows are
// far smaller than the distance after which one comes again.
func packetID(number uint64) uint16 { return uint16(number%65535) + 1 }
