package petrel_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// roleVariable names in the environment what this process plays in a benchmark.
const roleVariable = "PETREL_TEST_ROLE"

var benchmarkRoles = map[string]func(){"broker": playBroker}

// BenchmarkPublish is the way of a message from a publisher's socket to those of
// its subscribers and, with QoS 1 and 2, of all acknowledgements. An operation
// is one message published.
func BenchmarkPublish(b *testing.B) {
	for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
		for _, subscribers := range []int{1, 100} {
			b.Run(fmt.Sprintf("QoS%d/1to%d", qos, subscribers), func(b *testing.B) { benchmarkPublish(b, qos, subscribers) })
		}
	}
}

// BenchmarkHooks is what hooks cost a QoS 0 message: those that want none cost nothing.
func BenchmarkHooks(b *testing.B) {
	observer := publishObserver(func(*petrel.Client, *petrel.Message) {})
	interceptor := intercept(func(context.Context, *petrel.PublishRequest) error { return nil })
	authorizer := access(func(*petrel.AccessRequest) error { return nil })
	ten := make([]petrel.Hook, 10)
	for i := range ten {
		ten[i] = interceptor
	}
	for _, bc := range []struct {
		name  string
		hooks []petrel.Hook
	}{
		{"none", nil},
		{"ten that want other events", []petrel.Hook{
			new(dropRecorder), new(dropRecorder), new(dropRecorder), new(dropRecorder), new(dropRecorder),
			new(dropRecorder), new(dropRecorder), new(dropRecorder), new(dropRecorder), new(dropRecorder),
		}},
		{"one observer", []petrel.Hook{observer}},
		{"one authorizer", []petrel.Hook{authorizer}},
		{"one interceptor", []petrel.Hook{interceptor}},
		{"ten interceptors", ten},
	} {
		b.Run(bc.name, func(b *testing.B) { benchmarkPublish(b, packets.AtMostOnce, 1, bc.hooks...) })
	}
}

// pipelined is how many messages a publisher has on their way.
const pipelined = 100

func benchmarkPublish(b *testing.B, qos packets.QoS, subscribers int, hooks ...petrel.Hook) {
	broker := brokertest.New(b, petrel.Options{Logger: silent(), Hooks: hooks})
	addr := serveTCP(b, broker.Broker)
	var wg sync.WaitGroup
	done := make([]chan struct{}, subscribers) // one for each round received
	for i := range done {
		conn := dialMQTT(b, addr, packets.Connect{Version: packets.V5, ClientID: fmt.Appendf(nil, "sub%d", i), CleanStart: true})
		subscribeMQTT(b, conn, packets.V5, "a/b", qos)
		done[i] = make(chan struct{}, 1)
		wg.Go(func() { receiveAll(conn, done[i]) })
		defer conn.Close()
	}
	pub := dialMQTT(b, addr, packets.Connect{Version: packets.V5, ClientID: []byte("pub"), CleanStart: true})
	var publish, release []byte
	var err error
	for i := range pipelined {
		p := packets.Publish{Topic: []byte("a/b"), Payload: make([]byte, 100), QoS: qos}
		if qos > packets.AtMostOnce {
			p.PacketID = uint16(i + 1)
		}
		publish, err = p.AppendTo(publish, packets.V5)
		require.NoError(b, err)
		release, err = (&packets.Pubrel{PacketID: uint16(i + 1)}).AppendTo(release, packets.V5)
		require.NoError(b, err)
	}
	answers := make([]byte, pipelined*4) // PUBACK, PUBREC and PUBCOMP of success
	b.SetBytes(100)
	b.ReportAllocs()
	sent := 0
	for ; sent < b.N; sent += pipelined {
		if _, err := pub.Write(publish); err != nil {
			b.Fatal(err)
		}
		if qos > packets.AtMostOnce {
			if _, err := io.ReadFull(pub, answers); err != nil {
				b.Fatal(err)
			}
		}
		if qos == packets.ExactlyOnce {
			if _, err := pub.Write(release); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(pub, answers); err != nil {
				b.Fatal(err)
			}
		}
		for _, d := range done {
			if _, ok := <-d; !ok {
				b.Fatal("a subscriber has lost its connection")
			}
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(sent*subscribers)/b.Elapsed().Seconds(), "deliveries/s")
	for i := range done {
		require.Empty(b, done[i], "more was delivered than published")
	}
	require.NoError(b, broker.Close())
	wg.Wait()
}

// receiveAll answers what comes, and tells done of each whole round.
func receiveAll(conn net.Conn, done chan<- struct{}) {
	defer close(done)
	r := bufio.NewReaderSize(conn, 64<<10)
	var answers []byte
	var p packets.Publish
	var rel packets.Pubrel
	body := make([]byte, 0, 1024)
	finished := 0
	for {
		h, err := readHeader(r)
		if err != nil {
			return
		}
		body = body[:h.Remaining]
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		switch h.Type {
		case packets.TypePublish:
			if p.Decode(h.Flags, body, packets.V5) != nil {
				return
			}
			switch p.QoS {
			case packets.AtMostOnce:
				finished++
			case packets.AtLeastOnce:
				finished++
				answers = append(answers, 0x40, 2, byte(p.PacketID>>8), byte(p.PacketID))
			case packets.ExactlyOnce:
				answers = append(answers, 0x50, 2, byte(p.PacketID>>8), byte(p.PacketID))
			}
		case packets.TypePubrel:
			if rel.Decode(h.Flags, body, packets.V5) != nil {
				return
			}
			finished++
			answers = append(answers, 0x70, 2, byte(rel.PacketID>>8), byte(rel.PacketID))
		}
		if r.Buffered() == 0 && len(answers) > 0 || finished == pipelined {
			if _, err := conn.Write(answers); err != nil {
				return
			}
			answers = answers[:0]
		}
		if finished == pipelined {
			finished = 0
			done <- struct{}{}
		}
	}
}

func readHeader(r *bufio.Reader) (packets.Header, error) {
	for n := 2; ; n++ {
		b, err := r.Peek(n)
		if err != nil {
			return packets.Header{}, err
		}
		h, used, err := packets.DecodeHeader(b)
		if err != nil || used > 0 {
			r.Discard(used)
			return h, err
		}
	}
}

// BenchmarkConnect is the whole life of a connection: TCP, CONNECT, SUBSCRIBE, DISCONNECT.
func BenchmarkConnect(b *testing.B) {
	for _, c := range []struct {
		name    string
		durable bool
	}{{"clean", false}, {"durable", true}} {
		b.Run(c.name, func(b *testing.B) {
			broker := brokertest.New(b, petrel.Options{Logger: silent()})
			addr := serveTCP(b, broker.Broker)
			var id int
			b.ReportAllocs()
			for b.Loop() {
				id++
				p := packets.Connect{Version: packets.V5, ClientID: fmt.Appendf(nil, "client-%d", id%1000), CleanStart: !c.durable}
				if c.durable {
					p.SessionExpiryInterval = 3600
				}
				conn := openMQTT(b, addr, p)
				subscribeMQTT(b, conn, packets.V5, fmt.Sprintf("a/%d", id%1000), packets.AtLeastOnce)
				sendMQTT(b, conn, packets.V5, &packets.Disconnect{})
				conn.Close()
			}
		})
	}
}

// BenchmarkIdleConnections is the resident memory of one more TCP client that has
// one subscription and does nothing. The broker is a process of its own, so that
// the clients' side does not count; what its garbage collector could give back
// is given back before it is measured.
func BenchmarkIdleConnections(b *testing.B) {
	if _, err := os.Stat("/proc/self/statm"); err != nil {
		b.Skip("resident memory is read from /proc")
	}
	const clients = 10_000
	for b.Loop() {
		broker := startBroker(b)
		first := openMQTT(b, broker.addr, brokertest.ID("first")) // what is made once is there
		before := broker.memory(b)
		conns := make([]net.Conn, clients)
		for i := range conns {
			p := brokertest.ID(fmt.Sprintf("client-%d", i))
			p.KeepAlive = 3600
			conns[i] = openMQTT(b, broker.addr, p)
			subscribeMQTT(b, conns[i], packets.V5, fmt.Sprintf("devices/%d/commands", i), packets.AtLeastOnce)
		}
		after := broker.memory(b)
		require.Equal(b, clients+1, after.clients)
		b.ReportMetric(float64(after.resident-before.resident)/clients, "B/conn")
		b.ReportMetric(float64(after.heap-before.heap)/clients, "heap-B/conn")
		b.ReportMetric(float64(after.stacks-before.stacks)/clients, "stack-B/conn")
		b.ReportMetric(0, "ns/op")
		for _, c := range append(conns, first) {
			c.Close()
		}
		broker.stop(b)
	}
}

// brokerProcess is a broker in another process, which plays the role "broker".
type brokerProcess struct {
	cmd    *exec.Cmd
	ask    io.WriteCloser
	answer *bufio.Scanner
	addr   string
}

func startBroker(b *testing.B) *brokerProcess {
	b.Helper()
	self, err := os.Executable()
	require.NoError(b, err)
	p := &brokerProcess{cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), roleVariable+"=broker")
	p.cmd.Stderr = os.Stderr
	p.ask, err = p.cmd.StdinPipe()
	require.NoError(b, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, p.cmd.Start())
	p.answer = bufio.NewScanner(out)
	require.True(b, p.answer.Scan(), "the broker has started")
	p.addr = p.answer.Text()
	return p
}

func (p *brokerProcess) stop(b *testing.B) {
	b.Helper()
	require.NoError(b, p.ask.Close())
	require.NoError(b, p.cmd.Wait())
}

// footprint is what a broker process holds, in bytes.
type footprint struct {
	resident, heap, stacks int64
	clients                int
}

func (p *brokerProcess) memory(b *testing.B) (f footprint) {
	b.Helper()
	_, err := io.WriteString(p.ask, "memory\n")
	require.NoError(b, err)
	require.True(b, p.answer.Scan())
	_, err = fmt.Sscan(p.answer.Text(), &f.resident, &f.heap, &f.stacks, &f.clients)
	require.NoError(b, err)
	return f
}

// playBroker serves a port that it prints, and prints its footprint for each
// line that it reads, until there are no more.
func playBroker() {
	b, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{everybody{}}, Logger: silent(), SysInterval: -1})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go b.Serve(l)
	fmt.Println(l.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Println(residentBytes(), m.HeapAlloc, m.StackInuse, b.Stats().ClientsConnected)
	}
	b.Close()
}

type everybody struct{}

func (everybody) Authenticate(context.Context, *petrel.ConnectRequest) error { return nil }

// residentBytes is the resident memory of this process.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
