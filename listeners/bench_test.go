package listeners_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/listeners"
)

// scriptConn is a socket that swallows what is written and repeats one frame.
type scriptConn struct {
	net.Conn
	frame []byte
}

func (c *scriptConn) Write(p []byte) (int, error) { return len(p), nil }
func (c *scriptConn) Read(p []byte) (int, error)  { return copy(p, c.frame), nil }
func (c *scriptConn) Close() error                { return nil }

// scripted returns an upgraded connection whose socket is a scriptConn.
func scripted(tb testing.TB, frame []byte) net.Conn {
	tb.Helper()
	return upgradedOn(tb, func(c net.Conn) net.Conn { return &scriptConn{c, frame} })
}

// upgradedOn returns an upgraded connection on what swap makes of its socket.
func upgradedOn(tb testing.TB, swap func(net.Conn) net.Conn) net.Conn {
	tb.Helper()
	ws := closing(tb, listeners.NewWebSocket(listeners.WebSocketOptions{}))
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws.ServeHTTP(swapWriter{w, swap}, r)
	}))
	tb.Cleanup(host.Close)
	conns, _ := accepting(ws)
	client, err := net.Dial("tcp", host.Listener.Addr().String())
	require.NoError(tb, err)
	closing(tb, client)
	_, err = io.WriteString(client, handshake("/", "Sec-WebSocket-Protocol: mqtt"))
	require.NoError(tb, err)
	return closing(tb, receive(tb, conns))
}

// swapWriter hijacks something in place of the socket, which stays with the
// test.
type swapWriter struct {
	http.ResponseWriter
	swap func(net.Conn) net.Conn
}

func (w swapWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w swapWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, buf, err := http.NewResponseController(w.ResponseWriter).Hijack()
	return w.swap(c), buf, err
}

func TestWebSocketAllocations(t *testing.T) {
	c := scripted(t, frame(fin|binaryFrame, make([]byte, 200)))
	p := make([]byte, 4096)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if n, err := c.Read(p); n != 200 || err != nil {
			t.Errorf("Read = %d, %v; want 200", n, err)
		}
	}))
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := c.Write(p); err != nil {
			t.Error(err)
		}
	}))
}

// Of a frame of 2^62 bytes nothing is held, whatever has come of it.
func TestWebSocketAnnouncedLengthHoldsNothing(t *testing.T) {
	head := binary.BigEndian.AppendUint64([]byte{fin | binaryFrame, 0x80 | 127}, 1<<62)
	script := &scriptConn{frame: append(head, make([]byte, 4+4082)...)}
	c := upgradedOn(t, func(raw net.Conn) net.Conn {
		script.Conn = raw
		return script
	})
	p := make([]byte, 4096)
	n, err := c.Read(p)
	require.NoError(t, err)
	require.Equal(t, 4082, n)
	script.frame = p // payload without end
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if n, err := c.Read(p); n != 4096 || err != nil {
			t.Errorf("Read = %d, %v; want 4096", n, err)
		}
	}))
}

func BenchmarkRead(b *testing.B) {
	c := scripted(b, frame(fin|binaryFrame, make([]byte, 200)))
	p := make([]byte, 4096)
	b.ReportAllocs()
	b.SetBytes(200)
	for b.Loop() {
		_, _ = c.Read(p)
	}
}

func BenchmarkWrite(b *testing.B) {
	c := scripted(b, nil)
	p := make([]byte, 200)
	b.ReportAllocs()
	b.SetBytes(200)
	for b.Loop() {
		_, _ = c.Write(p)
	}
}
