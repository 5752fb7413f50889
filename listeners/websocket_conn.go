package listeners

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// closeTimeout bounds the sending of a close frame. It matters only if the
// socket is full and yet no Write is under way.
const closeTimeout = time.Second

// writeBuffers lend a Write what it needs to send a frame's header and a
// small payload with one system call, or as one TLS record. BenchmarkWrite
// has no allocation with it and one of 4 KiB without.
var writeBuffers = sync.Pool{New: func() any { return new([4096]byte) }}

// wsConn is the net.Conn on an upgraded connection.
//
// Bytes are read from the socket into the buffer of the Read and decoded
// there, so it needs no buffer of its own, and a frame may be of any size. A
// Read with room for a few bytes only works too, but costs a system call for
// that many bytes of frame header.
type wsConn struct {
	raw     net.Conn
	request *http.Request
	remote  net.Addr // what a trusted proxy says; nil means that of raw

	readMu  sync.Mutex // held while a Read waits; guards the fields below
	ahead   []byte     // arrived with the handshake, not decoded yet
	decoder frameDecoder
	readErr error // of all further Reads

	writeMu  sync.Mutex // held while a frame is sent; guards the field below
	writeErr error      // of all further Writes

	pong     atomic.Pointer[[]byte] // to send by whoever holds, or next gets, writeMu
	farewell atomic.Int32           // status to close with, once there is a reason to
}

// wsTLSConn is a wsConn on TLS. It is a type of its own so that whoever asks
// by type assertion for the method is told the truth.
type wsTLSConn struct{ *wsConn }

// ConnectionState returns the state of TLS after its handshake.
func (c wsTLSConn) ConnectionState() tls.ConnectionState { return *c.request.TLS }

// Request returns the request that was upgraded, with its header and the
// values of its context. It must not be changed.
func (c *wsConn) Request() *http.Request { return c.request }

// NetConn returns the connection that was upgraded: what lies below knows more
// of the client. Reading from it or writing to it breaks the stream.
func (c *wsConn) NetConn() net.Conn { return c.raw }

// Header returns the header of the request that was upgraded, as a broker
// hands it to hooks. It must not be changed.
func (c *wsConn) Header() map[string][]string { return c.request.Header }

// RemoteAddr returns the address of the client, as far as it is known.
func (c *wsConn) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.raw.RemoteAddr()
}

// ProxyAddr returns the address of the trusted proxy whose word RemoteAddr is,
// and nil if there is none.
func (c *wsConn) ProxyAddr() net.Addr {
	if c.remote == nil {
		return nil
	}
	return c.raw.RemoteAddr()
}

func (c *wsConn) LocalAddr() net.Addr                { return c.raw.LocalAddr() }
func (c *wsConn) SetDeadline(t time.Time) error      { return c.raw.SetDeadline(t) }
func (c *wsConn) SetReadDeadline(t time.Time) error  { return c.raw.SetReadDeadline(t) }
func (c *wsConn) SetWriteDeadline(t time.Time) error { return c.raw.SetWriteDeadline(t) }

// Read returns data as it comes, whatever the frames. It answers the last ping
// of what it has read, so a flood of them costs a pong for each full buffer, and
// ends with io.EOF at a close frame. After a passed deadline it can go on.
func (c *wsConn) Read(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for len(p) > 0 {
		if c.readErr != nil {
			return 0, c.readErr
		}
		got, err := c.fill(p)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			c.readErr = err
		}
		n, status, decodeErr := c.decoder.decode(p[:got])
		if ping := c.decoder.takePing(); ping != nil {
			c.sendPong(ping)
		}
		if decodeErr != nil {
			c.readErr = decodeErr
			c.sendClose(status, io.ErrClosedPipe)
		}
		if n > 0 {
			return n, nil
		}
		if err != nil && decodeErr == nil {
			return 0, err
		}
	}
	return 0, nil
}

// fill reads raw bytes of frames.
func (c *wsConn) fill(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.raw.Read(p)
	}
	n := copy(p, c.ahead)
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.ahead = nil
	}
	return n, nil
}

// Write sends p as one binary frame. Like with TLS, a Write that fails after
// a part has been sent leaves the stream in pieces, and all further Writes
// return its error.
func (c *wsConn) Write(p []byte) (int, error) {
	c.writeMu.Lock()
	defer c.releaseWriter()
	if len(p) == 0 {
		return 0, c.writeErr
	}
	return c.writeFrameLocked(opBinary, p)
}

func (c *wsConn) writeFrameLocked(opcode byte, p []byte) (int, error) {
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	buf := writeBuffers.Get().(*[4096]byte)
	defer writeBuffers.Put(buf)
	header := len(appendHeader(buf[:0], opcode, len(p)))
	size := header + copy(buf[header:], p)
	sent, err := c.raw.Write(buf[:size])
	if rest := p[size-header:]; err == nil && len(rest) > 0 {
		var n int
		n, err = c.raw.Write(rest)
		sent += n
	}
	if err != nil && sent > 0 {
		c.writeErr = err
	}
	return max(sent-header, 0), err
}

// releaseWriter gives writeMu back, after sending the pong that came due
// while it was held.
func (c *wsConn) releaseWriter() {
	for {
		if p := c.pong.Swap(nil); p != nil {
			_, _ = c.writeFrameLocked(opPong, *p) // the next Write will notice
		}
		c.writeMu.Unlock()
		if c.pong.Load() == nil || !c.writeMu.TryLock() {
			return
		}
	}
}

// sendPong answers a ping. It does not wait for a Write under way, or a
// client that sends and does not read could stop its Reads too; a ping
// that is overtaken by another needs no answer (RFC 6455, section 5.5.3).
func (c *wsConn) sendPong(payload []byte) {
	c.pong.Store(&payload)
	if c.writeMu.TryLock() {
		c.releaseWriter()
	}
}

// sendClose sends a close frame, unless a Write is in its way or the peer has
// had one, and makes further Writes fail with err. The first reason to close is
// what the peer is told, even if a Write was in the way then.
func (c *wsConn) sendClose(status int, err error) {
	c.farewell.CompareAndSwap(0, int32(status))
	if !c.writeMu.TryLock() {
		return
	}
	defer c.writeMu.Unlock()
	if c.writeErr != nil {
		return
	}
	var payload []byte
	if status = int(c.farewell.Load()); status != closeNoStatus {
		payload = binary.BigEndian.AppendUint16(nil, uint16(status))
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(closeTimeout)) // on failure the write fails too
	_, _ = c.writeFrameLocked(opClose, payload)              // a courtesy
	c.writeErr = err
}

// Close closes the connection with status 1000, unless a Write is under way:
// then it is just cut off. Reads and Writes that wait fail at once.
func (c *wsConn) Close() error { return c.shut(closeNormal) }

func (c *wsConn) shut(status int) error {
	c.sendClose(status, net.ErrClosed)
	return c.raw.Close()
}
