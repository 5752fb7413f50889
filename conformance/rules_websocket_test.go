package conformance_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// Rules without a number about WebSocket. They need frames that a well-behaved
// client does not write.

// The opcodes of RFC 6455 that the tests use.
const (
	opContinuation = 0x0
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
	final          = 0x80
)

// webSocket is a client that writes frames one by one.
type webSocket struct {
	net.Conn
	t        *T
	in       *bufio.Reader
	protocol string // the answer of the server
	mqtt     []byte // payloads that have come and were not asked for yet
}

// upgrade asks for a WebSocket connection with the given values of the header
// Sec-WebSocket-Protocol, and returns nil if it is refused.
func upgrade(t *T, at, path string, protocols ...string) *webSocket {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	conn := dialer(t.T, u.Host)()
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(*patienceFlag)); err != nil {
		t.Fatal(err)
	}
	if path == "" {
		path = u.Path
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\nOrigin: http://%s\r\n", path, u.Host, u.Host)
	for _, p := range protocols {
		fmt.Fprintf(conn, "Sec-WebSocket-Protocol: %s\r\n", p)
	}
	fmt.Fprint(conn, "\r\n")
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		return nil
	}
	return &webSocket{Conn: conn, t: t, in: in, protocol: answer.Header.Get("Sec-WebSocket-Protocol")}
}

// openWebSocket is upgrade that must succeed.
func openWebSocket(t *T) *webSocket {
	t.Helper()
	w := upgrade(t, webSocketURL(t), "", "mqtt")
	if w == nil {
		t.Fatal("the handshake was refused")
	}
	return w
}

// frame writes one frame. Its mask is of zeros.
func (w *webSocket) frame(first byte, payload []byte) {
	w.t.Helper()
	b := []byte{first, 0x80 | byte(len(payload))}
	switch {
	case len(payload) > 65535:
		b[1] = 0x80 | 127
		b = binary.BigEndian.AppendUint64(b, uint64(len(payload)))
	case len(payload) > 125:
		b[1] = 0x80 | 126
		b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	}
	write(w.t, w.Conn, slices.Concat(b, make([]byte, 4), payload))
}

// next reads one frame.
func (w *webSocket) next() (op byte, payload []byte, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(w.in, head); err != nil {
		return 0, nil, err
	}
	if head[1]&0x80 != 0 {
		w.t.Fatal("a masked frame from the server")
	}
	size := uint64(head[1])
	if size >= 126 {
		long := make([]byte, map[uint64]int{126: 2, 127: 8}[size])
		if _, err := io.ReadFull(w.in, long); err != nil {
			return 0, nil, err
		}
		size = binary.BigEndian.Uint64(append(make([]byte, 8-len(long)), long...))
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(w.in, payload)
	return head[0] & 0xF, payload, err
}

// expect reads frames until the bytes of MQTT that come begin with want.
func (w *webSocket) expect(want ...byte) {
	w.t.Helper()
	for len(w.mqtt) < len(want) {
		op, payload, err := w.next()
		if err != nil || op != opBinary && op != opContinuation {
			w.t.Fatalf("got frame %X, %v; want % x", op, err, want)
		}
		w.mqtt = append(w.mqtt, payload...)
	}
	if !bytes.HasPrefix(w.mqtt, want) {
		w.t.Fatalf("got % x; want % x", w.mqtt, want)
	}
	w.mqtt = w.mqtt[len(want):]
}

// connects goes on until MQTT stands, and ends with a PINGREQ.
func (w *webSocket) connects(p packets.Connect) {
	w.t.Helper()
	w.frame(final|opBinary, raw(w.t, &p))
	w.expect(0x20)
	for len(w.mqtt) == 0 || len(w.mqtt) < 1+int(w.mqtt[0]) {
		w.mqtt = append(w.mqtt, w.payload()...)
	}
	w.mqtt = w.mqtt[1+int(w.mqtt[0]):]
	w.pings()
}

func (w *webSocket) payload() []byte {
	w.t.Helper()
	_, payload, err := w.next()
	if err != nil {
		w.t.Fatal(err)
	}
	return payload
}

func (w *webSocket) pings() {
	w.t.Helper()
	w.frame(final|opBinary, []byte{0xC0, 0})
	w.expect(0xD0, 0)
}

// ended reads until the connection is no more.
func (w *webSocket) ended() {
	w.t.Helper()
	for {
		op, payload, err := w.next()
		if err != nil {
			if timedOut(err) {
				w.t.Fatal("the connection lives")
			}
			return
		}
		if op == opBinary && len(payload) > 0 && payload[0] != 0xE0 && payload[0] != 0x20 {
			w.t.Fatalf("got % x", payload)
		}
	}
}

func init() {
	rule("websocket-1", "", func(t *T) {
		w := upgrade(t, webSocketURL(t), "", "mqttv3.1")
		if w == nil {
			t.Saw("a refused handshake")
			return
		}
		if w.protocol != "mqttv3.1" {
			t.Fatalf("subprotocol %q", w.protocol)
		}
		w.connects(t.CONNECT())
		t.Saw("mqttv3.1")
	})
	for name, protocols := range map[string][]string{
		"in one header": {"chat, mqtt"}, "without a space": {"chat,mqtt"}, "in several": {"chat", "mqtt"},
	} {
		rule("websocket-2", name, func(t *T) {
			w := upgrade(t, webSocketURL(t), "", protocols...)
			if w == nil || w.protocol != "mqtt" {
				t.Fatalf("got %+v; want the subprotocol mqtt", w)
			}
			w.connects(t.CONNECT())
		})
	}
	rule("websocket-3", "", func(t *T) {
		w, p := openWebSocket(t), t.CONNECT()
		b := raw(t, &p)
		write(t, w.Conn, append([]byte{final | opBinary, byte(len(b))}, b...))
		if op, payload, err := w.next(); err == nil && op != opClose {
			t.Fatalf("got frame %X with % x", op, payload)
		}
		w.ended()
	})
	rule("websocket-4", "", func(t *T) {
		w, p := openWebSocket(t), t.CONNECT()
		b := raw(t, &p)
		w.frame(opBinary, b[:5])
		w.frame(opContinuation, nil)
		w.frame(opContinuation, b[5:9])
		w.frame(final|opPing, []byte("between"))
		w.frame(final|opContinuation, b[9:])
		w.frame(final|opBinary, nil)
		if op, payload, err := w.next(); err != nil || op != opPong || string(payload) != "between" {
			t.Fatalf("got frame %X with %q, %v; want a pong", op, payload, err)
		}
		w.expect(0x20)
	})
	rule("websocket-5", "", func(t *T) {
		t.With(petrel.Options{MaximumPacketSize: 1000})
		w := openWebSocket(t)
		w.connects(t.CONNECT())
		message := raw(t, &packets.Publish{Topic: []byte("a"), Payload: make([]byte, 900)})
		w.frame(final|opBinary, bytes.Repeat(message, 100))
		w.pings()
	})
	rule("websocket-6", "", func(t *T) {
		w, p := openWebSocket(t), t.CONNECT()
		p.KeepAlive = 1
		w.connects(p)
		for end := time.Now().Add(*patienceFlag); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
			w.frame(final|opPing, []byte("ping"))
			op, payload, err := w.next()
			if timedOut(err) {
				t.Fatal("neither a pong nor a close")
			}
			if err != nil || op == opClose || op == opBinary && payload[0] == 0xE0 {
				return // the keep alive has ended it
			}
			if op != opPong || string(payload) != "ping" {
				t.Fatalf("got frame %X with % x; want a pong", op, payload)
			}
		}
		t.Fatal("pings of WebSocket keep the connection alive")
	})
	for name, end := range map[string]func(w *webSocket){
		"a close frame":     func(w *webSocket) { w.frame(final|opClose, []byte{0x03, 0xE8}) },
		"a lost connection": func(w *webSocket) { w.Close() },
	} {
		rule("websocket-7", name, func(t *T) {
			w := openWebSocket(t)
			topic, p := t.Unique("t"), t.CONNECT()
			watch := t.Client()
			watch.Subscribe(0, topic)
			p.HasWill, p.Will = true, packets.Will{Topic: []byte(topic), Payload: []byte("will")}
			w.connects(p)
			end(w)
			watch.ExpectPublish(topic, "will")
		})
	}
	for _, path := range []string{"/", "/some/where?x=y"} {
		rule("websocket-8", strings.ReplaceAll(path, "/", "|"), func(t *T) {
			w := upgrade(t, webSocketURL(t), path, "mqtt")
			if w == nil {
				t.Fatal("the handshake was refused")
			}
			w.connects(t.CONNECT())
		})
	}
}
