package brokertest

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/petrelmq/petrel/packets"
)

// Ledger holds a broker that comes and goes to its word: what was acknowledged
// arrives, in order, and with QoS 2 once. Publishers and Subscribers are its
// clients; they connect again whenever their connection ends, and go on with what
// they have not finished, as the standard asks of a client.
type Ledger struct {
	// Dial opens a connection; it is tried again after an error.
	Dial func() (net.Conn, error)

	mu     sync.Mutex
	broken []string
	stop   chan struct{}
	end    sync.Once
	wg     sync.WaitGroup
}

// NewLedger returns a ledger without clients.
func NewLedger(dial func() (net.Conn, error)) *Ledger {
	return &Ledger{Dial: dial, stop: make(chan struct{})}
}

// Broken returns what was found not to be as promised.
func (l *Ledger) Broken() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.broken)
}

func (l *Ledger) complain(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.broken) < 50 {
		l.broken = append(l.broken, fmt.Sprintf(format, args...))
	}
}

// Close ends all clients and waits for them. It may be called more than once.
func (l *Ledger) Close() {
	l.end.Do(func() { close(l.stop) })
	l.wg.Wait()
}

func (l *Ledger) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// lasting is a client of a ledger.
type lasting struct {
	ledger  *Ledger
	connect packets.Connect
	known   bool // the broker has confirmed the session
	mu      sync.Mutex
	conn    net.Conn
	away    time.Duration
	back    <-chan struct{} // closed when it may connect again; nil unless it stays away
	buf     []byte
	version packets.Version
}

// live connects again and again; talk handles one connection.
func (c *lasting) live(talk func(present bool) error) {
	l := c.ledger
	c.version = packets.V5
	l.wg.Go(func() {
		for c.mayReturn() {
			conn, err := l.Dial()
			if err != nil {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			if !c.begin(conn) {
				conn.Close()
				continue
			}
			ended := make(chan struct{})
			go func() {
				select {
				case <-l.stop:
					conn.Close()
				case <-ended:
				}
			}()
			_ = c.once(talk)
			close(ended)
			conn.Close()
			c.rest()
		}
	})
}

// mayReturn waits as long as the client stays away, and reports whether it goes on.
func (c *lasting) mayReturn() bool {
	c.mu.Lock()
	back := c.back
	c.mu.Unlock()
	if back != nil {
		select {
		case <-back:
		case <-c.ledger.stop:
		}
		c.mu.Lock()
		if c.back == back {
			c.back = nil
		}
		c.mu.Unlock()
	}
	return !c.ledger.stopped()
}

// begin takes a connection, unless the client is to stay away.
func (c *lasting) begin(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.back != nil {
		return false
	}
	c.conn, c.buf = conn, nil
	return true
}

// rest waits before the next connection.
func (c *lasting) rest() {
	c.mu.Lock()
	away := c.away
	c.away = 0
	c.mu.Unlock()
	select {
	case <-time.After(2*time.Millisecond + away):
	case <-c.ledger.stop:
	}
}

// Leave is Drop, and stays away for a while.
func (c *lasting) Leave(away time.Duration) {
	c.mu.Lock()
	c.away = away
	c.mu.Unlock()
	c.Drop()
}

// StayAway is Drop, and stays away until comeBack is called.
func (c *lasting) StayAway() (comeBack func()) {
	back := make(chan struct{})
	c.mu.Lock()
	c.back = back
	c.mu.Unlock()
	c.Drop()
	return sync.OnceFunc(func() { close(back) })
}

func (c *lasting) once(talk func(present bool) error) error {
	if err := c.send(&c.connect); err != nil {
		return err
	}
	p, err := c.receive()
	if err != nil {
		return err
	}
	ack, ok := p.(*packets.Connack)
	if !ok || ack.Reason != packets.Success {
		return fmt.Errorf("got %+v", p)
	}
	if c.known && !ack.SessionPresent {
		c.ledger.complain("%s: the session is lost", c.connect.ClientID)
	}
	c.known = true
	return talk(ack.SessionPresent)
}

// Drop closes the connection of the moment.
func (c *lasting) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close()
	}
}

func (c *lasting) send(list ...packets.Packet) error {
	var b []byte
	for _, p := range list {
		var err error
		if b, err = p.AppendTo(b, c.version); err != nil {
			panic(err)
		}
	}
	_, err := c.conn.Write(b)
	return err
}

func (c *lasting) receive() (packets.Packet, error) {
	chunk := make([]byte, 16<<10)
	for {
		h, n, err := packets.DecodeHeader(c.buf)
		if err != nil {
			return nil, err
		}
		if n > 0 && len(c.buf) >= n+h.Remaining {
			p := packets.New(h.Type)
			if err := p.Decode(h.Flags, slices.Clone(c.buf[n:n+h.Remaining]), c.version); err != nil {
				c.ledger.complain("%s: undecodable: %v", c.connect.ClientID, err)
				return nil, err
			}
			c.buf = c.buf[n+h.Remaining:]
			return p, nil
		}
		n, err = c.conn.Read(chunk)
		if c.buf = append(c.buf, chunk[:n]...); n == 0 && err != nil {
			return nil, err
		}
	}
}
