package rest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
)

// WebSocket is MQTT over WebSocket, for packets of at most 125 bytes.
func WebSocket(c net.Conn) (net.Conn, error) {
	const upgrade = "GET /mqtt HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
	if _, err := fmt.Fprintf(c, upgrade, c.RemoteAddr()); err != nil {
		return nil, fmt.Errorf("WebSocket: %w", err)
	}
	// Nothing follows the answer before the client has spoken, so nothing but the
	// answer is in the buffer, which can go.
	answer, err := http.ReadResponse(bufio.NewReaderSize(c, 1<<10), nil)
	if err != nil {
		return nil, fmt.Errorf("WebSocket: %w", err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("WebSocket: the broker answered %s", answer.Status)
	}
	return &webSocket{Conn: c}, nil
}

// webSocket puts each Write into a frame, and reads the content of frames.
type webSocket struct {
	net.Conn
	left int // of the frame that is being read
}

func (w *webSocket) Write(b []byte) (int, error) {
	const final, binaryFrame, masked, most = 0x80, 2, 0x80, 125
	if len(b) > most {
		return 0, fmt.Errorf("WebSocket: a packet of %d bytes", len(b))
	}
	frame := []byte{final | binaryFrame, masked | byte(len(b)), 0, 0, 0, 0} // a mask of zeros changes nothing
	if _, err := w.Conn.Write(append(frame, b...)); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (w *webSocket) Read(b []byte) (int, error) {
	for w.left == 0 {
		var head [2]byte
		if _, err := io.ReadFull(w.Conn, head[:]); err != nil {
			return 0, err
		}
		if w.left = int(head[1]); w.left == 126 {
			if _, err := io.ReadFull(w.Conn, head[:]); err != nil {
				return 0, err
			}
			w.left = int(binary.BigEndian.Uint16(head[:]))
		}
	}
	n, err := w.Conn.Read(b[:min(len(b), w.left)])
	w.left -= n
	return n, err
}
