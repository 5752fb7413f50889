//go:build linux

package load

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/petrelmq/petrel/benchmarks/internal/raw"
	"github.com/petrelmq/petrel/benchmarks/internal/wire"
)

// read takes once what a socket has; epoll tells if there is more.
func (l *Loop) read(c *conn) error {
	kept := copy(l.buffer, c.rest)
	n, errno := raw.Read(c.fd, l.buffer[kept:])
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return nil
	case errno == unix.ECONNRESET && c.state == leaving, errno == 0 && n == 0:
		return l.ended(c)
	case errno != 0:
		return fmt.Errorf("read of %s: %w", c.client.ID, errno)
	}
	l.now = l.clock()
	rest, err := l.scan(c, l.buffer[:kept+n])
	c.rest = append(c.rest[:0], rest...)
	return err
}

// scan handles all whole packets of b and returns what is left.
func (l *Loop) scan(c *conn, b []byte) ([]byte, error) {
	if c.skip > 0 {
		if len(b) < c.skip {
			c.skip -= len(b)
			return nil, nil
		}
		b = b[c.skip:]
		c.skip = 0
		l.receive(c, c.late)
	}
	for len(b) > 0 {
		body, end := wire.Frame(b)
		if body < 0 {
			return nil, fmt.Errorf("%s got % x, which is no packet", c.client.ID, b[:min(len(b), 8)])
		}
		if end == 0 || end > len(b) {
			return l.begin(c, b, body, end), nil
		}
		if err := l.packet(c, b[0], b[body:end]); err != nil {
			return nil, err
		}
		b = b[end:]
	}
	return nil, nil
}

// begin looks at the beginning of a packet and returns what of it has to be kept:
// nothing of a large PUBLISH of which all is known that has to be.
func (l *Loop) begin(c *conn, b []byte, body, end int) []byte {
	const large = 4 << 10
	if end < large || b[0]>>4 != wire.Publish {
		return b
	}
	m, ok := parseMessage(b[0], b[body:])
	if !ok {
		return b
	}
	c.late, c.skip = m, end-len(b)
	return nil
}

func (l *Loop) packet(c *conn, first byte, body []byte) error {
	kind := first >> 4
	switch kind {
	case wire.Publish:
		m, ok := parseMessage(first, body)
		if !ok {
			return fmt.Errorf("%s got a message that no client has sent: %.64q", c.client.ID, body)
		}
		l.receive(c, m)
		return nil
	case wire.Puback, wire.Pubrec, wire.Pubrel, wire.Pubcomp:
		if len(body) != 2 {
			return fmt.Errorf("%s got an acknowledgement of %d bytes", c.client.ID, len(body))
		}
		return l.acknowledged(c, kind, wire.ID(body))
	}
	return l.control(c, kind, body)
}

// receive counts a message, answers it, and gives its publisher credit.
func (l *Loop) receive(c *conn, m message) {
	l.Received++
	if m.publisher == c.last.publisher && m.number <= c.last.number && c.last.sent != 0 {
		l.Misordered++
	}
	c.last = m
	background := false
	if int(m.publisher) < len(l.publishers) {
		p := l.publishers[m.publisher]
		p.delivered++
		l.touch(p.conn)
		background = p.plan.Background
	}
	if !background {
		l.Latency.Record(l.now - m.sent)
	}
	switch m.qos {
	case 1:
		c.out = wire.AppendAck(c.out, wire.Puback, m.id)
		l.touch(c)
	case 2:
		c.out = wire.AppendAck(c.out, wire.Pubrec, m.id)
		l.touch(c)
	}
}

// acknowledged goes on with a QoS 1 or 2 exchange.
func (l *Loop) acknowledged(c *conn, kind byte, id uint16) error {
	switch kind {
	case wire.Pubrec:
		c.out = wire.AppendAck(c.out, wire.Pubrel, id)
	case wire.Pubrel:
		c.out = wire.AppendAck(c.out, wire.Pubcomp, id)
	default:
		if c.publisher == nil {
			return fmt.Errorf("%s got an acknowledgement, and has published nothing", c.client.ID)
		}
		if c.publisher.times != nil {
			l.AckLatency.Record(l.now - c.publisher.sentAt())
		}
		c.publisher.acked++
	}
	l.touch(c)
	return nil
}
