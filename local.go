package petrel

import (
	"context"
	"fmt"
	"math"

	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/topics"
)

// SubscribeOptions are the options of a subscription of the host. The zero value
// gets every message with QoS 0, the retained ones first.
type SubscribeOptions struct {
	QoS               QoS  // the highest QoS that messages are handed over with
	NoLocal           bool // without the messages of Broker.Publish; not for a shared subscription
	RetainAsPublished bool // Message.Retain of live messages says what the publisher said, instead of false
	RetainHandling    byte // 2 leaves out the retained messages that there are
}

// LocalSubscription is a subscription of the host program, made by
// [Broker.Subscribe].
type LocalSubscription struct {
	broker  *Broker
	session *session
	entry   *entry
	handler func(context.Context, *Message)
	ctx     context.Context
	cancel  context.CancelFunc
	running bool // guarded by session.mu
}

// Subscribe gives the messages of a filter, "$share/NAME/FILTER" included, to
// handler: one at a time, in the order in which they came, on a goroutine that
// lives as long as there are any. A handler that is slow holds up nobody: what
// it has not taken waits in a queue with the limits of a session's,
// [Options.QueueMessages] and [Options.QueueBytes]. A handler that panics loses
// the message that it was given, and gets the next.
//
// The context of the handler ends with the subscription or with the broker. The
// message is valid as long as it is needed, but must not be changed. No hook is
// asked, as the host is trusted.
func (b *Broker) Subscribe(filter string, o SubscribeOptions, handler func(context.Context, *Message)) (*LocalSubscription, error) {
	if err := b.checkLocal(filter, &o); err != nil {
		return nil, fmt.Errorf("petrel: subscribe to %q: %w", filter, err)
	}
	if !b.enter() {
		return nil, ErrBrokerClosed
	}
	defer b.wg.Done()
	l := &LocalSubscription{broker: b, handler: handler, session: newSession(b, &nobody)}
	l.ctx, l.cancel = context.WithCancel(b.ctx)
	s := l.session
	s.local, s.quota = l, math.MaxInt32
	s.online.Store(true)
	_, _, shared := topics.SplitShared(filter)
	l.entry = &entry{Value: subscription{
		session: s, filter: filter, qos: o.QoS, handling: o.RetainHandling, shared: shared, noLocal: o.NoLocal, asIs: o.RetainAsPublished,
	}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs.put(l.entry)
	b.tree.Add(filter, l.entry)
	if !shared && o.RetainHandling != 2 {
		s.owe(&replay{entry: l.entry, cursor: topics.NewCursor(filter), upTo: b.retained.latest.Load()})
		l.wakeLocked()
	}
	return l, nil
}

func (b *Broker) checkLocal(filter string, o *SubscribeOptions) error {
	if err := topics.CheckFilter(filter, b.opts.MaximumTopicLevels); err != nil {
		return &packets.Error{Code: packets.TopicFilterInvalid, Err: err}
	}
	if !validText(filter) {
		return &packets.Error{Code: packets.TopicFilterInvalid, Detail: "not UTF-8"}
	}
	_, _, shared := topics.SplitShared(filter)
	switch {
	case o.QoS > ExactlyOnce:
		return &packets.Error{Code: packets.QoSNotSupported, Detail: fmt.Sprintf("QoS %d", o.QoS)}
	case o.RetainHandling > 2:
		return &packets.Error{Code: packets.ProtocolError, Detail: fmt.Sprintf("Retain Handling %d", o.RetainHandling)}
	case shared && o.NoLocal:
		return &packets.Error{Code: packets.ProtocolError, Detail: "No Local on a shared subscription"}
	}
	return nil
}

// Filter returns the filter of the subscription.
func (l *LocalSubscription) Filter() string { return l.entry.Value.filter }

// Close ends the subscription. Messages that were not handed over are dropped,
// or go to other members if it is a shared one. A call of the handler that has
// begun is not waited for. Close may be called more than once, also by the handler.
func (l *LocalSubscription) Close() error {
	b, s := l.broker, l.session
	if !b.enter() {
		return nil
	}
	defer b.wg.Done()
	s.mu.Lock()
	ended := s.ended
	s.ended = true
	s.online.Store(false)
	s.mu.Unlock()
	if !ended {
		l.cancel()
		b.endSession(s, SessionEnded)
	}
	return nil
}

// wakeLocked starts the goroutine that calls the handler, unless it runs.
func (l *LocalSubscription) wakeLocked() {
	if !l.running {
		l.running = true
		l.broker.spawn(l.run)
	}
}

// run hands over messages until there are none.
func (l *LocalSubscription) run() {
	for {
		bt := l.broker.batch()
		d, ok := l.next(bt)
		now := bt.now
		bt.finish()
		if !ok {
			return
		}
		l.handle(&d, now)
	}
}

// next takes the message that is to be handed over next.
func (l *LocalSubscription) next(bt *batch) (delivery, bool) {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.ended {
		if first := s.queue.first(); first != nil {
			d := *first
			s.queue.pop()
			l.broker.memory.remove(&d)
			if d.msg.expired(bt.now) {
				bt.dropMessage("", d.msg, d.qos, DropExpired)
				continue
			}
			return d, true
		}
		d, _, again := s.owedLocked(bt)
		if d.msg != nil {
			return d, true
		}
		if !again {
			break
		}
	}
	l.running = false
	return delivery{}, false
}

func (l *LocalSubscription) handle(d *delivery, now instant) {
	defer func() {
		if r := recover(); r != nil {
			l.broker.log.panicked("the handler of a subscription", r, "filter", l.Filter())
		}
	}()
	var p publication
	p.from(d.msg, nil)
	m := p.public(now)
	m.QoS, m.Retain = d.qos, d.retain
	l.handler(l.ctx, m)
}
