package petrel

import (
	"math"
	"time"
)

// Queues larger than memory
//
// Each message of QoS 1 and 2 that waits for a session which outlives the process is
// a record of the store from the moment that it waits. So memory need not have it: a
// long queue is a head in memory, which is sent next, a middle that is in the store
// only, and a tail in memory, which came last.
//
//	head:   queue.ring
//	middle: the q records of the session with stored.from <= PLACE <= stored.to;
//	        in memory is how many there are, and of how many bytes
//	tail:   stored.tail
//
// What holds at all times, under session.mu:
//
//   - Head, middle, tail is the order of delivery. While there is a middle, all that
//     comes goes to the tail, and nothing is sent past it.
//   - Each record in the range of the middle waits: flights stand before it, as what
//     is sent was in front, and nothing in it is removed but by who has set busy. As
//     long as that is set, the range may grow at its end, not at its beginning.
//   - A message is in one of the three. Nothing is journaled when it goes from one
//     to another: what is in the store does not depend on where it is in memory. So a
//     crash finds what it would have found without any of this.
//   - Messages of QoS 0, which are in no store, wait in the tail, loose: each knows
//     behind which place. They do not leave memory.
//
// When head and tail are too much, what follows the beginning of the head goes to the
// middle (spill). When the head gets short, a goroutine of its own reads the next page
// (readBack), without a lock. The records of a session become visible in the order of
// their places; only when a page is empty it waits for the commit that has them. What
// was removed from the range may still be visible: then it waits before. When the
// middle is empty, the tail follows the head, and the queue is one in memory again.
//
// On start all but the head is the middle; its records are counted, not kept.
//
// Messages that expire in the middle are dropped when they come to the head; until
// then they count. So do those that the Authorizers have to be asked about, or that
// are damaged: these are set aside. A read that fails takes nothing away: who waits
// for it is disconnected, and it is tried again for the next.

// stored is what of a queue follows its head. Guarded by session.mu.
type stored struct {
	from, to uint64 // of the middle; from can be before its first place
	messages int    // in the middle
	bytes    int
	shared   int    // of messages: came by shared subscriptions
	judgeTo  uint64 // those up to here were not looked at by the session's scrutiny

	tail queue

	busy   bool          // somebody reads
	moving chan struct{} // closed when what handOverStored has taken out is in the store; nil if it takes nothing
	again  bool          // handOver has found it so
	gaps   bool          // records in the range were removed, perhaps not in the store yet
	failed instant       // when a read has failed last

	gone map[string]*entry // shared subscriptions that the session had when they brought a message
}

// depth is how much of a queue is in memory, in messages and bytes.
type depth struct {
	messages, bytes         int // of head and tail, before they spill
	pageMessages, pageBytes int // that are read at once, when the head is below half of that
}

var (
	// onlineDepth is what a connection can take before more is read.
	onlineDepth = depth{1024, 1 << 20, 256, 256 << 10}
	// offlineDepth is what need not be read when a client comes back.
	offlineDepth = depth{64, 64 << 10, 32, 32 << 10}
)

func (s *session) depthLocked() *depth {
	if s.client != nil {
		return &onlineDepth
	}
	return &offlineDepth
}

// out is d as it is outside of its queue.
func (d *delivery) out() delivery {
	out := *d
	if out.place.loose {
		out.place = place{}
	}
	return out
}

// add puts d at the end of the line, where last was the last place that was given.
func (q *queue) add(d delivery, last uint64) {
	if q.stored == nil {
		q.push(d)
		return
	}
	if d.place.n == 0 {
		d.place = place{n: last, loose: true}
	}
	q.stored.tail.push(d)
}

// note counts a record to the middle.
func (st *stored) note(n uint64, size int, shared bool) {
	if st.messages == 0 {
		st.from, st.to = n, n
	}
	st.from, st.to = min(st.from, n), max(st.to, n)
	st.messages++
	st.bytes += size
	if shared {
		st.shared++
	}
}

// forget counts a record out again.
func (st *stored) forget(size int, shared bool) {
	st.messages--
	st.bytes = max(st.bytes-size, 0)
	if shared {
		st.shared--
	}
}

// lineUpLocked puts a message that is in the store to the end of the line. crowded says
// that it has no room in memory.
func (s *session) lineUpLocked(d *delivery, crowded bool) {
	q := &s.queue
	st := q.stored
	if st != nil && st.tail.live == st.tail.qos0 && (crowded || s.deepLocked(1, d.msg.size())) {
		st.gaps = st.gaps || st.to+1 != d.place.n
		s.leaveLocked(st, d)
		return
	}
	q.add(*d, 0)
	s.broker.memory.add(int64(d.msg.size()))
	if !crowded {
		s.spillLocked()
		return
	}
	keep := int(q.live)
	if st == nil {
		keep--
	}
	s.spillBehindLocked(keep, math.MaxInt)
}

// leaveLocked leaves a message to the store, next to the middle.
func (s *session) leaveLocked(st *stored, d *delivery) {
	if d.epoch != s.epoch {
		st.judgeTo = max(st.judgeTo, d.place.n)
	}
	st.note(d.place.n, d.msg.size(), d.shared != nil)
	if d.place.byRef {
		s.broker.journal.leave(d.msg)
	}
}

// deepLocked reports whether the queue is more than memory should have with so much more.
func (s *session) deepLocked(messages, bytes int) bool {
	d := s.depthLocked()
	m, b := s.queue.inMemory()
	return m+messages > d.messages || b+bytes > d.bytes
}

// spillLocked leaves to the store what of the queue is too much for memory.
func (s *session) spillLocked() {
	if d := s.depthLocked(); s.durable && s.deepLocked(0, 0) {
		s.spillBehindLocked(d.messages*3/4, d.bytes*3/4)
	}
}

// spillTailLocked leaves to the store what came last, if there is a middle.
func (s *session) spillTailLocked() {
	if s.queue.stored != nil {
		s.spillBehindLocked(math.MaxInt, math.MaxInt)
	}
}

// spillBehindLocked leaves all to the store but the head's first messages, as many as
// are allowed.
func (s *session) spillBehindLocked(messages, bytes int) {
	q := &s.queue
	st := q.stored
	if st == nil {
		st = new(stored)
	}
	if st.busy { // who reads goes on behind the head as it is
		messages, bytes = math.MaxInt, math.MaxInt
	}
	var rest, tail queue
	last := q.cut(messages, bytes, &rest)
	before := uint64(0) // the place before, of what is in the store only
	spill := func(d *delivery) {
		if d.place.n == 0 {
			d.place = place{n: last, loose: true}
		}
		last = d.place.n
		if d.place.loose {
			tail.push(*d)
			return
		}
		st.gaps = st.gaps || before != 0 && before+1 != d.place.n
		before = d.place.n
		s.broker.memory.remove(d)
		s.leaveLocked(st, d)
	}
	from, to, middle := st.from, st.to, st.messages > 0
	rest.all(spill)
	if middle {
		st.gaps = st.gaps || before != 0 && before+1 != from
		before = to
	}
	st.tail.all(spill)
	st.tail = tail
	if st.messages > 0 || q.stored != nil {
		q.stored = st
		return
	}
	tail.all(func(d *delivery) { q.push(d.out()) }) // there was nothing for the store
}

// cut moves all but the first messages to rest. It returns the place of the last that
// stays and is in the store.
func (q *queue) cut(messages, bytes int, rest *queue) (last uint64) {
	keep := q.n
	for i, live, size := int32(0), 0, 0; i < q.n; i++ {
		d := q.at(i)
		if d.msg == nil {
			continue
		}
		live++
		size += d.msg.size()
		if live > messages || size > bytes {
			keep = i
			break
		}
		if d.place.n != 0 {
			last = d.place.n
		}
	}
	for i := keep; i < q.n; i++ {
		if d := q.at(i); d.msg != nil {
			rest.push(*d)
			q.forget(d)
		}
	}
	q.n = keep
	size := 4
	for size < int(keep) {
		size *= 2
	}
	if size < len(q.ring) {
		q.resize(size)
	}
	return last
}

// joinLocked lets the tail follow the head, as nothing is between them.
func (s *session) joinLocked() {
	q := &s.queue
	st := q.stored
	if st == nil || st.messages > 0 {
		return
	}
	q.stored = nil
	st.tail.all(func(d *delivery) { q.push(d.out()) })
}

// readAheadLocked has the next page of the middle read, if there is one and the head
// is short, with as much more as has to make room. Who reads it goes on with what is
// waiting.
func (s *session) readAheadLocked(now instant) {
	st, d := s.queue.stored, s.depthLocked()
	if st == nil || st.busy || 2*int(s.queue.live) > d.pageMessages || 2*s.queue.bytes > d.pageBytes {
		return
	}
	if s.client == nil && st.failed != 0 && now-st.failed < instant(time.Second) {
		return
	}
	o := &s.broker.opts
	messages := d.pageMessages + max(s.queue.messages()-o.QueueMessages, 0)
	bytes := d.pageBytes + max(s.queue.size()-o.QueueBytes, 0)
	granted := s.broker.memory.grant(int64(max(min(st.bytes, bytes), 1)))
	if st.messages == 0 || granted < int64(st.bytes/st.messages) { // not even for one
		if s.queue.live > 0 || s.client != nil && s.flights.n > 0 {
			s.broker.memory.add(-granted)
			return // when one of them is finished, it is tried again
		}
		messages = 1
	}
	st.busy = true
	r := pageRange{serial: s.serial, from: st.from, to: st.to, messages: messages, bytes: int(granted), behind: st.gaps}
	st.gaps = false
	s.broker.spawn(func() { s.broker.readBack(s, st, r) })
}

// readBack reads a page of a queue, and lets the session go on with it.
func (b *Broker) readBack(s *session, st *stored, r pageRange) {
	p, err := b.journal.readPage(b.ctx, r)
	p.granted = int64(r.bytes)
	if err != nil && b.ctx.Err() == nil {
		b.log.Error("petrel: what waits for a client cannot be read from the store, it stays there", "client", s.id, "error", err)
	}
	c, asks := b.turnPage(s, st, &p, err)
	switch {
	case c == nil:
	case err != nil:
		c.stop(notKept(err))
	case asks:
		b.goOn(s, c)
	}
}

// turnPage takes what was read of a page, and reports who waits for it, and whether
// the Authorizers have to be asked first.
func (b *Broker) turnPage(s *session, st *stored, p *page, err error) (c *Client, asks bool) {
	bt := b.batch()
	defer bt.finish()
	s.mu.Lock()
	if s.queue.stored != st { // the session has ended
		b.memory.add(-p.granted)
		s.mu.Unlock()
		return nil, false
	}
	st.busy = false
	if st.failed = 0; err != nil {
		st.failed, st.gaps = bt.now, true // perhaps
	}
	s.takePageLocked(bt, p)
	if err == nil {
		s.pumpLocked(bt)
	}
	s.spillLocked()
	c, asks = s.client, s.scrutiny != nil
	again := st.again && s.owner == nil
	st.again = false
	s.mu.Unlock()
	if again {
		b.handOver(bt, s)
	}
	return c, asks
}

// takePageLocked puts the messages of a page to the head.
func (s *session) takePageLocked(bt *batch, p *page) {
	st := s.queue.stored
	for i := range p.records {
		r := &p.records[i]
		st.forget(r.size, r.filter != "")
		if r.err != nil {
			s.broker.setAside(bt, s, r)
			continue
		}
		s.bringBackLocked(bt, p, r)
	}
	s.broker.memory.add(-p.granted) // what is left of it
	if st.from = max(st.from, p.next); p.end && p.to < st.to {
		st.from = max(st.from, p.to+1)
	}
	if p.end && st.to <= p.to && st.messages > 0 {
		s.broker.log.Error("petrel: messages that waited for a client are not in the store any more", "client", s.id, "messages", st.messages)
		st.messages = 0
	}
	s.joinLocked()
	if x := s.scrutiny; x != nil && len(x.asked) > mostAsked {
		clear(x.asked)
	}
	for s.overfullLocked(0, 0) && s.broker.opts.QueueFull == DropOldest {
		if !s.makeRoomLocked(bt, ExactlyOnce) {
			break
		}
	}
}

// mostAsked is how many topics a scrutiny remembers that the Authorizers were asked about.
const mostAsked = 4096

// bringBackLocked puts a message that was read to the head, behind those of QoS 0 that
// came before it.
func (s *session) bringBackLocked(bt *batch, p *page, r *pageRecord) {
	q := &s.queue
	for f := q.stored.tail.first(); f != nil && f.place.loose && f.place.n < r.place.n; f = q.stored.tail.first() {
		q.push(f.out())
		q.stored.tail.pop()
	}
	d := r.delivery
	d.shared = s.cameByLocked(r.filter)
	if d.epoch = s.epoch; d.place.n <= q.stored.judgeTo {
		d.epoch--
	}
	if d.msg.expired(bt.now) {
		s.forgetLocked(bt, &d)
		bt.dropMessage(s.id, d.msg, d.qos, DropExpired)
		return
	}
	s.broker.memory.spend(&p.granted, int64(d.msg.size()))
	q.push(d)
}

// cameByLocked returns the shared subscription that a message came by, nil if its
// filter is empty. It may be gone, and other members get the message all the same.
func (s *session) cameByLocked(filter string) *entry {
	if filter == "" {
		return nil
	}
	if e := s.subs.get(filter); e != nil {
		return e
	}
	st := s.queue.stored
	if st == nil {
		st = new(stored)
	}
	if st.gone == nil {
		st.gone = make(map[string]*entry)
	}
	if st.gone[filter] == nil {
		st.gone[filter] = &entry{Value: subscription{session: s, filter: filter, shared: true}}
	}
	return st.gone[filter]
}

// setAside puts a record that cannot be understood under another key.
func (b *Broker) setAside(bt *batch, s *session, r *pageRecord) {
	b.log.Error("petrel: a record of the store is damaged and was set aside", "client", s.id, "key", r.key, "error", r.err)
	b.journal.setAside(bt, r.key, r.value)
	if r.place.byRef {
		b.journal.mu.Lock()
		b.journal.letGoLocked(bt, r.msg)
		b.journal.mu.Unlock()
	}
}
