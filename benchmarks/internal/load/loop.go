//go:build linux

// Package load is the load generator: one epoll loop on one thread drives all
// clients over raw sockets. Packets are encoded once and patched, read in place,
// and written many at a time, so that the generator costs a small part of what
// any broker does.
package load

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/petrelmq/petrel/benchmarks/internal/raw"
	"github.com/petrelmq/petrel/benchmarks/internal/stats"
)

// Loop runs the clients of a [Plan]. It belongs to one goroutine.
type Loop struct {
	plan  Plan
	addr  *unix.SockaddrInet4
	epoll int
	start time.Time
	now   int64 // when the bytes that are handled were read

	conns      []*conn // by file descriptor
	clients    []*conn // as in the plan
	publishers []*publisher
	paced      []*publisher // those that Plan.Rate is about
	dirty      []*conn
	source     int
	ready      int
	publishing bool
	stopped    bool

	pace   pace
	buffer []byte
	events [256]unix.EpollEvent

	// Received counts messages, Cycles connections that were opened and closed
	// again, Misordered messages that came after a later one of the same publisher.
	Received, Cycles, Misordered uint64
	// Latency is of each message that is not of the background, or of each cycle; AckLatency is from a PUBLISH to
	// its acknowledgement, where Publishing.TimeAcks is set. They may be reset at any time.
	Latency, AckLatency stats.Histogram
}

// batchBytes is about how much a publisher encodes before it writes.
const batchBytes = 64 << 10

// New makes a loop for a broker.
func New(broker netip.AddrPort, plan Plan) (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	l := &Loop{
		plan: plan, epoll: epoll, start: time.Now(), buffer: make([]byte, 256<<10), pace: pace{fd: -1},
		addr: &unix.SockaddrInet4{Port: int(broker.Port()), Addr: broker.Addr().As4()},
	}
	for i := range plan.Clients {
		c := &conn{client: &plan.Clients[i], state: closed}
		if p := c.client.Publish; p != nil {
			c.publisher = newPublisher(uint32(len(l.publishers)), p)
			c.publisher.conn = c
			l.publishers = append(l.publishers, c.publisher)
			if plan.Rate > 0 && !p.Background {
				l.paced = append(l.paced, c.publisher)
			}
		}
		l.clients = append(l.clients, c)
	}
	return l, nil
}

// Close closes everything, without a DISCONNECT.
func (l *Loop) Close() {
	for _, c := range l.clients {
		l.close(c)
	}
	l.pace.close()
	_ = unix.Close(l.epoll)
}

// clock is nanoseconds since the loop was made.
func (l *Loop) clock() int64 { return int64(time.Since(l.start)) }

// Open connects and subscribes all clients, a few at a time.
func (l *Loop) Open(timeout time.Duration) error {
	const atOnce = 64
	opened := 0
	more := func() error {
		for ; opened < len(l.clients) && opened-l.ready < atOnce; opened++ {
			if err := l.open(l.clients[opened]); err != nil {
				return err
			}
		}
		return nil
	}
	deadline := l.clock() + int64(timeout)
	for l.ready < len(l.clients) {
		if err := more(); err != nil {
			return err
		}
		if l.clock() > deadline {
			return fmt.Errorf("%d of %d clients were ready after %v", l.ready, len(l.clients), timeout)
		}
		if err := l.turn(10 * time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// Publish lets the publishers begin.
func (l *Loop) Publish() error {
	l.publishing = true
	for _, p := range l.publishers {
		l.touch(p.conn)
	}
	if l.plan.Rate > 0 {
		return l.beginPace()
	}
	return nil
}

// Run goes on for a time.
func (l *Loop) Run(d time.Duration) error {
	end := l.clock() + int64(d)
	seen, at := l.Received, l.clock()
	for now := l.clock(); now < end; now = l.clock() {
		if err := l.turn(min(time.Duration(end-now), 50*time.Millisecond)); err != nil {
			return err
		}
		if l.Received != seen {
			seen, at = l.Received, now
		} else if now-at > int64(stall) {
			l.forgive()
			at = now
		}
	}
	return nil
}

// stall is how long nothing may come before what is missing counts as lost, so
// that a broker that loses messages does not bring the run to a halt.
const stall = 300 * time.Millisecond

func (l *Loop) forgive() {
	for _, p := range l.publishers {
		p.forgiven = p.missing()
		l.touch(p.conn)
	}
}

// Drain stops publishing and waits until all is delivered, or for patience after
// the last message.
func (l *Loop) Drain(patience time.Duration) error {
	l.publishing, l.stopped = false, true
	l.pace.close()
	return l.RunUntil(l.settled, patience)
}

// RunUntil goes on until done, or for patience after the last thing happened.
func (l *Loop) RunUntil(done func() bool, patience time.Duration) error {
	progress := func() uint64 {
		n := l.Received + l.Cycles
		for _, p := range l.publishers {
			n += p.acked
		}
		return n
	}
	seen, at := progress(), l.clock()
	for !done() {
		if err := l.turn(10 * time.Millisecond); err != nil {
			return err
		}
		if n := progress(); n != seen {
			seen, at = n, l.clock()
		} else if l.clock()-at > int64(patience) {
			return nil
		}
	}
	return nil
}

func (l *Loop) settled() bool {
	for _, p := range l.publishers {
		if !p.settled() {
			return false
		}
	}
	return true
}

// Sent is how many messages were published.
func (l *Loop) Sent() uint64 { return l.sum(func(p *publisher) uint64 { return p.sent }) }

// Acked is how many of them the broker has acknowledged.
func (l *Loop) Acked() uint64 { return l.sum(func(p *publisher) uint64 { return p.acked }) }

// Missing is how many copies did not come.
func (l *Loop) Missing() uint64 {
	return l.sum((*publisher).missing)
}

func (l *Loop) sum(of func(*publisher) uint64) uint64 {
	var n uint64
	for _, p := range l.publishers {
		n += of(p)
	}
	return n
}

// turn waits for events, handles them, and writes what they have given rise to.
func (l *Loop) turn(timeout time.Duration) error {
	if err := l.flushDirty(); err != nil {
		return err
	}
	n, err := raw.EpollWait(l.epoll, l.events[:], int((timeout+time.Millisecond-1)/time.Millisecond))
	if err == unix.EINTR {
		return nil
	}
	if err != 0 {
		return fmt.Errorf("epoll_wait: %w", err)
	}
	for i := range n {
		if err := l.handle(&l.events[i]); err != nil {
			return err
		}
	}
	return l.flushDirty()
}

func (l *Loop) handle(e *unix.EpollEvent) error {
	if int(e.Fd) == l.pace.fd {
		return l.tick()
	}
	c := l.conns[e.Fd]
	if c == nil {
		return nil // closed by an event before
	}
	if e.Events&unix.EPOLLOUT != 0 {
		if c.state == connecting {
			return l.established(c)
		}
		l.touch(c)
	}
	if e.Events&^unix.EPOLLOUT != 0 {
		return l.read(c)
	}
	return nil
}

func (l *Loop) flushDirty() error {
	for i := 0; i < len(l.dirty); i++ {
		c := l.dirty[i]
		c.dirty = false
		if c.state == closed || c.state == connecting {
			continue
		}
		if err := l.fill(c); err != nil {
			return err
		}
		if err := l.flush(c); err != nil {
			return err
		}
	}
	l.dirty = l.dirty[:0]
	return nil
}

// fill encodes and writes messages as long as there is credit and the socket
// takes them.
func (l *Loop) fill(c *conn) error {
	p := c.publisher
	if p == nil || !l.publishing || l.plan.Rate > 0 && !p.plan.Background {
		return nil
	}
	for credit := p.credit(); credit > 0 && !c.armed; {
		now := l.clock()
		for ; credit > 0 && len(c.out) < batchBytes; credit-- {
			l.encode(p, now)
		}
		if err := l.flush(c); err != nil {
			return err
		}
	}
	return nil
}

// encode appends the next message of a publisher to what its connection writes.
func (l *Loop) encode(p *publisher, sent int64) {
	t, c := p.next(), p.conn
	at := len(c.out)
	c.out = append(c.out, t.packet...)
	t.stamp(c.out[at:], p.sent, sent)
	if p.times != nil {
		p.times[p.sent%uint64(len(p.times))] = sent
	}
	p.sent++
}
