package petrel

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/petrelmq/petrel/topics"
)

// retained holds the retained message of each topic (MQTT 5.0, section
// 3.3.1.3), and removes those that expire.
type retained struct {
	broker   *Broker
	index    *topics.Retained[*message]
	mu       sync.Mutex    // makes one step of looking at a limit and storing
	expiring atomic.Int64  // messages with an expiry
	counted  atomic.Int64  // messages that count for the maximum: those outside $SYS
	bytes    int64         // of those; guarded by mu
	latest   atomic.Uint64 // the number of the message that was kept last
	alarm    alarm         // of the next look for expired ones
}

// sweepGap is how often expired messages are looked for. Until they are found
// they cost memory, but nobody is sent them.
const sweepGap = time.Minute

func (r *retained) init(b *Broker) {
	r.broker = b
	r.index = topics.NewRetained[*message]()
}

// keep stores p as the retained message of its topic, or removes the one that
// there is if p has no payload. It returns the limit that p is above, if there is one.
func (r *retained) keep(bt *batch, p *publication) Limit {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p.payload) == 0 || p.expires != 0 && p.expires <= bt.now {
		if old, ok := r.index.Delete(string(p.topic)); ok {
			r.gone(bt, old)
		}
		return 0
	}
	b := r.broker
	m := p.message()
	old, replaces := r.index.Get(m.topic)
	size := int64(m.size())
	if replaces {
		size -= int64(old.size())
	}
	switch {
	case !replaces && !isReserved(p.topic) && r.counted.Load() >= int64(b.opts.MaximumRetained):
		return LimitRetained
	case size > 0 && !isReserved(p.topic) && r.bytes+size > b.opts.MaximumRetainedBytes:
		return LimitRetainedBytes
	case !b.memory.retain(size):
		return LimitMemory
	}
	m.kept = r.latest.Add(1) // nobody else has it yet
	if old, ok := r.index.Set(m.topic, m); ok {
		r.uncount(old)
	}
	bt.overdrawn = bt.overdrawn || b.memory.over() > 0
	if b.journal != nil && !isReserved(p.topic) {
		b.journal.keepRetained(bt, m)
	}
	if !isReserved(p.topic) {
		r.counted.Add(1)
		r.bytes += int64(m.size())
	}
	if m.expires != 0 && r.expiring.Add(1) == 1 {
		b.alarms.set(&r.alarm, r, bt.now.after(sweepGap))
	}
	return 0
}

// restoreNumber notes a number that was given before the process began: the next is
// above all of them. Nobody else runs yet.
func (r *retained) restoreNumber(n uint64) { r.latest.Store(max(r.latest.Load(), n)) }

// notRetained drops a retained message that is above a limit, and returns the
// error for its publisher; c is nil for the host.
func (b *Broker) notRetained(bt *batch, l Limit, c *Client, p *publication) error {
	topic := string(p.topic)
	b.dropped(bt, "", topic, p.qos, l.dropReason())
	bt.limited(l, c, p.by.name(), topic)
	return l.refusal()
}

// gone is called when m is no longer kept, nor any other message of its topic.
func (r *retained) gone(bt *batch, m *message) {
	r.uncount(m)
	r.broker.memory.retain(-int64(m.size()))
	if j := r.broker.journal; j != nil && !isReserved([]byte(m.topic)) {
		j.forgetRetained(bt, m.topic)
	}
}

// uncount accounts for a message that is no longer kept, but for its memory.
func (r *retained) uncount(m *message) {
	if m.expires != 0 {
		r.expiring.Add(-1)
	}
	if !isReserved([]byte(m.topic)) {
		r.counted.Add(-1)
		r.bytes -= int64(m.size())
	}
}

// expire removes m, if it is still the retained message of its topic.
func (r *retained) expire(m *message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.index.DeleteFunc(m.topic, func(now *message) bool { return now == m }); ok {
		r.gone(nil, old)
	}
}

// ring looks for expired messages.
func (r *retained) ring(instant) {
	r.broker.begin(func() {
		var some []*message
		for c := topics.NewCursorAll(); !c.Done(); {
			some = r.index.Next(&c, some[:0], 256)
			now := r.broker.alarms.now()
			for _, m := range some {
				if m.expired(now) {
					r.expire(m)
				}
			}
			if r.broker.ctx.Err() != nil {
				return
			}
		}
		if r.expiring.Load() > 0 {
			r.broker.alarms.set(&r.alarm, r, r.broker.alarms.now().after(sweepGap))
		}
	})
}

// replay is the retained messages that a subscription is owed: a place in the
// index, from which they are read as the socket and the memory take them. They count
// against no queue, and are never dropped for want of room. Guarded by session.mu.
type replay struct {
	entry   *entry
	cursor  topics.Cursor
	pending []owed // read from the index and not sent
	dropped bool   // nothing is owed any more
	asks    bool   // the hooks have to be asked what is pending
	asking  bool   // and are: nobody else touches the cursor
	upTo    uint64 // the latest message when the subscription took effect; later ones are delivered like any
	missed  uint64 // the latest one when the session came back, which got none of QoS 0 before
	behind  string // topic of the last message that was sent and is kept for the session; "" for none
}

// owes reports whether m is to be sent, which it is unless it was already
// handed to the session when it was published.
func (r *replay) owes(m *message, qos QoS) bool {
	return m.kept <= r.upTo || qos == AtMostOnce && m.kept <= r.missed
}

// owed is a retained message, and what is sent of it: another one if a
// DeliverInterceptor has changed it.
type owed struct {
	kept, sent *message
	qos        QoS
	retain     bool
}

// replayStep is how many messages are read from the index at once.
const replayStep = 32

// prepareReplay makes the replay of a new subscription, or returns nil if it
// gets no retained messages.
func (c *Client) prepareReplay(e *entry) *replay {
	b, sub := c.broker, &e.Value
	if sub.shared || sub.handling == 2 || b.opts.DisableRetain {
		return nil
	}
	return &replay{entry: e, cursor: topics.NewCursor(sub.filter), asks: b.asksForReplay(sub)}
}

// asksForReplay reports whether the hooks are asked about each retained message for
// the subscription.
func (b *Broker) asksForReplay(sub *subscription) bool {
	return sub.check || len(b.hooks.deliver) > 0 || b.opts.RecheckRetained && len(b.hooks.authorize) > 0
}

// consultReplays asks the hooks about the retained messages that the session is
// owed, which cannot be done under a lock. The subscriptions are in effect: what
// is retained meanwhile comes by them.
func (c *Client) consultReplays(bt *batch) {
	s := c.session
	for {
		s.mu.Lock()
		r := s.nextToAskLocked(c)
		if r == nil {
			s.mu.Unlock()
			return
		}
		r.asking = true
		pending := r.pending
		r.pending = nil
		s.mu.Unlock()
		allowed, done := c.consultReplay(bt, r, pending)
		s.mu.Lock()
		r.asking, r.asks = false, !done
		if !r.dropped {
			r.pending = allowed
		}
		if done {
			s.pumpLocked(bt)
		} else if n := s.client; n != nil && n != c { // who has the session now saw that it was asked about
			c.broker.spawn(func() { c.broker.goOn(s, n) })
		}
		s.mu.Unlock()
		if !done {
			return
		}
	}
}

// nextToAskLocked returns the next replay that the hooks have to be asked about.
func (s *session) nextToAskLocked(c *Client) *replay {
	if s.client != c {
		return nil
	}
	for _, r := range s.replays {
		if r.asks && !r.asking && !r.dropped {
			return r
		}
	}
	return nil
}

// consultReplay asks the hooks about all retained messages of one replay: those
// that are pending, and those that its cursor has not come to. It reports false if
// the connection ended before it was done.
func (c *Client) consultReplay(bt *batch, r *replay, pending []owed) (allowed []owed, done bool) {
	s, index := c.session, c.broker.retained.index
	for {
		s.mu.Lock()
		sub, dropped := r.entry.Value, r.dropped
		s.mu.Unlock()
		if dropped {
			return nil, true
		}
		for i, o := range pending {
			o, ok := c.mayReplay(bt, &sub, o.kept)
			if c.ending.Load() {
				return append(allowed, pending[i:]...), false // whatever was answered
			}
			if ok {
				allowed = append(allowed, o)
			}
		}
		if r.cursor.Done() {
			return allowed, true
		}
		bt.retained = index.Next(&r.cursor, bt.retained[:0], replayStep)
		pending = pending[:0]
		for _, m := range bt.retained {
			if m.kept <= r.upTo {
				pending = append(pending, owed{kept: m, sent: m, qos: min(m.qos, sub.qos), retain: true})
			}
		}
	}
}

// mayReplay asks the hooks about one retained message for one subscription.
func (c *Client) mayReplay(bt *batch, sub *subscription, m *message) (owed, bool) {
	b := c.broker
	o := owed{kept: m, sent: m, qos: min(m.qos, sub.qos), retain: true}
	if !b.mayStillPublish(c.context(), m) || sub.check && !c.mayReceiveRetained(m, o.qos) {
		if !c.ending.Load() {
			bt.dropMessage(c.id, m, m.qos, DropNotAuthorized)
		}
		return o, false
	}
	if len(b.hooks.deliver) > 0 {
		p := &bt.waiting
		p.from(m, p.topic)
		t := target{session: sub.session, qos: o.qos, retain: true}
		changed, err := b.consultDeliver(bt, p, &t, true)
		if err != nil {
			bt.dropMessage(c.id, m, m.qos, DropIntercepted)
			return o, false
		}
		o.sent, o.qos, o.retain = changed.message(), t.qos, t.retain
	}
	return o, true
}

func (c *Client) mayReceiveRetained(m *message, qos QoS) bool {
	q := AccessRequest{Client: c, Action: Receive, Topic: m.topic, QoS: qos, Retain: true}
	return c.broker.authorize(c.context(), &q) == nil
}

// mayStillPublish asks whether the client that published a retained message may
// still do so, if Options.RecheckRetained wants to know. The host may.
func (b *Broker) mayStillPublish(ctx context.Context, m *message) bool {
	if !b.opts.RecheckRetained || len(b.hooks.authorize) == 0 || m.by.isHost() {
		return true
	}
	q := AccessRequest{Client: b.ghost(m.by), Action: Publish, Topic: m.topic, QoS: m.qos, Retain: true}
	return b.authorize(ctx, &q) == nil
}

// replayNextLocked sends one of the retained messages that are owed, and
// reports whether it may be called again at once.
func (s *session) replayNextLocked(bt *batch) bool {
	d, r, again := s.owedLocked(bt)
	if d.msg != nil {
		bt.waiting.from(d.msg, bt.waiting.topic)
		s.sendLocked(bt, &bt.waiting, &target{session: s, ids: d.ids, qos: d.qos, retain: d.retain, owed: r})
	}
	return again
}

// owe adds the retained messages of a subscription to what the session is owed.
func (s *session) owe(r *replay) {
	s.beginBacklogLocked()
	r.entry.Value.owed = r
	s.replays = append(s.replays, r)
}

// dropReplayLocked gives up the retained messages that a subscription is still
// owed. Nil is no subscription.
func (s *session) dropReplayLocked(e *entry) {
	if e == nil || e.Value.owed == nil {
		return
	}
	r := e.Value.owed
	e.Value.owed = nil
	r.dropped, r.pending = true, nil
	s.droppedReplays++
	if 2*int(s.droppedReplays) > len(s.replays) {
		s.replays = slices.DeleteFunc(s.replays, func(r *replay) bool { return r.dropped })
		s.droppedReplays = 0
	}
}

// moveReplayLocked lets a subscription that replaces another go on with what
// that is owed.
func (s *session) moveReplayLocked(from, to *entry) {
	if r := from.Value.owed; r != nil {
		from.Value.owed, to.Value.owed = nil, r
		r.entry = to
	}
}

// endReplayLocked gives up the first of the replays, which is done or dropped.
func (s *session) endReplayLocked(bt *batch) {
	r := s.replays[0]
	if r.dropped {
		s.droppedReplays--
	} else {
		r.entry.Value.owed = nil
		if s.durable {
			s.broker.journal.keepSubscription(bt, s, &r.entry.Value)
		}
	}
	s.replays[0] = nil
	if s.replays = s.replays[1:]; len(s.replays) == 0 {
		s.replays = nil
		s.endBacklogLocked()
	}
}

// owedLocked makes one step towards the next retained message that is owed: it
// returns that message, or none, with its replay, and whether another step is worth
// while now.
func (s *session) owedLocked(bt *batch) (d delivery, r *replay, again bool) {
	if len(s.replays) == 0 {
		return d, nil, false
	}
	r = s.replays[0]
	if r.dropped {
		s.endReplayLocked(bt)
		return d, r, true
	}
	if r.asks {
		return d, r, false // whoever asks goes on
	}
	index := s.broker.retained.index
	if len(r.pending) == 0 {
		if r.cursor.Done() {
			s.endReplayLocked(bt)
			return d, r, true
		}
		bt.retained = index.Next(&r.cursor, bt.retained[:0], replayStep)
		for _, m := range bt.retained {
			r.pending = append(r.pending, owed{kept: m, sent: m, qos: min(m.qos, r.entry.Value.qos), retain: true})
		}
		return d, r, true
	}
	next, sub := r.pending[0], &r.entry.Value
	m, qos := next.kept, min(next.qos, sub.qos)
	if qos > AtMostOnce && (s.fullLocked() || s.flights.n > 0 && s.crowdedLocked(next.sent.size())) {
		return d, r, false // what is in flight makes room
	}
	r.pending[0] = owed{}
	if r.pending = r.pending[1:]; len(r.pending) == 0 {
		r.pending = nil
	}
	if now, ok := index.Get(m.topic); !ok || now != m || !r.owes(m, qos) {
		return d, r, true // what came after the subscription was delivered like any message
	}
	if m.expired(bt.now) {
		s.broker.retained.expire(m)
		return d, r, true
	}
	if sub.noLocal && m.by.name() == s.id {
		return d, r, true
	}
	if qos > AtMostOnce {
		r.behind = m.topic
	}
	return delivery{msg: next.sent, ids: sub.ids, qos: qos, retain: next.retain}, r, true
}
