package petrel

import (
	"context"
	"io"

	"github.com/petrelmq/petrel/packets"
)

// maximumRounds bounds the AUTH packets of a client in one exchange.
const maximumRounds = 16

// enhanced is what a client with enhanced authentication has beside others.
type enhanced struct {
	method   string                 // Authentication Method of the CONNECT
	exchange AuthenticationExchange // of CONNECT, or of a re-authentication; nil if there is none now
	pending  *connecting            // a CONNECT that waits for the end of its exchange
	again    *ConnectRequest        // of a re-authentication
	rounds   int                    // of a re-authentication
}

// beginExchange starts the enhanced authentication of a CONNECT (MQTT 5.0,
// section 4.12).
func (c *Client) beginExchange(bt *batch, cn *connecting) error {
	c.enhanced = &enhanced{method: cn.method}
	x, err := c.begin(&AuthenticationRequest{Connect: &cn.request, Method: cn.method})
	if err != nil {
		return c.refuse(err)
	}
	c.enhanced.exchange, c.enhanced.pending = x, cn
	c.phase = authenticating
	data := cn.data
	cn.data = nil
	return c.continueConnect(bt, data)
}

// begin asks the hook of the Authentication Method for an exchange.
func (c *Client) begin(r *AuthenticationRequest) (AuthenticationExchange, error) {
	h := c.door.methods[r.Method]
	if h == nil {
		return nil, packets.BadAuthenticationMethod
	}
	begun := make(chan AuthenticationExchange, 1)
	err := c.broker.decideAside(c.context(), c.gone, h, func(ctx context.Context) error {
		x, err := h.BeginAuthentication(ctx, r)
		begun <- x
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-begun, nil
}

// continueConnect is one round of the exchange before CONNACK.
func (c *Client) continueConnect(bt *batch, data []byte) error {
	step, err := c.step(data)
	if err != nil {
		return c.refuse(err)
	}
	cn := c.enhanced.pending
	if !step.Done {
		c.sendAuth(bt, packets.ContinueAuthentication, step.Data)
		return nil
	}
	if step.Identity != "" {
		cn.request.Identity = step.Identity
	}
	cn.request.Expires = step.Expires
	c.enhanced.exchange, c.enhanced.pending = nil, nil
	c.phase = awaitConnect
	return c.accept(bt, cn, step.Data)
}

// step hands the client's data to the exchange.
func (c *Client) step(data []byte) (AuthenticationStep, error) {
	x := c.enhanced.exchange
	steps := make(chan AuthenticationStep, 1)
	err := c.broker.decideAside(c.context(), c.gone, x, func(ctx context.Context) error {
		step, err := x.Authenticate(ctx, data)
		steps <- step
		return err
	})
	if err != nil {
		return AuthenticationStep{}, err
	}
	return <-steps, nil
}

func (c *Client) sendAuth(bt *batch, reason packets.ReasonCode, data []byte) {
	bt.reply(c, &packets.Auth{
		Reason: reason, HasAuthenticationMethod: true, AuthenticationMethod: []byte(c.enhanced.method),
		HasAuthenticationData: data != nil, AuthenticationData: data,
	})
}

// authPacket handles what a client sends before its exchange has come to an end.
func (c *Client) authPacket(bt *batch, h packets.Header, body []byte) error {
	switch h.Type {
	case packets.TypeAuth:
	case packets.TypeDisconnect:
		return io.EOF
	default:
		return c.refuse(&packets.Error{Code: packets.ProtocolError, Detail: h.Type.String() + " during authentication"})
	}
	p := &bt.in.auth
	if err := p.Decode(h.Flags, body, c.version); err != nil {
		return c.refuse(err)
	}
	if err := c.checkAuth(p, packets.ContinueAuthentication); err != nil {
		return c.refuse(err)
	}
	if c.enhanced.pending.rounds++; c.enhanced.pending.rounds > maximumRounds {
		return c.refuse(&packets.Error{Code: packets.NotAuthorized, Detail: "too many rounds of authentication"})
	}
	return c.continueConnect(bt, clone(p.AuthenticationData))
}

func (c *Client) checkAuth(p *packets.Auth, want packets.ReasonCode) error {
	if p.Reason != want {
		return &packets.Error{Code: packets.ProtocolError, Detail: "AUTH with reason " + p.Reason.String()}
	}
	if string(p.AuthenticationMethod) != c.enhanced.method {
		return &packets.Error{Code: packets.ProtocolError, Detail: "AUTH with another Authentication Method"}
	}
	return c.checkProperties(p.UserProperties.Len())
}

// reauthenticate handles AUTH from a client that is connected (MQTT 5.0,
// section 4.12.1). Until the exchange is done the client stays who it was.
func (c *Client) reauthenticate(bt *batch, flags byte, body []byte) error {
	p := &bt.in.auth
	if err := p.Decode(flags, body, c.version); err != nil {
		return err
	}
	if c.enhanced == nil {
		return &packets.Error{Code: packets.ProtocolError, Detail: "AUTH, but no Authentication Method in CONNECT"}
	}
	bt.flush()
	if c.enhanced.exchange != nil {
		if err := c.checkAuth(p, packets.ContinueAuthentication); err != nil {
			return err
		}
		return c.continueReauthentication(bt, clone(p.AuthenticationData))
	}
	if err := c.checkAuth(p, packets.Reauthenticate); err != nil {
		return err
	}
	r := &ConnectRequest{
		Peer: c.Peer(), Version: c.version, ClientID: c.id, HasUserName: c.userName != "", UserName: c.userName, Identity: c.identity,
	}
	x, err := c.begin(&AuthenticationRequest{Connect: r, Method: c.enhanced.method, Reauthentication: true})
	if err != nil {
		return refusedAgain(err)
	}
	c.enhanced.exchange, c.enhanced.again, c.enhanced.rounds = x, r, 0
	return c.continueReauthentication(bt, clone(p.AuthenticationData))
}

func (c *Client) continueReauthentication(bt *batch, data []byte) error {
	if c.enhanced.rounds++; c.enhanced.rounds > maximumRounds {
		return &packets.Error{Code: packets.NotAuthorized, Detail: "too many rounds of authentication"}
	}
	step, err := c.step(data)
	switch {
	case err != nil:
		return refusedAgain(err)
	case !step.Done:
		c.sendAuth(bt, packets.ContinueAuthentication, step.Data)
		return nil
	case step.Identity != "" && step.Identity != c.identity:
		return &packets.Error{Code: packets.NotAuthorized, Detail: "re-authentication as somebody else"}
	}
	r := c.enhanced.again
	c.enhanced.exchange, c.enhanced.again = nil, nil
	r.Expires = step.Expires
	if err := c.prove(r); err != nil {
		return err
	}
	c.watch(c.broker.alarms.now())
	c.sendAuth(bt, packets.Success, step.Data)
	return nil
}

// refusedAgain is why a re-authentication failed, with a code that DISCONNECT has.
func refusedAgain(err error) error {
	if !packets.ReasonOf(err).AllowedIn(packets.TypeDisconnect) || packets.ReasonOf(err) == packets.UnspecifiedError {
		return &packets.Error{Code: packets.NotAuthorized, Detail: "re-authentication", Err: err}
	}
	return err
}
