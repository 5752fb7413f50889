// Package certtest makes certificates and revocation lists for the tests of petrel.
// It panics where that fails, which only a template that cannot be meant brings about.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority is a certificate authority. All of them have one name.
type Authority struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64 // the last one of those that nobody has chosen
}

// New makes an authority that nobody else vouches for.
func New() *Authority {
	a := &Authority{key: newKey(), serial: 1000}
	a.Certificate = a.sign(authority("authority", 1), a.key)
	return a
}

// Subordinate makes an authority that this one vouches for.
func (a *Authority) Subordinate(name string, serial int64) *Authority {
	key := newKey()
	template := authority(name, serial)
	template.SubjectKeyId = []byte{2}
	return &Authority{Certificate: a.sign(template, key), key: key, serial: 1000}
}

// Again makes a certificate anew for an authority that keeps its name and key.
func (a *Authority) Again() *Authority {
	again := &Authority{key: a.key, serial: a.serial}
	again.Certificate = again.sign(authority(a.Certificate.Subject.CommonName, 1), a.key)
	return again
}

func authority(name string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
	}
}

// Issue makes a certificate for 127.0.0.1 that serves servers and clients, good from
// an hour ago for two hours. Each has another serial
// number, above 1000.
func (a *Authority) Issue(name string, change ...func(*x509.Certificate)) tls.Certificate {
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial),
		Subject:      pkix.Name{CommonName: name},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, f := range change {
		f(template)
	}
	key := newKey()
	c := a.sign(template, key)
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
}

// Serial is a change of a certificate that is issued.
func Serial(n int64) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.SerialNumber = big.NewInt(n) }
}

// Until is a change of a certificate that is issued.
func Until(end time.Time) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotAfter = end }
}

func (a *Authority) sign(template *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent := a.Certificate
	if parent == nil {
		parent = template
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key))))
}

// Revoke makes a revocation list in PEM that is good until next.
func (a *Authority) Revoke(next time.Time, serials ...int64) []byte {
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: next.Add(-2 * time.Hour), NextUpdate: next}
	for _, s := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: template.ThisUpdate})
	}
	return a.List(template)
}

// List signs a revocation list, in PEM.
func (a *Authority) List(template *x509.RevocationList) []byte {
	return PEM("X509 CRL", must(x509.CreateRevocationList(rand.Reader, template, a.Certificate, a.key)))
}

// PEM is the certificate of the authority.
func (a *Authority) PEM() []byte { return PEM("CERTIFICATE", a.Certificate.Raw) }

// Client is the config of a client that trusts the authority, and presents certificates.
func (a *Authority) Client(certificates ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate)
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Certificates: certificates}
}

// Save writes the chain of a certificate to NAME.crt, and its key to NAME.key.
func Save(dir, name string, c tls.Certificate) (certFile, keyFile string) {
	certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	var chain []byte
	for _, der := range c.Certificate {
		chain = append(chain, PEM("CERTIFICATE", der)...)
	}
	key := PEM("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(c.PrivateKey)))
	for file, content := range map[string][]byte{certFile: chain, keyFile: key} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			panic(err)
		}
	}
	return certFile, keyFile
}

// PEM encodes DER.
func PEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func newKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
