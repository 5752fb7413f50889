package main

import (
	"context"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/hooks/jwt"
)

// tokens is what is said of JSON Web Tokens.
type tokens struct {
	keysFile string
	options  jwt.Options
	rights   jwt.Rights // claims; none if tokens say only who somebody is
}

func (j *tokens) keys() keys {
	return keys{
		"keysFile":     &j.keysFile,
		"issuer":       &j.options.Issuer,
		"audience":     &j.options.Audience,
		"identity":     &j.options.Identity,
		"clientID":     &j.options.ClientID,
		"publish":      &j.rights.Publish,
		"subscribe":    &j.rights.Subscribe,
		"fromUserName": &j.options.FromUserName,
		"allowEndless": &j.options.AllowEndless,
		"leeway":       (*duration)(&j.options.Leeway),
		"method":       &j.options.Method,
	}
}

func (a *access) readTokens(c *config) (err error) {
	if c.jwt.keysFile == "" {
		return nil
	}
	if a.keys, err = jwt.NewJWKSFile(c.jwt.keysFile); a.read(a.keys, err) != nil {
		return err
	}
	options := c.jwt.options
	options.Keys = a.keys
	if c.jwt.rights == (jwt.Rights{}) {
		a.tokens, err = jwt.New(options)
		return err
	}
	if a.guard, err = jwt.NewGuard(options, c.jwt.rights); err == nil {
		a.tokens = a.guard.Authenticator
	}
	return err
}

// claimed lets tokens say what their clients may do, in place of the ACL file, which
// decides about all others.
type claimed struct {
	guard  *jwt.Guard
	others *auth.ACLFile // nil: they may do everything
}

// Authorize allows what the token does, or the file.
func (p claimed) Authorize(ctx context.Context, r *petrel.AccessRequest) error {
	switch {
	case p.guard.Knows(r.Client):
		return p.guard.Authorize(ctx, r)
	case p.others != nil:
		if err := p.others.Authorize(ctx, r); err == nil || r.Client.Connected() {
			return err
		}
	case r.Client.Connected():
		return nil
	}
	// Nobody knows how a client came that has not come back since a restart.
	return p.guard.Authorize(ctx, r)
}
