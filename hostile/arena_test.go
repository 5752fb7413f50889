package hostile

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/packets"
)

const (
	kB = 1 << 10
	mB = 1 << 20

	// perConn is what a connection may cost in the middle of a packet, in bytes of
	// heap, beside what the options say: a read buffer of 32 kB and its books, and
	// the attacker's end, which is in this process too.
	perConn = 48 * kB
	// slack is what else may be on the heap, such as buffers in pools.
	slack = 16 * mB
	// patience is how long anything may take before a test fails. Nothing is said
	// about how long it should.
	patience = time.Minute
)

// attack is one way to harm a broker.
type attack struct {
	name    string
	options petrel.Options
	bound   func(n int, o *petrel.Options) int64 // bytes of heap that n attackers may cost while it lasts
	doors   []door                               // nil means all of plain MQTT
	n       int                                  // attackers
	run     func(a *arena)                       // returns when it is at its worst; what it opened stays open until then
}

// door is a way into the broker.
type door struct {
	name   string
	engine petrel.Engine
	open   func(t *testing.T, b *petrel.Broker) (dial func() (net.Conn, error))
}

var plainDoors = []door{
	{"loops over TCP", petrel.AutoEngine, openTCP},
	{"goroutines in memory", petrel.GoroutineEngine, openMemory},
}

func openTCP(t *testing.T, b *petrel.Broker) func() (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serve(b, l)
}

// serve lets b serve l until it is closed.
func serve(b *petrel.Broker, l net.Listener) func() (net.Conn, error) {
	go func() { _ = b.Serve(l) }()
	return func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }
}

func openMemory(_ *testing.T, b *petrel.Broker) func() (net.Conn, error) {
	return func() (net.Conn, error) {
		client, server := net.Pipe()
		go func() { _ = b.ServeConn(server) }()
		return client, nil
	}
}

// arena is a broker under attack.
type arena struct {
	t    *testing.T
	b    *petrel.Broker
	o    petrel.Options
	n    int
	r    *rand.Rand
	open func() (net.Conn, error)
	pair *pair

	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup // of the attackers' goroutines
}

// stage runs an attack on one door, and holds the broker to what it promises.
func (k attack) stage(t *testing.T, d door, seed uint64) {
	goroutines := runtime.NumGoroutine()
	o := k.options
	o.Engine, o.SysInterval = d.engine, -1
	o.Hooks = append([]petrel.Hook{auth.AllowAll{}}, o.Hooks...)
	o.Logger = slog.New(slog.DiscardHandler)
	b, err := petrel.New(o)
	if err != nil {
		t.Fatal(err)
	}
	a := &arena{t: t, b: b, o: o, n: k.n, r: rand.New(rand.NewPCG(seed, 0)), open: d.open(t, b)}
	defer func() {
		a.closeAll()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	a.pair = a.newPair()
	a.exchange(9)
	before := liveHeap()
	k.run(a)
	a.exchange(30)
	cost, bound := liveHeap()-before, k.bound(k.n, &o)+slack
	t.Logf("%d attackers cost %d kB of %d kB", k.n, cost/kB, bound/kB)
	if cost > bound {
		t.Errorf("the attack costs %d bytes of heap; at most %d is right", cost, bound)
	}
	a.closeAll()
	a.until("only the pair is connected", func() bool { return b.Stats().ClientsConnected == 2 })
	a.exchange(9)
	a.pair.end()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	a.until("all goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// liveHeap is what is on the heap after a collection, in bytes.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // what pools gave up in the first
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

// until waits for what has to become so.
func (a *arena) until(what string, ok func() bool) {
	a.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if err := a.pair.broken(); err != nil {
			a.t.Fatalf("the pair: %v", err)
		}
		if time.Now().After(end) {
			a.t.Fatalf("still not so after %v: %s", patience, what)
		}
	}
}

// exchange waits until the pair has exchanged n more messages.
func (a *arena) exchange(n int64) {
	a.t.Helper()
	from := a.pair.count.Load()
	a.until("the pair exchanges messages", func() bool { return a.pair.count.Load() >= from+n })
}

// dial opens a connection of an attacker.
func (a *arena) dial() net.Conn {
	conn, err := a.open()
	if err != nil {
		a.t.Fatal(err)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(patience))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns = append(a.conns, conn)
	return conn
}

// connect opens one and connects; what else the broker sends is not read.
func (a *arena) connect(p packets.Connect) net.Conn {
	conn := a.dial()
	p.Version = packets.V5
	a.write(conn, encode(&p))
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if packet, err := readPacket(conn); err != nil {
		a.t.Fatalf("no CONNACK: %v", err)
	} else if ack, ok := packet.(*packets.Connack); !ok || ack.Reason != packets.Success {
		a.t.Fatalf("got %+v; want CONNACK", packet)
	}
	return conn
}

// write writes what the broker has to take, unless it closes the connection.
func (a *arena) write(conn net.Conn, b []byte) {
	if _, err := conn.Write(b); errors.Is(err, errTimeout) {
		a.t.Errorf("the broker does not read: %v", err)
	}
}

// swallow reads and forgets what the broker sends.
func (a *arena) swallow(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Time{})
	a.wg.Go(func() { _, _ = io.Copy(io.Discard, conn) })
}

// ended waits until the broker has closed every connection of the attack.
func (a *arena) ended() {
	a.mu.Lock()
	conns := a.conns
	a.mu.Unlock()
	for i, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); err != nil && errors.Is(err, errTimeout) {
			a.t.Fatalf("connection %d is still open", i)
		}
	}
}

func (a *arena) closeAll() {
	a.mu.Lock()
	conns := a.conns
	a.conns = nil
	a.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
	a.wg.Wait()
}

// each runs f for every attacker, some at a time.
func (a *arena) each(f func(i int)) {
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < a.n; i += 8 {
				f(i)
			}
		})
	}
	wg.Wait()
}

func encode(list ...packets.Packet) (b []byte) {
	for _, p := range list {
		var err error
		if b, err = p.AppendTo(b, packets.V5); err != nil {
			panic(fmt.Sprintf("encode %v: %v", p.Type(), err))
		}
	}
	return b
}

// readPacket reads one packet, byte by byte up to its body.
func readPacket(r io.Reader) (packets.Packet, error) {
	var head []byte
	for {
		head = append(head, 0)
		if _, err := io.ReadFull(r, head[len(head)-1:]); err != nil {
			return nil, err
		}
		h, n, err := packets.DecodeHeader(head)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			continue
		}
		body := make([]byte, h.Remaining)
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, err
		}
		p := packets.New(h.Type)
		return p, p.Decode(h.Flags, body, packets.V5)
	}
}
