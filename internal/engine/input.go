package engine

import "io"

// input holds the bytes of one connection that no packet has used up yet.
// While it waits for more it holds only those, not a read buffer.
type input struct {
	buf  *Buffer // pooled, while reading and handling; b is its beginning
	b    []byte  // received and not used: in buf, or alone between two reads
	need int     // size of the packet that b begins, 0 if not known
}

// fill waits for more bytes and reads once.
func (s *Stream) fill(in *input) error {
	if s.raw != nil {
		n, err := s.wait.read(in)
		in.b = in.b[:len(in.b)+n]
		return err
	}
	// A plain connection cannot be waited for without reading. So it is read from
	// twice: a byte without a buffer, and then what has come with it. The second
	// read must not wait for a peer that has said all it wants to say: it is left
	// out when the byte may be the last of a packet.
	in.rest()
	one := s.wait.one[:]
	s.reader.Store(waiting)
	n, err := s.Read(one)
	s.reader.Store(working)
	if n == 0 {
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	begun := len(in.b)
	in.reserve()
	in.b = append(in.b, one[0])
	if begun > 0 && len(in.b) >= in.need {
		return nil
	}
	n, err = s.Read(in.room())
	in.b = in.b[:len(in.b)+n]
	if n > 0 {
		err = nil // it comes again
	}
	return err
}

// beyond is how much is read, in bytes, behind a packet that is larger than
// bufferSize: enough to know the next one, and little to be copied.
const beyond = 4 << 10

// room is where the next read goes.
func (in *input) room() []byte {
	room := in.b[len(in.b):cap(in.b)]
	if in.need > bufferSize {
		room = room[:min(len(room), in.need+beyond-len(in.b))]
	}
	return room
}

// reserve makes room for one read behind b, in a pooled buffer. For a packet that
// is larger the buffer grows with what was received, not with what was announced.
func (in *input) reserve() {
	if in.buf == nil {
		in.move(max(bufferSize, len(in.b)))
	}
	if in.need > cap(in.b) && len(in.b) > cap(in.b)/2 {
		in.move(min(in.need+beyond, 4*len(in.b)))
	}
}

// move puts b into a buffer of at least the given size.
func (in *input) move(size int) {
	to := getBuffer(size)
	n := copy(to.b, in.b)
	if in.buf != nil {
		in.buf.Release()
	}
	in.buf, in.b = to, to.b[:n]
}

// handle gives the bytes to h, in a round of their own.
func (in *input) handle(e *Engine, h Handler) error {
	r := e.Rounds()
	defer r.Finish()
	return in.handleIn(r, h)
}

// handleIn gives the bytes to h and keeps what it did not use.
func (in *input) handleIn(r Round, h Handler) error {
	used, need, err := h.Data(r, in.b, in.buf)
	if err != nil {
		return err
	}
	in.need = need
	switch {
	case used == 0:
	case used == len(in.b):
		in.release()
	case in.buf != nil && (in.buf.retained() || need <= bufferSize && len(in.buf.b) > bufferSize):
		in.b = in.b[used:]
		in.move(max(bufferSize, len(in.b), min(need+beyond, len(in.buf.b))))
	default:
		n := copy(in.b, in.b[used:])
		in.b = in.b[:n]
	}
	return nil
}

// rest gives the read buffer back before a wait, and keeps the bytes of a packet
// that has begun in a slice of their size. A large packet keeps its buffer.
func (in *input) rest() {
	if in.buf == nil || in.need > bufferSize && len(in.buf.b) > bufferSize {
		return
	}
	var kept []byte
	if len(in.b) > 0 {
		kept = append(kept, in.b...)
	}
	need := in.need
	in.release()
	in.b, in.need = kept, need
}

// release gives back everything.
func (in *input) release() {
	if in.buf != nil {
		in.buf.Release()
	}
	*in = input{}
}
