//go:build linux

package main

import (
	"bytes"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/petrelmq/petrel/benchmarks/internal/raw"
	"github.com/petrelmq/petrel/benchmarks/internal/wire"
)

// peer is one connection.
type peer struct {
	fd       int
	rest     []byte // the beginning of a packet
	out      []byte // what the socket did not take, and answers
	armed    bool
	dirty    bool
	closed   bool
	topic    []byte // of the last PUBLISH
	audience *audience
	joined   []*audience
}

// audience are those who get a topic.
type audience struct{ peers []*peer }

type relay struct {
	listener, epoll int
	peers           []*peer // by file descriptor
	topics          map[string]*audience
	dirty           []*peer
	buffer          []byte
	events          [256]unix.EpollEvent
}

func newRelay(listener int) (*relay, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, listener, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(listener)})
	return &relay{listener: listener, epoll: epoll, topics: map[string]*audience{}, buffer: make([]byte, 2<<20)}, err
}

// turn waits for events, as many milliseconds or for ever, and handles them.
func (r *relay) turn(milliseconds int) error {
	n, errno := raw.EpollWait(r.epoll, r.events[:], milliseconds)
	if errno == unix.EINTR {
		return nil
	}
	if errno != 0 {
		return fmt.Errorf("epoll_wait: %w", errno)
	}
	for i := range n {
		if fd := int(r.events[i].Fd); fd == r.listener {
			r.accept()
		} else if p := r.peers[fd]; p != nil {
			r.event(p, r.events[i].Events)
		}
	}
	for _, p := range r.dirty {
		p.dirty = false
		r.write(p, nil)
	}
	r.dirty = r.dirty[:0]
	return nil
}

// shut closes everything.
func (r *relay) shut() {
	for _, p := range r.peers {
		if p != nil {
			r.close(p)
		}
	}
	_ = unix.Close(r.listener)
	_ = unix.Close(r.epoll)
}

func (r *relay) accept() {
	for {
		fd, _, err := unix.Accept4(r.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		for fd >= len(r.peers) {
			r.peers = append(r.peers, nil)
		}
		r.peers[fd] = &peer{fd: fd}
		r.watch(r.peers[fd], unix.EPOLL_CTL_ADD, unix.EPOLLIN)
	}
}

func (r *relay) watch(p *peer, op int, events uint32) {
	p.armed = events&unix.EPOLLOUT != 0
	_ = unix.EpollCtl(r.epoll, op, p.fd, &unix.EpollEvent{Events: events, Fd: int32(p.fd)})
}

func (r *relay) event(p *peer, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		r.touch(p)
	}
	if events&^unix.EPOLLOUT == 0 {
		return
	}
	kept := copy(r.buffer, p.rest)
	n, errno := raw.Read(p.fd, r.buffer[kept:])
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return
	}
	if errno != 0 || n == 0 {
		r.close(p)
		return
	}
	used := r.forward(p, r.buffer[:kept+n])
	if !p.closed {
		p.rest = append(p.rest[:0], r.buffer[used:kept+n]...)
	}
}

func (r *relay) close(p *peer) {
	p.closed = true
	r.peers[p.fd] = nil
	for _, a := range p.joined {
		a.peers = slices.DeleteFunc(a.peers, func(other *peer) bool { return other == p })
	}
	_ = unix.Close(p.fd)
}

// forward handles the whole packets of b and says how much that is. Neighbouring
// messages with one topic are written together.
func (r *relay) forward(p *peer, b []byte) (used int) {
	from := 0 // where the messages begin that are not written yet
	send := func(to int) {
		if from < to {
			for _, receiver := range p.audience.peers {
				r.write(receiver, b[from:to])
			}
		}
	}
	for used < len(b) && !p.closed {
		body, end := wire.Frame(b[used:])
		if body <= 0 || used+end > len(b) {
			break
		}
		first, content := b[used], b[used+body:used+end]
		if first>>4 == wire.Publish {
			topic, rest, _ := wire.Topic(content)
			if !bytes.Equal(topic, p.topic) {
				send(used)
				from = used
				r.address(p, topic)
			}
			r.answer(p, wire.QoS(first), rest)
		} else {
			send(used)
			from = used + end
			r.control(p, first>>4, content)
		}
		used += end
	}
	send(used)
	return used
}

func (r *relay) address(p *peer, topic []byte) {
	p.topic = append(p.topic[:0], topic...)
	p.audience = r.of(topic)
}

func (r *relay) of(topic []byte) *audience {
	a := r.topics[string(topic)]
	if a == nil {
		a = &audience{}
		r.topics[string(topic)] = a
	}
	return a
}

func (r *relay) answer(p *peer, qos byte, rest []byte) {
	switch qos {
	case 1:
		p.out = wire.AppendAck(p.out, wire.Puback, wire.ID(rest))
		r.touch(p)
	case 2:
		p.out = wire.AppendAck(p.out, wire.Pubrec, wire.ID(rest))
		r.touch(p)
	}
}

// control answers everything but PUBLISH. Identifiers are those of the publisher,
// on both sides, so there is nothing to remember.
func (r *relay) control(p *peer, kind byte, body []byte) {
	switch kind {
	case wire.Connect:
		p.out = wire.AppendConnack(p.out)
	case wire.Subscribe:
		filters := 0
		for rest := body[2:]; len(rest) > 0; filters++ {
			topic, behind, _ := wire.Topic(rest)
			a := r.of(topic)
			a.peers = append(a.peers, p)
			p.joined = append(p.joined, a)
			rest = behind[1:]
		}
		p.out = wire.AppendSuback(p.out, wire.ID(body), filters, 0)
	case wire.Pubrec:
		p.out = wire.AppendAck(p.out, wire.Pubrel, wire.ID(body))
	case wire.Pubrel:
		p.out = wire.AppendAck(p.out, wire.Pubcomp, wire.ID(body))
	case wire.Disconnect:
		r.close(p)
		return
	default:
		return
	}
	r.touch(p)
}

func (r *relay) touch(p *peer) {
	if !p.dirty {
		p.dirty = true
		r.dirty = append(r.dirty, p)
	}
}

// write writes what waits and then b, which is kept as far as the socket does not
// take it. A little waits for more until the end of the turn.
func (r *relay) write(p *peer, b []byte) {
	const little = 16 << 10
	if p.closed || len(p.out)+len(b) == 0 {
		return
	}
	if wait := len(b) > 0 && len(b) < little; wait || len(p.out) > 0 {
		p.out = append(p.out, b...)
		b = p.out
		if wait {
			r.touch(p)
			return
		}
	}
	n, errno := raw.Write(p.fd, b)
	if errno != 0 {
		n = 0 // a broken connection shows when it is read
	}
	p.out = append(p.out[:0], b[n:]...)
	if blocked := len(p.out) > 0; blocked != p.armed {
		events := uint32(unix.EPOLLIN)
		if blocked {
			events |= unix.EPOLLOUT
		}
		r.watch(p, unix.EPOLL_CTL_MOD, events)
	}
}
