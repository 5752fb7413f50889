package engine_test

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/engine"
)

// An accepted connection has the addresses that its peer sees, the other way round.
func TestAddressesOfAnAcceptedConnection(t *testing.T) {
	type door struct{ network, listen, dial string }
	doors := []door{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"},
		{"tcp4", "0.0.0.0:0", "127.0.0.2"},
		{"unix", filepath.Join(t.TempDir(), "s"), ""},
	}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil { // not every container has it
		l.Close()
		doors = append(doors, door{"tcp6", "[::1]:0", "::1"}, door{"tcp", "[::]:0", "::1"}, door{"tcp", "[::]:0", "127.0.0.3"})
	}
	for _, at := range doors {
		t.Run(at.network+" "+at.listen+" "+at.dial, func(t *testing.T) {
			l, err := net.Listen(at.network, at.listen)
			require.NoError(t, err)
			a := newHost(t, engine.Config{Loops: true}).Acceptor(l)
			t.Cleanup(func() { a.Close() })
			to := l.Addr().String()
			if at.dial != "" {
				_, port, err := net.SplitHostPort(to)
				require.NoError(t, err)
				to = net.JoinHostPort(at.dial, port)
			}
			client, err := net.Dial(l.Addr().Network(), to)
			require.NoError(t, err)
			defer client.Close()
			server, err := a.Accept()
			require.NoError(t, err)
			defer server.Close(0)
			require.Nil(t, server.NetConn(), "a loop serves it")
			require.Equal(t, client.RemoteAddr().String(), server.LocalAddr().String())
			if at.network == "unix" {
				require.Equal(t, client.LocalAddr().Network(), server.RemoteAddr().Network())
				return
			}
			require.Equal(t, client.LocalAddr().(*net.TCPAddr).AddrPort(), server.RemoteAddr().(*net.TCPAddr).AddrPort())
		})
	}
}
