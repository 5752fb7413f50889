package petrel_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// prompt is a PromptAuthenticator.
type prompt struct {
	connectDecision
	really bool
}

func (p prompt) DecidesPromptly() bool { return p.really }

// onLoop reports whether a loop of the engine calls it.
func onLoop() bool { return strings.Contains(string(debug.Stack()), "engine.(*loop).serve") }

// places notes of each event whether a loop told of it.
type places struct {
	mu     sync.Mutex
	onLoop map[string]bool
	ended  chan struct{}
}

func newPlaces() *places {
	return &places{onLoop: map[string]bool{}, ended: make(chan struct{}, 1)}
}

func (p *places) note(event string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onLoop[event] = onLoop()
}

func (p *places) was(event string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.onLoop[event]
}

func (p *places) ClientConnected(*petrel.Client) { p.note("connected") }
func (p *places) ClientDisconnected(*petrel.Client, error) {
	p.note("disconnected")
	p.ended <- struct{}{}
}

// A loop asks an authenticator itself only if nobody who has a say, or is told, might block it.
func TestWhereAuthenticatorsAreAsked(t *testing.T) {
	asked := newPlaces()
	admit := connectDecision(func(context.Context, *petrel.ConnectRequest) error {
		asked.note("asked")
		return nil
	})
	served := admission(func(context.Context, *petrel.ConnectionRequest) error { return nil })
	others := newPlaces()
	for _, c := range []struct {
		name   string
		hooks  []petrel.Hook
		door   petrel.ListenerOptions
		onLoop bool
	}{
		{"a prompt one", []petrel.Hook{prompt{admit, true}}, petrel.ListenerOptions{}, true},
		{"two prompt ones", []petrel.Hook{prompt{admit, true}, prompt{admit, true}}, petrel.ListenerOptions{}, true},
		{"one that says that it is not", []petrel.Hook{prompt{admit, false}}, petrel.ListenerOptions{}, false},
		{"one that says nothing", []petrel.Hook{admit}, petrel.ListenerOptions{}, false},
		{"before one that is not", []petrel.Hook{prompt{admit, true}, everybody{}}, petrel.ListenerOptions{}, false},
		{"beside enhanced authentication", []petrel.Hook{prompt{admit, true}, twoMethods{"m"}}, petrel.ListenerOptions{}, false},
		{"beside an observer of connections", []petrel.Hook{prompt{admit, true}, others}, petrel.ListenerOptions{}, false},
		{"beside an authorizer", []petrel.Hook{prompt{admit, true}, access(nil)}, petrel.ListenerOptions{}, false},
		{"a prompt one at the listener", []petrel.Hook{everybody{}}, petrel.ListenerOptions{Authenticate: []petrel.Hook{prompt{admit, true}}}, true},
		{"one at the listener that is not", []petrel.Hook{prompt{admit, true}}, petrel.ListenerOptions{Authenticate: []petrel.Hook{admit}}, false},
		{"beside a say in connections", []petrel.Hook{prompt{admit, true}, served}, petrel.ListenerOptions{}, false},
		{"beside one at the listener", []petrel.Hook{prompt{admit, true}}, petrel.ListenerOptions{Admit: []petrel.ConnectionAuthorizer{served}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := petrel.Options{Hooks: c.hooks, Logger: silent()}
			if runtime.GOOS == "linux" {
				o.Engine = petrel.LoopEngine
			}
			b := brokertest.New(t, o)
			conn := dialMQTT(t, serveListener(t, b, c.door), brokertest.ID("c"))
			require.Equal(t, c.onLoop && runtime.GOOS == "linux", asked.was("asked"))
			require.NoError(t, conn.Close())
		})
	}
	<-others.ended
	require.False(t, others.was("connected"))
	require.False(t, others.was("disconnected"))
}

// What a prompt authenticator does instead of admitting refuses, as with any other.
func TestPromptAuthenticatorRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		decide connectDecision
		want   packets.ReasonCode
	}{
		{"no", func(context.Context, *petrel.ConnectRequest) error { return packets.Banned }, packets.Banned},
		{"any error", func(context.Context, *petrel.ConnectRequest) error { return errors.New("no") }, packets.UnspecifiedError},
		{"panic", func(context.Context, *petrel.ConnectRequest) error { panic("on purpose") }, packets.UnspecifiedError},
		{"late", func(context.Context, *petrel.ConnectRequest) error { time.Sleep(2 * time.Second); return nil }, packets.UnspecifiedError},
		{"late, minding its context", func(ctx context.Context, _ *petrel.ConnectRequest) error { <-ctx.Done(); return ctx.Err() }, packets.UnspecifiedError},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := petrel.Options{Hooks: []petrel.Hook{prompt{c.decide, true}}, HookTimeout: time.Second, Logger: silent()}
			inFakeTime(t, o, func(t *testing.T, b *brokertest.Broker) {
				client, ack := b.TryConnect(brokertest.ID("c"))
				require.Equal(t, c.want, ack.Reason)
				client.ExpectClosed()
			})
		})
	}
}

// One that lied, and blocks, holds up nobody for long.
func TestPromptAuthenticatorThatBlocks(t *testing.T) {
	goOn := make(chan struct{})
	hook := prompt{func(_ context.Context, r *petrel.ConnectRequest) error {
		if strings.HasPrefix(r.ClientID, "stuck") {
			<-goOn
		}
		return nil
	}, true}
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{hook}, Logger: silent(), HookTimeout: -1})
	addr := serveTCP(t, b.Broker)
	var stuck []net.Conn
	for i := range 2 * runtime.GOMAXPROCS(0) {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer conn.Close()
		connect := brokertest.ID(fmt.Sprint("stuck", i))
		sendMQTT(t, conn, connect.Version, &connect)
		stuck = append(stuck, conn)
		for j := range 2 * runtime.GOMAXPROCS(0) { // some of each loop
			dialMQTT(t, addr, brokertest.ID(fmt.Sprintf("free%d-%d", i, j)))
		}
	}
	close(goOn)
	for _, conn := range stuck {
		var ack packets.Connack
		receiveMQTT(t, conn, packets.V5, &ack)
		require.Equal(t, packets.Success, ack.Reason)
	}
}
