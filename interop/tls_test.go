package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// caFile holds the certificate that clients have to trust over TLS.
var caFile string

// certify writes a certificate for 127.0.0.1 and its key below dir.
func certify(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "petrel interop"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	caFile = filepath.Join(dir, "server.crt")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "server.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)
}

// configure writes a configuration with a TLS listener, beside the certificate.
func configure(address string) (name string, err error) {
	config, err := json.Marshal(map[string]any{
		"listeners": map[string]any{"tls": []string{address}},
		"tls":       map[string]any{"certificate": "server.crt", "key": "server.key"},
	})
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(filepath.Dir(caFile), "petrel-*.json")
	if err != nil {
		return "", err
	}
	if _, err := f.Write(config); err != nil {
		return "", fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return f.Name(), f.Close()
}

// trusting is the TLS configuration of a client written in Go.
func trusting(t *testing.T) *tls.Config {
	t.Helper()
	certificate, err := os.ReadFile(caFile)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(certificate))
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
}
