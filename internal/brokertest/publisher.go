package brokertest

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/petrelmq/petrel/packets"
)

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
