package petreltest_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"

	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/petreltest"
)

// dial connects to one of the addresses of b.
func dial(t testing.TB, b *petreltest.Broker, address string) net.Conn {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	var conn net.Conn
	switch u.Scheme {
	case "mqtt":
		conn, err = net.Dial("tcp", u.Host)
	case "mqtts":
		conn, err = tls.Dial("tcp", u.Host, &tls.Config{RootCAs: b.CertPool()})
	case "ws":
		var ws *websocket.Conn
		ws, err = websocket.Dial(address, "mqtt", "http://localhost")
		if err == nil {
			ws.PayloadType = websocket.BinaryFrame
			conn = ws
		}
	default:
		conn = b.Dial()
	}
	require.NoError(t, err)
	return conn
}

// tryConnect sends p and returns the answer. A zero ReceiveMaximum means the most.
func tryConnect(t testing.TB, conn net.Conn, p packets.Connect) (*brokertest.Client, *packets.Connack) {
	t.Helper()
	if p.ReceiveMaximum == 0 {
		p.ReceiveMaximum = 65535
	}
	c := brokertest.NewClient(t, conn, p.Version)
	c.Send(&p)
	return c, brokertest.Expect[*packets.Connack](c)
}

// connect sends p and expects that it is accepted.
func connect(t testing.TB, conn net.Conn, p packets.Connect) *brokertest.Client {
	t.Helper()
	c, ack := tryConnect(t, conn, p)
	require.Equal(t, packets.Success, ack.Reason)
	return c
}

// thermostat is a program under test: it turns the heater on below 18 degrees.
// When it loses its broker, or is refused, it tries again after a second; it
// returns how often it has been connected.
func thermostat(ctx context.Context, dial func() (net.Conn, error)) (connected int) {
	for ctx.Err() == nil {
		if conn, err := dial(); err == nil {
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			if regulate(conn) {
				connected++
			}
			stop()
			conn.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return connected
}

// regulate does the work of the thermostat on one connection, until it ends.
func regulate(conn net.Conn) (connected bool) {
	var subs packets.Subscriptions
	subs = subs.Append(packets.Subscription{Filter: []byte("home/temp")})
	send := func(p packets.Packet) bool {
		b, err := p.AppendTo(nil, packets.V311)
		if err == nil {
			_, err = conn.Write(b)
		}
		return err == nil
	}
	if !send(&packets.Connect{Version: packets.V311, ClientID: []byte("thermostat"), CleanStart: true}) {
		return false
	}
	var buf []byte
	for {
		h, n, err := packets.DecodeHeader(buf)
		if err != nil {
			return connected
		}
		if n == 0 || len(buf) < n+h.Remaining {
			chunk := make([]byte, 1024)
			got, err := conn.Read(chunk)
			if err != nil {
				return connected
			}
			buf = append(buf, chunk[:got]...)
			continue
		}
		p := packets.New(h.Type)
		if err := p.Decode(h.Flags, buf[n:n+h.Remaining], packets.V311); err != nil {
			return connected
		}
		switch p := p.(type) {
		case *packets.Connack:
			if p.Reason != packets.Success {
				return false
			}
			connected = true
			send(&packets.Subscribe{PacketID: 1, Subscriptions: subs})
		case *packets.Publish:
			state := "OFF"
			if strings.Compare(string(p.Payload), "18") < 0 {
				state = "ON"
			}
			send(&packets.Publish{Topic: []byte("home/heater/set"), Payload: []byte(state)})
		}
		buf = buf[n+h.Remaining:]
	}
}
