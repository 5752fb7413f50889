package petrel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/petrelmq/petrel/packets"
)

// Who names the clients that [Broker.Reauthorize] and [Broker.Revoke] are about,
// connected or not. The zero value names none.
type Who struct {
	id, identity *string
	all          bool
}

// ByClientID names the client with an identifier.
func ByClientID(id string) Who { return Who{id: &id} }

// ByIdentity names all clients of an identity, see [Client.Identity]. The empty
// one is that of all clients without a user name.
func ByIdentity(identity string) Who { return Who{identity: &identity} }

// Everybody names all clients.
func Everybody() Who { return Who{all: true} }

func (w Who) names(p *principal) bool {
	return w.all || w.id != nil && *w.id == p.id || w.identity != nil && *w.identity == p.identity
}

// sessionsOf yields the sessions of the clients that w names.
func (b *Broker) sessionsOf(w Who) iter.Seq[*session] {
	return func(yield func(*session) bool) {
		if w.id != nil {
			if s := b.directory.get(*w.id); s != nil {
				yield(s)
			}
			return
		}
		for s := range b.directory.all() {
			if w.names(s.principal) && !yield(s) {
				return
			}
		}
	}
}

// Reauthorize asks the Authorizers again about all that the clients have, after
// their rights have changed. Subscriptions that are refused are removed, as if
// the client had unsubscribed; messages that wait for it and that no allowed subscription
// matches are dropped with [DropNotAuthorized], or go to another member of a shared
// subscription; so is a will that it may no longer publish. Each
// [SubscriptionObserver] is told of what is removed. What was handed to a
// connection before is on its way. When it returns nil, all of this is done for the
// clients that are connected and for those that are not, and is in the [Store]; but
// messages that only the Store has are looked at when their turn comes to be sent.
//
// The ConnectionAuthorizers are asked first whether the clients that are connected
// may stay, at [StageReauthorized]: one that they refuse is disconnected with the
// reason code of the refusal, and its session stays.
//
// An Authorizer that fails (an error without a reason code, 0x88 or 0x89, a panic, no
// answer in time) takes nothing away for good: a client that is connected
// is disconnected with 0x89, and asked about when it comes back, as every session
// is that is resumed. The error tells of it. The context bounds the whole.
func (b *Broker) Reauthorize(ctx context.Context, who Who) error {
	if !b.enter() {
		return ErrBrokerClosed
	}
	defer b.wg.Done()
	b.policy.Add(1) // what is being decided is decided again
	var after *commit
	var failed error
	n := 0
	for s := range b.sessionsOf(who) {
		if c := s.ownedBy(); c != nil {
			if err := c.reauthorizeConnection(ctx); err != nil && ctx.Err() == nil {
				c.stop(err)
			}
		}
		done, err := b.reauthorize(ctx, s)
		if done != nil {
			after = done
		}
		if ctx.Err() != nil {
			return fmt.Errorf("petrel: reauthorize: %w", ctx.Err())
		}
		if err != nil {
			n++
			failed = err
		}
	}
	if err := b.journal.wait(ctx, after); err != nil {
		return fmt.Errorf("petrel: reauthorize: it is done, but not in the store: %w", err)
	}
	if failed != nil {
		return fmt.Errorf("petrel: reauthorize: %d clients could not be decided on, the last: %w", n, failed)
	}
	return nil
}

func (b *Broker) reauthorize(ctx context.Context, s *session) (after *commit, err error) {
	if len(b.hooks.authorize) == 0 {
		return nil, nil
	}
	s.mu.Lock()
	c := s.owner
	if c == nil {
		c = s.last
	}
	if c == nil {
		c = s.ghost()
		s.last = nil // nobody has to be asked about it
	}
	s.mu.Unlock()
	defer func() {
		if err != nil && ctx.Err() == nil {
			c.stop(err)
		}
	}()
	known := make(rulings)
	if err := b.rule(ctx, c, s, known); err != nil {
		return nil, err
	}
	refused, err := b.refusedWill(ctx, s)
	if err != nil {
		return nil, err
	}
	removed, after := b.apply(s, known, refused)
	for _, e := range removed {
		observe(b, b.hooks.subscription, func(o SubscriptionObserver) { o.Unsubscribed(c, e.Value.filter) })
	}
	done, err := b.scrutinize(ctx, s, c)
	if done != nil {
		after = done
	}
	if err == nil && s.onlineClient() == c {
		bt := b.batch()
		defer bt.finish()
		c.consultReplays(bt)
	}
	return after, err
}

// refusedWill returns the will of the session if it may not be published any more.
func (b *Broker) refusedWill(ctx context.Context, s *session) (*will, error) {
	s.mu.Lock()
	w := s.absence.pending()
	if s.owner != nil {
		w = s.owner.will
	}
	s.mu.Unlock()
	if w == nil || isReserved(w.topic) {
		return nil, nil
	}
	r := AccessRequest{Client: w.client, Action: Publish, Topic: string(w.topic), QoS: w.qos, Retain: w.retain}
	err := b.authorize(ctx, &r)
	switch {
	case err == nil:
		return nil, nil
	case undecided(err):
		return nil, &packets.Error{Code: packets.ServerBusy, Err: fmt.Errorf("petrel: authorize the will of %q again: %w", s.id, err)}
	}
	return w, nil
}

// apply makes the session what the rulings leave of it, without the will that is refused.
func (b *Broker) apply(s *session, known rulings, refused *will) ([]*entry, *commit) {
	bt := b.batch()
	defer bt.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, nil
	}
	removed := s.applyLocked(bt, known)
	if refused != nil && s.takeWillLocked(bt, refused) {
		bt.count.dropped[DropNotAuthorized]++
		if len(b.hooks.drop) > 0 {
			bt.drops = append(bt.drops, Drop{Topic: string(refused.topic), QoS: refused.qos, Reason: DropNotAuthorized})
		}
	}
	return removed, bt.journaled
}

// takeWillLocked discards the will w, unless the session has another by now. Nil is
// any will.
func (s *session) takeWillLocked(bt *batch, w *will) bool {
	switch {
	case s.owner != nil && s.owner.will != nil && (w == nil || s.owner.will == w):
		s.owner.will = nil
	case s.absence.pending() != nil && (w == nil || s.absence.will == w):
		s.absence.will = nil
	default:
		return false
	}
	if s.willKept {
		s.broker.journal.forgetWill(bt, s)
	}
	return true
}

// Revoke takes all from the clients: their connections are closed, with 0x87 where the
// version has codes, and their sessions end, with subscriptions, messages that wait or
// are on their way, and wills, which are not published. When it returns nil, this is done
// and is in the [Store], from which a long queue is then removed little by little. A CONNECT that is being handled is refused.
//
// Who may connect is not decided here: change that first, or the client comes back.
// Retained messages stay; see [Options.RecheckRetained]. It is no error if there is
// nobody.
func (b *Broker) Revoke(ctx context.Context, who Who) error {
	if !b.enter() {
		return ErrBrokerClosed
	}
	defer b.wg.Done()
	b.revoked.note(who) // before the first look: who claims a session later finds it
	var after *commit
	for s := range b.sessionsOf(who) {
		if done := b.revoke(s); done != nil {
			after = done
		}
	}
	if err := b.journal.wait(ctx, after); err != nil {
		return fmt.Errorf("petrel: revoke: it is done, but not in the store: %w", err)
	}
	return nil
}

func (b *Broker) revoke(s *session) *commit {
	sh := b.directory.shard(s.id)
	sh.mu.Lock()
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		sh.mu.Unlock()
		return nil
	}
	c := s.owner
	s.takeWillLocked(nil, nil)
	if s.willKept { // though the client has taken it back
		b.journal.forgetWill(nil, s)
	}
	s.ended = true
	delete(sh.sessions, s.id)
	b.directory.forget(s)
	if c != nil {
		b.directory.owners.add(s.identity, owned{connections: -1})
	}
	s.goOfflineLocked()
	s.mu.Unlock()
	sh.mu.Unlock()
	if c != nil {
		c.stop(packets.NotAuthorized)
	}
	return b.endSession(s, SessionRevoked)
}

// revocations are the last calls of Revoke, for CONNECTs that were authenticated
// before and claim their session after.
type revocations struct {
	count atomic.Uint64

	mu   sync.Mutex
	last [256]Who // the n-th at n modulo its length
}

func (r *revocations) note(w Who) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.count.Load()
	r.last[n%uint64(len(r.last))] = w
	r.count.Store(n + 1)
}

// errRevokedTooOften refuses who could be among more revocations than are known.
var errRevokedTooOften = errors.New("petrel: too many revocations during a CONNECT")

// since is why p may not connect who began when there had been n revocations.
func (r *revocations) since(n uint64, p *principal) error {
	if r.count.Load() == n {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.count.Load()
	if now-n > uint64(len(r.last)) {
		return &packets.Error{Code: packets.ServerBusy, Err: errRevokedTooOften}
	}
	for ; n < now; n++ {
		if r.last[n%uint64(len(r.last))].names(p) {
			return &packets.Error{Code: packets.NotAuthorized, Detail: "revoked"}
		}
	}
	return nil
}
