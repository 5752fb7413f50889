package petrel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/engine"
	"github.com/petrelmq/petrel/packets"
)

// anybody admits everybody.
type anybody struct{}

func (anybody) Authenticate(context.Context, *ConnectRequest) error { return nil }

// newOutbound returns the outbound side of a client whose connection is conn.
func newOutbound(t *testing.T, conn net.Conn, o Options) *outbound {
	t.Helper()
	o.Hooks, o.SysInterval, o.Logger = []Hook{anybody{}}, -1, slog.New(slog.DiscardHandler)
	b, err := New(o)
	require.NoError(t, err)
	c := newClient(b, b.engine.Stream(conn))
	t.Cleanup(func() {
		conn.Close()
		require.NoError(t, b.Close()) // the writers are counted
	})
	return &c.out
}

func (f *frames) flat() []byte { return slices.Concat(f.buffers()...) }

func TestFramesAfterEveryByte(t *testing.T) {
	for name, f := range map[string]*frames{
		"bytes only":            {b: []byte("abcdef")},
		"reference at the end":  {b: []byte("abc"), refs: []reference{{3, []byte("XYZ")}}},
		"reference in front":    {b: []byte("abc"), refs: []reference{{0, []byte("XYZ")}}},
		"reference between":     {b: []byte("abcdef"), refs: []reference{{3, []byte("XYZ")}}},
		"two side by side":      {b: []byte("abcdef"), refs: []reference{{3, []byte("XY")}, {3, []byte("Z")}}},
		"references only":       {refs: []reference{{0, []byte("XY")}, {0, []byte("Z")}}},
		"bytes and two, spread": {b: []byte("abcdef"), refs: []reference{{2, []byte("XY")}, {5, []byte("Z")}}},
		"full ones before":      {full: net.Buffers{[]byte("ab"), []byte("c")}, b: []byte("def"), refs: []reference{{1, []byte("XY")}}},
	} {
		t.Run(name, func(t *testing.T) {
			whole := f.flat()
			require.Len(t, whole, f.total())
			for n := range len(whole) + 1 {
				require.Equal(t, string(whole[n:]), string(slices.Concat(f.after(n)...)), "after %d bytes", n)
			}
			require.Equal(t, whole, f.flat(), "it is unchanged")
		})
	}
}

// Packets of all sizes, pushed and moved, are the bytes that they were.
func TestFramesInChunks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	large := make([]byte, 3*keepUpTo)
	for i := range large {
		large[i] = byte(r.Uint32())
	}
	f, want := new(frames), []byte(nil)
	for range 300 {
		g, moved := f, r.IntN(4) == 0
		if moved {
			g = new(frames)
		}
		for range 1 + r.IntN(4) {
			size := r.IntN(1 << (4 + r.IntN(15)))
			at := r.IntN(len(large) - size)
			head := []byte{1, 0, 0, byte(size)}
			id := uint16(r.Uint32())
			g.add(head, content{b: large[at : at+size], kept: r.IntN(2) == 0}, 1, id)
			binary.BigEndian.PutUint16(head[1:], id)
			want = append(append(want, head...), large[at:at+size]...)
		}
		if moved {
			f = f.append(g)
		}
		require.Equal(t, len(want), f.total())
	}
	require.True(t, bytes.Equal(want, f.flat()))
	require.Equal(t, want[0], f.first())
	require.NotEmpty(t, f.full)
	at := r.IntN(len(want))
	require.True(t, bytes.Equal(want[at:], slices.Concat(f.after(at)...)), "after %d bytes", at)
}

// Frames hold a buffer that a payload lies in until they are recycled, wherever
// they are moved, and release it as often as they have retained it.
func TestFramesHoldWhatIsLent(t *testing.T) {
	payload := bytes.Repeat([]byte("x"), shareFrom)
	held := func(b *engine.Buffer) (n int) {
		defer func() { _ = recover() }()
		for ; n < 100; n++ {
			b.Release()
		}
		return n
	}
	for _, tt := range []struct {
		name    string
		fill    func(f *frames, b *engine.Buffer) *frames
		holders int // until f is recycled
	}{
		{"small", func(f *frames, b *engine.Buffer) *frames {
			f.add([]byte("head"), content{b: payload[1:], lent: b}, 0, 0)
			return f
		}, 0},
		{"large", func(f *frames, b *engine.Buffer) *frames {
			f.add([]byte("head"), content{b: payload, lent: b}, 0, 0)
			return f
		}, 1},
		{"kept", func(f *frames, b *engine.Buffer) *frames {
			f.add([]byte("head"), content{b: payload, kept: true}, 0, 0)
			return f
		}, 0},
		{"in a chunk that is full", func(f *frames, b *engine.Buffer) *frames {
			f.add([]byte("head"), content{b: payload, lent: b}, 0, 0)
			f.add(make([]byte, keepUpTo), content{b: payload, lent: b}, 0, 0)
			return f
		}, 2},
		{"moved", func(f *frames, b *engine.Buffer) *frames {
			g := framesPool.Get().(*frames)
			g.add([]byte("head"), content{b: payload, lent: b}, 0, 0)
			f.add([]byte("head"), content{b: payload, lent: b}, 0, 0)
			return f.append(g)
		}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := new(engine.Buffer)
			f := tt.fill(new(frames), b)
			require.Len(t, f.lent, tt.holders)
			f.recycle()
			require.Empty(t, f.lent)
			require.Zero(t, held(b), "holders that recycle has left")

			b = new(engine.Buffer)
			tt.fill(new(frames), b)
			require.Equal(t, tt.holders, held(b), "holders until recycle")
		})
	}
}

// What waits for a client that does not read is not copied again and again.
func TestFramesAreNotCopiedAsTheyGrow(t *testing.T) {
	const packet, n = 4 << 10, 1 << 10
	payload := make([]byte, packet)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f := new(frames)
	for range n {
		f.add([]byte{0}, content{b: payload}, 0, 0)
	}
	runtime.ReadMemStats(&after)
	require.Equal(t, n*(packet+1), f.total())
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2*n*packet))
}

// Whatever pushes, flushes and refuses bytes: what was pushed arrives whole, in order, once.
func TestOutboundKeepsOrder(t *testing.T) {
	const pushers, each = 8, 400
	for _, network := range []string{"pipe", "tcp"} {
		t.Run(network, func(t *testing.T) {
			client, server := connectionPair(t, network)
			o := newOutbound(t, server, Options{})
			var mu sync.Mutex // what the lock of the session is
			var want bytes.Buffer
			shared := bytes.Repeat([]byte("0123456789abcdef"), shareFrom/16)
			push := func(i int) {
				mu.Lock()
				defer mu.Unlock()
				head := []byte{0xAA, 0, 0, 0xBB}
				payload := shared[:i*7%200]
				if i%50 == 0 {
					payload = shared
				}
				id := uint16(i + 1)
				o.push(head, content{b: payload, kept: i%100 == 0}, 1, id)
				binary.BigEndian.PutUint16(head[1:], id)
				want.Write(head)
				want.Write(payload)
			}
			var got bytes.Buffer
			read := make(chan error, 1)
			go func() {
				_, err := io.CopyBuffer(&got, struct{ io.Reader }{client}, make([]byte, 777))
				read <- err
			}()
			var wg sync.WaitGroup
			for p := range pushers {
				wg.Go(func() {
					for i := range each {
						push(p*each + i)
						if i%3 != 0 {
							o.flush()
						}
					}
					o.flush()
				})
			}
			wg.Wait()
			o.close()
			require.Zero(t, o.waiting())
			server.Close()
			require.NoError(t, <-read)
			require.True(t, bytes.Equal(want.Bytes(), got.Bytes()), "got %d bytes; want the %d that were pushed", got.Len(), want.Len())
		})
	}
}

func connectionPair(t *testing.T, network string) (client, server net.Conn) {
	t.Helper()
	if network == "pipe" {
		return net.Pipe()
	}
	l, err := net.Listen(network, "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err = net.Dial(network, l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	server, err = l.Accept()
	require.NoError(t, err)
	return client, server
}

func TestOutboundRoom(t *testing.T) {
	for _, c := range []struct {
		name   string
		pushed int
		room   bool
		held   bool
	}{
		{"nothing", 0, true, false},
		{"one byte below the limit", 99, true, false},
		{"the limit", 100, false, false},
		{"one byte above the limit", 101, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, server := net.Pipe()
			o := newOutbound(t, server, Options{OutboundBytes: 100})
			if c.pushed > 0 {
				mustFlush, size := o.push(make([]byte, c.pushed), content{}, 0, 0)
				require.True(t, mustFlush)
				require.Equal(t, c.pushed, size)
			}
			require.Equal(t, c.room, o.room())
			require.Equal(t, c.held, o.held() != nil)
		})
	}
}

func TestOutboundFlushIsPromisedOnce(t *testing.T) {
	client, server := net.Pipe()
	o := newOutbound(t, server, Options{})
	first, _ := o.push([]byte("a"), content{}, 0, 0)
	second, _ := o.push([]byte("b"), content{}, 0, 0)
	require.True(t, first)
	require.False(t, second, "the first has promised to flush")
	o.flush()
	got := make([]byte, 2)
	_, err := io.ReadFull(client, got)
	require.NoError(t, err)
	require.Equal(t, "ab", string(got))
	again, _ := o.push([]byte("c"), content{}, 0, 0)
	require.True(t, again)
}

func TestOutboundHoldEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(o *outbound, client net.Conn)
	}{
		{"when it is half empty", func(_ *outbound, client net.Conn) { client.Read(make([]byte, 101)) }},
		{"when the connection breaks", func(_ *outbound, client net.Conn) { client.Close() }},
		{"when the connection ends", func(o *outbound, _ net.Conn) { o.client.stop(packets.AdministrativeAction) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				o := newOutbound(t, server, Options{OutboundBytes: 100})
				o.push(make([]byte, 101), content{}, 0, 0)
				o.flush()
				hold := o.held()
				require.NotNil(t, hold)
				require.Equal(t, hold, o.held(), "all wait for the same")
				synctest.Wait()
				select {
				case <-hold:
					t.Fatal("it ended before anything was read")
				default:
				}
				c.end(o, client)
				<-hold
			})
		})
	}
}

func TestOutboundTakesNothingBehindTheLastPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		o := newOutbound(t, server, Options{})
		o.push([]byte("before,"), content{}, 0, 0)
		o.pushLast([]byte("last"))
		mustFlush, size := o.push([]byte("behind"), content{}, 0, 0)
		require.False(t, mustFlush)
		require.Zero(t, size)
		got := make(chan []byte)
		go func() {
			b, _ := io.ReadAll(client)
			got <- b
		}()
		o.close()
		server.Close()
		require.Equal(t, "before,last", string(<-got))
	})
}

// The last packet is not lost when the writer is between two writes as the
// connection closes.
func TestOutboundCloseWaitsForWhatIsBetweenTwoWrites(t *testing.T) {
	for range 3000 {
		client, server := net.Pipe()
		o := newOutbound(t, server, Options{})
		got := make(chan string)
		go func() {
			b, _ := io.ReadAll(client)
			got <- string(b)
		}()
		o.push([]byte("first,"), content{}, 0, 0)
		o.flush()
		o.pushLast([]byte("last"))
		o.flush()
		o.close()
		server.Close()
		require.Equal(t, "first,last", <-got)
	}
}

// Between two writes nobody writes, and yet something is pending.
func TestOutboundIsNotIdleBetweenTwoWrites(t *testing.T) {
	_, server := net.Pipe()
	o := newOutbound(t, server, Options{})
	o.push([]byte("first,"), content{}, 0, 0)
	first := o.take()
	o.pushLast([]byte("last"))
	require.True(t, o.finish(first.total(), nil), "more is pending")
	idle := o.untilIdle()
	require.NotNil(t, idle)
	last := o.take()
	require.Equal(t, "last", string(last.flat()))
	require.False(t, o.finish(last.total(), nil))
	<-idle
	require.Nil(t, o.untilIdle())
}

// A peer that does not read is given lastWords, and no more.
func TestOutboundCloseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, server := net.Pipe()
		o := newOutbound(t, server, Options{})
		o.push([]byte("unread"), content{}, 0, 0)
		o.flush()
		start := time.Now()
		o.close()
		require.Equal(t, lastWords, time.Since(start))
		require.Zero(t, o.waiting())
		require.True(t, o.client.ending.Load())
	})
}

// stumbling is a connection that fails after some writes.
type stumbling struct {
	net.Conn
	left int
}

var errStumbled = errors.New("stumbled")

func (s *stumbling) Write(b []byte) (int, error) {
	if s.left--; s.left < 0 {
		return len(b) / 2, errStumbled
	}
	return len(b), nil
}

func TestOutboundWriteFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, server := net.Pipe()
		o := newOutbound(t, &stumbling{server, 1}, Options{})
		o.push([]byte("arrives"), content{}, 0, 0)
		o.flush()
		synctest.Wait()
		require.False(t, o.client.ending.Load())
		o.push([]byte("does not"), content{}, 0, 0)
		o.flush()
		synctest.Wait()
		require.ErrorIs(t, o.client.outcome(), errStumbled)
		require.Zero(t, o.waiting())
		mustFlush, _ := o.push([]byte("late"), content{}, 0, 0)
		require.False(t, mustFlush, "nothing more is taken")
		o.close() // and does not wait
	})
}

// At rest a connection holds no buffer.
func TestOutboundAtRestHoldsNothing(t *testing.T) {
	client, server := connectionPair(t, "tcp")
	o := newOutbound(t, server, Options{})
	for range 3 {
		o.push(make([]byte, 1000), content{}, 0, 0)
		o.flush()
		_, err := io.ReadFull(client, make([]byte, 1000))
		require.NoError(t, err)
		o.mu.Lock()
		require.Nil(t, o.pending)
		require.False(t, o.writing)
		require.Zero(t, o.waiting())
		o.mu.Unlock()
	}
}
