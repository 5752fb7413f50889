package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/examples/internal/smoke"
)

// start runs the program, and returns its addresses for MQTT and for browsers.
func start(t *testing.T, args ...string) (mqtt, web string) {
	t.Helper()
	at := smoke.Start(t, `listening on (\S+) for MQTT, on (http://\S+) for browsers`,
		append([]string{"-mqtt", "127.0.0.1:0", "-http", "127.0.0.1:0"}, args...)...)
	return at[0], at[1]
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	r, err := http.Get(url)
	require.NoError(t, err)
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r, string(body)
}

func TestServesPageAndMQTT(t *testing.T) {
	modules := t.TempDir() // with something in the place of MQTT.js
	require.NoError(t, os.MkdirAll(filepath.Join(modules, "mqtt", "dist"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(modules, "mqtt", "dist", "mqtt.min.js"), []byte("var mqtt"), 0o600))
	_, web := start(t, "-modules", modules)

	page, html := get(t, web)
	require.Equal(t, http.StatusOK, page.StatusCode)
	require.Contains(t, page.Header.Get("Content-Security-Policy"), "default-src 'none'")
	require.Equal(t, "nosniff", page.Header.Get("X-Content-Type-Options"))
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(html, -1) {
		r, _ := get(t, web+"/"+m[1])
		require.Equal(t, http.StatusOK, r.StatusCode, m[1])
	}
	require.NotRegexp(t, `(?i)<style|<script>|style=| on\w+=`, html, "the policy forbids it")

	for origin, want := range map[string]int{web: http.StatusSwitchingProtocols, "http://evil.example": http.StatusForbidden} {
		r, err := http.NewRequest(http.MethodGet, web+"/mqtt", nil)
		require.NoError(t, err)
		r.Header = http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Origin": {origin}, "Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key": {"AAECAwQFBgcICQoLDA0ODw=="}, "Sec-Websocket-Protocol": {"mqtt"},
		}
		answer, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		answer.Body.Close()
		require.Equal(t, want, answer.StatusCode, origin)
	}
}

// Without node_modules the page is there, and names the command that the
// documentation names.
func TestServesThePageWithoutMQTTJS(t *testing.T) {
	_, web := start(t, "-modules", t.TempDir())
	missing, _ := get(t, web+"/mqtt.min.js")
	require.Equal(t, http.StatusNotFound, missing.StatusCode)
	_, html := get(t, web)
	require.Contains(t, html, ">"+command+"<")
	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	require.Contains(t, string(source), command)
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	require.NoError(t, err)
	require.Contains(t, string(readme), command)
}

const command = "npm ci --prefix examples/browser"

// What npm installs is what the lock file says, and the lock file what
// package.json asks for.
func TestLockFile(t *testing.T) {
	var asked struct{ Dependencies, DevDependencies map[string]string }
	var locked struct {
		Packages map[string]struct {
			Version, Integrity            string
			Dependencies, DevDependencies map[string]string
		}
	}
	for name, into := range map[string]any{"package.json": &asked, "package-lock.json": &locked} {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(b, into))
	}
	require.Equal(t, asked.Dependencies, locked.Packages[""].Dependencies)
	require.Equal(t, asked.DevDependencies, locked.Packages[""].DevDependencies)
	for name, version := range asked.Dependencies {
		require.Equal(t, version, locked.Packages["node_modules/"+name].Version)
	}
	for name, p := range locked.Packages {
		require.True(t, name == "" || strings.HasPrefix(p.Integrity, "sha512-"), name)
	}
}
