//go:build unix

package engine

import (
	"io"
	"syscall"
)

const rawSupported = true

// waitReader reads from a descriptor, and takes a buffer only when there is
// something to read. Its callback is made once, so that a read allocates nothing.
type waitReader struct {
	raw  syscall.RawConn
	step func(fd uintptr) bool
	in   *input
	n    int
	err  error
	one  [1]byte // where a plain connection waits
}

func (r *waitReader) init(raw syscall.RawConn) {
	r.raw = raw
	r.step = r.readOnce
}

func (r *waitReader) read(in *input) (int, error) {
	r.in, r.n, r.err = in, 0, nil
	err := r.raw.Read(r.step)
	r.in = nil
	if err != nil {
		return 0, err
	}
	return r.n, r.err
}

// readOnce is called when the descriptor may be readable; false waits for it.
func (r *waitReader) readOnce(fd uintptr) bool {
	in := r.in
	in.reserve()
	for {
		n, err := syscall.Read(int(fd), in.b[len(in.b):cap(in.b)])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			in.rest()
			return false
		case err != nil:
			r.err = err
		case n == 0:
			r.err = io.EOF
		}
		r.n = max(n, 0)
		return true
	}
}

// tryWriter writes to a descriptor without waiting for it.
type tryWriter struct {
	raw  syscall.RawConn
	step func(fd uintptr) bool
	b    []byte
	n    int
	err  error
}

func (w *tryWriter) init(raw syscall.RawConn) {
	w.raw = raw
	w.step = w.writeOnce
}

func (w *tryWriter) write(b []byte) (int, error) {
	w.b, w.n, w.err = b, 0, nil
	err := w.raw.Write(w.step)
	w.b = nil
	if err != nil {
		return w.n, err
	}
	return w.n, w.err
}

func (w *tryWriter) writeOnce(fd uintptr) bool {
	for w.n < len(w.b) {
		n, err := syscall.Write(int(fd), w.b[w.n:])
		if n > 0 {
			w.n += n
		}
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return true
		case err != nil:
			w.err = err
			return true
		}
	}
	return true
}
