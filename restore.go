package petrel

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/petrelmq/petrel/topics"
)

// restoring is a broker on its way back to where its store says that it was. It
// happens in New, before anybody can connect; nothing needs a lock.
type restoring struct {
	broker   *Broker
	journal  *journal
	now      instant
	sessions map[uint64]*restored
	wanted   []*message        // in memory, and records of their own
	held     int64             // bytes of messages in flight and in heads
	newest   map[string]uint64 // session of each client identifier
	names    map[knownAs]*principal
	sizes    map[uint64]int // of messages, if the records that refer to them lack them; else nil

	records, unreadable, orphans int
	said                         time.Time
}

// restored is a session, with what is known of it besides.
type restored struct {
	*session
	record  sessionRecord
	will    *will
	willDue int64             // calendar
	due     *will             // to be published when everything is there
	gone    map[string]*entry // shared subscriptions that it had when they brought a message
	moved   []restoredFlight  // in the order of their places
	sent    []flight
	head    []delivery // of the queue
	size    int        // of the head, in bytes
}

type restoredFlight struct {
	place uint64
	id    uint16
	state flightState
}

// errOrphan is found in a record of a session that is no more.
var errOrphan = errors.New("its session is gone")

// restore loads the store.
func (b *Broker) restore() error {
	r := &restoring{
		broker: b, journal: b.journal, now: b.alarms.now(), said: time.Now(),
		sessions: make(map[uint64]*restored), newest: make(map[string]uint64),
		names: make(map[knownAs]*principal),
	}
	start := time.Now()
	if err := r.version(); err != nil {
		return err
	}
	for _, step := range []struct {
		kind recordKind
		read func(key, value []byte) error
	}{
		{kindRetained, r.retained}, // before what waits, to which it leaves less room
		{kindSession, r.session},
		{kindWill, r.readWill},
		{kindSubscription, r.subscription},
		{kindReceived, r.received},
		{kindFlight, r.flight},
		{kindMessage, r.message},
		{kindDelivery, r.delivery},
	} {
		if err := r.load(step.kind, step.read); err != nil {
			return err
		}
	}
	if err := r.messages(); err != nil {
		return err
	}
	r.settle()
	if r.records > 0 {
		b.log.Info("petrel: restored from the store", "sessions", len(r.sessions), "retained", b.retained.index.Len(),
			"records", r.records, "unreadable", r.unreadable, "took", time.Since(start).Round(time.Millisecond))
	}
	return nil
}

// version checks that this program knows what it is about to read.
func (r *restoring) version() error {
	key := appendKey(nil, kindVersion)
	found := uint64(0)
	err := r.journal.store.Load(context.Background(), key, append(key, 0), func(key, value []byte) error {
		value, err := unseal(key, value)
		if err != nil {
			return fmt.Errorf("the version of the store cannot be read: %w", err)
		}
		f := fields{b: value}
		found = f.number("version")
		return f.end()
	})
	switch {
	case err != nil:
		return err
	case found > schemeVersion:
		return fmt.Errorf("the store has version %d, written by a newer petrel; this one knows %d", found, schemeVersion)
	case found < schemeVersion:
		if found == 1 {
			r.sizes = make(map[uint64]int)
		}
		j := r.journal
		j.mu.Lock()
		defer j.mu.Unlock()
		j.key, j.value = append(j.key[:0], key...), binary.AppendUvarint(j.value[:0], schemeVersion)
		j.putLocked(nil)
	}
	return nil
}

// load reads all records of a kind. One that cannot be understood is set aside
// under another key, and the rest is read.
func (r *restoring) load(kind recordKind, read func(key, value []byte) error) error {
	from, to := rangeOf(kind)
	return r.journal.store.Load(context.Background(), from, to, func(key, value []byte) error {
		r.records++
		r.progress()
		body, err := unseal(key, value)
		if err == nil {
			err = read(key, body)
		}
		switch {
		case errors.Is(err, errOrphan):
			r.orphans++
			r.remove(key)
		case err != nil:
			r.unreadable++
			r.broker.log.Error("petrel: a record of the store is damaged and was set aside", "key", fmt.Sprintf("%x", key), "error", err)
			r.journal.setAside(nil, key, value)
		}
		return nil
	})
}

// progress says every few seconds how far it is.
func (r *restoring) progress() {
	if r.records%1024 == 0 && time.Since(r.said) > 2*time.Second {
		r.said = time.Now()
		r.broker.log.Info("petrel: restoring", "records", r.records, "sessions", len(r.sessions), "retained", r.broker.retained.index.Len())
	}
}

func (r *restoring) remove(key []byte) {
	j := r.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	j.key = append(j.key[:0], key...)
	j.deleteLocked(nil)
}

func (r *restoring) session(key, value []byte) error {
	serial, _, err := numberIn(key)
	if err != nil {
		return err
	}
	b := r.broker
	s := &restored{}
	if err := s.record.read(&fields{b: value}); err != nil {
		return err
	}
	b.serials.Store(max(b.serials.Load(), serial))
	s.session = &session{
		broker: b, principal: &principal{s.record.id, accountOf(s.record.identity, s.record.userName)},
		serial: serial, expiry: s.record.expiry, durable: true,
		userName: s.record.userName, version: s.record.version, kept: true, backlog: new(backlog),
	}
	r.sessions[serial] = s
	r.newest[s.id] = max(r.newest[s.id], serial)
	return nil
}

// of returns the session that a key belongs to, and what follows its number.
func (r *restoring) of(key []byte) (*restored, []byte, error) {
	serial, rest, err := numberIn(key)
	if err != nil {
		return nil, nil, err
	}
	s := r.sessions[serial]
	if s == nil {
		return nil, nil, errOrphan
	}
	return s, rest, nil
}

func (r *restoring) readWill(key, value []byte) error {
	s, _, err := r.of(key)
	if err != nil {
		return err
	}
	w := new(will)
	due, err := w.read(&fields{b: value})
	if err != nil {
		return err
	}
	w.client = s.ghost()
	s.will, s.willDue, s.willKept = w, due, true
	return nil
}

func (r *restoring) subscription(key, value []byte) error {
	s, _, err := r.of(key)
	if err != nil {
		return err
	}
	e := &entry{Value: subscription{session: s.session}}
	if err := e.Value.read(&fields{b: value}); err != nil {
		return err
	}
	if err := e.Value.setFrom(new(e.Value.public()), &r.broker.opts); err != nil {
		return err
	}
	if e.Value.check {
		s.checks = true
		s.last = s.ghost()
	}
	if owed := e.Value.owed; owed != nil {
		owed.entry, owed.cursor = e, topics.NewCursorBehind(e.Value.filter, owed.behind)
		owed.asks = r.broker.asksForReplay(&e.Value)
		s.owe(owed)
		r.broker.retained.restoreNumber(owed.upTo)
	}
	s.subs.put(e)
	return nil
}

func (r *restoring) received(key, _ []byte) error {
	s, rest, err := r.of(key)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return errors.New("its key has no identifier")
	}
	if s.session.received == nil {
		s.session.received = make(map[uint16]bool)
	}
	s.session.received[binary.BigEndian.Uint16(rest)] = false
	return nil
}

func (r *restoring) flight(key, value []byte) error {
	s, rest, err := r.of(key)
	if err != nil {
		return err
	}
	if len(rest) != 8 {
		return errors.New("its key has no place")
	}
	f := fields{b: value}
	flight := restoredFlight{place: binary.BigEndian.Uint64(rest), id: uint16(f.number("packet identifier")), state: flightState(f.byte("state"))}
	if err := f.end(); err != nil {
		return err
	}
	if flight.id == 0 || flight.state > awaitComp {
		return errors.New("it is of no flight")
	}
	s.moved = append(s.moved, flight)
	s.places = max(s.places, flight.place)
	return nil
}

func (r *restoring) message(key, value []byte) error {
	number, _, err := numberIn(key)
	if err != nil {
		return err
	}
	r.journal.numbers = max(r.journal.numbers, number)
	f := fields{b: value}
	size := f.skipMessage()
	if err := f.end(); err != nil {
		return err
	}
	if r.sizes != nil {
		r.sizes[number] = size
	}
	r.journal.holders.add(number, 1) // until all deliveries are known
	return nil
}

func (r *restoring) delivery(key, value []byte) error {
	s, rest, err := r.of(key)
	if err != nil {
		return err
	}
	if len(rest) != 8 {
		return errors.New("its key has no place")
	}
	var o deliveryOutline
	if err := o.read(&fields{b: value}); err != nil {
		return err
	}
	h := &r.journal.holders
	if o.byRef && h.of(o.number) == 0 {
		return errMissing
	}
	if o.byRef && r.sizes != nil {
		o.size = r.sizes[o.number]
		r.upgrade(key, value, o.size)
	}
	n := binary.BigEndian.Uint64(rest)
	i, moved := slices.BinarySearchFunc(s.moved, n, func(f restoredFlight, n uint64) int { return cmp.Compare(f.place, n) })
	sent := moved || o.id != 0
	switch {
	case !sent && !r.comesFirst(s, o.size):
		s.waits(n, &o)
	default:
		if err := r.inMemory(s, n, value, sent); err != nil {
			return err
		}
		r.held += int64(o.size)
	}
	if moved {
		f := &s.sent[len(s.sent)-1]
		f.id, f.state, f.place.moved = s.moved[i].id, s.moved[i].state, true
		s.moved[i].id = 0
	}
	s.places = max(s.places, n)
	if o.byRef {
		h.add(o.number, 1)
	}
	return nil
}

// upgrade adds the size of its message to a delivery of version 1. All of them are in
// one commit with the new version.
func (r *restoring) upgrade(key, value []byte, size int) {
	j := r.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	j.key = append(j.key[:0], key...)
	j.value = binary.AppendUvarint(append(j.value[:0], value...), uint64(size))
	j.putLocked(nil)
}

// waits counts a message to what only the store has of the queue.
func (s *restored) waits(n uint64, o *deliveryOutline) {
	if s.queue.stored == nil {
		s.queue.stored = new(stored)
	}
	s.queue.stored.note(n, o.size, o.shared)
}

// comesFirst reports whether the next message that waits is in memory while the client
// is offline.
func (r *restoring) comesFirst(s *restored, size int) bool {
	if s.queue.stored != nil || len(s.head) >= offlineDepth.messages/2 || s.size+size > offlineDepth.bytes/2 || !r.broker.memory.spare(r.held+int64(size)) {
		return false
	}
	s.size += size
	return true
}

// inMemory reads a message that was sent, or is one of the next.
func (r *restoring) inMemory(s *restored, n uint64, value []byte, sent bool) error {
	var d deliveryRecord
	if err := d.read(&fields{b: value}, r.broker.alarms); err != nil {
		return err
	}
	if d.place.byRef {
		r.wanted = append(r.wanted, d.msg)
	}
	d.place.n = n
	d.shared = s.cameBy(d.filter)
	if !sent {
		s.head = append(s.head, d.delivery)
		return nil
	}
	s.sent = append(s.sent, flight{delivery: d.delivery, seq: n, id: d.id, state: awaitAck})
	return nil
}

func (r *restoring) retained(key, value []byte) error {
	f := fields{b: value}
	m := f.retained(r.broker.alarms)
	if err := f.end(); err != nil {
		return err
	}
	m.by = r.known(m.by)
	if m.expired(r.now) {
		r.remove(key)
		return nil
	}
	x := &r.broker.retained
	x.restoreNumber(m.kept)
	x.index.Set(m.topic, m)
	x.counted.Add(1)
	x.bytes += int64(m.size()) // nobody else runs yet
	r.broker.memory.restoreRetained(int64(m.size()))
	if m.expires != 0 && x.expiring.Add(1) == 1 {
		r.broker.alarms.set(&x.alarm, x, r.now.after(sweepGap))
	}
	return nil
}

// cameBy returns the shared subscription that a message of the session came by. It
// may be gone, and other members get the message all the same.
func (s *restored) cameBy(filter string) *entry {
	if filter == "" {
		return nil
	}
	if e := s.subs.get(filter); e != nil {
		return e
	}
	if s.gone == nil {
		s.gone = make(map[string]*entry)
	}
	if s.gone[filter] == nil {
		s.gone[filter] = &entry{Value: subscription{session: s.session, filter: filter, shared: true}}
	}
	return s.gone[filter]
}

// known returns the one principal that all equal ones share.
func (r *restoring) known(p *principal) *principal {
	if p == nil {
		return nil
	}
	as := knownAs{p.id, *p.account, p.isHost()}
	if r.names[as] == nil {
		r.names[as] = p
	}
	return r.names[as]
}

// knownAs is what equal principals have in common.
type knownAs struct {
	id      string
	account account
	host    bool
}

// messages removes the messages that no delivery refers to, and reads those that are
// in memory.
func (r *restoring) messages() error {
	for number := range r.journal.holders.release() {
		r.remove(appendKeyOf(nil, kindMessage, number))
	}
	if err := r.journal.readMessages(context.Background(), r.wanted); err != nil {
		return err
	}
	for _, m := range r.wanted {
		m.by = r.known(m.by)
	}
	r.wanted = nil
	return nil
}
