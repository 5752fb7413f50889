package hostile

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// denials are what can be taken away from everybody, beside what nobody ever may.
var denials = []string{
	"publish u/", "publish w/", "subscribe t/a", "subscribe t/+", "subscribe t/#", "subscribe #", "receive t/b", "receive t",
}

// rights are what is denied now.
type rights struct{ denied map[string]bool }

func (r *rights) mayPublish(topic string) bool {
	first, _, _ := strings.Cut(topic, "/")
	return first != "deny" && !r.denied["publish "+first+"/"]
}

func (r *rights) maySubscribe(inner string) bool {
	return !strings.HasPrefix(inner, "secret/") && !r.denied["subscribe "+inner]
}

func (r *rights) mayReceive(id, topic string) bool {
	return id == "a" || !strings.HasPrefix(topic, "secret/") && !r.denied["receive "+topic]
}

// checked reports whether the answer to a SUBSCRIBE is to check each delivery.
func checked(inner string) bool { return strings.ContainsAny(inner, "+#") }

func (w *world) rights() *rights { return w.denied.Load() }

// allows reports whether n comes by a subscription.
func (w *world) allows(s *subscription, id string, n *note) bool {
	return matches(s.inner, n.topic) && (!s.check || w.rights().mayReceive(id, n.topic))
}

// disowned reports whether a retained message is not sent, as its publisher may not
// publish to its topic any more.
func (w *world) disowned(n *note) bool {
	return w.o.recheck && n.from != "" && !w.rights().mayPublish(n.topic)
}

// authorize is the rights of the model as a hook.
func (w *world) authorize(_ context.Context, r *petrel.AccessRequest) error {
	ok := false
	switch now := w.rights(); r.Action {
	case petrel.Publish:
		ok = now.mayPublish(r.Topic)
	case petrel.Subscribe:
		ok = now.maySubscribe(r.Topic)
		r.CheckDeliveries = checked(r.Topic)
	case petrel.Receive:
		ok = now.mayReceive(r.Client.ID(), r.Topic)
	}
	if !ok {
		return packets.NotAuthorized
	}
	return nil
}

// stepRights gives or takes a right, and applies that to what everybody has.
func (w *world) stepRights(string) {
	what := choose(&w.choices, denials...)
	now := &rights{maps.Clone(w.rights().denied)}
	if now.denied == nil {
		now.denied = make(map[string]bool)
	}
	now.denied[what] = !now.denied[what]
	w.note("nobody but a may %s: %v", what, now.denied[what])
	w.denied.Store(now)
	for _, id := range slices.Sorted(maps.Keys(w.accounts)) {
		w.reauthorize(w.accounts[id])
	}
	for _, c := range w.copies {
		c.excused = true // it may have been with a member that has lost it
	}
	if err := w.broker.Reauthorize(w.t.Context(), petrel.Everybody()); err != nil {
		w.fail("%v", err)
	}
}

// reauthorize takes from an account what it may not have any more.
func (w *world) reauthorize(a *account) {
	if a.will != nil && !w.rights().mayPublish(a.will.topic) {
		a.will = nil
	}
	var lost []*subscription
	for _, s := range a.subs {
		if !w.rights().maySubscribe(s.inner) {
			lost = append(lost, s)
			w.endSubscription(a, s.filter)
		}
	}
	a.dues = slices.DeleteFunc(a.dues, func(d *due) bool {
		return d.stage == waiting && !d.again && d.replay != "" && a.subs[d.replay] == nil
	})
	for _, d := range a.dues {
		if s := a.subs[d.replay]; s != nil && !w.allows(s, a.id, d.note) {
			d.optional = true // each subscription is asked about what it is owed
		}
		if d.replay != "" && d.stage == waiting && !d.again && w.o.recheck {
			d.optional, a.loose = true, true // so is each publisher, before or after
		}
	}
	w.scrutinize(a, lost)
}

// scrutinize takes from an account the messages that were not sent on this
// connection and that it may not have.
func (w *world) scrutinize(a *account, lost []*subscription) {
	w.pardon()
	w.looks++
	a.look = w.looks
	a.dues = slices.DeleteFunc(a.dues, func(d *due) bool {
		if d.stage != waiting || w.mayHave(a, d.topic, lost) {
			return false
		}
		switch {
		case d.again && d.qos == packets.ExactlyOnce: // it has to let go of the identifier
			d.stage, d.rel, d.counted = released, false, false
			return false
		case d.group != nil:
			d.group.leave(d)
		}
		return true
	})
	w.pump(a)
}

// mayHave reports whether a message on a topic, whatever it came by, may be sent to
// the account: its subscriptions at the last look say so, or, where there is none,
// whether there could be one.
func (w *world) mayHave(a *account, topic string, lost []*subscription) bool {
	found := false
	for _, s := range a.subs {
		if s.after >= a.look || !matches(s.inner, topic) {
			continue
		}
		if found = true; !s.check || w.rights().mayReceive(a.id, topic) {
			return true
		}
	}
	for _, s := range lost {
		found = found || matches(s.inner, topic)
	}
	return !found && w.rights().maySubscribe(topic)
}

// leave takes a holder from a copy for a shared subscription.
func (c *sharedCopy) leave(d *due) {
	i := slices.Index(c.holders, d)
	c.holders, c.owners = slices.Delete(c.holders, i, i+1), slices.Delete(c.owners, i, i+1)
	c.excused = true
}
