package listeners_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/brokertest"
)

// patience bounds every wait of the tests; none of them needs it.
const patience = 30 * time.Second

// TestMain fails the run if goroutines of the tests outlive them.
func TestMain(m *testing.M) { brokertest.Main(m) }

// closing closes c when the test ends.
func closing[T io.Closer](t testing.TB, c T) T {
	t.Helper()
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// accepting calls Accept in the background.
func accepting(l net.Listener) (conns <-chan net.Conn, errs <-chan error) {
	connc, errc := make(chan net.Conn, 1), make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			errc <- err
			return
		}
		connc <- c
	}()
	return connc, errc
}

func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		require.FailNow(t, "nothing received")
		panic("unreachable")
	}
}

// exchange sends data from each end to the other at the same time.
func exchange(t *testing.T, a, b net.Conn) {
	t.Helper()
	bound(t, a)
	bound(t, b)
	data := make([]byte, 100_000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	errs := make(chan error, 2)
	for _, c := range []net.Conn{a, b} {
		go func() {
			_, err := c.Write(data)
			errs <- err
		}()
	}
	got := make([][]byte, 2)
	reads := make(chan error, 2)
	for i, c := range []net.Conn{a, b} {
		got[i] = make([]byte, len(data))
		go func() {
			_, err := io.ReadFull(c, got[i])
			reads <- err
		}()
	}
	for range 2 {
		require.NoError(t, receive(t, errs))
		require.NoError(t, receive(t, reads))
	}
	require.True(t, string(got[0]) == string(data) && string(got[1]) == string(data), "data came through changed")
}

func bound(t testing.TB, c net.Conn) {
	t.Helper()
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
}

// testListener holds what every listener must do; dial makes a client.
func testListener(t *testing.T, l net.Listener, dial func(t *testing.T) net.Conn) {
	t.Helper()
	require.NotEmpty(t, l.Addr().Network())
	require.NotEmpty(t, l.Addr().String())

	conns, errs := accepting(l)
	clients := make(chan net.Conn, 1)
	go func() { clients <- dial(t) }()
	var server net.Conn
	select {
	case server = <-conns:
	case err := <-errs:
		require.NoError(t, err)
	case <-time.After(patience):
		require.FailNow(t, "no connection")
	}
	closing(t, server)
	client := closing(t, receive(t, clients))
	exchange(t, client, server)

	_, errs = accepting(l)
	require.NoError(t, l.Close())
	require.ErrorIs(t, receive(t, errs), net.ErrClosed)
	_, err := l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)

	exchange(t, client, server) // survives the listener
	require.NoError(t, client.Close())
	_, err = server.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)

	_ = server.Close() // TLS would say goodbye, and may find the peer gone
	_, err = server.Read(make([]byte, 1))
	require.Error(t, err)
	_, err = server.Write([]byte("x"))
	require.Error(t, err)
}

// testDeadlines checks a connection whose peer is silent and does not read.
func testDeadlines(t *testing.T, c net.Conn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Unix(1, 0)))
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetReadDeadline(time.Time{}))

	errs := make(chan error, 1)
	go func() {
		data := make([]byte, 1<<20)
		for {
			if _, err := c.Write(data); err != nil {
				errs <- err
				return
			}
		}
	}()
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	require.ErrorIs(t, receive(t, errs), os.ErrDeadlineExceeded)
}

// listening reports whether something accepts connections at addr.
func listening(network, addr string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		_ = c.Close()
	}
	return err == nil || errors.Is(err, context.DeadlineExceeded)
}
