package storetest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

const (
	queueSessions = 10              // that are offline while their queues are filled
	queuePayload  = 100             // bytes
	queueMemory   = int64(64 << 20) // Options.MemoryLimit
)

// BenchmarkLongQueue fills the queues of sessions that are offline with b.N messages,
// half of which are for all of them, starts the broker anew, lets the sessions come back
// and drain their queues, fills them again, and ends the sessions. For each step it
// prints how long it took, and what it needed of memory and disk.
func BenchmarkLongQueue(b *testing.B, open Open) {
	if b.N < 2*queueSessions {
		return // the first round, which only finds out whether it works
	}
	q := &longQueue{b: b, open: open, dir: b.TempDir()}
	fmt.Printf("\n%d messages of %d bytes for %d sessions, memory limit %d MiB\n", b.N, queuePayload, queueSessions, queueMemory>>20)
	fmt.Printf("%-14s%9s%12s%14s%14s%13s%12s\n", "", "seconds", "messages/s", "live heap MiB", "peak anon MiB", "mapped MiB", "files MiB")
	b.ResetTimer()
	q.start()
	for i := range queueSessions {
		benchVisit(b, q.broker, queueID(i), queueID(i), "all")
	}
	q.step("filling", q.fill)
	q.stop()
	q.step("start", q.start)
	q.step("draining", q.drain)
	q.step("filling again", q.fill)
	q.step("ending", q.end)
	q.stop()
}

func queueID(i int) string { return fmt.Sprintf("queue-%d", i) }

type longQueue struct {
	b      *testing.B
	open   Open
	dir    string
	broker *petrel.Broker
}

func (q *longQueue) start() {
	s, err := q.open(q.dir)
	if err != nil {
		q.b.Fatal(err)
	}
	q.broker, err = petrel.New(petrel.Options{
		Logger: slog.New(slog.DiscardHandler), SysInterval: -1, Sync: petrel.SyncInterval(time.Second),
		QueueMessages: -1, QueueBytes: -1, MemoryLimit: queueMemory,
		Hooks: []petrel.Hook{s, petrel.AuthenticatorFunc(func(context.Context, *petrel.ConnectRequest) error { return nil })},
	})
	if err != nil {
		q.b.Fatal(err)
	}
}

func (q *longQueue) stop() {
	if err := q.broker.Close(); err != nil {
		q.b.Fatal(err)
	}
}

// fill publishes until b.N messages wait.
func (q *longQueue) fill() {
	const each = 2 * queueSessions // so many deliveries: half of them for one session, half for all
	parallel(q.b.N/each, func(i int) {
		for j := range queueSessions + 1 {
			topic := "all"
			if j < queueSessions {
				topic = queueID(j)
			}
			m := petrel.Message{Topic: topic, Payload: make([]byte, queuePayload), QoS: 1}
			if err := q.broker.Publish(context.Background(), m); err != nil {
				q.b.Error(err)
			}
		}
	})
	waiting := 0
	for c := range q.broker.Clients() {
		waiting += c.Queued
	}
	if want := q.b.N / each * each; waiting != want {
		q.b.Errorf("%d messages wait; want %d", waiting, want)
	}
}

// drain lets all sessions come back at once, and waits until their queues are empty.
func (q *longQueue) drain() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		q.b.Fatal(err)
	}
	defer l.Close()
	go func() { _ = q.broker.Serve(l) }()
	var received sync.WaitGroup
	received.Add(q.b.N / (2 * queueSessions) * 2 * queueSessions)
	for i := range queueSessions {
		c := benchDial(q.b, l.Addr().String())
		defer c.conn.Close()
		c.send(q.b, &packets.Connect{Version: packets.V5, ClientID: []byte(queueID(i)), SessionExpiryInterval: 1 << 20, ReceiveMaximum: 1000})
		c.expect(q.b, packets.TypeConnack)
		go c.receive(&received)
	}
	received.Wait()
	for i := range queueSessions {
		for q.inflight(queueID(i)) > 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func (q *longQueue) inflight(id string) int {
	for c := range q.broker.Clients() {
		if c.ID == id {
			return c.Inflight
		}
	}
	return 0
}

// end ends the sessions, and waits until what waited for them is gone.
func (q *longQueue) end() {
	if err := q.broker.Revoke(context.Background(), petrel.Everybody()); err != nil {
		q.b.Fatal(err)
	}
	for q.broker.Stats().Dropped[petrel.DropSessionEnded] < uint64(q.b.N/(2*queueSessions)*2*queueSessions) {
		time.Sleep(10 * time.Millisecond)
	}
}

// step runs one step and prints what it needed.
func (q *longQueue) step(name string, run func()) {
	runtime.GC()
	var peak atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			peak.Store(max(peak.Load(), resident("RssAnon")))
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	start := time.Now()
	run()
	took := time.Since(start)
	close(done)
	wg.Wait()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	const mib = 1 << 20
	fmt.Printf("%-14s%9.1f%12.0f%14.1f%14.1f%13.1f%12.1f\n", name, took.Seconds(), float64(q.b.N)/took.Seconds(),
		float64(m.HeapAlloc)/mib, float64(peak.Load())/mib, float64(resident("RssFile"))/mib, float64(sizeOf(q.b, q.dir))/mib)
}

// resident returns a part of the memory of this process, in bytes; 0 where it is not known.
func resident(what string) int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), what+":")
	n, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, _ := strconv.ParseInt(n, 10, 64)
	return kib << 10
}
