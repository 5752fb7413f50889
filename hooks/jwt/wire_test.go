package jwt_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	golangjwt "github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/hooks/jwt"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// guarded is a broker with a guard. Its log is checked for tokens at the end.
func guarded(t *testing.T, o jwt.Options) *brokertest.Broker {
	o.Keys = is.keys(t)
	g, err := jwt.NewGuard(o, jwt.Rights{Publish: "pub", Subscribe: "sub_to"})
	require.NoError(t, err)
	return brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{g}})
}

func TestOnTheWire(t *testing.T) {
	brokertest.EachVersion(t, func(t *testing.T, v packets.Version) {
		var logged bytes.Buffer
		a, err := jwt.New(jwt.Options{Keys: is.keys(t)})
		require.NoError(t, err)
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{a}, Logger: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		good, expired := is.hs256(t, valid()), is.hs256(t, with(claims{"exp": time.Now().Unix() - 10}))

		b.Connect(bearing(v, "c", good))
		for info := range b.Clients() {
			assert.Equal(t, "alice", info.Identity)
		}
		for name, p := range map[string]packets.Connect{
			"expired": bearing(v, "d", expired), "garbage": bearing(v, "d", "open sesame"),
			"anonymous": {Version: v, ClientID: []byte("d"), CleanStart: true},
		} {
			want := packets.BadUserNameOrPassword
			if name == "anonymous" {
				want = packets.NotAuthorized
			}
			c, ack := b.TryConnect(p)
			assert.Equal(t, want, ack.Reason, name)
			assert.Empty(t, ack.ReasonString, name)
			c.ExpectClosed()
			c.Served()
		}
		require.NoError(t, b.Close())
		assert.Contains(t, logged.String(), "the token has expired", "the log says why")
		for _, token := range []string{good, expired, "open sesame"} {
			assert.NotContains(t, logged.String(), token[len(token)-10:])
		}
	})
}

func TestExpiryDisconnects(t *testing.T) {
	brokertest.EachVersion(t, func(t *testing.T, v packets.Version) {
		synctest.Test(t, func(t *testing.T) {
			b := guarded(t, jwt.Options{Leeway: 10 * time.Second})
			c := b.Connect(bearing(v, "c", is.hs256(t, with(claims{"exp": time.Now().Unix() + 60}))))
			time.Sleep(69 * time.Second)
			c.ExpectNothing()
			time.Sleep(1100 * time.Millisecond)
			if v == packets.V5 {
				c.ExpectDisconnect(packets.MaximumConnectTime)
			} else {
				c.ExpectClosed()
			}
			require.NoError(t, b.Close())
		})
	})
}

func TestRightsOnTheWire(t *testing.T) {
	brokertest.EachVersion(t, func(t *testing.T, v packets.Version) {
		b := guarded(t, jwt.Options{})
		root := b.Connect(bearing(v, "root", is.hs256(t, with(claims{"pub": "#", "sub_to": []string{"#"}}))))
		c := b.Connect(bearing(v, "c", is.hs256(t, with(claims{"pub": brokertest.RightsToPublish, "sub_to": brokertest.RightsToSubscribe}))))
		brokertest.CheckRights(t, root, c)
	})
}

func TestRightsThatAreNoFilters(t *testing.T) {
	b := guarded(t, jwt.Options{})
	for name, c := range map[string]claims{
		"no filter": {"pub": "a#"}, "a number": {"pub": 7}, "an object": {"sub_to": map[string]any{"a": 1}},
		"a number among filters": {"sub_to": []any{"a", 7}}, "a shared filter": {"sub_to": "$share/g/a"}, "an empty filter": {"pub": []string{""}},
	} {
		_, ack := b.TryConnect(bearing(packets.V5, "c", is.hs256(t, with(c))))
		require.Equal(t, packets.BadUserNameOrPassword, ack.Reason, name)
	}
	c := b.Connect(bearing(packets.V5, "c", is.hs256(t, valid()))) // grants nothing
	require.Equal(t, packets.NotAuthorized, c.PublishWith(packets.Publish{Topic: []byte("t"), QoS: packets.AtLeastOnce}))
}

// Clients that another hook has admitted have no rights by the guard.
func TestGuardDeniesWhoHasNoToken(t *testing.T) {
	g, err := jwt.NewGuard(jwt.Options{Keys: is.keys(t)}, jwt.Rights{Publish: "pub"})
	require.NoError(t, err)
	known := make(map[string]bool)
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{
		auth.AnyOf(g, auth.Anonymous{}), petrel.AuthorizerFunc(func(ctx context.Context, r *petrel.AccessRequest) error {
			known[r.Client.ID()] = g.Knows(r.Client)
			return g.Authorize(ctx, r)
		}),
	}})
	c := b.Connect(brokertest.ID("c"))
	require.Equal(t, packets.NotAuthorized, c.PublishWith(packets.Publish{Topic: []byte("t"), QoS: packets.AtLeastOnce}))
	d := b.Connect(bearing(packets.V5, "d", is.hs256(t, with(claims{"pub": "t"}))))
	require.NotEqual(t, packets.NotAuthorized, d.PublishWith(packets.Publish{Topic: []byte("t"), QoS: packets.AtLeastOnce}))
	require.Equal(t, map[string]bool{"c": false, "d": true}, known)
}

func TestTokensByEnhancedAuthentication(t *testing.T) {
	const method = "OAUTH2-JWT"
	minute := func(seconds int64, c claims) claims {
		c["exp"] = time.Now().Unix() + seconds
		return with(c)
	}
	connect := func(token string) packets.Connect {
		p := brokertest.ID("c")
		p.HasAuthenticationMethod, p.AuthenticationMethod = true, []byte(method)
		p.HasAuthenticationData, p.AuthenticationData = token != "", []byte(token)
		return p
	}
	again := func(token string) *packets.Auth {
		return &packets.Auth{Reason: packets.Reauthenticate, HasAuthenticationMethod: true, AuthenticationMethod: []byte(method),
			HasAuthenticationData: true, AuthenticationData: []byte(token)}
	}
	publish := func(c *brokertest.Client, topic string) bool {
		return c.PublishWith(packets.Publish{Topic: []byte(topic), QoS: packets.AtLeastOnce}) != packets.NotAuthorized
	}
	t.Run("another token prolongs the connection and changes the rights", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := guarded(t, jwt.Options{Method: method})
			c := b.Connect(connect(is.hs256(t, minute(60, claims{"pub": "a"}))))
			require.Equal(t, []bool{true, false}, []bool{publish(c, "a"), publish(c, "b")})
			time.Sleep(50 * time.Second)
			c.Send(again(is.hs256(t, minute(60, claims{"pub": "b"}))))
			require.Equal(t, packets.Success, brokertest.Expect[*packets.Auth](c).Reason)
			require.Equal(t, []bool{false, true}, []bool{publish(c, "a"), publish(c, "b")})
			time.Sleep(59 * time.Second)
			c.ExpectNothing()
			time.Sleep(1100 * time.Millisecond)
			c.ExpectDisconnect(packets.MaximumConnectTime)
			require.NoError(t, b.Close())
		})
	})
	t.Run("what is not valid ends the connection", func(t *testing.T) {
		b := guarded(t, jwt.Options{Method: method})
		for name, token := range map[string]string{"garbage": "x", "somebody else's": is.hs256(t, with(claims{"sub": "bob"})), "expired": is.hs256(t, minute(-5, claims{}))} {
			c := b.Connect(connect(is.hs256(t, valid())))
			c.Send(again(token))
			require.Equal(t, packets.NotAuthorized, brokertest.Expect[*packets.Disconnect](c).Reason, name)
			c.Served()
		}
	})
	t.Run("nor is it let in", func(t *testing.T) {
		b := guarded(t, jwt.Options{Method: method})
		for _, token := range []string{"", "x", is.hs256(t, minute(-5, claims{}))} {
			_, ack := b.TryConnect(connect(token))
			require.Equal(t, packets.NotAuthorized, ack.Reason)
		}
	})
	t.Run("not without the option", func(t *testing.T) {
		_, ack := guarded(t, jwt.Options{}).TryConnect(connect(is.hs256(t, valid())))
		require.Equal(t, packets.BadAuthenticationMethod, ack.Reason)
	})
}

func Example() {
	keys, err := jwt.NewKeys(jwt.Key{Algorithm: jwt.HS256, Key: petrel.Secret("a secret of at least 32 bytes...")})
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := jwt.NewGuard(jwt.Options{Keys: keys, Issuer: "example"}, jwt.Rights{Publish: "publish", Subscribe: "subscribe"})
	if err != nil {
		log.Fatal(err)
	}
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{tokens}})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()

	// The host's identity provider would sign this.
	token, err := golangjwt.NewWithClaims(golangjwt.SigningMethodHS256, golangjwt.MapClaims{
		"iss": "example", "sub": "alice", "exp": 4_000_000_000, "publish": "lamp/%c", "subscribe": []string{"lamp/#", "news"},
	}).SignedString([]byte("a secret of at least 32 bytes..."))
	if err != nil {
		log.Fatal(err)
	}
	for _, password := range []string{token, "x.y.z"} {
		r := &petrel.ConnectRequest{HasPassword: true, Password: petrel.Secret(password)}
		err := tokens.Authenticate(context.Background(), r)
		fmt.Printf("%q, %v\n", r.Identity, err)
	}
	// Output:
	// "alice", <nil>
	// "", mqtt: bad user name or password: jwt: it is no token
}
