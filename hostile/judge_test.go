package hostile

import (
	"cmp"
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"github.com/petrelmq/petrel/packets"
)

// settle lets the broker come to rest, takes what every client was sent, and
// compares it with what the model says it is due.
func (w *world) settle() {
	for moved := true; moved; {
		synctest.Wait()
		moved = false
		for _, p := range w.peers {
			list, _ := p.receive()
			for _, packet := range list {
				w.judge(p, packet)
			}
			w.answer(p)
			moved = moved || len(list) > 0
		}
	}
	for _, p := range w.peers {
		w.judgeRest(p)
	}
	w.peers = slices.DeleteFunc(w.peers, func(p *peer) bool { return p.gone })
	w.judgeCrowd()
	w.judgeShared()
	w.judgeDropped()
	w.judgeHost()
}

// answer lets a prompt client acknowledge what it was sent at one time, and not before
// all of that is judged: what came was sent without these answers.
func (w *world) answer(p *peer) {
	for _, d := range p.unanswered {
		w.advance(p, d)
	}
	p.unanswered = nil
}

// judge compares one packet.
func (w *world) judge(p *peer, packet packets.Packet) {
	if a, ok := answerOf(packet); ok {
		if len(p.wants) == 0 || !sameAnswer(p.wants[0], a, p.version) {
			w.fail("%s was answered %v; want %v", p, a, p.wants)
		}
		p.wants = p.wants[1:]
		return
	}
	switch packet := packet.(type) {
	case *packets.Publish:
		w.judgePublish(p, packet)
	case *packets.Pubrel:
		w.judgePubrel(p, packet)
	case *packets.Disconnect:
		if !p.gone {
			w.fail("%s was disconnected: %v %s", p, packet.Reason, packet.ReasonString)
		}
		if p.taken != (packet.Reason == packets.SessionTakenOver) {
			w.fail("%s was disconnected with %v; taken over: %v", p, packet.Reason, p.taken)
		}
		p.reason = packet.Reason
	default:
		w.fail("%s was sent %v", p, packet.Type())
	}
}

func sameAnswer(want, got answer, v packets.Version) bool {
	if want.kind != got.kind || want.id != got.id {
		return false
	}
	if v != packets.V5 && want.kind != packets.TypeConnack && want.kind != packets.TypeSuback {
		return true // they have no codes
	}
	return slices.Equal(want.codes, got.codes)
}

// judgePublish finds what a PUBLISH is due for.
func (w *world) judgePublish(p *peer, m *packets.Publish) {
	a := p.owner
	if a == nil || a.peer != p {
		w.fail("%s has no session any more, and was sent %q on %q", p, m.Payload, m.Topic)
	}
	topic := w.topicOf(p, m)
	d := w.find(a, topic, m, p.version)
	if d == nil {
		w.fail("%s must not be sent %s\ndue:%s", p, describe(topic, m), a.list())
	}
	if d.group != nil && d.group.isHeld(d) {
		w.fail("%s was sent %s, which another member of %s has", p, d, d.group.filter)
	}
	w.judgeOrder(p, d)
	w.judgeExpiry(p, d, m)
	if m.QoS > 0 {
		for _, e := range a.dues {
			if e != d && e.id == m.PacketID && (e.stage == sent || e.stage == released || e.again && e.stage == waiting && !e.optional) {
				w.fail("%s was sent packet identifier %d for %q while it is in use for %q", p, m.PacketID, d.payload, e.payload)
			}
		}
	}
	d.unsure = d.unsure || p.version != packets.V5
	if d.stage, d.id = sent, m.PacketID; m.QoS == 0 {
		d.stage = done
		return
	}
	d.counted, d.unsaid = true, false
	if a.room() < 0 {
		w.fail("%s was sent %s, which is more than the %d messages that it takes at a time", p, d, p.window)
	}
	if p.prompt {
		p.unanswered = append(p.unanswered, d)
	}
}

func (w *world) topicOf(p *peer, m *packets.Publish) string {
	topic := string(m.Topic)
	if !m.HasTopicAlias {
		return topic
	}
	if topic == "" {
		known, ok := p.learned[m.TopicAlias]
		if !ok {
			w.fail("%s was sent the topic alias %d, which it was not told", p, m.TopicAlias)
		}
		return known
	}
	p.learned[m.TopicAlias] = topic
	return topic
}

// find returns what the packet is due for.
func (w *world) find(a *account, topic string, m *packets.Publish, v packets.Version) *due {
	if w.o.exact() {
		if d := a.next(); d != nil && d.comesAs(m) && d.is(topic, m, v) {
			return d
		}
		return nil
	}
	d := a.find(false, topic, m, v)
	if d == nil {
		d = w.findShared(a, topic, m, v)
	}
	if d == nil {
		d = a.find(true, topic, m, v)
	}
	if d == nil {
		d = w.findLoose(a, topic, m)
	}
	return d
}

// find returns the first of what is due that the packet can be, of what the broker
// must not forget or of what it may.
func (a *account) find(optional bool, topic string, m *packets.Publish, v packets.Version) *due {
	for _, d := range a.dues {
		if d.stage == waiting && d.optional == optional && d.comesAs(m) && d.is(topic, m, v) {
			return d
		}
	}
	return a.findUnsure(optional, topic, m, v)
}

// findUnsure is find where a copy that a 3.1.1 client was sent turns out to have
// been that for another of its subscriptions: the two change places.
func (a *account) findUnsure(optional bool, topic string, m *packets.Publish, v packets.Version) *due {
	for _, d := range a.dues {
		if d.stage != waiting || d.optional != optional || !d.comesAs(m) {
			continue
		}
		for _, e := range a.dues {
			if e == d || e.note != d.note || !d.unsure && !e.unsure || e.qos != d.qos || e.retain != d.retain {
				continue
			}
			if e.is(topic, m, v) {
				d.ids, e.ids = e.ids, d.ids
				return d
			}
		}
	}
	return nil
}

// comesAs reports whether the packet is one of a message that was sent before, if
// it was.
func (d *due) comesAs(m *packets.Publish) bool {
	if d.unsaid && !m.Dup {
		return true
	}
	return d.again == m.Dup && (!d.again || d.id == m.PacketID)
}

func (d *due) is(topic string, m *packets.Publish, v packets.Version) bool {
	if d.topic != topic || d.payload != string(m.Payload) || d.qos != m.QoS {
		return false
	}
	if d.again && (d.group != nil || d.replay != "") {
		return true // a 3.1.1 client could not tell by which subscription it came
	}
	return d.retain == m.Retain && sameIDs(d.ids, m, v)
}

func sameIDs(want []uint32, m *packets.Publish, v packets.Version) bool {
	return v != packets.V5 || slices.Equal(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(m.SubscriptionIDs)))
}

// findShared makes the account a holder of a copy for a shared subscription.
func (w *world) findShared(a *account, topic string, m *packets.Publish, v packets.Version) *due {
	if m.Dup {
		return nil
	}
	copies := slices.Clone(w.copies)
	slices.SortStableFunc(copies, func(x, y *sharedCopy) int { return cmp.Compare(len(x.holders), len(y.holders)) })
	for _, c := range copies {
		if c.topic != topic || c.payload != string(m.Payload) || c.isHeld(nil) {
			continue
		}
		for _, s := range a.joined[c.filter] {
			d := &due{note: c.note, qos: min(s.QoS, c.qos), retain: c.retain && s.RetainAsPublished, ids: idsOf(s), group: c}
			may := w.allows(s, a.id, c.note) || c.excused && w.mayHave(a, topic, nil) // as it was looked at when it waited
			if may && s.brings(c) && d.is(topic, m, v) {
				c.holders, c.owners = append(c.holders, d), append(c.owners, a)
				a.dues = append(a.dues, d)
				return d
			}
		}
	}
	return nil
}

// isHeld reports whether a member has the copy for good, or may still finish it,
// other than by the holder that is asked about.
func (c *sharedCopy) isHeld(but *due) bool {
	if c.groups > 1 {
		return false // nobody can tell by which of them a copy came
	}
	for i, d := range c.holders {
		switch {
		case d == but:
		case d.stage == done, d.qos == packets.ExactlyOnce, d.stage == sent && c.owners[i].owned:
			return true
		}
	}
	return false
}

// findLoose finds the retained message that came while a SUBSCRIBE was still
// owed some, or is owed in another form since the subscription was replaced.
func (w *world) findLoose(a *account, topic string, m *packets.Publish) *due {
	n := w.retained[topic]
	if !a.loose || !m.Retain || m.Dup || n == nil || n.payload != string(m.Payload) {
		return nil
	}
	for _, s := range a.subs {
		if !s.shared && w.allows(s, a.id, n) && m.QoS <= min(s.QoS, n.qos) {
			d := &due{note: n, qos: m.QoS, retain: true, replay: s.filter}
			a.dues = append(a.dues, d)
			return d
		}
	}
	return nil
}

// judgeOrder holds the broker to its order: of what an account gets by its own
// subscriptions nothing overtakes anything.
func (w *world) judgeOrder(p *peer, d *due) {
	if d.group != nil || d.replay != "" || d.will {
		return
	}
	for _, e := range p.owner.dues {
		if e == d {
			return
		}
		if e.note == d.note {
			continue // one for each subscription, in any order
		}
		if e.stage == waiting && e.group == nil && e.replay == "" && !e.will && !e.optional && !e.lapsed(w.now()) && p.takes(e) {
			w.fail("%s was sent %s, which has overtaken %s", p, d, e)
		}
	}
}

// lapsed reports whether the message has expired before it was sent.
func (d *due) lapsed(now time.Time) bool { return !d.again && d.expired(now) }

func (w *world) judgeExpiry(p *peer, d *due, m *packets.Publish) {
	if d.lapsed(w.now()) {
		w.fail("%s was sent %s, which has expired", p, d)
	}
	if p.version != packets.V5 || m.HasMessageExpiry == d.expires.IsZero() {
		if p.version == packets.V5 {
			w.fail("%s was sent %s; with an expiry: %v", p, d, m.HasMessageExpiry)
		}
		return
	}
	if left := (max(d.expires.Sub(w.now()), 0) + time.Second - 1) / time.Second; m.HasMessageExpiry && uint32(left) != m.MessageExpiryInterval {
		w.fail("%s was sent %s with %d s to live; want %d", p, d, m.MessageExpiryInterval, left)
	}
}

func (w *world) judgePubrel(p *peer, m *packets.Pubrel) {
	a := p.owner
	if a == nil || a.peer != p {
		w.fail("%s has no session any more, and was sent PUBREL %d", p, m.PacketID)
	}
	for _, d := range a.dues {
		if d.again && d.stage == waiting && d.qos == packets.ExactlyOnce && d.id == m.PacketID && !p.takes(d) {
			d.stage = released // too large to be sent again
		}
		if d.stage == released && d.id == m.PacketID {
			if d.rel = true; p.prompt {
				p.unanswered = append(p.unanswered, d)
			}
			return
		}
	}
	want := answer{kind: packets.TypePubrel, id: m.PacketID, codes: []packets.ReasonCode{m.Reason}}
	if len(p.wants) == 0 || !sameAnswer(p.wants[0], want, p.version) {
		w.fail("%s was sent PUBREL %d %v; due:%s", p, m.PacketID, m.Reason, a.list())
	}
	p.wants = p.wants[1:]
}

// judgeRest finds what has not come although the broker is at rest.
func (w *world) judgeRest(p *peer) {
	_, err := p.receive()
	if n := p.largestPacket(); p.most > 0 && n > p.most {
		w.fail("%s was sent a packet of %d bytes, and takes %d", p, n, p.most)
	}
	if p.gone != (err != nil) {
		w.fail("the connection of %s has ended: %v (%v); want %v", p, err != nil, err, p.gone)
	}
	if p.silent != (p.reason == packets.KeepAliveTimeout) && p.version == packets.V5 {
		w.fail("%s was disconnected with %v; silent for too long: %v", p, p.reason, p.silent)
	}
	if p.gone {
		return
	}
	if len(p.wants) > 0 {
		w.fail("%s was not sent %v", p, p.wants)
	}
	w.discard(p)
	a := p.owner
	for _, d := range a.dues {
		if d.stage == released && !d.rel {
			w.fail("%s was not sent PUBREL %d", p, d.id)
		}
		if d.stage == leaving || d.stage == waiting && !d.optional && !d.lapsed(w.now()) && a.room() > 0 {
			w.fail("%s was not sent %s", p, d)
		}
	}
	a.dues = slices.DeleteFunc(a.dues, func(d *due) bool { return d.stage == done })
}

// room is how many more QoS 1 and 2 messages the client takes.
func (a *account) room() int {
	n := a.peer.window
	for _, d := range a.dues {
		if d.counted {
			n--
		}
	}
	return n
}

// judgeShared finds copies for shared subscriptions that nobody got, although
// every member takes messages.
func (w *world) judgeShared() {
	w.copies = slices.DeleteFunc(w.copies, func(c *sharedCopy) bool {
		return c.excused && len(c.holders) == 0 && !w.hasMember(c.filter) ||
			c.groups == 1 && slices.ContainsFunc(c.holders, func(d *due) bool { return d.stage == done && d.qos < 2 })
	})
	for _, c := range w.copies {
		if len(c.holders) > 0 || c.excused || c.expired(w.now()) {
			continue
		}
		members := 0
		for _, a := range w.accounts {
			if len(a.joined[c.filter]) == 0 {
				continue
			}
			if members++; a.peer == nil || a.room() <= 0 {
				members = -1
				break
			}
		}
		if members > 0 {
			w.fail("nobody was sent %q on %q for %s", c.payload, c.topic, c.filter)
		}
	}
}

func (w *world) hasMember(filter string) bool {
	for _, a := range w.accounts {
		if len(a.joined[filter]) > 0 {
			return true
		}
	}
	return false
}

func (p *peer) String() string {
	if p.owner == nil {
		return "a client without a session"
	}
	return fmt.Sprintf("%s (%v)", p.owner.id, p.version)
}

func (d *due) String() string {
	s := fmt.Sprintf("%q on %q with %v", d.payload, d.topic, d.qos)
	if d.retain {
		s += ", retained"
	}
	if d.id != 0 {
		s += fmt.Sprintf(", identifier %d", d.id)
	}
	if d.again {
		s += ", again"
	}
	return s
}

func describe(topic string, m *packets.Publish) string {
	return fmt.Sprintf("%q on %q with %v, identifier %d, DUP %v, retained %v, subscriptions %v",
		m.Payload, topic, m.QoS, m.PacketID, m.Dup, m.Retain, m.SubscriptionIDs)
}

func (a *account) list() (s string) {
	for _, d := range a.dues {
		s += fmt.Sprintf("\n\t%v, stage %d, optional %v, subscriptions %v", d, d.stage, d.optional, d.ids)
	}
	return s
}
