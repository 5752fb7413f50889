package petrel

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"slices"

	"github.com/petrelmq/petrel/topics"
)

type group = topics.Group[subscription]

// readiness is how soon a session could send a message. The strategy chooses among
// those members that are the readiest.
type readiness byte

const (
	atOnce       readiness = iota // its client is connected, and nothing waits
	afterQueue                    // its client is connected, and its queue has room
	whenBack                      // its queue has room, but its client is away
	hardly                        // its client is connected, but its queue or the memory is full
	hardlyEither                  // its queue or the memory is full, and its client away
	notAnyMore                    // it has ended
)

// readiness is how soon the session could send a message of n bytes, as far as can be
// told: it may be another a moment later.
func (s *session) readiness(n int, qos QoS) readiness {
	s.mu.Lock()
	defer s.mu.Unlock()
	homeless := qos > AtMostOnce && !s.durable && !s.broker.memory.fits(n) // neither memory nor a store has room
	online, full := s.online.Load(), homeless || s.overfullLocked(1, n)
	switch {
	case s.ended:
		return notAnyMore
	case online && s.queue.messages() == 0 && !homeless:
		return atOnce
	case online && full:
		return hardly
	case online && s.broker.opts.SharedStrategy.keepsTo():
		return atOnce // or the member would change with its load
	case online && s.local != nil:
		return atOnce // all that the host gets comes by a queue
	case online:
		return afterQueue
	case full:
		return hardlyEither
	}
	return whenBack
}

// keepsTo reports whether a strategy has the same member for the same messages.
func (s SharedStrategy) keepsTo() bool { return s == Sticky || s == TopicHash }

// choose picks the member of a shared subscription that gets p, nil if no member
// may have it.
func (b *Broker) choose(bt *batch, g *group, p *publication) *entry {
	if len(b.hooks.selector) > 0 {
		if e := b.selected(bt, g, p); e != nil {
			return e
		}
	}
	e := b.readiest(bt, g, p, nil, hardlyEither)
	if e == nil && slices.ContainsFunc(bt.members, func(e *entry) bool { return e.Value.check }) {
		bt.drop("", p, p.qos, DropNotAuthorized)
	}
	return e
}

// readiest is the member but from that gets p, nil if none may that is as ready as the
// least. Whose turn it is comes first.
func (b *Broker) readiest(bt *batch, g *group, p *publication, from *session, least readiness) *entry {
	bt.members = g.Members(bt.members[:0])
	if len(bt.members) == 0 {
		return nil
	}
	return b.readiestAfter(bt, b.firstChoice(g, p, len(bt.members)), p, from, least)
}

// readiestAfter is readiest among batch.members, from the given place on. The last look
// takes any, as one that has become readier meanwhile was in none of those before.
func (b *Broker) readiestAfter(bt *batch, first int, p *publication, from *session, least readiness) *entry {
	size := p.size()
	for r := atOnce; r <= least; r++ {
		e := pick(bt, first, p, b, func(sub *subscription) bool {
			if sub.session == from {
				return false
			}
			found := sub.session.readiness(size, min(sub.qos, p.qos))
			return found == r || r == least && found < r
		})
		if e != nil {
			return e
		}
	}
	return nil
}

// selected asks the SharedSelector; nil leaves the choice to the strategy.
func (b *Broker) selected(bt *batch, g *group, p *publication) *entry {
	bt.members = g.Members(bt.members[:0])
	if len(bt.members) == 0 {
		return nil
	}
	r := SelectRequest{Share: g.Name(), Filter: g.Filter(), Topic: string(p.topic), QoS: p.qos}
	for _, e := range bt.members {
		r.Members = append(r.Members, e.Value.session.member())
	}
	h, place := b.hooks.selector[0], -1
	err := b.decide(bt.context(), h, func(ctx context.Context) error {
		place = h.SelectMember(ctx, &r)
		return nil
	})
	if err != nil || place < 0 || place >= len(bt.members) {
		return nil
	}
	e := bt.members[place]
	if e.Value.check && !b.mayReceive(bt, &e.Value, p) {
		return nil
	}
	return e
}

func (s *session) member() Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Member{ClientID: s.id, Connected: s.client != nil || s.local != nil, Queued: s.queue.messages(), Inflight: int(s.flights.n)}
}

// firstChoice is the place of the member to begin with.
func (b *Broker) firstChoice(g *group, p *publication, n int) int {
	switch b.opts.SharedStrategy {
	case Random:
		return rand.IntN(n)
	case Sticky:
		return 0
	case TopicHash:
		return int(maphash.Bytes(b.directory.seed, p.topic) % uint64(n))
	}
	return int(g.Turn() % uint32(n))
}

// pick returns the first member from the given place on that ok accepts and that may
// receive p. In a bracket nobody can be asked: then one that need not be comes first.
func pick(bt *batch, first int, p *publication, b *Broker, ok func(*subscription) bool) (unasked *entry) {
	n := len(bt.members)
	for i := range n {
		e := bt.members[(first+i)%n]
		switch {
		case !ok(&e.Value):
		case !e.Value.check:
			return e
		case bt.journal.bracketed:
			if unasked == nil {
				unasked = e
			}
		case b.mayReceive(bt, &e.Value, p):
			return e
		}
	}
	return unasked
}
