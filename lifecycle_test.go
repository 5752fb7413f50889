package petrel_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// acceptor is a listener that accepts what a test gives it: connections and errors.
type acceptor struct {
	give   chan any
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	calls []time.Time // of Accept
}

func newAcceptor() *acceptor { return &acceptor{give: make(chan any), closed: make(chan struct{})} }

func (a *acceptor) Accept() (net.Conn, error) {
	a.mu.Lock()
	a.calls = append(a.calls, time.Now())
	a.mu.Unlock()
	select {
	case x := <-a.give:
		if err, ok := x.(error); ok {
			return nil, err
		}
		return x.(net.Conn), nil
	case <-a.closed:
		return nil, net.ErrClosed
	}
}

func (a *acceptor) Close() error {
	a.once.Do(func() { close(a.closed) })
	return nil
}

func (a *acceptor) Addr() net.Addr { return &net.UnixAddr{Name: "acceptor", Net: "test"} }

// pauses are the times between the calls of Accept.
func (a *acceptor) pauses() (list []time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := 1; i < len(a.calls); i++ {
		list = append(list, a.calls[i].Sub(a.calls[i-1]))
	}
	return list
}

func (a *acceptor) isClosed() bool {
	select {
	case <-a.closed:
		return true
	default:
		return false
	}
}

// passing is a failure of Accept that passes.
type passing struct{}

func (passing) Error() string   { return "too many open files" }
func (passing) Timeout() bool   { return false }
func (passing) Temporary() bool { return true }

func TestServeRetriesTemporaryErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		l := newAcceptor()
		served := make(chan error, 1)
		go func() { served <- b.Serve(l) }()
		for range 10 {
			l.give <- &net.OpError{Op: "accept", Err: &os.SyscallError{Syscall: "accept4", Err: syscall.EMFILE}}
		}
		client, server := net.Pipe()
		l.give <- server
		c := brokertest.NewClient(t, client, packets.V5)
		connect := brokertest.ID("c")
		c.Send(&connect)
		brokertest.Expect[*packets.Connack](c)
		l.give <- passing{}
		synctest.Wait()
		time.Sleep(5 * time.Millisecond)
		synctest.Wait()
		ms := time.Millisecond
		require.Equal(t, []time.Duration{
			5 * ms, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms, 1000 * ms, 1000 * ms,
			0,      // after a connection
			5 * ms, // and then it begins anew
		}, l.pauses())
		require.NoError(t, b.Close())
		require.ErrorIs(t, <-served, petrel.ErrBrokerClosed)
		require.True(t, l.isClosed())
	})
}

func TestServeEndsWhileItWaitsToTryAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		l := newAcceptor()
		served := make(chan error, 1)
		go func() { served <- b.Serve(l) }()
		for range 9 {
			l.give <- passing{}
		}
		synctest.Wait()
		start := time.Now()
		require.NoError(t, b.Close())
		require.ErrorIs(t, <-served, petrel.ErrBrokerClosed)
		require.Zero(t, time.Since(start))
	})
}

func TestServeReturnsPermanentErrors(t *testing.T) {
	for name, broken := range map[string]error{
		"a plain error":             errors.New("the network is gone"),
		"a listener that is closed": net.ErrClosed,
		"EINVAL":                    &net.OpError{Op: "accept", Err: &os.SyscallError{Syscall: "accept4", Err: syscall.EINVAL}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				first := b.Connect(brokertest.ID("first"))
				l := newAcceptor()
				go func() { l.give <- broken }()
				err := b.Serve(l)
				require.ErrorIs(t, err, broken)
				require.NotErrorIs(t, err, petrel.ErrBrokerClosed)
				require.ErrorContains(t, err, "petrel: accept on acceptor: ")
				require.True(t, l.isClosed())
				first.ExpectNothing() // the others go on
				b.Connect(brokertest.ID("second")).ExpectNothing()
			})
		})
	}
}

func TestServeSeveralListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		served := make(chan error, 3)
		for range 3 {
			l := newAcceptor()
			go func() { served <- b.Serve(l) }()
			client, server := net.Pipe()
			l.give <- server
			c := brokertest.NewClient(t, client, packets.V5)
			c.Send(&packets.Connect{Version: packets.V5})
			brokertest.Expect[*packets.Connack](c)
		}
		require.NoError(t, b.Close())
		for range 3 {
			require.ErrorIs(t, <-served, petrel.ErrBrokerClosed)
		}
	})
}

func TestServingAfterTheEnd(t *testing.T) {
	for name, end := range map[string]func(*petrel.Broker) error{
		"Close":    (*petrel.Broker).Close,
		"Shutdown": func(b *petrel.Broker) error { return b.Shutdown(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				require.NoError(t, end(b.Broker))
				l := newAcceptor()
				require.ErrorIs(t, b.Serve(l), petrel.ErrBrokerClosed)
				require.True(t, l.isClosed())
				client, server := net.Pipe()
				require.ErrorIs(t, b.ServeConn(server), petrel.ErrBrokerClosed)
				_, err := client.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.EOF, "the connection is closed")
				require.ErrorIs(t, b.Publish(t.Context(), petrel.Message{Topic: "a"}), petrel.ErrBrokerClosed)
				require.ErrorIs(t, b.Disconnect("nobody", nil), petrel.ErrNoSuchClient)
				require.NoError(t, b.Shutdown(t.Context()))
				require.NoError(t, b.Close())
			})
		})
	}
}

func TestListenAndServe(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	err = b.ListenAndServe(l.Addr().String())
	require.ErrorContains(t, err, "petrel: listen on "+l.Addr().String()+": ")
	require.Error(t, b.ListenAndServe("no port"))
	require.NoError(t, b.Close())
	require.ErrorIs(t, b.ListenAndServe("127.0.0.1:0"), petrel.ErrBrokerClosed)
}

// What ServeConn returns says why the connection ended.
func TestServeConnReturnsTheCause(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(b *brokertest.Broker, c *brokertest.Client)
		want error // nil means none
	}{
		{"DISCONNECT", func(_ *brokertest.Broker, c *brokertest.Client) { c.Send(&packets.Disconnect{}) }, nil},
		{"end of the network connection", func(_ *brokertest.Broker, c *brokertest.Client) { c.Conn.Close() }, io.EOF},
		{"protocol error", func(_ *brokertest.Broker, c *brokertest.Client) { c.SendRaw([]byte{0xD0, 0}) }, packets.ProtocolError},
		{"malformed packet", func(_ *brokertest.Broker, c *brokertest.Client) { c.SendRaw([]byte{0xC1, 0}) }, packets.MalformedPacket},
		{"takeover", func(b *brokertest.Broker, _ *brokertest.Client) { b.Connect(brokertest.ID("c")) }, packets.SessionTakenOver},
		{"the host", func(b *brokertest.Broker, _ *brokertest.Client) { b.Disconnect("c", nil) }, packets.AdministrativeAction},
		{"the host with a reason", func(b *brokertest.Broker, _ *brokertest.Client) { b.Disconnect("c", packets.ServerMoved) }, packets.ServerMoved},
		{"keep alive", func(*brokertest.Broker, *brokertest.Client) { time.Sleep(20 * time.Second) }, packets.KeepAliveTimeout},
		{"Close", func(b *brokertest.Broker, _ *brokertest.Client) { b.Close() }, packets.ServerShuttingDown},
		{"Shutdown", func(b *brokertest.Broker, _ *brokertest.Client) { b.Shutdown(context.Background()) }, packets.ServerShuttingDown},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				connect := brokertest.ID("c")
				connect.KeepAlive = 10
				client := b.Connect(connect)
				c.end(b, client)
				err := client.Served()
				if c.want == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, c.want)
				}
			})
		})
	}
	t.Run("DISCONNECT with an error of the client", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			c := b.Connect(brokertest.ID("c"))
			c.Send(&packets.Disconnect{Reason: packets.DisconnectWithWill})
			require.ErrorContains(t, c.Served(), "disconnect with will message")
		})
	})
	t.Run("refusal", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{refusing{}}})
			c, ack := b.TryConnect(brokertest.ID("c"))
			require.Equal(t, packets.BadUserNameOrPassword, ack.Reason)
			require.ErrorIs(t, c.Served(), packets.BadUserNameOrPassword)
		})
	})
	t.Run("no CONNECT in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{ConnectTimeout: time.Minute})
			c := b.Dial(packets.V5)
			start := time.Now()
			time.Sleep(59 * time.Second)
			c.SendRaw([]byte{0x10})
			c.ExpectClosed()
			require.ErrorContains(t, c.Served(), "no CONNECT in time")
			require.Equal(t, time.Minute, time.Since(start).Truncate(time.Second))
		})
	})
}

type refusing struct{}

func (refusing) Authenticate(context.Context, *petrel.ConnectRequest) error {
	return packets.BadUserNameOrPassword
}

// gate is an Authorizer that waits at a gate, and minds its context or not.
type gate struct {
	entered chan struct{}
	open    chan struct{}
	minds   bool
}

func newGate(minds bool) *gate {
	return &gate{entered: make(chan struct{}, 16), open: make(chan struct{}), minds: minds}
}

func (g *gate) Authorize(ctx context.Context, r *petrel.AccessRequest) error {
	if r.Topic != "gate" {
		return nil
	}
	g.entered <- struct{}{}
	if g.minds {
		select {
		case <-g.open:
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	}
	<-g.open
	return nil
}

// willGate holds wills until its context ends.
type willGate struct{}

func (willGate) InterceptPublish(ctx context.Context, r *petrel.PublishRequest) error {
	if r.Will {
		<-ctx.Done()
	}
	return ctx.Err()
}

func TestShutdown(t *testing.T) {
	t.Run("5.0 clients are told, older ones are closed, wills are published", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			seen := make(chan string, 8)
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{publishedTo(seen)}})
			five := b.Connect(packets.Connect{
				Version: packets.V5, ClientID: []byte("five"), CleanStart: true,
				HasWill: true, Will: packets.Will{Topic: []byte("will/five"), Payload: []byte("gone")},
			})
			three := b.Connect(packets.Connect{
				Version: packets.V311, ClientID: []byte("three"), CleanStart: true,
				HasWill: true, Will: packets.Will{Topic: []byte("will/three"), Payload: []byte("gone")},
			})
			silent := b.Dial(packets.V5)
			require.NoError(t, b.Shutdown(t.Context()))
			five.ExpectDisconnect(packets.ServerShuttingDown)
			three.ExpectClosed()
			silent.ExpectClosed()
			require.ElementsMatch(t, []string{"will/five", "will/three"}, []string{<-seen, <-seen})
			require.Zero(t, b.Stats().ClientsConnected)
		})
	})
	t.Run("it comes behind what was accepted before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			sub := b.Connect(brokertest.ID("sub"))
			sub.Subscribe(packets.AtMostOnce, "a")
			sub.Stall()
			pub := b.Connect(brokertest.ID("pub"))
			for range 100 {
				pub.Publish("a", "m", packets.AtMostOnce)
			}
			ended := make(chan error, 1)
			go func() { ended <- b.Shutdown(context.Background()) }()
			synctest.Wait()
			sub.Resume()
			require.NoError(t, <-ended)
			for range 100 {
				sub.ExpectPublish("a", "m")
			}
			sub.ExpectDisconnect(packets.ServerShuttingDown)
		})
	})
	t.Run("it waits for a hook that runs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(false)
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{g}})
			c := b.Connect(brokertest.ID("c"))
			c.Send(&packets.Publish{Topic: []byte("gate")})
			<-g.entered
			ended := make(chan error, 1)
			go func() { ended <- b.Shutdown(context.Background()) }()
			time.Sleep(time.Hour)
			synctest.Wait()
			require.Empty(t, ended)
			close(g.open)
			require.NoError(t, <-ended)
			c.ExpectDisconnect(packets.ServerShuttingDown)
		})
	})
	t.Run("it waits for a hook that decides about a CONNECT", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := slowAuthenticator{make(chan struct{}), make(chan struct{}, 1)}
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{a}})
			c := b.Dial(packets.V5)
			connect := brokertest.ID("c")
			c.Send(&connect)
			<-a.entered
			ended := make(chan error, 1)
			go func() { ended <- b.Shutdown(context.Background()) }()
			time.Sleep(time.Hour)
			synctest.Wait()
			require.Empty(t, ended)
			close(a.open)
			require.NoError(t, <-ended)
			require.Zero(t, b.Stats().Connects)
		})
	})
	t.Run("a hook sees that its connection ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(true)
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{g}, HookTimeout: -1})
			c := b.Connect(brokertest.ID("c"))
			c.Send(&packets.Publish{Topic: []byte("gate")})
			<-g.entered
			start := time.Now()
			require.NoError(t, b.Shutdown(context.Background()))
			require.Zero(t, time.Since(start))
			c.ExpectDisconnect(packets.ServerShuttingDown)
		})
	})
	t.Run("when its context ends it goes on as Close", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{willGate{}}, HookTimeout: -1})
			b.Connect(packets.Connect{
				Version: packets.V5, ClientID: []byte("c"), CleanStart: true, HasWill: true, Will: packets.Will{Topic: []byte("will")},
			})
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			start := time.Now()
			err := b.Shutdown(ctx) // the connection is gone, but the hook still looks at the will
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotContains(t, err.Error(), "still running")
			require.Equal(t, time.Minute, time.Since(start))
		})
	})
	t.Run("with a context that has ended", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(false)
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{g}})
			c := b.Connect(brokertest.ID("c"))
			c.Send(&packets.Publish{Topic: []byte("gate")})
			<-g.entered
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			start := time.Now()
			err := b.Shutdown(ctx)
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorContains(t, err, "petrel: shutdown: context canceled")
			require.ErrorContains(t, err, "petrel: close: a hook is still running")
			require.Equal(t, 5*time.Second, time.Since(start))
			close(g.open)
			require.NoError(t, b.Close())
			c.ExpectClosed()
		})
	})
	t.Run("a client that never reads does not hold it up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			sub := b.Connect(brokertest.ID("sub"))
			sub.Subscribe(packets.AtMostOnce, "a")
			sub.Stall()
			pub := b.Connect(brokertest.ID("pub"))
			for range 10 {
				pub.Publish("a", string(make([]byte, 100_000)), packets.AtMostOnce)
			}
			start := time.Now()
			require.NoError(t, b.Shutdown(context.Background()))
			require.LessOrEqual(t, time.Since(start), 3*time.Second)
			pub.ExpectDisconnect(packets.ServerShuttingDown)
		})
	})
	t.Run("several at once, and Close among them", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			for _, id := range brokertest.Topics("c", 10) {
				b.Connect(brokertest.ID(id))
			}
			ended := make(chan error, 9)
			for i := range 9 {
				go func() {
					if i%3 == 0 {
						ended <- b.Close()
					} else {
						ended <- b.Shutdown(context.Background())
					}
				}()
			}
			for range 9 {
				require.NoError(t, <-ended)
			}
			require.Zero(t, b.Stats().ClientsConnected)
		})
	})
}

// A client over TCP that never reads, and whose socket is full, is given up in time.
func TestShutdownWithFullSocket(t *testing.T) {
	b := brokertest.New(t, petrel.Options{Logger: silent()})
	addr := serveTCP(t, b.Broker)
	stuck, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer stuck.Close()
	connect := brokertest.ID("stuck")
	raw, err := connect.AppendTo(nil, packets.V5)
	require.NoError(t, err)
	raw, err = (&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("a")})}).AppendTo(raw, packets.V5)
	require.NoError(t, err)
	_, err = stuck.Write(raw)
	require.NoError(t, err)
	eventually(t, "the client has subscribed", func() bool { return b.Stats().Subscriptions == 1 })
	payload := make([]byte, 1<<20)
	for range 32 {
		require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "a", Payload: payload}))
	}
	require.Positive(t, b.Stats().MessageBytes, "the socket is full, and messages wait")
	require.NoError(t, b.Shutdown(t.Context()))
	require.Zero(t, b.Stats().MessageBytes)
}

type publishedTo chan<- string

func (p publishedTo) MessagePublished(_ *petrel.Client, m *petrel.Message) { p <- m.Topic }

type slowAuthenticator struct{ open, entered chan struct{} }

func (a slowAuthenticator) Authenticate(context.Context, *petrel.ConnectRequest) error {
	a.entered <- struct{}{}
	<-a.open
	return nil
}

func TestClose(t *testing.T) {
	t.Run("twice", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			c := b.Connect(brokertest.ID("c"))
			require.NoError(t, b.Close())
			require.NoError(t, b.Close())
			require.Error(t, c.Served())
		})
	})
	t.Run("from several goroutines", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			for _, id := range brokertest.Topics("c", 20) {
				b.Connect(brokertest.ID(id))
			}
			ended := make(chan error, 8)
			for range cap(ended) {
				go func() { ended <- b.Close() }()
			}
			for range cap(ended) {
				require.NoError(t, <-ended)
			}
		})
	})
	t.Run("before anything came", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{SysInterval: time.Second})
			require.NoError(t, b.Close())
		})
	})
	t.Run("a hook sees that its context ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(true)
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{g}, HookTimeout: -1})
			c := b.Connect(brokertest.ID("c"))
			c.Send(&packets.Publish{Topic: []byte("gate")})
			<-g.entered
			start := time.Now()
			require.NoError(t, b.Close())
			require.Zero(t, time.Since(start))
		})
	})
	t.Run("a hook that ignores its context does not hold it up for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(false)
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{g}})
			c := b.Connect(brokertest.ID("c"))
			c.Send(&packets.Publish{Topic: []byte("gate")})
			<-g.entered
			start := time.Now()
			require.ErrorContains(t, b.Close(), "petrel: close: a hook is still running")
			require.Equal(t, 5*time.Second, time.Since(start))
			close(g.open)
			require.NoError(t, b.Close())
		})
	})
	t.Run("connections that arrive meanwhile are closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			results := make(chan error, 100)
			for i := range cap(results) {
				client, server := net.Pipe()
				go func() {
					results <- b.ServeConn(server)
					client.Close()
				}()
				if i == cap(results)/2 {
					go b.Close()
				}
			}
			for range cap(results) {
				require.Error(t, <-results)
			}
		})
	})
}

// What ends a connection may come from anywhere, also while its CONNECT is on its
// way to CONNACK. The race detector watches.
func TestCloseWhileClientsConnect(t *testing.T) {
	hello := octets(t, "10 0D 00 04 4D 51 54 54 05 02 00 3C 00 00 00")
	for round := range 50 {
		b := brokertest.New(t, petrel.Options{Logger: silent(), MessageRate: round % 2})
		for range 8 {
			client, server := net.Pipe()
			defer client.Close()
			go func() { _ = b.ServeConn(server) }()
			go func() { _, _ = client.Write(hello) }()
		}
		for range round {
			runtime.Gosched() // so that the rounds differ
		}
		require.NoError(t, b.Close())
	}
}

// Two brokers of the same options share nothing.
func TestTwoBrokersOfOneOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := petrel.Options{Hooks: []petrel.Hook{newGate(true)}}
		one, two := brokertest.New(t, o), brokertest.New(t, o)
		a, b := one.Connect(brokertest.ID("same")), two.Connect(brokertest.ID("same"))
		a.Subscribe(packets.AtMostOnce, "#")
		b.Subscribe(packets.AtMostOnce, "#")
		one.Connect(brokertest.ID("pub")).Publish("x", "to one", packets.AtLeastOnce)
		a.ExpectPublish("x", "to one")
		b.ExpectNothing()
		require.NoError(t, one.Close())
		require.ErrorIs(t, a.Served(), packets.ServerShuttingDown)
		b.ExpectNothing()
		require.Zero(t, one.Stats().ClientsConnected)
		require.Equal(t, 1, two.Stats().ClientsConnected)
		require.Len(t, o.Hooks, 1)
	})
}

func TestMaximumConnections(t *testing.T) {
	for _, c := range []struct {
		name    string
		maximum int
		before  int
		ok      bool
	}{
		{"the last but one", 3, 1, true},
		{"the last", 3, 2, true},
		{"one above", 3, 3, false},
		{"two above", 3, 4, false},
		{"the only one", 1, 0, true},
		{"one above the only one", 1, 1, false},
		{"no limit", -1, 100, true},
		{"no limit by default", 0, 100, true},
	} {
		for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
			t.Run(c.name+" in "+v.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := brokertest.New(t, petrel.Options{MaximumConnections: c.maximum})
					var open []*brokertest.Client
					for i, id := range brokertest.Topics("before", c.before) {
						client, ack := b.TryConnect(brokertest.ID(id))
						if ack.Reason == packets.Success {
							open = append(open, client)
						} else {
							require.GreaterOrEqual(t, i, c.maximum)
							require.Equal(t, packets.QuotaExceeded, ack.Reason)
							client.ExpectClosed()
							client.Served()
						}
					}
					p := packets.Connect{Version: v, ClientID: []byte("next"), CleanStart: true}
					client, ack := b.TryConnect(p)
					if c.ok {
						require.Equal(t, packets.Success, ack.Reason)
						client.ExpectNothing()
						return
					}
					want := packets.QuotaExceeded
					if v != packets.V5 {
						want = packets.ServerUnavailable
					}
					require.Equal(t, want, ack.Reason)
					client.ExpectClosed()
					require.ErrorIs(t, client.Served(), packets.QuotaExceeded)
					require.Equal(t, c.maximum, b.Stats().ClientsConnected)
					for _, o := range open {
						o.ExpectNothing()
					}
					open[0].Leave(packets.NormalDisconnection)
					b.Connect(p).ExpectNothing() // there is room again
				})
			})
		}
	}
	t.Run("connections far above are closed at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MaximumConnections: 1})
			first := b.Connect(brokertest.ID("first"))
			var waiting []*brokertest.Client
			for range 64 {
				waiting = append(waiting, b.Dial(packets.V5))
			}
			synctest.Wait()
			c := b.Dial(packets.V5)
			c.ExpectClosed()
			require.ErrorIs(t, c.Served(), packets.QuotaExceeded)
			connect := brokertest.ID("waits")
			waiting[0].Send(&connect)
			require.Equal(t, packets.QuotaExceeded, brokertest.Expect[*packets.Connack](waiting[0]).Reason)
			first.ExpectNothing()
		})
	})
}

// panicky panics where it is told to.
type panicky struct{ at string }

func (p *panicky) here(at string) {
	if p.at == at {
		panic("at " + at)
	}
}

func (p *panicky) Authenticate(_ context.Context, r *petrel.ConnectRequest) error {
	if r.ClientID == "offender" {
		p.here("Authenticate")
	}
	return nil
}

func (p *panicky) Authorize(_ context.Context, r *petrel.AccessRequest) error {
	if r.Client.ID() == "offender" {
		p.here("Authorize " + r.Action.String())
	}
	return nil
}

func (p *panicky) InterceptPublish(_ context.Context, r *petrel.PublishRequest) error {
	if r.Client.ID() == "offender" {
		p.here("InterceptPublish")
	}
	return nil
}

func (p *panicky) ClientConnected(*petrel.Client)                   { p.here("ClientConnected") }
func (p *panicky) ClientDisconnected(*petrel.Client, error)         { p.here("ClientDisconnected") }
func (p *panicky) SessionChanged(*petrel.SessionEvent)              { p.here("SessionChanged") }
func (p *panicky) Subscribed(*petrel.Client, petrel.Subscription)   { p.here("Subscribed") }
func (p *panicky) Unsubscribed(*petrel.Client, string)              { p.here("Unsubscribed") }
func (p *panicky) MessagePublished(*petrel.Client, *petrel.Message) { p.here("MessagePublished") }
func (p *panicky) MessageDropped(context.Context, *petrel.Drop)     { p.here("MessageDropped") }

func TestPanicInHookIsContained(t *testing.T) {
	refuses := map[string]bool{"Authenticate": true, "Authorize publish": true, "Authorize subscribe": true, "InterceptPublish": true}
	for _, at := range []string{
		"Authenticate", "Authorize publish", "Authorize subscribe", "InterceptPublish", "ClientConnected", "ClientDisconnected",
		"SessionChanged", "Subscribed", "Unsubscribed", "MessagePublished", "MessageDropped",
	} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{&panicky{at}}})
				witness := b.Connect(brokertest.ID("witness"))
				witness.Subscribe(packets.AtMostOnce, "#")
				offender, ack := b.TryConnect(brokertest.ID("offender"))
				if at == "Authenticate" {
					require.Equal(t, packets.UnspecifiedError, ack.Reason)
					offender.ExpectClosed()
				} else {
					codes := offender.SubscribeWith(packets.Subscribe{
						Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{Filter: []byte("none")}),
					})
					require.Equal(t, at == "Authorize subscribe", codes[0].IsError(), "%v", codes)
					offender.Unsubscribe("none")
					code := offender.PublishWith(packets.Publish{Topic: []byte("a"), Payload: []byte("m"), QoS: packets.AtLeastOnce})
					require.Equal(t, refuses[at] && at != "Authorize subscribe", code.IsError(), "%v", code)
					if !code.IsError() {
						witness.ExpectPublish("a", "m")
					}
					offender.Leave(packets.NormalDisconnection)
				}
				b.Connect(brokertest.ID("other")).Publish("b", "still here", packets.AtMostOnce)
				witness.ExpectPublish("b", "still here")
				require.Equal(t, 2, b.Stats().ClientsConnected)
				require.Equal(t, 2, b.Stats().Sessions)
			})
		})
	}
}

// faulty is a connection whose methods panic once they are told to.
type faulty struct {
	net.Conn
	read, write *bool
	mu          *sync.Mutex
}

func (f faulty) on(what *bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *what
}

func (f faulty) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if f.on(f.read) {
		panic("in Read")
	}
	return n, err
}

func (f faulty) Write(b []byte) (int, error) {
	if f.on(f.write) {
		panic("in Write")
	}
	return f.Conn.Write(b)
}

// A connection of the host's own that panics costs its client, and nothing else.
func TestPanicInConnectionIsContained(t *testing.T) {
	for _, where := range []string{"Read", "Write"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				witness := b.Connect(brokertest.ID("witness"))
				witness.Subscribe(packets.AtMostOnce, "will")
				client, server := net.Pipe()
				f := faulty{server, new(bool), new(bool), new(sync.Mutex)}
				served := make(chan error, 1)
				go func() { served <- b.ServeConn(f) }()
				c := brokertest.NewClient(t, client, packets.V5)
				c.Send(&packets.Connect{
					Version: packets.V5, ClientID: []byte("c"), CleanStart: true,
					HasWill: true, Will: packets.Will{Topic: []byte("will"), Payload: []byte("gone")},
				})
				brokertest.Expect[*packets.Connack](c)
				f.mu.Lock()
				*f.read, *f.write = where == "Read", where == "Write"
				f.mu.Unlock()
				c.Send(&packets.Pingreq{})
				require.Error(t, <-served)
				c.Conn.Close()
				witness.ExpectPublish("will", "gone")
				require.Equal(t, 1, b.Stats().ClientsConnected)
				require.Equal(t, 1, b.Stats().Sessions)
				start := time.Now()
				require.NoError(t, b.Close())
				require.Zero(t, time.Since(start).Truncate(time.Second))
			})
		})
	}
}
