package petrel

// backlog is what is on its way in a session: messages that wait, that were sent
// and are not finished, and that are still owed. Most sessions have none of these
// most of the time, so that it is not part of the session. Guarded by session.mu.
type backlog struct {
	queue    queue
	scrutiny *scrutiny // of what waits; nil unless there was a review since
	purged   instant   // when expired messages were last looked for in the queue
	flights  inflight
	resend   []uint16        // flights that wait for quota to be sent again, in order
	received map[uint16]bool // identifiers of QoS 2 messages from the client, until PUBREL; whether this connection sent them
	replays  []*replay       // retained messages that its subscriptions are still owed

	droppedReplays int32 // how many of replays are dropped
}

// noBacklog is the backlog of every session that has none: it can be read without
// asking, and is never written to.
var noBacklog backlog

// beginBacklogLocked gives the session a backlog of its own, to add something to.
func (s *session) beginBacklogLocked() {
	if s.backlog == &noBacklog {
		s.backlog = new(backlog)
	}
}

// endBacklogLocked gives up the backlog if there is nothing in it.
func (s *session) endBacklogLocked() {
	b := s.backlog
	if b.queue.messages() == 0 && b.scrutiny == nil && b.flights.n == 0 && len(b.resend) == 0 && len(b.received) == 0 && len(b.replays) == 0 {
		s.backlog = &noBacklog
	}
}
