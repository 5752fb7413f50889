package petrel_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Whatever a ConnectionAuthorizer says of a client that is connected, it stays or
// has to go, and its session stays.
func TestReauthorizeAsksConnectionAuthorizers(t *testing.T) {
	eachOutcome(t, func(t *testing.T, v packets.Version, decide func(context.Context) error, allows bool, code packets.ReasonCode) {
		hooked(t, atStage(petrel.StageReauthorized, decide), func(t *testing.T, b *brokertest.Broker) {
			p := fresh(v, "c")
			p.CleanStart, p.SessionExpiryInterval = false, 3600
			c := b.Connect(p)
			c.Subscribe(1, "a")
			require.NoError(t, b.Reauthorize(t.Context(), petrel.Everybody()))
			switch {
			case allows:
				require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "a", Payload: []byte("still here")}))
				c.ExpectPublish("a", "still here")
				return
			case v == packets.V5:
				c.ExpectDisconnect(orElse(code, packets.UnspecifiedError))
			}
			c.ExpectClosed()
			require.Equal(t, 1, int(b.Stats().Sessions))
		})
	})
}

func TestReauthorizeSaysWhoItAsksAbout(t *testing.T) {
	var seen diary
	note := admission(func(_ context.Context, r *petrel.ConnectionRequest) error {
		if r.Stage == petrel.StageReauthorized {
			x := r.Connect
			seen.note("%s %s of %s, who is %s, from %s, %s", x.Version, x.ClientID, x.UserName, x.Identity, r.Peer.RemoteAddr.Network(), x.Peer.RemoteAddr.Network())
		}
		return nil
	})
	as := petrel.AuthenticatorFunc(func(_ context.Context, r *petrel.ConnectRequest) error {
		r.Identity = "number " + r.UserName
		return nil
	})
	inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{note, as}}, func(t *testing.T, b *brokertest.Broker) {
		for i, v := range everyVersion {
			p := fresh(v, fmt.Sprint("c", i))
			p.HasUserName, p.UserName = true, fmt.Append(nil, i)
			b.Connect(p)
		}
		p := brokertest.Durable("absent")
		b.Connect(p).Drop()
		require.NoError(t, b.Reauthorize(t.Context(), petrel.ByIdentity("number 1")))
		require.Equal(t, []string{"3.1.1 c1 of 1, who is number 1, from pipe, pipe"}, seen.take())
		require.NoError(t, b.Reauthorize(t.Context(), petrel.Everybody()))
		require.Len(t, seen.take(), 3, "who is not connected is not asked about")
	})
}

// A change that comes while a CONNECT is on its way, after the client has been
// asked about, is not missed.
func TestReauthorizeDuringConnect(t *testing.T) {
	for _, v := range everyVersion {
		t.Run(v.String(), func(t *testing.T) {
			var banned atomic.Bool
			var b *brokertest.Broker
			admit := admission(func(_ context.Context, r *petrel.ConnectionRequest) error {
				if banned.Load() && r.Stage != petrel.StageAccepted {
					return packets.NotAuthorized
				}
				return nil
			})
			// The right to leave a will is asked about after the connection.
			change := permission(func(*petrel.AccessRequest) error {
				banned.Store(true)
				return b.Reauthorize(context.Background(), petrel.Everybody())
			})
			b = brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{admit, change}, HookTimeout: time.Minute})
			p := fresh(v, "c")
			p.HasWill, p.Will = true, packets.Will{Topic: []byte("gone")}
			c, ack := b.TryConnect(p)
			require.Equal(t, packets.NotAuthorized, ack.Reason)
			c.ExpectClosed()
		})
	}
}
