package hostile

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

var (
	ids     = []string{"a", "b", "c", "d"}
	names   = []string{"t/a", "t/b", "u/a", "t/a/b", "t", "secret/x", "deny/x", "$SYS/x"}
	filters = []string{
		"t/a", "t/+", "#", "t/#", "+/a", "$share/g/t/+", "$share/g/t/a", "$share/h/#", "u/a", "w/#", "+/+", "t/b", "secret/x", "secret/#",
	}
)

// steps are what a program can do, each as often as it is to be chosen.
var steps = slices.Concat(
	slices.Repeat([]func(*world, string){(*world).stepConnect}, 4),
	slices.Repeat([]func(*world, string){(*world).stepPublish}, 8),
	slices.Repeat([]func(*world, string){(*world).stepSubscribe}, 5),
	slices.Repeat([]func(*world, string){(*world).stepAcknowledge}, 6),
	slices.Repeat([]func(*world, string){(*world).stepRelease}, 3),
	slices.Repeat([]func(*world, string){(*world).stepDrop}, 3),
	[]func(*world, string){
		(*world).stepUnsubscribe, (*world).stepUnsubscribe, (*world).stepRepeat, (*world).stepDisconnect, (*world).stepDisconnect,
		(*world).stepIllegal, (*world).stepSleep, (*world).stepSleep, (*world).stepStrange, (*world).stepStranger,
		(*world).stepHostPublish, (*world).stepHostDisconnect, (*world).stepRevoke, (*world).stepRights, (*world).stepRights,
		(*world).stepRestart, (*world).stepPing,
	},
)

func (w *world) step() {
	w.steps++
	do := choose(&w.choices, steps...)
	do(w, choose(&w.choices, ids...))
}

// client returns the connection of a client, which connects if it has none.
func (w *world) client(id string) *peer {
	if a := w.accounts[id]; a != nil && a.peer != nil {
		return a.peer
	}
	w.stepConnect(id)
	w.settle()
	if a := w.accounts[id]; a != nil {
		return a.peer
	}
	return nil
}

// greeting is what a client connects with.
type greeting struct {
	id, user string
	version  packets.Version
	clean    bool
	expiry   uint32
	window   int
	aliases  uint16
	most     uint32 // Maximum Packet Size
	alive    uint16 // Keep Alive
	prompt   bool
	will     *note
	delay    uint32
}

func (w *world) stepConnect(id string) {
	c := &w.choices
	g := greeting{
		id: id, user: w.userOf(id), version: choose(c, packets.V5, packets.V5, packets.V311), clean: c.one(3),
		expiry: choose[uint32](c, 3600, 0, 2, never), window: choose(c, 65535, 1, 2, 65535), aliases: choose[uint16](c, 0, 2), prompt: !c.one(2),
	}
	if w.o.small() {
		g.window = choose(c, 1, 2, 3, 65535)
	}
	if c.one(2) {
		g.most = tight
	}
	if c.one(3) {
		g.alive = 2 * uint16(1+slices.Index(ids, id)) // never two at a time, as one may be told of the will of the other
	}
	if c.one(3) {
		g.will = &note{topic: "w/" + id, payload: w.payload(), from: id, qos: w.qos(), retain: w.retains(4), will: true}
		g.delay = choose[uint32](c, 0, 1, 4)
		if c.one(6) {
			g.will.topic = "deny/w"
		}
	}
	w.attach(g)
}

func (w *world) payload() string {
	w.serial++
	return fmt.Sprint("m", w.serial, w.padding())
}

// retains decides once in n times that a message is to be retained.
func (w *world) retains(n int) bool { return w.choices.one(n) && !w.o.small() }

// qos decides for the QoS of a message. QoS 0 is lost too easily for a crowd.
func (w *world) qos() packets.QoS {
	q := packets.QoS(w.choices.pick(3))
	if w.o.crowd {
		q = max(q, packets.AtLeastOnce)
	}
	return q
}

// attach connects, and says what has to become of it.
func (w *world) attach(g greeting) {
	if g.version != packets.V5 {
		g.window, g.aliases, g.most, g.delay, g.expiry = 65535, 0, 0, 0, never
		if g.clean {
			g.expiry = 0
		}
	}
	if g.window == 0 {
		g.window = 65535
	}
	if w.o.small() {
		g.delay = 0
	}
	connect := packets.Connect{
		Version: g.version, CleanStart: g.clean, ClientID: []byte(g.id), HasUserName: true, UserName: []byte(g.user),
		SessionExpiryInterval: g.expiry, ReceiveMaximum: uint16(g.window), TopicAliasMaximum: g.aliases, MaximumPacketSize: g.most, KeepAlive: g.alive,
	}
	said := fmt.Sprintf("%s connects as %s with %v, clean %v, expiry %d, receive maximum %d, aliases %d, maximum packet size %d, keep alive %d, prompt %v",
		g.id, g.user, g.version, g.clean, g.expiry, g.window, g.aliases, g.most, g.alive, g.prompt)
	if g.will != nil {
		connect.HasWill, connect.Will = true, packets.Will{
			Topic: []byte(g.will.topic), Payload: []byte(g.will.payload), QoS: g.will.qos, Retain: g.will.retain, DelayInterval: g.delay,
		}
		said += fmt.Sprintf(", will %q on %s with %v, delay %d, retain %v", g.will.payload, g.will.topic, g.will.qos, g.delay, g.will.retain)
	}
	w.note("%s", said)
	p := w.dial(g.version)
	p.prompt = g.prompt
	p.keepAlive = time.Duration(g.alive) * time.Second * 3 / 2
	p.window, p.most, p.aliases = min(g.window, w.o.window), int(g.most), g.aliases > 0
	want := answer{kind: packets.TypeConnack, codes: []packets.ReasonCode{packets.Success}}
	old := w.accounts[g.id]
	switch {
	case g.will != nil && !w.rights().mayPublish(g.will.topic):
		want.codes[0], p.gone = packets.NotAuthorized, true
	case old != nil && old.user != g.user:
		want.codes[0], p.gone = packets.ClientIdentifierNotValid, true
	default:
		a, present := w.claim(g.id, g.user, g.clean)
		if present {
			want.id = 1
		}
		a.peer, p.owner = p, a
		a.expiry, a.will, a.delay = g.expiry, g.will, g.delay
		w.pump(a)
	}
	p.wants = append(p.wants, want)
	p.send(&connect)
}

func (w *world) stepPublish(id string) {
	p := w.client(id)
	if p == nil {
		return
	}
	var list []packets.Packet
	for range choose(&w.choices, 1, 1, 2, 5) {
		if m := w.publish(p); m != nil {
			list = append(list, m)
		}
	}
	p.send(list...)
}

// publish makes a PUBLISH of a client, and routes it in the model.
func (w *world) publish(p *peer) packets.Packet {
	c, a := &w.choices, p.owner
	n := &note{topic: choose(c, names...), from: a.id, qos: w.qos(), retain: w.retains(4)}
	if n.payload = w.payload(); n.retain && c.one(3) && !w.emptied[n.topic] { // a second one could not be told from the first
		n.payload, w.emptied[n.topic] = "", true
	}
	m := &packets.Publish{Topic: []byte(n.topic), Payload: []byte(n.payload), QoS: n.qos, Retain: n.retain}
	if n.qos > 0 {
		if m.PacketID = p.freeID(); m.PacketID == 0 {
			return nil
		}
	}
	if p.version == packets.V5 {
		if m.MessageExpiryInterval = choose[uint32](c, 0, 0, 0, 1, 3); m.MessageExpiryInterval > 0 && !w.o.small() { // a full queue is looked through for expired ones now and then
			m.HasMessageExpiry = true
			n.expires = w.now().Add(time.Duration(m.MessageExpiryInterval) * time.Second)
		}
		if alias := choose[uint16](c, 0, 0, 1, 2); alias > 0 {
			m.HasTopicAlias, m.TopicAlias = true, alias
			if p.told[alias] == n.topic {
				m.Topic = nil
			}
			p.told[alias] = n.topic
		}
	}
	w.note("%s publishes %q to %s with %v, identifier %d, retain %v, expiry %d, alias %d",
		a.id, n.payload, n.topic, n.qos, m.PacketID, n.retain, m.MessageExpiryInterval, m.TopicAlias)
	code := packets.NotAuthorized
	if w.rights().mayPublish(n.topic) {
		if code = packets.Success; w.route(n) == 0 {
			code = packets.NoMatchingSubscribers
		}
	}
	switch n.qos {
	case packets.AtLeastOnce:
		p.wants = append(p.wants, answer{packets.TypePuback, m.PacketID, []packets.ReasonCode{code}})
	case packets.ExactlyOnce:
		p.wants = append(p.wants, answer{packets.TypePubrec, m.PacketID, []packets.ReasonCode{code}})
		if !code.IsError() || p.version != packets.V5 {
			a.open = append(a.open, &exchange{m.PacketID, n})
		}
	}
	return m
}

// freeID returns an identifier that the client does not use, 0 if it uses enough.
func (p *peer) freeID() uint16 {
	for id := uint16(1); id < 6; id++ {
		inUse := slices.ContainsFunc(p.owner.open, func(e *exchange) bool { return e.id == id })
		if inUse || slices.ContainsFunc(p.wants, func(a answer) bool { return a.id == id }) {
			continue
		}
		return id
	}
	return 0
}

func (w *world) stepSubscribe(id string) {
	p := w.client(id)
	if p == nil {
		return
	}
	c, a := &w.choices, p.owner
	m := packets.Subscribe{PacketID: 100}
	if p.version == packets.V5 && !c.one(4) {
		w.serial++
		m.SubscriptionID = uint32(w.serial)
	}
	var list []string
	want := answer{kind: packets.TypeSuback, id: 100}
	for range choose(c, 1, 1, 2) {
		s := &subscription{filter: choose(c, filters...), id: m.SubscriptionID}
		if w.o.crowd {
			s.filter = crowdFilter
		}
		if w.o.exact() {
			s.filter = strings.TrimPrefix(strings.TrimPrefix(s.filter, "$share/g/"), "$share/h/") // or nobody could tell whose queue is full
		}
		s.inner = s.filter
		if s.shared = strings.HasPrefix(s.filter, "$share/"); s.shared {
			s.inner = strings.SplitN(s.filter, "/", 3)[2]
		}
		s.Subscription = packets.Subscription{Filter: []byte(s.filter), QoS: packets.QoS(2 - c.pick(3))}
		if w.o.crowd {
			s.QoS = max(s.QoS, packets.AtLeastOnce)
		}
		if p.version == packets.V5 {
			s.NoLocal, s.RetainAsPublished, s.RetainHandling = c.one(4) && !s.shared, c.one(2), byte(c.pick(3))
		}
		s.check = checked(s.inner)
		m.Subscriptions = m.Subscriptions.Append(s.Subscription)
		list = append(list, fmt.Sprintf("%s with %v, no local %v, as published %v, handling %d", s.filter, s.QoS, s.NoLocal, s.RetainAsPublished, s.RetainHandling))
		switch {
		case w.rights().maySubscribe(s.inner):
			w.subscribe(a, s)
			want.codes = append(want.codes, packets.ReasonCode(s.QoS))
		case p.version == packets.V5:
			want.codes = append(want.codes, packets.NotAuthorized)
		default:
			want.codes = append(want.codes, packets.UnspecifiedError)
		}
	}
	w.note("%s subscribes to %s, identifier %d", id, strings.Join(list, " and "), m.SubscriptionID)
	p.wants = append(p.wants, want)
	p.send(&m)
}

func (w *world) stepUnsubscribe(id string) {
	p := w.client(id)
	if p == nil {
		return
	}
	filter := choose(&w.choices, filters...)
	if w.o.crowd {
		filter = crowdFilter
	}
	code := packets.NoSubscriptionExisted
	if w.unsubscribe(p.owner, filter) {
		code = packets.Success
	}
	w.note("%s unsubscribes from %s", id, filter)
	p.wants = append(p.wants, answer{packets.TypeUnsuback, 101, []packets.ReasonCode{code}})
	p.send(&packets.Unsubscribe{PacketID: 101, Filters: packets.Filters(nil).Append(filter)})
}

// stepAcknowledge goes one step on with one of the messages that the client has.
func (w *world) stepAcknowledge(id string) {
	p := w.client(id)
	if p == nil {
		return
	}
	var list []*due
	for _, d := range p.owner.dues {
		if d.stage == sent || d.stage == released {
			list = append(list, d)
		}
	}
	if len(list) == 0 {
		return
	}
	d := choose(&w.choices, list...)
	if d.stage == sent && p.version == packets.V5 && w.choices.one(8) {
		w.acknowledge(p, d, packets.UnspecifiedError)
		return
	}
	w.advance(p, d)
}

func (w *world) advance(p *peer, d *due) {
	switch d.stage {
	case sent:
		w.acknowledge(p, d, packets.Success)
	case released:
		w.complete(p, d)
	}
}

// acknowledge answers a PUBLISH.
func (w *world) acknowledge(p *peer, d *due, code packets.ReasonCode) {
	w.note("%s acknowledges %q, identifier %d, with %v", p.owner.id, d.payload, d.id, code)
	if code.IsError() {
		w.dropped[petrel.DropRefusedByClient]++
	}
	if d.qos == packets.AtLeastOnce {
		w.finishes(p, d)
		p.send(&packets.Puback{PacketID: d.id, Reason: code})
		return
	}
	if d.stage, d.rel = released, false; code.IsError() {
		w.finishes(p, d)
	}
	p.send(&packets.Pubrec{PacketID: d.id, Reason: code})
}

func (w *world) complete(p *peer, d *due) {
	w.note("%s completes %q, identifier %d", p.owner.id, d.payload, d.id)
	w.finishes(p, d)
	p.send(&packets.Pubcomp{PacketID: d.id})
}

// finishes lets a client have done with a message, and with that take another.
func (w *world) finishes(p *peer, d *due) {
	d.stage, d.counted = done, false
	w.pump(p.owner)
}

func (w *world) stepRelease(id string) {
	p := w.client(id)
	if p == nil || len(p.owner.open) == 0 {
		return
	}
	i := w.choices.pick(len(p.owner.open))
	e := p.owner.open[i]
	p.owner.open = slices.Delete(p.owner.open, i, i+1)
	w.note("%s releases %q, identifier %d", id, e.payload, e.id)
	p.wants = append(p.wants, answer{packets.TypePubcomp, e.id, []packets.ReasonCode{packets.Success}})
	p.send(&packets.Pubrel{PacketID: e.id})
}

// stepRepeat sends a QoS 2 message again that was not released.
func (w *world) stepRepeat(id string) {
	p := w.client(id)
	if p == nil || len(p.owner.open) == 0 {
		return
	}
	e := choose(&w.choices, p.owner.open...)
	w.note("%s publishes %q again, identifier %d", id, e.payload, e.id)
	p.wants = append(p.wants, answer{packets.TypePubrec, e.id, []packets.ReasonCode{packets.Success}})
	p.send(&packets.Publish{Dup: true, QoS: packets.ExactlyOnce, Topic: []byte(e.topic), Payload: []byte(e.payload), Retain: e.retain, PacketID: e.id})
}

func (w *world) stepDrop(id string) {
	a := w.accounts[id]
	if a == nil || a.peer == nil {
		return
	}
	w.note("the connection of %s breaks", id)
	a.peer.gone = true
	a.peer.conn.Close()
	w.leave(a)
}

func (w *world) stepDisconnect(id string) {
	a := w.accounts[id]
	if a == nil || a.peer == nil {
		return
	}
	m := packets.Disconnect{}
	if a.peer.version == packets.V5 {
		m.Reason = choose(&w.choices, packets.NormalDisconnection, packets.DisconnectWithWill)
		if a.expiry != 0 && w.choices.one(2) {
			m.HasSessionExpiryInterval, m.SessionExpiryInterval = true, choose[uint32](&w.choices, 0, 2, 3600)
		}
	}
	w.farewell(a.peer, &m)
}

func (w *world) farewell(p *peer, m *packets.Disconnect) {
	a := p.owner
	w.note("%s disconnects with %v, expiry %d (%v)", a.id, m.Reason, m.SessionExpiryInterval, m.HasSessionExpiryInterval)
	if m.HasSessionExpiryInterval {
		a.expiry = m.SessionExpiryInterval
	}
	if m.Reason == packets.NormalDisconnection {
		a.will = nil
	}
	p.gone = true
	p.send(m)
	p.conn.Close()
	w.leave(a)
}

// illegal packets end the connection, whatever the version.
var illegal = []string{
	"100d00044d5154540402003c00017a", // CONNECT
	"200200 00",                      // CONNACK
	"36060001610001 6d",              // PUBLISH with QoS 3
	"30050003612f2b",                 // to a filter
	"30050003 61ff62",                // to what is not UTF-8
	"3203000000",                     // without a topic
	"60020001",                       // PUBREL with wrong flags
	"80060001 0001 61 00",            // SUBSCRIBE with wrong flags
	"8202 0001",                      // without a filter
	"0000",                           // no type
	"d000",                           // PINGRESP
	"30ffffffff01",                   // a length of five bytes
}

func (w *world) stepIllegal(id string) {
	p := w.client(id)
	if p == nil {
		return
	}
	a := p.owner
	raw, err := hex.DecodeString(strings.ReplaceAll(choose(&w.choices, illegal...), " ", ""))
	if err != nil {
		panic(err)
	}
	if d := w.unanswered(a); d != nil && w.choices.one(3) { // the wrong answer is as bad
		raw = []byte{0x40, 2, byte(d.id >> 8), byte(d.id)}
		if d.qos == packets.AtLeastOnce {
			raw[0] = 0x50
		}
	}
	w.note("%s sends % x", id, raw)
	p.gone = true
	w.leave(a)
	p.write(raw)
}

// unanswered is a message that the client has and did not acknowledge.
func (w *world) unanswered(a *account) *due {
	for _, d := range a.dues {
		if d.stage == sent {
			return d
		}
	}
	return nil
}

// stepSleep lets time pass. No two times of the program are whole seconds apart, so
// that nothing is due at the very moment of a step.
func (w *world) stepSleep(string) {
	if w.sleeps++; w.sleeps > 15 {
		return
	}
	d := choose[time.Duration](&w.choices, 1, 2, 3, 5)*time.Second + 61*time.Millisecond
	w.note("%v pass", d)
	for end := w.now().Add(d); w.now().Before(end); w.settle() {
		if _, at := w.nextEvent(); !at.IsZero() && at.Before(end) {
			time.Sleep(at.Sub(w.now()))
			w.tick()
		} else {
			time.Sleep(end.Sub(w.now()))
		}
	}
}

func (w *world) stepPing(id string) {
	if p := w.client(id); p != nil {
		w.note("%s pings", id)
		p.wants = append(p.wants, answer{kind: packets.TypePingresp})
		p.send(&packets.Pingreq{})
	}
}

// stepStrange answers what was never asked.
func (w *world) stepStrange(id string) {
	p := w.client(id)
	if p == nil {
		return
	}
	const unknown = 60000
	m := choose[packets.Packet](&w.choices,
		&packets.Puback{PacketID: unknown}, &packets.Pubrec{PacketID: unknown}, &packets.Pubrel{PacketID: unknown}, &packets.Pubcomp{PacketID: unknown})
	w.note("%s sends %v for an identifier that is not in use", id, m.Type())
	code := []packets.ReasonCode{packets.PacketIdentifierNotFound}
	switch m.Type() {
	case packets.TypePubrec:
		p.wants = append(p.wants, answer{packets.TypePubrel, unknown, code})
	case packets.TypePubrel:
		p.wants = append(p.wants, answer{packets.TypePubcomp, unknown, code})
	}
	p.send(m)
}

// stepStranger tries to take the session of somebody else.
func (w *world) stepStranger(id string) {
	if w.accounts[id] != nil {
		w.attach(greeting{id: id, user: "mallory", version: choose(&w.choices, packets.V5, packets.V311), clean: w.choices.one(2)})
	}
}
