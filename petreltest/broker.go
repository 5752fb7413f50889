package petreltest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/listeners"
)

// patience is how long a test waits for anything before it fails.
const patience = 5 * time.Second

// Broker is a broker that ends with its test. Make one with [Start] or
// [StartInMemory].
type Broker struct {
	// The addresses for clients, such as "mqtt://127.0.0.1:41873",
	// "mqtts://127.0.0.1:41874" and "ws://127.0.0.1:41875/mqtt". They stay the
	// same after [Broker.Restart], and are empty after [StartInMemory].
	URL    string
	TLSURL string
	WSURL  string

	t       testing.TB
	options petrel.Options // complete, for every broker there will be
	output  *output
	watch   *watch
	conns   *connections
	pool    *x509.CertPool
	pipe    *listeners.PipeListener
	doors   []net.Listener // the pipe included
	done    chan struct{}  // closed at the end of the test
	wg      sync.WaitGroup // an accept loop for each door, and all connections

	mu     sync.Mutex
	broker *petrel.Broker
	up     chan struct{} // closed while broker takes connections
}

// Start starts a broker that listens on free ports of 127.0.0.1, and shuts it
// down in t.Cleanup. The test fails if the broker does not end then, because a
// hook does not return. Inside a testing/synctest bubble, use [StartInMemory].
//
// At most one Options may be given. If its Hooks have no authenticator of
// either kind, auth.AllowAll is added; if it has no Logger, the log goes to
// t.Output, at level debug.
func Start(t testing.TB, options ...petrel.Options) *Broker {
	t.Helper()
	b := StartInMemory(t, options...)
	cert, pool, err := newCertificate()
	if err != nil {
		t.Fatalf("petreltest: make a certificate: %v", err)
	}
	b.pool = pool
	const free = "127.0.0.1:0"
	b.URL = "mqtt://" + b.open(listeners.TCP(free))
	b.TLSURL = "mqtts://" + b.open(listeners.TLS(free, &tls.Config{Certificates: []tls.Certificate{cert}}))
	ws := listeners.WebSocketOptions{AllowAnyOrigin: true, Logger: b.options.Logger}
	b.WSURL = "ws://" + b.open(listeners.WebSocketListen(free, ws)) + "/mqtt"
	return b
}

// StartInMemory is [Start] without the sockets: [Broker.Dial] is the only way to
// the broker. In a testing/synctest bubble it must be used instead of Start,
// within the bubble, since time does not pass there while somebody waits for a
// socket.
func StartInMemory(t testing.TB, options ...petrel.Options) *Broker {
	t.Helper()
	if len(options) > 1 {
		t.Fatalf("petreltest: %d Options; at most one is possible", len(options))
	}
	var o petrel.Options
	if len(options) == 1 {
		o = options[0]
	}
	b := &Broker{
		t: t, output: &output{w: t.Output()}, conns: newConnections(), pool: x509.NewCertPool(), pipe: listeners.Pipe(),
		done: make(chan struct{}), up: make(chan struct{}),
	}
	b.watch = newWatch(b.conns)
	b.options = b.complete(o)
	b.start()
	t.Cleanup(b.end)
	b.open(b.pipe, nil)
	return b
}

// complete fills in what the options leave to this package. The hook of this
// package comes last, so that an error about a hook names its place in the
// list that the caller knows.
func (b *Broker) complete(o petrel.Options) petrel.Options {
	o.Hooks = slices.Clone(o.Hooks)
	if !slices.ContainsFunc(o.Hooks, authenticates) {
		o.Hooks = append(o.Hooks, auth.AllowAll{})
	}
	o.Hooks = append(o.Hooks, b.watch)
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(b.output, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return o
}

func authenticates(h petrel.Hook) bool {
	switch h.(type) {
	case petrel.Authenticator, petrel.EnhancedAuthenticator:
		return true
	}
	return false
}

// start makes a broker and lets connections in.
func (b *Broker) start() {
	b.t.Helper()
	broker, err := petrel.New(b.options)
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broker = broker
	close(b.up)
}

// open accepts connections from l, and returns its address.
func (b *Broker) open(l net.Listener, err error) string {
	b.t.Helper()
	if err != nil {
		b.t.Fatalf("petreltest: %v", err)
	}
	b.doors = append(b.doors, l)
	b.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.wg.Go(func() { b.serve(conn) })
		}
	})
	return l.Addr().String()
}

// serve gives a connection to the broker. The listeners are not the broker's
// own, so that their ports stay taken while it restarts: whoever connects then
// waits here.
func (b *Broker) serve(raw net.Conn) {
	b.mu.Lock()
	up := b.up
	b.mu.Unlock()
	select {
	case <-up:
	case <-b.done:
	}
	c, refused := b.conns.add(raw)
	if c == nil {
		raw.Close()
		return
	}
	defer b.conns.remove(c)
	if refused {
		refuse(c)
		return
	}
	_ = b.Broker().ServeConn(c.wire()) // why it ended is in the log
}

// Broker returns the broker itself. After [Broker.Restart] it is another one.
func (b *Broker) Broker() *petrel.Broker {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.broker
}

// CertPool returns the certificates that a client has to trust to connect to
// TLSURL: one that was made on the fly, for localhost, 127.0.0.1 and ::1. After
// [StartInMemory] there are none.
func (b *Broker) CertPool() *x509.CertPool { return b.pool.Clone() }

// Dial returns a connection to the broker that is in memory, with the addresses
// of a listeners.Pipe. Nothing is buffered: who writes to it waits until the
// broker has read, and has to read what the broker writes. It may be called by
// any goroutine; after the end of the test the connection is closed already.
func (b *Broker) Dial() net.Conn {
	conn, err := b.pipe.Dial(context.Background())
	if err != nil {
		conn, _ = net.Pipe()
		conn.Close()
	}
	return conn
}

// Restart shuts the broker down and starts another one with the same options
// and addresses. Clients lose their connections, those of MQTT 5.0 with a
// DISCONNECT of 0x8B (server shutting down) first, and can connect again at
// once. Sessions, subscriptions and retained messages are lost with the broker,
// as they are in memory. The messages that came before still count for
// [Broker.WaitFor] and [Broker.Messages], and a client that is stalled stays so.
//
// The hooks are the same values in both brokers.
func (b *Broker) Restart() {
	b.t.Helper()
	b.mu.Lock()
	b.up = make(chan struct{})
	b.mu.Unlock()
	if err := b.shutdown(); err != nil {
		b.t.Fatal(err)
	}
	b.start()
}

func (b *Broker) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return b.Broker().Shutdown(ctx)
}

// end ends everything that Start began.
func (b *Broker) end() {
	close(b.done)
	for _, l := range b.doors {
		l.Close()
	}
	b.conns.resumeAll()
	err := b.shutdown()
	b.conns.close()
	b.output.end()
	if err != nil {
		b.t.Error(err) // and somebody hangs, who must not hang the test
		return
	}
	b.wg.Wait()
}

// output is the output of a test until its end; what comes later is lost, as it
// would be a panic.
type output struct {
	mu sync.Mutex
	w  io.Writer // nil after the end
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.w == nil {
		return len(p), nil
	}
	return o.w.Write(p)
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.w = nil
}
