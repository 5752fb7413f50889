package interop

import (
	"fmt"
	"net"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// newProxy stands in front of a listener of the broker for one test, and tells it by
// the PROXY protocol for whom it speaks. It returns where clients find it.
func newProxy(t *testing.T, tr transport, target string) string {
	return proxyFor(t, tr, target, nil)
}

// proxyFor is newProxy that gives all clients one address, unless that is nil.
func proxyFor(t *testing.T, tr transport, target string, client *net.TCPAddr) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := startRelay(t, &relay{Listener: l, network: "tcp", target: target, greet: func(conn net.Conn) []byte {
		from, to := conn.RemoteAddr().(*net.TCPAddr), conn.LocalAddr().(*net.TCPAddr)
		if client != nil {
			from = client
		}
		if tr.proxy == 1 {
			return fmt.Appendf(nil, "PROXY TCP4 %s %s %d %d\r\n", from.IP, to.IP, from.Port, to.Port)
		}
		header := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c")
		header = append(append(header, from.IP.To4()...), to.IP.To4()...)
		return append(header, byte(from.Port>>8), byte(from.Port), byte(to.Port>>8), byte(to.Port))
	}})
	return r.Addr().String()
}

// What the tests by way of a proxy show rests on this: a client is whom the proxy
// speaks for, and the broker lets nobody in from elsewhere.
func TestProxySpeaksForTheClient(t *testing.T) {
	mosquitto.require(t)
	for _, tr := range transports {
		if tr.proxy == 0 {
			continue
		}
		if !shared.ours() {
			skip(t, "the broker is not ours, and may let anybody in")
		}
		for address, want := range map[string]string{"127.0.0.1": "", "192.0.2.1": "Not authorized"} {
			o := options{transport: tr, version: "5.0", addr: proxyFor(t, tr, shared.addrs[tr.name], &net.TCPAddr{IP: net.ParseIP(address), Port: 40000})}
			out, err := exec.Command("mosquitto_pub", append(mosquittoFlags(o), "-t", unique(), "-m", "x", "-q", "1")...).CombinedOutput()
			if want == "" {
				require.NoError(t, err, "%s", out)
				continue
			}
			require.Error(t, err)
			require.Contains(t, string(out), want)
		}
	}
}
