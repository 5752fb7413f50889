package petrel

import "time"

// enqueueLocked lets d wait, as far as the limits of the queue allow.
func (s *session) enqueueLocked(bt *batch, d delivery) {
	o := &s.broker.opts
	if d.msg.expired(bt.now) {
		bt.dropMessage(s.id, d.msg, d.qos, DropExpired)
		return
	}
	size := d.msg.size()
	if size > o.QueueBytes { // nothing need give way to what never fits
		bt.dropMessage(s.id, d.msg, d.qos, DropQueueFull)
		return
	}
	s.beginBacklogLocked()
	for s.overfullLocked(1, size) {
		if s.makeRoomLocked(bt, d.qos) {
			continue
		}
		if s.oweRoomLocked() {
			break
		}
		bt.dropMessage(s.id, d.msg, d.qos, DropQueueFull)
		return
	}
	d.epoch = s.epoch
	m := &s.broker.memory
	if s.durable && d.qos > AtMostOnce { // the store has room for it
		crowded := !m.spare(int64(size))
		s.broker.journal.keepDelivery(bt, s, &d, 0)
		s.lineUpLocked(&d, crowded)
		return
	}
	if !m.reserve(int64(size), d.qos) {
		s.dropForMemoryLocked(bt, &d)
		return
	}
	bt.overdrawn = bt.overdrawn || m.over() > 0
	s.queue.add(d, s.places)
	m.queuedLocked(s, &d)
}

// makeRoomLocked drops one queued message for a newer one of the given QoS, and
// reports whether it did.
func (s *session) makeRoomLocked(bt *batch, qos QoS) bool {
	if s.dropExpiredLocked(bt) {
		return true
	}
	defer s.readAheadLocked(bt.now) // or what is in front would never be looked at
	most := AtMostOnce
	switch {
	case qos > AtMostOnce && s.queue.yielding() > 0:
	case s.broker.opts.QueueFull == DropOldest:
		most = ExactlyOnce
	default:
		return false
	}
	d, ok := s.queue.evict(most)
	if ok {
		s.broker.memory.remove(&d)
		s.forgetLocked(bt, &d)
		bt.dropMessage(s.id, d.msg, d.qos, DropQueueFull)
	}
	return ok
}

// dropExpiredLocked drops the queued messages that have expired, at most once a
// second, and reports whether there were any.
func (s *session) dropExpiredLocked(bt *batch) bool {
	if s.purged != 0 && bt.now-s.purged < instant(time.Second) {
		return false
	}
	s.purged = bt.now
	expired := s.queue.removeFunc(func(d *delivery) bool { return d.msg.expired(bt.now) })
	for i := range expired {
		d := &expired[i]
		s.broker.memory.remove(d)
		s.forgetLocked(bt, d)
		bt.dropMessage(s.id, d.msg, d.qos, DropExpired)
	}
	return len(expired) > 0
}

// overfullLocked reports whether the queue is too long for so much more.
func (s *session) overfullLocked(messages, bytes int) bool {
	o := &s.broker.opts
	return s.queue.messages()+messages > o.QueueMessages || s.queue.size()+bytes > o.QueueBytes
}

// oweRoomLocked reports whether a message may come before the oldest has made room for
// it, as that has to be read first. It is a page at most that comes so.
func (s *session) oweRoomLocked() bool {
	st, o := s.queue.stored, &s.broker.opts
	return o.QueueFull == DropOldest && st != nil && st.messages > 0 &&
		s.queue.messages()-o.QueueMessages < onlineDepth.pageMessages && s.queue.size()-o.QueueBytes < onlineDepth.pageBytes
}
