package petrel

import "time"

// What a session waits for without a connection: its end, and its delayed will.

// waitLocked starts the time of a session without a connection.
func (s *session) waitLocked(now instant, w *will) {
	s.expires = 0
	if s.expiry != neverExpires {
		s.expires = now.after(time.Duration(s.expiry) * time.Second)
	}
	if s.pendingWill = w; w != nil {
		s.willDue = now.after(time.Duration(w.delay) * time.Second)
		if s.expires != 0 {
			s.willDue = min(s.willDue, s.expires)
		}
	}
	s.alarmLocked()
}

func (s *session) alarmLocked() {
	at := s.expires
	if s.pendingWill != nil && (at == 0 || s.willDue < at) {
		at = s.willDue
	}
	if at != 0 {
		s.broker.alarms.set(&s.alarm, at)
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
