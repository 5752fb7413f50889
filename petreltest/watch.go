package petreltest

import (
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/topics"
)

var (
	_ petrel.PublishObserver      = (*watch)(nil)
	_ petrel.ConnectionObserver   = (*watch)(nil)
	_ petrel.SessionObserver      = (*watch)(nil)
	_ petrel.SubscriptionObserver = (*watch)(nil)
)

// watch is the hook by which a test sees what happens in its broker.
type watch struct {
	conns *connections

	mu       sync.Mutex
	taken    []*taken
	clients  map[string]*petrel.Client      // those that are connected, by identifier
	filters  map[string]map[string]struct{} // of the last session with an identifier, ended or not
	happened chan struct{}                  // closed when anything of this changes
}

// taken is a message that the broker took.
type taken struct {
	Message
	returned bool // by WaitFor
}

func newWatch(c *connections) *watch {
	return &watch{
		conns: c, clients: make(map[string]*petrel.Client), filters: make(map[string]map[string]struct{}),
		happened: make(chan struct{}),
	}
}

// await waits until there is what somebody waits for, or patience ends.
func (w *watch) await(there func() bool) bool {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		w.mu.Lock()
		happened := w.happened
		w.mu.Unlock()
		if there() {
			return true
		}
		select {
		case <-happened:
		case <-timeout.C:
			return there()
		}
	}
}

func (w *watch) happenedLocked() {
	close(w.happened)
	w.happened = make(chan struct{})
}

// MessagePublished implements [petrel.PublishObserver].
func (w *watch) MessagePublished(_ *petrel.Client, m *petrel.Message) { w.record(*m) }

func (w *watch) record(m petrel.Message) *taken {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := &taken{Message: Message{m}}
	w.taken = append(w.taken, t)
	w.happenedLocked()
	return t
}

// forget takes back a message that was not published after all.
func (w *watch) forget(t *taken) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken = slices.DeleteFunc(w.taken, func(other *taken) bool { return other == t })
}

// take returns the first message that matches filter and was not returned before.
func (w *watch) take(filter string) (Message, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.taken {
		if !t.returned && topics.Match(filter, t.Topic) {
			t.returned = true
			return t.Message, true
		}
	}
	return Message{}, false
}

// messages yields all messages so far, and whether WaitFor has returned them.
func (w *watch) messages(yield func(m Message, returned bool) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.taken {
		if !yield(t.Message, t.returned) {
			return
		}
	}
}

// ClientConnected implements [petrel.ConnectionObserver]. It is called before
// CONNACK is sent.
func (w *watch) ClientConnected(c *petrel.Client) {
	w.conns.name(c.Peer().RemoteAddr, c.ID())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clients[c.ID()] = c
	w.happenedLocked()
}

// ClientDisconnected implements [petrel.ConnectionObserver].
func (w *watch) ClientDisconnected(c *petrel.Client, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.clients[c.ID()] == c {
		delete(w.clients, c.ID())
	}
	w.happenedLocked()
}

// client returns the connected client with an identifier, or nil.
func (w *watch) client(id string) *petrel.Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clients[id]
}

func (w *watch) clientIDs() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.clients))
}

// SessionChanged implements [petrel.SessionObserver]. Only the beginning of a
// session is told in order with what happens in it; that it has ended is
// asked of the broker.
func (w *watch) SessionChanged(e *petrel.SessionEvent) {
	if e.Kind != petrel.SessionCreated {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.filters[e.ClientID] = make(map[string]struct{})
}

// Subscribed implements [petrel.SubscriptionObserver].
func (w *watch) Subscribed(c *petrel.Client, s petrel.Subscription) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.filters[c.ID()] == nil {
		w.filters[c.ID()] = make(map[string]struct{})
	}
	w.filters[c.ID()][s.Filter] = struct{}{}
	w.happenedLocked()
}

// Unsubscribed implements [petrel.SubscriptionObserver].
func (w *watch) Unsubscribed(c *petrel.Client, filter string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.filters[c.ID()], filter)
}

// subscriptions yields the filters of all sessions, and the identifiers of the
// clients that they belong to.
func (w *watch) subscriptions(b *petrel.Broker) iter.Seq2[string, string] {
	return func(yield func(filter, client string) bool) {
		for c := range b.Clients() {
			if c.Subscriptions == 0 {
				continue // what is known may be of a session before
			}
			for _, filter := range w.filtersOf(c.ID) {
				if !yield(filter, c.ID) {
					return
				}
			}
		}
	}
}

func (w *watch) filtersOf(client string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.filters[client]))
}
