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
// one order, so that none overtakes another. Its fields but stored are about what
// is in the ring. Guarded by session.mu.
type queue struct {
	ring   []delivery // a power of two long; a removed delivery has no msg
	bytes  int
	head   int32
	n      int32   // places in use, removed ones included
	live   int32   // messages
	qos0   int32   // messages of QoS 0 among them
	stored *stored // what follows the ring, in the store and behind it; nil if nothing does
}

// messages is how many messages wait, wherever they are.
func (q *queue) messages() int {
	n := int(q.live)
	if q.stored != nil {
		n += q.stored.messages + int(q.stored.tail.live)
	}
	return n
}

// size is how many bytes they have.
func (q *queue) size() int {
	n := q.bytes
	if q.stored != nil {
		n += q.stored.bytes + q.stored.tail.bytes
	}
	return n
}

// inMemory is how many messages and bytes of the queue are in memory.
func (q *queue) inMemory() (messages, bytes int) {
	messages, bytes = int(q.live), q.bytes
	if q.stored != nil {
		messages += int(q.stored.tail.live)
		bytes += q.stored.tail.bytes
	}
	return messages, bytes
}

// yielding is how many messages of QoS 0 wait.
func (q *queue) yielding() int32 {
	if q.stored != nil {
		return q.qos0 + q.stored.tail.qos0
	}
	return q.qos0
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

// evict removes the first message that is at most of the given QoS, and returns it,
// unless it has to be read from the store first.
func (q *queue) evict(qos QoS) (delivery, bool) {
	for i := range q.n {
		if d := q.at(i); d.msg != nil && d.qos <= qos {
			evicted := d.out()
			q.forget(d)
			q.first() // gives up removed places in front
			return evicted, true
		}
	}
	if q.stored != nil && qos == AtMostOnce { // of which there are none in the store
		return q.stored.tail.evict(qos)
	}
	return delivery{}, false
}

// removeFunc removes and returns the messages in memory for which f reports true, in
// order.
func (q *queue) removeFunc(f func(*delivery) bool) (removed []delivery) {
	for i := range q.n {
		if d := q.at(i); d.msg != nil && f(d) {
			removed = append(removed, d.out())
			q.forget(d)
		}
	}
	q.first()
	if q.stored != nil {
		removed = append(removed, q.stored.tail.removeFunc(f)...)
	}
	return removed
}

// all calls f for the messages in memory, in order.
func (q *queue) all(f func(*delivery)) {
	for i := range q.n {
		if d := q.at(i); d.msg != nil {
			f(d)
		}
	}
	if q.stored != nil {
		q.stored.tail.all(f)
	}
}

func (q *queue) resize(size int) {
	ring := make([]delivery, size)
	for i := range q.n {
		ring[i] = *q.at(i)
	}
	q.ring, q.head = ring, 0
}
