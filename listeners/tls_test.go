package listeners_test

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
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/listeners"
)

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "server")}}
	l, err := listeners.TLS("127.0.0.1:0", config)
	require.NoError(t, err)
	closing(t, l)
	require.Empty(t, config.NextProtos, "the caller's config was changed")
	testListener(t, l, func(t *testing.T) net.Conn { return dialTLS(t, l, ca.clientConfig()) })
}

func TestTLSNeedsCertificate(t *testing.T) {
	for _, config := range []*tls.Config{nil, {}} {
		_, err := listeners.TLS("127.0.0.1:0", config)
		require.ErrorContains(t, err, "certificate")
		if config != nil {
			_, err = listeners.WebSocketListen("127.0.0.1:0", listeners.WebSocketOptions{TLSConfig: config})
			require.ErrorContains(t, err, "certificate")
		}
	}
}

func TestTLSHandshake(t *testing.T) {
	ca := newAuthority(t)
	for _, test := range []struct {
		name      string
		protocols []string
		version   uint16
		want      string // protocol agreed on
		refused   bool
	}{
		{name: "no alpn", version: tls.VersionTLS13},
		{name: "mqtt among others", protocols: []string{"h2", "mqtt"}, version: tls.VersionTLS13, want: "mqtt"},
		{name: "only others", protocols: []string{"h2"}, version: tls.VersionTLS13, refused: true},
		{name: "tls 1.2", version: tls.VersionTLS12},
		{name: "tls 1.1", version: tls.VersionTLS11, refused: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			certFile, keyFile := ca.issueFiles(t, "server")
			l, err := listeners.TLSFiles("127.0.0.1:0", certFile, keyFile, "")
			require.NoError(t, err)
			closing(t, l)
			config := ca.clientConfig()
			config.NextProtos = test.protocols
			config.MinVersion, config.MaxVersion = tls.VersionTLS10, test.version

			client := tls.Client(closing(t, dialTCP(t, l.Addr().String())), config)
			bound(t, client)
			server, err := l.Accept()
			require.NoError(t, err)
			closing(t, server)
			bound(t, server)
			errs := make(chan error, 1)
			go func() { errs <- server.(*tls.Conn).Handshake() }()
			err = client.Handshake()
			if test.refused {
				require.Error(t, err)
				require.Error(t, receive(t, errs))
				return
			}
			require.NoError(t, err)
			require.NoError(t, receive(t, errs))
			require.Equal(t, test.want, client.ConnectionState().NegotiatedProtocol)
		})
	}
}

func TestTLSAcceptDoesNotWaitForHandshake(t *testing.T) {
	certFile, keyFile := newAuthority(t).issueFiles(t, "server")
	l, err := listeners.TLSFiles("127.0.0.1:0", certFile, keyFile, "")
	require.NoError(t, err)
	closing(t, l)
	for range 2 {
		closing(t, dialTCP(t, l.Addr().String())) // and says nothing
		conns, _ := accepting(l)
		testDeadlineBeforeHandshake(t, closing(t, receive(t, conns)))
	}
}

func testDeadlineBeforeHandshake(t *testing.T, c net.Conn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Unix(1, 0)))
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestTLSMutual(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	certFile, keyFile := ca.issueFiles(t, "server")
	for _, test := range []struct {
		name  string
		certs []tls.Certificate
		ok    bool
	}{
		{"certificate of the ca", []tls.Certificate{ca.issue(t, "client")}, true},
		{"certificate of a stranger", []tls.Certificate{stranger.issue(t, "client")}, false},
		{"no certificate", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := listeners.TLSFiles("127.0.0.1:0", certFile, keyFile, ca.file(t))
			require.NoError(t, err)
			closing(t, l)
			config := ca.clientConfig()
			// Certificates would be held back if the server's list of
			// authorities did not fit; a hostile client does not do that.
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(test.certs) == 0 {
					return new(tls.Certificate), nil
				}
				return &test.certs[0], nil
			}
			conns, _ := accepting(l)
			raw := closing(t, dialTCP(t, l.Addr().String()))
			client := tls.Client(raw, config)
			bound(t, client)
			go func() { _ = client.Handshake() }()
			server := closing(t, receive(t, conns)).(*tls.Conn)
			bound(t, server)
			err = server.Handshake()
			if !test.ok {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "client", server.ConnectionState().PeerCertificates[0].Subject.CommonName)
			exchange(t, client, server)
		})
	}
}

func TestTLSFilesErrors(t *testing.T) {
	ca := newAuthority(t)
	certFile, keyFile := ca.issueFiles(t, "server")
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for _, test := range []struct{ name, cert, key, clientCA, want string }{
		{"no certificate file", missing, keyFile, "", missing},
		{"no key file", certFile, missing, "", missing},
		{"no client ca file", certFile, keyFile, missing, missing},
		{"client ca file without certificate", certFile, keyFile, keyFile, keyFile},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := listeners.TLSFiles("127.0.0.1:0", test.cert, test.key, test.clientCA)
			require.ErrorContains(t, err, test.want)
		})
	}
}

// dialTLS leaves the handshake to the first Read or Write.
func dialTLS(t *testing.T, l net.Listener, config *tls.Config) net.Conn {
	return tls.Client(dialTCP(t, l.Addr().String()), config)
}

// authority is a certificate authority for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a := &authority{key: key}
	a.cert = a.sign(t, &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "authority"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          []byte{1},
	}, key)
	return a
}

// subordinate makes an authority that this one vouches for.
func (a *authority) subordinate(t *testing.T, name string, serial int64) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return &authority{key: key, cert: a.sign(t, &x509.Certificate{
		SerialNumber:          big.NewInt(serial),
		Subject:               pkix.Name{CommonName: name},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          []byte{2},
	}, key)}
}

func (a *authority) sign(t *testing.T, template *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert
}

// issue makes a certificate for 127.0.0.1 that serves both sides.
func (a *authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	return a.issueSerial(t, name, 2)
}

func (a *authority) issueSerial(t *testing.T, name string, serial int64) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	cert := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func (a *authority) issueFiles(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	cert := a.issue(t, name)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	require.NoError(t, err)
	return writePEM(t, "CERTIFICATE", cert.Certificate[0]), writePEM(t, "PRIVATE KEY", key)
}

func (a *authority) file(t *testing.T) string {
	t.Helper()
	return writePEM(t, "CERTIFICATE", a.cert.Raw)
}

func (a *authority) clientConfig() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}

func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}
