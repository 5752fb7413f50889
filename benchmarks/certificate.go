//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/petrelmq/petrel/benchmarks/internal/process"
)

// newCertificate writes a key and a certificate for this machine, signed by itself.
func newCertificate(dir string) (process.Certificate, error) {
	files := process.Certificate{File: filepath.Join(dir, "certificate.pem"), Key: filepath.Join(dir, "key.pem")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return files, fmt.Errorf("make a key: %w", err)
	}
	facts := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, facts, facts, key.Public(), key)
	if err != nil {
		return files, fmt.Errorf("make a certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return files, fmt.Errorf("encode a key: %w", err)
	}
	if err := writePEM(files.File, "CERTIFICATE", certificate); err != nil {
		return files, err
	}
	return files, writePEM(files.Key, "PRIVATE KEY", private)
}

func writePEM(name, kind string, content []byte) error {
	// Mosquitto gives up its rights before it reads the files.
	return os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o644)
}
