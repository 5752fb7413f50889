package brokertest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/petrelmq/petrel/packets"
)

// patience is how long a client waits for a packet before its test fails.
const patience = time.Minute

// Client is one connection to a broker. It reads all the time, unless it is
// told not to, and keeps what has come until the test asks for it.
type Client struct {
	net.Conn
	t       testing.TB
	name    string
	version packets.Version
	served  chan error
	nextID  uint16

	patience time.Duration

	mu       sync.Mutex
	received []packets.Packet
	err      error         // why nothing more will come
	changed  chan struct{} // has room for one
	stalled  bool
	goOn     chan struct{} // closed when reading goes on
}

// NewClient makes a client of any connection.
func NewClient(t testing.TB, conn net.Conn, v packets.Version) *Client {
	c := &Client{
		Conn: conn, t: t, version: v, patience: patience,
		served: make(chan error, 1), changed: make(chan struct{}, 1), goOn: make(chan struct{}),
	}
	close(c.goOn)
	go c.read()
	t.Cleanup(func() {
		c.Resume()
		conn.Close()
	})
	return c
}

// SetPatience changes how long the client waits for what it is told to expect,
// which is a minute. It is called before anything is expected.
func (c *Client) SetPatience(d time.Duration) { c.patience = d }

// read decodes what comes until the connection ends.
func (c *Client) read() {
	var buf []byte
	chunk := make([]byte, 32<<10)
	for {
		c.mu.Lock()
		goOn := c.goOn
		c.mu.Unlock()
		<-goOn
		n, err := c.Conn.Read(chunk)
		buf = append(buf, chunk[:n]...)
		for {
			p, size, wrong := c.decode(buf)
			if wrong != nil {
				err = wrong
			}
			if size == 0 || wrong != nil {
				break
			}
			buf = buf[size:]
			c.put(p, nil)
		}
		if err != nil { // it may have come with the last packet
			c.put(nil, err)
			c.Conn.Close() // as clients do, so that the broker need not wait for it
			return
		}
	}
}

func (c *Client) decode(buf []byte) (packets.Packet, int, error) {
	h, n, err := packets.DecodeHeader(buf)
	if err != nil || n == 0 || len(buf) < n+h.Remaining {
		return nil, 0, err
	}
	p := packets.New(h.Type)
	if err := p.Decode(h.Flags, bytes.Clone(buf[n:n+h.Remaining]), c.version); err != nil {
		return nil, 0, fmt.Errorf("the broker sent % x: %w", buf[:n+h.Remaining], err)
	}
	return p, n + h.Remaining, nil
}

func (c *Client) put(p packets.Packet, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p != nil {
		c.received = append(c.received, p)
	}
	if err != nil {
		c.err = err
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Stall makes the client read no more. One read that has begun still ends.
func (c *Client) Stall() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stalled {
		c.stalled, c.goOn = true, make(chan struct{})
	}
}

// Resume makes it read again.
func (c *Client) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stalled {
		c.stalled = false
		close(c.goOn)
	}
}

// Waiting returns how many packets have come that the test has not asked for.
func (c *Client) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.received)
}

// next returns the packet that comes next, or the end of the connection.
func (c *Client) next() (packets.Packet, error) {
	c.t.Helper()
	timeout := time.NewTimer(c.patience)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		if len(c.received) > 0 {
			p := c.received[0]
			c.received = c.received[1:]
			c.mu.Unlock()
			return p, nil
		}
		err := c.err
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-c.changed:
		case <-timeout.C:
			c.t.Fatalf("%s: nothing came in %v", c, c.patience)
		}
	}
}

// String names the client in failures.
func (c *Client) String() string { return fmt.Sprintf("client %q", c.name) }

// Send writes packets, in one piece.
func (c *Client) Send(list ...packets.Packet) {
	c.t.Helper()
	var b []byte
	for _, p := range list {
		var err error
		if b, err = p.AppendTo(b, c.version); err != nil {
			c.t.Fatalf("%s: encode %v: %v", c, p.Type(), err)
		}
	}
	c.SendRaw(b)
}

// SendRaw writes bytes. That the broker has closed the connection meanwhile is
// no failure: what it said before is there to be asked for.
func (c *Client) SendRaw(b []byte) {
	c.t.Helper()
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.patience)); err != nil && !closed(err) {
		c.t.Fatalf("%s: %v", c, err)
	}
	if _, err := c.Conn.Write(b); err != nil && !closed(err) {
		c.t.Fatalf("%s: write %d bytes: %v", c, len(b), err)
	}
}

func closed(err error) bool {
	_, isOp := errors.AsType[*net.OpError](err)
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) || isOp
}

// Receive returns the next packet.
func (c *Client) Receive() packets.Packet {
	c.t.Helper()
	p, err := c.next()
	if err != nil {
		c.t.Fatalf("%s: %v, want a packet", c, err)
	}
	return p
}

// Expect returns the next packet, which must be of the given type.
func Expect[P packets.Packet](c *Client) P {
	c.t.Helper()
	got, err := c.next()
	p, ok := got.(P)
	if !ok {
		var want P
		c.t.Fatalf("%s: got %s; want %T", c, describe(got, err), want)
	}
	return p
}

func describe(p packets.Packet, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%v %+v", p.Type(), p)
}

// ExpectPublish returns the next packet, which must be a PUBLISH with the given
// topic and payload.
func (c *Client) ExpectPublish(topic, payload string) *packets.Publish {
	c.t.Helper()
	p := Expect[*packets.Publish](c)
	if string(p.Topic) != topic || string(p.Payload) != payload {
		c.t.Fatalf("%s: got %q on %q; want %q on %q", c, p.Payload, p.Topic, payload, topic)
	}
	return p
}

// ExpectNothing checks that no packet has come, nor is on its way: it sends a
// PINGREQ and expects its answer next. What another client has caused, and what
// was acknowledged to that client before, would have come first.
func (c *Client) ExpectNothing() {
	c.t.Helper()
	c.Send(&packets.Pingreq{})
	got, err := c.next()
	if _, ok := got.(*packets.Pingresp); !ok {
		c.t.Fatalf("%s: got %s; want nothing", c, describe(got, err))
	}
}

// ExpectClosed checks that the broker closes the connection and says nothing.
func (c *Client) ExpectClosed() {
	c.t.Helper()
	if got, err := c.next(); err == nil || !closed(err) {
		c.t.Fatalf("%s: got %s; want the end of the connection", c, describe(got, err))
	}
}

// ExpectDisconnect checks that the broker sends a DISCONNECT with the code, and
// closes the connection.
func (c *Client) ExpectDisconnect(code packets.ReasonCode) *packets.Disconnect {
	c.t.Helper()
	p := Expect[*packets.Disconnect](c)
	if p.Reason != code {
		c.t.Fatalf("%s: DISCONNECT with %v; want %v", c, p.Reason, code)
	}
	c.ExpectClosed()
	return p
}

// Served returns what ServeConn returned, when it has.
func (c *Client) Served() error {
	c.t.Helper()
	select {
	case err := <-c.served:
		return err
	case <-time.After(c.patience):
		c.t.Fatalf("%s: still served after %v", c, c.patience)
		return nil
	}
}

// Drop closes the connection without DISCONNECT and waits until the broker is
// done with it.
func (c *Client) Drop() {
	c.t.Helper()
	c.Conn.Close()
	c.Served()
}

// Leave sends a DISCONNECT with the reason and waits until the broker is done
// with the connection.
func (c *Client) Leave(reason packets.ReasonCode) {
	c.t.Helper()
	c.Send(&packets.Disconnect{Reason: reason})
	c.Conn.Close()
	c.Served()
}

// ID returns a packet identifier that this client has not used for long.
func (c *Client) ID() uint16 {
	c.nextID++
	if c.nextID == 0 {
		c.nextID = 1
	}
	return c.nextID
}

// Subscribe subscribes to filters with one QoS and expects that it is granted.
// The SUBACK must be what comes next.
func (c *Client) Subscribe(qos packets.QoS, filters ...string) {
	c.t.Helper()
	var subs packets.Subscriptions
	for _, f := range filters {
		subs = subs.Append(packets.Subscription{Filter: []byte(f), QoS: qos})
	}
	for i, code := range c.SubscribeWith(packets.Subscribe{Subscriptions: subs}) {
		if code != packets.ReasonCode(qos) {
			c.t.Fatalf("%s: subscription to %q got %v; want %v", c, filters[i], code, qos)
		}
	}
}

// SubscribeWith sends p, with a packet identifier of its own if it has none,
// and returns the codes of the SUBACK, which must be what comes next.
func (c *Client) SubscribeWith(p packets.Subscribe) []packets.ReasonCode {
	c.t.Helper()
	if p.PacketID == 0 {
		p.PacketID = c.ID()
	}
	c.Send(&p)
	ack := Expect[*packets.Suback](c)
	if ack.PacketID != p.PacketID {
		c.t.Fatalf("%s: SUBACK for %d; want %d", c, ack.PacketID, p.PacketID)
	}
	return ack.Reasons
}

// Unsubscribe sends an UNSUBSCRIBE and returns the codes of the UNSUBACK, which
// must be what comes next.
func (c *Client) Unsubscribe(filters ...string) []packets.ReasonCode {
	c.t.Helper()
	p := packets.Unsubscribe{PacketID: c.ID()}
	for _, f := range filters {
		p.Filters = p.Filters.Append(f)
	}
	c.Send(&p)
	ack := Expect[*packets.Unsuback](c)
	if ack.PacketID != p.PacketID {
		c.t.Fatalf("%s: UNSUBACK for %d; want %d", c, ack.PacketID, p.PacketID)
	}
	return ack.Reasons
}

// Publish publishes and goes through the whole exchange of the QoS. The answers
// must be what comes next. With QoS 0 it ends with a PINGREQ and its answer, so
// that the message has been handed to everybody when it returns.
func (c *Client) Publish(topic, payload string, qos packets.QoS) {
	c.t.Helper()
	if code := c.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos}); code.IsError() {
		c.t.Fatalf("%s: publishing to %q got %v", c, topic, code)
	}
}

// PublishWith is Publish for any packet, and returns the code of PUBACK or PUBREC.
func (c *Client) PublishWith(p packets.Publish) packets.ReasonCode {
	c.t.Helper()
	if p.QoS > packets.AtMostOnce && p.PacketID == 0 {
		p.PacketID = c.ID()
	}
	c.Send(&p)
	switch p.QoS {
	case packets.AtLeastOnce:
		ack := Expect[*packets.Puback](c)
		c.same("PUBACK", ack.PacketID, p.PacketID)
		return ack.Reason
	case packets.ExactlyOnce:
		rec := Expect[*packets.Pubrec](c)
		c.same("PUBREC", rec.PacketID, p.PacketID)
		if rec.Reason.IsError() {
			return rec.Reason
		}
		c.Send(&packets.Pubrel{PacketID: p.PacketID})
		comp := Expect[*packets.Pubcomp](c)
		c.same("PUBCOMP", comp.PacketID, p.PacketID)
		return rec.Reason
	}
	c.ExpectNothing()
	return packets.Success
}

func (c *Client) same(what string, got, want uint16) {
	c.t.Helper()
	if got != want {
		c.t.Fatalf("%s: %s for %d; want %d", c, what, got, want)
	}
}

// Accept acknowledges a received message, through the whole exchange of its QoS.
func (c *Client) Accept(p *packets.Publish) {
	c.t.Helper()
	switch p.QoS {
	case packets.AtLeastOnce:
		c.Send(&packets.Puback{PacketID: p.PacketID})
	case packets.ExactlyOnce:
		c.Send(&packets.Pubrec{PacketID: p.PacketID})
		rel := Expect[*packets.Pubrel](c)
		c.same("PUBREL", rel.PacketID, p.PacketID)
		c.Send(&packets.Pubcomp{PacketID: p.PacketID})
	}
}

// Next returns the next packet, or false if the broker closes the connection
// instead.
func (c *Client) Next() (packets.Packet, bool) {
	c.t.Helper()
	p, err := c.next()
	if err != nil && !closed(err) {
		c.t.Fatalf("%s: %v", c, err)
	}
	return p, err == nil
}
