package debug_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/debug"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// lines is a log that may be written and read at once.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) with(words ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for line := range strings.Lines(l.b.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		n++
	}
	return n
}

func trace(t *testing.T, clients, filters []string) *lines {
	out := new(lines)
	tracer := &debug.Tracer{Logger: slog.New(slog.NewTextHandler(out, nil))}
	require.NoError(t, tracer.Only(clients, filters))
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{tracer}})
	sub := b.Connect(brokertest.ID("sub"))
	connect := brokertest.ID("pub")
	connect.HasUserName, connect.UserName = true, []byte("anna")
	connect.HasPassword, connect.Password = true, []byte("open sesame")
	pub := b.Connect(connect)
	sub.Subscribe(1, "a/#")
	pub.Publish("a/b", "a secret message", 1)
	sub.Accept(sub.ExpectPublish("a/b", "a secret message"))
	pub.Publish("x", "", 0)
	sub.ExpectNothing()
	sub.Leave(packets.Success)
	pub.Leave(packets.Success)
	return out
}

func TestTracerShowsEveryPacket(t *testing.T) {
	out := trace(t, nil, nil)
	for _, line := range [][]string{
		{"received", "client=pub", "packet=CONNECT", "userName=anna", "hasPassword=true"},
		{"sent", "client=pub", "packet=CONNACK"},
		{"received", "client=sub", "packet=SUBSCRIBE", "filters=a/#"},
		{"sent", "client=sub", "packet=SUBACK", "reasons=0x01"},
		{"received", "client=pub", "packet=PUBLISH", "topic=a/b", "qos=1", "payloadBytes=16"},
		{"sent", "client=sub", "packet=PUBLISH", "topic=a/b", "qos=1", "payloadBytes=16"},
		{"sent", "client=pub", "packet=PUBACK"},
		{"received", "client=sub", "packet=PUBACK"},
		{"received", "client=sub", "packet=DISCONNECT"},
	} {
		require.Equal(t, 1, out.with(line...), "lines with %v", line)
	}
	require.Zero(t, out.with("sesame"))
	require.Zero(t, out.with("secret"))
}

func TestTracerOnlyClients(t *testing.T) {
	out := trace(t, []string{"sub"}, nil)
	require.Zero(t, out.with("client=pub"))
	require.Equal(t, 1, out.with("packet=CONNACK"))
}

func TestTracerOnlyTopics(t *testing.T) {
	out := trace(t, nil, []string{"a/+"})
	require.Equal(t, 2, out.with("topic=a/b"))
	require.Zero(t, out.with("topic=x"))
	require.Zero(t, out.with("packet=CONNACK"))
}

func TestTracerRefusesInvalidFilters(t *testing.T) {
	require.ErrorContains(t, new(debug.Tracer).Only(nil, []string{"a#"}), `"a#"`)
}
