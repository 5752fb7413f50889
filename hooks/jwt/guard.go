package jwt

import (
	"context"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/packets"
)

var (
	_ petrel.Authenticator         = (*Guard)(nil)
	_ petrel.EnhancedAuthenticator = (*Guard)(nil)
	_ petrel.Authorizer            = (*Guard)(nil)
)

// Rights names the claims that hold what a client may do: each a topic filter, or
// a list of them, with the meaning that [auth.Grants] give them. A claim that is
// missing grants nothing.
type Rights struct {
	Publish   string // topics that the client may publish to
	Subscribe string // topics that it may read
}

// Guard is an [Authenticator] that is also an [petrel.Authorizer]: it allows a
// client what its token does, and nothing to clients whose token it has not seen.
// A re-authentication replaces the rights. Those of a session that is only known
// from the store are unknown until its client comes back: until then messages
// that are checked before delivery are not queued for it.
type Guard struct{ *Authenticator }

// NewGuard makes a guard. At least one claim must be named.
func NewGuard(o Options, r Rights) (*Guard, error) {
	if r == (Rights{}) {
		return nil, errors.New("jwt: Rights names no claim, so nobody could do anything; New makes an authenticator alone")
	}
	a, err := New(o)
	if err != nil {
		return nil, err
	}
	a.rights = &r
	return &Guard{a}, nil
}

// grantsKey is what grants are kept by; each guard has its own.
type grantsKey struct{ a *Authenticator }

// grant leaves with the connection what the token allows.
func (a *Authenticator) grant(r *petrel.ConnectRequest, f *findings) {
	if a.rights != nil {
		r.SetValue(grantsKey{a}, f.grants)
	}
}

func (g *Guard) grantsOf(c *petrel.Client) (*auth.Grants, bool) {
	grants, ok := c.Value(grantsKey{g.Authenticator}).(*auth.Grants)
	return grants, ok
}

// Knows reports whether the client has come with a token of which the guard knows the
// rights. It is for hosts that let others decide about clients which come otherwise.
func (g *Guard) Knows(c *petrel.Client) bool {
	_, ok := g.grantsOf(c)
	return ok
}

// Authorize allows what the token of the client does.
func (g *Guard) Authorize(_ context.Context, r *petrel.AccessRequest) error {
	grants, ok := g.grantsOf(r.Client)
	switch {
	case ok:
	case r.Client.Connected():
		return packets.NotAuthorized
	default:
		return packets.ServerBusy // not a refusal: its next token says what it may
	}
	return grants.Authorize(r)
}

// of compiles what the claims of a token grant.
func (r *Rights) of(claims jwt.MapClaims) (*auth.Grants, error) {
	publish, err := filters(claims, r.Publish)
	if err != nil {
		return nil, err
	}
	subscribe, err := filters(claims, r.Subscribe)
	if err != nil {
		return nil, err
	}
	grants, err := auth.NewGrants(publish, subscribe)
	if err != nil {
		return nil, errors.New("jwt: a claim has what is no topic filter") // without quoting it
	}
	return grants, nil
}

func filters(claims jwt.MapClaims, name string) (list []string, err error) {
	if name == "" {
		return nil, nil
	}
	switch v := claims[name].(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		for _, each := range v {
			filter, ok := each.(string)
			if !ok {
				return nil, fmt.Errorf("jwt: the claim %q has what is no topic filter", name)
			}
			list = append(list, filter)
		}
		return list, nil
	}
	return nil, fmt.Errorf("jwt: the claim %q is no list of topic filters", name)
}
