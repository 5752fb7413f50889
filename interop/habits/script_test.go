// Package habits replays what devices and programs do that cannot be installed
// for a test: one file per device, with the bytes as the device writes them.
// README.md says what each of them asks of a broker.
package habits_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// patience is how long a device waits for bytes before its test fails.
const patience = 10 * time.Second

// Packets that are the same for every device of MQTT 3.1.1.
const (
	accepted = "\x20\x02\x00\x00" // CONNACK, a new session
	resumed  = "\x20\x02\x01\x00" // CONNACK, Session Present
	pingreq  = "\xc0\x00"
	pingresp = "\xd0\x00"
)

// device is the far end of a connection, on which a script writes and reads
// bytes. It reads only what the script asks for: until then the broker's writes
// wait, as the connection is a pipe without a buffer.
type device struct {
	net.Conn
	t    testing.TB
	done chan struct{} // closed when the broker is done with the connection
}

// plug opens a connection to the broker.
func plug(t testing.TB, b *brokertest.Broker) *device { return plugFrom(t, b, "") }

// plugFrom opens a connection that comes from an address such as "192.0.2.1:50312".
func plugFrom(t testing.TB, b *brokertest.Broker, addr string) *device {
	client, server := net.Pipe()
	d := &device{client, t, make(chan struct{})}
	t.Cleanup(func() { client.Close() })
	if addr != "" {
		server = remote{server, address(addr)}
	}
	go func() {
		defer close(d.done)
		b.ServeConn(server) // why it ended is the business of the script
	}()
	return d
}

// plugTCP opens a connection over the loopback interface, where the broker finds
// a socket that takes something, and then no more.
func plugTCP(t testing.TB, b *brokertest.Broker) *device {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	server, err := l.Accept()
	require.NoError(t, err)
	d := &device{client, t, make(chan struct{})}
	go func() {
		defer close(d.done)
		b.ServeConn(server) // why it ended is the business of the script
	}()
	return d
}

// remote is a connection that knows where it comes from.
type remote struct {
	net.Conn
	addr net.Addr
}

func (r remote) RemoteAddr() net.Addr { return r.addr }

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// write writes packets, in one piece.
func (d *device) write(list ...string) {
	d.t.Helper()
	d.SetWriteDeadline(time.Now().Add(patience)) // if it fails, so does Write
	_, err := io.WriteString(d.Conn, strings.Join(list, ""))
	require.NoError(d.t, err, "the broker does not read")
}

// expect reads what must come next, byte for byte.
func (d *device) expect(list ...string) {
	d.t.Helper()
	want := strings.Join(list, "")
	got := make([]byte, len(want))
	d.SetReadDeadline(time.Now().Add(patience)) // if it fails, so does Read
	n, err := io.ReadFull(d.Conn, got)
	if err != nil || string(got) != want {
		d.t.Fatalf("got  % x (%[1]q), %v\nwant % x (%[3]q)", got[:n], err, want)
	}
}

// expectNothing checks that no packet has come, nor is on its way: the answer to
// a PINGREQ is what comes next.
func (d *device) expectNothing() {
	d.t.Helper()
	d.write(pingreq)
	d.expect(pingresp)
}

// expectEnd checks that the broker closes the connection and says nothing.
func (d *device) expectEnd() {
	d.t.Helper()
	d.SetReadDeadline(time.Now().Add(patience)) // fails if the end is there already
	rest, err := io.ReadAll(d.Conn)
	if err != nil || len(rest) > 0 {
		d.t.Fatalf("got % x, %v; want the end of the connection", rest, err)
	}
}

// cut ends the connection without DISCONNECT, and waits until the broker is done with it.
func (d *device) cut() {
	d.t.Helper()
	d.Close()
	<-d.done
}

// frame is a packet with its Remaining Length, for those that a script composes.
func frame(first byte, parts ...string) string {
	body := strings.Join(parts, "")
	// The variable byte integer of MQTT is the unsigned varint of encoding/binary.
	return string(binary.AppendUvarint([]byte{first}, uint64(len(body)))) + body
}

// field is a string with its length in front.
func field(s string) string { return u16(len(s)) + s }

// u16 is a two byte integer.
func u16(n int) string { return string([]byte{byte(n >> 8), byte(n)}) }

// packet is one packet as it came, with the time.
type packet struct {
	first byte
	body  []byte
	at    time.Time
}

// intake cuts what a device reads into packets.
type intake struct {
	device *device
	chunk  int           // bytes per read
	pause  time.Duration // after each read
	buf    []byte
}

// next returns the next packet.
func (in *intake) next() packet {
	in.device.t.Helper()
	for {
		h, n, err := packets.DecodeHeader(in.buf)
		require.NoError(in.device.t, err)
		if size := n + h.Remaining; n > 0 && len(in.buf) >= size {
			p := packet{in.buf[0], in.buf[n:size], time.Now()}
			in.buf = in.buf[size:]
			return p
		}
		in.fill()
	}
}

func (in *intake) fill() {
	in.device.t.Helper()
	in.device.SetReadDeadline(time.Now().Add(patience)) // if it fails, so does Read
	chunk := make([]byte, in.chunk)
	n, err := in.device.Read(chunk)
	require.NoError(in.device.t, err)
	in.buf = append(in.buf, chunk[:n]...)
	time.Sleep(in.pause) // in a bubble; nothing elsewhere
}

// topicOf is the topic of a PUBLISH, payloadOf what follows one of QoS 0 in MQTT 3.1.1.
func (p packet) topicOf() string {
	return string(p.body[2 : 2+binary.BigEndian.Uint16(p.body)])
}

func (p packet) payloadOf() []byte { return bytes.Clone(p.body[2+binary.BigEndian.Uint16(p.body):]) }

func (p packet) String() string {
	return fmt.Sprintf("% x", append([]byte{p.first}, p.body[:min(len(p.body), 40)]...))
}

// watcher is another client, which sees what the broker makes of a device.
func watcher(b *brokertest.Broker, id string, qos packets.QoS, filters ...string) *brokertest.Client {
	c := speaker(b, id)
	c.Subscribe(qos, filters...)
	return c
}

// speaker is another client, which only publishes.
func speaker(b *brokertest.Broker, id string) *brokertest.Client {
	return b.Connect(packets.Connect{Version: packets.V311, ClientID: []byte(id), CleanStart: true})
}

// silent is a logger for scripts that make the broker say a lot.
func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// retained is the payload of the retained message of a topic, or "none".
func retained(b *brokertest.Broker, topic string) string {
	for m := range b.Retained(topic) {
		return string(m.Payload)
	}
	return "none"
}
