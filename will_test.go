package petrel_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// withWill is a CONNECT of client "c" with the will "gone" to topic "w".
func withWill(v packets.Version, change ...func(p *packets.Connect)) packets.Connect {
	p := packets.Connect{Version: v, ClientID: []byte("c"), CleanStart: true, HasWill: true,
		Will: packets.Will{Topic: []byte("w"), Payload: []byte("gone")}}
	for _, f := range change {
		f(&p)
	}
	return p
}

func delayed(seconds, expiry uint32) func(p *packets.Connect) {
	return func(p *packets.Connect) { p.Will.DelayInterval, p.SessionExpiryInterval = seconds, expiry }
}

func resuming(p *packets.Connect) { p.CleanStart = false }

// watcher is a client that is sent every message.
func watcher(b *brokertest.Broker) *brokertest.Client {
	c := b.Connect(brokertest.ID("watch"))
	c.Subscribe(packets.ExactlyOnce, "#")
	return c
}

// Which end of a connection publishes the will.
func TestWillByEnd(t *testing.T) {
	bye := func(list ...packets.Packet) func(*testing.T, *brokertest.Broker, *brokertest.Client) {
		return func(_ *testing.T, _ *brokertest.Broker, c *brokertest.Client) { c.Send(list...) }
	}
	raw := func(s string) func(*testing.T, *brokertest.Broker, *brokertest.Client) {
		return func(_ *testing.T, _ *brokertest.Broker, c *brokertest.Client) { c.SendRaw([]byte(s)) }
	}
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, b *brokertest.Broker, c *brokertest.Client)
		v3   bool // published for a 3.1.1 client; with only5 it is not tried
		v5   bool
		only byte
	}{
		{name: "normal DISCONNECT", end: bye(&packets.Disconnect{}), v3: false, v5: false},
		{name: "normal DISCONNECT, written in full", end: raw("\xE0\x02\x00\x00"), v5: false, only: 5},
		{name: "normal DISCONNECT with something behind it", end: raw("\xE0\x00\xFF\xFF\xFF"), v3: false, v5: false},
		{name: "DISCONNECT with will", end: bye(&packets.Disconnect{Reason: packets.DisconnectWithWill}), v5: true, only: 5},
		{name: "DISCONNECT with unspecified error", end: bye(&packets.Disconnect{Reason: packets.UnspecifiedError}), v5: true, only: 5},
		{name: "DISCONNECT with quota exceeded", end: bye(&packets.Disconnect{Reason: packets.QuotaExceeded}), v5: true, only: 5},
		{name: "DISCONNECT with bad flags", end: raw("\xE1\x00"), v3: true, v5: true},
		{name: "DISCONNECT with an unknown code", end: raw("\xE0\x01\x77"), v5: true, only: 5},
		{name: "DISCONNECT with a code in 3.1.1", end: raw("\xE0\x01\x00"), v3: true, only: 4},
		{name: "DISCONNECT with surplus bytes", end: raw("\xE0\x03\x00\x00\x00"), v5: true, only: 5},
		{name: "DISCONNECT that raises the session expiry from 0", v5: true, only: 5,
			end: bye(&packets.Disconnect{HasSessionExpiryInterval: true, SessionExpiryInterval: 5})},
		{name: "DISCONNECT that sets the session expiry to 0", v5: false, only: 5,
			end: bye(&packets.Disconnect{HasSessionExpiryInterval: true, SessionExpiryInterval: 0})},
		{name: "DISCONNECT with a server reference", v5: true, only: 5,
			end: bye(&packets.Disconnect{ServerReference: []byte("x")})},
		{name: "end of file", end: func(_ *testing.T, _ *brokertest.Broker, c *brokertest.Client) { c.Close() }, v3: true, v5: true},
		{name: "end of file in the middle of a packet", v3: true, v5: true,
			end: func(_ *testing.T, _ *brokertest.Broker, c *brokertest.Client) {
				c.SendRaw([]byte{0xE0})
				c.Close()
			}},
		{name: "protocol error", end: bye(&packets.Pingresp{}), v3: true, v5: true},
		{name: "malformed packet", end: raw("\xC0\x01\x00"), v3: true, v5: true},
		{name: "reserved packet type", end: raw("\x00\x00"), v3: true, v5: true},
		{name: "packet too large", end: raw("\x30\xFF\xFF\xFF\x7F"), v3: true, v5: true},
		{name: "keep alive timeout", end: func(*testing.T, *brokertest.Broker, *brokertest.Client) { time.Sleep(16 * time.Second) }, v3: true, v5: true},
		{name: "disconnected by the host", v3: true, v5: true,
			end: func(t *testing.T, b *brokertest.Broker, _ *brokertest.Client) {
				require.NoError(t, b.Disconnect("c", nil))
			}},
		{name: "disconnected by the host with a reason", v3: true, v5: true,
			end: func(t *testing.T, b *brokertest.Broker, _ *brokertest.Client) {
				require.NoError(t, b.Disconnect("c", errors.New("because")))
			}},
		{name: "taken over", v3: true, v5: true,
			end: func(_ *testing.T, b *brokertest.Broker, _ *brokertest.Client) { b.Connect(brokertest.ID("c")) }},
	} {
		for _, v := range []packets.Version{packets.V311, packets.V5} {
			if tt.only != 0 && byte(v) != tt.only {
				continue
			}
			t.Run(tt.name+" "+v.String(), func(t *testing.T) {
				inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
					watch := watcher(b)
					c := b.Connect(withWill(v, func(p *packets.Connect) { p.KeepAlive = 10 }))
					tt.end(t, b, c)
					c.Served()
					if v == packets.V5 && tt.v5 || v != packets.V5 && tt.v3 {
						watch.ExpectPublish("w", "gone")
					}
					watch.ExpectNothing()
					time.Sleep(time.Hour)
					watch.ExpectNothing() // nor later, nor again
				})
			})
		}
	}
}

func TestKickTellsWhy(t *testing.T) {
	refusal := &petrel.Refusal{Code: packets.UseAnotherServer, ReasonString: "moving", ServerReference: "other:1883", UserProperties: []petrel.UserProperty{{Name: "n", Value: "v"}}}
	for _, tt := range []struct {
		name   string
		reason error
		want   packets.Disconnect
	}{
		{"nothing given", nil, packets.Disconnect{Reason: packets.AdministrativeAction}},
		{"a reason code", packets.ServerBusy, packets.Disconnect{Reason: packets.ServerBusy}},
		{"any error", errors.New("secret"), packets.Disconnect{Reason: packets.UnspecifiedError}},
		{"a code that DISCONNECT has not", packets.Banned, packets.Disconnect{Reason: packets.UnspecifiedError}},
		{"a refusal", refusal, packets.Disconnect{Reason: packets.UseAnotherServer, ReasonString: []byte("moving"),
			ServerReference: []byte("other:1883"), UserProperties: packets.UserProperties{}.Append("n", "v")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			old := b.Connect(packets.Connect{Version: packets.V311, ClientID: []byte("old"), CleanStart: true})
			require.NoError(t, b.Disconnect("old", tt.reason))
			old.ExpectClosed()
			c := b.Connect(brokertest.Durable("c"))
			require.NoError(t, b.Disconnect("c", tt.reason))
			got := brokertest.Expect[*packets.Disconnect](c)
			g, err := got.AppendTo(nil, packets.V5)
			require.NoError(t, err)
			w, err := tt.want.AppendTo(nil, packets.V5)
			require.NoError(t, err)
			require.Equal(t, w, g, "got %+v", got)
			c.ExpectClosed()
			c.Served()
			require.ErrorIs(t, b.Disconnect("c", nil), petrel.ErrNoSuchClient)
			_, ack := b.TryConnect(brokertest.Durable("c"))
			require.True(t, ack.SessionPresent, "the session stays")
		})
	}
	require.ErrorIs(t, brokertest.New(t, petrel.Options{}).Disconnect("nobody", nil), petrel.ErrNoSuchClient)
}

// When a delayed will goes out: at the end of its delay or of the session,
// whatever comes first, and not when the client has come back before.
func TestWillDelay(t *testing.T) {
	const notAtAll = -1
	drop := func(c *brokertest.Client) { c.Drop() }
	reason := func(code packets.ReasonCode) func(*brokertest.Client) {
		return func(c *brokertest.Client) { c.Leave(code) }
	}
	expiry := func(n uint32) func(*brokertest.Client) {
		return func(c *brokertest.Client) {
			c.Send(&packets.Disconnect{Reason: packets.DisconnectWithWill, HasSessionExpiryInterval: true, SessionExpiryInterval: n})
			c.Close()
			c.Served()
		}
	}
	for _, tt := range []struct {
		name          string
		delay, expiry uint32
		end           func(*brokertest.Client)
		at            time.Duration // after the end of the connection
	}{
		{"no delay", 0, 100, drop, 0},
		{"delay 10, session of 100", 10, 100, drop, 10 * time.Second},
		{"delay 10, session that never ends", 10, never, drop, 10 * time.Second},
		{"delay 10, session of 10", 10, 10, drop, 10 * time.Second},
		{"delay 100, session of 10", 100, 10, drop, 10 * time.Second},
		{"delay 0xFFFFFFFF, session of 10", never, 10, drop, 10 * time.Second},
		{"delay 10, session of 0", 10, 0, drop, 0},
		{"delay 10, DISCONNECT with will", 10, 100, reason(packets.DisconnectWithWill), 10 * time.Second},
		{"delay 10, DISCONNECT with an error", 10, 100, reason(packets.UnspecifiedError), 10 * time.Second},
		{"delay 10, normal DISCONNECT", 10, 100, reason(packets.NormalDisconnection), notAtAll},
		{"delay 10, session expiry 0 at DISCONNECT with will", 10, 100, expiry(0), 0},
		{"delay 10, session expiry 5 at DISCONNECT with will", 10, 100, expiry(5), 5 * time.Second},
		{"delay 10, session expiry 500 at DISCONNECT with will", 10, 5, expiry(500), 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
				watch := watcher(b)
				c := b.Connect(withWill(packets.V5, delayed(tt.delay, tt.expiry)))
				time.Sleep(time.Minute) // the delay counts from the end
				tt.end(c)
				if tt.at > 0 {
					time.Sleep(tt.at - 1)
					synctest.Wait()
					watch.ExpectNothing()
					time.Sleep(time.Nanosecond)
				}
				synctest.Wait()
				if tt.at != notAtAll {
					watch.ExpectPublish("w", "gone")
				}
				time.Sleep(time.Hour)
				watch.ExpectNothing()
			})
		})
	}
}

// What a new connection of the client does to the will of the last.
func TestWillAndSuccessor(t *testing.T) {
	for _, tt := range []struct {
		name          string
		delay, expiry uint32
		offline       time.Duration // before the successor comes; negative: the first is still connected
		successor     packets.Connect
		published     bool // before the CONNACK of the successor
	}{
		{"still connected, no delay, resumed", 0, 100, -1, withWill(packets.V5, resuming), true},
		{"still connected, delay, resumed", 10, 100, -1, withWill(packets.V5, resuming), false},
		{"still connected, delay, resumed by 3.1.1", 10, 100, -1, withWill(packets.V311, resuming), false},
		{"still connected, delay, clean start", 10, 100, -1, withWill(packets.V5), true},
		{"still connected, delay, clean session of 3.1.1", 10, 100, -1, withWill(packets.V311), true},
		{"still connected, delay, session of 0", 10, 0, -1, withWill(packets.V5, resuming), true},
		{"still connected, no delay, clean start", 0, 0, -1, withWill(packets.V5), true},
		{"within the delay, resumed", 10, 100, 5 * time.Second, withWill(packets.V5, resuming), false},
		{"within the delay, resumed by 3.1.1", 10, 100, 5 * time.Second, withWill(packets.V311, resuming), false},
		{"within the delay, clean start", 10, 100, 5 * time.Second, withWill(packets.V5), true},
		{"a moment before the delay ends, resumed", 10, 100, 10*time.Second - 1, withWill(packets.V5, resuming), false},
		{"a moment after the delay has ended, resumed", 10, 100, 10 * time.Second, withWill(packets.V5, resuming), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
				watch := watcher(b)
				c := b.Connect(withWill(packets.V5, resuming, delayed(tt.delay, tt.expiry)))
				if tt.offline >= 0 {
					c.Drop()
					time.Sleep(tt.offline)
					synctest.Wait()
				}
				tt.successor.Will.Payload = []byte("gone too")
				next := b.Connect(tt.successor)
				if tt.offline < 0 {
					c.ExpectDisconnect(packets.SessionTakenOver)
				}
				next.Publish("w", "online", packets.AtMostOnce)
				if tt.published {
					watch.ExpectPublish("w", "gone")
				}
				watch.ExpectPublish("w", "online")
				time.Sleep(time.Hour)
				watch.ExpectNothing()
				next.Drop()
				watch.ExpectPublish("w", "gone too")
				watch.ExpectNothing()
			})
		})
	}
}

// The will of the displaced is with everybody before its successor is accepted,
// however long that takes.
func TestWillBeforeSuccessor(t *testing.T) {
	slow := interceptWill(func(context.Context, *petrel.PublishRequest) error {
		time.Sleep(2 * time.Second)
		return nil
	})
	retained := func(p *packets.Connect) { p.Will.Retain = true }
	for _, tt := range []struct {
		name          string
		delay, expiry uint32
		offline       time.Duration
		clean         bool
		wait          time.Duration // of the successor
	}{
		{"dropped a second ago, session of 0", 0, 0, time.Second, false, time.Second},
		{"dropped a second ago, resumed", 0, 100, time.Second, false, time.Second},
		{"dropped a second ago, clean start", 0, 100, time.Second, true, time.Second},
		{"delay over a second ago, resumed", 10, 100, 11 * time.Second, false, time.Second},
		{"delay over a second ago, clean start", 10, 100, 11 * time.Second, true, time.Second},
		{"session expired a second ago", 10, 10, 11 * time.Second, false, time.Second},
		{"delay over for long", 10, 100, 13 * time.Second, false, 0},
		{"within the delay, clean start", 10, 100, time.Second, true, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{slow}}, func(t *testing.T, b *brokertest.Broker) {
				c := b.Connect(withWill(packets.V5, retained, delayed(tt.delay, tt.expiry)))
				c.Close()
				time.Sleep(tt.offline)
				synctest.Wait()
				start := time.Now()
				next := b.Connect(packets.Connect{ClientID: []byte("c"), CleanStart: tt.clean})
				require.Equal(t, tt.wait, time.Since(start), "the will takes 2s")
				require.Equal(t, 1, b.Stats().Retained, "the will is out")
				next.ExpectNothing()
			})
		})
	}
	t.Run("displaced while it displaces", func(t *testing.T) {
		inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{slow}}, func(t *testing.T, b *brokertest.Broker) {
			b.Connect(withWill(packets.V5, retained))
			synctest.Wait() // it is not waited for: it has nothing more to say
			start := time.Now()
			second := b.Dial(packets.V5)
			p := withWill(packets.V5, func(p *packets.Connect) { p.Will.Payload = []byte("never") })
			second.Send(&p)
			time.Sleep(time.Second)
			third := b.Connect(brokertest.ID("c"))
			require.Equal(t, 2*time.Second, time.Since(start))
			require.Equal(t, 1, b.Stats().Retained, "the will is out")
			second.ExpectClosed()
			third.ExpectNothing()
		})
	})
	t.Run("a hook that never ends does not keep the successor for ever", func(t *testing.T) {
		forever := interceptWill(func(ctx context.Context, _ *petrel.PublishRequest) error {
			time.Sleep(time.Hour)
			return nil
		})
		inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{forever}}, func(t *testing.T, b *brokertest.Broker) {
			b.Connect(withWill(packets.V5)).Close()
			synctest.Wait()
			start := time.Now()
			w := dialWire(t, b)
			w.Write(wireConnect("MQTT", 5, 2, "\x00", wireString("c")))
			got := requireEnd(t, w, start, 10*time.Second) // the time-out of CONNECT
			require.Empty(t, got)
			time.Sleep(time.Hour)
			b.Connect(brokertest.ID("c")).ExpectNothing()
		})
	})
	inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{slow}}, func(t *testing.T, b *brokertest.Broker) {
		b.Connect(withWill(packets.V5, func(p *packets.Connect) { p.Will.Retain = true }))
		synctest.Wait() // it is not waited for: it has nothing more to say
		start := time.Now()
		next := b.Connect(brokertest.ID("c"))
		require.Equal(t, 2*time.Second, time.Since(start), "the will took that long")
		for m := range b.Retained("#") {
			require.Equal(t, "gone", string(m.Payload))
		}
		require.Equal(t, 1, b.Stats().Retained)
		next.ExpectNothing()
	})
	t.Run("a successor that subscribes to it gets it after CONNACK", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c := b.Connect(withWill(packets.V5, resuming, delayed(0, 100)))
		c.Subscribe(packets.AtLeastOnce, "w")
		next, ack := b.TryConnect(withWill(packets.V5, resuming, delayed(0, 100)))
		require.True(t, ack.SessionPresent)
		next.ExpectPublish("w", "gone")
		next.ExpectNothing()
	})
}

// interceptWill is a PublishInterceptor for wills.
type interceptWill func(context.Context, *petrel.PublishRequest) error

func (f interceptWill) InterceptPublish(ctx context.Context, r *petrel.PublishRequest) error {
	if !r.Will {
		return nil
	}
	return f(ctx, r)
}

func TestWillProperties(t *testing.T) {
	var props packets.Properties
	props = props.AppendPayloadFormat(1).AppendContentType("text/plain").AppendResponseTopic("r/t").
		AppendCorrelationData([]byte{0, 1}).AppendUserProperty("b", "1").AppendUserProperty("a", "2").AppendUserProperty("b", "1")
	inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
		watch := watcher(b)
		older := b.Connect(packets.Connect{Version: packets.V311, ClientID: []byte("older"), CleanStart: true})
		older.Subscribe(packets.AtLeastOnce, "w")
		c := b.Connect(withWill(packets.V5, delayed(50, 100), func(p *packets.Connect) {
			p.Will.Properties, p.Will.QoS, p.Will.Retain = props, packets.ExactlyOnce, true
			p.Will.HasMessageExpiry, p.Will.MessageExpiryInterval = true, 30
		}))
		time.Sleep(40 * time.Second)
		c.Drop()
		time.Sleep(50 * time.Second)
		synctest.Wait()
		p := watch.ExpectPublish("w", "gone")
		require.Equal(t, props, p.Properties, "all of them, in their order")
		require.Equal(t, packets.ExactlyOnce, p.QoS)
		require.False(t, p.Retain || p.Dup)
		require.True(t, p.HasMessageExpiry)
		require.Equal(t, uint32(30), p.MessageExpiryInterval, "it starts when the will is published")
		watch.Accept(p)

		p = older.ExpectPublish("w", "gone")
		require.Empty(t, p.Properties)
		require.Equal(t, packets.AtLeastOnce, p.QoS, "as granted")
		older.Accept(p)

		time.Sleep(10 * time.Second)
		late := b.Connect(brokertest.ID("late"))
		late.Subscribe(packets.AtMostOnce, "w")
		p = late.ExpectPublish("w", "gone")
		require.True(t, p.Retain)
		require.Equal(t, uint32(20), p.MessageExpiryInterval, "the rest of it")
		require.Equal(t, props, p.Properties)
		require.Equal(t, packets.AtMostOnce, p.QoS)

		time.Sleep(20 * time.Second)
		later := b.Connect(brokertest.ID("later"))
		later.Subscribe(packets.AtMostOnce, "w")
		later.ExpectNothing()
	})
}

func TestWillIsAnOrdinaryMessage(t *testing.T) {
	for _, qos := range []packets.QoS{packets.AtMostOnce, packets.AtLeastOnce, packets.ExactlyOnce} {
		for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
			t.Run(v.String()+" "+qos.String(), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				watch := watcher(b)
				b.Connect(withWill(v, func(p *packets.Connect) { p.Will.QoS = qos })).Drop()
				p := watch.ExpectPublish("w", "gone")
				require.Equal(t, qos, p.QoS)
				require.False(t, p.HasMessageExpiry)
				watch.Accept(p)
				watch.ExpectNothing()
			})
		}
	}
	t.Run("an empty payload is delivered, and clears what was retained", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "w", Payload: []byte("kept"), Retain: true}))
		watch := b.Connect(brokertest.ID("watch"))
		watch.Subscribe(packets.AtMostOnce, "w")
		watch.ExpectPublish("w", "kept")
		b.Connect(withWill(packets.V5, func(p *packets.Connect) { p.Will.Payload, p.Will.Retain = nil, true })).Drop()
		watch.ExpectPublish("w", "")
		require.Zero(t, b.Stats().Retained)
	})
	t.Run("No Local of the own session holds it back", func(t *testing.T) {
		inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			connect := withWill(packets.V5, resuming, delayed(0, 100))
			c := b.Connect(connect)
			c.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions{}.Append(packets.Subscription{Filter: []byte("w"), QoS: 1, NoLocal: true})})
			c.Drop()
			b.Connect(connect).ExpectNothing()
		})
	})
	t.Run("the host's hooks see and change it", func(t *testing.T) {
		var seen petrel.Message
		hook := interceptWill(func(_ context.Context, r *petrel.PublishRequest) error {
			seen = *r.Message
			r.Message.Payload = []byte("changed")
			return nil
		})
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{hook}})
		watch := watcher(b)
		b.Connect(withWill(packets.V5)).Drop()
		watch.ExpectPublish("w", "changed")
		require.Equal(t, []string{"w", "gone", "c"}, []string{seen.Topic, string(seen.Payload), seen.PublisherID})
	})
	t.Run("a hook that refuses stops it", func(t *testing.T) {
		hook := interceptWill(func(context.Context, *petrel.PublishRequest) error { return errors.New("no") })
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{hook}})
		watch := watcher(b)
		b.Connect(withWill(packets.V5)).Drop()
		watch.ExpectNothing()
		require.Equal(t, uint64(1), b.Stats().Dropped[petrel.DropIntercepted])
	})
	t.Run("it is part of what the Authenticator is told", func(t *testing.T) {
		var got *petrel.Message
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{connectDecision(func(_ context.Context, r *petrel.ConnectRequest) error {
			got = r.Will
			return nil
		})}})
		b.Connect(withWill(packets.V5, func(p *packets.Connect) {
			p.Will.HasMessageExpiry, p.Will.MessageExpiryInterval = true, 7
		}))
		require.Equal(t, []any{"w", "gone", 7 * time.Second}, []any{got.Topic, string(got.Payload), got.Expiry})
		b.Connect(brokertest.ID("without"))
		require.Nil(t, got)
	})
}

// GHSA of mochi #503: the right to publish is asked about for wills as well, at
// CONNECT and again when the will goes out.
func TestWillNeedsTheRight(t *testing.T) {
	forbidden := make(chan struct{})
	hook := authorizeWill(func(r *petrel.AccessRequest) error {
		select {
		case <-forbidden:
			return packets.NotAuthorized
		default:
		}
		if r.Action == petrel.Publish && r.Topic == "secret" {
			return errors.New("the acl says no")
		}
		return nil
	})
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{hook}})
	watch := watcher(b)
	for _, v := range []packets.Version{packets.V311, packets.V5} {
		refused, ack := b.TryConnect(withWill(v, func(p *packets.Connect) { p.Will.Topic = []byte("secret") }))
		require.Equal(t, packets.NotAuthorized, ack.Reason, "%v", v)
		require.Empty(t, ack.ReasonString)
		refused.ExpectClosed()
		refused.Served()
	}
	watch.ExpectNothing()
	c := b.Connect(withWill(packets.V5))
	close(forbidden)
	c.Drop()
	watch.ExpectNothing()
	require.Equal(t, uint64(1), b.Stats().Dropped[petrel.DropNotAuthorized])
}

type authorizeWill func(r *petrel.AccessRequest) error

func (f authorizeWill) Authorize(_ context.Context, r *petrel.AccessRequest) error { return f(r) }

func TestWillToReservedTopic(t *testing.T) {
	for _, topic := range []string{"$SYS", "$SYS/broker/version"} {
		for _, v := range []packets.Version{packets.V311, packets.V5} {
			t.Run(topic+" "+v.String(), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				watch := b.Connect(brokertest.ID("watch"))
				watch.Subscribe(packets.AtMostOnce, "$SYS", "$SYS/#")
				b.Connect(withWill(v, func(p *packets.Connect) { p.Will.Topic, p.Will.Retain = []byte(topic), true })).Drop()
				watch.ExpectNothing()
				require.Zero(t, b.Stats().Retained)
				require.Equal(t, uint64(1), b.Stats().Dropped[petrel.DropReserved])
			})
		}
	}
}

// A CONNECT that is refused leaves no will, and none of a client that has one.
func TestRefusedConnectPublishesNoWill(t *testing.T) {
	refuse := connectDecision(func(_ context.Context, r *petrel.ConnectRequest) error {
		if r.UserName == "bad" {
			return packets.BadUserNameOrPassword
		}
		return nil
	})
	for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
		t.Run(v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{refuse}})
			watch := watcher(b)
			good := b.Connect(withWill(v))
			bad, ack := b.TryConnect(withWill(v, func(p *packets.Connect) {
				p.HasUserName, p.UserName = true, []byte("bad")
			}))
			require.Equal(t, packets.BadUserNameOrPassword, ack.Reason)
			bad.ExpectClosed()
			bad.Served()
			watch.ExpectNothing()
			good.ExpectNothing()
			good.Drop()
			watch.ExpectPublish("w", "gone")
			watch.ExpectNothing()
		})
	}
}

// What an offline client leaves is published even if nobody of its own listens.
func TestDelayedWillsOfMany(t *testing.T) {
	inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
		watch := watcher(b)
		for i, topic := range brokertest.Topics("w", 50) {
			b.Connect(withWill(packets.V5, delayed(uint32(50-i), 100), func(p *packets.Connect) {
				p.ClientID, p.Will.Topic = []byte(topic), []byte(topic)
			})).Drop()
		}
		list := brokertest.Topics("w", 50)
		for i := range list {
			time.Sleep(time.Second)
			synctest.Wait()
			watch.ExpectPublish(list[len(list)-1-i], "gone")
			watch.ExpectNothing()
		}
	})
}
