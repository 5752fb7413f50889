package petrel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"

	"github.com/petrelmq/petrel/internal/engine"
	"github.com/petrelmq/petrel/packets"
)

// disconnect ends the connection as the client wishes (MQTT 5.0, section 3.14).
func (c *Client) disconnect(bt *batch, flags byte, body []byte) error {
	p := &bt.in.disconnect
	if err := p.Decode(flags, body, c.version); err != nil {
		return err
	}
	if len(p.ServerReference) > 0 {
		return &packets.Error{Code: packets.ProtocolError, Detail: "Server Reference from a client"}
	}
	if err := c.checkProperties(p.UserProperties.Len()); err != nil {
		return err
	}
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != c {
		return io.EOF
	}
	if p.HasSessionExpiryInterval {
		if !c.hadExpiry && p.SessionExpiryInterval != 0 {
			return &packets.Error{Code: packets.ProtocolError, Detail: "Session Expiry Interval in DISCONNECT after 0 in CONNECT"}
		}
		s.expiry = c.broker.capExpiry(p.SessionExpiryInterval)
	}
	c.left = true
	if p.Reason == packets.NormalDisconnection {
		c.will = nil
		return errFarewell
	}
	return fmt.Errorf("petrel: the client disconnected: %s", p.Reason)
}

// end says farewell and settles what the connection leaves behind. It does not wait
// for the socket.
func (c *Client) end() {
	b, cause := c.broker, c.outcome()
	defer func() {
		if r := recover(); r != nil {
			b.panickedIn(c, r)
		}
	}()
	b.alarms.stop(&c.alarm)
	c.sayWhy(cause)
	c.logEnd(cause)
	c.observeRefusal(cause)
	if c.phase == connected {
		b.stats.connected.Add(-1)
	}
	if c.session != nil {
		b.leave(c, cause) // its will does not wait for its socket
	}
}

// close closes the connection, and waits for that if its socket is full, or if the
// peer has to hear the last packet. It is the last that is done about a client.
func (c *Client) close() {
	defer c.broker.dismiss(c)
	c.out.close()
	if c.said {
		c.conn.Close(lastWords)
	} else {
		c.conn.Close(0)
	}
}

// logEnd tells why the connection ends, loudly if the client broke a rule.
func (c *Client) logEnd(cause error) {
	level := slog.LevelInfo
	if cause == nil || isNetworkError(cause) || errors.Is(cause, packets.ServerShuttingDown) || errors.Is(cause, packets.SessionTakenOver) {
		level = slog.LevelDebug
	}
	if level == slog.LevelInfo && c.phase != connected {
		if _, ok := c.broker.log.often.Take(); !ok {
			return // who is refused comes again, as often as it likes
		}
	}
	c.broker.log.Log(context.Background(), level, "petrel: connection ended", "client", c.id, "address", addressOf(c), c.door.attr(), "cause", cause)
}

// sayWhy sends the last packet, where the version and the state allow one.
func (c *Client) sayWhy(cause error) {
	code := packets.ReasonOf(cause)
	if c.phase != connected || c.version != packets.V5 || c.left || code == packets.Success || isNetworkError(cause) {
		return
	}
	if !code.AllowedIn(packets.TypeDisconnect) {
		code = packets.UnspecifiedError
	}
	d := &packets.Disconnect{Reason: code}
	reason, reference, properties := toPeer(cause)
	d.ReasonString, d.ServerReference = []byte(reason), []byte(reference)
	d.UserProperties = appendUserProperties(nil, properties)
	c.sayLast(c.fit(d, func() { d.ReasonString, d.UserProperties = nil, nil }))
}

// sayLast sends the last packet of the connection.
func (c *Client) sayLast(packet []byte) {
	if packet == nil {
		return
	}
	c.out.pushLast(packet)
	c.out.flush()
	c.said = true
	bt := c.broker.batch()
	if len(c.broker.hooks.trace) > 0 {
		bt.trace(c, packet, nil, 0, 0)
	}
	bt.count.messagesOut++
	bt.count.bytesOut += uint64(len(packet))
	bt.finish()
}

// fit encodes p, and leaves out what shrink removes if p is too large for the client.
func (c *Client) fit(p packets.Packet, shrink func()) []byte {
	b, err := p.AppendTo(nil, c.version)
	if err != nil || len(b) > int(c.maximumPacket) {
		shrink()
		b, err = p.AppendTo(nil, c.version)
	}
	if err != nil || len(b) > int(c.maximumPacket) {
		return nil
	}
	return b
}

// isNetworkError reports whether the connection broke, so that nothing can be said on it.
func isNetworkError(err error) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) {
		return true
	}
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		return true
	}
	_, ok := errors.AsType[*net.OpError](err)
	return ok || engine.IsTimeout(err)
}

// leave gives up the session after the connection has ended.
func (b *Broker) leave(c *Client, cause error) {
	ended, due, still := b.release(c)
	switch {
	case ended:
		b.endSession(c.session, SessionEnded)
	case still:
		bt := b.batch()
		b.handOver(bt, c.session)
		bt.finish()
	}
	b.publishWill(due)
	if c.phase != connected {
		return
	}
	observe(b, b.hooks.connection, func(o ConnectionObserver) { o.ClientDisconnected(c, cause) })
}

// errFarewell ends a connection by the DISCONNECT of the client.
var errFarewell = errors.New("petrel: the client disconnected")
