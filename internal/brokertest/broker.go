// Package brokertest runs brokers in memory for the tests of petrel, and has a
// client that speaks packet by packet, the illegal ones included.
//
// Everything works inside a testing/synctest bubble: connections are pipes.
package brokertest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// Broker is a broker that is closed when its test ends.
type Broker struct {
	*petrel.Broker
	t     testing.TB
	loops bool
}

// engineVariable names in the environment the engine of all brokers whose test
// does not choose one: "goroutines" or "loops". With loops, clients are connected
// by TCP where that can be: not in a bubble of testing/synctest.
const engineVariable = "PETREL_TEST_ENGINE"

var engines = map[string]petrel.Engine{"": petrel.AutoEngine, "goroutines": petrel.GoroutineEngine, "loops": petrel.LoopEngine}

// New starts a broker. Without an Authenticator among the hooks everybody may
// connect. Without a SysInterval there is no $SYS tree. The log goes to the test.
func New(t testing.TB, o petrel.Options) *Broker {
	t.Helper()
	if !slices.ContainsFunc(o.Hooks, isAuthenticator) {
		o.Hooks = append(slices.Clip(o.Hooks), allowAll{})
	}
	if o.SysInterval == 0 {
		o.SysInterval = -1
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if o.Engine == petrel.AutoEngine {
		o.Engine = engines[os.Getenv(engineVariable)]
	}
	b, err := petrel.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Broker{b, t, o.Engine == petrel.LoopEngine}
}

func isAuthenticator(h petrel.Hook) bool {
	switch h.(type) {
	case petrel.Authenticator, petrel.EnhancedAuthenticator:
		return true
	}
	return false
}

type allowAll struct{}

func (allowAll) Authenticate(context.Context, *petrel.ConnectRequest) error { return nil }

func (allowAll) DecidesPromptly() bool { return true }

// Dial opens a connection on which nothing has been sent. The version is that
// in which the client encodes and decodes.
func (b *Broker) Dial(v packets.Version) *Client {
	b.t.Helper()
	client, server := net.Pipe()
	if b.loops && !inBubble() {
		client, server = tcpPair(b.t)
	}
	c := NewClient(b.t, client, v)
	go func() {
		c.served <- b.ServeConn(server)
	}()
	return c
}

// inBubble reports whether time is faked: it begins with the year 2000.
func inBubble() bool { return time.Now().Year() < 2020 }

// tcpPair is a connection that a loop can serve.
func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// Connect dials, sends p and expects that it is accepted. A zero Version means 5.0.
func (b *Broker) Connect(p packets.Connect) *Client {
	b.t.Helper()
	c, ack := b.TryConnect(p)
	if ack.Reason != packets.Success {
		b.t.Fatalf("CONNECT was refused: %v", ack.Reason)
	}
	return c
}

// TryConnect is Connect that takes any answer.
func (b *Broker) TryConnect(p packets.Connect) (*Client, *packets.Connack) {
	b.t.Helper()
	if p.Version == 0 {
		p.Version = packets.V5
	}
	if p.ReceiveMaximum == 0 {
		p.ReceiveMaximum = 65535
	}
	c := b.Dial(p.Version)
	c.name = string(p.ClientID)
	c.Send(&p)
	return c, Expect[*packets.Connack](c)
}

// ID is a CONNECT of a 5.0 client with a clean start.
func ID(id string) packets.Connect {
	return packets.Connect{Version: packets.V5, ClientID: []byte(id), CleanStart: true}
}

// Durable is a CONNECT of a 5.0 client that goes on with its session, which
// outlives the connection by an hour.
func Durable(id string) packets.Connect {
	return packets.Connect{Version: packets.V5, ClientID: []byte(id), SessionExpiryInterval: 3600}
}

// Topics are n topics "PREFIX/0", "PREFIX/1" and so on.
func Topics(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s/%d", prefix, i)
	}
	return list
}
