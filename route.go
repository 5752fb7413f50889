package petrel

import (
	"github.com/petrelmq/petrel/packets"
)

// target is one copy of a publication for one session.
type target struct {
	session *session
	ids     []uint32
	shared  *entry
	qos     QoS
	retain  bool
	dup     bool
	place   place        // in the store, of a message that has waited
	owed    *replay      // that it is from; nil if it is from none
	settled *publication // what the DeliverInterceptors have left of it; nil if they were not asked
	refused bool         // by one of them
	unasked bool         // whether the session may have it has to be asked before it is sent
}

// delivery is the copy as it is kept.
func (t *target) delivery(p *publication) delivery {
	return delivery{msg: p.message(), ids: t.ids, shared: t.shared, qos: t.qos, retain: t.retain, place: t.place}
}

// route gives p to every session with a matching subscription, connected or
// not, and reports how many there were. No lock is held while it delivers.
func (b *Broker) route(bt *batch, p *publication) int {
	b.tree.Match(p.topic, &bt.matches)
	bt.collect(p)
	bt.begin(p)
	for i := range bt.targets {
		b.hand(bt, p, &bt.targets[i])
		if bt.overdrawn {
			bt.overdrawn = false
			b.shed(bt)
		}
		bt.relieve()
	}
	bt.end()
	return len(bt.targets)
}

// hand gives one copy of p to its session, as the DeliverInterceptors leave it.
func (b *Broker) hand(bt *batch, p *publication, t *target) {
	if len(b.hooks.deliver) > 0 {
		bt.consult(p, t)
		if t.refused {
			return
		}
		if t.settled != nil {
			p = t.settled
		}
	}
	if !t.session.deliver(bt, p, t) && !b.elsewhere(bt, p, t.shared, nil, hardlyEither) {
		bt.drop(t.session.id, p, t.qos, DropSessionEnded)
	}
}

// consult asks the DeliverInterceptors about one copy of p, unless they were asked.
func (bt *batch) consult(p *publication, t *target) {
	b := bt.broker
	if t.session.local != nil || t.settled != nil || t.refused {
		return
	}
	if b.hooks.slow.Load() {
		bt.flush()
	}
	changed, err := b.consultDeliver(bt, p, t, false)
	if err != nil {
		t.refused = true
		bt.drop(t.session.id, p, t.qos, DropIntercepted)
		return
	}
	t.settled = changed
}

// consultAll asks them about all copies, before a bracket in which no hook may run.
func (bt *batch) consultAll(p *publication) {
	if len(bt.broker.hooks.deliver) == 0 {
		return
	}
	for i := range bt.targets {
		bt.consult(p, &bt.targets[i])
	}
}

// consultDeliver asks the DeliverInterceptors about one copy of p and returns
// what they make of it. It sees to the QoS and the RETAIN flag of t.
func (b *Broker) consultDeliver(bt *batch, p *publication, t *target, retained bool) (*publication, error) {
	s := t.session
	m := p.public(bt.now)
	m.QoS, m.Retain = t.qos, t.retain
	r := DeliverRequest{ClientID: s.id, Client: s.onlineClient(), Message: m, Retained: retained}
	if err := b.interceptDeliver(bt.context(), &r); err != nil {
		return nil, err
	}
	if err := m.check(&b.opts); err != nil {
		b.log.Error("petrel: a DeliverInterceptor made an invalid message", "client", s.id, "topic", string(p.topic), "error", err)
		return nil, err
	}
	changed := new(publication)
	changed.setFrom(m, bt.now)
	changed.by = p.by
	t.qos, t.retain = m.QoS, m.Retain
	return changed, nil
}

// collect makes targets of the subscriptions that match: one for each session,
// however many of its subscriptions match, and one for each shared subscription.
func (bt *batch) collect(p *publication) {
	bt.targets = bt.targets[:0]
	overlapping := !bt.broker.opts.DeliverPerSubscription && overlaps(bt.matches.Entries)
	if overlapping {
		bt.overlap.begin(len(bt.matches.Entries))
	}
	for _, e := range bt.matches.Entries {
		sub := &e.Value
		if sub.noLocal && p.by.name() == sub.session.id {
			continue
		}
		if sub.check && !bt.broker.mayReceive(bt, sub, p) {
			bt.drop(sub.session.id, p, p.qos, DropNotAuthorized)
			continue
		}
		t := target{session: sub.session, ids: sub.ids, qos: min(sub.qos, p.qos), retain: p.retain && sub.asIs}
		if overlapping {
			if i, again := bt.overlap.place(sub.session, bt.targets); again {
				bt.targets[i].merge(&t)
				continue
			}
		}
		bt.targets = append(bt.targets, t)
	}
	for _, g := range bt.matches.Groups {
		if e := bt.broker.choose(bt, g, p); e != nil {
			sub := &e.Value
			bt.targets = append(bt.targets, target{
				session: sub.session, ids: sub.ids, shared: e, qos: min(sub.qos, p.qos), retain: p.retain && sub.asIs,
			})
		}
	}
}

// merge makes one copy of two (MQTT 5.0, section 3.3.4).
func (t *target) merge(u *target) {
	t.qos = max(t.qos, u.qos)
	t.retain = t.retain || u.retain
	if len(u.ids) > 0 {
		t.ids = append(t.ids[:len(t.ids):len(t.ids)], u.ids...)
	}
}

// overlaps reports whether a session may be there twice: only if not all
// subscriptions have the same filter.
func overlaps(entries []*entry) bool {
	for i := 1; i < len(entries); i++ {
		if entries[i].Value.filter != entries[0].Value.filter {
			return true
		}
	}
	return false
}

// overlap finds the target of a session that has one already. It is a hash
// table over the places in batch.targets that is reused without being cleared.
type overlap struct {
	slots []overlapSlot
	round uint32
}

type overlapSlot struct {
	round uint32
	place int32
}

func (o *overlap) begin(n int) {
	size := 16
	for size < 2*n {
		size *= 2
	}
	if len(o.slots) < size {
		o.slots, o.round = make([]overlapSlot, size), 0
	}
	if o.round++; o.round == 0 {
		clear(o.slots)
		o.round = 1
	}
}

// place returns the place of the session in targets. If it has none, it gets the
// next one, which the caller has to fill.
func (o *overlap) place(s *session, targets []target) (i int, again bool) {
	mask := uint64(len(o.slots) - 1)
	for h := s.serial * 0x9E3779B97F4A7C15 >> 20; ; h++ {
		slot := &o.slots[h&mask]
		if slot.round != o.round {
			*slot = overlapSlot{o.round, int32(len(targets))}
			return len(targets), false
		}
		if targets[slot.place].session == s {
			return int(slot.place), true
		}
	}
}

// mayReceive asks whether the session may be sent p.
func (b *Broker) mayReceive(bt *batch, sub *subscription, p *publication) bool {
	c := sub.session.lastClient()
	if c == nil {
		return false
	}
	if b.hooks.slow.Load() {
		bt.flush()
	}
	r := AccessRequest{Client: c, Action: Receive, Topic: string(p.topic), QoS: min(sub.qos, p.qos), Retain: p.retain}
	return b.authorize(bt.context(), &r) == nil
}

// publishFromHost routes a message of the host or of the broker itself.
func (b *Broker) publishFromHost(bt *batch, m *Message) packets.ReasonCode {
	p := &bt.pub
	bt.heads.forget()
	p.setFrom(m, bt.now)
	p.by = hostNamed(m.PublisherID)
	if p.qos > AtMostOnce || p.retain && !isReserved(p.topic) {
		if err := b.journal.refusal(); err != nil {
			return packets.ReasonOf(err)
		}
	}
	if p.retain {
		if l := b.retained.keep(bt, p); l != 0 {
			return packets.ReasonOf(b.notRetained(bt, l, nil, p))
		}
	}
	if b.route(bt, p) == 0 {
		return packets.NoMatchingSubscribers
	}
	return packets.Success
}
