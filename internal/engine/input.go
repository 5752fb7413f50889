package engine

import (
	"bytes"
	"io"
)

// input holds the bytes of one connection that no packet has used up yet.
// While it waits for more it holds only those, not a read buffer, and nothing at
// all between two packets.
type input struct{ *Buffer }

// fill waits for more bytes and reads once.
func (s *Stream) fill(in *input) error {
	if s.raw != nil {
		n, err := s.wait.read(in)
		in.took(n)
		return err
	}
	// A plain connection cannot be waited for without reading. So it is read from
	// twice: a byte without a buffer, and then what has come with it. The second
	// read must not wait for a peer that has said all it wants to say: it is left
	// out when the byte may be the last of a packet.
	in.rest()
	if err := s.readOne(); err != nil {
		return err
	}
	begun := len(in.bytes())
	in.reserve()
	in.took(copy(in.room(), s.ahead.b[:]))
	s.ahead.held = false
	if begun > 0 && len(in.b) >= in.need {
		return nil
	}
	n, err := s.Read(in.room())
	in.took(n)
	if n > 0 {
		err = nil // it comes again
	}
	return err
}

// readOne waits for a byte, unless one is held.
func (s *Stream) readOne() error {
	if s.ahead.held {
		return nil
	}
	s.reader.Store(waiting)
	n, err := s.Read(s.ahead.b[:])
	s.reader.Store(working)
	switch {
	case n > 0: // an error comes again
		s.ahead.begun, s.ahead.held = true, true
		return nil
	case err == nil:
		return io.ErrNoProgress
	}
	return err
}

func (in *input) bytes() []byte {
	if in.Buffer == nil {
		return nil
	}
	return in.b
}

// beyond is how much is read, in bytes, behind a packet that is larger than
// bufferSize: enough to know the next one, and little to be copied.
const beyond = 4 << 10

// room is where the next read goes, after reserve.
func (in *input) room() []byte {
	room := in.all[len(in.b):]
	if in.need > bufferSize {
		room = room[:min(len(room), in.need+beyond-len(in.b))]
	}
	return room
}

// took adds n bytes that were read into room.
func (in *input) took(n int) {
	if n > 0 {
		in.b = in.all[:len(in.b)+n]
	}
}

// reserve makes room for one read behind b, in a pooled buffer. For a packet that
// is larger the buffer grows with what was received, not with what was announced.
func (in *input) reserve() {
	switch {
	case in.Buffer == nil:
		in.Buffer = getBuffer(bufferSize)
	case in.need > len(in.all) && len(in.b) > len(in.all)/2:
		in.move(min(in.need+beyond, 4*len(in.b)))
	case len(in.b) == len(in.all): // as rest has left it
		in.move(len(in.b) + 1)
	}
}

// move puts b into a buffer of at least the given size.
func (in *input) move(size int) {
	from, to := in.Buffer, getBuffer(size)
	to.b, to.need = to.all[:copy(to.all, from.b)], from.need
	from.Release()
	in.Buffer = to
}

// handle gives the bytes to h, in a round of their own.
func (in *input) handle(e *Engine, h Handler) error {
	r := e.Rounds()
	defer r.Finish()
	return in.handleIn(r, h)
}

// handleIn gives the bytes to h and keeps what it did not use.
func (in *input) handleIn(r Round, h Handler) error {
	used, need, err := h.Data(r, in.bytes(), in.Buffer)
	if err != nil || in.Buffer == nil {
		return err
	}
	in.need = need
	switch {
	case used == len(in.b):
		in.release()
	case used == 0:
	case in.retained() || need <= bufferSize && len(in.all) > bufferSize:
		in.b = in.b[used:]
		in.move(max(len(in.b), min(need+beyond, len(in.all))))
	default:
		in.b = in.b[:copy(in.b, in.b[used:])]
	}
	return nil
}

// rest gives the read buffer back before a wait, and keeps the bytes of a packet
// that has begun in a slice of their size. A large packet keeps its buffer.
func (in *input) rest() {
	switch {
	case in.Buffer == nil || len(in.b) == len(in.all) || in.need > bufferSize && len(in.all) > bufferSize:
	case len(in.b) == 0:
		in.release()
	default:
		alone := newBuffer(bytes.Clone(in.b))
		alone.b, alone.need = alone.all, in.need
		in.release()
		in.Buffer = alone
	}
}

// release gives back everything.
func (in *input) release() {
	if in.Buffer != nil {
		in.Release()
		in.Buffer = nil
	}
}
