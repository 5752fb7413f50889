package httpauth

import (
	"context"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/packets"
)

var (
	_ petrel.Authenticator = authenticator{}
	_ petrel.Authorizer    = authorizer{}
)

type authenticator struct{ s *Service }

// Authenticate admits the client if the service does.
func (a authenticator) Authenticate(ctx context.Context, r *petrel.ConnectRequest) error {
	q, err := a.s.aboutConnect(r)
	if err != nil {
		return err
	}
	v, err := a.s.ask(ctx, q)
	if err != nil {
		return err
	}
	if v.code != packets.Success {
		return &packets.Error{Code: v.code, Detail: "httpauth: the service denies"}
	}
	if v.identity != "" {
		r.Identity = v.identity
	}
	if !v.expires.IsZero() {
		r.Expires = v.expires
	}
	if v.rights != nil {
		r.SetValue(rightsKey(a), &granted{v, r.UserName})
	}
	return nil
}

type authorizer struct{ s *Service }

// Authorize allows what the service does.
func (a authorizer) Authorize(ctx context.Context, r *petrel.AccessRequest) error {
	if g, ok := r.Client.Value(rightsKey(a)).(*granted); ok && !a.s.void(g, r.Client.Identity()) {
		return g.rights.authorize(r)
	}
	q, err := a.s.aboutAccess(r)
	if err != nil {
		return err
	}
	v, err := a.s.ask(ctx, q)
	if err != nil {
		return err
	}
	if v.code != packets.Success {
		return &packets.Error{Code: v.code, Detail: "httpauth: the service denies"}
	}
	if r.Action == petrel.Subscribe && v.check {
		r.CheckDeliveries = true
	}
	return nil
}

// rightsKey is what rights are kept by; each Service has its own.
type rightsKey struct{ s *Service }

// granted is a verdict with rights, for a connection.
type granted struct {
	*verdict
	userName string
}

// rights are what the answer to a CONNECT allows.
type rights struct {
	all    bool
	grants *auth.Grants
}

func (r *rights) authorize(a *petrel.AccessRequest) error {
	if r.all {
		return nil
	}
	return r.grants.Authorize(a)
}

// void reports whether the rights were forgotten.
func (s *Service) void(g *granted, identity string) bool {
	if s.ledger.now.Load() == g.asked {
		return false // as nothing was
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.void(g.asked, identity, g.owner(g.userName), g.userName)
}
