package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What -check-config finds wrong it names by the path in the file.
func TestMistakesNameTheirKey(t *testing.T) {
	const certificate = `"tls": {"certificate": "server.crt", "key": "server.key"}`
	for _, tc := range []struct{ name, text, want string }{
		{"listener without an address", `{"listeners": {"tcp": [":1883", {"name": "a"}]}}`, `listeners.tcp[1]: it has neither an "address"`},
		{"listener with two", `{"listeners": {"ws": [{"address": ":1", "systemd": "a"}]}}`, `listeners.ws[0]: it has both`},
		{"address without a port", `{"listeners": {"tcp": ["localhost"]}}`, `listeners.tcp[0]: "localhost" is no HOST:PORT`},
		{"port that is none", `{"listeners": {"tcp": [":70000"]}}`, `listeners.tcp[0]: ":70000" is no HOST:PORT`},
		{"TLS without a certificate", `{"listeners": {"wss": [":8884"]}}`, `listeners.wss[0]: it needs tls.certificate and tls.key`},
		{"missing certificate", `{` + certificate + `}`, `tls: listeners: load certificate: open `},
		{"missing certificate of a listener", `{"listeners": {"tls": [{"address": ":8883", ` + certificate + `}]}}`, `listeners.tls[0].tls: listeners: load certificate: open `},
		{"proxy that nobody trusts", `{"listeners": {"tcp": [{"address": ":1", "proxyProtocol": {}}]}}`, `listeners.tcp[0].proxyProtocol: listeners: ProxyOptions trust nobody`},
		{"no password file", `{"listeners": {"tcp": [{"address": ":1", "authenticateBy": ["password"]}]}}`, `listeners.tcp[0].authenticateBy[0]: "password" needs authentication.passwordFile`},
		{"no SCRAM file", `{"listeners": {"tcp": [{"address": ":1", "authenticateBy": ["scram"]}]}}`, `listeners.tcp[0].authenticateBy[0]: "scram" needs authentication.scram.file`},
		{"no keys for tokens", `{"listeners": {"tcp": [{"address": ":1", "authenticateBy": ["jwt"]}]}}`, `listeners.tcp[0].authenticateBy[0]: "jwt" needs authentication.jwt.keysFile`},
		{"no authority for certificates", `{"listeners": {"tls": [{"address": ":1", "authenticateBy": ["certificate"]}]}, ` + certificate + `}`, `listeners.tls[0].authenticateBy[0]: "certificate" needs tls.clientCA`},
		{"certificates without TLS", `{"listeners": {"tcp": [{"address": ":1", "authenticateBy": ["certificate"]}]}}`, `listeners.tcp[0].authenticateBy[0]: "certificate" needs a listener with TLS`},
		{"users by TCP", `{"listeners": {"tcp": [{"address": ":1", "authenticateBy": ["peerUser"]}]}}`, `listeners.tcp[0].authenticateBy[0]: "peerUser" needs a Unix socket`},
		{"the user of a proxy", `{"listeners": {"unix": [{"address": "s", "authenticateBy": ["peerUser"], "proxyProtocol": {"trustUnix": true}}]}}`, `"peerUser" needs a listener without a proxy`},
		{"missing password file", `{"authentication": {"passwordFile": "no-such"}}`, `authentication.passwordFile: auth: open `},
		{"missing ACL file", `{"authentication": {"aclFile": "no-such"}}`, `authentication.aclFile: auth: open `},
		{"missing SCRAM file", `{"authentication": {"scram": {"file": "no-such"}}}`, `authentication.scram: scram: open `},
		{"salts for nobody", `{"authentication": {"scram": {"saltKeyFile": "no-such"}}}`, `authentication.scram.saltKeyFile: it is of no use without authentication.scram.file`},
		{"missing keys", `{"authentication": {"jwt": {"keysFile": "no-such"}}}`, `authentication.jwt: jwt: open `},
		{"issuer without keys", `{"authentication": {"jwt": {"issuer": "x"}}}`, `authentication.jwt: it is of no use without authentication.jwt.keysFile`},
		{"no web service", `{"listeners": {"tcp": [{"address": ":1", "authenticateBy": ["http"]}]}}`, `listeners.tcp[0].authenticateBy[0]: "http" needs authentication.http.url`},
		{"rights from nobody", `{"authentication": {"http": {"rights": true}}}`, `authentication.http: it is of no use without authentication.http.url`},
		{"plain web service", `{"authentication": {"http": {"url": "http://users.example/"}}}`, `authentication.http: httpauth: Options.URL: it is http to another machine`},
		{"missing token", `{"authentication": {"http": {"url": "https://users.example/", "tokenFile": "no-such"}}}`, `authentication.http: open `},
		{"rates that limit nothing", `{"connectRates": {}}`, `connectRates: limit: Options limit nothing`},
		{"origin that is none", `{"websocket": {"origins": ["app.example.com"]}}`, `websocket: listeners: WebSocketOptions: entry "app.example.com" of Origins`},
		{"limit that cannot be", `{"limits": {"receiveMaximum": 70000}}`, `limits.receiveMaximum: petrel: Options.ReceiveMaximum is 70000`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := parse([]string{"-config", write(t, tc.text)}, io.Discard)
			require.NoError(t, err)
			_, _, err = prepare(&c, slog.New(slog.DiscardHandler))
			require.Error(t, err)
			assert.Contains(t, err.Error(), tc.want)
		})
	}
}

// The configuration in README.md makes sense, as far as that can be told without
// its files, and shows every object that there is.
func TestConfigurationOfTheReadme(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	_, block, found := strings.Cut(string(readme), "```json\n")
	require.True(t, found)
	block, _, _ = strings.Cut(block, "```\n")
	c, err := parse([]string{"-config", write(t, block)}, io.Discard)
	require.NoError(t, err)
	require.NoError(t, c.checkAll())
	var shown map[string]any
	require.NoError(t, json.Unmarshal([]byte(block), &shown))
	for key, inside := range c.keys() {
		assert.Contains(t, shown, key)
		if inside, ok := inside.(keys); ok && key != "limits" {
			for key := range inside {
				assert.Contains(t, string(readme), key)
			}
		}
	}
	for key := range new(door).keys() {
		assert.Contains(t, string(readme), "| `"+key+"` |")
	}
}
