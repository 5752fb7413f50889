package listeners

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"
)

// revocations are certificate revocation lists by the name of their issuer, in DER.
type revocations map[string][]*revocationList

// revocationList is one of them.
type revocationList struct {
	list    *x509.RevocationList // without what is in serials
	serials map[string]struct{}  // of revoked certificates, as big-endian bytes
	signers sync.Map             // from the public key of an issuer, as a string, to whether it signed the list
}

// parseAuthorities reads a PEM file of certificates. Others may be between them.
func parseAuthorities(text []byte) (list []*x509.Certificate, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return list, nil
}

// parseRevocations reads a file of lists. One that is said to be of an authority
// must be signed by it; whether others are is found out when they are needed.
func parseRevocations(text []byte, authorities []*x509.Certificate, now time.Time, tolerateExpired bool) (revocations, error) {
	var found [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "X509 CRL" {
			found = append(found, block.Bytes)
		}
	}
	if len(found) == 0 {
		found = [][]byte{text}
	}
	lists := make(revocations)
	for _, der := range found {
		l, err := parseRevocationList(der)
		if err != nil {
			return nil, err
		}
		if !tolerateExpired && l.expired(now) {
			return nil, fmt.Errorf("the list of %s should have been updated at %v", l.list.Issuer, l.list.NextUpdate)
		}
		issuer := string(l.list.RawIssuer)
		named, signed := false, false
		for _, a := range authorities {
			if string(a.RawSubject) == issuer {
				named, signed = true, signed || l.signedBy(a)
			}
		}
		if named && !signed {
			return nil, fmt.Errorf("the list of %s is not signed by that client CA", l.list.Issuer)
		}
		lists[issuer] = append(lists[issuer], l)
	}
	return lists, nil
}

func parseRevocationList(der []byte) (*revocationList, error) {
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	for _, x := range parsed.Extensions {
		// The indicator of a delta list is critical too (RFC 5280, section 5.2.4).
		if x.Critical {
			return nil, fmt.Errorf("the list of %s has the critical extension %v, which is not supported", parsed.Issuer, x.Id)
		}
	}
	l := &revocationList{serials: make(map[string]struct{}, len(parsed.RevokedCertificateEntries))}
	for _, e := range parsed.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Critical {
				return nil, fmt.Errorf("the list of %s has an entry with the critical extension %v, which is not supported", parsed.Issuer, x.Id)
			}
		}
		l.serials[string(e.SerialNumber.Bytes())] = struct{}{}
	}
	l.list = &x509.RevocationList{
		RawTBSRevocationList: parsed.RawTBSRevocationList, RawIssuer: parsed.RawIssuer, Issuer: parsed.Issuer,
		Signature: parsed.Signature, SignatureAlgorithm: parsed.SignatureAlgorithm, NextUpdate: parsed.NextUpdate,
	}
	return l, nil
}

func (l *revocationList) expired(now time.Time) bool {
	return !l.list.NextUpdate.IsZero() && now.After(l.list.NextUpdate)
}

// signedBy remembers the answer: keys are only those of certificates that are
// part of a verified chain.
func (l *revocationList) signedBy(issuer *x509.Certificate) bool {
	key := string(issuer.RawSubjectPublicKeyInfo)
	if signed, ok := l.signers.Load(key); ok {
		return signed.(bool)
	}
	signed := l.list.CheckSignatureFrom(issuer) == nil
	l.signers.Store(key, signed)
	return signed
}

// check refuses a client unless one of its chains has no revoked certificate. A
// client without a certificate has no chains; whether it may is not decided here.
func (r revocations) check(chains [][]*x509.Certificate, now time.Time, tolerateExpired bool) error {
	var refused error
	for _, chain := range chains {
		err := r.checkChain(chain, now, tolerateExpired)
		if err == nil {
			return nil
		}
		refused = err
	}
	return refused
}

func (r revocations) checkChain(chain []*x509.Certificate, now time.Time, tolerateExpired bool) error {
	if err := r.checkRevoked(chain); err != nil {
		return err
	}
	for i, c := range chain[:len(chain)-1] {
		current := false
		for l := range r.of(c, chain[i+1]) {
			current = current || tolerateExpired || !l.expired(now)
		}
		if !current {
			return fmt.Errorf("listeners: no current revocation list of %s, which issued the certificate of %s", c.Issuer, c.Subject)
		}
	}
	return nil
}

// checkRevoked refuses a chain with a revoked certificate, whatever the age of lists.
func (r revocations) checkRevoked(chain []*x509.Certificate) error {
	for i, c := range chain[:len(chain)-1] {
		for l := range r.of(c, chain[i+1]) {
			if _, revoked := l.serials[string(c.SerialNumber.Bytes())]; revoked {
				return fmt.Errorf("listeners: the certificate of %s with serial %x is revoked", c.Subject, c.SerialNumber)
			}
		}
	}
	return nil
}

// of yields the lists that may have c in them: those that its issuer has signed.
func (r revocations) of(c, issuer *x509.Certificate) iter.Seq[*revocationList] {
	return func(yield func(*revocationList) bool) {
		for _, l := range r[string(c.RawIssuer)] {
			if l.signedBy(issuer) && !yield(l) {
				return
			}
		}
	}
}
