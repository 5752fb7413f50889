package listeners

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// The opcodes of RFC 6455, section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// The status codes of RFC 6455, section 7.4.1, that are sent here.
const (
	closeNormal      = 1000
	closeGoingAway   = 1001
	closeProtocol    = 1002
	closeUnsupported = 1003
	closeNoStatus    = 1005 // stands for a close frame without a status
)

const (
	maxHeader  = 14  // of a client's frame: 2, a length of 8, a mask of 4
	maxControl = 125 // payload of a control frame
)

// frameError is a breach of RFC 6455 by the client, or a text frame.
type frameError struct {
	status int // for the close frame that answers it
	reason string
}

func (e *frameError) Error() string {
	return fmt.Sprintf("listeners: websocket: %s (status %d)", e.reason, e.status)
}

// frameDecoder takes the frames of a client apart. It holds no payload but
// that of a control frame, and can stop and go on at any byte.
type frameDecoder struct {
	header     [maxHeader]byte
	have       int    // bytes of header that have arrived
	left       uint64 // bytes of payload to come, once the header is complete
	masked     int    // bytes of payload that have arrived, modulo 4
	inPayload  bool
	fragmented bool // the next data frame must continue a message
	control    []byte
	ping       []byte // payload of the last ping, until it is taken; not nil if there is one
}

// decode replaces the bytes in p, as they came from the client, by the data
// they carry, and returns its length. On an error, which is io.EOF if the client closes and a *frameError
// if it breaks the rules, the n bytes before it are still good; status is
// what to answer.
func (d *frameDecoder) decode(p []byte) (n, status int, err error) {
	for i := 0; i < len(p); {
		if !d.inPayload {
			used, err := d.readHeader(p[i:])
			if err != nil {
				return n, err.status, err
			}
			i += used
		}
		if !d.inPayload {
			break // the header goes on in the next p
		}
		chunk := p[i : i+int(min(d.left, uint64(len(p)-i)))]
		i += len(chunk)
		d.unmask(chunk)
		d.left -= uint64(len(chunk))
		if d.opcode() <= opBinary {
			n += copy(p[n:], chunk)
		} else if d.opcode() != opPong {
			d.control = append(d.control, chunk...)
		}
		if d.left > 0 {
			break
		}
		if status, err := d.endFrame(); err != nil {
			return n, status, err
		}
	}
	return n, 0, nil
}

func (d *frameDecoder) opcode() byte { return d.header[0] & 0x0F }

// readHeader takes bytes of the header from p and returns how many. The
// header is complete when inPayload is set.
func (d *frameDecoder) readHeader(p []byte) (int, *frameError) {
	used := 0
	if d.have < 2 {
		if used = d.take(p, 2); d.have < 2 {
			return used, nil
		}
		if err := d.check(); err != nil {
			return used, err
		}
	}
	size := d.headerSize()
	if used += d.take(p[used:], size); d.have < size {
		return used, nil
	}
	switch length := d.header[1] & 0x7F; length {
	case 126:
		d.left = uint64(binary.BigEndian.Uint16(d.header[2:]))
	case 127:
		d.left = binary.BigEndian.Uint64(d.header[2:])
		if d.left > math.MaxInt64 {
			return used, &frameError{closeProtocol, "frame length has its highest bit set"}
		}
	default:
		d.left = uint64(length)
	}
	d.inPayload = true
	return used, nil
}

// take moves bytes of p to the header, until it has size.
func (d *frameDecoder) take(p []byte, size int) int {
	n := copy(d.header[d.have:size], p)
	d.have += n
	return n
}

// headerSize tells the size of the header from its first two bytes.
func (d *frameDecoder) headerSize() int {
	switch d.header[1] & 0x7F {
	case 126:
		return 2 + 2 + 4
	case 127:
		return 2 + 8 + 4
	}
	return 2 + 4
}

// check judges the first two bytes of a header, and keeps account of
// fragments.
func (d *frameDecoder) check() *frameError {
	fin, length := d.header[0]&0x80 != 0, d.header[1]&0x7F
	if d.header[0]&0x70 != 0 {
		return &frameError{closeProtocol, "reserved bit without an extension"}
	}
	if d.header[1]&0x80 == 0 {
		return &frameError{closeProtocol, "frame is not masked"}
	}
	switch d.opcode() {
	case opText:
		return &frameError{closeUnsupported, "text frame"}
	case opContinuation, opBinary:
		if d.fragmented != (d.opcode() == opContinuation) {
			return &frameError{closeProtocol, "frame does not continue the message before it"}
		}
		d.fragmented = !fin
	case opClose, opPing, opPong:
		if !fin || length > maxControl {
			return &frameError{closeProtocol, "control frame is fragmented or too long"}
		}
	default:
		return &frameError{closeProtocol, "reserved opcode"}
	}
	return nil
}

// endFrame acts on a complete frame and makes ready for the next.
func (d *frameDecoder) endFrame() (status int, err error) {
	payload := d.control
	d.control, d.inPayload, d.have, d.masked = nil, false, 0, 0
	switch d.opcode() {
	case opPing:
		d.control = d.ping[:0] // of a ping that is overtaken
		if d.ping = payload; payload == nil {
			d.ping = []byte{}
		}
	case opClose:
		switch len(payload) {
		case 0:
			return closeNoStatus, io.EOF
		case 1:
			return closeProtocol, io.EOF
		}
		return echoStatus(binary.BigEndian.Uint16(payload)), io.EOF
	}
	return 0, nil
}

// takePing returns the payload of the last ping that came, nil if there was
// none since the last call.
func (d *frameDecoder) takePing() []byte {
	ping := d.ping
	if d.ping = nil; !d.inPayload {
		d.control = nil
	}
	return ping
}

// echoStatus returns the status that answers a close frame with this one: the
// same, unless it must not appear in a frame.
func echoStatus(status uint16) int {
	switch {
	case status < 1000, status >= 5000, 1004 <= status && status <= 1006, status == 1015:
		return closeProtocol
	}
	return int(status)
}

// unmask applies the mask of the frame to its next bytes of payload.
func (d *frameDecoder) unmask(p []byte) {
	key := d.header[d.headerSize()-4 : d.headerSize()]
	for len(p) > 0 && d.masked != 0 {
		p[0] ^= key[d.masked]
		d.masked = (d.masked + 1) % 4
		p = p[1:]
	}
	if len(p) == 0 {
		return
	}
	word := uint64(binary.LittleEndian.Uint32(key))
	word |= word << 32
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^word)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= key[i%4]
	}
	d.masked = len(p) % 4
}

// appendHeader appends the header of a server's frame, which is neither
// fragmented nor masked.
func appendHeader(dst []byte, opcode byte, length int) []byte {
	dst = append(dst, 0x80|opcode)
	switch {
	case length <= 125:
		return append(dst, byte(length))
	case length <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(length))
}
