package listeners_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/certtest"
	"github.com/petrelmq/petrel/listeners"
)

func TestTLS(t *testing.T) {
	ca := certtest.New()
	config := &tls.Config{Certificates: []tls.Certificate{ca.Issue("server")}}
	l, err := listeners.TLS("127.0.0.1:0", config)
	require.NoError(t, err)
	closing(t, l)
	require.Empty(t, config.NextProtos, "the caller's config was changed")
	testListener(t, l, func(t *testing.T) net.Conn { return dialTLS(t, l, ca.Client()) })
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
	ca := certtest.New()
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
			certFile, keyFile := certtest.Save(t.TempDir(), "server", ca.Issue("server"))
			l, err := listeners.TLSFiles("127.0.0.1:0", certFile, keyFile, "")
			require.NoError(t, err)
			closing(t, l)
			config := ca.Client()
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
	certFile, keyFile := certtest.Save(t.TempDir(), "server", certtest.New().Issue("server"))
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
	ca, stranger := certtest.New(), certtest.New()
	certFile, keyFile := certtest.Save(t.TempDir(), "server", ca.Issue("server"))
	caFile := filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(caFile, ca.PEM(), 0o600))
	for _, test := range []struct {
		name  string
		certs []tls.Certificate
		ok    bool
	}{
		{"certificate of the ca", []tls.Certificate{ca.Issue("client")}, true},
		{"certificate of a stranger", []tls.Certificate{stranger.Issue("client")}, false},
		{"no certificate", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := listeners.TLSFiles("127.0.0.1:0", certFile, keyFile, caFile)
			require.NoError(t, err)
			closing(t, l)
			config := ca.Client()
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
	ca := certtest.New()
	certFile, keyFile := certtest.Save(t.TempDir(), "server", ca.Issue("server"))
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
