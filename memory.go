package petrel

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// noMemoryLimit is Options.MemoryLimit without a limit.
const noMemoryLimit = math.MaxInt64

// memory counts the bytes of messages in queues, in flight and retained, and
// keeps them to Options.MemoryLimit. Messages of QoS 0 that wait in queues give
// way: as long as there are some, others are let in above the limit, and who let
// them in sheds as much as soon as it holds no lock.
type memory struct {
	limit int64
	all   atomic.Int64
	qos0  atomic.Int64 // of all: of QoS 0 in queues
	kept  atomic.Int64 // of all: retained
	told  atomic.Int64 // instant of the last event

	shedding sync.Mutex // held by who makes messages give way

	mu     sync.Mutex
	queues []*session // that may have some, if there is a limit; session.yields is the place, counted from 1
	next   int        // whose turn it is to give way
}

// fits reports whether size bytes more, of messages that do not give way, are
// within the limit.
func (m *memory) fits(size int) bool {
	return m.all.Load()-m.qos0.Load()+int64(size) <= m.limit
}

// over is how many bytes are above the limit.
func (m *memory) over() int64 { return m.all.Load() - m.limit }

// reserve counts n bytes more, and reports false if they are not within the
// limit. Of a QoS above 0 they may be above it as far as others have to give way.
func (m *memory) reserve(n int64, qos QoS) bool {
	for {
		all := m.all.Load()
		if all+n > m.limit && (qos == AtMostOnce || all+n-m.qos0.Load() > m.limit) {
			return false
		}
		if m.all.CompareAndSwap(all, all+n) {
			return true
		}
	}
}

// storeLimit is the limit for what a store has too. It leaves a quarter of what
// retained messages leave to the rest.
func (m *memory) storeLimit() int64 { return m.limit - (m.limit-m.kept.Load())/4 }

// spare reports whether n bytes more, of what a store has too, are within its limit.
func (m *memory) spare(n int64) bool { return m.all.Load()+n <= m.storeLimit() }

// grant counts up to n bytes more for what is read from a store, as far as its limit
// has them, and returns how many.
func (m *memory) grant(n int64) int64 {
	for {
		all := m.all.Load()
		granted := max(min(n, m.storeLimit()-all), 0)
		if m.all.CompareAndSwap(all, all+granted) {
			return granted
		}
	}
}

// spend counts n bytes, as far as they are not granted.
func (m *memory) spend(granted *int64, n int64) {
	had := min(*granted, n)
	*granted -= had
	m.add(n - had)
}

// retain counts n bytes more of retained messages, and reports false if they are not
// within the limit. Less than none always is.
func (m *memory) retain(n int64) bool {
	if n > 0 && !m.reserve(n, AtLeastOnce) {
		return false
	}
	m.all.Add(min(n, 0))
	m.kept.Add(n)
	return true
}

// restoreRetained counts n bytes of retained messages whatever the limit.
func (m *memory) restoreRetained(n int64) {
	m.all.Add(n)
	m.kept.Add(n)
}

// add counts what there is whatever the limit.
func (m *memory) add(n int64) { m.all.Add(n) }

// remove counts out a message that was in a queue or in flight.
func (m *memory) remove(d *delivery) {
	n := int64(d.msg.size())
	if d.qos == AtMostOnce {
		m.qos0.Add(-n) // first, or what fits could be taken for more
	}
	m.all.Add(-n)
}

// queuedLocked notes that s, which is locked, has a message in its queue that is
// counted already.
func (m *memory) queuedLocked(s *session, d *delivery) {
	if d.qos > AtMostOnce {
		return
	}
	m.qos0.Add(int64(d.msg.size()))
	if m.limit == noMemoryLimit {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.yields == 0 {
		m.queues = append(m.queues, s)
		s.yields = int32(len(m.queues))
	}
}

// forget says that s has nothing more that could give way.
func (m *memory) forget(s *session) {
	if m.limit == noMemoryLimit {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.yields == 0 {
		return
	}
	last := len(m.queues) - 1
	m.queues[s.yields-1] = m.queues[last]
	m.queues[s.yields-1].yields = s.yields
	m.queues[last] = nil
	m.queues, s.yields = m.queues[:last], 0
}

// turn is the session that has to give way now, nil if none can.
func (m *memory) turn() *session {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queues) == 0 {
		return nil
	}
	m.next++
	return m.queues[m.next%len(m.queues)]
}

// shed makes messages of QoS 0 give way until the rest is within the limit, one
// session after the other. No lock may be held.
func (b *Broker) shed(bt *batch) {
	m := &b.memory
	m.shedding.Lock()
	defer m.shedding.Unlock()
	for over := m.over(); over > 0; over = m.over() {
		s := m.turn()
		if s == nil {
			return
		}
		s.giveWay(bt, over)
	}
}

// giveWay drops messages of QoS 0 that wait for the session, the oldest first,
// until n bytes are free or there are no more.
func (s *session) giveWay(bt *batch, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dropped := s.queue.removeFunc(func(d *delivery) bool {
		if d.qos > AtMostOnce || n <= 0 {
			return false
		}
		n -= int64(d.msg.size())
		return true
	})
	for i := range dropped {
		s.broker.memory.remove(&dropped[i])
		s.dropForMemoryLocked(bt, &dropped[i])
	}
	if s.queue.yielding() == 0 {
		s.broker.memory.forget(s)
	}
}

// dropForMemoryLocked tells of a message that the memory limit leaves no room for.
func (s *session) dropForMemoryLocked(bt *batch, d *delivery) {
	bt.dropMessage(s.id, d.msg, d.qos, DropMemory)
	bt.limited(LimitMemory, s.client, s.id, d.msg.topic)
}

// tell reports whether the limit being reached is news: it was not told of in
// the last second.
func (m *memory) tell(now instant) bool {
	last := m.told.Load()
	return (last == 0 || now-instant(last) >= instant(time.Second)) && m.told.CompareAndSwap(last, int64(now))
}
