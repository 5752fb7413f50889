package petrel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/petrelmq/petrel/internal/engine"
	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/topics"
)

// Broker is an MQTT broker. Make one with [New], give it connections with
// [Broker.Serve] and its kin, and end it with [Broker.Shutdown] or
// [Broker.Close]. All methods may be called from any goroutine, at any time.
//
// Lock order: journal.bracket → Broker.mu, shard.mu and memory.shedding → session.mu →
// retained.mu → outbound.mu → journal.mu, alarms.mu, owners.mu, memory.mu. No lock is
// held across I/O, a hook, or a send that may block.
type Broker struct {
	opts      Options
	log       logger
	hooks     *chain
	door      *door // of connections whose listener has no options
	alarms    *alarms
	directory *directory
	tree      *topics.Tree[subscription]
	retained  retained
	journal   *journal // nil without a store
	stats     stats
	sys       sys
	memory    memory
	serials   atomic.Uint64
	policy    atomic.Uint64 // counts the calls of Reauthorize
	revoked   revocations
	batches   sync.Pool
	engine    *engine.Engine
	ctx       context.Context // of hooks that no connection causes; ends with the broker
	cancel    context.CancelFunc

	mu        sync.Mutex
	closed    bool
	listeners map[engine.Acceptor]struct{}
	clients   map[*Client]struct{} // every open connection, CONNECT seen or not
	open      map[string]*int      // of those, how many came by the listeners of a name
	wg        sync.WaitGroup       // all goroutines; Add under mu, or by one of them
	ended     chan struct{}        // closed when all of them have returned after closed was set
}

// New makes a broker. It refuses options that cannot be meant, and a hook that
// fits none of the interfaces.
func New(o Options) (*Broker, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	hooks, err := compile(o.Hooks)
	if err != nil {
		return nil, err
	}
	b := &Broker{
		opts:      o,
		log:       newLogger(o.Logger),
		hooks:     hooks,
		alarms:    newAlarms(),
		directory: newDirectory(),
		tree:      topics.NewTree[subscription](),
		listeners: make(map[engine.Acceptor]struct{}),
		clients:   make(map[*Client]struct{}),
		open:      make(map[string]*int),
		ended:     make(chan struct{}),
	}
	b.memory.limit = b.opts.MemoryLimit
	b.directory.owners.init(&b.opts)
	b.door, _ = b.newDoor(ListenerOptions{}) // which nothing is wrong with
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.engine = engine.New(engine.Config{
		Rounds:   func() engine.Round { return b.batch() },
		Spawn:    b.spawn,
		Panicked: func(reason any) { b.log.panicked("a connection", reason) },
		Loops:    o.Engine != GoroutineEngine,
		Alone:    hooks.mayWait(),
	})
	b.retained.init(b)
	if len(hooks.store) > 0 {
		b.journal = newJournal(b, hooks.store[0])
		if err := b.restore(); err != nil {
			b.cancel()
			b.engine.Close()
			b.alarms.close()
			return nil, fmt.Errorf("petrel: restore: %w", err)
		}
		b.journal.start()
	}
	b.sys.init(b)
	return b, nil
}

func (b *Broker) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// sleep waits, and reports false if the broker was closed meanwhile.
func (b *Broker) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-b.ctx.Done():
		return false
	}
}

// spawn runs f on a goroutine that the end of the broker waits for. The caller
// is one of those itself, or holds a count by enter.
func (b *Broker) spawn(f func()) {
	b.wg.Add(1)
	go func() {
		defer b.wg.Done()
		defer func() {
			if r := recover(); r != nil {
				b.log.panicked("a job", r)
			}
		}()
		f()
	}()
}

// begin is spawn for an alarm, whose goroutine is not counted. It does nothing
// once the broker is closed.
func (b *Broker) begin(f func()) {
	if b.enter() {
		defer b.wg.Done()
		b.spawn(f)
	}
}

// enter counts a call of the host in, so that the end of the broker waits for
// it, or reports false if the broker is closed.
func (b *Broker) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.wg.Add(1)
	return true
}

// Shutdown ends the broker in order: it closes the listeners, sends each 5.0
// client a DISCONNECT with 0x8B behind what its socket still takes, and waits
// until all connections and all calls of hooks have ended. When ctx ends before
// that, it goes on as [Broker.Close] does and returns the error of ctx.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.stop()
	select {
	case <-b.ended:
		b.cancel()
		return nil
	case <-ctx.Done():
	}
	return errors.Join(fmt.Errorf("petrel: shutdown: %w", ctx.Err()), b.Close())
}

// Close ends the broker now: listeners and connections are closed, and the
// contexts of hooks are cancelled. It waits until everything has ended, but not
// longer than 5 seconds for hooks that ignore their context; then it returns an
// error. It may be called more than once.
func (b *Broker) Close() error {
	b.stop()
	b.cancel()
	b.mu.Lock()
	for c := range b.clients {
		c.conn.Abort()
	}
	b.mu.Unlock()
	t := time.NewTimer(closePatience)
	defer t.Stop()
	select {
	case <-b.ended:
		return nil
	case <-t.C:
		return errors.New("petrel: close: a hook is still running")
	}
}

const closePatience = 5 * time.Second

// stop takes no more connections and ends those that there are.
func (b *Broker) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	for a := range b.listeners {
		a.Close()
	}
	for c := range b.clients {
		c.stop(packets.ServerShuttingDown)
	}
	b.journal.end()
	go func() {
		b.wg.Wait()
		b.engine.Close()
		b.alarms.close()
		if err := b.journal.close(); err != nil {
			b.log.Error("petrel: closing the store", "error", err)
		}
		close(b.ended)
	}()
}

// Publish gives a message to all matching sessions, and keeps it if m.Retain is
// set, as if a client had published it; no hook is asked, as the host is
// trusted. When it returns nil, every copy is sent, queued or reported as
// dropped, and what has to be in the [Store] is. It refuses an invalid message with an error that is a [ReasonCode].
//
// It may be called from hooks, with the context they were given: by that the
// depth of hooks that publish, and are called because of it, is bounded to 8.
func (b *Broker) Publish(ctx context.Context, m Message) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("petrel: publish to %q: %w", m.Topic, err)
	}
	depth := depthOf(ctx)
	if depth >= maximumDepth {
		return fmt.Errorf("petrel: publish to %q: hooks publish in a circle: %w", m.Topic, packets.ImplementationSpecificError)
	}
	if err := m.check(&b.opts); err != nil {
		return fmt.Errorf("petrel: publish to %q: %w", m.Topic, err)
	}
	if !b.enter() {
		return ErrBrokerClosed
	}
	defer b.wg.Done()
	bt := b.batch()
	bt.depth = depth + 1
	code := b.publishFromHost(bt, &m)
	after := bt.journaled
	bt.finish()
	if code.IsError() {
		return fmt.Errorf("petrel: publish to %q: %w", m.Topic, code)
	}
	if err := b.journal.wait(ctx, after); err != nil {
		return fmt.Errorf("petrel: publish to %q: it is sent, but not in the store: %w", m.Topic, err)
	}
	return nil
}

// maximumDepth bounds how deep publications from hooks may nest.
const maximumDepth = 8

type depthKey struct{}

// depthOf is how many publications are above one with this context.
func depthOf(ctx context.Context) int {
	depth, _ := ctx.Value(depthKey{}).(int)
	return depth
}

// context is given to hooks that are called because of a publication.
func (bt *batch) context() context.Context {
	if bt.depth == 0 {
		return bt.broker.ctx
	}
	return context.WithValue(bt.broker.ctx, depthKey{}, bt.depth)
}

// ClientInfo is what is known of a session and of the client that it belongs to,
// at one moment.
type ClientInfo struct {
	ID            string
	Identity      string
	Connected     bool // what follows up to KeepAlive is zero if it is not
	UserName      string
	Version       Version
	Peer          Peer
	Since         time.Time     // of the connection
	KeepAlive     time.Duration // in force; 0 means none
	Subscriptions int
	Queued        int // messages that wait to be sent
	QueuedBytes   int
	Inflight      int // messages that were sent and not acknowledged to the end
}

// Clients yields every session, with its client if it is connected. No lock is
// held while the loop's body runs.
func (b *Broker) Clients() iter.Seq[ClientInfo] {
	return func(yield func(ClientInfo) bool) {
		for s := range b.directory.all() {
			if info, ok := s.info(); ok && !yield(info) {
				return
			}
		}
	}
}

func (s *session) info() (ClientInfo, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info := ClientInfo{
		ID: s.id, Identity: s.identity, Subscriptions: len(s.subs.all()),
		Queued: s.queue.messages(), QueuedBytes: s.queue.size(), Inflight: int(s.flights.n),
	}
	if c := s.client; c != nil {
		info.Connected = true
		info.UserName, info.Version, info.Peer = c.userName, c.version, c.Peer()
		info.Since = s.broker.alarms.time(c.since)
		info.KeepAlive = max(time.Duration(c.keepAlive.Load()), 0) * 2 / 3
	}
	return info, !s.ended
}

// Disconnect ends the connection of the client with the identifier. A 5.0
// client is sent a DISCONNECT with the [ReasonCode] in reason's tree, 0x98
// (administrative action) if reason is nil, and what a [*Refusal] says beside
// it. The session stays, and a will is published, as the client asked for.
func (b *Broker) Disconnect(clientID string, reason error) error {
	s := b.directory.get(clientID)
	if s == nil {
		return fmt.Errorf("petrel: disconnect %q: %w", clientID, ErrNoSuchClient)
	}
	c := s.ownedBy()
	if c == nil {
		return fmt.Errorf("petrel: disconnect %q: %w", clientID, ErrNoSuchClient)
	}
	if reason == nil {
		reason = packets.AdministrativeAction
	}
	c.stop(reason)
	return nil
}

// Retained yields the retained messages whose topics match filter, in a fixed
// order of topics. No lock is held while the loop's body runs. An invalid
// filter matches nothing.
func (b *Broker) Retained(filter string) iter.Seq[*Message] {
	return func(yield func(*Message) bool) {
		if topics.CheckFilter(filter, 0) != nil {
			return
		}
		for _, m := range b.retained.index.All(filter) {
			now := b.alarms.now()
			if m.expired(now) {
				continue
			}
			var p publication
			p.from(m, nil)
			if !yield(p.public(now)) {
				return
			}
		}
	}
}
