package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

var (
	_ petrel.Authenticator        = Certificate{}
	_ petrel.ConnectionAuthorizer = TrustedCertificate{}
)

// Certificate is a [petrel.Authenticator] that admits clients with a certificate
// that TLS has verified, and makes what the certificate names their identity. All
// others are refused with [packets.NotAuthorized], also those whose certificate
// was asked for and not verified (tls.RequireAnyClientCert). A user name that the
// client claims, and a password, are not looked at: many devices send something
// else there.
//
// Whose certificates are good, and which are revoked, the listener decides, see
// listeners.Certificates; [TrustedCertificate] has that reach clients that are
// connected. One whose certificate ends meanwhile is disconnected then, as it is
// with other credentials that end.
type Certificate struct {
	// Name returns the identity that a certificate names. Nil means [CommonName];
	// [DNSName], [EmailAddress] and [URI] are others.
	Name func(*x509.Certificate) (string, error)

	// BelieveProxy also admits clients of which a trusted proxy says, by the PROXY
	// protocol, that it has verified their certificate. Of that nothing is known
	// but the common name, which is their identity whatever Name is.
	BelieveProxy bool

	// Outlive lets a connection outlive the certificate with which it began. The
	// client is refused when it connects again.
	Outlive bool
}

// Authenticate admits the client if its certificate was verified.
func (c Certificate) Authenticate(_ context.Context, r *petrel.ConnectRequest) error {
	name, err := c.nameOf(&r.Peer)
	switch {
	case err != nil:
	case name == "":
		err = errors.New("auth: the name in the certificate of the client is empty")
	case !utf8.ValidString(name):
		err = errors.New("auth: the name in the certificate of the client is not UTF-8")
	default:
		r.Identity = name
		if r.Peer.TLS != nil && !c.Outlive {
			r.Expires = endOf(r.Peer.TLS.VerifiedChains)
		}
		return nil
	}
	return &packets.Error{Code: packets.NotAuthorized, Detail: "certificate", Err: err}
}

// endOf is when the last of the chains has a certificate that ends. It is zero
// without chains.
func endOf(chains [][]*x509.Certificate) (last time.Time) {
	for _, chain := range chains {
		end := chain[0].NotAfter
		for _, c := range chain {
			if c.NotAfter.Before(end) {
				end = c.NotAfter
			}
		}
		if end.After(last) {
			last = end
		}
	}
	return last
}

func (c Certificate) nameOf(p *petrel.Peer) (string, error) {
	switch {
	case p.TLS != nil && len(p.TLS.VerifiedChains) > 0:
		name := c.Name
		if name == nil {
			name = CommonName
		}
		return name(p.TLS.PeerCertificates[0])
	case c.BelieveProxy && p.Proxy != nil && p.Proxy.TLS != nil && p.Proxy.TLS.Verified:
		return p.Proxy.TLS.CommonName, nil
	}
	return "", errors.New("auth: the client has no verified certificate")
}

// CommonName is the common name of the subject.
func CommonName(c *x509.Certificate) (string, error) { return c.Subject.CommonName, nil }

// DNSName is the one DNS name among the alternative names of the subject.
func DNSName(c *x509.Certificate) (string, error) { return theOne("DNS name", c.DNSNames) }

// EmailAddress is the one address of mail among the alternative names of the subject.
func EmailAddress(c *x509.Certificate) (string, error) {
	return theOne("mail address", c.EmailAddresses)
}

// URI is the one URI among the alternative names of the subject, such as
// spiffe://example.org/pump/7.
func URI(c *x509.Certificate) (string, error) {
	var list []string
	for _, u := range c.URIs {
		list = append(list, u.String())
	}
	return theOne("URI", list)
}

// theOne refuses a certificate by which a client could be one or another.
func theOne(what string, list []string) (string, error) {
	if len(list) != 1 {
		return "", fmt.Errorf("auth: the certificate of the client has %d of a %s, not 1", len(list), what)
	}
	return list[0], nil
}

// TrustedCertificate is a [petrel.ConnectionAuthorizer] by which clients stay no
// longer than their certificate is trusted: it refuses them with
// [packets.NotAuthorized] when they connect, and [petrel.Broker.Reauthorize] then
// disconnects those that are connected. It is for the listener whose certificates it
// asks, see [petrel.ListenerOptions]:
//
//	certificates, err := listeners.LoadCertificates(files)
//	...
//	petrel.ListenerOptions{Admit: []petrel.ConnectionAuthorizer{auth.TrustedCertificate{Check: certificates.Check}}}
//	...
//	if err := certificates.Reload(); err == nil {
//		err = broker.Reauthorize(ctx, petrel.Everybody())
//	}
//
// Without it clients stay that have been revoked, since nothing looks at them again.
type TrustedCertificate struct {
	// Check reports why the client at the other end is not trusted any more, such as
	// the method of listeners.Certificates. It is not asked about connections
	// without TLS.
	Check func(*tls.ConnectionState) error
}

// AuthorizeConnection refuses the client if its certificate is not trusted.
func (t TrustedCertificate) AuthorizeConnection(_ context.Context, r *petrel.ConnectionRequest) error {
	if r.Connect == nil || r.Peer.TLS == nil { // the handshake has just been, or is still to come
		return nil
	}
	if err := t.Check(r.Peer.TLS); err != nil {
		return &packets.Error{Code: packets.NotAuthorized, Detail: "certificate", Err: err}
	}
	return nil
}
