package brokertest

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
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

// Publisher publishes the numbers from 1 on to one topic, with a window of some
// that are not acknowledged.
type Publisher struct {
	lasting
	topic  string
	qos    packets.QoS
	retain bool
	window int
	pause  time.Duration

	state struct {
		sync.Mutex
		sent, acknowledged int // the last number of each
		limit              int // no more than that is published
	}
	open   []sending // in order
	nextID uint16
}

// sending is a message on its way to the broker.
type sending struct {
	number   int
	id       uint16
	received bool // PUBREC came
}

// Publisher adds a client that publishes to a topic.
func (l *Ledger) Publisher(topic string, qos packets.QoS, retain bool, window int, pause time.Duration) *Publisher {
	p := &Publisher{topic: topic, qos: qos, retain: retain, window: window, pause: pause}
	p.ledger = l
	p.connect = Durable("publisher of " + topic)
	p.connect.ReceiveMaximum = 1000
	p.state.limit = 1 << 30
	p.live(p.talk)
	return p
}

// Sent and Acknowledged return the last numbers that were sent, and acknowledged.
func (p *Publisher) Sent() int {
	p.state.Lock()
	defer p.state.Unlock()
	return p.state.sent
}

// Acknowledged returns the last number that the broker has acknowledged.
func (p *Publisher) Acknowledged() int {
	p.state.Lock()
	defer p.state.Unlock()
	return p.state.acknowledged
}

// Finish publishes no further numbers, but what is under way.
func (p *Publisher) Finish() {
	p.state.Lock()
	defer p.state.Unlock()
	p.state.limit = p.state.sent
}

func (p *Publisher) talk(present bool) error {
	if !present {
		for i := range p.open {
			p.open[i].received = false
		}
	}
	for _, s := range p.open {
		var packet packets.Packet = p.packet(s, true)
		if s.received {
			packet = &packets.Pubrel{PacketID: s.id}
		}
		if err := p.send(packet); err != nil {
			return err
		}
	}
	for {
		if err := p.fill(); err != nil {
			return err
		}
		if len(p.open) == 0 { // all is finished
			<-p.ledger.stop
			return nil
		}
		packet, err := p.receive()
		if err != nil {
			return err
		}
		if err := p.handle(packet); err != nil {
			return err
		}
	}
}

func (p *Publisher) packet(s sending, dup bool) *packets.Publish {
	return &packets.Publish{Topic: []byte(p.topic), Payload: strconv.AppendInt(nil, int64(s.number), 10), QoS: p.qos, PacketID: s.id, Dup: dup, Retain: p.retain}
}

// fill publishes as far as the window allows.
func (p *Publisher) fill() error {
	for len(p.open) < p.window {
		p.state.Lock()
		if p.state.sent >= p.state.limit {
			p.state.Unlock()
			return nil
		}
		p.state.sent++
		s := sending{number: p.state.sent, id: p.freeID()}
		p.state.Unlock()
		p.open = append(p.open, s)
		if p.pause > 0 {
			time.Sleep(p.pause)
		}
		if err := p.send(p.packet(s, false)); err != nil {
			return err
		}
	}
	return nil
}

// freeID returns an identifier that is not in use. Few are in the round, so that
// each is soon used again.
func (p *Publisher) freeID() uint16 {
	for {
		p.nextID = p.nextID%uint16(2*p.window) + 1
		if !slices.ContainsFunc(p.open, func(s sending) bool { return s.id == p.nextID }) {
			return p.nextID
		}
	}
}

func (p *Publisher) handle(packet packets.Packet) error {
	find := func(id uint16) int { return slices.IndexFunc(p.open, func(s sending) bool { return s.id == id }) }
	finish := func(id uint16) {
		if i := find(id); i >= 0 {
			p.open = slices.Delete(p.open, i, i+1)
		}
	}
	switch a := packet.(type) {
	case *packets.Puback:
		p.judge(a.Reason, find(a.PacketID))
		finish(a.PacketID)
	case *packets.Pubrec:
		i := find(a.PacketID)
		p.judge(a.Reason, i)
		if i >= 0 {
			p.open[i].received = true
		}
		return p.send(&packets.Pubrel{PacketID: a.PacketID})
	case *packets.Pubcomp:
		finish(a.PacketID)
	case *packets.Disconnect:
		return fmt.Errorf("disconnected: %v", a.Reason)
	}
	return nil
}

// judge notes an acknowledgement of the i-th open message.
func (p *Publisher) judge(code packets.ReasonCode, i int) {
	if i < 0 || p.open[i].received {
		return
	}
	if code.IsError() {
		p.ledger.complain("%s: message %d was refused: %v", p.topic, p.open[i].number, code)
		return
	}
	for _, s := range p.open[:i] {
		if !s.received {
			p.ledger.complain("%s: message %d was acknowledged before %d", p.topic, p.open[i].number, s.number)
		}
	}
	p.state.Lock()
	defer p.state.Unlock()
	p.state.acknowledged = max(p.state.acknowledged, p.open[i].number)
}

// Subscriber subscribes once, and takes what comes.
type Subscriber struct {
	lasting
	filter     string
	qos        packets.QoS
	subscribed chan struct{}
	granted    bool
	ids        map[uint16]bool // QoS 2 messages that were received and not released

	state struct {
		sync.Mutex
		last  map[string]int // by topic
		twice int            // QoS 1 messages that came again
	}
}

// Subscriber adds a client with a filter. Each of the topics below it must be
// that of one Publisher, which begins after the subscription.
func (l *Ledger) Subscriber(name, filter string, qos packets.QoS) *Subscriber {
	s := &Subscriber{filter: filter, qos: qos, subscribed: make(chan struct{}), ids: make(map[uint16]bool)}
	s.ledger = l
	s.connect = Durable(name)
	s.connect.ReceiveMaximum = 20
	s.state.last = make(map[string]int)
	s.live(s.talk)
	return s
}

// Subscribed is closed when the subscription is confirmed.
func (s *Subscriber) Subscribed() <-chan struct{} { return s.subscribed }

// Last returns the last number that came on a topic.
func (s *Subscriber) Last(topic string) int {
	s.state.Lock()
	defer s.state.Unlock()
	return s.state.last[topic]
}

// Repeated returns how many QoS 1 messages came again.
func (s *Subscriber) Repeated() int {
	s.state.Lock()
	defer s.state.Unlock()
	return s.state.twice
}

func (s *Subscriber) talk(present bool) error {
	if !present {
		clear(s.ids)
	}
	if !s.granted {
		err := s.send(&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{
			Filter: []byte(s.filter), QoS: s.qos, RetainHandling: 2,
		})})
		if err != nil {
			return err
		}
	}
	for {
		packet, err := s.receive()
		if err != nil {
			return err
		}
		if err := s.handle(packet); err != nil {
			return err
		}
	}
}

func (s *Subscriber) handle(packet packets.Packet) error {
	switch p := packet.(type) {
	case *packets.Suback:
		if !s.granted {
			s.granted = true
			close(s.subscribed)
		}
	case *packets.Publish:
		switch p.QoS {
		case packets.AtLeastOnce:
			s.take(p)
			return s.send(&packets.Puback{PacketID: p.PacketID})
		case packets.ExactlyOnce:
			if !s.ids[p.PacketID] {
				s.ids[p.PacketID] = true
				s.take(p)
			}
			return s.send(&packets.Pubrec{PacketID: p.PacketID})
		}
	case *packets.Pubrel:
		delete(s.ids, p.PacketID)
		return s.send(&packets.Pubcomp{PacketID: p.PacketID})
	case *packets.Disconnect:
		return fmt.Errorf("disconnected: %v", p.Reason)
	}
	return nil
}

// take compares a message with what has to come.
func (s *Subscriber) take(p *packets.Publish) {
	topic := string(p.Topic)
	n, err := strconv.Atoi(strings.TrimSpace(string(p.Payload)))
	if err != nil {
		s.ledger.complain("%s: %q on %s", s.connect.ClientID, p.Payload, topic)
		return
	}
	s.state.Lock()
	last := s.state.last[topic]
	switch {
	case n == last+1:
		s.state.last[topic] = n
	case n <= last && p.QoS == packets.AtLeastOnce:
		s.state.twice++
	}
	s.state.Unlock()
	switch {
	case n > last+1:
		s.ledger.complain("%s: %s: %d after %d: lost or out of order", s.connect.ClientID, topic, n, last)
		s.state.Lock()
		s.state.last[topic] = n
		s.state.Unlock()
	case n <= last && p.QoS == packets.ExactlyOnce:
		s.ledger.complain("%s: %s: QoS 2 message %d came again, after %d", s.connect.ClientID, topic, n, last)
	}
}
