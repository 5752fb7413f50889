package petrel

import (
	"context"
	"errors"

	"github.com/petrelmq/petrel/internal/engine"
)

// ConnectionRequest describes a connection to a [ConnectionAuthorizer].
type ConnectionRequest struct {
	Stage ConnectionStage
	Peer  Peer

	// Connect is the CONNECT, with the Identity that the client was found to have.
	// It is there at StageAuthenticated, and is not to be changed. At
	// StageReauthorized it has the version, the names and the Identity only.
	Connect *ConnectRequest
}

// ConnectionStage says how far a connection has come when it is asked about.
type ConnectionStage byte

const (
	// StageAccepted: nothing was read of it but the header of a trusted proxy, so
	// that the addresses in Peer are those of the client. Peer has its listener
	// too, and what else is known by then: TLS and the HTTP request of a
	// WebSocket, but not the TLS of a listener that leaves the handshake to the
	// first read, as those of package listeners do.
	StageAccepted ConnectionStage = iota + 1

	// StageSecured: Peer.TLS, which was not known at StageAccepted, is; CONNECT
	// has come, and nobody has looked at it. Other connections skip this stage.
	StageSecured

	// StageAuthenticated: the client has proved who it is, in whatever way, and
	// does not have its session yet.
	StageAuthenticated

	// StageReauthorized: the client is connected, and [Broker.Reauthorize] was called.
	StageReauthorized
)

func (s ConnectionStage) String() string {
	switch s {
	case StageAccepted:
		return "accepted"
	case StageSecured:
		return "secured"
	case StageAuthenticated:
		return "authenticated"
	case StageReauthorized:
		return "reauthorized"
	}
	return "unknown"
}

// RefusedConnection is a connection that ended before its CONNECT was accepted.
type RefusedConnection struct {
	Peer     Peer
	ClientID string     // empty unless there was a CONNECT
	UserName string     // that it claimed; likewise
	Reason   ReasonCode // of CONNACK, as 5.0 has it; Success if there was no CONNACK
	Cause    error      // why it ended
}

// start serves the connection for h, which is c or has it, if the
// ConnectionAuthorizers let it in. It does not wait for them.
func (b *Broker) start(c *Client, h engine.Handler) {
	if len(c.door.admit) == 0 {
		c.conn.Start(h)
		return
	}
	b.spawn(func() {
		if err := c.letIn(); err != nil {
			h.Ended(err, engine.Here)
			return
		}
		c.conn.Start(h)
	})
}

// letIn asks the ConnectionAuthorizers about a connection that was accepted.
func (c *Client) letIn() (err error) {
	if len(c.door.admit) == 0 {
		return nil
	}
	defer func() {
		if r := recover(); r != nil { // a connection of the host's own that was asked for its addresses
			c.broker.log.panicked("a connection", r)
			err = errors.New("petrel: the connection panicked")
		}
	}()
	if err := settle(c.conn); err != nil {
		return err
	}
	r := ConnectionRequest{Stage: StageAccepted, Peer: c.Peer()}
	if r.Peer.TLS != nil && !r.Peer.TLS.HandshakeComplete {
		r.Peer.TLS, c.unsecured = nil, true
	}
	err = c.authorizeConnection(&r)
	c.dropContext()
	return err
}

// secured asks again, when the handshake of TLS is over.
func (c *Client) secured() error {
	if !c.unsecured {
		return nil
	}
	c.unsecured = false
	return c.authorizeConnection(&ConnectionRequest{Stage: StageSecured, Peer: c.Peer()})
}

// authenticated asks once more, when it is known who the client is.
func (c *Client) authenticated(cn *connecting) error {
	if len(c.door.admit) == 0 {
		return nil
	}
	cn.policy = c.broker.policy.Load()
	connect := cn.request
	return c.authorizeConnection(&ConnectionRequest{Stage: StageAuthenticated, Peer: connect.Peer, Connect: &connect})
}

// authenticatedStill asks again if Reauthorize was called meanwhile: it asks about
// the clients that have their session when it comes to them.
func (c *Client) authenticatedStill(cn *connecting) error {
	if len(c.door.admit) == 0 || cn.policy == c.broker.policy.Load() {
		return nil
	}
	defer c.dropContext()
	return c.authenticated(cn)
}

// reauthorizeConnection asks whether a client that is connected may stay.
func (c *Client) reauthorizeConnection(ctx context.Context) error {
	if len(c.door.admit) == 0 {
		return nil
	}
	r := ConnectionRequest{Stage: StageReauthorized, Peer: c.Peer(), Connect: &ConnectRequest{
		Version: c.version, ClientID: c.id, HasUserName: c.userName != "", UserName: c.userName, Identity: c.identity,
	}}
	r.Connect.Peer = r.Peer
	for _, h := range c.door.admit {
		err := c.broker.decideAside(ctx, never, h, func(ctx context.Context) error { return h.AuthorizeConnection(ctx, &r) })
		if err != nil {
			return err
		}
	}
	return nil
}

// observeRefusal tells of a connection that ends without having been accepted.
func (c *Client) observeRefusal(cause error) {
	b := c.broker
	if c.phase == connected || len(b.hooks.refusal) == 0 {
		return
	}
	r := RefusedConnection{Peer: c.Peer(), ClientID: c.id, UserName: c.userName, Reason: c.refused, Cause: cause}
	observe(b, b.hooks.refusal, func(o RefusalObserver) { o.ConnectionRefused(&r) })
}
