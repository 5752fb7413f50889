package petrel

import (
	"hash/maphash"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/petrelmq/petrel/packets"
)

// directory knows which session belongs to a client identifier, and which
// connection to a session. Every session is reached through it, so that a claim
// of a connection is one critical section per identifier.
type directory struct {
	seed   maphash.Seed
	count  atomic.Int64
	epoch  atomic.Uint64 // counts the claims
	owners owners
	shards [64]shard
}

type shard struct {
	mu       sync.Mutex
	sessions map[string]*session
	wills    map[string]chan struct{} // closed when the will that is going out is with everybody
}

func newDirectory() *directory {
	d := &directory{seed: maphash.MakeSeed()}
	for i := range d.shards {
		d.shards[i].sessions = make(map[string]*session)
		d.shards[i].wills = make(map[string]chan struct{})
	}
	return d
}

func (d *directory) shard(id string) *shard {
	return &d.shards[maphash.String(d.seed, id)%uint64(len(d.shards))]
}

// dueLocked notes that w, unless it is nil, is going to be published: who claims
// its client identifier waits for that.
func (sh *shard) dueLocked(w *will) {
	if w != nil {
		sh.wills[w.client.id] = make(chan struct{})
	}
}

// willIsOut ends what dueLocked began.
func (d *directory) willIsOut(w *will) {
	sh := d.shard(w.client.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if out := sh.wills[w.client.id]; out != nil {
		close(out)
		delete(sh.wills, w.client.id)
	}
}

// get returns the session with the identifier, nil if there is none.
func (d *directory) get(id string) *session {
	sh := d.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.sessions[id]
}

// forget counts a session out.
func (d *directory) forget(s *session) {
	d.count.Add(-1)
	d.owners.add(s.identity, owned{sessions: -1})
}

// all yields every session, each shard as it is at one moment.
func (d *directory) all() iter.Seq[*session] {
	return func(yield func(*session) bool) {
		for i := range d.shards {
			for _, s := range d.shards[i].snapshot() {
				if !yield(s) {
					return
				}
			}
		}
	}
}

func (sh *shard) snapshot() []*session {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	list := make([]*session, 0, len(sh.sessions))
	for _, s := range sh.sessions {
		list = append(list, s)
	}
	return list
}

// claim is the outcome of a CONNECT for the sessions of its client identifier.
// What it found has to be ended, and the wills to be published, before CONNACK.
type claim struct {
	session   *session
	present   bool          // the session existed and goes on
	created   bool          // the session is new
	displaced *Client       // the connection that had it until now, unless its client has left
	ended     *session      // the session that existed and does not go on
	will      *will         // that has become due
	delayed   *will         // that becomes due unless the client is accepted
	earlier   chan struct{} // closed when a will that was due before is out; nil if there is none
	expired   bool          // the session that ended had expired, which no alarm has noticed yet
	flapping  bool          // connections displace each other all the time
	limit     Limit         // why it was refused, if that was a limit
}

// claim makes c the owner of the session of its client identifier: of the one
// that exists, or of a new one if there is none or clean is set. From then on
// no other connection touches it. The session of another identity is refused, and
// so is who was revoked since there were that many revocations.
func (b *Broker) claim(c *Client, clean bool, expiry uint32, revocations uint64) (claim, error) {
	sh := b.directory.shard(c.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	cl := claim{earlier: sh.wills[c.id]}
	if err := b.revoked.since(revocations, c.principal); err != nil {
		return cl, err
	}
	if old := sh.sessions[c.id]; old != nil {
		old.mu.Lock()
		defer old.mu.Unlock()
		now := b.alarms.now()
		cl.expired = old.owner == nil && old.absence.over(now)
		if old.identity != c.identity && !cl.expired {
			return cl, &packets.Error{Code: packets.ClientIdentifierNotValid, Detail: "the session belongs to another user"}
		}
		if old.owner != nil && !old.owner.left {
			cl.displaced = old.owner
			if old.takeovers == nil {
				old.takeovers = new(takeovers)
			}
			cl.flapping = old.takeovers.note(now)
		}
		clean = clean || cl.expired
		if cl.limit = b.mayClaim(c, old, clean); cl.limit != 0 {
			return cl, cl.limit.refusal()
		}
		old.claimLocked(&cl, clean, now)
	} else if cl.limit = b.mayClaim(c, nil, clean); cl.limit != 0 {
		return cl, cl.limit.refusal()
	}
	if cl.session == nil {
		cl.session = newSession(b, c.principal)
		cl.session.durable = b.journal != nil && expiry != 0
		cl.created = true
		if cl.ended != nil {
			cl.session.takeovers = cl.ended.takeovers
		}
		sh.sessions[c.id] = cl.session
	}
	sh.dueLocked(cl.will)
	cl.session.owner = c // nobody else knows a new session; an old one is locked
	c.will = cl.delayed
	cl.session.expiry = expiry
	b.directory.epoch.Add(1)
	return cl, nil
}

// mayClaim counts what c gets by its claim, or returns the limit that forbids
// it. old is the locked session that there is, nil if there is none.
func (b *Broker) mayClaim(c *Client, old *session, clean bool) Limit {
	d := b.directory
	more := owned{sessions: 1, connections: 1}
	switch {
	case old == nil:
		if d.count.Add(1) > int64(b.opts.MaximumSessions) {
			d.count.Add(-1)
			return LimitSessions
		}
		l := d.owners.claim(c.identity, more)
		if l != 0 {
			d.count.Add(-1)
		}
		return l
	case old.identity != c.identity: // it has expired
		l := d.owners.claim(c.identity, more)
		if l == 0 {
			d.owners.add(old.identity, owned{sessions: -1})
		}
		return l
	}
	more.sessions = 0
	if old.owner != nil {
		more.connections = 0
	}
	return d.owners.claim(c.identity, more)
}

// claimLocked takes the session from its connection, if it has one, and says
// whether it goes on.
func (s *session) claimLocked(cl *claim, clean bool, now instant) {
	resume := !clean && (s.owner == nil || s.expiry != 0)
	w := s.absence.pending()
	if s.owner != nil {
		w, s.owner.will = s.owner.will, nil
	}
	if w != nil && (!resume || w.dueFrom(now) <= now) {
		cl.will = w
	} else {
		cl.delayed = w
	}
	s.endAbsenceLocked()
	s.goOfflineLocked()
	if resume {
		cl.session, cl.present = s, true
		return
	}
	if s.willKept && cl.will == nil && cl.earlier == nil {
		s.broker.journal.forgetWill(nil, s) // the client has taken it back
	}
	s.ended = true
	cl.ended = s
}

// release ends the ownership of c after its connection has ended: the session
// goes on without a connection, or ends. It reports what became of it.
func (b *Broker) release(c *Client) (ended bool, due *will, still bool) {
	s := c.session
	sh := b.directory.shard(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != c {
		return false, nil, false // displaced: everything is settled
	}
	w := c.will
	c.will = nil
	s.goOfflineLocked()
	b.directory.owners.add(s.identity, owned{connections: -1})
	if w == nil && s.willKept {
		b.journal.forgetWill(nil, s) // the client has taken it back
	}
	if s.expiry == 0 {
		s.ended = true
		delete(sh.sessions, s.id)
		b.directory.forget(s)
		sh.dueLocked(w)
		return true, w, true
	}
	if w != nil && w.delay == 0 {
		due, w = w, nil
	}
	sh.dueLocked(due)
	s.waitLocked(b.alarms.now(), w)
	if s.kept {
		b.journal.keepSession(nil, s)
		if w != nil {
			b.journal.keepWill(nil, s, w, s.absence.willDue)
		}
	}
	return false, due, true
}

// expire ends what is due of a session without a connection.
func (b *Broker) expire(s *session) (ended bool, due *will) {
	sh := b.directory.shard(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.absence
	if s.ended || a == nil { // or it has a connection
		return false, nil
	}
	now := b.alarms.now()
	over := a.over(now)
	if a.will != nil && (over || a.willDue <= now) {
		due, a.will = a.will, nil
	}
	sh.dueLocked(due)
	if !over {
		s.alarmLocked()
		return false, due
	}
	s.ended = true
	delete(sh.sessions, s.id)
	b.directory.forget(s)
	return true, due
}
