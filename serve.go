package petrel

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/petrelmq/petrel/internal/engine"
)

// ListenAndServe listens on a TCP address such as ":1883" and serves what comes,
// see [Broker.Serve]. Anything beyond plain TCP is a listener from package
// listeners, given to Serve.
func (b *Broker) ListenAndServe(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("petrel: listen on %s: %w", addr, err)
	}
	return b.Serve(l)
}

// Serve accepts connections from l and serves each on its own, until the broker
// is closed, when it returns [ErrBrokerClosed], or until l fails. A temporary
// failure, such as too many open files, is logged and tried again after a pause
// of 5 ms to 1 s. Serve closes l when it returns.
func (b *Broker) Serve(l net.Listener) error { return b.serve(l, b.door) }

// ServeListener is [Broker.Serve] for a listener with a name, authenticators or
// limits of its own. What cannot be meant in o is an error at once; l is closed then.
func (b *Broker) ServeListener(l net.Listener, o ListenerOptions) error {
	d, err := b.newDoor(o)
	if err != nil {
		l.Close()
		return err
	}
	return b.serve(l, d)
}

func (b *Broker) serve(l net.Listener, d *door) error {
	a := b.engine.Acceptor(l)
	defer a.Close()
	if !b.listen(a) {
		return ErrBrokerClosed
	}
	defer b.unlisten(a)
	pause := time.Duration(0)
	for {
		conn, err := a.Accept()
		if err != nil {
			if b.isClosed() {
				return ErrBrokerClosed
			}
			if t, ok := errors.AsType[interface {
				error
				Temporary() bool
			}](err); !ok || !t.Temporary() {
				return fmt.Errorf("petrel: accept on %s: %w", l.Addr(), err)
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			b.log.Warn("petrel: accept failed, trying again", "address", l.Addr().String(), d.attr(), "pause", pause, "error", err)
			if !b.sleep(pause) {
				return ErrBrokerClosed
			}
			continue
		}
		pause = 0
		c, err := b.admit(conn, d)
		if err != nil {
			continue // it is closed
		}
		b.start(c, c)
	}
}

// ServeConn serves one connection, whatever it runs on, and returns when it has
// ended. The error says why it ended; it is nil after a DISCONNECT of the client
// without an error code. ServeConn closes conn; with [LoopEngine], at once, for a
// duplicate of the descriptor of a plain TCP or Unix connection.
func (b *Broker) ServeConn(conn net.Conn) error {
	if b.opts.Engine == LoopEngine {
		if socket := b.engine.Adopt(conn); socket != nil {
			return b.serveSocket(socket)
		}
	}
	stream := b.engine.Stream(conn)
	c, err := b.admit(stream, b.door)
	if err != nil {
		return err
	}
	if err := c.letIn(); err != nil {
		c.Ended(err, engine.Here)
	} else {
		stream.Serve(c)
	}
	return c.outcome()
}

// serveSocket waits for the end of a connection that a loop serves.
func (b *Broker) serveSocket(socket engine.Conn) error {
	c, err := b.admit(socket, b.door)
	if err != nil {
		return err
	}
	a := awaited{c, make(chan struct{})}
	b.start(c, a)
	<-a.ended
	return c.outcome()
}

// awaited is a client whose end somebody waits for.
type awaited struct {
	*Client
	ended chan struct{}
}

func (a awaited) Ended(err error, aside func(func())) {
	aside(func() {
		a.Client.Ended(err, engine.Here)
		close(a.ended)
	})
}

// admit counts a new connection in, or closes it.
func (b *Broker) admit(conn engine.Conn, d *door) (*Client, error) {
	c := newClient(b, conn)
	c.door = d
	b.stats.opened.Add(1)
	err := b.countIn(c)
	if c.surplus != 0 {
		b.limitReached(b.ctx, &LimitEvent{Limit: c.surplus, Client: c})
	}
	if err != nil {
		conn.Close(0)
		return nil, err
	}
	return c, nil
}

// countIn makes c one of the connections, unless there are far too many.
func (b *Broker) countIn(c *Client) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrBrokerClosed
	}
	d := c.door
	above, aboveHere := len(b.clients)-b.opts.MaximumConnections, *d.open-d.maximum
	switch {
	case above >= 0:
		c.surplus = LimitConnections
	case aboveHere >= 0:
		c.surplus = LimitListenerConnections
	}
	if max(above, aboveHere) >= surplusAnswered {
		return c.surplus.refusal()
	}
	b.clients[c] = struct{}{}
	*d.open++
	b.wg.Add(1)
	b.alarms.set(&c.alarm, c, b.alarms.now().after(b.opts.ConnectTimeout))
	return nil
}

// surplusAnswered is how many connections above the maximum are kept until they
// have sent a CONNECT, to be told why they are refused.
const surplusAnswered = 64

// dismiss counts out a connection that has ended.
func (b *Broker) dismiss(c *Client) {
	if r := recover(); r != nil {
		b.panickedIn(c, r)
	}
	b.mu.Lock()
	delete(b.clients, c)
	*c.door.open--
	b.mu.Unlock()
	b.wg.Done()
}

// panickedIn tells of a panic in what belongs to a client, whose connection ends.
func (b *Broker) panickedIn(c *Client, reason any) {
	b.log.panicked("a connection", reason, "client", c.id)
	c.conn.Abort()
}

func (b *Broker) listen(a engine.Acceptor) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.listeners[a] = struct{}{}
	b.wg.Add(1)
	return true
}

func (b *Broker) unlisten(a engine.Acceptor) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.listeners, a)
	b.wg.Done()
}
