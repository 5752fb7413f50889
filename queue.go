package petrel

import (
	"github.com/petrelmq/petrel/topics"
)

// delivery is one copy of a message for one session.
type delivery struct {
	msg    *message
	ids    []uint32                    // Subscription Identifiers; shared and immutable
	shared *topics.Entry[subscription] // the shared subscription it came by, or nil
	qos    QoS
	retain bool
	epoch  uint32 // of the session when it was last found to be allowed
	place  place  // in the store
}

// queue is the line of messages that wait for one session, all QoS levels in
// one order, so that none overtakes another. Guarded by session.mu.
type queue struct {
	ring  []delivery // a power of two long; a removed delivery has no msg
	bytes int
	head  int32
	n     int32 // places in use, removed ones included
	live  int32 // messages
	qos0  int32 // messages of QoS 0 among them
}

func (q *queue) at(i int32) *delivery { return &q.ring[int(q.head+i)&(len(q.ring)-1)] }

func (q *queue) push(d delivery) {
	if int(q.n) == len(q.ring) {
		q.resize(max(4, 2*len(q.ring)))
	}
	q.n++
	*q.at(q.n - 1) = d
	q.live++
	q.bytes += d.msg.size()
	if d.qos == AtMostOnce {
		q.qos0++
	}
}

// first is the next message, nil if there is none.
func (q *queue) first() *delivery {
	for q.n > 0 {
		if d := q.at(0); d.msg != nil {
			return d
		}
		q.skip()
	}
	return nil
}

// pop removes what first returned.
func (q *queue) pop() {
	q.forget(q.at(0))
	q.skip()
}

// skip gives up the first place, and the ring when it is empty.
func (q *queue) skip() {
	q.head = (q.head + 1) & int32(len(q.ring)-1)
	q.n--
	if q.n == 0 {
		q.head = 0
		if len(q.ring) > 8 {
			q.ring = nil
		}
	}
}

// forget takes the message out of its place.
func (q *queue) forget(d *delivery) {
	q.live--
	q.bytes -= d.msg.size()
	if d.qos == AtMostOnce {
		q.qos0--
	}
	*d = delivery{}
}

// evict removes the first message that is at most of the given QoS, and returns it.
func (q *queue) evict(qos QoS) (delivery, bool) {
	for i := range q.n {
		if d := q.at(i); d.msg != nil && d.qos <= qos {
			evicted := *d
			q.forget(d)
			q.first() // gives up removed places in front
			return evicted, true
		}
	}
	return delivery{}, false
}

// removeFunc removes and returns the messages for which f reports true, in order.
func (q *queue) removeFunc(f func(*delivery) bool) (removed []delivery) {
	for i := range q.n {
		if d := q.at(i); d.msg != nil && f(d) {
			removed = append(removed, *d)
			q.forget(d)
		}
	}
	q.first()
	return removed
}

func (q *queue) resize(size int) {
	ring := make([]delivery, size)
	for i := range q.n {
		ring[i] = *q.at(i)
	}
	q.ring, q.head = ring, 0
}
