package petreltest

import (
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// Refuse makes the broker refuse the next n connections: each is closed after
// its CONNECT was answered with a CONNACK of server unavailable (0x88, or return
// code 3 before MQTT 5.0), whatever the hooks would say. It takes the place of
// what an earlier call has left; 0 refuses no more.
func (b *Broker) Refuse(n int) { b.conns.refuse(n) }

// Stall makes the broker neither read from nor write to the client any more, as
// if the network had swallowed it, until [Broker.Resume] or the end of the test.
// The connection stays open, and what the operating system buffers still moves.
//
// It goes for all connections of the client from now on: one that it opens later
// gets no answer to its CONNECT. The client need not be connected yet. Keep alive
// and takeover end its connections as usual.
func (b *Broker) Stall(clientID string) { b.conns.stall(clientID, true) }

// Resume ends what [Broker.Stall] began.
func (b *Broker) Resume(clientID string) { b.conns.stall(clientID, false) }

// Kick disconnects the client, as [petrel.Broker.Disconnect] does without a
// reason, and returns when the broker is done with the connection: its session
// has ended, if it ends with the connection, and its will is published. The
// client may connect again. If it is not connected, Kick waits for it, and fails
// the test after 5 seconds.
func (b *Broker) Kick(clientID string) {
	b.t.Helper()
	var c *petrel.Client
	if !b.watch.await(func() bool { c = b.watch.client(clientID); return c != nil }) {
		b.t.Fatalf("petreltest: client %q has not connected within %v; connected: %q", clientID, patience, b.watch.clientIDs())
	}
	if err := b.Broker().Disconnect(clientID, nil); err != nil && !errors.Is(err, petrel.ErrNoSuchClient) {
		b.t.Fatal(err) // and that it has just left by itself is as good
	}
	if !b.watch.await(func() bool { return b.watch.client(clientID) != c }) {
		b.t.Fatalf("petreltest: client %q is still there %v after it was disconnected", clientID, patience)
	}
}

// connections are the open connections, and the weather that they have.
type connections struct {
	mu      sync.Mutex
	closed  bool
	refused int // connections that are still to be refused
	open    map[net.Addr]*conn
	stalled map[string]bool // client identifiers
}

func newConnections() *connections {
	return &connections{open: make(map[net.Addr]*conn), stalled: make(map[string]bool)}
}

// add takes in a connection, and says whether it is one to be refused. After
// close it returns nil.
func (s *connections) add(raw net.Conn) (c *conn, refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false
	}
	c = newConn(raw)
	s.open[c.remote] = c
	if s.refused > 0 {
		s.refused--
		return c, true
	}
	return c, false
}

func (s *connections) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c.remote)
}

func (s *connections) refuse(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = n
}

// name says which client the connection from an address belongs to. The broker
// hands out the very address that it was given, so it stands for the connection.
func (s *connections) name(remote net.Addr, clientID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.open[remote]
	if c == nil {
		return // one that the host gave to the broker itself
	}
	c.clientID = clientID
	if s.stalled[clientID] {
		c.stall(true)
	}
}

func (s *connections) stall(clientID string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !on {
		delete(s.stalled, clientID)
	} else {
		s.stalled[clientID] = true
	}
	for _, c := range s.open {
		if c.clientID == clientID {
			c.stall(on)
		}
	}
}

func (s *connections) resumeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.stalled)
	for _, c := range s.open {
		c.stall(false)
	}
}

// close closes all connections that are left, and takes no more.
func (s *connections) close() {
	s.mu.Lock()
	s.closed = true
	left := slices.Collect(maps.Values(s.open))
	s.mu.Unlock()
	for _, c := range left {
		c.Close()
	}
}

// refuse answers a CONNECT with server unavailable. It does not leave that to an
// Authenticator, which would not be asked about enhanced authentication.
func refuse(c *conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	version, err := readConnect(c)
	if err != nil {
		return
	}
	answer, err := (&packets.Connack{Reason: packets.ServerUnavailable}).AppendTo(nil, version)
	if err != nil {
		return
	}
	if _, err := c.Write(answer); err != nil {
		return
	}
	// A reset, because of what came behind the CONNECT, must not overtake the answer.
	if c.CloseWrite() == nil {
		c.SetDeadline(time.Now().Add(time.Second))
		io.Copy(io.Discard, c)
	}
}

// readConnect returns the version that the client wants to speak.
func readConnect(r io.Reader) (packets.Version, error) {
	const most = 1 << 20 // no test needs more, and nobody asked how much memory there is
	var b []byte
	chunk := make([]byte, 4096)
	for {
		h, n, err := packets.DecodeHeader(b)
		if err != nil {
			return 0, err
		}
		if n > 0 && (h.Type != packets.TypeConnect || h.Remaining > most) {
			return 0, packets.ProtocolError
		}
		if n > 0 && len(b) >= n+h.Remaining {
			var p packets.Connect
			err := p.Decode(h.Flags, b[n:n+h.Remaining], 0)
			return p.Version, err
		}
		got, err := r.Read(chunk)
		b = append(b, chunk[:got]...)
		if err != nil {
			return 0, err
		}
	}
}
