package petrel

// What the store has of a session beside its queue: that it is there, what is on
// its way to the client, and that both have come to their end.

// keepLocked writes down that c has the session now, if that or its will is to
// outlive the process.
func (s *session) keepLocked(bt *batch, c *Client) {
	if s.durable || c.will != nil || s.kept {
		s.broker.journal.keepSession(bt, s)
		s.broker.journal.keepWill(bt, s, c.will, 0)
	}
}

// forgetLocked removes what the store has of a delivery that has come to its end.
func (s *session) forgetLocked(bt *batch, d *delivery) {
	if d.place.n != 0 {
		s.broker.journal.forget(bt, s, d)
	}
}

// forgetAllLocked removes from the store what an ended session has beside messages.
func (s *session) forgetAllLocked(bt *batch) {
	j := s.broker.journal
	if s.kept {
		j.keepSession(bt, s) // which says that it has ended
	}
	for _, e := range s.subs.all() {
		j.forgetSubscription(bt, s, e.Value.filter)
	}
	for id := range s.received {
		j.forgetReceived(bt, s, id)
	}
}

// keepFlightLocked writes down that a message is on its way to the client, and
// returns what its PUBLISH has to wait for: the identifier of a QoS 2 message must
// be known after a crash, or it could be sent under a second one. owed is the replay
// that the message is from, nil if it is from none.
func (s *session) keepFlightLocked(bt *batch, f *flight, owed *replay) *commit {
	switch {
	case !s.durable:
		return nil
	case owed != nil:
		s.broker.journal.keepReplayed(bt, s, &f.delivery, f.id, owed)
	case f.place.n == 0:
		s.broker.journal.keepDelivery(bt, s, &f.delivery, f.id)
	default:
		s.broker.journal.keepFlight(bt, s, f)
	}
	if f.qos < ExactlyOnce {
		return nil
	}
	return bt.journaled
}
