package interop

import (
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// relay stands between a client library and the broker, so that the test can
// cut the connection under a client that would leave in order.
type relay struct {
	net.Listener
	network, target string
	greet           func(client net.Conn) []byte // what the broker is told before anything else; nil for nothing

	mu    sync.Mutex
	conns []net.Conn
	done  bool
}

func newRelay(t *testing.T, o options) *relay {
	network, addr := o.transport.network(), "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "r") // removed with the directory
		if len(addr) > 100 {
			addr = filepath.Join(dir, unique())
		}
	}
	l, err := net.Listen(network, addr)
	require.NoError(t, err)
	return startRelay(t, &relay{Listener: l, network: network, target: o.addr})
}

func startRelay(t *testing.T, r *relay) *relay {
	go r.run()
	t.Cleanup(r.cut)
	return r
}

func (r *relay) run() {
	for {
		client, err := r.Accept()
		if err != nil {
			return
		}
		broker, err := net.Dial(r.network, r.target)
		if err != nil {
			_ = client.Close() // the broker is down; the client will try again
			continue
		}
		if !r.track(client, broker) {
			return
		}
		if r.greet != nil {
			_, _ = broker.Write(r.greet(client)) // or the broker is gone, and so will be the client
		}
		go pipe(client, broker)
		go pipe(broker, client)
	}
}

func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}

func (r *relay) track(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, conns...)
	if r.done {
		closeAll(r.conns)
	}
	return !r.done
}

// cut ends all connections, and lets no new one through.
func (r *relay) cut() {
	_ = r.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = true
	closeAll(r.conns)
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}
