package petrel

import (
	"bytes"
	"context"
	"errors"
	"unicode/utf8"

	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/topics"
)

// publish handles a PUBLISH (MQTT 5.0, section 3.3), step by step.
func (c *Client) publish(bt *batch, flags byte, body []byte) error {
	in := &bt.in.publish
	if err := in.Decode(flags, body, c.version); err != nil {
		return err
	}
	bt.count.publishIn++
	bt.count.publishBytesIn += uint64(len(in.Payload))
	topic, err := c.resolveAlias(in)
	if err != nil {
		return err
	}
	if err := c.checkPublish(in, topic); err != nil {
		return err
	}
	repeated, err := c.checkFlow(in)
	if err != nil {
		return err
	}
	if repeated {
		c.acknowledge(bt, in, packets.Success, nil)
		return nil
	}
	p := &bt.pub
	bt.heads.forget()
	*p = publication{
		topic: topic, payload: in.Payload, props: in.Properties, by: c.principal,
		qos: in.QoS, retain: in.Retain, lent: bt.read,
	}
	if in.HasMessageExpiry {
		p.expires = expiresAt(bt.now, in.MessageExpiryInterval)
	}
	code, err := c.pass(bt, p, false)
	if errors.Is(err, errNotKept) {
		return err // unanswered, the client will send it again, and all that follows behind it
	}
	if err != nil && (c.ending.Load() || errors.Is(err, errDisplaced)) {
		return errDisplaced // refused because the connection ends: unanswered, it will be sent again
	}
	c.acknowledge(bt, in, code, err)
	if err == nil {
		c.observePublished(bt, p)
	}
	return nil
}

// resolveAlias returns the topic of a PUBLISH, and remembers the topic of a new
// alias (MQTT 5.0, section 3.3.2.3.4).
func (c *Client) resolveAlias(in *packets.Publish) ([]byte, error) {
	if !in.HasTopicAlias {
		return in.Topic, nil
	}
	most := c.broker.opts.TopicAliasMaximum
	if in.TopicAlias == 0 || int(in.TopicAlias) > most {
		return nil, packets.TopicAliasInvalid
	}
	if c.aliasesIn == nil {
		c.aliasesIn = new(aliasesIn)
	}
	a, i := c.aliasesIn, int(in.TopicAlias)-1
	if len(in.Topic) == 0 {
		if i >= len(a.topics) || len(a.topics[i]) == 0 {
			return nil, &packets.Error{Code: packets.ProtocolError, Detail: "a topic alias that was not set"}
		}
		return a.topics[i], nil
	}
	for i >= len(a.topics) {
		a.topics = append(a.topics, nil)
	}
	a.topics[i] = append(a.topics[i][:0], in.Topic...)
	return in.Topic, nil
}

// aliasesIn are the topic aliases that a client has set, from 1 on.
type aliasesIn struct{ topics [][]byte }

// checkPublish refuses, with the end of the connection, what no client may send
// to this broker.
func (c *Client) checkPublish(in *packets.Publish, topic []byte) error {
	o := &c.broker.opts
	switch {
	case len(in.SubscriptionIDs) > 0:
		return &packets.Error{Code: packets.ProtocolError, Detail: "Subscription Identifier from a client"}
	case in.QoS > o.maximumQoS():
		return packets.QoSNotSupported
	case in.Retain && o.DisableRetain:
		return packets.RetainNotSupported
	}
	if err := topics.CheckName(topic, o.MaximumTopicLevels); err != nil {
		return &packets.Error{Code: packets.TopicNameInvalid, Detail: err.Error()}
	}
	if len(in.Properties) == 0 {
		return nil
	}
	return c.checkProperties(in.Properties.UserPropertyCount())
}

// checkFlow accounts for the Receive Maximum, and reports whether a QoS 2
// message was received before (MQTT 5.0, sections 4.3.3 and 4.9).
func (c *Client) checkFlow(in *packets.Publish) (repeated bool, err error) {
	if in.QoS == AtMostOnce || in.QoS == AtLeastOnce && c.opened == 0 {
		return false, nil // a QoS 1 message is acknowledged before the next packet
	}
	if in.QoS == ExactlyOnce {
		s := c.session
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.owner != c {
			return false, errDisplaced
		}
		counted, known := s.received[in.PacketID]
		if known && counted {
			return true, nil
		}
		if known {
			s.received[in.PacketID] = true
			c.opened++
			return true, nil
		}
	}
	if int(c.opened) >= c.broker.opts.ReceiveMaximum && c.version == packets.V5 {
		c.broker.stats.receiveMaximum.Add(1)
		if !c.broker.opts.TolerateReceiveMaximum {
			return false, packets.ReceiveMaximumExceeded
		}
	}
	return false, nil
}

// pass takes a message of the client through everything between its packet and
// its acknowledgement. On success the code is that of PUBACK and PUBREC;
// otherwise the error says why nobody gets it.
func (c *Client) pass(bt *batch, p *publication, isWill bool) (packets.ReasonCode, error) {
	b := c.broker
	if isReserved(p.topic) {
		b.dropped(bt, "", string(p.topic), p.qos, DropReserved)
		return packets.Success, nil
	}
	if format, _ := p.props.PayloadFormat(); format == 1 && b.opts.ValidatePayloadFormat && !utf8.Valid(p.payload) {
		b.dropped(bt, "", string(p.topic), p.qos, DropInvalidPayload)
		return 0, packets.PayloadFormatInvalid
	}
	if !isWill && (p.qos > AtMostOnce || p.retain) {
		if err := b.journal.refusal(); err != nil {
			return 0, err
		}
	}
	if len(b.hooks.authorize) > 0 || len(b.hooks.intercept) > 0 {
		if b.hooks.slow.Load() {
			bt.flush()
		}
		ctx := b.ctx // a will is published when the context of its client has ended
		if !isWill {
			ctx = c.context()
		}
		if err := c.consult(ctx, bt, p, isWill); err != nil {
			return 0, err
		}
		if b.hooks.slow.Load() {
			bt.now = b.alarms.now() // the message has waited, which its expiry counts
		}
	}
	if in := &bt.in.publish; !isWill && in.QoS == ExactlyOnce && !c.remember(bt, in.PacketID) {
		return 0, errDisplaced // before anybody gets it: a successor must know what it is sent again
	}
	if p.retain {
		if l := b.retained.keep(bt, p); l != 0 {
			return 0, b.notRetained(bt, l, c, p)
		}
	}
	if b.route(bt, p) == 0 {
		return packets.NoMatchingSubscribers, nil
	}
	return packets.Success, nil
}

// consult asks the hooks: may the client publish this, and what becomes of it?
func (c *Client) consult(ctx context.Context, bt *batch, p *publication, isWill bool) error {
	b := c.broker
	if err := c.mayPublish(ctx, p); err != nil {
		b.dropped(bt, "", string(p.topic), p.qos, DropNotAuthorized)
		return err
	}
	if len(b.hooks.intercept) == 0 {
		return nil
	}
	m := p.public(bt.now)
	m.PublisherVersion = c.version
	topic := m.Topic
	err := b.intercept(ctx, &PublishRequest{Client: c, Message: m, Will: isWill})
	if err == nil {
		if err = m.check(&b.opts); err != nil {
			b.log.Error("petrel: a PublishInterceptor made an invalid message", "client", c.id, "topic", topic, "error", err)
			err = packets.ImplementationSpecificError
		}
	}
	if err != nil {
		b.dropped(bt, "", topic, p.qos, DropIntercepted)
		return err
	}
	p.setFrom(m, bt.now)
	p.by = c.principal
	if m.Topic == topic {
		return nil
	}
	if err := c.mayPublish(ctx, p); err != nil {
		b.dropped(bt, "", m.Topic, p.qos, DropNotAuthorized)
		return err
	}
	return nil
}

func (c *Client) mayPublish(ctx context.Context, p *publication) error {
	if len(c.broker.hooks.authorize) == 0 {
		return nil
	}
	r := AccessRequest{Client: c, Action: Publish, Topic: string(p.topic), QoS: p.qos, Retain: p.retain}
	err := c.broker.authorize(ctx, &r)
	if err != nil && packets.ReasonOf(err) == packets.UnspecifiedError {
		return packets.NotAuthorized
	}
	return err
}

// isReserved reports whether only the broker publishes to the topic.
func isReserved(topic []byte) bool {
	rest, ok := bytes.CutPrefix(topic, []byte("$SYS"))
	return ok && (len(rest) == 0 || rest[0] == '/')
}

// acknowledge answers a PUBLISH with PUBACK or PUBREC. It is the one place from
// which these leave, in the order in which the packets came.
func (c *Client) acknowledge(bt *batch, in *packets.Publish, code packets.ReasonCode, err error) {
	if err != nil {
		code = packets.ReasonOf(err)
		if !code.AllowedIn(packets.TypePuback) {
			code = packets.ImplementationSpecificError
		}
	}
	switch in.QoS {
	case AtLeastOnce:
		p := &bt.in.ack
		p.PacketID, p.Reason = in.PacketID, code
		p.ReasonString, p.UserProperties = c.explain(err)
		bt.replyShort(c, p, func() { p.ReasonString, p.UserProperties = nil, nil })
	case ExactlyOnce:
		if !code.IsError() || c.version != packets.V5 { // older versions have no codes: this will be a success
			c.remember(bt, in.PacketID)
			bt.keepReceipt()
		} else {
			c.forget(bt, in.PacketID)
		}
		p := &bt.in.rec
		p.PacketID, p.Reason = in.PacketID, code
		p.ReasonString, p.UserProperties = c.explain(err)
		bt.replyShort(c, p, func() { p.ReasonString, p.UserProperties = nil, nil })
	}
}

// explain is what an acknowledgement may tell the client about err beside its
// reason code (MQTT 5.0, section 3.1.2.11.7).
func (c *Client) explain(err error) (reason []byte, properties packets.UserProperties) {
	if err == nil || c.noProblems || c.version != packets.V5 {
		return nil, nil
	}
	text, _, list := toPeer(err)
	return []byte(text), appendUserProperties(nil, list)
}

// errDisplaced ends a connection that has lost its session.
var errDisplaced = &packets.Error{Code: packets.SessionTakenOver}

// remember keeps the identifier of a QoS 2 message until PUBREL. It reports
// false if the session has another connection by now.
func (c *Client) remember(bt *batch, id uint16) bool {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != c {
		return false
	}
	if s.received == nil {
		s.beginBacklogLocked()
		s.received = make(map[uint16]bool)
	}
	if _, known := s.received[id]; !known && s.durable {
		bt.journal.receiver, bt.journal.id = s, id
	}
	if !s.received[id] {
		s.received[id] = true
		c.opened++
	}
	return true
}

// forget gives up the identifier of a QoS 2 message that was refused.
func (c *Client) forget(bt *batch, id uint16) {
	bt.journal.receiver = nil
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner == c && s.received[id] {
		delete(s.received, id)
		c.opened--
	}
}

func (c *Client) observePublished(bt *batch, p *publication) {
	if len(c.broker.hooks.published) == 0 || isReserved(p.topic) {
		return
	}
	m := p.public(bt.now)
	m.PublisherVersion = c.version
	observe(c.broker, c.broker.hooks.published, func(o PublishObserver) { o.MessagePublished(c, m) })
}
