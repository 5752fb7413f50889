package petrel

import "github.com/petrelmq/petrel/topics"

// Recount is what the messages in memory are found to have, one by one.
type Recount struct {
	All  int64
	QoS0 int64 // of all: in queues
	Kept int64 // of all: retained
}

// Counted is what the broker has counted, which Recount should find.
func (b *Broker) Counted() Recount {
	m := &b.memory
	return Recount{m.all.Load(), m.qos0.Load(), m.kept.Load()}
}

// Recount counts the messages of all sessions, those of the host's subscriptions too,
// while nobody is at work. beyond is how many bytes may be above the limit: so that each
// session can go on, one message that waits, which is read from the store to be sent or
// to make room, and one in flight.
func (b *Broker) Recount(host []*LocalSubscription) (r Recount, beyond int64) {
	for s := range b.directory.all() {
		beyond += s.recount(&r)
	}
	for _, l := range host {
		beyond += l.session.recount(&r)
	}
	var all []*message
	for c := topics.NewCursorAll(); !c.Done(); {
		all = b.retained.index.Next(&c, all, 256)
	}
	for _, m := range all {
		r.All += int64(m.size())
		r.Kept += int64(m.size())
	}
	return r, beyond
}

// recount adds what the session has, and returns how much of it may be above the limit.
func (s *session) recount(r *Recount) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var waits, flies int64 // the largest
	s.queue.all(func(d *delivery) {
		n := int64(d.msg.size())
		if r.All += n; d.qos == AtMostOnce {
			r.QoS0 += n
		} else {
			waits = max(waits, n)
		}
	})
	for _, f := range s.flights.ordered() {
		if f.msg != nil {
			n := int64(f.msg.size())
			r.All += n
			flies = max(flies, n)
		}
	}
	return waits + flies
}

// Outlives reports whether the session with the identifier outlives the process.
func (b *Broker) Outlives(id string) bool {
	s := b.directory.get(id)
	return s != nil && s.durable
}
