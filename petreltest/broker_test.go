package petreltest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/petreltest"
)

// The test of the package documentation, with sockets.
func TestThermostat(t *testing.T) {
	b := petreltest.Start(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		thermostat(t.Context(), func() (net.Conn, error) { return net.Dial("tcp", strings.TrimPrefix(b.URL, "mqtt://")) })
	}()
	t.Cleanup(func() { <-ended })
	b.Publish("home/temp", "17.5")
	m := b.WaitFor("home/heater/set")
	if m.String() != "ON" {
		t.Fatalf("heater = %q; want ON", m)
	}
}

// The same in memory, with fake time.
func TestThermostatInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := petreltest.StartInMemory(t)
		start := time.Now()
		go thermostat(t.Context(), func() (net.Conn, error) {
			time.Sleep(3 * time.Second)
			return b.Dial(), nil
		})
		b.Publish("home/temp", "17.5")
		require.Equal(t, "ON", b.WaitFor("home/heater/set").String())
		require.Equal(t, 3*time.Second, time.Since(start), "when the thermostat was ready")
	})
}

// peers is an Authenticator that remembers whom it has admitted.
type peers struct {
	mu   sync.Mutex
	seen map[string]petrel.Peer
}

func (p *peers) Authenticate(_ context.Context, r *petrel.ConnectRequest) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil {
		p.seen = make(map[string]petrel.Peer)
	}
	p.seen[r.ClientID] = r.Peer
	return nil
}

func (p *peers) of(id string) petrel.Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[id]
}

// Every way to the broker works, and hooks see the same as in a broker without
// a test around it.
func TestTransports(t *testing.T) {
	hook := new(peers)
	b := petreltest.Start(t, petrel.Options{Hooks: []petrel.Hook{hook}})
	for _, tt := range []struct {
		name, address, prefix, network string
		secure                         bool
	}{
		{"mqtt", b.URL, "mqtt://127.0.0.1:", "tcp", false},
		{"mqtts", b.TLSURL, "mqtts://127.0.0.1:", "tcp", true},
		{"websocket", b.WSURL, "ws://127.0.0.1:", "tcp", false},
		{"memory", "", "", "pipe", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.True(t, strings.HasPrefix(tt.address, tt.prefix), "address %q", tt.address)
			c := connect(t, dial(t, b, tt.address), brokertest.ID(tt.name))
			c.Subscribe(packets.AtLeastOnce, "to/"+tt.name)
			b.Publish("to/"+tt.name, "hello")
			p := c.ExpectPublish("to/"+tt.name, "hello")
			require.Equal(t, packets.AtLeastOnce, p.QoS, "the QoS that was asked for")
			c.Publish("from/"+tt.name, "hi", packets.ExactlyOnce)
			require.Equal(t, "hi", b.WaitFor("from/"+tt.name).String())
			peer := hook.of(tt.name)
			require.Equal(t, tt.network, peer.RemoteAddr.Network())
			require.Equal(t, tt.secure, peer.TLS != nil, "the state of TLS")
			c.Send(&packets.Publish{Topic: []byte("not/a/#")})
			c.ExpectDisconnect(packets.TopicNameInvalid) // the last words arrive
		})
	}
}

func TestCertificate(t *testing.T) {
	b := petreltest.Start(t)
	host := strings.TrimPrefix(b.TLSURL, "mqtts://")
	t.Run("is not trusted without the pool", func(t *testing.T) {
		_, err := tls.Dial("tcp", host, &tls.Config{RootCAs: x509.NewCertPool()})
		var unknown x509.UnknownAuthorityError
		require.ErrorAs(t, err, &unknown)
	})
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		t.Run("is good for "+name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", host, &tls.Config{RootCAs: b.CertPool(), ServerName: name})
			require.NoError(t, err)
			defer conn.Close()
			require.Equal(t, x509.ECDSA, conn.ConnectionState().PeerCertificates[0].PublicKeyAlgorithm)
		})
	}
	t.Run("is not good for another name", func(t *testing.T) {
		_, err := tls.Dial("tcp", host, &tls.Config{RootCAs: b.CertPool(), ServerName: "example.com"})
		var name x509.HostnameError
		require.ErrorAs(t, err, &name)
	})
	t.Run("is another for each broker", func(t *testing.T) {
		require.False(t, b.CertPool().Equal(petreltest.Start(t).CertPool()))
	})
}

func TestInMemoryHasNoAddresses(t *testing.T) {
	b := petreltest.StartInMemory(t)
	require.Empty(t, b.URL+b.TLSURL+b.WSURL)
	require.True(t, b.CertPool().Equal(x509.NewCertPool()))
}

// closedDoor is an Authenticator that refuses.
type closedDoor struct{}

func (closedDoor) Authenticate(context.Context, *petrel.ConnectRequest) error {
	return packets.NotAuthorized
}

// handshake is an EnhancedAuthenticator that admits.
type handshake struct{}

func (handshake) AuthenticationMethods() []string { return []string{"nod"} }

func (handshake) BeginAuthentication(context.Context, *petrel.AuthenticationRequest) (petrel.AuthenticationExchange, error) {
	return admission{}, nil
}

type admission struct{}

func (admission) Authenticate(context.Context, []byte) (petrel.AuthenticationStep, error) {
	return petrel.AuthenticationStep{Done: true}, nil
}

func TestAuthenticators(t *testing.T) {
	nod := brokertest.ID("x")
	nod.HasAuthenticationMethod, nod.AuthenticationMethod = true, []byte("nod")
	for _, tt := range []struct {
		name    string
		hooks   []petrel.Hook
		connect packets.Connect
		want    packets.ReasonCode
	}{
		{"none of the caller's", nil, brokertest.ID("x"), packets.Success},
		{"one that refuses", []petrel.Hook{closedDoor{}}, brokertest.ID("x"), packets.NotAuthorized},
		{"an enhanced one, plain client", []petrel.Hook{handshake{}}, brokertest.ID("x"), packets.NotAuthorized},
		{"an enhanced one, its client", []petrel.Hook{handshake{}}, nod, packets.Success},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := petreltest.StartInMemory(t, petrel.Options{Hooks: tt.hooks})
			_, ack := tryConnect(t, b.Dial(), tt.connect)
			require.Equal(t, tt.want, ack.Reason)
		})
	}
}

func TestOptionsAreNotChanged(t *testing.T) {
	hooks := make([]petrel.Hook, 1, 8)
	hooks[0] = new(peers)
	petreltest.StartInMemory(t, petrel.Options{Hooks: hooks})
	require.Equal(t, make([]petrel.Hook, 7), hooks[1:8])
}

func TestOptionsThatCannotBe(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options []petrel.Options
		want    string
	}{
		{"two of them", make([]petrel.Options, 2), "petreltest: 2 Options; at most one is possible"},
		{"a value out of range", []petrel.Options{{ReceiveMaximum: 70000}}, "petrel: Options.ReceiveMaximum is 70000; at most 65535 is possible"},
		{"a hook that is none", []petrel.Options{{Hooks: []petrel.Hook{auth.AllowAll{}, 7}}}, "petrel: Options.Hooks[1]: int implements none of the hook interfaces"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, []string{tt.want}, run(func(t testing.TB) { petreltest.Start(t, tt.options...) }))
		})
	}
}

func TestLog(t *testing.T) {
	t.Run("goes to the test", func(t *testing.T) {
		fake := new(fakeTest)
		b := petreltest.StartInMemory(fake)
		connect(t, b.Dial(), brokertest.ID("somebody")).Close()
		fake.end()
		require.Contains(t, fake.log.String(), `level=DEBUG msg="petrel: client connected" client=somebody`)
	})
	t.Run("goes where it is asked to", func(t *testing.T) {
		var log bytes.Buffer
		fake := new(fakeTest)
		b := petreltest.StartInMemory(fake, petrel.Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		connect(t, b.Dial(), brokertest.ID("somebody")).Close()
		fake.end()
		require.Contains(t, log.String(), "client=somebody")
		require.Empty(t, fake.log.String())
	})
}

func TestEnd(t *testing.T) {
	t.Run("tells clients", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var c *brokertest.Client
			failures := run(func(fake testing.TB) {
				c = connect(t, petreltest.StartInMemory(fake).Dial(), brokertest.ID("x"))
			})
			require.Empty(t, failures)
			c.ExpectDisconnect(packets.ServerShuttingDown)
		})
	})
	t.Run("closes what is dialed later", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			fake := new(fakeTest)
			b := petreltest.StartInMemory(fake)
			fake.end()
			_, err := b.Dial().Read(make([]byte, 1))
			require.ErrorIs(t, err, io.ErrClosedPipe)
		})
	})
	t.Run("closes the ports", func(t *testing.T) {
		fake := new(fakeTest)
		b := petreltest.Start(fake)
		fake.end()
		for _, address := range []string{b.URL, b.TLSURL, b.WSURL} {
			_, host, _ := strings.Cut(strings.TrimSuffix(address, "/mqtt"), "://")
			_, err := net.Dial("tcp", host)
			require.Error(t, err, address)
		}
	})
	t.Run("while the first timer fires", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for range 200 {
				require.Empty(t, run(func(fake testing.TB) { petreltest.StartInMemory(fake) }))
			}
		})
	})
	t.Run("with a connection that never said a word", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			failures := run(func(fake testing.TB) {
				b := petreltest.StartInMemory(fake)
				b.Dial()
				b.Refuse(1)
				b.Dial()
				synctest.Wait()
			})
			require.Empty(t, failures)
			require.Zero(t, time.Since(start))
		})
	})
	t.Run("with a client that is stalled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			failures := run(func(fake testing.TB) {
				b := petreltest.StartInMemory(fake)
				c := connect(t, b.Dial(), brokertest.ID("x"))
				c.Subscribe(packets.AtMostOnce, "a")
				b.Stall("x")
				b.Publish("a", "1")
			})
			require.Empty(t, failures)
			require.Zero(t, time.Since(start))
		})
	})
}

// sleeper is an Authenticator that does not return when it should, and then
// makes the broker log.
type sleeper struct{ wake chan struct{} }

func (s sleeper) Authenticate(context.Context, *petrel.ConnectRequest) error {
	<-s.wake
	panic("good morning")
}

func TestEndFailsWithAHookThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		hook := sleeper{make(chan struct{})}
		failures := run(func(fake testing.TB) {
			b := petreltest.StartInMemory(fake, petrel.Options{Hooks: []petrel.Hook{hook}, HookTimeout: -1})
			p := brokertest.ID("x")
			brokertest.NewClient(t, b.Dial(), packets.V5).Send(&p)
			synctest.Wait()
		})
		require.Len(t, failures, 1)
		require.Contains(t, failures[0], "petrel: shutdown: context deadline exceeded")
		require.Equal(t, 10*time.Second, time.Since(start), "how long the end waited")
		close(hook.wake)
		synctest.Wait()
	})
}
