//go:build unix

package engine

import (
	"io"
	"net"
	"sync/atomic"
	"syscall"
)

const rawSupported = true

// waitReader reads from a descriptor, and takes a buffer only when there is
// something to read. Its callback is made once, so that a read allocates nothing.
type waitReader struct {
	raw    syscall.RawConn
	reader *atomic.Uint32 // of the Stream
	step   func(fd uintptr) bool
	in     *input
	n      int
	err    error
}

func (r *waitReader) init(raw syscall.RawConn, reader *atomic.Uint32) {
	r.raw, r.reader = raw, reader
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
	r.reader.Store(working)
	r.in.reserve()
	r.n, r.err = readSome(int(fd), r.in.room())
	if r.n == 0 && r.err == nil {
		r.in.rest()
		r.reader.Store(waiting)
		return false
	}
	return true
}

// tryWriter writes to a descriptor without waiting for it.
type tryWriter struct {
	raw  syscall.RawConn
	step func(fd uintptr) bool
	v    net.Buffers
	n    int
	err  error
}

func (w *tryWriter) init(raw syscall.RawConn) {
	w.raw = raw
	w.step = w.writeOnce
}

func (w *tryWriter) write(v net.Buffers) (int, error) {
	w.v, w.n, w.err = v, 0, nil
	err := w.raw.Write(w.step)
	w.v = nil
	if err != nil {
		return w.n, err
	}
	return w.n, w.err
}

func (w *tryWriter) writeOnce(fd uintptr) bool {
	w.n, w.err = writeSome(int(fd), w.v)
	return true
}

// writeSome writes what the non-blocking socket takes now.
func writeSome(fd int, v net.Buffers) (n int, err error) {
	for len(v) > 0 {
		m, buffers, err := write(fd, v)
		n += m
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return n, nil
		case err != nil:
			return n, err
		case m < size(v[:buffers]):
			return n, nil // it is full
		}
		v = v[buffers:]
	}
	return n, nil
}

// readable reports whether the non-blocking socket has something to read, or its end.
func readable(fd int) bool {
	_, _, err := syscall.Recvfrom(fd, make([]byte, 1), syscall.MSG_PEEK)
	return err != syscall.EAGAIN
}

// readSome reads once from the non-blocking socket. It returns 0 and no error
// if there is nothing to read now.
func readSome(fd int, b []byte) (int, error) {
	for {
		n, err := read(fd, b)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return 0, nil
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// hasEnded reports whether the non-blocking socket has nothing more to be read.
func hasEnded(fd int) bool {
	var b [1]byte
	for {
		n, _, err := syscall.Recvfrom(fd, b[:], syscall.MSG_PEEK)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		}
		return n <= 0
	}
}

// rawGone is hasEnded for a connection of package net.
func rawGone(raw syscall.RawConn) (gone bool) {
	if raw.Control(func(fd uintptr) { gone = hasEnded(int(fd)) }) != nil {
		return true // it is closed
	}
	return gone
}
