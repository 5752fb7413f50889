package petrel_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// serveListener serves a TCP listener with options, and returns its address.
func serveListener(t testing.TB, b *brokertest.Broker, o petrel.ListenerOptions) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serveOn(t, b, l, o)
	return l.Addr().String()
}

// serveOn serves a listener until the test ends.
func serveOn(t testing.TB, b *brokertest.Broker, l net.Listener, o petrel.ListenerOptions) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.ServeListener(l, o); err != petrel.ErrBrokerClosed {
			t.Errorf("ServeListener = %v; want ErrBrokerClosed", err)
		}
	})
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}

// dialTo opens a connection to addr on which nothing has been sent.
func dialTo(t testing.TB, addr string, v packets.Version) *brokertest.Client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	return brokertest.NewClient(t, conn, v)
}

// connectTo sends a CONNECT to addr and returns the code of the answer.
func connectTo(t testing.TB, addr string, p packets.Connect) (*brokertest.Client, packets.ReasonCode) {
	t.Helper()
	c := dialTo(t, addr, p.Version)
	c.Send(&p)
	return c, brokertest.Expect[*packets.Connack](c).Reason
}

// listenerNames writes down the listener of each connection that a hook sees.
type listenerNames struct{ diary }

func (n *listenerNames) Authenticate(_ context.Context, r *petrel.ConnectRequest) error {
	n.note("%s by %q", r.ClientID, r.Peer.Listener)
	return nil
}

func (n *listenerNames) Authorize(_ context.Context, r *petrel.AccessRequest) error {
	n.note("%s %s by %q", r.Client.ID(), r.Action, r.Client.Peer().Listener)
	return nil
}

func TestListenerNames(t *testing.T) {
	var names listenerNames
	var mu sync.Mutex
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{&names}, Logger: log})
	for i, name := range []string{"inside", "outside", ""} {
		id := "c" + string(rune('0'+i))
		c, code := connectTo(t, serveListener(t, b, petrel.ListenerOptions{Name: name}), brokertest.ID(id))
		require.Equal(t, packets.Success, code)
		c.Publish("a", "m", packets.AtLeastOnce)
		require.Equal(t, name, client(t, b, id).Peer.Listener)
	}
	c := b.Connect(brokertest.ID("c3")) // by ServeConn
	c.Publish("a", "m", packets.AtLeastOnce)
	require.Equal(t, []string{
		`c0 by "inside"`, `c0 publish by "inside"`, `c1 by "outside"`, `c1 publish by "outside"`,
		`c2 by ""`, `c2 publish by ""`, `c3 by ""`, `c3 publish by ""`,
	}, names.take())
	require.NoError(t, b.Close())
	mu.Lock()
	defer mu.Unlock()
	require.Contains(t, text.String(), "listener=inside")
	for line := range strings.Lines(text.String()) {
		if strings.Contains(line, "client=c2") || strings.Contains(line, "client=c3") {
			require.NotContains(t, line, "listener=")
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// who admits the clients with one user name.
type who string

func (w who) Authenticate(_ context.Context, r *petrel.ConnectRequest) error {
	if r.UserName != string(w) {
		return packets.BadUserNameOrPassword
	}
	return nil
}

func TestListenerAuthenticators(t *testing.T) {
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{who("all"), counting(1)}})
	plain := serveListener(t, b, petrel.ListenerOptions{})
	named := serveListener(t, b, petrel.ListenerOptions{Name: "named", Authenticate: []petrel.Hook{who("some")}})
	both := serveListener(t, b, petrel.ListenerOptions{Name: "both", Authenticate: []petrel.Hook{who("some"), who("others")}})
	enhanced := serveListener(t, b, petrel.ListenerOptions{Name: "enhanced", Authenticate: []petrel.Hook{counting(1)}})
	for _, tt := range []struct {
		name, addr, user string
		want             packets.ReasonCode
	}{
		{"hooks of the broker admit", plain, "all", packets.Success},
		{"hooks of the broker refuse", plain, "some", packets.BadUserNameOrPassword},
		{"hooks of the listener admit", named, "some", packets.Success},
		{"hooks of the broker do not", named, "all", packets.BadUserNameOrPassword},
		{"all hooks of a listener must admit", both, "some", packets.BadUserNameOrPassword},
		{"without an Authenticator only AUTH admits", enhanced, "all", packets.NotAuthorized},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := brokertest.ID("")
			p.HasUserName, p.UserName = true, []byte(tt.user)
			_, code := connectTo(t, tt.addr, p)
			require.Equal(t, tt.want, code)
		})
	}
	for _, tt := range []struct {
		name, addr string
		want       packets.ReasonCode
	}{
		{"method of the broker", plain, packets.Success},
		{"method of the listener", enhanced, packets.Success},
		{"method of another listener", named, packets.BadAuthenticationMethod},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, code := connectTo(t, tt.addr, withMethod("COUNT", "1"))
			require.Equal(t, tt.want, code)
		})
	}
}

// judge is an Authenticator and an Authorizer.
type judge struct{ who }

func (*judge) Authorize(context.Context, *petrel.AccessRequest) error { return nil }

func TestListenerOptionsThatCannotBeMeant(t *testing.T) {
	known := &judge{"all"}
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{known}})
	for _, tt := range []struct {
		name, want string
		hooks      []petrel.Hook
	}{
		{"no hook at all", "ListenerOptions.Authenticate is empty", []petrel.Hook{}},
		{"nil", "Authenticate[1]: it is nil", []petrel.Hook{who("x"), nil}},
		{"no hook", "Authenticate[0]: int implements none", []petrel.Hook{42}},
		{"no authenticator", "is neither an Authenticator", []petrel.Hook{&dropRecorder{}}},
		{"two of one method", "another hook has the Authentication Method", []petrel.Hook{counting(1), counting(2)}},
		{"an authorizer that nobody asks", "is more than an authenticator", []petrel.Hook{&judge{"all"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newAcceptor()
			err := b.ServeListener(l, petrel.ListenerOptions{Authenticate: tt.hooks})
			require.ErrorContains(t, err, "petrel: ListenerOptions.Authenticate")
			require.ErrorContains(t, err, tt.want)
			require.True(t, l.isClosed())
		})
	}
	for want, hook := range map[string]petrel.ConnectionAuthorizer{
		"Admit[0]: it is nil": nil, "is more than a ConnectionAuthorizer": &stages{},
	} {
		l := newAcceptor()
		err := b.ServeListener(l, petrel.ListenerOptions{Admit: []petrel.ConnectionAuthorizer{hook}})
		require.ErrorContains(t, err, want)
		require.True(t, l.isClosed())
	}
	addr := serveListener(t, b, petrel.ListenerOptions{Authenticate: []petrel.Hook{known}}) // which is asked everywhere
	p := brokertest.ID("c")
	p.HasUserName, p.UserName = true, []byte("all")
	_, code := connectTo(t, addr, p)
	require.Equal(t, packets.Success, code)
}

// The ConnectionAuthorizers of a listener are asked about its connections, at every
// stage, after those of the broker, and about no others.
func TestListenerConnectionAuthorizers(t *testing.T) {
	var seen diary
	note := func(who string) admission {
		return func(_ context.Context, r *petrel.ConnectionRequest) error {
			seen.note("%s: %s", who, r.Stage)
			return nil
		}
	}
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{note("broker")}})
	plain := serveListener(t, b, petrel.ListenerOptions{})
	own := serveListener(t, b, petrel.ListenerOptions{Admit: []petrel.ConnectionAuthorizer{note("first"), note("second")}})
	_, code := connectTo(t, plain, brokertest.ID("c"))
	require.Equal(t, packets.Success, code)
	require.Equal(t, []string{"broker: accepted", "broker: authenticated"}, seen.take())
	_, code = connectTo(t, own, brokertest.ID("d"))
	require.Equal(t, packets.Success, code)
	require.Equal(t, []string{
		"broker: accepted", "first: accepted", "second: accepted", "broker: authenticated", "first: authenticated", "second: authenticated",
	}, seen.take())
	require.NoError(t, b.Reauthorize(t.Context(), petrel.ByClientID("c")))
	require.Equal(t, []string{"broker: reauthorized"}, seen.take())
	require.NoError(t, b.Reauthorize(t.Context(), petrel.ByClientID("d")))
	require.Equal(t, []string{"broker: reauthorized", "first: reauthorized", "second: reauthorized"}, seen.take())
}

// Listeners of one name have the limit together, others each for itself.
func TestListenersOfOneNameShareTheirLimit(t *testing.T) {
	for _, tt := range []struct {
		names [2]string
		want  packets.ReasonCode // of the second connection, by the other listener
	}{
		{[2]string{"devices", "devices"}, packets.QuotaExceeded},
		{[2]string{"devices", "others"}, packets.Success},
		{[2]string{"", ""}, packets.Success},
	} {
		t.Run(tt.names[0]+" and "+tt.names[1], func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{Logger: silent()})
			var addrs []string
			for _, name := range tt.names {
				addrs = append(addrs, serveListener(t, b, petrel.ListenerOptions{Name: name, MaximumConnections: 1}))
			}
			first, code := connectTo(t, addrs[0], brokertest.ID("c"))
			require.Equal(t, packets.Success, code)
			_, code = connectTo(t, addrs[1], brokertest.ID("d"))
			require.Equal(t, tt.want, code)
			require.NoError(t, first.Conn.Close())
			eventually(t, "there is room", func() bool {
				_, code := connectTo(t, addrs[1], brokertest.ID("e"))
				return code == packets.Success || tt.want == packets.Success
			})
		})
	}
}
