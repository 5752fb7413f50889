package petrel

import "time"

// absence is what a session without a connection waits for: its end, and its
// delayed will. Guarded by session.mu. Nil waits for nothing.
type absence struct {
	alarm   alarm   // of the two
	expires instant // when the session ends; 0 means never
	will    *will   // of the connection that has ended; nil if there is none, or no longer
	willDue instant
}

// end is when the session ends; 0 means never.
func (a *absence) end() instant {
	if a == nil {
		return 0
	}
	return a.expires
}

// over reports whether the session should have ended.
func (a *absence) over(now instant) bool { return a.end() != 0 && a.end() <= now }

// pending is the delayed will, nil if there is none.
func (a *absence) pending() *will {
	if a == nil {
		return nil
	}
	return a.will
}

// waitLocked starts the time of a session without a connection.
func (s *session) waitLocked(now instant, w *will) {
	var expires, due instant
	if s.expiry != neverExpires {
		expires = now.after(time.Duration(s.expiry) * time.Second)
	}
	if w != nil {
		due = w.dueFrom(now)
		if expires != 0 {
			due = min(due, expires)
		}
	}
	s.beginAbsenceLocked(expires, w, due)
	s.alarmLocked()
}

// beginAbsenceLocked says what a session without a connection waits for; no alarm
// is set yet.
func (s *session) beginAbsenceLocked(expires instant, w *will, due instant) {
	if w != nil {
		w.due = due
	}
	if expires != 0 || w != nil {
		s.absence = &absence{expires: expires, will: w, willDue: due}
	}
}

// endAbsenceLocked makes the session wait for nothing.
func (s *session) endAbsenceLocked() {
	if s.absence != nil {
		s.broker.alarms.stop(&s.absence.alarm)
		s.absence = nil
	}
}

func (s *session) alarmLocked() {
	a := s.absence
	at := a.end()
	if a.pending() != nil && (at == 0 || a.willDue < at) {
		at = a.willDue
	}
	if at != 0 {
		s.broker.alarms.set(&a.alarm, s, at)
	}
}

// ring is called when the will or the session is due.
func (s *session) ring(instant) {
	b := s.broker
	b.begin(func() {
		ended, due := b.expire(s)
		if ended {
			b.endSession(s, SessionExpired)
			b.stats.expired.Add(1)
		}
		b.publishWill(due)
	})
}
