package petrel

import (
	"context"

	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/topics"
)

// wish is one filter of a SUBSCRIBE, and what comes of it.
type wish struct {
	entry *entry // nil if it is refused
	code  packets.ReasonCode
	isNew bool
	owed  *replay // the retained messages that it gets
}

// subscribe handles a SUBSCRIBE (MQTT 5.0, section 3.8). The hooks are asked
// first; then, in one step, the subscriptions take effect, SUBACK is sent, and
// retained messages begin to follow it.
func (c *Client) subscribe(bt *batch, flags byte, body []byte) error {
	p := &bt.in.subscribe
	if err := p.Decode(flags, body, c.version); err != nil {
		return err
	}
	if err := c.checkProperties(p.UserProperties.Len()); err != nil {
		return err
	}
	if p.SubscriptionID != 0 && c.broker.opts.DisableSubscriptionIdentifiers {
		return packets.SubscriptionIdentifiersNotSupported
	}
	if err := c.storeRefuses(); err != nil {
		return err
	}
	var wishes []wish
	for entered := false; !entered; {
		policy := c.broker.policy.Load()
		var err error
		if wishes, err = c.judgeAll(bt, p); err != nil {
			return err
		}
		if entered, err = c.enter(bt, p.PacketID, wishes, policy); err != nil {
			return err
		}
	}
	c.consultReplays(bt)
	for i := range wishes {
		if e := wishes[i].entry; e != nil && len(c.broker.hooks.subscription) > 0 {
			observe(c.broker, c.broker.hooks.subscription, func(o SubscriptionObserver) { o.Subscribed(c, e.Value.public()) })
		}
	}
	return nil
}

// judgeAll decides on the filters of a SUBSCRIBE. An error ends the connection.
func (c *Client) judgeAll(bt *batch, p *packets.Subscribe) ([]wish, error) {
	wishes := make([]wish, 0, p.Subscriptions.Len())
	var ids []uint32
	if p.SubscriptionID != 0 {
		ids = []uint32{p.SubscriptionID}
	}
	for sub := range p.Subscriptions.All() {
		if len(wishes) >= c.broker.opts.MaximumFilters {
			wishes = append(wishes, wish{code: packets.QuotaExceeded})
			continue
		}
		w, err := c.judge(bt, &sub, ids)
		if err != nil {
			return nil, err
		}
		if w.entry != nil {
			w.owed = c.prepareReplay(w.entry)
		}
		wishes = append(wishes, w)
	}
	return wishes, nil
}

// storeRefuses is why subscriptions cannot be changed now: they would not be safe
// when that is acknowledged.
func (c *Client) storeRefuses() error {
	if !c.session.durable {
		return nil
	}
	return c.broker.journal.refusal()
}

// judge decides on one filter. An error ends the connection.
func (c *Client) judge(bt *batch, sub *packets.Subscription, ids []uint32) (wish, error) {
	o := &c.broker.opts
	if err := topics.CheckFilter(sub.Filter, o.MaximumTopicLevels); err != nil {
		return wish{code: packets.TopicFilterInvalid}, nil
	}
	_, inner, shared := topics.SplitShared(sub.Filter)
	switch {
	case shared && o.DisableSharedSubscriptions:
		return wish{}, packets.SharedSubscriptionsNotSupported
	case shared && sub.NoLocal:
		return wish{}, &packets.Error{Code: packets.ProtocolError, Detail: "No Local on a shared subscription"}
	case o.DisableWildcardSubscriptions && topics.HasWildcard(inner):
		return wish{}, packets.WildcardSubscriptionsNotSupported
	}
	e := &entry{Value: subscription{
		session: c.session, filter: string(sub.Filter), ids: ids, qos: min(sub.QoS, o.maximumQoS()), handling: sub.RetainHandling,
		shared: shared, noLocal: sub.NoLocal || c.bridge && !shared, asIs: sub.RetainAsPublished || c.bridge,
	}}
	if err := c.consultSubscribe(bt, &e.Value); err != nil {
		return wish{code: subackCode(err)}, nil
	}
	return wish{entry: e, code: packets.ReasonCode(e.Value.qos)}, nil
}

// consultSubscribe asks the hooks: may the client subscribe so, and what becomes of it?
func (c *Client) consultSubscribe(bt *batch, sub *subscription) error {
	b := c.broker
	if len(b.hooks.authorize) == 0 && len(b.hooks.subscribe) == 0 {
		return nil
	}
	if b.hooks.slow.Load() {
		bt.flush()
	}
	if err := b.maySubscribe(c.context(), c, sub); err != nil || len(b.hooks.subscribe) == 0 {
		return err
	}
	r := SubscribeRequest{Client: c, Subscription: sub.public()}
	if err := b.interceptSubscribe(c.context(), &r); err != nil {
		return err
	}
	before := sub.filter
	if err := sub.setFrom(&r.Subscription, &b.opts); err != nil {
		b.log.Error("petrel: a SubscribeInterceptor made an invalid subscription", "client", c.id, "filter", before, "error", err)
		return packets.ImplementationSpecificError
	}
	if sub.filter == before {
		return nil
	}
	return b.maySubscribe(c.context(), c, sub)
}

// maySubscribe asks the Authorizers about a subscription, and sees to its check.
func (b *Broker) maySubscribe(ctx context.Context, c *Client, sub *subscription) error {
	if len(b.hooks.authorize) == 0 {
		return nil
	}
	group, inner, _ := topics.SplitShared(sub.filter)
	r := AccessRequest{Client: c, Action: Subscribe, Topic: inner, Share: group, QoS: sub.qos}
	err := b.authorize(ctx, &r)
	sub.check = r.CheckDeliveries
	return err
}

// subackCode is the code in SUBACK for a refusal of a hook.
func subackCode(err error) packets.ReasonCode {
	switch code := packets.ReasonOf(err); {
	case code == packets.UnspecifiedError:
		return packets.NotAuthorized
	case code.AllowedIn(packets.TypeSuback):
		return code
	}
	return packets.ImplementationSpecificError
}

// enter makes the subscriptions take effect and answers. It reports false if the
// Authorizers have another policy by now than they had before they were asked.
func (c *Client) enter(bt *batch, id uint16, wishes []wish, policy uint64) (bool, error) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != c {
		return false, errDisplaced
	}
	if c.broker.policy.Load() != policy {
		return false, nil
	}
	ack := packets.Suback{PacketID: id, Reasons: bt.reasons[:0]}
	for i := range wishes {
		w := &wishes[i]
		if w.entry != nil {
			s.subscribeLocked(bt, w)
		}
		ack.Reasons = append(ack.Reasons, w.code)
	}
	bt.reasons = ack.Reasons[:0]
	bt.reply(c, &ack)
	s.pumpLocked(bt)
	return true, nil
}

// subscribeLocked adds a subscription or replaces the one with its filter.
func (s *session) subscribeLocked(bt *batch, w *wish) {
	sub := &w.entry.Value
	old := s.subs.get(sub.filter)
	if old == nil && len(s.subs.all()) >= s.broker.opts.MaximumSubscriptions {
		bt.limited(LimitSubscriptions, s.client, s.id, sub.filter)
		w.entry, w.owed, w.code = nil, nil, packets.QuotaExceeded
		return
	}
	s.subs.put(w.entry)
	s.checks = s.checks || sub.check
	if old == nil {
		w.isNew = true
		s.broker.tree.Add(sub.filter, w.entry)
	} else {
		s.broker.tree.Replace(old, w.entry)
	}
	if w.owed != nil && (sub.handling == 0 || w.isNew) {
		w.owed.upTo = s.broker.retained.latest.Load() // not before the subscription is in effect
		s.dropReplayLocked(old)
		s.owe(w.owed)
	} else if w.owed = nil; old != nil {
		s.moveReplayLocked(old, w.entry)
	}
	if s.durable {
		s.broker.journal.keepSubscription(bt, s, sub)
	}
}

// unsubscribe handles an UNSUBSCRIBE (MQTT 5.0, section 3.10).
func (c *Client) unsubscribe(bt *batch, flags byte, body []byte) error {
	p := &bt.in.unsubscribe
	if err := p.Decode(flags, body, c.version); err != nil {
		return err
	}
	if err := c.checkProperties(p.UserProperties.Len()); err != nil {
		return err
	}
	if err := c.storeRefuses(); err != nil {
		return err
	}
	removed, err := c.remove(bt, p.PacketID, c.filtersToRemove(bt, p))
	for _, e := range removed {
		observe(c.broker, c.broker.hooks.subscription, func(o SubscriptionObserver) { o.Unsubscribed(c, e.Value.filter) })
	}
	return err
}

// unwanted is one filter of an UNSUBSCRIBE, or why it is none.
type unwanted struct {
	filter string
	code   packets.ReasonCode
}

// filtersToRemove checks the filters of an UNSUBSCRIBE.
func (c *Client) filtersToRemove(bt *batch, p *packets.Unsubscribe) []unwanted {
	b := c.broker
	list := make([]unwanted, 0, p.Filters.Len())
	for filter := range p.Filters.All() {
		u := unwanted{filter: string(filter)}
		switch {
		case len(list) >= b.opts.MaximumFilters:
			u.code = packets.ImplementationSpecificError // UNSUBACK has no 0x97
		case topics.CheckFilter(filter, b.opts.MaximumTopicLevels) != nil:
			u.code = packets.TopicFilterInvalid
		case len(b.hooks.subscribe) > 0:
			if b.hooks.slow.Load() {
				bt.flush()
			}
			r := SubscribeRequest{Client: c, Subscription: Subscription{Filter: u.filter}, Unsubscribe: true}
			if err := b.interceptSubscribe(c.context(), &r); err != nil {
				u.code = unsubackCode(err)
			}
			u.filter = r.Subscription.Filter
		}
		list = append(list, u)
	}
	return list
}

// unsubackCode is the code in UNSUBACK for a refusal of a hook.
func unsubackCode(err error) packets.ReasonCode {
	if code := packets.ReasonOf(err); code.AllowedIn(packets.TypeUnsuback) {
		return code
	}
	return packets.ImplementationSpecificError
}

// remove takes the subscriptions away and answers.
func (c *Client) remove(bt *batch, id uint16, filters []unwanted) (removed []*entry, err error) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != c {
		return nil, errDisplaced
	}
	ack := packets.Unsuback{PacketID: id, Reasons: bt.reasons[:0]}
	for _, u := range filters {
		if u.code == packets.Success {
			if e := s.subs.get(u.filter); e != nil {
				s.removeLocked(bt, e)
				removed = append(removed, e)
			} else {
				u.code = packets.NoSubscriptionExisted
			}
		}
		ack.Reasons = append(ack.Reasons, u.code)
	}
	bt.reasons = ack.Reasons[:0]
	bt.reply(c, &ack)
	return removed, nil
}
