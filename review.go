package petrel

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/topics"
)

// ruling is what the Authorizers say now about a subscription that exists.
type ruling struct{ refused, check bool }

type rulings map[*entry]ruling

// undecided reports whether an Authorizer has failed rather than refused: what
// exists is not taken away for that, but nothing is delivered either.
func undecided(err error) bool {
	switch packets.ReasonOf(err) {
	case packets.UnspecifiedError, packets.ServerUnavailable, packets.ServerBusy:
		return true
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// rule asks about the subscriptions of s that are not known. No lock may be held.
func (b *Broker) rule(ctx context.Context, c *Client, s *session, known rulings) error {
	s.mu.Lock()
	list := slices.Clone(s.subs.all())
	s.mu.Unlock()
	for _, e := range list {
		if _, ok := known[e]; ok {
			continue
		}
		sub := e.Value
		err := b.maySubscribe(ctx, c, &sub)
		if err != nil && undecided(err) {
			return &packets.Error{Code: packets.ServerBusy, Err: fmt.Errorf("petrel: authorize the subscription of %q to %q again: %w", s.id, sub.filter, err)}
		}
		known[e] = ruling{refused: err != nil, check: sub.check}
	}
	return nil
}

// ruleBefore is rule for the session that c is going to resume, if there is one.
func (b *Broker) ruleBefore(c *Client, clean bool) (rulings, error) {
	if len(b.hooks.authorize) == 0 || clean {
		return nil, nil
	}
	known := make(rulings)
	if s := b.directory.get(c.id); s != nil && s.identity == c.identity {
		return known, b.rule(c.context(), c, s, known)
	}
	return known, nil
}

// applyLocked leaves of the subscriptions what the rulings do, and has the messages
// that came by them looked at. It returns what it has removed.
func (s *session) applyLocked(bt *batch, known rulings) (removed []*entry) {
	b := s.broker
	checks := false
	for _, e := range slices.Clone(s.subs.all()) {
		r, ok := known[e]
		switch {
		case !ok:
			r.check = e.Value.check
		case r.refused:
			s.removeLocked(bt, e)
			removed = append(removed, e)
			continue
		case r.check != e.Value.check:
			n := &entry{Value: e.Value}
			n.Value.check, n.Value.owed = r.check, nil
			s.subs.put(n)
			b.tree.Replace(e, n)
			s.moveReplayLocked(e, n)
			if s.durable {
				b.journal.keepSubscription(bt, s, &n.Value)
			}
		}
		checks = checks || r.check
	}
	s.checks = checks
	switch {
	case checks && s.last == nil:
		s.last = s.ghost()
	case !checks && s.owner == nil:
		s.last = nil
	}
	for _, r := range s.replays {
		r.asks = r.asks || b.asksForReplay(&r.entry.Value)
	}
	s.beginScrutinyLocked(removed)
	return removed
}

// removeLocked takes a subscription away.
func (s *session) removeLocked(bt *batch, e *entry) {
	s.subs.remove(e.Value.filter)
	s.broker.tree.Remove(e)
	s.dropReplayLocked(e)
	if s.durable {
		s.broker.journal.forgetSubscription(bt, s, e.Value.filter)
	}
}

// scrutiny decides which of the messages that a session holds its client may still
// have: those that one of its subscriptions matches which is still allowed. Their
// delivery.epoch is not that of the session. Guarded by session.mu.
type scrutiny struct {
	tree    *topics.Tree[judgement]
	matches topics.Matches[judgement]
	refused []string        // filters that are in the tree as such
	asked   map[string]bool // by topic, what the Authorizers have said
	lenient bool            // what no filter matches may be kept: a DeliverInterceptor can have changed its topic
}

// judgement is what becomes of a message.
type judgement byte

const (
	refuse judgement = iota
	ask              // with Receive
	askAll           // also whether the topic may be subscribed to: no subscription is known
	allow
)

// beginScrutinyLocked has all messages that wait looked at, if there are any.
func (s *session) beginScrutinyLocked(removed []*entry) {
	if s.queue.messages() == 0 && s.flights.n == 0 {
		if s.scrutiny != nil {
			s.scrutiny = nil
		}
		return
	}
	if st := s.queue.stored; st != nil {
		st.judgeTo = s.places
	}
	x := &scrutiny{tree: topics.NewTree[judgement](), asked: make(map[string]bool)}
	if s.scrutiny != nil {
		x.refused = s.scrutiny.refused // some of their messages may be left
	}
	for _, e := range removed {
		x.refused = append(x.refused, e.Value.filter)
	}
	for _, filter := range x.refused {
		x.add(filter, refuse)
	}
	for _, e := range s.subs.all() {
		j := allow
		if e.Value.check {
			j = ask
		}
		x.add(e.Value.filter, j)
	}
	x.lenient = len(s.broker.hooks.deliver) > 0 && len(x.refused) == 0
	s.scrutiny = x
	s.epoch++
}

func (x *scrutiny) add(filter string, j judgement) {
	_, inner, _ := topics.SplitShared(filter)
	x.tree.Add(inner, &topics.Entry[judgement]{Value: j})
}

func (x *scrutiny) judge(topic string) judgement {
	if may, ok := x.asked[topic]; ok {
		if may {
			return allow
		}
		return refuse
	}
	x.tree.Match([]byte(topic), &x.matches)
	if len(x.matches.Entries) == 0 {
		if x.lenient {
			return allow
		}
		return askAll
	}
	best := refuse
	for _, e := range x.matches.Entries {
		best = max(best, e.Value)
	}
	return best
}

// question is a topic that the Authorizers have to be asked about.
type question struct {
	topic string
	qos   QoS
	all   bool
}

// scrutinizeLocked drops what the client may not have any more, and returns what
// has to be asked before the rest is known, and the messages that other members of
// shared subscriptions may get.
func (s *session) scrutinizeLocked(bt *batch) (open []question, moved []delivery) {
	x := s.scrutiny
	if x == nil {
		return nil, nil
	}
	seen := make(map[string]bool)
	refused := func(d *delivery) bool {
		if d.epoch == s.epoch {
			return false
		}
		j := x.judge(d.msg.topic)
		switch {
		case j == allow:
			d.epoch = s.epoch
		case j != refuse && !seen[d.msg.topic]:
			seen[d.msg.topic] = true
			open = append(open, question{d.msg.topic, d.qos, j == askAll})
		}
		return j == refuse
	}
	for _, f := range s.flights.ordered() {
		if f.state == awaitAck && (f.unsent || s.client == nil) && refused(&f.delivery) {
			s.withdrawLocked(bt, f, DropNotAuthorized)
		}
	}
	for _, d := range s.queue.removeFunc(refused) {
		s.broker.memory.remove(&d)
		if d.shared != nil {
			moved = append(moved, d)
			continue
		}
		s.forgetLocked(bt, &d)
		bt.dropMessage(s.id, d.msg, d.qos, DropNotAuthorized)
	}
	if st := s.queue.stored; len(open) == 0 && (st == nil || st.from > st.judgeTo) {
		s.scrutiny = nil
	}
	return open, moved
}

// withdrawLocked drops a message that was sent on an earlier connection and is not
// sent again. The client may have the identifier of a QoS 2 message, and would
// take another one with it for the same: it has to release it.
func (s *session) withdrawLocked(bt *batch, f *flight, reason DropReason) {
	bt.dropMessage(s.id, f.msg, f.qos, reason)
	if f.qos == AtLeastOnce {
		s.finishLocked(bt, f)
		return
	}
	s.releaseFlightLocked(bt, f)
	if s.client != nil {
		bt.reply(s.client, &packets.Pubrel{PacketID: f.id})
	}
}

// scrutinize looks at what waits in a session, asks what has to be asked, and lets
// go what may. It ends early when the session has another client. No lock may be held.
func (b *Broker) scrutinize(ctx context.Context, s *session, c *Client) (after *commit, err error) {
	for {
		open, x, done := b.scrutinizeOnce(s, c)
		if done != nil {
			after = done
		}
		if len(open) == 0 {
			return after, nil
		}
		for _, q := range open {
			err := b.mayHave(ctx, c, q)
			if err != nil && undecided(err) {
				return after, &packets.Error{Code: packets.ServerBusy, Err: fmt.Errorf("petrel: authorize what waits for %q on %q again: %w", s.id, q.topic, err)}
			}
			s.mu.Lock()
			x.asked[q.topic] = err == nil
			s.mu.Unlock()
		}
	}
}

func (b *Broker) scrutinizeOnce(s *session, c *Client) (open []question, x *scrutiny, after *commit) {
	bt := b.batch()
	defer bt.finish()
	s.mu.Lock()
	if s.client != nil && s.client != c || s.ended {
		s.mu.Unlock()
		return nil, nil, nil
	}
	x = s.scrutiny
	open, moved := s.scrutinizeLocked(bt)
	s.pumpLocked(bt)
	s.mu.Unlock()
	for i := range moved {
		if d := &moved[i]; !b.redispatch(bt, s, d) {
			bt.dropMessage(s.id, d.msg, d.qos, DropNotAuthorized)
		}
	}
	return open, x, bt.journaled
}

// mayHave asks whether the client may be sent a message that waits.
func (b *Broker) mayHave(ctx context.Context, c *Client, q question) error {
	if q.all {
		sub := subscription{filter: q.topic, qos: q.qos}
		if err := b.maySubscribe(ctx, c, &sub); err != nil || !sub.check {
			return err
		}
	}
	r := AccessRequest{Client: c, Action: Receive, Topic: q.topic, QoS: q.qos}
	return b.authorize(ctx, &r)
}

// goOn asks about what a session that was resumed holds, beside its connection.
func (b *Broker) goOn(s *session, c *Client) {
	_, err := b.scrutinize(c.context(), s, c)
	if err != nil {
		c.stop(err)
		return
	}
	bt := b.batch()
	defer bt.finish()
	c.consultReplays(bt)
}
