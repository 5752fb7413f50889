package petrel

import (
	"cmp"
	"maps"
	"slices"
)

// What becomes of the sessions once all records of the store are read.

// settle lets all sessions go on without a connection, as they would have done if
// the process had not ended; their connections ended with it.
func (r *restoring) settle() {
	serials := slices.Sorted(maps.Keys(r.sessions))
	for _, serial := range serials {
		r.enter(r.sessions[serial])
	}
	b := r.broker
	for _, serial := range serials {
		r.fit(r.sessions[serial])
	}
	for _, serial := range serials { // now that everybody can get what this causes
		s := r.sessions[serial]
		if w := s.due; w != nil {
			sh := b.directory.shard(s.id)
			sh.mu.Lock()
			sh.dueLocked(w)
			sh.mu.Unlock()
			b.begin(func() { b.publishWill(w) })
		}
		if s.ended {
			b.begin(func() { b.endSession(s.session, SessionEnded) })
			continue
		}
		s.mu.Lock()
		s.alarmLocked()
		s.mu.Unlock()
	}
}

// enter makes a session routable, unless it has ended.
func (r *restoring) enter(s *restored) {
	r.fly(s)
	s.endBacklogLocked()
	if !s.checks {
		s.last = nil
	}
	connected := s.record.state == stateConnected
	switch {
	case s.record.state == stateEnded, r.newest[s.id] != s.serial, connected && s.expiry == 0:
		s.ended = true
		s.due = s.will
		return
	case connected:
		w := s.will
		if w != nil && w.delay == 0 {
			s.due, w = w, nil
		}
		s.waitLocked(r.now, w)
		r.journal.keepSession(nil, s.session)
		if w != nil {
			r.journal.keepWill(nil, s.session, w, s.absence.willDue)
		}
	default:
		s.beginAbsenceLocked(r.broker.alarms.instantOf(s.record.expires), s.will, r.broker.alarms.instantOf(s.willDue))
	}
	r.broker.directory.shard(s.id).sessions[s.id] = s.session
	r.broker.directory.count.Add(1)
	r.broker.directory.owners.add(s.identity, owned{sessions: 1})
	for _, e := range s.subs.all() {
		r.broker.tree.Add(e.Value.filter, e)
	}
}

// fit leaves to the store what waits for a session, if memory has no room for it
// beside the flights of all.
func (r *restoring) fit(s *restored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended && !r.broker.memory.spare(0) {
		s.spillBehindLocked(0, 0)
	}
}

// fly puts the flights of a session into its table, in their order.
func (r *restoring) fly(s *restored) {
	for _, f := range s.moved {
		switch {
		case f.id == 0: // its delivery has taken it
		case f.state == awaitComp:
			s.sent = append(s.sent, flight{
				delivery: delivery{qos: ExactlyOnce, place: place{n: f.place, moved: true, alone: true}},
				seq:      f.place, id: f.id, state: awaitComp,
			})
		default:
			r.remove(appendPlace(nil, kindFlight, s.session, f.place))
		}
	}
	slices.SortFunc(s.sent, func(a, b flight) int { return cmp.Compare(a.seq, b.seq) })
	displaced := s.sameIdentifiers()
	for _, f := range s.sent {
		if f.msg != nil {
			r.broker.memory.add(int64(f.msg.size()))
		}
		s.flights.restore(f)
	}
	for _, d := range s.head {
		r.broker.memory.add(int64(d.msg.size()))
		s.queue.push(d)
	}
	for i := range displaced {
		r.passBack(s, &displaced[i])
	}
	s.sent, s.moved, s.head = nil, nil, nil
}

// sameIdentifiers takes out the flights whose packet identifier a later one has. They
// were on their way to other members of a group when the process ended.
func (s *restored) sameIdentifiers() (displaced []delivery) {
	taken := make(map[uint16]bool, len(s.sent))
	for i := len(s.sent) - 1; i >= 0; i-- {
		f := &s.sent[i]
		if !taken[f.id] {
			taken[f.id] = true
			continue
		}
		if f.msg != nil {
			displaced = slices.Insert(displaced, 0, f.delivery)
		}
		s.sent = slices.Delete(s.sent, i, i+1)
	}
	return displaced
}

// passBack lets a message wait that was on its way to another member, as passOn does:
// behind what waits there already, and so with a new place.
func (r *restoring) passBack(s *restored, d *delivery) {
	back := *d
	r.journal.keepDelivery(nil, s.session, &back, 0)
	s.lineUpLocked(&back, !r.broker.memory.spare(int64(d.msg.size())))
	r.journal.forget(nil, s.session, d)
}
