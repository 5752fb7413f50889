package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/listeners"
)

func write(t *testing.T, text string) string {
	name := filepath.Join(t.TempDir(), "petrel.json")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func TestDefaults(t *testing.T) {
	c, err := parse(nil, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, config{ws: doorsAt(overWS, "127.0.0.1:8083"), anonymous: "local", log: slog.LevelInfo}, c)
}

func TestFlags(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		want func(*config)
	}{
		{"one address", []string{"-tcp", ":1"}, func(c *config) { c.tcp = doorsAt(overTCP, ":1") }},
		{"repeated", []string{"-tcp", ":1", "-tcp", ":2"}, func(c *config) { c.tcp = doorsAt(overTCP, ":1", ":2") }},
		{"separated by commas", []string{"-ws", ":1, :2"}, func(c *config) { c.ws = doorsAt(overWS, ":1", ":2") }},
		{"empty turns off", []string{"-tcp=", "-ws", ""}, func(c *config) { c.tcp, c.ws = []door{}, []door{} }},
		{"everybody", []string{"-anonymous", "any"}, func(c *config) { c.anonymous = anybody }},
		{"nobody", []string{"-anonymous", "none"}, func(c *config) { c.anonymous = nobody }},
		{"level", []string{"-log", "debug"}, func(c *config) { c.log = slog.LevelDebug }},
		{"data", []string{"-data", "dir", "-sync", "2s"}, func(c *config) { c.data, c.sync = "dir", syncPolicy(2*time.Second) }},
		{"no syncs", []string{"-sync", "never"}, func(c *config) { c.sync = -1 }},
		{"version", []string{"-version"}, func(c *config) { c.version = true }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := defaults()
			tc.want(&want)
			c, err := parse(tc.args, io.Discard)
			require.NoError(t, err)
			assert.Equal(t, want, c)
		})
	}
}

func TestFlagsThatCannotBeUnderstood(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		says string
	}{
		{"unknown flag", []string{"-prot", "1883"}, "-prot"},
		{"unknown policy", []string{"-anonymous", "yes"}, `"yes" is none of local, any, none`},
		{"unknown sync policy", []string{"-sync", "often"}, `"often" is none of each, never`},
		{"unknown level", []string{"-log", "loud"}, "loud"},
		{"an argument", []string{"serve"}, `unexpected argument "serve"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			_, err := parse(tc.args, &out)
			assert.ErrorIs(t, err, errUsage)
			assert.Contains(t, out.String(), tc.says)
		})
	}
}

func TestFile(t *testing.T) {
	name := write(t, `{
		"listeners": {"tcp": ["127.0.0.1:1", "127.0.0.1:2"], "ws": []},
		"websocket": {"origins": ["https://app.example.com"], "trustedProxies": ["10.1.0.0/24"], "proxyHeader": "Forwarded"},
		"authentication": {"anonymous": "any", "passwordFile": "passwords", "aclFile": "/etc/acl", "grantSubscriptions": true},
		"data": {"directory": "data", "sync": "1s"},
		"log": "warn",
		"limits": {"maximumConnections": 100, "connectTimeout": "3s", "queueBytes": -1, "memoryLimit": 1073741824}
	}`)
	want := defaults()
	want.file = name
	want.tcp = []door{
		{transport: overTCP, at: "listeners.tcp[0]", address: "127.0.0.1:1"},
		{transport: overTCP, at: "listeners.tcp[1]", address: "127.0.0.1:2"},
	}
	want.ws = []door{}
	want.web = listeners.WebSocketOptions{
		Origins: []string{"https://app.example.com"}, ProxyHeader: "Forwarded",
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")},
	}
	want.anonymous = anybody
	want.passwords = filepath.Join(filepath.Dir(name), "passwords")
	want.acl = "/etc/acl"
	want.grantAll = true
	want.data = filepath.Join(filepath.Dir(name), "data")
	want.sync = syncPolicy(time.Second)
	want.log = slog.LevelWarn
	want.limits.MaximumConnections = 100
	want.limits.ConnectTimeout = 3 * time.Second
	want.limits.QueueBytes = -1
	want.limits.MemoryLimit = 1 << 30

	c, err := parse([]string{"-config", name}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, want, c)

	t.Run("flags stand above it, wherever they are", func(t *testing.T) {
		c, err := parse([]string{"-tcp", ":9", "-config", name, "-log", "error"}, io.Discard)
		require.NoError(t, err)
		want.tcp = doorsAt(overTCP, ":9")
		want.log = slog.LevelError
		assert.Equal(t, want, c)
	})
}

func TestFileErrorsNameFileKeyAndPlace(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"unknown key", "{\n  \"anonimous\": \"any\"\n}", `2:3: unknown key "anonimous"`},
		{"unknown key inside", "{\"log\": \"info\",\n \"limits\": {\"queueMessage\": 5}}", `2:13: unknown key "limits.queueMessage"`},
		{"key in other letters", `{"Log": "info"}`, `1:2: unknown key "Log"`},
		{"key given twice", `{"log": "info", "log": "warn"}`, `1:17: key "log" is given twice`},
		{"text for a number", "{\"limits\": {\n\t\"queueMessages\": \"5\"}}", `2:19: key "limits.queueMessages": string is given, expected a whole number`},
		{"fraction for a number", `{"limits": {"queueMessages": 1.5}}`, `1:30: key "limits.queueMessages": number 1.5 is given, expected a whole number`},
		{"number for a text", `{"authentication": {"anonymous": 1}}`, `1:34: key "authentication.anonymous": number is given, expected a text`},
		{"number for a duration", `{"limits": {"connectTimeout": 10}}`, `1:31: key "limits.connectTimeout": number is given, expected a text`},
		{"text for a list", `{"listeners": {"tcp": ":1883"}}`, `1:23: key "listeners.tcp": expected a list in brackets`},
		{"number in a list", "{\"listeners\": {\"tcp\": [\":1883\",\n 1884]}}", `2:2: key "listeners.tcp[1]": number is given, expected a text`},
		{"unknown key of a listener", "{\"listeners\": {\"tls\": [\":8883\",\n {\"port\": 1}]}}", `2:3: unknown key "listeners.tls[1].port"`},
		{"key of other listeners", `{"listeners": {"tcp": [{"mode": "0600"}]}}`, `1:25: unknown key "listeners.tcp[0].mode"`},
		{"no mode", `{"listeners": {"unix": [{"mode": "rw"}]}}`, `1:34: key "listeners.unix[0].mode": "rw" are no permissions`},
		{"text for a limit of a listener", `{"listeners": {"ws": [{"maximumConnections": "5"}]}}`, `1:46: key "listeners.ws[0].maximumConnections": string is given, expected a whole number`},
		{"unknown way", `{"listeners": {"tcp": [{"authenticateBy": ["password", "luck"]}]}}`, `1:43: key "listeners.tcp[0].authenticateBy": "luck" is none of password, scram,`},
		{"unknown name of a certificate", `{"authentication": {"certificateName": "serial"}}`, `1:40: key "authentication.certificateName": "serial" is none of commonName,`},
		{"proxy that is no prefix", `{"listeners": {"tcp": [{"proxyProtocol": {"trusted": ["10.0.0.1"]}}]}}`, `1:54: key "listeners.tcp[0].proxyProtocol.trusted": netip.ParsePrefix("10.0.0.1")`},
		{"list that does not end", `{"listeners": {"tcp": [":1883"`, `1:31: the file ends too early`},
		{"text for yes or no", `{"websocket": {"allowAnyOrigin": "yes"}}`, `1:34: key "websocket.allowAnyOrigin": string is given, expected true or false`},
		{"address for a prefix", `{"websocket": {"trustedProxies": ["10.1.0.1"]}}`, `1:34: key "websocket.trustedProxies": netip.ParsePrefix("10.1.0.1")`},
		{"text for an object", `{"limits": "none"}`, `1:12: key "limits": expected an object in braces`},
		{"unknown policy", `{"authentication": {"anonymous": "yes"}}`, `1:34: key "authentication.anonymous": "yes" is none of local, any, none`},
		{"no duration", `{"limits": {"connectTimeout": "soon"}}`, `1:31: key "limits.connectTimeout": "soon" is no duration such as "90s" or "1h30m"`},
		{"a list", `[]`, `1:1: expected an object in braces`},
		{"empty", ``, `1:1: the file ends too early`},
		{"cut off", `{"limits": {"queueMessages": 5}`, `1:32: the file ends too early`},
		{"something behind", "{}\n{}", `2:1: something follows the configuration`},
		{"no JSON", "{\n log: info}", `2:2: invalid character 'l'`},
		{"broken value", "{\n \"log\": \"info\",\n \"authentication\": {\"anonymous\": any}}", `3:34: key "authentication.anonymous": invalid character 'a'`},
		{"comma missing", "{\n \"log\": \"info\"\n \"anonymous\": \"any\"}", `3:2: invalid character '"'`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := write(t, tc.text)
			_, err := parse([]string{"-config", name}, io.Discard)
			require.Error(t, err)
			assert.Contains(t, err.Error(), name+":"+tc.want)
		})
	}
	t.Run("missing file", func(t *testing.T) {
		_, err := parse([]string{"-config", "no-such.json"}, io.Discard)
		assert.ErrorIs(t, err, os.ErrNotExist)
		assert.ErrorContains(t, err, "no-such.json")
	})
}

func TestEveryLimitOfTheFileIsDistinct(t *testing.T) {
	var c config
	seen := map[any]string{}
	for key, target := range c.limitKeys() {
		assert.Empty(t, seen[target], "%q and %q set the same limit", key, seen[target])
		seen[target] = key
	}
}

func TestOriginsReachTheListener(t *testing.T) {
	c, err := parse([]string{"-tcp=", "-ws", "127.0.0.1:0", "-config", write(t, `{"websocket": {"origins": ["https://app.example.com"]}}`)}, io.Discard)
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	broker, a, err := prepare(&c, log)
	require.NoError(t, err)
	defer broker.Close()
	open, err := listen(&c, a, log)
	require.NoError(t, err)
	require.Len(t, open, 1)
	go broker.ServeListener(open[0].Listener, open[0].options)
	url := "http://" + open[0].Addr().String()
	for origin, want := range map[string]int{"https://app.example.com": http.StatusSwitchingProtocols, url: http.StatusForbidden} {
		r, err := http.NewRequest(http.MethodGet, url+"/mqtt", nil)
		require.NoError(t, err)
		r.Header = http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Origin": {origin}, "Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key": {"AAECAwQFBgcICQoLDA0ODw=="}, "Sec-Websocket-Protocol": {"mqtt"},
		}
		answer, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		answer.Body.Close()
		assert.Equal(t, want, answer.StatusCode, origin)
	}
}
