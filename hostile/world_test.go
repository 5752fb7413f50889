package hostile

import (
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/hooks/store/storetest"
	"github.com/petrelmq/petrel/packets"
)

// world is a broker with its clients, and the model of it.
type world struct {
	t       *testing.T
	o       variant
	broker  *petrel.Broker
	choices choices
	program strings.Builder
	steps   int
	routed  int // messages
	looks   int // at what accounts hold, when rights may have changed
	sleeps  int
	serial  int

	peers    []*peer
	accounts map[string]*account
	retained map[string]*note
	emptied  map[string]bool // topics to which an empty message was published
	copies   []*sharedCopy

	denied atomic.Pointer[rights] // read by the broker too
	disk   *storetest.Disk        // nil without a store
	host   host

	dropped map[petrel.DropReason]uint64
	crowd   crowd
}

// variant is the options of the broker that the model knows of.
type variant struct {
	perSubscription bool
	queueQoS0       bool
	window          int // Options.MaximumInflight
	queue           int // Options.QueueMessages, 0 for the default
	dropOldest      bool
	crowd           bool // of members of one shared subscription
	recheck         bool // Options.RecheckRetained
	store           bool
	local           string // filter of a subscription of the host; empty for none
}

// choices turns bytes into decisions. When they are used up it decides for the first.
type choices []byte

func (c *choices) pick(n int) int {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return int(b) % n
}

// one is true once in n times.
func (c *choices) one(n int) bool { return c.pick(n) == n-1 }

func choose[T any](c *choices, list ...T) T { return list[c.pick(len(list))] }

// run runs the program that the bytes are. It is called in a bubble.
func run(t *testing.T, program []byte) {
	w := &world{t: t, choices: program, accounts: map[string]*account{}, retained: map[string]*note{}, emptied: map[string]bool{}, dropped: map[petrel.DropReason]uint64{}}
	w.o = variant{perSubscription: w.choices.one(4), queueQoS0: w.choices.one(4), window: choose(&w.choices, 1024, 1024, 3, 1)}
	w.o.store, w.o.local = w.choices.one(2), choose(&w.choices, "", "t/#", "#")
	if w.o.queue, w.o.dropOldest = choose(&w.choices, 0, 0, 2, 1, 4), w.choices.one(2); w.o.small() {
		w.o.crowd = w.choices.one(3)
		w.o.local = ""              // it has a queue too
		w.o.perSubscription = false // or nobody could tell which of the copies came first
	}
	w.o.recheck = w.choices.one(3)
	if w.denied.Store(new(rights)); w.o.store {
		w.disk = storetest.NewDisk()
	}
	w.note("options %+v", w.o)
	w.start()
	defer w.stop()
	for len(w.choices) > 0 && w.steps < 200 {
		w.step()
		w.settle()
	}
	w.finish()
}

func (w *world) start() {
	o := petrel.Options{
		Hooks:  []petrel.Hook{auth.AllowAll{}, petrel.AuthorizerFunc(w.authorize)},
		Logger: slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelError})), SysInterval: -1,
		DeliverPerSubscription: w.o.perSubscription, QueueQoS0: w.o.queueQoS0, MaximumInflight: w.o.window, TopicAliasMaximum: 2,
		QueueMessages: w.o.queue, RecheckRetained: w.o.recheck,
	}
	if w.o.dropOldest {
		o.QueueFull = petrel.DropOldest
	}
	if w.disk != nil {
		s, err := w.disk.Open()
		if err != nil {
			w.t.Fatal(err)
		}
		o.Hooks = append(o.Hooks, s)
	}
	b, err := petrel.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.broker = b
	w.host.subscribe(w)
}

func (w *world) stop() {
	for _, p := range w.peers {
		p.conn.Close()
	}
	if err := w.broker.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) now() time.Time { return time.Now() }

// note writes a line of the program.
func (w *world) note(format string, args ...any) {
	fmt.Fprintf(&w.program, "%3d: %s\n", w.steps, fmt.Sprintf(format, args...))
}

// fail ends the test with the program that led to the violation.
func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), w.program.String())
}

// dial opens a connection on which nothing was sent.
func (w *world) dial(v packets.Version) *peer {
	client, server := net.Pipe()
	p := newPeer(client, v)
	b := w.broker
	go func() { _ = b.ServeConn(server) }()
	w.peers = append(w.peers, p)
	return p
}

// finish lets every session that there is come back and take all that it is due,
// and then end: nothing may be missing, and nothing may be left.
func (w *world) finish() {
	w.steps++
	w.note("everybody comes back, and acknowledges")
	for _, id := range ids {
		a := w.accounts[id]
		if a == nil {
			continue
		}
		if a.peer == nil {
			w.attach(greeting{id: id, user: a.user, version: packets.V5, expiry: 3600, prompt: true})
			w.settle()
		}
		if a = w.accounts[id]; a.peer == nil {
			w.fail("%s was not let in", id)
		}
		a.peer.prompt = true
		for _, d := range a.dues {
			w.advance(a.peer, d)
		}
		w.settle()
	}
	for _, id := range ids {
		if a := w.accounts[id]; a != nil {
			w.judgeEmpty(a)
		}
	}
	w.judgeRetained()
	w.note("everybody leaves for good")
	for _, id := range ids {
		w.attach(greeting{id: id, user: w.userOf(id), version: packets.V5, clean: true})
		w.settle()
		w.farewell(w.accounts[id].peer, &packets.Disconnect{})
		w.settle()
	}
	for topic := range w.retained {
		if err := w.broker.Publish(w.t.Context(), petrel.Message{Topic: topic, Retain: true}); err != nil {
			w.fail("%v", err)
		}
	}
	w.host.end(w)
	if s := w.broker.Stats(); s.Sessions != 0 || s.ClientsConnected != 0 || s.Subscriptions != 0 || s.Retained != 0 || s.MessageBytes != 0 {
		w.fail("%d sessions, %d clients, %d subscriptions, %d retained messages and %d bytes are left",
			s.Sessions, s.ClientsConnected, s.Subscriptions, s.Retained, s.MessageBytes)
	}
	if w.disk == nil {
		return
	}
	synctest.Wait()
	if left := w.disk.Records(); len(left) > 1 { // the version
		w.fail("%d records are left in the store: %q", len(left), slices.Sorted(maps.Keys(left)))
	}
}

func (w *world) userOf(id string) string {
	if a := w.accounts[id]; a != nil {
		return a.user
	}
	return id
}

// judgeEmpty finds what an account is still due.
func (w *world) judgeEmpty(a *account) {
	for _, d := range a.dues {
		if !d.optional && !d.lapsed(w.now()) {
			w.fail("%s has not finished %s, stage %d", a.id, d, d.stage)
		}
	}
	if s := w.copies; len(a.joined) > 0 {
		for _, c := range s {
			if len(c.holders) == 0 && !c.excused && !c.expired(w.now()) {
				w.fail("nobody was sent %q on %q for %s", c.payload, c.topic, c.filter)
			}
		}
	}
}

// judgeRetained compares the retained messages.
func (w *world) judgeRetained() {
	found := map[string]bool{}
	for m := range w.broker.Retained("#") {
		n := w.retained[m.Topic]
		if n == nil || n.payload != string(m.Payload) || n.qos != m.QoS || n.from != m.PublisherID || n.expired(w.now()) {
			w.fail("%q is retained on %q with %v; want %+v", m.Payload, m.Topic, m.QoS, n)
		}
		found[m.Topic] = true
	}
	for topic, n := range w.retained {
		if !found[topic] && !n.expired(w.now()) {
			w.fail("%q is not retained on %q", n.payload, topic)
		}
	}
}
