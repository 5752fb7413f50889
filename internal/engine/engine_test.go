package engine_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/engine"
)

// record is a protocol with two bytes of length in front of each packet.
type record struct {
	conn    engine.Conn
	got     [][]byte
	hold    chan struct{}
	came    chan struct{} // gets one for each packet
	mayWait atomic.Bool
	inData  func()           // called by Data, if it is set
	lent    []*engine.Buffer // that got is in, as far as the record retains
	retains int              // packets of at most so many bytes
	err     error            // that Data returns
	ended   chan error
	over    chan struct{} // closed when it has ended
	lingers bool          // it may wait at its end
}

func newRecord() *record {
	return &record{came: make(chan struct{}, 1<<16), ended: make(chan error, 1), over: make(chan struct{})}
}

func (r *record) Data(_ engine.Round, b []byte, of *engine.Buffer) (used, need int, err error) {
	if r.inData != nil {
		r.inData()
	}
	for {
		rest := b[used:]
		if len(rest) < 2 {
			return used, 0, r.err
		}
		size := 2 + int(binary.BigEndian.Uint16(rest))
		if len(rest) < size {
			return used, size, r.err
		}
		got := bytes.Clone(rest[2:size])
		if size-2 <= r.retains && of != nil {
			of.Retain()
			r.lent = append(r.lent, of)
			got = rest[2:size]
		}
		r.got = append(r.got, got)
		used += size
		r.came <- struct{}{}
	}
}

func (r *record) Hold() <-chan struct{} {
	h := r.hold
	r.hold = nil
	if h == nil {
		return nil
	}
	return h
}

func (r *record) MayWait() bool { return r.mayWait.Load() }

func (r *record) Ended(err error, aside func(func())) {
	end := func() {
		r.conn.Close(0)
		r.ended <- err
		close(r.over)
	}
	if r.lingers {
		aside(end)
	} else {
		end()
	}
}

func packet(payload []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(payload))), payload...)
}

// rounds counts how many are begun and not finished.
type rounds struct{ open, all atomic.Int64 }

func (r *rounds) Finish() { r.open.Add(-1) }

// host runs an engine for a test.
type host struct {
	*engine.Engine
	rounds  rounds
	spawned atomic.Int64 // goroutines
	wg      sync.WaitGroup
}

func newHost(t *testing.T, c engine.Config) *host {
	h := new(host)
	c.Rounds = func() engine.Round {
		h.rounds.open.Add(1)
		h.rounds.all.Add(1)
		return &h.rounds
	}
	c.Spawn = func(f func()) {
		h.spawned.Add(1)
		h.wg.Go(f)
	}
	c.Panicked = func(reason any) { t.Errorf("panic: %v", reason) }
	h.Engine = engine.New(c)
	t.Cleanup(func() {
		h.wg.Wait()
		h.Close()
		require.Zero(t, h.rounds.open.Load(), "rounds that have no end")
	})
	return h
}

// kinds are the kinds of connections that the engine tells apart.
func kinds() []string {
	if engine.HasLoops {
		return []string{"pipe", "tcp", "loop"}
	}
	return []string{"pipe", "tcp"}
}

// connect returns a connection of the kind, which has not started.
func (h *host) connect(t *testing.T, kind string) (client net.Conn, server engine.Conn) {
	t.Helper()
	if kind == "pipe" {
		client, conn := net.Pipe()
		t.Cleanup(func() { client.Close() })
		return client, h.Stream(conn)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	if kind == "tcp" {
		conn, err := l.Accept()
		require.NoError(t, err)
		return client, h.Stream(conn)
	}
	a := h.Acceptor(l)
	server, err = a.Accept()
	require.NoError(t, err)
	require.NoError(t, a.Close())
	require.Nil(t, server.NetConn(), "a loop serves it")
	return client, server
}

// eachKind runs f with a connection of each kind that is served by a record,
// as it was set up by prepare.
func eachKind(t *testing.T, prepare func(r *record), f func(t *testing.T, client net.Conn, r *record)) {
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t, engine.Config{Loops: true})
			r := newRecord()
			if prepare != nil {
				prepare(r)
			}
			var client net.Conn
			client, r.conn = h.connect(t, kind)
			r.conn.Start(r)
			f(t, client, r)
			client.Close()
			<-r.over // nothing is spawned any more
		})
	}
}

func send(t *testing.T, conn net.Conn, b []byte) {
	t.Helper()
	_, err := conn.Write(b)
	require.NoError(t, err)
}

func TestEachPacketIsHandledWhenItsLastByteHasCome(t *testing.T) {
	stream := append(packet([]byte("first")), packet(nil)...)
	stream = append(stream, packet([]byte("x"))...)
	for cut := 1; cut < len(stream); cut++ {
		for width := 1; width <= 3; width++ {
			t.Run(fmt.Sprintf("cut at %d then by %d", cut, width), func(t *testing.T) {
				eachKind(t, nil, func(t *testing.T, client net.Conn, r *record) {
					send(t, client, stream[:cut])
					for at := cut; at < len(stream); at += width {
						send(t, client, stream[at:min(at+width, len(stream))])
					}
					for range 3 { // while the connection is open
						<-r.came
					}
					client.Close()
					require.Error(t, <-r.ended)
					require.Equal(t, [][]byte{[]byte("first"), {}, []byte("x")}, r.got)
				})
			})
		}
	}
}

func TestPacketsLargerThanTheBuffer(t *testing.T) {
	eachKind(t, nil, func(t *testing.T, client net.Conn, r *record) {
		large := bytes.Repeat([]byte("0123456789"), 6500)
		send(t, client, append(packet(large), packet([]byte("next"))...))
		<-r.came
		<-r.came
		require.Equal(t, [][]byte{large, []byte("next")}, r.got)
	})
}

// A packet whose buffer is retained stays what it is while others are received,
// and holds no more memory than it is worth.
func TestPacketsInRetainedBuffers(t *testing.T) {
	for _, most := range []int{32 << 10, 1 << 16} {
		t.Run(fmt.Sprintf("of at most %d bytes", most), func(t *testing.T) { testRetainedBuffers(t, most) })
	}
}

func testRetainedBuffers(t *testing.T, most int) {
	retain := func(r *record) { r.retains = most }
	eachKind(t, retain, func(t *testing.T, client net.Conn, r *record) {
		var sizes []int
		// 20,000 behind 65,535: the one is not to be kept in the buffer of the other.
		for _, size := range []int{16 << 10, 40_000, 1, 65_535, 65_535, 300, 20_000, 32 << 10, 65_535, 20_000, 65_535, 100, 33_000} {
			sizes = append(sizes, size, size)
		}
		expected := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, sizes[i]) }
		var stream []byte
		for i := range sizes {
			stream = append(stream, packet(expected(i))...)
		}
		send(t, client, stream)
		for range sizes {
			<-r.came
		}
		client.Close()
		<-r.ended
		require.NotEmpty(t, r.lent)
		for i, got := range r.got {
			if !bytes.Equal(expected(i), got) {
				t.Fatalf("packet %d has %d bytes %.8q; want %d of %q", i, len(got), got, sizes[i], rune('a'+i))
			}
			if len(got) >= 16<<10 && len(got) <= most {
				require.LessOrEqual(t, cap(got), 2*(len(got)+8<<10), "of packet %d", i)
			}
		}
		for _, b := range r.lent {
			b.Release()
		}
		require.Panics(t, r.lent[0].Release, "nobody holds it any more")
	})
}

// What a Handler that may wait has received is handled aside, and then by the loop again.
func TestPacketsWhileTheHandlerMayWait(t *testing.T) {
	eachKind(t, func(r *record) { r.mayWait.Store(true) }, func(t *testing.T, client net.Conn, r *record) {
		for i := range 100 {
			r.mayWait.Store(i%3 == 0)
			send(t, client, packet([]byte{byte(i)}))
			<-r.came
		}
		client.Close()
		<-r.ended
		require.Len(t, r.got, 100)
	})
}

func TestWhyItEnded(t *testing.T) {
	enough := errors.New("enough")
	for name, c := range map[string]struct {
		prepare func(r *record)
		end     func(client net.Conn, r *record)
		want    error
	}{
		"closed by the peer":   {nil, func(client net.Conn, _ *record) { client.Close() }, io.EOF},
		"error of the handler": {func(r *record) { r.err = enough }, func(client net.Conn, _ *record) { client.Write(packet(nil)) }, enough},
		"error aside":          {func(r *record) { r.mayWait.Store(true); r.err = enough }, func(client net.Conn, _ *record) { client.Write(packet(nil)) }, enough},
	} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, c.prepare, func(t *testing.T, client net.Conn, r *record) {
				c.end(client, r)
				require.ErrorIs(t, <-r.ended, c.want)
			})
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		eachKind(t, nil, func(t *testing.T, client net.Conn, r *record) {
			r.conn.Interrupt()
			require.True(t, engine.IsTimeout(<-r.ended))
		})
	})
	t.Run("interrupted while it is handled", func(t *testing.T) {
		goOn := make(chan struct{})
		began := make(chan struct{}, 1)
		eachKind(t, func(r *record) {
			r.mayWait.Store(true)
			r.inData = func() { began <- struct{}{}; <-goOn }
		}, func(t *testing.T, client net.Conn, r *record) {
			send(t, client, packet(nil))
			<-began
			r.conn.Interrupt()
			goOn <- struct{}{}
			require.True(t, engine.IsTimeout(<-r.ended))
		})
	})
	t.Run("aborted", func(t *testing.T) {
		eachKind(t, nil, func(t *testing.T, client net.Conn, r *record) {
			r.conn.Abort()
			require.Error(t, <-r.ended)
		})
	})
}

// On a loop, a connection that comes, says something and goes needs a goroutine only
// where it may wait.
func TestGoroutinesOfAConnection(t *testing.T) {
	for _, c := range []struct {
		name             string
		mayWait, lingers bool
		onLoop           int64
	}{
		{"it waits for nothing", false, false, 0},
		{"it may wait with a packet", true, false, 1},
		{"it may wait at its end", false, true, 1},
		{"both", true, true, 2},
	} {
		for _, kind := range kinds() {
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				h := newHost(t, engine.Config{Loops: true})
				r := newRecord()
				r.lingers = c.lingers
				r.mayWait.Store(c.mayWait)
				r.inData = func() { r.mayWait.Store(false) }
				var client net.Conn
				client, r.conn = h.connect(t, kind)
				r.conn.Start(r)
				for range 3 {
					send(t, client, packet([]byte("said")))
					<-r.came
				}
				client.Close()
				require.ErrorIs(t, <-r.ended, io.EOF)
				want := int64(1) // the one that reads
				if kind == "loop" {
					want = c.onLoop
				}
				require.Equal(t, want, h.spawned.Load())
			})
		}
	}
}

func TestHoldStopsReading(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t, engine.Config{Loops: true})
			release := make(chan struct{})
			r := newRecord()
			r.hold = release
			var client net.Conn
			client, r.conn = h.connect(t, kind)
			r.conn.Start(r)
			send(t, client, packet([]byte("one")))
			<-r.came
			if kind == "pipe" { // a write is a read of the other side
				require.NoError(t, client.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
				n, err := client.Write(packet([]byte("two")))
				require.True(t, engine.IsTimeout(err), "the engine must not read while it is held")
				require.Zero(t, n)
				require.NoError(t, client.SetWriteDeadline(time.Time{}))
			} else {
				send(t, client, packet([]byte("two")))
				refuses(t, client) // as the engine does not read
				require.Empty(t, r.came)
			}
			close(release)
			if kind == "pipe" {
				send(t, client, packet([]byte("two")))
			}
			<-r.came
			client.Close()
			<-r.ended
			require.Equal(t, [][]byte{[]byte("one"), []byte("two")}, r.got[:2])
		})
	}
}

// refuses fills what the kernel buffers of a connection nobody reads from.
func refuses(t *testing.T, client net.Conn) {
	t.Helper()
	chunk := packet(make([]byte, 60_000))
	require.NoError(t, client.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	for range 4096 {
		if _, err := client.Write(chunk); err != nil {
			require.True(t, engine.IsTimeout(err))
			return
		}
	}
	t.Fatal("240 MB were written to an engine that is held")
}

func TestTryWriteDoesNotBlock(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t, engine.Config{Loops: true})
			_, server := h.connect(t, kind)
			defer server.Close(0)
			chunk := make([]byte, 64<<10)
			for range 4096 { // far more than a socket buffers
				n, err := server.TryWrite(net.Buffers{chunk})
				require.NoError(t, err)
				if n < len(chunk) {
					return
				}
			}
			t.Fatal("256 MiB were written to a peer that does not read")
		})
	}
}

// pages is a Writer that has so many pages to write.
type pages struct {
	left, wrote int
	total       int
	err         error
	done        chan struct{}
}

func (p *pages) Wrote(n int, err error) {
	p.wrote++
	p.total += n
	if p.err = err; err != nil {
		close(p.done)
	}
}

func (p *pages) Next() net.Buffers {
	if p.left == 0 {
		close(p.done)
		return nil
	}
	p.left--
	return net.Buffers{page[:1], page[1:]}
}

var page = bytes.Repeat([]byte("0123456789abcdef"), 64<<10)

func TestDrainWritesAsTheSocketTakesIt(t *testing.T) {
	for _, withRest := range []bool{true, false} {
		t.Run(fmt.Sprintf("rest %v", withRest), func(t *testing.T) {
			for _, kind := range kinds() {
				t.Run(kind, func(t *testing.T) {
					h := newHost(t, engine.Config{Loops: true})
					client, server := h.connect(t, kind)
					w := &pages{left: 3, done: make(chan struct{})}
					want := bytes.Repeat(page, 3)
					var rest net.Buffers
					if withRest {
						rest = net.Buffers{page[:7]}
						want = append(page[:7:7], want...)
					}
					server.Drain(rest, w)
					got := make([]byte, len(want))
					_, err := io.ReadFull(client, got)
					require.NoError(t, err)
					require.True(t, bytes.Equal(want, got))
					<-w.done
					require.NoError(t, w.err)
					require.Equal(t, len(want), w.total)
					server.Close(0)
				})
			}
		})
	}
}

func TestAbortEndsADrain(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t, engine.Config{Loops: true})
			_, server := h.connect(t, kind)
			w := &pages{left: 1000, done: make(chan struct{})}
			server.Drain(nil, w)
			server.Abort()
			<-w.done
			require.Error(t, w.err)
			server.Close(0)
		})
	}
}

// The peer hears the last words, although it has sent what nobody reads.
func TestCloseWithPatience(t *testing.T) {
	for _, kind := range kinds() {
		if kind == "pipe" {
			continue // it has no writing side to close
		}
		t.Run(kind, func(t *testing.T) {
			h := newHost(t, engine.Config{Loops: true})
			client, server := h.connect(t, kind)
			send(t, client, make([]byte, 1000))
			_, err := server.TryWrite(net.Buffers{[]byte("fare"), []byte("well")})
			require.NoError(t, err)
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				server.Close(time.Hour)
			}()
			got, err := io.ReadAll(client)
			require.NoError(t, err)
			require.Equal(t, "farewell", string(got))
			select {
			case <-closed:
				t.Fatal("it did not wait for the peer")
			default:
			}
			client.Close()
			<-closed
		})
	}
}

func TestPatienceRunsOut(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t, engine.Config{Loops: true})
			client, server := h.connect(t, kind)
			server.Close(time.Millisecond)
			_, err := io.ReadAll(client)
			require.NoError(t, err)
		})
	}
}

// A Handler that blocks holds up its own connection, and no other.
func TestOneThatBlocksHoldsUpNobodyElse(t *testing.T) {
	for _, alone := range []bool{true, false} {
		t.Run(fmt.Sprintf("alone %v", alone), func(t *testing.T) {
			h := newHost(t, engine.Config{Loops: true, Alone: alone})
			goOn := make(chan struct{})
			var stuck []*record
			var clients []net.Conn
			serve := func(r *record) net.Conn {
				client, server := h.connect(t, kinds()[len(kinds())-1])
				r.conn = server
				server.Start(r)
				return client
			}
			for range 4 * runtime.GOMAXPROCS(0) {
				r := newRecord()
				r.inData = func() { <-goOn }
				c := serve(r)
				send(t, c, packet([]byte("stuck")))
				stuck, clients = append(stuck, r), append(clients, c)
				for range runtime.GOMAXPROCS(0) { // one of each loop
					free := newRecord()
					other := serve(free)
					send(t, other, packet([]byte("free")))
					<-free.came
					other.Close()
					<-free.ended
				}
			}
			for i, c := range clients {
				send(t, c, packet([]byte("more")))
				require.Empty(t, stuck[i].came)
			}
			close(goOn)
			for i, c := range clients {
				<-stuck[i].came
				<-stuck[i].came
				c.Close()
				<-stuck[i].ended
			}
		})
	}
}

// Many connections come, talk and go at once, and each packet arrives.
func TestManyAtOnce(t *testing.T) {
	h := newHost(t, engine.Config{Loops: true})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	a := h.Acceptor(l)
	var got atomic.Int64
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			conn, err := a.Accept()
			if err != nil {
				return
			}
			r := newRecord()
			r.conn = conn
			r.inData = func() { r.mayWait.Store(len(r.got)%2 == 0) }
			h.wg.Go(func() {
				<-r.ended
				got.Add(int64(len(r.got)))
			})
			conn.Start(r)
		}
	}()
	const clients, each = 200, 50
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			for i := range each {
				p := packet(make([]byte, i))
				for cut := range 2 {
					if _, err := conn.Write(p[cut*len(p)/2 : (cut+1)*len(p)/2]); err != nil {
						t.Error(err)
					}
				}
			}
			conn.Close()
		})
	}
	wg.Wait()
	end := time.Now().Add(20 * time.Second)
	for got.Load() < clients*each && time.Now().Before(end) {
		runtime.Gosched()
	}
	require.NoError(t, a.Close())
	<-accepted
	require.EqualValues(t, clients*each, got.Load())
}

func TestCatchUpIsBehindWhatWasSent(t *testing.T) {
	eachKind(t, nil, func(t *testing.T, client net.Conn, r *record) {
		for i := range 200 {
			send(t, client, packet([]byte("x")))
			r.conn.CatchUp(time.Minute)
			require.Len(t, r.got, i+1)
		}
		client.Close()
		r.conn.CatchUp(time.Minute)
		<-r.ended
		r.conn.CatchUp(time.Minute) // of a connection that has ended
	})
}

// A Handler that is at work, or holds, is waited for no longer than patience allows.
func TestCatchUpHasLimitedPatience(t *testing.T) {
	for name, prepare := range map[string]func(r *record, until chan struct{}){
		"at work": func(r *record, until chan struct{}) { r.inData = func() { <-until } },
		"holding": func(r *record, until chan struct{}) { r.hold = until },
	} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range kinds() {
				t.Run(kind, func(t *testing.T) {
					h, r, until := newHost(t, engine.Config{Loops: true}), newRecord(), make(chan struct{})
					prepare(r, until)
					var client net.Conn
					client, r.conn = h.connect(t, kind)
					r.conn.Start(r)
					send(t, client, packet([]byte("x")))
					r.conn.CatchUp(2 * time.Millisecond)
					close(until)
					<-r.came
					client.Close()
					require.ErrorIs(t, <-r.ended, io.EOF)
					require.Len(t, r.got, 1)
				})
			}
		})
	}
}
