package petrel

import (
	"encoding/binary"
)

// What is journaled, one function for each event. They are called under the lock
// that guards what has changed, and only for what outlives the process: bt.journaled
// is afterwards what an answer has to wait for.

// place says where a delivery stands in the store.
type place struct {
	n     uint64 // within its session; 0 means that it is not in the store
	byRef bool   // its message is a record of its own
	moved bool   // a flight record tells of it
	alone bool   // only the flight record is left
	loose bool   // it is not in the store, and waits behind the one with place n
}

// keepSession writes down whom a session belongs to, and when it ends.
func (j *journal) keepSession(bt *batch, s *session) {
	r := sessionRecord{id: s.id, identity: s.identity, userName: s.userName, version: s.version, expiry: s.expiry}
	switch {
	case s.ended:
		r.state = stateEnded
	case s.owner == nil:
		r.state = stateWaiting
		r.expires = j.broker.alarms.calendar(s.absence.end())
	}
	s.kept = true
	j.mu.Lock()
	defer j.mu.Unlock()
	j.key = appendKeyOf(j.key[:0], kindSession, s.serial)
	j.value = r.append(j.value[:0])
	j.putLocked(bt)
}

// forgetSession removes the record of a session, unless a will still needs it.
func (j *journal) forgetSession(bt *batch, s *session) {
	if !s.kept || s.willKept {
		return
	}
	s.kept = false
	j.mu.Lock()
	defer j.mu.Unlock()
	j.key = appendKeyOf(j.key[:0], kindSession, s.serial)
	j.deleteLocked(bt)
}

// keepWill writes down the will of a session, due at an instant or, if that is 0,
// with its connection. Nil is no will.
func (j *journal) keepWill(bt *batch, s *session, w *will, due instant) {
	if w == nil {
		j.forgetWill(bt, s)
		return
	}
	s.willKept = true
	j.mu.Lock()
	defer j.mu.Unlock()
	j.key = appendKeyOf(j.key[:0], kindWill, s.serial)
	j.value = w.append(j.value[:0], j.broker.alarms.calendar(due))
	j.putLocked(bt)
}

// forgetWill removes the will of a session, and the session if it waited for that.
func (j *journal) forgetWill(bt *batch, s *session) {
	if !s.willKept {
		return
	}
	s.willKept = false
	j.mu.Lock()
	j.key = appendKeyOf(j.key[:0], kindWill, s.serial)
	j.deleteLocked(bt)
	j.mu.Unlock()
	if s.settled {
		j.forgetSession(bt, s)
	}
}

func (j *journal) keepSubscription(bt *batch, s *session, sub *subscription) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keepSubscriptionLocked(bt, s, sub)
}

func (j *journal) keepSubscriptionLocked(bt *batch, s *session, sub *subscription) {
	j.key = appendName(appendKeyOf(j.key[:0], kindSubscription, s.serial), sub.filter)
	j.value = sub.append(j.value[:0])
	j.putLocked(bt)
}

func (j *journal) forgetSubscription(bt *batch, s *session, filter string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.key = appendName(appendKeyOf(j.key[:0], kindSubscription, s.serial), filter)
	j.deleteLocked(bt)
}

func appendReceived(b []byte, s *session, id uint16) []byte {
	return binary.BigEndian.AppendUint16(appendKeyOf(b, kindReceived, s.serial), id)
}

// keepReceived writes down the identifier of a QoS 2 message of the client.
func (j *journal) keepReceived(bt *batch, s *session, id uint16) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.key = appendReceived(j.key[:0], s, id)
	j.value = j.value[:0]
	j.putFreshLocked(bt)
}

func (j *journal) forgetReceived(bt *batch, s *session, id uint16) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.key = appendReceived(j.key[:0], s, id)
	j.deleteLocked(bt)
}

func appendPlace(b []byte, kind recordKind, s *session, n uint64) []byte {
	return appendPlaceOf(b, kind, s.serial, n)
}

// keepDelivery gives d a place in the store. id is its packet identifier if it is
// sent at once.
func (j *journal) keepDelivery(bt *batch, s *session, d *delivery, id uint16) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keepDeliveryLocked(bt, s, d, id)
}

// keepReplayed is keepDelivery for a retained message that is sent at once. How far
// its replay has come is written down with it, or a crash could make it come again,
// or those before it never.
func (j *journal) keepReplayed(bt *batch, s *session, d *delivery, id uint16, r *replay) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keepDeliveryLocked(bt, s, d, id)
	j.keepSubscriptionLocked(bt, s, &r.entry.Value)
}

func (j *journal) keepDeliveryLocked(bt *batch, s *session, d *delivery, id uint16) {
	s.places++
	d.place = place{n: s.places, byRef: d.msg.hold()}
	j.key = appendPlace(j.key[:0], kindDelivery, s, d.place.n)
	j.value = j.broker.alarms.appendDelivery(j.value[:0], d, id)
	j.putFreshLocked(bt)
}

// keepFlight writes down that a delivery which waited is sent, or that its message
// has arrived and its identifier is to be released.
func (j *journal) keepFlight(bt *batch, s *session, f *flight) {
	fresh := !f.place.moved
	f.place.moved = true
	j.mu.Lock()
	defer j.mu.Unlock()
	j.key = appendPlace(j.key[:0], kindFlight, s, f.place.n)
	j.value = append(binary.AppendUvarint(j.value[:0], uint64(f.id)), byte(f.state))
	if fresh {
		j.putFreshLocked(bt)
	} else {
		j.putLocked(bt)
	}
	if f.state == awaitComp {
		j.forgetMessageLocked(bt, s, &f.delivery)
	}
}

// forget removes all that is kept of a delivery.
func (j *journal) forget(bt *batch, s *session, d *delivery) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.forgetMessageLocked(bt, s, d)
	if d.place.moved {
		j.key = appendPlace(j.key[:0], kindFlight, s, d.place.n)
		j.deleteLocked(bt)
	}
}

// forgetMessageLocked removes all but the flight record of a delivery.
func (j *journal) forgetMessageLocked(bt *batch, s *session, d *delivery) {
	if d.place.alone {
		return
	}
	d.place.alone = true
	j.key = appendPlace(j.key[:0], kindDelivery, s, d.place.n)
	j.deleteLocked(bt)
	if d.place.byRef {
		j.letGoLocked(bt, d.msg)
	}
}

// keepMessage makes a record of m to which deliveries can refer. The caller holds
// it until letGo.
func (j *journal) keepMessage(bt *batch, m *message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.numbers++
	m.number = j.numbers
	m.holders.Store(1) // only now can others refer to it
	j.key = appendKeyOf(j.key[:0], kindMessage, m.number)
	j.value = j.broker.alarms.appendMessage(j.value[:0], m)
	j.putFreshLocked(bt)
}

// hold adds a holder to the record of m, if it has one that somebody holds who has had
// it in memory since it was published.
func (m *message) hold() bool {
	for {
		n := m.holders.Load()
		if n == 0 {
			return false
		}
		if m.holders.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// letGoLocked ends one hold, and removes the record with the last.
func (j *journal) letGoLocked(bt *batch, m *message) {
	if !m.counted && m.holders.Add(-1) > 0 {
		return
	}
	if (m.counted || j.holders.of(m.number) > 0) && j.holders.add(m.number, -1) > 0 {
		return
	}
	j.key = appendKeyOf(j.key[:0], kindMessage, m.number)
	j.deleteLocked(bt)
}

// leave takes a delivery of m out of memory. The caller holds m by it.
func (j *journal) leave(m *message) {
	if m.counted {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.holders.of(m.number) == 0 {
		j.holders.add(m.number, 1) // for all who have it in memory
	}
	j.holders.add(m.number, 1)
	if m.holders.Add(-1) == 0 {
		j.holders.add(m.number, -1)
	}
}

// setAside puts a record that cannot be understood under another key.
func (j *journal) setAside(bt *batch, key, value []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open.batch.Put(append(appendKey(nil, kindUnreadable), key...), value)
	j.key = append(j.key[:0], key...)
	j.deleteLocked(bt)
}

func (j *journal) keepRetained(bt *batch, m *message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.key = appendName(appendKey(j.key[:0], kindRetained), m.topic)
	j.value = j.broker.alarms.appendRetained(j.value[:0], m)
	j.putLocked(bt)
}

func (j *journal) forgetRetained(bt *batch, topic string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.key = appendName(appendKey(j.key[:0], kindRetained), topic)
	j.deleteLocked(bt)
}

// publicationJournal is what one publication has under way in the journal.
type publicationJournal struct {
	bracketed bool
	message   *message // the record that its deliveries refer to
	will      *session // whose will it is
	receiver  *session // of a QoS 2 message from a client that keeps its identifier
	id        uint16
}

// begin prepares the journal for the deliveries of p. Those of a QoS 2 message
// become safe together, with its identifier, or it could be lost or sent twice. A
// message for several sessions that outlive the process is stored once.
func (bt *batch) begin(p *publication) {
	j := bt.broker.journal
	if j == nil || p.qos == AtMostOnce {
		return
	}
	lasting := 0
	for i := range bt.targets {
		if t := &bt.targets[i]; t.session.durable && t.qos > AtMostOnce {
			lasting++
		}
	}
	if p.qos == ExactlyOnce && (lasting > 0 || bt.journal.receiver != nil || bt.journal.will != nil) {
		bt.consultAll(p)
		bt.journal.bracketed = true
		j.bracket.RLock()
	}
	if lasting > 1 && len(bt.broker.hooks.deliver) == 0 {
		bt.journal.message = p.message()
		j.keepMessage(bt, bt.journal.message)
	}
}

// end closes what begin has opened.
func (bt *batch) end() {
	j, pj := bt.broker.journal, &bt.journal
	if j == nil {
		return
	}
	bt.keepReceipt()
	bt.forgetPublishedWill()
	if pj.bracketed {
		j.bracket.RUnlock()
	}
	if pj.message != nil {
		j.mu.Lock()
		j.letGoLocked(bt, pj.message)
		j.mu.Unlock()
	}
	*pj = publicationJournal{}
}

// abandon closes what a panic, or the end of a connection, has left open.
func (bt *batch) abandon() {
	pj := &bt.journal
	if pj.bracketed {
		bt.broker.journal.bracket.RUnlock()
	}
	*pj = publicationJournal{}
}

// keepReceipt writes down the identifier of the QoS 2 message that is being
// published, unless the client has released it meanwhile.
func (bt *batch) keepReceipt() {
	s := bt.journal.receiver
	if s == nil {
		return
	}
	bt.journal.receiver = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.received[bt.journal.id]; known {
		bt.broker.journal.keepReceived(bt, s, bt.journal.id)
	}
}

// forgetPublishedWill removes the will that is being published from the store.
func (bt *batch) forgetPublishedWill() {
	s := bt.journal.will
	if s == nil {
		return
	}
	bt.journal.will = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	bt.broker.journal.forgetWill(bt, s)
}

// leftover is a message that a session did not finish, and that another gets.
type leftover struct {
	session *session
	*delivery
}

// move is deliver for what is left of another session: the store has it with the
// one or with the other, whatever happens. Nil is nothing.
func (b *Broker) move(bt *batch, p *publication, t *target, left *leftover) bool {
	if left == nil || left.place.n == 0 {
		return t.session.deliver(bt, p, t)
	}
	b.journal.bracket.RLock()
	defer b.journal.bracket.RUnlock()
	if !t.session.deliver(bt, p, t) {
		return false
	}
	b.journal.forget(bt, left.session, left.delivery)
	return true
}
