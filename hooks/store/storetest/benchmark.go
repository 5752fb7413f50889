package storetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

const (
	benchWindow    = 10  // messages that a publisher has open
	benchReceivers = 10  // sessions that share the messages
	benchPayload   = 128 // bytes
)

// Benchmark measures a broker with a store, over TCP in one process: publishers
// send QoS 1 messages, each of which is for one connected session that outlives
// the process. b.N is the number of messages. "none" is the same without a store.
func Benchmark(b *testing.B, open Open) {
	for _, publishers := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("none/publishers=%d", publishers), func(b *testing.B) { benchmark(b, publishers, nil) })
		b.Run(fmt.Sprintf("store/publishers=%d", publishers), func(b *testing.B) { benchmark(b, publishers, open) })
	}
}

func benchmark(b *testing.B, publishers int, open Open) {
	o := petrel.Options{
		Logger: slog.New(slog.DiscardHandler), SysInterval: -1, QueueMessages: -1, QueueBytes: -1,
		Hooks: []petrel.Hook{petrel.AuthenticatorFunc(func(context.Context, *petrel.ConnectRequest) error { return nil })},
	}
	if open != nil {
		s, err := open(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		o.Hooks = append(o.Hooks, s)
	}
	broker, err := petrel.New(o)
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = broker.Serve(l) }()
	addr := l.Addr().String()

	var received, acknowledged sync.WaitGroup
	received.Add(b.N)
	for i := range benchReceivers {
		c := benchConnect(b, addr, fmt.Sprintf("receiver %d", i), 3600)
		filter := packets.Subscriptions(nil).Append(packets.Subscription{Filter: fmt.Appendf(nil, "bench/%d", i), QoS: 1})
		c.send(b, &packets.Subscribe{PacketID: 1, Subscriptions: filter})
		c.expect(b, packets.TypeSuback)
		go c.receive(&received)
	}
	clients := make([]*benchClient, publishers)
	for i := range clients {
		clients[i] = benchConnect(b, addr, fmt.Sprintf("publisher %d", i), 0)
	}
	before := broker.Stats().StoreCommits
	b.ResetTimer()
	for i, c := range clients {
		n := b.N / publishers
		if i < b.N%publishers {
			n++
		}
		acknowledged.Go(func() { c.publish(b, fmt.Sprintf("bench/%d", i%benchReceivers), n) })
	}
	acknowledged.Wait()
	received.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	if commits := broker.Stats().StoreCommits - before; commits > 0 {
		b.ReportMetric(float64(b.N)/float64(commits), "messages/commit")
	}
}

// benchClient is a client that costs little.
type benchClient struct {
	conn net.Conn
	in   *bufio.Reader
	body []byte
}

func benchDial(b *testing.B, addr string) *benchClient {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return &benchClient{conn: conn, in: bufio.NewReader(conn)}
}

func benchConnect(b *testing.B, addr, id string, expiry uint32) *benchClient {
	c := benchDial(b, addr)
	c.send(b, &packets.Connect{Version: packets.V5, ClientID: []byte(id), CleanStart: true, SessionExpiryInterval: expiry, ReceiveMaximum: 1000})
	c.expect(b, packets.TypeConnack)
	return c
}

func (c *benchClient) send(b *testing.B, p packets.Packet) {
	raw, err := p.AppendTo(nil, packets.V5)
	if err == nil {
		_, err = c.conn.Write(raw)
	}
	if err != nil {
		b.Error(err)
	}
}

// next reads a packet. Its body is valid until the next call.
func (c *benchClient) next() (packets.Type, byte, []byte, error) {
	first, err := c.in.ReadByte()
	size, shift := 0, 0
	for err == nil {
		var digit byte
		if digit, err = c.in.ReadByte(); err != nil {
			break
		}
		size |= int(digit&0x7f) << shift
		if shift += 7; digit < 0x80 {
			break
		}
	}
	if err != nil {
		return 0, 0, nil, err
	}
	if cap(c.body) < size {
		c.body = make([]byte, size)
	}
	c.body = c.body[:size]
	_, err = io.ReadFull(c.in, c.body)
	return packets.Type(first >> 4), first & 0xf, c.body, err
}

func (c *benchClient) expect(b *testing.B, want packets.Type) {
	if got, _, _, err := c.next(); err != nil || got != want {
		b.Errorf("got %v, %v; want %v", got, err, want)
	}
}

// publish sends n messages and waits until they are acknowledged.
func (c *benchClient) publish(b *testing.B, topic string, n int) {
	p := packets.Publish{Topic: []byte(topic), Payload: make([]byte, benchPayload), QoS: 1}
	var raw []byte
	for sent, acked := 0, 0; acked < n; {
		raw = raw[:0]
		for sent < n && sent-acked < benchWindow {
			sent++
			p.PacketID = uint16(sent%1000 + 1)
			raw, _ = p.AppendTo(raw, packets.V5)
		}
		if len(raw) > 0 {
			if _, err := c.conn.Write(raw); err != nil {
				b.Error(err)
				return
			}
		}
		for again := true; again; again = c.in.Buffered() > 0 {
			c.expect(b, packets.TypePuback)
			acked++
		}
	}
}

// receive takes and acknowledges messages until the connection ends.
func (c *benchClient) receive(received *sync.WaitGroup) {
	var p packets.Publish
	var acks []byte
	for {
		t, flags, body, err := c.next()
		if err != nil {
			return
		}
		if t != packets.TypePublish || p.Decode(flags, body, packets.V5) != nil {
			continue
		}
		received.Done()
		acks, _ = (&packets.Puback{PacketID: p.PacketID}).AppendTo(acks, packets.V5)
		if c.in.Buffered() == 0 || len(acks) > 1000 {
			if _, err := c.conn.Write(acks); err != nil {
				return
			}
			acks = acks[:0]
		}
	}
}

// BenchmarkRestore measures how long New takes with 1,000,000 retained messages
// and 100,000 sessions, each with a subscription and a message that waits.
func BenchmarkRestore(b *testing.B, open Open) {
	const retained, sessions = 1_000_000, 100_000
	dir := b.TempDir()
	broker := benchStart(b, open, dir)
	publish := func(m petrel.Message) {
		if err := broker.Publish(context.Background(), m); err != nil {
			b.Error(err)
		}
	}
	parallel(retained, func(i int) {
		publish(petrel.Message{Topic: fmt.Sprintf("site/%d/device/%d/state", i%1000, i), Payload: make([]byte, 100), QoS: 1, Retain: true})
	})
	parallel(sessions, func(i int) {
		topic := fmt.Sprintf("to/%d", i)
		benchVisit(b, broker, fmt.Sprintf("client-%d", i), topic)
		publish(petrel.Message{Topic: topic, Payload: make([]byte, 100), QoS: 1})
	})
	if err := broker.Close(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		broker := benchStart(b, open, dir)
		b.StopTimer()
		if s := broker.Stats(); s.Retained != retained || s.Sessions != sessions || s.Subscriptions != sessions {
			b.Fatalf("restored %d retained messages, %d sessions and %d subscriptions", s.Retained, s.Sessions, s.Subscriptions)
		}
		if err := broker.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func benchStart(b *testing.B, open Open, dir string) *petrel.Broker {
	s, err := open(dir)
	if err != nil {
		b.Fatal(err)
	}
	broker, err := petrel.New(petrel.Options{
		Logger: slog.New(slog.DiscardHandler), SysInterval: -1, Sync: petrel.SyncNever,
		Hooks: []petrel.Hook{s, petrel.AuthenticatorFunc(func(context.Context, *petrel.ConnectRequest) error { return nil })},
	})
	if err != nil {
		b.Fatal(err)
	}
	return broker
}

// parallel calls do for 0 to n-1, some hundred at once.
func parallel(n int, do func(i int)) {
	const atOnce = 500
	var wg sync.WaitGroup
	for g := range atOnce {
		wg.Go(func() {
			for i := g; i < n; i += atOnce {
				do(i)
			}
		})
	}
	wg.Wait()
}

// benchVisit connects a client that subscribes and goes; its session stays.
func benchVisit(b *testing.B, broker *petrel.Broker, id string, filters ...string) {
	client, server := net.Pipe()
	ended := make(chan struct{})
	go func() { _ = broker.ServeConn(server); close(ended) }()
	c := &benchClient{conn: client, in: bufio.NewReader(client)}
	c.send(b, &packets.Connect{Version: packets.V5, ClientID: []byte(id), CleanStart: true, SessionExpiryInterval: 1 << 20, ReceiveMaximum: 10})
	c.expect(b, packets.TypeConnack)
	var list packets.Subscriptions
	for _, f := range filters {
		list = list.Append(packets.Subscription{Filter: []byte(f), QoS: 1})
	}
	c.send(b, &packets.Subscribe{PacketID: 1, Subscriptions: list})
	c.expect(b, packets.TypeSuback)
	client.Close()
	<-ended
}
