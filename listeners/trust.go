package listeners

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// Check reports why the client of a connection would not get in any more, as far as
// trust goes: no chain that its handshake has verified leads to an authority that is
// in ClientCA now, or each has a certificate that is revoked now. It does not look at
// times, neither those of certificates nor the next update of lists: by what was
// loaded when the client came, Check has nothing against it. Nor has it against a
// client without a certificate, nor against a nil state.
//
// A broker asks it by auth.TrustedCertificate, so that a reload reaches connections
// that are open.
func (c *Certificates) Check(state *tls.ConnectionState) error {
	l := c.loaded.Load()
	if state == nil || len(state.VerifiedChains) == 0 || l.roots == nil {
		return nil
	}
	var refused error
	for _, chain := range state.VerifiedChains {
		trusted := l.trusted(chain)
		if trusted == nil {
			if refused == nil {
				refused = fmt.Errorf("listeners: the certificate of %s does not chain to a client CA any more", chain[0].Subject)
			}
			continue
		}
		err := l.revoked.checkRevoked(trusted)
		if err == nil {
			return nil
		}
		refused = err
	}
	return refused
}

// trusted is the chain up to its first authority, nil if it has none. An authority
// that was issued again, with its name and its key, is the same.
func (l *loaded) trusted(chain []*x509.Certificate) []*x509.Certificate {
	for i, c := range chain {
		for _, a := range l.authorities {
			if bytes.Equal(c.RawSubject, a.RawSubject) && bytes.Equal(c.RawSubjectPublicKeyInfo, a.RawSubjectPublicKeyInfo) {
				return chain[:i+1]
			}
		}
	}
	return nil
}
