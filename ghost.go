package petrel

import (
	"net"
	"time"

	"github.com/petrelmq/petrel/internal/engine"
	"github.com/petrelmq/petrel/packets"
)

// goneConn stands for a connection of the last process.
type goneConn struct{}

var _ engine.Conn = goneConn{}

func (goneConn) LocalAddr() net.Addr               { return goneAddr{} }
func (goneConn) RemoteAddr() net.Addr              { return goneAddr{} }
func (goneConn) NetConn() net.Conn                 { return nil }
func (goneConn) Start(engine.Handler)              {}
func (goneConn) Gone() bool                        { return true }
func (goneConn) CatchUp(time.Duration)             {}
func (goneConn) TryWrite(net.Buffers) (int, error) { return 0, net.ErrClosed }
func (goneConn) Drain(net.Buffers, engine.Writer)  {}
func (goneConn) Interrupt()                        {}
func (goneConn) Expire()                           {}
func (goneConn) Abort()                            {}
func (goneConn) Close(time.Duration)               {}

type goneAddr struct{}

func (goneAddr) Network() string { return "none" }
func (goneAddr) String() string  { return "" }

var errProcessEnded = &packets.Error{Code: packets.ServerShuttingDown, Detail: "the process ended"}

// ghost returns the client whose connection ended with the last process, for
// hooks that are asked about its will or what it may receive.
func (s *session) ghost() *Client {
	if s.last == nil {
		c := s.broker.ghost(&principal{s.id, accountOf(s.identity, s.userName)})
		c.version, c.session = s.version, s
		s.last = c
	}
	return s.last
}

// ghost returns a client without a connection, for hooks that are asked about it.
func (b *Broker) ghost(p *principal) *Client {
	c := newClient(b, goneConn{})
	c.principal, c.phase = p, connected
	c.stop(errProcessEnded)
	return c
}
