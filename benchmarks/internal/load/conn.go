//go:build linux

package load

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/petrelmq/petrel/benchmarks/internal/raw"
	"github.com/petrelmq/petrel/benchmarks/internal/wire"
)

// conn is one connection of the generator. At rest it holds no read buffer.
type conn struct {
	fd        int
	client    *Client
	publisher *publisher // nil for who only listens
	state     state
	began     int64 // when it was opened

	rest []byte  // the beginning of a packet whose end has not come
	skip int     // bytes of a large PUBLISH that are still to come
	late message // that PUBLISH

	out   []byte // encoded and not written
	off   int    // of which this much is written
	armed bool   // the socket refused data, epoll tells when it takes some
	dirty bool   // in Loop.dirty

	last message // the last one that came
}

type state byte

const (
	connecting state = iota
	connected        // waits for CONNACK
	subscribing
	ready
	leaving
	closed
)

// open starts to connect from an address of its own choice, as one address has
// only some ten thousand ports.
func (l *Loop) open(c *conn) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket for %s: %w", c.client.ID, err)
	}
	c.fd, c.state, c.began, c.off, c.skip = fd, connecting, l.clock(), 0, 0
	c.out, c.rest = c.out[:0], c.rest[:0]
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if c.client.Deaf {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
	}
	l.source++
	from := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + l.source%sources)}}
	if err := unix.Bind(fd, from); err != nil {
		return fmt.Errorf("bind %s: %w", c.client.ID, err)
	}
	if err := unix.Connect(fd, l.addr); err != nil && err != unix.EINPROGRESS {
		return fmt.Errorf("connect %s: %w", c.client.ID, err)
	}
	for fd >= len(l.conns) {
		l.conns = append(l.conns, nil)
	}
	l.conns[fd] = c
	return l.watch(c, unix.EPOLL_CTL_ADD, unix.EPOLLIN|unix.EPOLLOUT)
}

// sources is how many addresses of the loopback network are used.
const sources = 40

func (l *Loop) watch(c *conn, op int, events uint32) error {
	c.armed = events&unix.EPOLLOUT != 0
	err := unix.EpollCtl(l.epoll, op, c.fd, &unix.EpollEvent{Events: events, Fd: int32(c.fd)})
	if err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// established goes on after connect.
func (l *Loop) established(c *conn) error {
	if code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
		return fmt.Errorf("connect %s: %w", c.client.ID, unix.Errno(code))
	}
	c.state = connected
	c.out = wire.AppendConnect(c.out, c.client.ID, !c.client.Lasting)
	return l.flush(c)
}

// control handles the packets that open a connection.
func (l *Loop) control(c *conn, kind byte, body []byte) error {
	switch {
	case kind == wire.Connack && c.state == connected && len(body) == 2 && body[1] == 0:
		if len(c.client.Filters) > 0 {
			c.state = subscribing
			c.out = wire.AppendSubscribe(c.out, 1, c.client.QoS, c.client.Filters...)
			l.touch(c)
			return nil
		}
	case kind == wire.Suback && c.state == subscribing && len(body) == 2+len(c.client.Filters) && granted(body[2:]):
	default:
		return fmt.Errorf("%s got packet % x of type %d in state %d", c.client.ID, body[:min(len(body), 32)], kind, c.state)
	}
	return l.isReady(c)
}

func granted(codes []byte) bool {
	for _, code := range codes {
		if code > 2 {
			return false
		}
	}
	return true
}

func (l *Loop) isReady(c *conn) error {
	c.state = ready
	l.ready++
	switch {
	case l.plan.Churn:
		c.state = leaving
		c.out = wire.AppendDisconnect(c.out)
		l.touch(c)
	case c.client.Deaf:
		return l.watch(c, unix.EPOLL_CTL_DEL, 0)
	}
	return nil
}

// ended closes a connection that the broker has closed.
func (l *Loop) ended(c *conn) error {
	was := c.state
	l.close(c)
	if was != leaving {
		return fmt.Errorf("the broker closed the connection of %s", c.client.ID)
	}
	l.Cycles++
	l.Latency.Record(l.clock() - c.began)
	if l.stopped {
		return nil
	}
	return l.open(c)
}

func (l *Loop) close(c *conn) {
	if c.state != closed {
		c.state = closed
		l.conns[c.fd] = nil
		_ = unix.Close(c.fd)
	}
}

// touch notes that a connection has something to write.
func (l *Loop) touch(c *conn) {
	if !c.dirty {
		c.dirty = true
		l.dirty = append(l.dirty, c)
	}
}

// flush writes what is encoded, as far as the socket takes it.
func (l *Loop) flush(c *conn) error {
	for c.off < len(c.out) {
		n, err := raw.Write(c.fd, c.out[c.off:])
		switch err {
		case 0:
			c.off += n
		case unix.EAGAIN:
			if !c.armed {
				return l.watch(c, unix.EPOLL_CTL_MOD, unix.EPOLLIN|unix.EPOLLOUT)
			}
			return nil
		case unix.EINTR:
		default:
			return fmt.Errorf("write to %s: %w", c.client.ID, err)
		}
	}
	c.out, c.off = c.out[:0], 0
	if c.armed {
		return l.watch(c, unix.EPOLL_CTL_MOD, unix.EPOLLIN)
	}
	return nil
}
