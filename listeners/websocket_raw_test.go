package listeners_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/listeners"
)

const (
	continuation = 0
	text         = 1
	binaryFrame  = 2
	closeFrame   = 8
	ping         = 9
	pong         = 10
	fin          = 0x80
)

// frame builds a masked frame as a client sends it; first is the opcode with
// the bits beside it.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n <= 125:
		b = append(b, 0x80|byte(n))
	case n <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	key := []byte{0x37, 0xFA, 0x21, byte(len(payload))}
	b = append(b, key...)
	for i, c := range payload {
		b = append(b, c^key[i%4])
	}
	return b
}

// status is the payload of a close frame.
func status(code int, reason string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
}

// rawClient speaks WebSocket by hand.
type rawClient struct {
	net.Conn
	r *bufio.Reader
}

// upgrade sends a handshake, with more behind it, and checks the answer.
func upgrade(t *testing.T, conn net.Conn, more ...byte) *rawClient {
	t.Helper()
	bound(t, conn)
	request := handshake("/mqtt", "Sec-WebSocket-Protocol: mqtt")
	_, err := conn.Write(append([]byte(request), more...))
	require.NoError(t, err)
	c := &rawClient{conn, bufio.NewReader(conn)}
	response, err := http.ReadResponse(c.r, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	require.Equal(t, "mqtt", response.Header.Get("Sec-WebSocket-Protocol"))
	require.Equal(t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", response.Header.Get("Sec-WebSocket-Accept"))
	return c
}

// handshake is a request with the key that RFC 6455 takes as its example.
func handshake(path string, lines ...string) string {
	return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: WebSocket\r\n"+
		"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n\r\n", path, strings.Join(lines, "\r\n"))
}

func (c *rawClient) send(t *testing.T, frames ...[]byte) {
	t.Helper()
	_, err := c.Write(bytes.Join(frames, nil))
	require.NoError(t, err)
}

// next reads a frame of the server, which must not be masked.
func (c *rawClient) next(t *testing.T) (first byte, payload []byte) {
	t.Helper()
	first, payload, err := c.read()
	require.NoError(t, err)
	return first, payload
}

func (c *rawClient) read() (first byte, payload []byte, err error) {
	var h [10]byte
	if _, err = io.ReadFull(c.r, h[:2]); err != nil {
		return 0, nil, err
	}
	if h[1]&0x80 != 0 {
		return 0, nil, fmt.Errorf("masked frame % x from the server", h[:2])
	}
	size := uint64(h[1])
	switch h[1] {
	case 126:
		_, err = io.ReadFull(c.r, h[2:4])
		size = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		_, err = io.ReadFull(c.r, h[2:])
		size = binary.BigEndian.Uint64(h[2:])
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(c.r, payload)
	return h[0], payload, err
}

func (c *rawClient) expect(t *testing.T, first byte, payload []byte) {
	t.Helper()
	gotFirst, got := c.next(t)
	require.Equal(t, fmt.Sprintf("%#x", first), fmt.Sprintf("%#x", gotFirst))
	require.Equal(t, string(payload), string(got))
}

// rawPair returns the two ends of a connection over TCP.
func rawPair(t *testing.T, more ...byte) (*rawClient, net.Conn) {
	t.Helper()
	l, err := listeners.WebSocketListen("127.0.0.1:0", listeners.WebSocketOptions{})
	require.NoError(t, err)
	closing(t, l)
	conns, _ := accepting(l)
	client := upgrade(t, closing(t, dialTCP(t, l.Addr().String())), more...)
	server := closing(t, receive(t, conns))
	bound(t, server)
	return client, server
}
