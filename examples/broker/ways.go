package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
)

// way is one in which a client can prove who it is.
type way string

const (
	byPassword    way = "password"    // its user and password are in the password file
	bySCRAM       way = "scram"       // it knows the password of a user of the SCRAM file, by AUTH packets of 5.0
	byToken       way = "jwt"         // its password is a token
	bySite        way = "http"        // a web service admits it
	byCertificate way = "certificate" // TLS, or a proxy that is believed, has verified its certificate
	byPeerUser    way = "peerUser"    // the system says who is at the other end of a Unix socket
)

func (w *way) UnmarshalText(text []byte) error {
	switch v := way(text); v {
	case byPassword, bySCRAM, byToken, bySite, byCertificate, byPeerUser:
		*w = v
		return nil
	}
	return fmt.Errorf("%q is none of password, scram, jwt, http, certificate, peerUser", text)
}

// given says whether the configuration has what the way needs, and what that is.
func (w way) given(c *config) (bool, string) {
	switch w {
	case byPassword:
		return c.passwords != "", "authentication.passwordFile"
	case bySCRAM:
		return c.scram.file != "", "authentication.scram.file"
	case byToken:
		return c.jwt.keysFile != "", "authentication.jwt.keysFile"
	case bySite:
		return c.site.url != "", "authentication.http.url"
	}
	return true, ""
}

// check reports why there could be no client of the listener that comes in this way.
func (w way) check(c *config, d *door) error {
	if given, what := w.given(c); !given {
		return fmt.Errorf("%q needs %s", w, what)
	}
	switch {
	case w == byCertificate && d.secure && d.certificates(c).clientCA == "":
		return fmt.Errorf("%q needs tls.clientCA", w)
	case w == byCertificate && !d.secure && d.proxy == nil:
		return fmt.Errorf("%q needs a listener with TLS, or behind a proxy that has it", w)
	case w == byPeerUser && !d.unix:
		return fmt.Errorf("%q needs a Unix socket", w)
	case w == byPeerUser && d.proxy != nil:
		return fmt.Errorf("%q needs a listener without a proxy, whose user it would be", w)
	}
	return nil
}

// ways are those of a listener that says nothing about them: all that are given.
// That a certificate, or being a user of this machine, is enough has to be said.
func (c *config) ways() (list []way) {
	for _, w := range []way{byPassword, byToken, bySite, bySCRAM} {
		if given, _ := w.given(c); given {
			list = append(list, w)
		}
	}
	return list
}

// entry is how clients get in at a listener.
func (d *door) entry(c *config) (ways []way, anonymous policy) {
	if ways = d.ways; ways == nil {
		ways = c.ways()
	}
	if anonymous = d.anonymous; anonymous == "" {
		anonymous = c.anonymous
	}
	return ways, anonymous
}

// describe says in the log who gets in without credentials: once for all
// listeners that say nothing about it, and for each of the others.
func (c *config) describe(ctx context.Context, log *slog.Logger) {
	said := false
	for _, d := range c.doors() {
		var where slog.Attr
		if d.ways != nil || d.anonymous != "" {
			where = slog.String("listener", d.at)
		} else if said {
			continue
		} else {
			said = true
		}
		ways, anonymous := d.entry(c)
		log.LogAttrs(ctx, anonymous.level(len(ways) > 0), anonymous.describe(len(ways) > 0), where)
	}
}

// options are what is different for the connections of a listener.
func (a *access) options(d *door, c *config) petrel.ListenerOptions {
	ways, anonymous := d.entry(c)
	e := entrance{anonymous: anonymous.hook(), proves: len(ways) > 0}
	var hooks []petrel.Hook
	var any []petrel.Authenticator
	for _, w := range ways {
		switch w {
		case byPassword:
			any = append(any, a.passwords)
		case byToken:
			any = append(any, a.tokens)
			if c.jwt.options.Method != "" {
				hooks = append(hooks, struct{ petrel.EnhancedAuthenticator }{a.tokens})
			}
		case bySite:
			any = append(any, a.site.Authenticator())
		case bySCRAM:
			hooks = append(hooks, a.scram)
		case byCertificate:
			any = append(any, auth.Certificate{Name: certificateNames[c.certificateName], BelieveProxy: !d.secure, Outlive: c.outlive})
		case byPeerUser:
			any = append(any, auth.PeerUser{Name: peerUserNames[c.peerUserName]})
		}
	}
	e.known = auth.AnyOf(any...)
	return petrel.ListenerOptions{
		Name: d.label, MaximumConnections: d.connections, Authenticate: append(hooks, e), Admit: a.admit(d, c),
	}
}

// admit has a reload reach the clients of a listener that are connected.
func (a *access) admit(d *door, c *config) []petrel.ConnectionAuthorizer {
	files := d.certificates(c)
	if !d.secure || files.clientCA == "" || files.stay {
		return nil
	}
	return []petrel.ConnectionAuthorizer{auth.TrustedCertificate{Check: a.certificates[files].Check}}
}

// entrance admits the clients of a listener: those whom one of its ways knows,
// and those that claim nothing, as far as the policy for anonymous ones goes.
type entrance struct {
	proves    bool                 // there is a way to prove a claim; otherwise all clients are anonymous
	known     petrel.Authenticator // of clients that do not come by enhanced authentication
	anonymous petrel.Authenticator
}

// DecidesPromptly tells whether nobody is asked who might take long: none of the
// policies for anonymous clients does.
func (e entrance) DecidesPromptly() bool {
	known, ok := e.known.(petrel.PromptAuthenticator)
	return !e.proves || ok && known.DecidesPromptly()
}

// Authenticate admits who is known, or has nothing to be known by.
func (e entrance) Authenticate(ctx context.Context, r *petrel.ConnectRequest) error {
	if !e.proves {
		return e.anonymous.Authenticate(ctx, r)
	}
	err := e.known.Authenticate(ctx, r)
	if err == nil || r.HasUserName || r.HasPassword {
		return err
	}
	return e.anonymous.Authenticate(ctx, r)
}

// certificateName says what of a certificate is the identity of its client.
type certificateName string

var certificateNames = map[certificateName]func(*x509.Certificate) (string, error){
	"": auth.CommonName, "commonName": auth.CommonName, "dnsName": auth.DNSName, "emailAddress": auth.EmailAddress, "uri": auth.URI,
}

func (n *certificateName) UnmarshalText(text []byte) error {
	*n = certificateName(text)
	if *n == "" || certificateNames[*n] == nil {
		return fmt.Errorf("%q is none of commonName, dnsName, emailAddress, uri", text)
	}
	return nil
}

// peerUserName says what the identity of a user of this machine is.
type peerUserName string

var peerUserNames = map[peerUserName]func(petrel.Credentials) (string, error){"": nil, "uid": nil, "userName": auth.UserName}

func (n *peerUserName) UnmarshalText(text []byte) error {
	*n = peerUserName(text)
	if _, known := peerUserNames[*n]; *n == "" || !known {
		return fmt.Errorf("%q is none of uid, userName", text)
	}
	return nil
}
