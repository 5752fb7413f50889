package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
)

// access is everything that decides who gets in and what they may do, as far as
// it stands in files. The files can be read again while the broker runs.
type access struct {
	anonymous petrel.Authenticator
	passwords *auth.PasswordFile // nil without one
	acl       *auth.ACLFile      // nil without one
	files     tlsFiles
	tls       atomic.Pointer[tls.Config] // nil without a certificate
}

// newAccess reads the files that the configuration names.
func newAccess(c *config) (*access, error) {
	a := &access{anonymous: c.anonymous.hook(), files: c.tlsFiles}
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
	if c.tlsFiles == (tlsFiles{}) {
		if len(c.tls)+len(c.wss) > 0 {
			return nil, errors.New("listeners.tls and listeners.wss need tls.certificate and tls.key")
		}
		return a, nil
	}
	return a, a.loadTLS()
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

// loadTLS reads the certificates. On failure what was read before stays.
func (a *access) loadTLS() error {
	certificate, err := tls.LoadX509KeyPair(a.files.certificate, a.files.key)
	if err != nil {
		return fmt.Errorf("load certificate %s with key %s: %w", a.files.certificate, a.files.key, err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	if a.files.clientCA != "" {
		pem, err := os.ReadFile(a.files.clientCA)
		if err != nil {
			return fmt.Errorf("load client CA: %w", err)
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("load client CA: no certificate in %s", a.files.clientCA)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	a.tls.Store(config)
	return nil
}

// tlsConfig is for listeners: each handshake uses what was loaded last. protocols
// are those for ALPN.
func (a *access) tlsConfig(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			config := a.tls.Load().Clone()
			config.NextProtos = protocols
			return config, nil
		},
	}
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
	if a.files != (tlsFiles{}) {
		failed = errors.Join(failed, a.loadTLS())
	}
	if failed != nil {
		log.Error("reload failed, what could not be read stays as it was", "error", failed)
		return
	}
	log.Info("reloaded")
	a.warn(log)
}
