package petrel

import (
	"hash/maphash"
	"math/rand/v2"

	"github.com/petrelmq/petrel/topics"
)

type group = topics.Group[subscription]

// choose picks the member of a shared subscription that gets p: a connected one
// as long as there is one, nil if no member may have it.
func (b *Broker) choose(bt *batch, g *group, p *publication) *entry {
	bt.members = g.Members(bt.members[:0])
	n := len(bt.members)
	if n == 0 {
		return nil
	}
	first := b.firstChoice(g, p, n)
	if e := pick(bt, first, p, b, func(s *session) bool { return s.online.Load() }); e != nil {
		return e
	}
	return pick(bt, first, p, b, func(s *session) bool { return !s.online.Load() })
}

// firstChoice is the place of the member to begin with.
func (b *Broker) firstChoice(g *group, p *publication, n int) int {
	switch b.opts.SharedStrategy {
	case Random:
		return rand.IntN(n)
	case Sticky:
		return 0
	case TopicHash:
		return int(maphash.Bytes(b.directory.seed, p.topic) % uint64(n))
	}
	return int(g.Turn() % uint32(n))
}

// pick returns the first member from the given place on that ok accepts and that may receive p.
func pick(bt *batch, first int, p *publication, b *Broker, ok func(*session) bool) *entry {
	n := len(bt.members)
	for i := range n {
		e := bt.members[(first+i)%n]
		if ok(e.Value.session) && (!e.Value.check || b.mayReceive(bt, &e.Value, p)) {
			return e
		}
	}
	return nil
}

// redispatch gives a message that a member of a shared subscription did not
// finish to another member, and reports whether there was one. With connected
// set, only connected members are asked.
func (b *Broker) redispatch(bt *batch, d *delivery, from *session, connected bool) bool {
	p := &bt.waiting
	p.from(d.msg, p.topic)
	b.tree.Match(p.topic, &bt.matches)
	for _, g := range bt.matches.Groups {
		if d.shared.Value.filter != "$share/"+g.Name()+"/"+g.Filter() {
			continue
		}
		e := b.otherMember(bt, g, p, from, connected)
		if e == nil {
			return false
		}
		t := target{session: e.Value.session, ids: e.Value.ids, shared: e, qos: min(e.Value.qos, p.qos), retain: p.retain && e.Value.asIs}
		t.session.deliver(bt, p, &t)
		bt.relieve()
		return true
	}
	return false
}

func (b *Broker) otherMember(bt *batch, g *group, p *publication, from *session, connected bool) *entry {
	bt.members = g.Members(bt.members[:0])
	if len(bt.members) == 0 {
		return nil
	}
	first := b.firstChoice(g, p, len(bt.members))
	e := pick(bt, first, p, b, func(s *session) bool { return s != from && s.online.Load() })
	if e == nil && !connected {
		e = pick(bt, first, p, b, func(s *session) bool { return s != from && !s.online.Load() })
	}
	return e
}

// handOver gives what a session that lost its connection got by shared
// subscriptions and did not acknowledge to other connected members, if there
// are any. QoS 2 messages that were sent stay with their client.
func (b *Broker) handOver(bt *batch, s *session) {
	s.mu.Lock()
	open := s.sharedLocked()
	s.mu.Unlock()
	for i := range open {
		d := &open[i]
		if !b.hasOther(bt, d, s) {
			continue
		}
		s.mu.Lock()
		mine := s.owner == nil && !s.ended && s.forgetLocked(d)
		s.mu.Unlock()
		if mine && !b.redispatch(bt, d, s, false) {
			bt.dropMessage(s.id, d.msg, d.qos, DropSessionEnded)
		}
	}
}

// sharedLocked lists the messages that another member could get.
func (s *session) sharedLocked() (open []delivery) {
	for _, f := range s.flights.ordered() {
		if f.shared != nil && f.qos == AtLeastOnce {
			open = append(open, f.delivery)
		}
	}
	for i := range s.queue.n {
		if d := s.queue.at(i); d.msg != nil && d.shared != nil {
			open = append(open, *d)
		}
	}
	return open
}

// forgetLocked removes the message from the session, and reports whether it was still there.
func (s *session) forgetLocked(d *delivery) bool {
	same := func(o *delivery) bool { return o.msg == d.msg && o.shared == d.shared }
	for i := range s.flights.ring {
		if f := &s.flights.ring[i]; f.id != 0 && f.state == awaitAck && same(&f.delivery) {
			s.finishLocked(f)
			return true
		}
	}
	removed := s.queue.removeFunc(same)
	for i := range removed {
		s.broker.memory.Add(-int64(removed[i].msg.size()))
	}
	return len(removed) > 0
}

func (b *Broker) hasOther(bt *batch, d *delivery, from *session) bool {
	p := &bt.waiting
	p.from(d.msg, p.topic)
	b.tree.Match(p.topic, &bt.matches)
	for _, g := range bt.matches.Groups {
		if d.shared.Value.filter == "$share/"+g.Name()+"/"+g.Filter() {
			return b.otherMember(bt, g, p, from, true) != nil
		}
	}
	return false
}
