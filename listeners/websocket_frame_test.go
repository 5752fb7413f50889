package listeners_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWebSocketFramesAreOneStream(t *testing.T) {
	for _, test := range []struct {
		name   string
		frames [][]byte
		want   string
	}{
		{"one frame", [][]byte{frame(fin|binaryFrame, []byte("abc"))}, "abc"},
		{"empty frames", [][]byte{
			frame(fin|binaryFrame, nil), frame(fin|binaryFrame, []byte("a")), frame(fin|binaryFrame, nil),
			frame(fin|binaryFrame, nil), frame(fin|binaryFrame, []byte("b")),
		}, "ab"},
		{"fragments, some empty", [][]byte{
			frame(binaryFrame, nil), frame(continuation, []byte("ab")), frame(continuation, nil),
			frame(continuation, []byte("c")), frame(fin|continuation, nil), frame(fin|binaryFrame, []byte("d")),
		}, "abcd"},
		{"control frames between fragments", [][]byte{
			frame(binaryFrame, []byte("a")), frame(fin|pong, []byte("unasked")),
			frame(continuation, []byte("b")), frame(fin|pong, nil), frame(fin|continuation, []byte("c")),
		}, "abc"},
		{"length of 16 bits", [][]byte{frame(fin|binaryFrame, bytes.Repeat([]byte("x"), 126))}, string(bytes.Repeat([]byte("x"), 126))},
		{"length of 64 bits", [][]byte{frame(fin|binaryFrame, bytes.Repeat([]byte("xyz"), 30_000))}, string(bytes.Repeat([]byte("xyz"), 30_000))},
	} {
		for _, size := range []int{1, 2, 3, 14, 4096} {
			t.Run(fmt.Sprintf("%s, read by %d", test.name, size), func(t *testing.T) {
				client, server := rawPair(t)
				go func() { _, _ = client.Write(bytes.Join(test.frames, frame(fin|pong, nil))) }()
				require.Equal(t, test.want, readBy(t, server, size, len(test.want)))
			})
		}
	}
}

// readBy reads total bytes with Reads of at most size.
func readBy(t *testing.T, c net.Conn, size, total int) string {
	t.Helper()
	var got []byte
	for len(got) < total {
		p := make([]byte, size)
		n, err := c.Read(p)
		require.NoError(t, err)
		require.NotZero(t, n, "Read returned nothing")
		got = append(got, p[:n]...)
	}
	return string(got)
}

func TestWebSocketRandomSplits(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 20 {
		want := make([]byte, rnd.IntN(200_000))
		for i := range want {
			want[i] = byte(rnd.Uint32())
		}
		stream := randomFrames(rnd, want)
		sizes := make([]int, 64)
		for i := range sizes {
			sizes[i] = 1 + rnd.IntN(1<<rnd.IntN(14))
		}
		client, server := rawPair(t)
		go func() { // joined and split without regard to frames
			for i := 0; len(stream) > 0; i++ {
				n := min(len(stream), sizes[i%len(sizes)])
				if _, err := client.Write(stream[:n]); err != nil {
					return
				}
				stream = stream[n:]
			}
		}()
		got := make([]byte, 0, len(want))
		for i := 0; len(got) < len(want); i++ {
			p := make([]byte, 1+sizes[i%len(sizes)]/2)
			n, err := server.Read(p)
			require.NoError(t, err)
			got = append(got, p[:n]...)
		}
		require.True(t, bytes.Equal(got, want), "data came through changed")
	}
}

// randomFrames carries data in frames, fragments and noise.
func randomFrames(rnd *rand.Rand, data []byte) []byte {
	var stream []byte
	first := byte(binaryFrame)
	for len(data) > 0 {
		if rnd.IntN(4) == 0 {
			stream = append(stream, frame(fin|pong, make([]byte, rnd.IntN(126)))...)
		}
		n := min(len(data), rnd.IntN(1<<rnd.IntN(18)))
		if rnd.IntN(2) == 0 || n == len(data) {
			stream = append(stream, frame(fin|first, data[:n])...)
			first = binaryFrame
		} else {
			stream = append(stream, frame(first, data[:n])...)
			first = continuation
		}
		data = data[n:]
	}
	return stream
}

func TestWebSocketFrameIsStreamed(t *testing.T) {
	client, server := rawPair(t)
	// A frame of an exabyte: its start is readable without its end.
	head := binary.BigEndian.AppendUint64([]byte{fin | binaryFrame, 0x80 | 127}, 1<<60)
	client.send(t, head, []byte{0, 0, 0, 0}, []byte("start"))
	require.Equal(t, "start", readBy(t, server, 4096, 5))
}

func TestWebSocketDataWithHandshake(t *testing.T) {
	stream := bytes.Join([][]byte{frame(fin|binaryFrame, []byte("early")), frame(binaryFrame, []byte("bird"))}, nil)
	_, server := rawPair(t, stream...)
	require.Equal(t, "earlybird", readBy(t, server, 3, 9))
}

func TestWebSocketViolations(t *testing.T) {
	unmasked := []byte{fin | binaryFrame, 1, 'x'}
	tooLong := binary.BigEndian.AppendUint64([]byte{fin | binaryFrame, 0x80 | 127}, 1<<63)
	for _, test := range []struct {
		name  string
		frame []byte
		want  int
	}{
		{"text frame", frame(fin|text, []byte("x")), 1003},
		{"text fragment", frame(text, nil), 1003},
		{"unmasked frame", unmasked, 1002},
		{"first reserved bit", frame(fin|0x40|binaryFrame, nil), 1002},
		{"last reserved bit", frame(fin|0x10|binaryFrame, nil), 1002},
		{"reserved data opcode", frame(fin|3, nil), 1002},
		{"reserved control opcode", frame(fin|0xF, nil), 1002},
		{"continuation of nothing", frame(fin|continuation, nil), 1002},
		{"message inside a message", append(frame(binaryFrame, nil), frame(fin|binaryFrame, nil)...), 1002},
		{"fragmented ping", frame(ping, nil), 1002},
		{"long ping", frame(fin|ping, make([]byte, 126)), 1002},
		{"length with highest bit", append(tooLong, 0, 0, 0, 0), 1002},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, server := rawPair(t)
			client.send(t, frame(fin|binaryFrame, []byte("good")), test.frame)
			got, err := io.ReadAll(server)
			require.Equal(t, "good", string(got), "data before the violation")
			require.ErrorContains(t, err, fmt.Sprintf("status %d", test.want))
			_, again := server.Read(make([]byte, 1))
			require.Equal(t, err, again)
			client.expect(t, fin|closeFrame, status(test.want, ""))
			_, err = server.Write([]byte("late"))
			require.Error(t, err)
			require.NoError(t, server.Close())
			_, _, err = client.read()
			require.Error(t, err, "something followed the close frame")
		})
	}
}

func TestWebSocketCloseFrame(t *testing.T) {
	for _, test := range []struct {
		name       string
		sent, want []byte
	}{
		{"normal", status(1000, ""), status(1000, "")},
		{"with reason", status(3000, "bye"), status(3000, "")},
		{"without status", nil, nil},
		{"half a status", []byte{3}, status(1002, "")},
		{"status that may not be sent", status(1005, ""), status(1002, "")},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, server := rawPair(t)
			client.send(t, frame(fin|binaryFrame, []byte("last")), frame(fin|closeFrame, test.sent))
			got, err := io.ReadAll(server)
			require.NoError(t, err, "want io.EOF from Read")
			require.Equal(t, "last", string(got))
			client.expect(t, fin|closeFrame, test.want)
			_, err = server.Write([]byte("late"))
			require.ErrorIs(t, err, io.ErrClosedPipe)
			require.NoError(t, server.Close())
			_, _, err = client.read()
			require.ErrorIs(t, err, io.EOF, "close frame sent twice")
		})
	}
}

func TestWebSocketPing(t *testing.T) {
	client, server := rawPair(t)
	longest := bytes.Repeat([]byte("p"), 125)
	for _, payload := range [][]byte{nil, []byte("are you there"), longest} {
		client.send(t, frame(binaryFrame, []byte("a")), frame(fin|ping, payload), frame(fin|continuation, []byte("b")))
		require.Equal(t, "ab", readBy(t, server, 3, 2))
		client.expect(t, fin|pong, payload)
	}
}

// However many pings come at once, one pong answers them.
func TestWebSocketPingsThatComeTogether(t *testing.T) {
	c := &recorder{in: bytes.Join([][]byte{
		frame(fin|ping, []byte("one")), frame(binaryFrame, []byte("a")), frame(fin|ping, []byte("two")),
		frame(fin|ping, nil), frame(fin|ping, []byte("last")), frame(fin|continuation, []byte("b")),
	}, nil)}
	server := upgradedOn(t, func(raw net.Conn) net.Conn {
		c.Conn = raw
		return c
	})
	c.out = nil // the answer to the handshake
	require.Equal(t, "ab", readBy(t, server, 4096, 2))
	require.Equal(t, append([]byte{fin | pong, 4}, "last"...), c.out)
}

// recorder is a socket on which in has come; out is what was written.
type recorder struct {
	net.Conn
	in, out []byte
	wrote   func() // called at the end of a Write, unless it is nil
}

func (c *recorder) Read(p []byte) (int, error) {
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *recorder) Write(p []byte) (int, error) {
	c.out = append(c.out, p...)
	if c.wrote != nil {
		c.wrote()
	}
	return len(p), nil
}

func TestWebSocketPingDuringBlockedWrite(t *testing.T) {
	client, server := rawPair(t)
	data := make([]byte, 32<<20) // more than the sockets hold
	written := make(chan error, 1)
	go func() {
		_, err := server.Write(data)
		written <- err
	}()
	_, err := client.r.Peek(1) // the Write has begun
	require.NoError(t, err)
	client.send(t, frame(fin|ping, []byte("one")), frame(fin|ping, []byte("two")), frame(fin|binaryFrame, []byte("x")))
	require.Equal(t, "x", readBy(t, server, 64, 1), "Read waits for the Write")

	first, got := client.next(t)
	require.Equal(t, byte(fin|binaryFrame), first)
	require.Len(t, got, len(data))
	require.NoError(t, receive(t, written))
	client.expect(t, fin|pong, []byte("two"))
}

func TestWebSocketWriteIsOneFrame(t *testing.T) {
	client, server := rawPair(t)
	for _, size := range []int{1, 125, 126, 4086, 4092, 4096, 65535, 65536, 1 << 20} {
		data := bytes.Repeat([]byte{byte(size), 7}, size)[:size]
		errs := make(chan error, 1)
		go func() {
			n, err := server.Write(data)
			if err == nil && n != size {
				err = fmt.Errorf("wrote %d bytes; want %d", n, size)
			}
			errs <- err
		}()
		first, got := client.next(t)
		require.Equal(t, byte(fin|binaryFrame), first)
		require.True(t, bytes.Equal(data, got), "size %d", size)
		require.NoError(t, receive(t, errs))
	}
	n, err := server.Write(nil)
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, server.Close())
	client.expect(t, fin|closeFrame, status(1000, ""))
}

func TestWebSocketReadGoesOnAfterDeadline(t *testing.T) {
	client, server := rawPair(t)
	stream := append(frame(fin|ping, []byte("p")), frame(fin|binaryFrame, bytes.Repeat([]byte("z"), 300))...)
	var got []byte
	p := make([]byte, 512)
	for i := range stream { // stop at every byte, in the headers too
		client.send(t, stream[i:i+1])
		require.NoError(t, server.SetReadDeadline(time.Now().Add(time.Millisecond)))
		n, err := server.Read(p)
		got = append(got, p[:n]...)
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
	}
	bound(t, server)
	for len(got) < 300 {
		n, err := server.Read(p)
		require.NoError(t, err)
		got = append(got, p[:n]...)
	}
	require.Equal(t, string(bytes.Repeat([]byte("z"), 300)), string(got))
}

// A Write that is about to return when the client breaks the rules does not
// change what the client is told about it.
func TestWebSocketStatusWhileAWriteEnds(t *testing.T) {
	inWrite, goOn := make(chan struct{}), make(chan struct{})
	c := &recorder{in: frame(fin|text, []byte("x"))}
	server := upgradedOn(t, func(raw net.Conn) net.Conn {
		c.Conn = raw
		return c
	})
	c.out, c.wrote = nil, func() {
		close(inWrite)
		<-goOn
	}
	written := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte("data"))
		written <- err
	}()
	receive(t, inWrite)
	c.wrote = nil
	_, err := server.Read(make([]byte, 10))
	require.ErrorContains(t, err, "text frame")
	close(goOn)
	require.NoError(t, receive(t, written))
	require.NoError(t, server.Close())
	require.Equal(t, append([]byte{fin | binaryFrame, 4}, "data\x88\x02\x03\xeb"...), c.out)
}
