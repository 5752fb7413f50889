package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/hooks/httpauth"
	"github.com/petrelmq/petrel/hooks/jwt"
	"github.com/petrelmq/petrel/hooks/limit"
	"github.com/petrelmq/petrel/hooks/scram"
	"github.com/petrelmq/petrel/listeners"
)

// access is everything that decides who gets in and what they may do, as far as
// it stands in files. The files can be read again while the broker runs.
type access struct {
	passwords    *auth.PasswordFile // nil without one, as all that follow
	rights       *auth.ACLFile
	users        *scram.File
	scram        *scram.Authenticator
	keys         *jwt.JWKSFile
	tokens       *jwt.Authenticator
	guard        *jwt.Guard // if tokens say what their clients may do
	site         *httpauth.Service
	limiter      *limit.Limiter
	certificates map[tlsFiles]*listeners.Certificates

	files []interface{ Reload() error } // all of them
	log   *slog.Logger
}

// newAccess reads the files that the configuration names. An error begins with
// the key that is at fault.
func newAccess(c *config, log *slog.Logger) (*access, error) {
	a := &access{certificates: map[tlsFiles]*listeners.Certificates{}, log: log}
	for _, part := range []struct {
		key  string
		read func(*config) error
	}{
		{"authentication.passwordFile", a.readPasswords},
		{"authentication.scram", a.readSCRAM},
		{"authentication.jwt", a.readTokens},
		{"authentication.http", a.readSite},
		{"authentication.aclFile", a.readRights},
		{"connectRates", a.readRates},
	} {
		if err := part.read(c); err != nil {
			return nil, fmt.Errorf("%s: %w", part.key, err)
		}
	}
	return a, a.readCertificates(c)
}

// read notes a file that was read for the first time.
func (a *access) read(file interface{ Reload() error }, err error) error {
	if err == nil {
		a.files = append(a.files, file)
	}
	return err
}

func (a *access) readPasswords(c *config) (err error) {
	if c.passwords == "" {
		return nil
	}
	a.passwords, err = auth.NewPasswordFile(c.passwords)
	return a.read(a.passwords, err)
}

func (a *access) readRights(c *config) (err error) {
	if c.acl == "" {
		return nil
	}
	if a.rights, err = auth.NewACLFile(c.acl); err == nil {
		a.rights.GrantSubscriptions = c.grantAll
	}
	return a.read(a.rights, err)
}

func (a *access) readSCRAM(c *config) (err error) {
	if c.scram.file == "" {
		return nil
	}
	if a.users, err = scram.NewFile(c.scram.file); a.read(a.users, err) != nil {
		return err
	}
	options := scram.Options{Credentials: a.users}
	if c.scram.saltKeyFile != "" {
		if options.SaltKey, err = os.ReadFile(c.scram.saltKeyFile); err != nil {
			return err
		}
	}
	a.scram, err = scram.New(options)
	return err
}

func (a *access) readRates(c *config) (err error) {
	if c.rates == nil {
		return nil
	}
	a.limiter, err = limit.New(*c.rates)
	return err
}

// readCertificates reads the files of each listener with TLS, those that several
// have in common once; and those of all listeners, even where nobody needs them.
func (a *access) readCertificates(c *config) error {
	load := func(at string, f tlsFiles) (err error) {
		if a.certificates[f] != nil {
			return nil
		}
		certificates, err := listeners.LoadCertificates(listeners.CertificateFiles{
			Certificate: f.certificate, Key: f.key, ClientCA: f.clientCA, CRL: f.crl,
			OptionalClientCertificate: f.optional, TolerateExpiredCRL: f.expired,
		})
		if a.read(certificates, err) != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		a.certificates[f] = certificates
		return nil
	}
	for _, d := range c.doors() {
		if d.tls != nil {
			if err := load(d.at+".tls", *d.tls); err != nil {
				return err
			}
		}
	}
	if c.tlsFiles == (tlsFiles{}) {
		return nil
	}
	return load("tls", c.tlsFiles)
}

// hooks are those of the broker. Who is admitted is a matter of each listener.
func (a *access) hooks(c *config) []petrel.Hook {
	list := []petrel.Hook{auth.AnyOf()} // nobody, at a listener that does not say
	if a.limiter != nil {
		list = append(list, a.limiter)
	}
	switch {
	case a.guard != nil:
		list = append(list, claimed{a.guard, a.rights})
	case a.rights != nil:
		list = append(list, a.rights)
	}
	if c.site.rights {
		list = append(list, a.site.Authorizer())
	}
	return list
}

// warn says which files are empty, which is seldom meant: they deny everybody.
func (a *access) warn(log *slog.Logger) {
	if a.passwords != nil && a.passwords.Users() == 0 {
		log.Warn("the password file has no users: nobody with a user name can connect")
	}
	if a.users != nil && a.users.Users() == 0 {
		log.Warn("the SCRAM file has no users: nobody can connect with SCRAM-SHA-256")
	}
	if a.keys != nil && a.keys.CurrentKeys().Len() == 0 {
		log.Warn("the key set has no keys: no token is accepted")
	}
	if a.rights != nil && a.rights.Rules() == 0 {
		log.Warn("the ACL file has no rules: nobody may publish or receive anything")
	}
}

// reload reads all files again. What cannot be read stays as it was.
func (a *access) reload(log *slog.Logger) {
	var failed error
	for _, f := range a.files {
		failed = errors.Join(failed, f.Reload())
	}
	if failed != nil {
		log.Error("reload failed, what could not be read stays as it was", "error", failed)
		return
	}
	log.Info("reloaded")
	a.warn(log)
}
