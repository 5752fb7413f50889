package petrel

import (
	"slices"
	"strings"

	"github.com/petrelmq/petrel/topics"
)

// What a member of a shared subscription has got, and leaves to the others: all, if
// its session ends; what they have room for, if its connection does.

// elsewhere gives p to another member of the shared subscription, as the session
// that was chosen has ended before it got it, or did not finish what is left; left
// is nil if it got nothing. It reports whether there was one as ready as the least.
func (b *Broker) elsewhere(bt *batch, p *publication, from *entry, left *leftover, least readiness) bool {
	for {
		g := b.groupOf(bt, from, p)
		if g == nil {
			return false
		}
		e := b.readiest(bt, g, p, from.Value.session, least)
		if e == nil {
			return false
		}
		t := target{session: e.Value.session, ids: e.Value.ids, shared: e, qos: min(e.Value.qos, p.qos), retain: p.retain && e.Value.asIs}
		t.unasked = e.Value.check && bt.journal.bracketed
		if b.move(bt, p, &t, left) { // the DeliverInterceptors had their say the first time
			return true
		}
		from = e
	}
}

// redispatch gives a message that a member of a shared subscription did not
// finish to another member, and reports whether there was one.
func (b *Broker) redispatch(bt *batch, s *session, d *delivery) bool {
	p := &bt.waiting
	p.from(d.msg, p.topic)
	found := b.elsewhere(bt, p, d.shared, &leftover{s, d}, hardlyEither)
	if !found && d.place.n != 0 {
		b.journal.forget(bt, s, d)
	}
	bt.relieve()
	return found
}

// passOn is redispatch for a session that goes on. If the other members have gone
// meanwhile, or have no room, the message waits for it as before, behind what waits
// there already.
func (b *Broker) passOn(bt *batch, s *session, d *delivery) {
	p := &bt.waiting
	p.from(d.msg, p.topic)
	defer bt.relieve()
	left := &leftover{s, d}
	if b.elsewhere(bt, p, d.shared, left, afterQueue) {
		return
	}
	back := target{session: s, ids: d.ids, shared: d.shared, qos: d.qos, retain: d.retain, unasked: len(b.hooks.authorize) > 0}
	if b.move(bt, p, &back, left) {
		return
	}
	if d.place.n != 0 {
		b.journal.forget(bt, s, d)
	}
	bt.dropMessage(s.id, d.msg, d.qos, DropSessionEnded)
}

// handOver gives what a session that lost its connection got by shared
// subscriptions and did not acknowledge to other connected members, if there
// are any. QoS 2 messages that were sent stay with their client.
func (b *Broker) handOver(bt *batch, s *session) {
	s.mu.Lock()
	if s.owner == nil {
		s.spillTailLocked() // what the store has goes first
	}
	flights, samples := s.movableFlightsLocked(), s.sharedLocked()
	st := s.queue.stored
	if st != nil && st.shared == 0 {
		st = nil
	}
	if st != nil && st.busy {
		st.again = true // the page that is being read may come too late for what follows
	}
	s.mu.Unlock()
	stay := make(map[*entry]bool) // others take no more of these
	for i := range flights {
		f := &flights[i]
		stay[f.shared] = stay[f.shared] || !b.handOverFlight(bt, s, f)
	}
	for i := range samples {
		if stay[samples[i].shared] || !b.hasOther(bt, &samples[i], s) {
			continue
		}
		s.mu.Lock()
		taken := s.takeSharedLocked(samples[i].shared)
		s.mu.Unlock()
		for j := range taken {
			b.passOn(bt, s, &taken[j])
		}
	}
	if st != nil && b.hasCompany(bt, s) {
		b.spawn(func() { b.handOverStored(s, st) })
	}
}

// handOverFlight is handOver for a message that was sent, and reports whether it went.
// One that stays is still in flight, or the queue would have to have room for it.
func (b *Broker) handOverFlight(bt *batch, s *session, f *flight) bool {
	if !b.hasOther(bt, &f.delivery, s) {
		return false
	}
	s.mu.Lock()
	taken := s.takeFlightLocked(f)
	s.mu.Unlock()
	if taken {
		b.passOn(bt, s, &f.delivery)
	}
	return taken
}

// hasCompany reports whether another member of one of the session's shared
// subscriptions is connected.
func (b *Broker) hasCompany(bt *batch, s *session) bool {
	s.mu.Lock()
	list := slices.Clone(s.subs.all())
	s.mu.Unlock()
	for _, e := range list {
		if !e.Value.shared {
			continue
		}
		_, inner, _ := topics.SplitShared(e.Value.filter)
		p := publication{topic: []byte(strings.NewReplacer("+", "x", "#", "x").Replace(inner))} // which it matches
		g := b.groupOf(bt, e, &p)
		if g == nil {
			continue
		}
		bt.members = g.Members(bt.members[:0])
		if slices.ContainsFunc(bt.members, func(m *entry) bool { return m.Value.session != s && m.Value.session.online.Load() }) {
			return true
		}
	}
	return false
}

// mayMove reports whether another member of its shared subscription could get
// what is in flight.
func (f *flight) mayMove() bool { return f.shared != nil && f.qos == AtLeastOnce }

// movableFlightsLocked returns what other members could get of what is in flight, in order.
func (s *session) movableFlightsLocked() (list []flight) {
	for _, f := range s.flights.ordered() {
		if f.mayMove() {
			list = append(list, *f)
		}
	}
	return list
}

// sharedLocked returns one message of each shared subscription by which some wait.
func (s *session) sharedLocked() (samples []delivery) {
	s.queue.all(func(d *delivery) {
		if d.shared == nil || slices.ContainsFunc(samples, func(e delivery) bool { return e.shared == d.shared }) {
			return
		}
		samples = append(samples, *d)
	})
	return samples
}

// takeFlightLocked removes a message that was in flight, unless it is finished
// meanwhile or the session has a connection again.
func (s *session) takeFlightLocked(was *flight) bool {
	f := s.flights.get(was.id)
	if s.owner != nil || s.ended || f == nil || f.seq != was.seq {
		return false
	}
	s.dropFlightLocked(f)
	return true
}

// takeSharedLocked removes the messages of one shared subscription that wait, in
// order, unless the session has a connection again.
func (s *session) takeSharedLocked(from *entry) []delivery {
	if s.owner != nil || s.ended {
		return nil
	}
	queued := s.queue.removeFunc(func(d *delivery) bool { return d.shared == from })
	for i := range queued {
		s.broker.memory.remove(&queued[i])
	}
	return queued
}

// hasOther reports whether another member of the shared subscription is connected.
func (b *Broker) hasOther(bt *batch, d *delivery, from *session) bool {
	p := &bt.waiting
	p.from(d.msg, p.topic)
	g := b.groupOf(bt, d.shared, p)
	if g == nil {
		return false
	}
	bt.members = g.Members(bt.members[:0])
	return b.readiestAfter(bt, 0, p, from, afterQueue) != nil // nobody's turn is used up
}

// groupOf finds the shared subscription by which p came to one of its members,
// nil if it has none any more.
func (b *Broker) groupOf(bt *batch, member *entry, p *publication) *group {
	b.tree.Match(p.topic, &bt.matches)
	for _, g := range bt.matches.Groups {
		if member.Value.filter == "$share/"+g.Name()+"/"+g.Filter() {
			return g
		}
	}
	return nil
}
