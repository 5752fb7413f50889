package petrel

import (
	"time"

	"github.com/petrelmq/petrel/packets"
)

// proof is what an authentication left with a connection beside an identity. It
// never changes; a re-authentication replaces it.
type proof struct {
	until  instant // when the credentials end; 0 means never
	values *value
}

// value is one of a list, the latest first. Lists share their ends, so that a
// copy of a ConnectRequest can get values of its own.
type value struct {
	key, value any
	next       *value
}

// SetValue leaves something with the connection for [Client.Value], in place of
// what it had for key. Keys are compared as in [context.Context]: a hook uses a
// type of its own. With enhanced authentication it is called on
// [AuthenticationRequest.Connect] before the exchange is done; what a
// re-authentication sets takes the place of all that was set before.
func (r *ConnectRequest) SetValue(key, v any) { r.values = &value{key, v, r.values} }

// Value returns what an authenticator left with the connection for key, see
// [ConnectRequest.SetValue], or nil. It is not part of the session: a client that
// is only known from the [Store] has no values.
func (c *Client) Value(key any) any {
	p := c.proof.Load()
	if p == nil {
		return nil
	}
	for v := p.values; v != nil; v = v.next {
		if v.key == key {
			return v.value
		}
	}
	return nil
}

// prove takes over what an authentication has found beside the identity.
func (c *Client) prove(r *ConnectRequest) error {
	if r.Expires.IsZero() && r.values == nil {
		c.proof.Store(nil)
		return nil
	}
	p := &proof{values: r.values}
	if !r.Expires.IsZero() {
		left := time.Until(r.Expires)
		if left <= 0 {
			return &packets.Error{Code: packets.NotAuthorized, Detail: "the credentials have expired"}
		}
		p.until = c.broker.alarms.now().after(left)
	}
	c.proof.Store(p)
	return nil
}

// until is when the credentials of the client end; 0 means never.
func (c *Client) until() instant {
	if p := c.proof.Load(); p != nil {
		return p.until
	}
	return 0
}

// earlier is the first of two ends; the zero time means that there is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

var errCredentialsExpired = &packets.Error{Code: packets.MaximumConnectTime, Detail: "the credentials have expired"}
