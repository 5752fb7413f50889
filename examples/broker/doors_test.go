//go:build unix

package main_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"

	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// named is the line of a listener with a name.
const named = `msg=listening transport=\S+ address=(\S+) name=%s`

// configured writes a configuration into the directory.
func configured(t *testing.T, dir, text string) string {
	name := filepath.Join(dir, "petrel.json")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func dialTLS(t *testing.T, addr string, config *tls.Config) net.Conn {
	config.ServerName = "127.0.0.1"
	return tls.Client(dial(t, addr), config)
}

// webSocketOver makes a WebSocket of a connection, for a page of origin.
func webSocketOver(t *testing.T, conn net.Conn, origin string) (net.Conn, error) {
	config, err := websocket.NewConfig("ws://broker/mqtt", origin)
	require.NoError(t, err)
	config.Protocol = []string{"mqtt"}
	c, err := websocket.NewClient(config, conn)
	if err != nil {
		return nil, err
	}
	c.PayloadType = websocket.BinaryFrame
	return c, nil
}

// TestEveryDoor connects by every kind of listener of one configuration.
func TestEveryDoor(t *testing.T) {
	dir := t.TempDir()
	a := certify(t, dir)
	socket := filepath.Join(dir, "mqtt.sock")
	p := start(t, "-config", configured(t, dir, `{
		"listeners": {
			"tcp": ["127.0.0.1:0", {"address": "127.0.0.1:0", "name": "proxied", "anonymous": "any", "proxyProtocol": {"trusted": ["127.0.0.0/8"]}}],
			"tls": ["127.0.0.1:0", {"address": "127.0.0.1:0", "name": "secure-proxied", "anonymous": "any", "proxyProtocol": {"trusted": ["127.0.0.0/8"]}}],
			"ws": ["127.0.0.1:0"],
			"wss": [{"address": "127.0.0.1:0", "name": "web-proxied", "anonymous": "any", "proxyProtocol": {"trusted": ["127.0.0.0/8"], "optional": true}}],
			"unix": [{"address": "`+socket+`", "mode": "0600"}]
		},
		"websocket": {"path": "/mqtt", "origins": ["https://app.example.com"]},
		"tls": {"certificate": "server.crt", "key": "server.key"}
	}`))
	const header = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 8883\r\n"
	tcp := p.said(fmt.Sprintf(listening, "tcp"))
	require.Equal(t, socket, p.said(fmt.Sprintf(listening, "unix")))
	addr := func(name string) string { return p.said(fmt.Sprintf(named, name)) }
	behind := func(conn net.Conn) net.Conn {
		_, err := io.WriteString(conn, header)
		require.NoError(t, err)
		return conn
	}
	web := func(conn net.Conn) net.Conn {
		c, err := webSocketOver(t, conn, "https://app.example.com")
		require.NoError(t, err)
		return c
	}
	secured := func(conn net.Conn) net.Conn {
		config := a.Client()
		config.ServerName = "127.0.0.1"
		return tls.Client(conn, config)
	}
	for name, dial := range map[string]func() net.Conn{
		"tcp":                          func() net.Conn { return dial(t, tcp) },
		"tls":                          func() net.Conn { return secured(dial(t, p.said(fmt.Sprintf(listening, "tls")))) },
		"websocket":                    func() net.Conn { return web(dial(t, p.said(fmt.Sprintf(listening, "websocket")))) },
		"unix":                         func() net.Conn { c, err := net.Dial("unix", socket); require.NoError(t, err); return c },
		"proxy":                        func() net.Conn { return behind(dial(t, addr("proxied"))) },
		"proxy, then TLS":              func() net.Conn { return secured(behind(dial(t, addr("secure-proxied")))) },
		"proxy, then secure WebSocket": func() net.Conn { return web(secured(behind(dial(t, addr("web-proxied"))))) },
		"no proxy where one may be":    func() net.Conn { return web(secured(dial(t, addr("web-proxied")))) },
	} {
		t.Run(name, func(t *testing.T) {
			c, code := login(t, dial(), "", "")
			require.Equal(t, packets.Success, code)
			c.Subscribe(1, name)
			c.Send(&packets.Publish{Topic: []byte(name), Payload: []byte("round")})
			c.ExpectPublish(name, "round")
		})
	}
	info, err := os.Stat(socket)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	_, err = webSocketOver(t, dial(t, p.said(fmt.Sprintf(listening, "websocket"))), "https://elsewhere.example.com")
	assert.Error(t, err, "a page of another origin")
	c := brokertest.NewClient(t, dial(t, addr("proxied")), packets.V5)
	c.SendRaw(connect)
	c.ExpectClosed() // no client of its own
}

// Only who is behind a proxy is local who the proxy says is.
func TestLocalIsWhoTheProxySays(t *testing.T) {
	p := start(t, "-config", configured(t, t.TempDir(), `{"listeners": {"ws": [],
		"tcp": [{"address": "127.0.0.1:0", "proxyProtocol": {"trusted": ["127.0.0.1/32"]}}]}}`))
	addr := p.said(fmt.Sprintf(listening, "tcp"))
	for source, want := range map[string]packets.ReasonCode{"127.0.0.1": packets.Success, "192.0.2.1": packets.NotAuthorized} {
		conn := dial(t, addr)
		_, err := fmt.Fprintf(conn, "PROXY TCP4 %s 127.0.0.1 56324 1883\r\n", source)
		require.NoError(t, err)
		_, code := login(t, conn, "", "")
		assert.Equal(t, want, code, source)
	}
}

// TestInheritedSockets starts the broker as systemd does.
func TestInheritedSockets(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir)
	activated := func(names, config string) (*process, []string) {
		var files []*os.File
		var addrs []string
		for range strings.Split(names, ":") {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			f, err := l.(*net.TCPListener).File()
			require.NoError(t, err)
			require.NoError(t, l.Close())
			files, addrs = append(files, f), append(addrs, l.Addr().String())
		}
		cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, binary, "-config", configured(t, dir, config))
		cmd.Env = append(os.Environ(), fmt.Sprint("LISTEN_FDS=", len(files)), "LISTEN_FDNAMES="+names)
		cmd.ExtraFiles = files
		p := startAs(t, cmd)
		for _, f := range files {
			require.NoError(t, f.Close())
		}
		return p, addrs
	}
	config := `{"listeners": {"ws": [], "tcp": [{"systemd": "mqtt", "name": "plain"}], "wss": [{"systemd": "web"}]},
		"tls": {"certificate": "server.crt", "key": "server.key"}}`

	p, addrs := activated("mqtt:web:mqtt", config)
	p.said(`transport=secure-websocket address=` + addrs[1])
	for _, addr := range []string{addrs[0], addrs[2]} {
		assert.Equal(t, welcome, answer(t, dial(t, addr)))
	}
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, 0, p.wait())

	p, addrs = activated("mqtt:mqtt", `{"listeners": {"ws": [], "tcp": [{"systemd": "mqtt", "maximumConnections": 1}]}}`)
	p.said(`address=` + addrs[1] + ` name=mqtt`)
	_, code := login(t, dial(t, addrs[0]), "", "")
	require.Equal(t, packets.Success, code)
	_, code = login(t, dial(t, addrs[1]), "", "")
	assert.Equal(t, packets.QuotaExceeded, code, "the sockets of a listener have their limit together")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, 0, p.wait())

	p, _ = activated("mqtt", config)
	assert.Equal(t, 1, p.wait())
	assert.Contains(t, strings.Join(p.lines, "\n"), `listeners.wss[0].systemd: the service manager has opened no socket \"web\"`)
	p, _ = activated("mqtt:web:other", config)
	assert.Equal(t, 1, p.wait())
	assert.Contains(t, strings.Join(p.lines, "\n"), `no listener of the configuration is for the socket \"other\"`)
}

func TestLimitOfAListener(t *testing.T) {
	p := start(t, "-config", configured(t, t.TempDir(), `{"listeners": {"ws": [],
		"tcp": ["127.0.0.1:0", {"address": "127.0.0.1:0", "name": "narrow", "maximumConnections": 1}]}}`))
	narrow := p.said(fmt.Sprintf(named, "narrow"))
	_, code := login(t, dial(t, narrow), "", "")
	require.Equal(t, packets.Success, code)
	_, code = login(t, dial(t, narrow), "", "")
	assert.Equal(t, packets.QuotaExceeded, code)
	_, code = login(t, dial(t, p.said(fmt.Sprintf(listening, "tcp"))), "", "")
	assert.Equal(t, packets.Success, code, "another listener")
}

func TestConnectRates(t *testing.T) {
	p := start(t, "-config", configured(t, t.TempDir(), `{"listeners": {"tcp": ["127.0.0.1:0"], "ws": []},
		"connectRates": {"perAddress": {"count": 2, "period": "24h"}}}`))
	addr := p.said(fmt.Sprintf(listening, "tcp"))
	for range 2 {
		assert.Equal(t, welcome, answer(t, dial(t, addr)))
	}
	c := brokertest.NewClient(t, dial(t, addr), packets.V311)
	c.SendRaw(connect)
	c.ExpectClosed()
}
