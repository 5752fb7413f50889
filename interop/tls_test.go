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
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	caFile            string // the certificate that clients have to trust over TLS
	certFile, keyFile string // what they show where they are asked for a certificate
)

// certify writes a certificate for 127.0.0.1, and one for clients that it has signed.
func certify() error {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "petrel interop"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	caFile, certFile, keyFile = filepath.Join(dir, "server.crt"), filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key")
	if err := sign(template, template, key, key, caFile, filepath.Join(dir, "server.key")); err != nil {
		return err
	}
	clientKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "petrel interop client"},
		NotBefore: template.NotBefore, NotAfter: template.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, template, clientKey, key, certFile, keyFile)
}

// sign writes a certificate and its key.
func sign(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey, certName, keyName string) error {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(certName, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(keyName, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)
}

// configure writes a configuration with a listener for each transport, beside
// the certificates.
func (b *broker) configure() (name string, err error) {
	f, err := os.CreateTemp(dir, "petrel-*.json")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	open := map[string][]any{"tcp": {}, "ws": {}} // which have defaults
	for _, tr := range transports {
		if tr.mutual != b.mutual {
			continue
		}
		addr := b.addrs[tr.name]
		if addr == "" && tr.network() == "unix" {
			addr = f.Name() + ".sock"
		} else if addr == "" {
			addr = "127.0.0.1:0"
		}
		listener := map[string]any{"address": addr, "name": tr.name}
		if tr.proxy != 0 {
			listener["proxyProtocol"] = map[string]any{"trusted": []string{"127.0.0.1/32"}}
		}
		open[tr.key] = append(open[tr.key], listener)
	}
	tls := map[string]any{"certificate": "server.crt", "key": "server.key"}
	if b.mutual {
		tls["clientCA"] = "server.crt"
	}
	return f.Name(), json.NewEncoder(f).Encode(map[string]any{"listeners": open, "tls": tls})
}

// trusting is the TLS configuration of a client written in Go.
func trusting(t *testing.T, tr transport) *tls.Config {
	t.Helper()
	certificate, err := os.ReadFile(caFile)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(certificate))
	config := &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
	if tr.mutual {
		own, err := tls.LoadX509KeyPair(certFile, keyFile)
		require.NoError(t, err)
		config.Certificates = []tls.Certificate{own}
	}
	return config
}

// What the tests over mutual TLS show rests on this.
func TestMutualAsksForACertificate(t *testing.T) {
	for _, tr := range transports {
		if !tr.mutual {
			continue
		}
		config := trusting(t, tr)
		config.Certificates = nil
		conn, err := tls.Dial("tcp", sharedMutual.addr(t, tr), config)
		if err == nil { // in TLS 1.3 the client hears of it when it reads
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
			_, err = conn.Read(make([]byte, 1))
		}
		require.ErrorContains(t, err, "certificate required")
	}
}
