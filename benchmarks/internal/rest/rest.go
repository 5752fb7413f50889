// Package rest makes clients that connect, subscribe, and then do nothing.
package rest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/petrelmq/petrel/benchmarks/internal/wire"
)

// Wrap makes of a TCP connection what a transport wants.
type Wrap func(net.Conn) (net.Conn, error)

// Plain is MQTT over TCP.
func Plain(c net.Conn) (net.Conn, error) { return c, nil }

// Secure is MQTT over TLS. Certificates are not checked.
func Secure(c net.Conn) (net.Conn, error) {
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	if err := secure.Handshake(); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secure, nil
}

// Dial makes client number n, with one subscription that nobody else has. Numbers
// are spread over the addresses of the loopback network, as one address has only
// some ten thousand ports.
func Dial(ctx context.Context, broker netip.AddrPort, wrap Wrap, n int) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+n%40))}}
	raw, err := d.DialContext(ctx, "tcp", broker.String())
	if err != nil {
		return nil, fmt.Errorf("client %d: %w", n, err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(deadline)
	}
	c, err := wrap(raw)
	if err == nil {
		err = Subscribe(c, n)
	}
	if err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("client %d: %w", n, err)
	}
	return c, raw.SetDeadline(time.Time{})
}

// Subscribe opens the session of client number n.
func Subscribe(c net.Conn, n int) error {
	if err := exchange(c, wire.AppendConnect(nil, fmt.Sprintf("idle-%d", n), true), wire.AppendConnack(nil)); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	subscribe := wire.AppendSubscribe(nil, 1, 0, Filter(n))
	if err := exchange(c, subscribe, wire.AppendSuback(nil, 1, 1, 0)); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

// Filter is what client number n subscribes to.
func Filter(n int) string { return fmt.Sprintf("device/%d/command", n) }

// exchange sends a packet and wants a certain answer.
func exchange(c net.Conn, packet, want []byte) error {
	if _, err := c.Write(packet); err != nil {
		return err
	}
	return expect(c, want)
}

// expect reads what should come.
func expect(c net.Conn, want []byte) error {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != string(want) {
		return fmt.Errorf("the broker answered % x", got)
	}
	return nil
}
