package hostile

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/listeners"
)

// doorAttacks come by doors that have something to do before MQTT begins. The pair
// comes by plain TCP.
var doorAttacks = []attack{
	{
		name: "half a TLS handshake", n: 300, bound: perConnection, doors: []door{{"TLS", petrel.AutoEngine, openTCP}},
		options: petrel.Options{ConnectTimeout: shortTimeout},
		run: func(a *arena) {
			a.open = openTLS(a.t, a.b)
			half := clientHello(a.t)
			for i := range a.n {
				a.write(a.dial(), half[:len(half)*(i%4)/3])
			}
			a.ended()
		},
	},
	{
		name: "half a WebSocket upgrade", n: 300, bound: perConnection, doors: []door{{"WebSocket", petrel.AutoEngine, openTCP}},
		options: petrel.Options{ConnectTimeout: shortTimeout},
		run: func(a *arena) {
			a.open = openWebSocket(a.t, a.b, shortTimeout)
			for i := range a.n {
				a.write(a.dial(), []byte(upgrade[:len(upgrade)*(i%4)/3]))
			}
			a.ended()
		},
	},
	{
		name: "WebSocket pings whose answers nobody reads", n: 50, bound: perConnection, doors: []door{{"WebSocket", petrel.AutoEngine, openTCP}},
		run: func(a *arena) {
			a.open = openWebSocket(a.t, a.b, patience)
			ping := append([]byte{0x89, 0x80 | 125, 1, 2, 3, 4}, make([]byte, 125)...)
			a.each(func(i int) {
				conn := a.dial()
				a.write(conn, []byte(upgrade))
				answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
					a.t.Errorf("%v %v", answer, err)
					return
				}
				a.wg.Go(func() { // until its socket is full, or the broker has had enough
					for range 10_000 {
						if _, err := conn.Write(ping); err != nil {
							return
						}
					}
				})
			})
		},
	},
}

const upgrade = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"

func openWebSocket(t *testing.T, b *petrel.Broker, handshake time.Duration) func() (net.Conn, error) {
	l, err := listeners.WebSocketListen("127.0.0.1:0", listeners.WebSocketOptions{HandshakeTimeout: handshake})
	if err != nil {
		t.Fatal(err)
	}
	return serve(b, l)
}

func openTLS(t *testing.T, b *petrel.Broker) func() (net.Conn, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := listeners.TLS("127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	return serve(b, l)
}

// clientHello returns the first bytes of a TLS client.
func clientHello(t *testing.T) []byte {
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		defer client.Close()
		_ = tls.Client(client, &tls.Config{ServerName: strings.Repeat("x", 60), MinVersion: tls.VersionTLS12}).Handshake()
	}()
	buf := make([]byte, 4096)
	n, err := server.Read(buf)
	if err != nil {
		t.Fatal(fmt.Errorf("the client said nothing: %w", err))
	}
	return buf[:n]
}
