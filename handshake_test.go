package petrel_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
)

// A TLS handshake that never ends is part of the wait for CONNECT, whether the
// client says nothing, stops in the middle, or does not read what it is sent.
func TestConnectTimeoutOfAHandshake(t *testing.T) {
	var hello firstWrite
	require.Error(t, tls.Client(&hello, &tls.Config{InsecureSkipVerify: true}).Handshake())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	for _, tc := range []struct {
		name string
		sent []byte
	}{
		{"silent", nil},
		{"stops in its hello", hello.b[:20]},
		{"does not read the answer", hello.b},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{ConnectTimeout: time.Minute, Logger: silent()})
				client, server := net.Pipe()
				defer client.Close()
				start := time.Now()
				served := make(chan error, 1)
				go func() { served <- b.ServeConn(tls.Server(server, config)) }()
				_, err := client.Write(tc.sent)
				require.NoError(t, err)
				select {
				case err := <-served:
					require.Error(t, err)
				case <-time.After(time.Hour):
					require.Fail(t, "it is still open after an hour")
				}
				require.GreaterOrEqual(t, time.Since(start), time.Minute)
				require.Less(t, time.Since(start), 2*time.Minute)
			})
		})
	}
}

// firstWrite keeps what is written first, and ends then.
type firstWrite struct {
	net.Conn
	b []byte
}

func (w *firstWrite) Write(b []byte) (int, error) {
	w.b = append(w.b, b...)
	return 0, io.ErrClosedPipe
}

func (w *firstWrite) Close() error { return nil }
