package petrel

import (
	"time"
)

// What goes through all of the middle of a queue, beside the clients: a page at a
// time, waiting for each to be in the store, so that neither the memory nor a commit
// gets large, and the publishers are not held up.

// sweepRange is how much of a queue is looked at at once.
func sweepRange(s *session, st *stored) pageRange {
	return pageRange{serial: s.serial, from: st.from, to: st.to, messages: 1024, bytes: 1 << 20, behind: true}
}

// sweep calls each with pages of a range, until it reports false. What it returns is
// waited for. It reports false if the broker is closed before the end.
func (b *Broker) sweep(s *session, r pageRange, each func(*page) (after *commit, goOn bool)) bool {
	pause := commitRetry
	for {
		if b.isClosed() {
			return false
		}
		p, err := b.journal.readPage(b.ctx, r)
		if err != nil {
			b.log.Error("petrel: what waits for a session cannot be read from the store, trying again", "client", s.id, "pause", pause, "error", err)
			if !b.sleep(pause) {
				return false
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = commitRetry
		after, goOn := each(&p)
		for b.journal.wait(b.ctx, after) != nil {
			if b.isClosed() || !b.sleep(commitRetry) {
				return false
			}
		}
		if r.from = p.next; !goOn || p.end {
			return true
		}
		r.behind = false
	}
}

// endStored removes what only the store has of a session that has ended. Messages that
// came by shared subscriptions go to other members. If the broker is closed meanwhile,
// the next start goes on with it.
func (b *Broker) endStored(s *session, st *stored) {
	if st.moving != nil {
		<-st.moving
	}
	done := b.sweep(s, sweepRange(s, st), func(p *page) (*commit, bool) {
		bt := b.batch()
		defer bt.finish()
		for i := range p.records {
			r := &p.records[i]
			if r.err != nil {
				b.setAside(bt, s, r)
				continue
			}
			d := &r.delivery
			s.mu.Lock()
			d.shared = s.cameByLocked(r.filter)
			s.mu.Unlock()
			if d.shared == nil {
				b.journal.forget(bt, s, d)
			} else if b.redispatch(bt, s, d) {
				continue
			}
			b.dropped(bt, s.id, d.msg.topic, d.qos, DropSessionEnded)
		}
		return bt.journaled, true
	})
	if !done {
		return
	}
	bt := b.batch()
	defer bt.finish()
	b.settled(bt, s)
}

// handOverStored is handOver for the middle of the queue. It ends when the session has
// a connection again.
func (b *Broker) handOverStored(s *session, st *stored) {
	s.mu.Lock()
	if s.queue.stored != st || s.owner != nil || st.busy {
		st.again = s.owner == nil
		s.mu.Unlock()
		return
	}
	st.busy = true
	st.moving = make(chan struct{})
	r := sweepRange(s, st)
	s.mu.Unlock()
	b.sweep(s, r, func(p *page) (*commit, bool) { return b.handOverPage(s, st, p) })
	close(st.moving)
	bt := b.batch()
	defer bt.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue.stored != st {
		return
	}
	st.busy, st.moving = false, nil
	s.joinLocked()
	s.pumpLocked(bt)
}

// handOverPage gives what it can of a page to other connected members.
func (b *Broker) handOverPage(s *session, st *stored, p *page) (after *commit, goOn bool) {
	bt := b.batch()
	defer bt.finish()
	moves := make(map[string]*entry) // by filter; nil if nobody else is there
	for i := range p.records {
		r := &p.records[i]
		if _, known := moves[r.filter]; r.err != nil || r.filter == "" || known {
			continue
		}
		s.mu.Lock()
		r.shared = s.cameByLocked(r.filter)
		s.mu.Unlock()
		if moves[r.filter] = nil; b.hasOther(bt, &r.delivery, s) {
			moves[r.filter] = r.shared
		}
	}
	taken, goOn := s.takeStored(st, p, moves)
	for _, r := range taken {
		b.passOn(bt, s, &r.delivery)
	}
	return bt.journaled, goOn
}

// takeStored counts out of the middle what moves, unless the session has a connection
// again.
func (s *session) takeStored(st *stored, p *page, moves map[string]*entry) (taken []*pageRecord, goOn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue.stored != st || s.owner != nil {
		return nil, false
	}
	for i := range p.records {
		r := &p.records[i]
		if r.err != nil || moves[r.filter] == nil {
			continue
		}
		r.shared = moves[r.filter]
		st.forget(r.size, true)
		taken = append(taken, r)
	}
	return taken, st.shared > 0
}
