package hostile

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// The model of a broker, in the simplest form that has the same outcome: what
// every session is due, as a list, in the order in which it was published.

// note is a message.
type note struct {
	topic, payload string
	from           string // client identifier of the publisher
	qos            packets.QoS
	retain         bool
	expires        time.Time // zero means never
	will           bool
	groups         int // shared subscriptions that it matches
}

func (n *note) expired(now time.Time) bool { return !n.expires.IsZero() && n.expires.Before(now) }

// subscription is one filter of one account.
type subscription struct {
	filter string // "$share/NAME/" included
	inner  string
	shared bool
	packets.Subscription
	id    uint32
	check bool // each delivery has to be allowed
	step  int  // of the program, that made it
	after int  // world.looks when it was made
	ended bool // or replaced
	last  int  // the last of world.routed that came by it, once it has ended
}

// account is the session of a client identifier.
type account struct {
	id, user string
	peer     *peer // nil while it is not connected
	owned    bool  // it has a connection, CONNACK seen or not
	expiry   uint32
	expires  time.Time // zero means never; without a connection only
	subs     map[string]*subscription
	dues     []*due
	will     *note // of the connection, or delayed
	delay    uint32
	willDue  time.Time                  // of one that is delayed
	joined   map[string][]*subscription // every shared subscription that it ever had, by filter
	loose    bool                       // it may be sent retained messages that came after it subscribed
	open     []*exchange                // of QoS 2 messages from the client
	look     int                        // the last of world.looks that was at this account
}

const never = 0xFFFFFFFF

// exchange is a QoS 2 message from a client, until PUBCOMP.
type exchange struct {
	id uint16
	*note
}

type stage byte

const (
	waiting  stage = iota // not sent on this connection
	leaving               // sent, but the client has not seen it yet; in an exact world only
	sent                  // PUBLISH came, and was not answered
	released              // PUBREC was sent, PUBCOMP not
	done
)

// due is a copy of a note that an account has to get.
type due struct {
	*note
	qos      packets.QoS
	retain   bool
	ids      []uint32
	stage    stage
	id       uint16      // once it was sent with QoS 1 or 2
	again    bool        // it was sent on an earlier connection
	unsaid   bool        // which the store does not know for sure
	unsure   bool        // it may have been another copy: a 3.1.1 client is sent no subscription identifiers
	queued   bool        // it was never sent, and counts for the limit of the queue; in an exact world only
	counted  bool        // against the Receive Maximum of this connection
	rel      bool        // its PUBREL has come on this connection
	optional bool        // the broker may forget it
	replay   string      // the filter, of a retained message that a SUBSCRIBE caused
	group    *sharedCopy // that it came by
}

// sharedCopy is the copy of a note for one shared subscription.
type sharedCopy struct {
	*note
	filter  string
	number  int // of world.routed
	holders []*due
	owners  []*account // of the holders
	excused bool       // nobody has to get it, or nobody can tell whether somebody got it
}

// matches is the rule of section 4.7, as it is written there.
func matches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "#" || f[0] == "+") {
		return false
	}
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t):
			return false
		case level != "+" && level != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}

// route gives n to every account that has to get it, and returns how many copies
// that are.
func (w *world) route(n *note) (copies int) {
	if strings.HasPrefix(n.topic, "$SYS") {
		return 1 // acknowledged, and gone
	}
	if n.retain {
		if n.payload == "" {
			delete(w.retained, n.topic)
		} else {
			w.retained[n.topic] = n
		}
		w.forgetReplays(n.topic)
	}
	w.routed++
	groups := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(w.accounts)) {
		a := w.accounts[id]
		var found []*due
		for _, filter := range slices.Sorted(maps.Keys(a.subs)) {
			s := a.subs[filter]
			switch {
			case !w.allows(s, id, n), s.NoLocal && n.from == id:
			case s.shared:
				groups[filter] = true
			default:
				found = append(found, &due{note: n, qos: min(s.QoS, n.qos), retain: n.retain && s.RetainAsPublished, ids: idsOf(s)})
			}
		}
		if !w.o.perSubscription {
			found = merge(found)
		}
		for _, d := range found {
			copies++
			w.owe(a, d)
		}
	}
	copies += w.routeToHost(n)
	n.groups = len(groups)
	for _, filter := range slices.Sorted(maps.Keys(groups)) {
		w.mayLose(n)
		w.copies = append(w.copies, &sharedCopy{note: n, filter: filter, number: w.routed, excused: n.groups > 1 || n.isLong() || w.mayVanish(filter, n)})
		copies++
	}
	return copies
}

// mayVanish reports whether some member would get n with QoS 0, which it loses
// with its connection.
func (w *world) mayVanish(filter string, n *note) bool {
	for _, a := range w.accounts {
		for _, s := range a.joined[filter] {
			if min(s.QoS, n.qos) == 0 {
				return true
			}
		}
	}
	return false
}

func idsOf(s *subscription) []uint32 {
	if s.id == 0 {
		return nil
	}
	return []uint32{s.id}
}

// merge makes one copy of several (section 3.3.4).
func merge(list []*due) []*due {
	if len(list) < 2 {
		return list
	}
	one := list[0]
	for _, d := range list[1:] {
		one.qos = max(one.qos, d.qos)
		one.retain = one.retain || d.retain
		one.ids = append(one.ids, d.ids...)
	}
	return list[:1]
}

func (w *world) owe(a *account, d *due) {
	switch {
	case d.qos == 0 && !a.owned && !w.o.queueQoS0:
		w.dropped[petrel.DropOffline]++
	case w.o.exact():
		w.queue(a, d)
	default:
		a.dues = append(a.dues, d)
	}
}

// forgetReplays lets the retained messages of a topic that wait to be sent go.
func (w *world) forgetReplays(topic string) {
	for _, a := range w.accounts {
		for _, d := range a.dues {
			if d.replay != "" && d.topic == topic {
				d.optional = true
			}
		}
	}
}

// subscribe adds a subscription, and what it is owed of the retained messages.
func (w *world) subscribe(a *account, s *subscription) {
	old, replaced := a.subs[s.filter]
	w.endSubscription(a, s.filter)
	s.step, s.after = w.steps, w.looks
	a.loose = a.loose || replaced && old.step == s.step // what it was owed goes on in another form
	a.subs[s.filter] = s
	if s.shared {
		a.joined[s.filter] = append(a.joined[s.filter], s)
		for _, c := range w.copies {
			c.excused = c.excused || c.filter == s.filter && min(s.QoS, c.qos) == 0
		}
		return
	}
	again := s.RetainHandling == 0 || s.RetainHandling == 1 && !replaced
	for _, d := range a.dues {
		if d.replay == s.filter && d.stage == waiting {
			d.optional = true // it goes on as the new subscription says, or begins anew
			a.loose = true
		}
	}
	if !again {
		return
	}
	a.loose = a.loose || a.room() <= 0 // the broker has not looked yet what there is
	for _, topic := range slices.Sorted(maps.Keys(w.retained)) {
		n := w.retained[topic]
		if !w.allows(s, a.id, n) || s.NoLocal && n.from == a.id || n.expired(w.now()) || w.disowned(n) {
			continue
		}
		a.dues = append(a.dues, &due{note: n, qos: min(s.QoS, n.qos), retain: true, ids: idsOf(s), replay: s.filter})
	}
}

// endSubscription ends one if there is one: nothing new comes by it.
func (w *world) endSubscription(a *account, filter string) {
	if s := a.subs[filter]; s != nil {
		s.ended, s.last = true, w.routed
		delete(a.subs, filter)
	}
}

// brings reports whether the copy may have come by the subscription.
func (s *subscription) brings(c *sharedCopy) bool { return !s.ended || c.number <= s.last }

func (w *world) unsubscribe(a *account, filter string) bool {
	if _, ok := a.subs[filter]; !ok {
		return false
	}
	w.endSubscription(a, filter)
	for _, d := range a.dues {
		if d.replay == filter {
			d.optional = true
		}
	}
	return true
}

// cutOff takes the connection from an account: what was sent and not finished
// will be sent again.
func (a *account) cutOff() {
	a.peer, a.owned = nil, false
	for _, d := range a.dues {
		switch {
		case d.stage == sent:
			d.stage, d.again = waiting, true
			d.optional = d.optional || d.group != nil && d.qos == packets.AtLeastOnce // another member may get it
		case d.stage == waiting && d.replay != "":
			d.optional, a.loose = true, true
		}
		d.counted, d.rel = false, false
	}
}

// leave ends a connection from the side of the account: it waits, or ends.
func (w *world) leave(a *account) {
	will := a.will
	a.will = nil
	a.cutOff()
	if a.expiry == 0 {
		w.end(a)
		w.routeWill(will)
		return
	}
	a.expires = time.Time{}
	if a.expiry != never {
		a.expires = w.now().Add(time.Duration(a.expiry) * time.Second)
	}
	if will == nil || a.delay == 0 {
		w.routeWill(will)
		return
	}
	a.will, a.willDue = will, w.now().Add(time.Duration(a.delay)*time.Second)
	if !a.expires.IsZero() && a.expires.Before(a.willDue) {
		a.willDue = a.expires
	}
}

// end ends a session, and what it is due with it.
func (w *world) end(a *account) {
	delete(w.accounts, a.id)
	w.pardon()
	for _, c := range w.copies {
		if len(a.joined[c.filter]) > 0 {
			c.excused = true // it may have been the last that could get it
		}
	}
}

func (w *world) routeWill(n *note) {
	if n != nil && w.rights().mayPublish(n.topic) {
		w.route(n)
	}
}

// nextEvent is whom something is due to next, and when; nil if there is nothing.
func (w *world) nextEvent() (next *account, at time.Time) {
	for _, id := range slices.Sorted(maps.Keys(w.accounts)) {
		a := w.accounts[id]
		if t := a.nextEvent(); !t.IsZero() && (next == nil || t.Before(at)) {
			next, at = a, t
		}
	}
	return next, at
}

// tick lets happen what is due now.
func (w *world) tick() {
	for {
		a, at := w.nextEvent()
		if a == nil || at.After(w.now()) {
			return
		}
		w.happen(a)
	}
}

// happen lets happen what is due to an account now.
func (w *world) happen(a *account) {
	if a.owned {
		a.peer.gone, a.peer.silent = true, true
		w.leave(a)
		return
	}
	will := a.will
	if will != nil && !a.willDue.After(w.now()) {
		a.will = nil
	} else {
		will = nil
	}
	if !a.expires.IsZero() && !a.expires.After(w.now()) {
		w.end(a)
	}
	w.routeWill(will)
}

func (a *account) nextEvent() time.Time {
	switch {
	case a.owned && a.peer.keepAlive == 0:
		return time.Time{}
	case a.owned:
		return a.peer.heard.Add(a.peer.keepAlive)
	case a.will != nil && (a.expires.IsZero() || a.willDue.Before(a.expires)):
		return a.willDue
	}
	return a.expires
}

// claim is what a CONNECT makes of the sessions of its identifier. It reports
// whether the session was there.
func (w *world) claim(id, user string, clean bool) (a *account, present bool) {
	old := w.accounts[id]
	resume := old != nil && !clean && (!old.owned || old.expiry != 0)
	var will *note
	if old != nil {
		switch {
		case old.will == nil:
		case old.owned && (old.delay == 0 || !resume), !old.owned && !resume:
			will = old.will
		}
		old.will = nil
		if old.peer != nil {
			old.peer.gone, old.peer.taken = true, true
			old.cutOff()
		}
		if !resume {
			w.end(old)
		}
	}
	if a = old; !resume {
		a = &account{id: id, user: user, subs: map[string]*subscription{}, joined: map[string][]*subscription{}}
		w.accounts[id] = a
	}
	a.owned, a.expires = true, time.Time{}
	if resume {
		w.scrutinize(a, nil)
	}
	w.routeWill(will)
	return a, resume
}
