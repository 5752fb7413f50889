package httpauth_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/hooks/httpauth"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

func TestConnectOnTheWire(t *testing.T) {
	brokertest.EachVersion(t, func(t *testing.T, v packets.Version) {
		for _, tt := range []struct {
			name   string
			answer answer
			want   packets.ReasonCode // in 3.1.1 as well
		}{
			{"allowed", says(`{"result":"allow","identity":"the one"}`), packets.Success},
			{"denied", deny, packets.NotAuthorized},
			{"401", answer{status: 401}, packets.BadUserNameOrPassword},
			{"no decision", answer{status: 500}, packets.ServerUnavailable},
		} {
			t.Run(tt.name, func(t *testing.T) {
				log := new(logged)
				s := newService(t, &site{decide: by(map[string]answer{"connect": tt.answer})}, httpauth.Options{})
				b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{s.Authenticator()}, Logger: log.logger()})
				c, ack := b.TryConnect(as(v, "c", "alice"))
				require.Equal(t, tt.want, ack.Reason)
				assert.Empty(t, ack.ReasonString)
				if tt.want == packets.Success {
					for info := range b.Clients() {
						assert.Equal(t, "the one", info.Identity)
					}
					c.Leave(packets.NormalDisconnection)
				} else {
					c.ExpectClosed()
					c.Served()
					assert.Contains(t, log.String(), "httpauth: ", "the log says why")
				}
				assert.NotContains(t, log.String(), password)
			})
		}
	})
}

func TestCredentialsEndOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins with the year 2000
		b := guarded(t, newService(t, &site{decide: by(map[string]answer{"connect": says(`{"result":"allow","expires":"2000-01-01T00:01:00Z"}`)})}, httpauth.Options{}))
		c := b.Connect(as(packets.V5, "c", "alice"))
		time.Sleep(59 * time.Second)
		c.ExpectNothing()
		time.Sleep(1100 * time.Millisecond)
		c.ExpectDisconnect(packets.MaximumConnectTime)
		_, ack := b.TryConnect(as(packets.V5, "c", "alice"))
		require.Equal(t, packets.NotAuthorized, ack.Reason, "they have ended")
		require.NoError(t, b.Close())
	})
}

func TestRightsOnTheWire(t *testing.T) {
	rights, err := json.Marshal(map[string]any{
		"result": "allow", "rights": map[string]any{"publish": brokertest.RightsToPublish, "subscribe": brokertest.RightsToSubscribe},
	})
	require.NoError(t, err)
	brokertest.EachVersion(t, func(t *testing.T, v packets.Version) {
		site := &site{decide: func(_ context.Context, q question) answer {
			switch {
			case q.ask() != "connect":
				return deny
			case q["userName"] == "root":
				return says(`{"result":"allow","superuser":true}`)
			}
			return says(string(rights))
		}}
		b := guarded(t, newService(t, site, httpauth.Options{}))
		brokertest.CheckRights(t, b.Connect(as(v, "root", "root")), b.Connect(as(v, "c", "alice")))
		for _, q := range site.take() {
			require.Equal(t, "connect", q.ask(), "nothing else is asked")
		}
	})
}

func TestAccessOnTheWire(t *testing.T) {
	brokertest.EachVersion(t, func(t *testing.T, v packets.Version) {
		site := &site{decide: func(_ context.Context, q question) answer {
			switch {
			case q.ask() == "connect", q["identity"] == "root", q["topic"] == "open/1":
				return allow
			case q["filter"] == "open/#":
				return says(`{"result":"allow","check":true}`)
			case q["filter"] == "free/#":
				return allow
			case q["topic"] == "broken", q["filter"] == "broken":
				return answer{status: 500}
			}
			return deny
		}}
		b := guarded(t, newService(t, site, httpauth.Options{}))
		root, c := b.Connect(as(v, "root", "root")), b.Connect(as(v, "c", "alice"))
		root.Subscribe(packets.AtMostOnce, "#")
		for _, tt := range []struct {
			topic string
			code  packets.ReasonCode
		}{{"open/1", packets.Success}, {"open/2", packets.NotAuthorized}, {"broken", packets.ImplementationSpecificError}} {
			code := c.PublishWith(packets.Publish{Topic: []byte(tt.topic), QoS: packets.AtLeastOnce})
			if v == packets.V5 { // 3.1.1 has no codes
				require.Equal(t, tt.code, code, tt.topic)
			}
			if tt.code == packets.Success {
				root.ExpectPublish(tt.topic, "")
			}
			root.ExpectNothing()
		}
		root.Unsubscribe("#")
		for filter, want := range map[string]packets.ReasonCode{"open/#": packets.GrantedQoS0, "free/#": packets.GrantedQoS0, "other": packets.NotAuthorized, "broken": packets.ImplementationSpecificError} {
			codes := c.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions{}.Append(packets.Subscription{Filter: []byte(filter)})})
			if v != packets.V5 && want != packets.GrantedQoS0 {
				want = packets.UnspecifiedError
			}
			require.Equal(t, []packets.ReasonCode{want}, codes, filter)
		}
		site.take()
		for _, topic := range []string{"open/1", "open/2", "free/1", "other"} {
			root.Publish(topic, "x", packets.AtLeastOnce)
		}
		c.ExpectPublish("open/1", "x")
		c.ExpectPublish("free/1", "x")
		c.ExpectNothing()
		require.Equal(t, []string{"open/1", "open/2"}, topicsOf(site.take(), "receive"), "nothing is asked where it need not be")
	})
}

func TestWillOnTheWire(t *testing.T) {
	brokertest.EachVersion(t, func(t *testing.T, v packets.Version) {
		site := &site{decide: by(map[string]answer{"connect": allow})}
		b := guarded(t, newService(t, site, httpauth.Options{}))
		p := as(v, "c", "alice")
		p.HasWill, p.Will = true, packets.Will{Topic: []byte("gone")}
		_, ack := b.TryConnect(p)
		require.Equal(t, packets.NotAuthorized, ack.Reason)
	})
}

// policy is rights that change.
type policy struct {
	mu     sync.Mutex
	rights string // of the answer to a CONNECT; empty means that there are none
	denied string // topic or filter; "?" means that there is no answer
}

func (p *policy) set(rights, denied string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rights, p.denied = rights, denied
}

func (p *policy) decide(_ context.Context, q question) answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case q.ask() == "connect" && p.rights != "":
		return says(`{"result":"allow","rights":` + p.rights + `}`)
	case q.ask() == "connect":
		return allow
	case p.denied == "?":
		return answer{status: 404}
	case q["topic"] == p.denied, q["filter"] == p.denied:
		return deny
	}
	return allow
}

// publish is for messages of the host, which nobody is asked about.
func publish(t *testing.T, b *brokertest.Broker, topic, payload string) {
	t.Helper()
	require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: topic, Payload: []byte(payload)}))
}

// After Forget and Reauthorize a change is in force, whatever was known before.
func TestForgetAndReauthorize(t *testing.T) {
	const all = `{"publish":["#"],"subscribe":["#"]}`
	for _, tt := range []struct {
		name, before string
	}{{"what was asked", ""}, {"rights of a connection", all}} {
		t.Run(tt.name, func(t *testing.T) {
			p := new(policy)
			p.set(tt.before, "")
			s := newService(t, &site{decide: p.decide}, httpauth.Options{AllowFor: time.Hour})
			b := guarded(t, s)
			c, d := b.Connect(as(packets.V5, "c", "alice")), b.Connect(as(packets.V5, "d", "bob"))
			for _, each := range []*brokertest.Client{c, d} {
				each.Subscribe(packets.AtMostOnce, "a", "b")
				require.NotEqual(t, packets.NotAuthorized, each.PublishWith(packets.Publish{Topic: []byte("a/b"), QoS: packets.AtLeastOnce}))
			}
			p.set("", "a")
			s.Forget("alice")
			require.NoError(t, b.Reauthorize(t.Context(), petrel.ByIdentity("alice")))
			publish(t, b, "a", "1")
			publish(t, b, "b", "2")
			d.ExpectPublish("a", "1")
			d.ExpectPublish("b", "2")
			c.ExpectPublish("b", "2")
			c.ExpectNothing()
			require.Equal(t, packets.NotAuthorized, c.PublishWith(packets.Publish{Topic: []byte("a"), QoS: packets.AtLeastOnce}))
		})
	}
	t.Run("a service that does not answer", func(t *testing.T) {
		p := new(policy)
		p.set(all, "?")
		s := newService(t, &site{decide: p.decide}, httpauth.Options{})
		b := guarded(t, s)
		connect := as(packets.V5, "c", "alice")
		connect.CleanStart, connect.SessionExpiryInterval = false, 3600
		c := b.Connect(connect)
		c.Subscribe(packets.AtMostOnce, "a", "b")
		p.set(`{"publish":["#"],"subscribe":["b"]}`, "?")
		s.Forget("alice")
		require.ErrorContains(t, b.Reauthorize(t.Context(), petrel.Everybody()), "could not be decided on")
		c.ExpectDisconnect(packets.ServerBusy)
		c.Served()
		c = b.Connect(connect) // with its new rights
		publish(t, b, "a", "1")
		publish(t, b, "b", "2")
		c.ExpectPublish("b", "2")
		c.ExpectNothing()
	})
}

// Clients that something else has admitted have no rights; they are asked about.
func TestBesideOtherAuthenticators(t *testing.T) {
	site := &site{decide: by(map[string]answer{"publish": allow})}
	s := newService(t, site, httpauth.Options{})
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{auth.AnyOf(s.Authenticator(), auth.AllowLocal{}), s.Authorizer()}})
	c := b.Connect(as(packets.V5, "c", "alice"))
	require.NotEqual(t, packets.NotAuthorized, c.PublishWith(packets.Publish{Topic: []byte("t"), QoS: packets.AtLeastOnce}))
	asked := site.take()
	require.Len(t, asked, 2)
	require.Equal(t, []string{"t"}, topicsOf(asked, "publish"))
}

// Many connections at once, over a real server which is slow, sometimes fails, and
// forgets: each gets an answer, and what is at the server has a bound.
func TestManyConnectionsOnTheWire(t *testing.T) {
	const clients, concurrent = 300, 5
	var open, most atomic.Int64
	site := &site{decide: func(_ context.Context, q question) answer {
		defer open.Add(-1)
		n := open.Add(1)
		for now := most.Load(); n > now && !most.CompareAndSwap(now, n); now = most.Load() {
		}
		switch {
		case q["password"] != password:
			return answer{status: 401}
		case q["userName"] == "user 3":
			return answer{status: 500}
		}
		return says(`{"result":"allow","rights":{"publish":["t/%c"],"subscribe":["t/%c"]}}`)
	}}
	server := httptest.NewServer(site)
	defer server.Close()
	defer server.Client().CloseIdleConnections()
	s := newService(t, nil, httpauth.Options{URL: server.URL, Client: server.Client(), MaximumConcurrent: concurrent, Timeout: time.Minute})
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{s.Authenticator(), s.Authorizer()}, HookTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler)})
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			p := as(packets.V5, fmt.Sprintf("c%d", i), fmt.Sprintf("user %d", i%10))
			want := packets.Success
			switch i % 10 {
			case 3:
				want = packets.ServerUnavailable
			case 4:
				p.Password, want = []byte("wrong"), packets.BadUserNameOrPassword
			}
			c, ack := b.TryConnect(p)
			if !assert.Equal(t, want, ack.Reason) || want != packets.Success {
				return
			}
			topic := fmt.Sprintf("t/c%d", i)
			c.Subscribe(packets.AtLeastOnce, topic)
			if i%7 == 0 {
				s.Forget("nobody")
			}
			c.Send(&packets.Publish{Topic: []byte(topic), Payload: []byte("x")})
			c.ExpectPublish(topic, "x")
			if code := c.PublishWith(packets.Publish{Topic: []byte("t/other"), QoS: packets.AtLeastOnce}); code != packets.NotAuthorized {
				t.Errorf("published to another topic: %v", code)
			}
			c.Leave(packets.NormalDisconnection)
		})
	}
	all.Wait()
	assert.LessOrEqual(t, most.Load(), int64(concurrent))
	assert.Equal(t, clients, site.count(), "of rights nothing is asked")
}

// A broker that is closed does not wait for the service.
func TestCloseWhileTheServiceIsAsked(t *testing.T) {
	inBubble(t, httpauth.Options{}, func(t *testing.T, site *slow, s *httpauth.Service) {
		b := guarded(t, s)
		c := b.Dial(packets.V5)
		p := as(packets.V5, "c", "alice")
		c.Send(&p)
		synctest.Wait()
		require.EqualValues(t, 1, site.open.Load())
		start := time.Now()
		require.NoError(t, b.Close())
		require.Less(t, time.Since(start), time.Second, "which is fake time")
		require.Zero(t, site.open.Load(), "nothing is left")
		require.Error(t, c.Served())
		require.Zero(t, s.Stats().Failures, "nor is the service to blame")
	})
}

func BenchmarkCached(b *testing.B) {
	s := newService(b, new(site), httpauth.Options{})
	hook := s.Authenticator()
	b.ReportAllocs()
	for b.Loop() {
		if err := hook.Authenticate(b.Context(), alice()); err != nil {
			b.Fatal(err)
		}
	}
}

func Example() {
	// The web service of the host, which would be another program.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"result": "allow", "rights": {"publish": ["lamp/%c"], "subscribe": ["lamp/#"]}}`)
	}))
	defer server.Close()

	service, err := httpauth.New(httpauth.Options{URL: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{service.Authenticator(), service.Authorizer()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer broker.Close()

	r := &petrel.ConnectRequest{HasUserName: true, UserName: "alice", HasPassword: true, Password: petrel.Secret("open sesame")}
	for range 2 {
		fmt.Println(service.Authenticator().Authenticate(context.Background(), r))
	}
	fmt.Println(service.Stats().Requests, "request")
	// Output:
	// <nil>
	// <nil>
	// 1 request
}
