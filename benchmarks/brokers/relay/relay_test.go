//go:build linux

package main

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/petrelmq/petrel/benchmarks/internal/wire"
)

// start runs a relay until the test ends, and returns its address.
func start(t *testing.T) string {
	listener, err := listen("127.0.0.1:0")
	require.NoError(t, err)
	name, err := unix.Getsockname(listener)
	require.NoError(t, err)
	r, err := newRelay(listener)
	require.NoError(t, err)
	stop, done := make(chan struct{}), make(chan error, 1)
	address := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}).String()
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := r.turn(10); err != nil {
				done <- err
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		require.NoError(t, <-done)
		r.shut()
	})
	return address
}

// dial connects a client, and subscribes if there is a topic.
func dial(t *testing.T, address, topic string) net.Conn {
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	write(t, c, wire.AppendConnect(nil, "c", true))
	expect(t, c, wire.AppendConnack(nil))
	if topic != "" {
		write(t, c, wire.AppendSubscribe(nil, 7, 0, topic))
		expect(t, c, wire.AppendSuback(nil, 7, 1, 0))
	}
	return c
}

func write(t *testing.T, c net.Conn, b []byte) {
	_, err := c.Write(b)
	require.NoError(t, err)
}

func expect(t *testing.T, c net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	_, err := io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestMessagesGoToThoseWhoAskedForTheTopic(t *testing.T) {
	address := start(t)
	a, b, c := dial(t, address, "a"), dial(t, address, "b"), dial(t, address, "a")
	pub := dial(t, address, "")
	first := wire.AppendPublish(nil, "a", 0, false, 0, []byte("first"))
	second := wire.AppendPublish(nil, "b", 0, false, 0, []byte("second"))
	third := wire.AppendPublish(nil, "a", 0, false, 0, make([]byte, 1<<20))
	write(t, pub, append(append(append([]byte{}, first...), second...), third...))
	for _, sub := range []net.Conn{a, c} {
		expect(t, sub, first)
		expect(t, sub, third)
	}
	expect(t, b, second)
}

func TestBothSidesOfAnExchangeAreAnswered(t *testing.T) {
	address := start(t)
	sub, pub := dial(t, address, "a"), dial(t, address, "")
	message := wire.AppendPublish(nil, "a", 2, false, 5, []byte("x"))
	write(t, pub, message)
	expect(t, pub, wire.AppendAck(nil, wire.Pubrec, 5))
	expect(t, sub, message)
	write(t, pub, wire.AppendAck(nil, wire.Pubrel, 5))
	expect(t, pub, wire.AppendAck(nil, wire.Pubcomp, 5))
	write(t, sub, wire.AppendAck(nil, wire.Pubrec, 5))
	expect(t, sub, wire.AppendAck(nil, wire.Pubrel, 5))

	message = wire.AppendPublish(nil, "a", 1, false, 6, []byte("x"))
	write(t, pub, message)
	expect(t, pub, wire.AppendAck(nil, wire.Puback, 6))
	expect(t, sub, message)
}

func TestDisconnectEndsTheConnectionAndTheSubscription(t *testing.T) {
	address := start(t)
	gone, sub, pub := dial(t, address, "a"), dial(t, address, "a"), dial(t, address, "")
	write(t, gone, wire.AppendDisconnect(nil))
	_, err := gone.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	message := wire.AppendPublish(nil, "a", 0, false, 0, []byte("x"))
	write(t, pub, message)
	expect(t, sub, message)
}
