package listeners_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/listeners"
)

func TestTCP(t *testing.T) {
	l, err := listeners.TCP("127.0.0.1:0")
	require.NoError(t, err)
	closing(t, l)
	testListener(t, l, func(t *testing.T) net.Conn { return dialTCP(t, l.Addr().String()) })
	require.False(t, listening("tcp", l.Addr().String()))
}

func TestTCPAddressInUse(t *testing.T) {
	l, err := listeners.TCP("127.0.0.1:0")
	require.NoError(t, err)
	closing(t, l)
	_, err = listeners.TCP(l.Addr().String())
	require.ErrorContains(t, err, l.Addr().String())
}

func TestTCPDeadlines(t *testing.T) {
	l, err := listeners.TCP("127.0.0.1:0")
	require.NoError(t, err)
	closing(t, l)
	closing(t, dialTCP(t, l.Addr().String()))
	c, err := l.Accept()
	require.NoError(t, err)
	testDeadlines(t, closing(t, c))
}

func dialTCP(t *testing.T, addr string) net.Conn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Errorf("dial %s: %v", addr, err)
	}
	return c
}
