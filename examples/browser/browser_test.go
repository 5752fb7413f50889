package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/examples/internal/smoke"
	"github.com/petrelmq/petrel/packets"
)

// requireBrowser returns the Chromium of this machine, or ends the test: with a
// failure in CI, where everything is there.
func requireBrowser(t *testing.T) string {
	t.Helper()
	chromium := os.Getenv("CHROMIUM")
	if chromium == "" {
		chromium = "chromium"
	}
	path, err := exec.LookPath(chromium)
	if err != nil {
		err = fmt.Errorf("%w: apt-get install chromium, or set CHROMIUM", err)
	}
	if _, lookErr := exec.LookPath("node"); err == nil && lookErr != nil {
		err = fmt.Errorf("%w: install Node.js 20 or later", lookErr)
	}
	for _, module := range []string{"mqtt", "playwright-core"} {
		if _, statErr := os.Stat("node_modules/" + module); err == nil && statErr != nil {
			err = fmt.Errorf("%w: %s", statErr, command)
		}
	}
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		require.FailNow(t, "the browser cannot run", err.Error())
	default:
		t.Skipf("the browser cannot run: %v", err)
	}
	return path
}

// visitor is a Chromium on the page, driven by testdata/visit.js: each line that
// it is sent is an order, each line that it sends says that one was carried out.
type visitor struct {
	t      *testing.T
	orders io.WriteCloser
	lines  chan string
}

func visit(t *testing.T, url string) *visitor {
	t.Helper()
	cmd := exec.Command("node", "testdata/visit.js", requireBrowser(t), url)
	cmd.Stderr = t.Output()
	orders, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	v := &visitor{t, orders, make(chan string, 100)}
	go func() {
		defer close(v.lines)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			v.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = orders.Close() // at which it ends the browser, and itself
		tooLong := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer tooLong.Stop()
		for range v.lines {
		}
		require.NoError(t, cmd.Wait())
	})
	return v
}

const patience = time.Minute

// do gives an order, and returns what comes of it.
func (v *visitor) do(order string, args ...any) string {
	v.t.Helper()
	_, err := fmt.Fprintf(v.orders, order+"\n", args...)
	require.NoError(v.t, err)
	select {
	case line, ok := <-v.lines:
		require.True(v.t, ok, "the browser ended at %q", order)
		return line
	case <-time.After(patience):
		require.FailNow(v.t, "the browser does not answer", order)
		return ""
	}
}

func TestPageInABrowser(t *testing.T) {
	requireBrowser(t)
	mqtt, web := start(t)
	client := smoke.Connect(t, mqtt, packets.Connect{ClientID: []byte("another")})
	client.Subscribe(1, "hello/#")

	page := visit(t, web)
	require.Equal(t, "connected, following #", page.do("status connected"))
	require.Equal(t, "from the host program", page.do("payload petrel/welcome"))
	require.Contains(t, page.do("facts petrel/welcome"), "retained")

	client.Publish("greenhouse/<b>temperature</b>", "21.5 °C <script>alert(1)</script>", packets.AtLeastOnce)
	require.Equal(t, "21.5 °C <script>alert(1)</script>", page.do("payload greenhouse/<b>temperature</b>"))
	require.Contains(t, page.do("facts greenhouse/<b>temperature</b>"), "QoS 1")

	client.Publish("greenhouse/bytes", "\x00\xff", packets.AtLeastOnce)
	require.Equal(t, "00 ff", page.do("payload greenhouse/bytes"))

	require.Equal(t, "Published to hello/page", page.do("publish hello/page 2 Grüße"))
	client.Accept(client.ExpectPublish("hello/page", "Grüße"))
	require.Equal(t, "Grüße", page.do("payload hello/page"), "its own message")

	require.Equal(t, "connected, following other/+", page.do("follow other/+"))
	client.Publish("greenhouse/unseen", "x", packets.AtLeastOnce)
	client.Publish("other/seen", "y", packets.AtLeastOnce)
	require.Equal(t, "y", page.do("payload other/seen"))
	require.Equal(t, "0", page.do("count greenhouse/unseen"))
	if file := os.Getenv("SCREENSHOT"); file != "" {
		page.do("screenshot %s", file)
	}
	require.Equal(t, "[]", page.do("errors"))
}

func TestPageWithoutMQTTJSInABrowser(t *testing.T) {
	requireBrowser(t)
	_, web := start(t, "-modules", t.TempDir())
	page := visit(t, web)
	require.Equal(t, "MQTT.js is missing", page.do("status missing"))
	require.Equal(t, command, page.do("hint"))
	if file := os.Getenv("SCREENSHOT_HINT"); file != "" {
		page.do("screenshot %s", file)
	}
}
