package petrel

import (
	"github.com/petrelmq/petrel/packets"
)

// headCache keeps the encoded heads of one publication, so that a fan-out
// encodes once per version, QoS and RETAIN, and patches the packet identifier.
type headCache struct {
	of    *publication
	b     []byte
	heads [12]struct{ from, to, idAt int }
}

func (h *headCache) forget() {
	h.of, h.b = nil, h.b[:0]
	clear(h.heads[:])
}

func headKey(v5 bool, qos QoS, retain bool) int {
	k := int(qos)
	if retain {
		k += 3
	}
	if v5 {
		k += 6
	}
	return k
}

// head encodes everything of a PUBLISH of p to c that comes before the payload.
// idAt is where the packet identifier belongs, or 0. plain forbids a topic alias.
// The result is valid until the next call.
func (bt *batch) head(c *Client, p *publication, t *target, plain bool) (head []byte, idAt int) {
	v5 := c.version == packets.V5
	own := v5 && (len(t.ids) > 0 || c.aliasesOut != nil && !plain) || t.dup
	if plain && c.aliasesOut != nil {
		c.aliasesOut.offered = 0
	}
	if own || p != &bt.pub {
		bt.fill(c, p, t)
		bt.out.SubscriptionIDs = append(bt.out.SubscriptionIDs, t.ids...)
		if v5 && c.aliasesOut != nil && !plain {
			c.aliasesOut.use(&bt.out)
		}
		b, idAt, err := bt.out.AppendHead(bt.scratch[:0], c.version, len(p.payload))
		bt.mustEncode(err)
		bt.scratch = b[:0]
		return b, idAt
	}
	cached := &bt.heads.heads[headKey(v5, t.qos, t.retain)]
	if bt.heads.of != p {
		bt.heads.forget()
		bt.heads.of = p
	}
	if cached.to == 0 {
		bt.fill(c, p, t)
		from := len(bt.heads.b)
		b, at, err := bt.out.AppendHead(bt.heads.b, c.version, len(p.payload))
		bt.mustEncode(err)
		bt.heads.b = b
		if at != 0 {
			at -= from
		}
		cached.from, cached.to, cached.idAt = from, len(b), at
	}
	return bt.heads.b[cached.from:cached.to], cached.idAt
}

// fill makes bt.out the PUBLISH of p for the target, without alias and identifiers.
func (bt *batch) fill(c *Client, p *publication, t *target) {
	o := &bt.out
	*o = packets.Publish{
		Dup: t.dup, QoS: t.qos, Retain: t.retain, Topic: p.topic, Properties: p.props,
		SubscriptionIDs: o.SubscriptionIDs[:0],
	}
	if t.qos > AtMostOnce {
		o.PacketID = 1 // a place holder: the identifier is put in when the packet is pushed
	}
	if p.expires != 0 {
		o.HasMessageExpiry = true
		o.MessageExpiryInterval = secondsLeft(p.expires, bt.now)
	}
}

// mustEncode reports what cannot happen: everything in a publication was validated.
func (bt *batch) mustEncode(err error) {
	if err != nil {
		panic("petrel: encoding a PUBLISH that was validated: " + err.Error())
	}
}

// aliases are the topic aliases that the broker uses towards one client
// (MQTT 5.0, section 3.3.2.3.4): the first topics get one for the life of the
// connection. Guarded by session.mu.
type aliases struct {
	maximum uint16
	known   map[string]uint16
	offered uint16 // the alias that the last packet set, until it is learned
}

// use puts the alias of its topic into p: instead of the topic, or, if it is
// new and there is one left, beside it.
func (a *aliases) use(p *packets.Publish) {
	a.offered = 0
	if alias, ok := a.known[string(p.Topic)]; ok {
		p.HasTopicAlias, p.TopicAlias, p.Topic = true, alias, nil
		return
	}
	if len(a.known) < int(a.maximum) {
		a.offered = uint16(len(a.known)) + 1
		p.HasTopicAlias, p.TopicAlias = true, a.offered
	}
}

// learnAlias remembers the alias that the packet just pushed has set. A packet
// that was dropped sets none.
func (bt *batch) learnAlias(c *Client, p *publication) {
	a := c.aliasesOut
	if a == nil || a.offered == 0 {
		return
	}
	if a.known == nil {
		a.known = make(map[string]uint16)
	}
	a.known[string(p.topic)] = a.offered
	a.offered = 0
}
