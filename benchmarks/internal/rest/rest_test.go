package rest

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/benchmarks/internal/wire"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/listeners"
)

func TestClientsAtRestGetMessages(t *testing.T) {
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{auth.AllowAll{}}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	// Servers of this package have a certificate for tests.
	secure := httptest.NewUnstartedServer(nil)
	secure.StartTLS()
	config := &tls.Config{Certificates: secure.TLS.Certificates}
	secure.Close()

	for n, test := range []struct {
		name   string
		listen func() (net.Listener, error)
		wrap   Wrap
	}{
		{"TCP", func() (net.Listener, error) { return listeners.TCP("127.0.0.1:0") }, Plain},
		{"TLS", func() (net.Listener, error) { return listeners.TLS("127.0.0.1:0", config) }, Secure},
		{"WebSocket", func() (net.Listener, error) {
			return listeners.WebSocketListen("127.0.0.1:0", listeners.WebSocketOptions{})
		}, WebSocket},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := test.listen()
			require.NoError(t, err)
			go func() { _ = broker.Serve(l) }() // ends when the broker is closed
			address, err := netip.ParseAddrPort(l.Addr().String())
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			c, err := Dial(ctx, address, test.wrap, n)
			require.NoError(t, err)
			defer func() { _ = c.Close() }()

			for _, payload := range []string{"short", string(make([]byte, 200))} {
				require.NoError(t, broker.Publish(ctx, petrel.Message{Topic: Filter(n), Payload: []byte(payload)}))
				require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
				require.NoError(t, expect(c, wire.AppendPublish(nil, Filter(n), 0, false, 0, []byte(payload))))
			}
		})
	}
}

func TestAnswerThatIsNotWantedIsAnError(t *testing.T) {
	client, server := net.Pipe()
	go func() {
		_, _ = server.Read(make([]byte, 100))
		_, _ = server.Write([]byte{wire.Connack << 4, 2, 0, 5})
		_ = server.Close()
	}()
	require.ErrorContains(t, Subscribe(client, 1), "20 02 00 05")
}
