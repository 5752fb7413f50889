package petrel_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// admission is a ConnectionAuthorizer made of a function.
type admission func(context.Context, *petrel.ConnectionRequest) error

func (f admission) AuthorizeConnection(ctx context.Context, r *petrel.ConnectionRequest) error {
	return f(ctx, r)
}

// atStage decides at one stage, and allows at the others.
func atStage(s petrel.ConnectionStage, decide func(context.Context) error) admission {
	return func(ctx context.Context, r *petrel.ConnectionRequest) error {
		if r.Stage != s {
			return nil
		}
		return decide(ctx)
	}
}

// stages writes down what a ConnectionAuthorizer and the Authenticators are asked.
type stages struct{ diary }

func (s *stages) AuthorizeConnection(_ context.Context, r *petrel.ConnectionRequest) error {
	who := ""
	if r.Connect != nil {
		who = fmt.Sprintf(" %s is %q", r.Connect.ClientID, r.Connect.Identity)
	}
	s.note("%s by %q from %s, TLS %t%s", r.Stage, r.Peer.Listener, r.Peer.RemoteAddr.Network(), r.Peer.TLS != nil && r.Peer.TLS.HandshakeComplete, who)
	return nil
}

func (s *stages) Authenticate(_ context.Context, r *petrel.ConnectRequest) error {
	r.Identity = "somebody"
	s.note("authenticate")
	return nil
}

func TestConnectionStages(t *testing.T) {
	var seen stages
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{&seen, counting(1)}})
	addr := serveListener(t, b, petrel.ListenerOptions{Name: "door"})

	_, code := connectTo(t, addr, brokertest.ID("c"))
	require.Equal(t, packets.Success, code)
	require.Equal(t, []string{
		`accepted by "door" from tcp, TLS false`, `authenticate`, `authenticated by "door" from tcp, TLS false c is "somebody"`,
	}, seen.take())

	p := withMethod("COUNT", "1")
	p.ClientID = []byte("d")
	_, code = connectTo(t, addr, p)
	require.Equal(t, packets.Success, code)
	require.Equal(t, []string{
		`accepted by "door" from tcp, TLS false`, `authenticated by "door" from tcp, TLS false d is ""`,
	}, seen.take())

	b.Connect(brokertest.ID("c2")) // by ServeConn
	require.Len(t, seen.take(), 3)
}

func TestConnectionStagesOfTLS(t *testing.T) {
	var seen stages
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{&seen}})
	certificates := httptest.NewTLSServer(nil)
	certificates.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- b.Serve(tls.NewListener(l, certificates.TLS)) }()

	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	require.NoError(t, err)
	c := brokertest.NewClient(t, conn, packets.V5)
	connect := brokertest.ID("c")
	c.Send(&connect)
	require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](c).Reason)
	require.Equal(t, []string{
		`accepted by "" from tcp, TLS false`, `secured by "" from tcp, TLS true`,
		`authenticate`, `authenticated by "" from tcp, TLS true c is "somebody"`,
	}, seen.take())
	require.NoError(t, b.Close())
	require.ErrorIs(t, <-served, petrel.ErrBrokerClosed)
}

// Whatever a decision comes to at a stage, the client is served or refused, and counted out.
func TestConnectionAuthorizer(t *testing.T) {
	for _, stage := range []petrel.ConnectionStage{petrel.StageAccepted, petrel.StageSecured, petrel.StageAuthenticated} {
		t.Run(stage.String(), func(t *testing.T) {
			eachOutcome(t, func(t *testing.T, v packets.Version, decide func(context.Context) error, allows bool, code packets.ReasonCode) {
				hooked(t, atStage(stage, decide), func(t *testing.T, b *brokertest.Broker) {
					client, server := net.Pipe()
					c := brokertest.NewClient(t, client, v)
					served := make(chan error, 1)
					go func() { served <- b.ServeConn(handshaken{server}) }()
					p := fresh(v, "c")
					if allows || stage != petrel.StageAccepted {
						c.Send(&p)
					}
					switch {
					case allows:
						require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](c).Reason)
						c.ExpectNothing()
						return
					case stage != petrel.StageAccepted:
						want := orElse(code, packets.UnspecifiedError)
						if v != packets.V5 {
							want = packets.ServerUnavailable
						}
						require.Equal(t, want, brokertest.Expect[*packets.Connack](c).Reason)
					}
					c.ExpectClosed()
					require.Error(t, <-served)
					require.Zero(t, b.Stats().Sessions)
				})
			})
		})
	}
}

// handshaken is a connection that says of itself that it has TLS.
type handshaken struct{ net.Conn }

func (handshaken) ConnectionState() tls.ConnectionState { return tls.ConnectionState{} }

// A decision that takes its time holds up nobody else, nor the end.
func TestConnectionAuthorizerHoldsUpNobody(t *testing.T) {
	for _, end := range []string{"decision", "connect timeout", "Shutdown", "Close", "peer"} {
		t.Run(end, func(t *testing.T) {
			first := true
			var decided chan error // of the bubble
			hook := admission(func(ctx context.Context, r *petrel.ConnectionRequest) error {
				if !first || r.Stage != petrel.StageAccepted {
					return nil
				}
				first = false
				select {
				case err := <-decided:
					return err
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			o := petrel.Options{Hooks: []petrel.Hook{hook}, HookTimeout: time.Hour, Logger: silent()}
			inFakeTime(t, o, func(t *testing.T, b *brokertest.Broker) {
				decided = make(chan error)
				l := newAcceptor()
				served := make(chan error, 1)
				go func() { served <- b.Serve(l) }()
				open := func() *brokertest.Client {
					client, server := net.Pipe()
					l.give <- server
					return brokertest.NewClient(t, client, packets.V5)
				}
				slow := open()
				synctest.Wait()
				require.False(t, first)
				other, connect := open(), brokertest.ID("other")
				other.Send(&connect)
				require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](other).Reason)
				start := time.Now()
				switch end {
				case "decision":
					decided <- nil
					connect := brokertest.ID("slow")
					slow.Send(&connect)
					require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](slow).Reason)
				case "connect timeout":
					slow.ExpectClosed()
					require.Equal(t, 10*time.Second, time.Since(start))
				case "Shutdown":
					require.NoError(t, b.Shutdown(t.Context()))
					slow.ExpectClosed()
				case "Close":
					require.NoError(t, b.Close())
					slow.ExpectClosed()
				case "peer":
					slow.Conn.Close()
					synctest.Wait()
					decided <- nil
				}
				require.NoError(t, b.Close())
				require.ErrorIs(t, <-served, petrel.ErrBrokerClosed)
			})
		})
	}
}

// Who is refused early leaves room for others, over any engine.
func TestConnectionAuthorizerCountsOut(t *testing.T) {
	refuse := make(chan bool, 100)
	hook := admission(func(_ context.Context, r *petrel.ConnectionRequest) error {
		if r.Stage == petrel.StageAccepted && <-refuse {
			return packets.Banned
		}
		return nil
	})
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{hook}, MaximumConnections: 1, Logger: silent()})
	addr := serveListener(t, b, petrel.ListenerOptions{MaximumConnections: 1})
	for range 20 {
		refuse <- true
		dialTo(t, addr, packets.V5).ExpectClosed()
	}
	refuse <- false
	eventually(t, "there is room", func() bool {
		c, code := connectTo(t, addr, brokertest.ID("c"))
		if code == packets.Success {
			return true
		}
		c.ExpectClosed()
		refuse <- false
		return false
	})
}

// refusals writes down what a RefusalObserver is told.
type refusals struct{ diary }

func (r *refusals) ConnectionRefused(x *petrel.RefusedConnection) {
	r.note("%s of %s: %v, %v", x.ClientID, x.UserName, x.Reason.String(), errors.Is(x.Cause, x.Reason) || x.Cause == io.EOF)
	if x.Peer.RemoteAddr == nil {
		panic("no address")
	}
}

func TestRefusalObserver(t *testing.T) {
	connect := func(user string) packets.Connect {
		p := brokertest.ID("c")
		p.HasUserName, p.UserName = true, []byte(user)
		return p
	}
	for _, tt := range []struct {
		name string
		do   func(b *brokertest.Broker)
		want []string
	}{
		{"accepted", func(b *brokertest.Broker) { b.Connect(connect("u")).Drop() }, nil},
		{"nothing sent", func(b *brokertest.Broker) { b.Dial(packets.V5).Drop() }, []string{" of : success, true"}},
		{"wrong password", func(b *brokertest.Broker) {
			c, _ := b.TryConnect(connect("v"))
			c.Served()
		}, []string{"c of v: bad user name or password, true"}},
		{"too late", func(b *brokertest.Broker) { b.Dial(packets.V5).Served() }, []string{" of : success, false"}},
		{"not let in", func(b *brokertest.Broker) {
			c, _ := b.TryConnect(connect("banned"))
			c.Served()
		}, []string{"c of banned: banned, true"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen := new(refusals)
			admit := admission(func(_ context.Context, r *petrel.ConnectionRequest) error {
				if r.Connect != nil && r.Connect.UserName == "banned" {
					return packets.Banned
				}
				return nil
			})
			check := petrel.AuthenticatorFunc(func(_ context.Context, r *petrel.ConnectRequest) error {
				if r.UserName == "v" {
					return packets.BadUserNameOrPassword
				}
				return nil
			})
			inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{seen, admit, check}}, func(t *testing.T, b *brokertest.Broker) {
				tt.do(b)
				synctest.Wait()
				require.Equal(t, tt.want, seen.take())
			})
		})
	}
}
