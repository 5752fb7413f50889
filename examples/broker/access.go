package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/listeners"
)

// access is everything that decides who gets in and what they may do, as far as
// it stands in files. The files can be read again while the broker runs.
type access struct {
	anonymous petrel.Authenticator
	passwords *auth.PasswordFile      // nil without one
	acl       *auth.ACLFile           // nil without one
	tls       *listeners.Certificates // nil without a certificate
}

// newAccess reads the files that the configuration names.
func newAccess(c *config) (*access, error) {
	a := &access{anonymous: c.anonymous.hook()}
	var err error
	if c.passwords != "" {
		if a.passwords, err = auth.NewPasswordFile(c.passwords); err != nil {
			return nil, err
		}
	}
	if c.acl != "" {
		if a.acl, err = auth.NewACLFile(c.acl); err != nil {
			return nil, err
		}
	}
	f := c.tlsFiles
	if f == (tlsFiles{}) {
		if len(c.tls)+len(c.wss) > 0 {
			return nil, errors.New("listeners.tls and listeners.wss need tls.certificate and tls.key")
		}
		return a, nil
	}
	a.tls, err = listeners.LoadCertificates(listeners.CertificateFiles{Certificate: f.certificate, Key: f.key, ClientCA: f.clientCA, CRL: f.crl})
	return a, err
}

// hooks are those of the broker.
func (a *access) hooks() []petrel.Hook {
	list := []petrel.Hook{petrel.AuthenticatorFunc(a.authenticate)}
	if a.acl != nil {
		list = append(list, a.acl)
	}
	return list
}

// authenticate asks for a password whoever gives a user name, if there is a
// password file; all others are anonymous.
func (a *access) authenticate(ctx context.Context, r *petrel.ConnectRequest) error {
	if a.passwords != nil && r.HasUserName {
		return a.passwords.Authenticate(ctx, r)
	}
	return a.anonymous.Authenticate(ctx, r)
}

// warn says which files are empty, which is seldom meant: they deny everybody.
func (a *access) warn(log *slog.Logger) {
	if a.passwords != nil && a.passwords.Users() == 0 {
		log.Warn("the password file has no users: nobody with a user name can connect")
	}
	if a.acl != nil && a.acl.Rules() == 0 {
		log.Warn("the ACL file has no rules: nobody may publish or subscribe")
	}
}

// reload reads all files again. What cannot be read stays as it was.
func (a *access) reload(log *slog.Logger) {
	var failed error
	if a.passwords != nil {
		failed = errors.Join(failed, a.passwords.Reload())
	}
	if a.acl != nil {
		failed = errors.Join(failed, a.acl.Reload())
	}
	if a.tls != nil {
		failed = errors.Join(failed, a.tls.Reload())
	}
	if failed != nil {
		log.Error("reload failed, what could not be read stays as it was", "error", failed)
		return
	}
	log.Info("reloaded")
	a.warn(log)
}
