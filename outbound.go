package petrel

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// flushFrom is the size in bytes at which an outbound buffer is flushed
	// before the batch that fills it has ended.
	flushFrom = 64 << 10
	// flushLargeFrom is the same for payloads that are referred to: writing them
	// is what costs, and several at once cost less. The scenario
	// large/64KiB of benchmarks shows it.
	flushLargeFrom = 8 * flushFrom
	// lastWords is how long a closing connection may take for its last packets.
	lastWords = time.Second
)

// outbound is the bounded buffer between publishers and one client's socket.
// Whoever pushes may flush without blocking; what the socket refuses is written
// by the engine, as the socket takes it. Exactly one of them writes at a time.
// Nothing here blocks a publisher.
type outbound struct {
	client *Client
	size   atomic.Int64 // bytes not yet taken by the socket, those being written included; written under mu
	more   atomic.Bool  // the session has messages that waited for room here

	mu       sync.Mutex    // held for moves of pointers and bytes only, never across I/O
	promised bool          // somebody who pushed is going to flush
	writing  bool          // some goroutine is between taking pending and the end of its write
	closed   bool          // nothing more is taken
	pending  *frames       // nil while there is nothing to write
	draining *frames       // of writing, while the engine has what the socket refused
	gate     *gate         // what waits for commits of the store; nil if nothing does
	hold     chan struct{} // closed when the buffer is half empty again
	idle     chan struct{} // closed when the writer has ended
}

// push appends a packet, given as head and payload. At idAt in the head, unless
// that is 0, the packet identifier is put in. It reports whether the caller has to
// flush, and how many bytes wait now.
func (o *outbound) push(head []byte, payload content, idAt int, id uint16) (mustFlush bool, size int) {
	return o.pushAfter(nil, head, payload, idAt, id)
}

// pushAfter is push for a packet that must not leave before a commit is safe; nil
// is none.
func (o *outbound) pushAfter(after *commit, head []byte, payload content, idAt int, id uint16) (mustFlush bool, size int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false, 0
	}
	var f *frames
	if after != nil || o.gate != nil {
		f = o.stagedLocked(after)
	}
	staged := f != nil
	if !staged {
		if o.pending == nil {
			o.pending = framesPool.Get().(*frames)
		}
		f = o.pending
	}
	f.add(head, payload, idAt, id)
	size = int(o.size.Add(int64(len(head) + len(payload.b))))
	if staged {
		return false, size // what it waits for sees to the flush
	}
	mustFlush = !o.promised
	o.promised = true
	return mustFlush, size
}

// pushLast appends the last packet of the connection and takes no more. It gives
// up what waits for commits. If the CONNACK is among that, nothing may come instead.
func (o *outbound) pushLast(packet []byte) {
	o.mu.Lock()
	silent := o.awaitsConnackLocked()
	o.dropStagesLocked()
	o.mu.Unlock()
	if !silent {
		o.push(packet, content{}, 0, 0)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}

// room reports whether messages may be pushed.
func (o *outbound) room() bool { return o.waiting() < o.limit() }

// waiting is how many bytes the socket has not taken.
func (o *outbound) waiting() int { return int(o.size.Load()) }

// limit is from how many bytes on it counts as full.
func (o *outbound) limit() int { return o.client.broker.opts.OutboundBytes }

// flush writes what the socket takes, without blocking, and leaves the rest to a writer.
func (o *outbound) flush() {
	for {
		f := o.take()
		if f == nil {
			return
		}
		n, err := o.client.conn.TryWrite(f.buffers())
		if err == nil && n < f.total() {
			o.wrote(n)
			o.draining = f
			o.client.conn.Drain(f.after(n), o)
			return
		}
		f.recycle()
		if o.finish(n, err) {
			continue
		}
		if err != nil {
			o.client.stop(err)
		} else if o.more.Load() {
			o.client.conn.Drain(nil, o)
		}
		return
	}
}

// take makes the caller the writer of all that is pending, or returns nil.
func (o *outbound) take() *frames {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.promised = false
	if o.writing || o.pending == nil {
		return nil
	}
	f := o.pending
	o.pending = nil
	o.writing = true
	return f
}

// finish ends a write of n bytes, and reports whether more is pending.
func (o *outbound) finish(n int, err error) (more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing = false
	o.wroteLocked(n, err)
	if o.pending != nil {
		return true
	}
	if o.idle != nil {
		close(o.idle)
		o.idle = nil
	}
	return false
}

func (o *outbound) wrote(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wroteLocked(n, nil)
}

func (o *outbound) wroteLocked(n int, err error) {
	o.size.Add(-int64(n))
	if err != nil {
		o.closed = true
		o.pending, o.gate = nil, nil
		o.size.Store(0)
	}
	if o.hold != nil && (o.closed || o.waiting() <= o.limit()/2) {
		close(o.hold)
		o.hold = nil
	}
}

// Wrote is called by the engine when it has written what the socket had refused.
func (o *outbound) Wrote(n int, err error) {
	f := o.draining
	o.draining = nil
	o.finish(n, err)
	f.recycle()
	if err != nil {
		o.client.stop(err)
	}
}

// Next is called by the engine when the socket takes more.
func (o *outbound) Next() net.Buffers {
	o.client.refill()
	f := o.take()
	if f == nil {
		return nil
	}
	o.draining = f
	return f.buffers()
}

// held returns a channel that is closed when the buffer is no longer full, or
// nil if it is not.
func (o *outbound) held() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.waiting() <= o.limit() {
		return nil
	}
	if o.hold == nil {
		o.hold = make(chan struct{})
	}
	return o.hold
}

// release lets a reader go on that waits for held, because the connection ends.
func (o *outbound) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.hold != nil {
		close(o.hold)
		o.hold = nil
	}
}

// shut takes no more and writes what the socket takes now. It reports whether that
// was all, so that nobody writes any more.
func (o *outbound) shut() bool {
	o.mu.Lock()
	o.closed = true
	o.dropStagesLocked()
	o.mu.Unlock()
	o.flush()
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.writing && o.pending == nil // pending alone is with a writer between two writes
}

// close is shut, and waits until all is written, for at most lastWords.
func (o *outbound) close() {
	if o.shut() {
		return
	}
	idle := o.untilIdle()
	if idle == nil {
		return
	}
	t := time.NewTimer(lastWords)
	defer t.Stop()
	select {
	case <-idle:
	case <-t.C:
		o.client.conn.Abort()
		<-idle
	}
}

// untilIdle returns a channel that is closed when all is written, nil if it is.
func (o *outbound) untilIdle() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.writing && o.pending == nil {
		return nil
	}
	if o.idle == nil {
		o.idle = make(chan struct{})
	}
	return o.idle
}
