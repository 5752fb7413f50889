package hostile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// host is the program that the broker is in, with one subscription.
type host struct {
	subscription *petrel.LocalSubscription
	due          []string
	may          []string // be given, as it came up while a broker started

	mu  sync.Mutex
	got []string
}

func (h *host) subscribe(w *world) {
	if w.o.local == "" {
		return
	}
	var err error
	h.subscription, err = w.broker.Subscribe(w.o.local, petrel.SubscribeOptions{QoS: petrel.ExactlyOnce, RetainHandling: 2}, func(_ context.Context, m *petrel.Message) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got = append(h.got, fmt.Sprintf("%q on %q with %v", m.Payload, m.Topic, m.QoS))
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (h *host) end(w *world) {
	if h.subscription == nil {
		return
	}
	if err := h.subscription.Close(); err != nil {
		w.fail("%v", err)
	}
}

// routeToHost gives n to the host if it wants it, and returns how many copies that is.
func (w *world) routeToHost(n *note) int {
	if w.o.local == "" || !matches(w.o.local, n.topic) {
		return 0
	}
	w.host.due = append(w.host.due, fmt.Sprintf("%q on %q with %v", n.payload, n.topic, n.qos))
	return 1
}

// judgeHost compares what the host was given, in its order but for wills, of which
// several can be due at one time.
func (w *world) judgeHost() {
	h := &w.host
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got = slices.DeleteFunc(h.got, func(m string) bool { return slices.Contains(h.may, m) })
	if !slices.Equal(h.got, h.due) && !slices.Equal(slices.Sorted(slices.Values(h.got)), slices.Sorted(slices.Values(h.due))) {
		w.fail("the host was given %v; want %v", h.got, h.due)
	}
	h.got, h.due, h.may = nil, nil, nil
}

func (w *world) stepHostPublish(string) {
	c := &w.choices
	n := &note{topic: names[c.pick(6)], payload: w.payload(), qos: w.qos(), retain: w.retains(2)}
	w.note("the host publishes %q to %s with %v, retain %v", n.payload, n.topic, n.qos, n.retain)
	w.route(n)
	if err := w.broker.Publish(w.t.Context(), petrel.Message{Topic: n.topic, Payload: []byte(n.payload), QoS: n.qos, Retain: n.retain}); err != nil {
		w.fail("%v", err)
	}
}

func (w *world) stepHostDisconnect(id string) {
	a := w.accounts[id]
	if a == nil || a.peer == nil {
		return
	}
	w.note("the host disconnects %s", id)
	a.peer.gone = true
	w.leave(a)
	if err := w.broker.Disconnect(id, nil); err != nil {
		w.fail("%v", err)
	}
}

// stepRevoke takes everything from a client.
func (w *world) stepRevoke(id string) {
	a := w.accounts[id]
	if a == nil {
		return
	}
	w.note("the host revokes %s", id)
	if a.peer != nil {
		a.peer.gone = true
	}
	a.will = nil
	a.cutOff()
	w.end(a)
	who := choose(&w.choices, petrel.ByClientID(id), petrel.ByIdentity(a.user))
	if err := w.broker.Revoke(w.t.Context(), who); err != nil {
		w.fail("%v", err)
	}
}

// stepRestart ends the process, and starts another with what the disk has. The wills
// that are due then come in any order, so that a full queue could drop any.
func (w *world) stepRestart(string) {
	if w.disk == nil || w.o.small() || !w.choices.one(2) {
		return
	}
	w.note("the process ends, and another starts")
	w.disk.Crash()
	for _, p := range w.peers {
		p.conn.Close()
	}
	w.peers = nil
	_ = w.broker.Close() // what it does now reaches nobody
	var wills []*note
	for _, id := range slices.Sorted(maps.Keys(w.accounts)) {
		wills = append(wills, w.outlive(w.accounts[id]))
	}
	for _, n := range wills {
		w.routeWill(n)
	}
	w.host.may, w.host.due = w.host.due, nil
	w.start()
}

// outlive makes of an account what is left of it after the process, and returns
// its will if that is due.
func (w *world) outlive(a *account) (will *note) {
	connected := a.owned
	a.cutOff()
	a.dues = slices.DeleteFunc(a.dues, func(d *due) bool { return d.qos == packets.AtMostOnce && d.replay == "" })
	for _, d := range a.dues {
		d.unsaid = d.again && d.qos == packets.AtLeastOnce
	}
	if !connected {
		return nil
	}
	switch {
	case a.expiry == 0:
		will, a.will = a.will, nil
		w.end(a)
		return will
	case a.expiry != never:
		a.expires = w.now().Add(time.Duration(a.expiry) * time.Second)
	}
	if a.delay == 0 {
		will, a.will = a.will, nil
	}
	if a.will != nil {
		a.willDue = w.now().Add(time.Duration(a.delay) * time.Second)
		if !a.expires.IsZero() && a.expires.Before(a.willDue) {
			a.willDue = a.expires
		}
	}
	return will
}
