package petrel

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/petrelmq/petrel/packets"
)

// session is what outlives a connection (MQTT 5.0, section 4.1). It belongs to
// the identity that created it, not to whoever knows its client identifier.
type session struct {
	broker     *Broker
	*principal                    // who created it
	local      *LocalSubscription // of the host; nil for sessions of clients
	serial     uint64             // tells sessions apart, also those with the same identifier
	online     atomic.Bool        // client is set; a hint for the choice of a shared member

	mu      sync.Mutex
	expiry  uint32  // Session Expiry Interval, in seconds
	owner   *Client // the connection that may touch the session, nil if there is none
	client  *Client // the owner, once it got its CONNACK: messages can be sent
	last    *Client // the last that was online, as long as a subscription has to ask about it
	durable bool    // it outlives the process, as far as there is a store
	ended   bool    // nothing may be added any more
	checks  bool    // some subscription has to be authorised for each delivery
	epoch   uint32  // counts the reviews of what waits
	quota   int32   // how many more QoS 1 and 2 messages may be sent on this connection
	yields  int32   // its place in memory.queues, 0 for none; guarded by memory.mu

	absence   *absence   // nil while it has a connection, or waits for nothing without one
	takeovers *takeovers // nil if there was none

	subs     subscriptionSet
	*backlog // noBacklog while it has none

	// Of the client that was connected last.
	userName string
	version  Version

	// What the store has of it.
	kept     bool // there is a record of it
	willKept bool // and one of a will
	settled  bool // it has ended, and nothing but that will is left of it

	places uint64 // given to deliveries so far
}

// neverExpires is the Session Expiry Interval of a session without an end.
const neverExpires = math.MaxUint32

func newSession(b *Broker, p *principal) *session {
	return &session{broker: b, principal: p, serial: b.serials.Add(1), backlog: &noBacklog}
}

// goOfflineLocked takes the session from its connection.
func (s *session) goOfflineLocked() {
	s.owner, s.client = nil, nil
	if !s.checks {
		s.last = nil
	}
	s.online.Store(false)
	if s.endBacklogLocked(); s.backlog == &noBacklog {
		return
	}
	s.resend = nil
	s.flights.settle()
	for id := range s.received {
		s.received[id] = false
	}
	s.spillLocked()
}

// takeovers notices connections that displace each other: a client identifier
// that was given twice.
type takeovers struct{ last, before, told instant }

// note counts a takeover, and reports whether it is the third within a minute,
// once a minute.
func (t *takeovers) note(now instant) bool {
	third := t.before != 0 && now-t.before < instant(time.Minute)
	t.before, t.last = t.last, now
	if !third || t.told != 0 && now-t.told < instant(time.Minute) {
		return false
	}
	t.told = now
	return true
}

// ownedBy is the connection that the session belongs to, nil if there is none.
func (s *session) ownedBy() *Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner
}

// onlineClient is the client that messages are sent to now, nil if there is none.
func (s *session) onlineClient() *Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// lastClient is the client to ask about when the session is sent something.
func (s *session) lastClient() *Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// endSession removes what an ended session holds. Messages that it has by shared
// subscriptions go to other members. What it returns is to be safe in the store.
func (b *Broker) endSession(s *session, kind SessionEventKind) *commit {
	bt := b.batch()
	defer bt.finish()
	s.mu.Lock()
	s.endAbsenceLocked()
	subs := slices.Clone(s.subs.all())
	held, left := s.takeAllLocked(bt)
	s.mu.Unlock()
	for _, e := range subs {
		b.tree.Remove(e)
	}
	for i := range held {
		d := &held[i]
		if d.shared == nil || !b.redispatch(bt, s, d) {
			b.dropped(bt, s.id, d.msg.topic, d.qos, DropSessionEnded)
		}
	}
	switch {
	case left != nil:
		b.spawn(func() { b.endStored(s, left) })
	case b.journal != nil:
		b.settled(bt, s)
	}
	if s.local == nil {
		b.sessionChanged(s, kind)
	}
	return bt.journaled
}

// settled says that nothing is left of an ended session.
func (b *Broker) settled(bt *batch, s *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = true
	b.journal.forgetSession(bt, s)
}

// takeAllLocked empties the session and returns the messages that were not
// delivered, and those that are in the store only, nil if there are none. What the store
// has of those that another session may get stays there.
func (s *session) takeAllLocked(bt *batch) (held []delivery, left *stored) {
	if s.durable {
		s.forgetAllLocked(bt)
	}
	s.spillTailLocked() // it comes behind the rest, wherever that goes
	for _, f := range s.flights.ordered() {
		if f.state != awaitAck {
			s.forgetLocked(bt, &f.delivery)
			continue
		}
		held = append(held, f.delivery)
		if f.qos == ExactlyOnce {
			held[len(held)-1].shared = nil // the client may have it: it must not go to another
		}
	}
	held = append(held, s.queue.removeFunc(func(*delivery) bool { return true })...)
	for i := range held {
		s.broker.memory.remove(&held[i])
		if held[i].shared == nil {
			s.forgetLocked(bt, &held[i])
		}
	}
	s.broker.memory.forget(s)
	left = s.queue.stored
	s.subs, s.backlog = subscriptionSet{}, &noBacklog
	return held, left
}

// deliver gives the session one copy of p: it is sent, or queued, or dropped. It
// reports false if the session has ended, so that another member of a shared
// subscription has to get the copy.
func (s *session) deliver(bt *batch, p *publication, t *target) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.client
	switch {
	case s.ended && t.shared != nil:
		return false
	case s.ended:
		bt.drop(s.id, p, t.qos, DropSessionEnded)
	case s.local != nil:
		s.enqueueLocked(bt, t.delivery(p))
		s.local.wakeLocked()
	case s.owner == nil && t.qos == AtMostOnce && !s.broker.opts.QueueQoS0:
		bt.drop(s.id, p, t.qos, DropOffline)
	case t.unasked:
		s.enqueueLocked(bt, t.delivery(p))
		s.beginScrutinyLocked(nil)
		if c != nil { // otherwise its next connection asks
			s.broker.spawn(func() { s.broker.goOn(s, c) })
		}
	case c == nil, s.queue.messages() > 0, len(s.resend) > 0, t.qos > 0 && (s.fullLocked() || s.crowdedLocked(p.size())), !c.out.room():
		s.enqueueLocked(bt, t.delivery(p))
		s.pumpLocked(bt) // or who makes room later would not know that something waits for it
	default:
		s.sendLocked(bt, p, t)
	}
	return true
}

// fullLocked reports whether the client takes no more QoS 1 and 2 messages now.
func (s *session) fullLocked() bool { return s.quota <= 0 || s.flights.n >= math.MaxUint16 }

// crowdedLocked reports whether memory has no room for n bytes more of QoS 1 or 2 that
// the session has.
func (s *session) crowdedLocked(n int) bool {
	m := &s.broker.memory
	return s.durable && !m.spare(int64(n)) || !m.fits(n)
}

// sendLocked puts p into the outbound buffer of the connection, and into the
// table of flights if it has to be acknowledged.
func (s *session) sendLocked(bt *batch, p *publication, t *target) {
	c := s.client
	if p.expires != 0 && p.expires < bt.now {
		s.forgetLocked(bt, &delivery{msg: p.held, place: t.place})
		bt.drop(s.id, p, t.qos, DropExpired)
		return
	}
	if len(p.payload) >= shareFrom && p.lent == nil {
		p.message() // one copy for all receivers, which their buffers refer to
	}
	head, idAt := bt.head(c, p, t, false)
	if len(head)+len(p.payload) > int(c.maximumPacket) {
		if head, idAt = bt.head(c, p, t, true); len(head)+len(p.payload) > int(c.maximumPacket) {
			s.forgetLocked(bt, &delivery{msg: p.held, place: t.place})
			bt.drop(s.id, p, t.qos, DropTooLarge)
			return
		}
	}
	var id uint16
	var after *commit
	if t.qos > AtMostOnce {
		s.beginBacklogLocked()
		f := s.flights.add(t.delivery(p))
		f.epoch = s.epoch
		s.broker.memory.add(int64(f.msg.size()))
		bt.overdrawn = bt.overdrawn || s.broker.memory.over() > 0
		s.quota--
		id = f.id
		after = s.keepFlightLocked(bt, f, t.owed)
	}
	bt.push(c, head, p, idAt, id, after)
	bt.learnAlias(c, p)
}

// pumpLocked sends what waits: flights to be sent again, then the queue, then
// retained messages, as far as quota and socket allow.
func (s *session) pumpLocked(bt *batch) {
	c := s.client
	if c == nil {
		return
	}
	for {
		if c.out.waiting() >= flushFrom {
			c.out.more.Store(true)
			if c.out.waiting() >= flushFrom {
				return // whoever flushes sees more, and comes back
			}
		}
		if !s.sendNextLocked(bt) {
			c.out.more.Store(false)
			return
		}
	}
}

// sendNextLocked sends one of the messages that wait, or drops it. It reports
// whether it may be called again at once.
func (s *session) sendNextLocked(bt *batch) bool {
	if len(s.resend) > 0 {
		if s.quota <= 0 {
			return false
		}
		f := s.flights.get(s.resend[0])
		if f != nil && f.unsent && s.unsettledLocked(&f.delivery) {
			return false
		}
		s.resend = s.resend[1:]
		if f != nil && f.unsent {
			s.sendAgainLocked(bt, f)
		}
		return true
	}
	if d := s.queue.first(); d != nil {
		if d.qos > AtMostOnce && s.fullLocked() || s.unsettledLocked(d) {
			return false
		}
		next := *d
		s.queue.pop()
		s.broker.memory.remove(&next)
		if next.msg.expired(bt.now) {
			s.forgetLocked(bt, &next)
			bt.dropMessage(s.id, next.msg, next.qos, DropExpired)
			return true
		}
		bt.waiting.from(next.msg, bt.waiting.topic)
		s.sendLocked(bt, &bt.waiting, &target{
			session: s, ids: next.ids, shared: next.shared, qos: next.qos, retain: next.retain, place: next.place,
		})
		s.readAheadLocked(bt.now) // now that its memory is counted
		return true
	}
	if s.queue.stored != nil {
		s.readAheadLocked(bt.now)
		return false // who reads goes on
	}
	return s.replayNextLocked(bt)
}

// sendAgainLocked sends a flight on a new connection, with its old identifier
// and DUP. The message is sent even if it has expired.
func (s *session) sendAgainLocked(bt *batch, f *flight) {
	c := s.client
	p := &bt.waiting
	p.from(f.msg, p.topic)
	t := target{session: s, ids: f.ids, qos: f.qos, retain: f.retain, dup: true}
	head, idAt := bt.head(c, p, &t, true)
	f.unsent = false
	if len(head)+len(p.payload) > int(c.maximumPacket) {
		s.withdrawLocked(bt, f, DropTooLarge)
		return
	}
	s.quota--
	f.counted = true
	bt.push(c, head, p, idAt, f.id, nil) // behind a CONNACK, and so behind what has kept it
}

// resumeLocked sends again what the last connection did not finish, in the order
// in which it was sent.
func (s *session) resumeLocked(bt *batch) {
	for _, f := range s.flights.ordered() {
		f.counted = false
		switch {
		case f.state == awaitComp:
			bt.reply(s.client, &packets.Pubrel{PacketID: f.id})
		case s.quota > 0 && len(s.resend) == 0 && !s.unsettledLocked(&f.delivery):
			s.sendAgainLocked(bt, f)
		default:
			f.unsent = true
			s.resend = append(s.resend, f.id)
		}
	}
	if !s.broker.opts.QueueQoS0 {
		for _, r := range s.replays {
			r.missed = s.broker.retained.latest.Load()
		}
	}
}

// unsettledLocked reports whether the Authorizers have to be asked about a message first.
func (s *session) unsettledLocked(d *delivery) bool {
	return s.scrutiny != nil && d.epoch != s.epoch
}

// releaseFlightLocked lets the message of a QoS 2 flight go, and keeps its identifier.
func (s *session) releaseFlightLocked(bt *batch, f *flight) {
	s.broker.memory.remove(&f.delivery)
	f.state = awaitComp
	if f.place.n != 0 {
		s.broker.journal.keepFlight(bt, s, f)
	}
	f.msg, f.ids, f.shared = nil, nil, nil
	f.unsent = false
}

// finishLocked ends a flight and gives its quota back.
func (s *session) finishLocked(bt *batch, f *flight) {
	s.forgetLocked(bt, &f.delivery)
	s.dropFlightLocked(f)
}

// dropFlightLocked is finishLocked for a flight whose message goes on elsewhere.
func (s *session) dropFlightLocked(f *flight) {
	if f.counted {
		s.quota++
	}
	if f.msg != nil {
		s.broker.memory.remove(&f.delivery)
	}
	s.flights.remove(f)
}
