package petrel_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// admitAll lets everybody connect, as the user with the name that it gives.
type admitAll struct{}

func (admitAll) Authenticate(context.Context, *petrel.ConnectRequest) error { return nil }

var _ petrel.Authenticator = admitAll{}

func TestBrokerPublish(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	c, old := b.Connect(brokertest.ID("c")), b.Connect(speaking(packets.V311, "old"))
	c.Subscribe(2, "a")
	old.Subscribe(2, "a")
	m := petrel.Message{
		Topic: "a", Payload: []byte("hello"), QoS: petrel.ExactlyOnce, Expiry: 1500 * time.Millisecond, PayloadIsUTF8: true, ContentType: "text/plain",
		ResponseTopic: "answer", CorrelationData: []byte{1, 2}, UserProperties: []petrel.UserProperty{{Name: "k", Value: "2"}, {Name: "k", Value: "1"}},
	}
	require.NoError(t, b.Publish(context.Background(), m))
	p := c.ExpectPublish("a", "hello")
	require.Equal(t, packets.ExactlyOnce, p.QoS)
	require.False(t, p.Retain)
	require.True(t, p.HasMessageExpiry)
	require.Equal(t, uint32(2), p.MessageExpiryInterval, "rounded up")
	format, _ := p.Properties.PayloadFormat()
	require.Equal(t, byte(1), format)
	require.Equal(t, "text/plain", string(p.Properties.ContentType()))
	require.Equal(t, "answer", string(p.Properties.ResponseTopic()))
	require.Equal(t, []byte{1, 2}, p.Properties.CorrelationData())
	var users []string
	for name, value := range p.Properties.UserProperties() {
		users = append(users, string(name)+"="+string(value))
	}
	require.Equal(t, []string{"k=2", "k=1"}, users)
	old.ExpectPublish("a", "hello")

	require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "nobody/listens"}))
	require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "$SYS/mine", Payload: []byte("x"), Retain: true}), "the host may")
	require.Equal(t, 1, b.Stats().Retained)
}

func TestBrokerPublishInvalid(t *testing.T) {
	long := strings.Repeat("x", 65536)
	for _, tc := range []struct {
		name string
		m    petrel.Message
		code petrel.ReasonCode
	}{
		{"no topic", petrel.Message{}, packets.TopicNameInvalid},
		{"wildcard #", petrel.Message{Topic: "a/#"}, packets.TopicNameInvalid},
		{"wildcard +", petrel.Message{Topic: "a/+/b"}, packets.TopicNameInvalid},
		{"U+0000", petrel.Message{Topic: "a\x00b"}, packets.TopicNameInvalid},
		{"not UTF-8", petrel.Message{Topic: "a\xff"}, packets.TopicNameInvalid},
		{"a surrogate", petrel.Message{Topic: "a\xed\xa0\x80"}, packets.TopicNameInvalid},
		{"too long", petrel.Message{Topic: long}, packets.TopicNameInvalid},
		{"too many levels", petrel.Message{Topic: strings.Repeat("/", 128)}, packets.TopicNameInvalid},
		{"QoS 3", petrel.Message{Topic: "a", QoS: 3}, packets.QoSNotSupported},
		{"a property that is too long", petrel.Message{Topic: "a", ContentType: long}, packets.PacketTooLarge},
		{"correlation data that is too long", petrel.Message{Topic: "a", CorrelationData: []byte(long)}, packets.PacketTooLarge},
		{"a user property that is too long", petrel.Message{Topic: "a", UserProperties: []petrel.UserProperty{{Name: "k", Value: long}}}, packets.PacketTooLarge},
		{"a content type that is not UTF-8", petrel.Message{Topic: "a", ContentType: "\xff"}, packets.MalformedPacket},
		{"a user property with U+0000", petrel.Message{Topic: "a", UserProperties: []petrel.UserProperty{{Name: "\x00"}}}, packets.MalformedPacket},
		{"a wildcard in the response topic", petrel.Message{Topic: "a", ResponseTopic: "b/#"}, packets.ProtocolError},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			c := b.Connect(brokertest.ID("c"))
			c.Subscribe(2, "#")
			tc.m.Retain = true
			tc.m.Payload = []byte("x")
			err := b.Publish(context.Background(), tc.m)
			require.Equal(t, tc.code, packets.ReasonOf(err), "%v", err)
			require.ErrorContains(t, err, "petrel: publish to ")
			c.ExpectNothing()
			require.Zero(t, b.Stats().Retained)
		})
	}
}

func TestBrokerPublishRetained(t *testing.T) {
	b := brokertest.New(t, petrel.Options{MaximumRetained: 1})
	ctx := context.Background()
	live := b.Connect(brokertest.ID("live"))
	live.SubscribeWith(asking(packets.Subscription{Filter: []byte("#"), RetainAsPublished: true}))
	require.NoError(t, b.Publish(ctx, petrel.Message{Topic: "a", Payload: []byte("x"), Retain: true}))
	require.ErrorIs(t, b.Publish(ctx, petrel.Message{Topic: "b", Payload: []byte("x"), Retain: true}), packets.QuotaExceeded)
	late := b.Connect(brokertest.ID("late"))
	late.Subscribe(0, "a")
	late.ExpectPublish("a", "x")
	require.NoError(t, b.Publish(ctx, petrel.Message{Topic: "a", Retain: true}))
	late.ExpectPublish("a", "")
	require.Zero(t, b.Stats().Retained)
	got := arrived(t, live)
	require.Equal(t, []string{"x", ""}, payloads(got))
	require.True(t, got[0].Retain && got[1].Retain)
}

func TestBrokerPublishRefused(t *testing.T) {
	t.Run("context cancelled", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c := b.Connect(brokertest.ID("c"))
		c.Subscribe(0, "a")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, b.Publish(ctx, petrel.Message{Topic: "a"}), context.Canceled)
		c.ExpectNothing()
	})
	t.Run("broker closed", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		require.NoError(t, b.Close())
		require.ErrorIs(t, b.Publish(context.Background(), petrel.Message{Topic: "a", Retain: true}), petrel.ErrBrokerClosed)
		require.Zero(t, b.Stats().Retained)
	})
	t.Run("broker closed meanwhile", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		var publishing sync.WaitGroup
		for range 4 {
			publishing.Go(func() {
				for {
					if err := b.Publish(context.Background(), petrel.Message{Topic: "a", Payload: []byte("x"), Retain: true}); err != nil {
						if !errors.Is(err, petrel.ErrBrokerClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		require.NoError(t, b.Close())
		publishing.Wait()
	})
}

// The slices of a message are the host's again after Publish where the broker
// keeps it only if it does not write to them: here they are kept by the queue.
func TestBrokerPublishToOfflineSession(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	c := b.Connect(brokertest.Durable("c"))
	c.Subscribe(1, "a")
	c.Drop()
	payload := []byte("first")
	require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "a", Payload: payload, QoS: 1, Retain: true}))
	copy(payload, "XXXXX")
	c = b.Connect(brokertest.Durable("c"))
	c.ExpectPublish("a", "first")
	for m := range b.Retained("a") {
		require.Equal(t, "first", string(m.Payload))
	}
}

// client is the entry of Clients for the identifier.
func client(t *testing.T, b *brokertest.Broker, id string) petrel.ClientInfo {
	t.Helper()
	for c := range b.Clients() {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no client %q", id)
	return petrel.ClientInfo{}
}

func TestClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{MaximumKeepAlive: 60 * time.Second})
		defer b.Close()
		require.Empty(t, countClients(b))
		time.Sleep(time.Minute)
		start := time.Now()
		connect := window(2, brokertest.Durable("c"))
		connect.HasUserName, connect.UserName, connect.KeepAlive = true, []byte("user"), 30
		c := b.Connect(connect)
		c.Subscribe(1, "a", "b", "$share/g/c")
		old := b.Connect(packets.Connect{Version: packets.V31, ClientID: []byte("old"), CleanStart: true, KeepAlive: 600})
		b.Connect(brokertest.ID("capped"))
		send(t, b, "a", 1, 5)
		arrived(t, c)

		info := client(t, b, "c")
		require.NotNil(t, info.Peer.RemoteAddr)
		info.Peer = petrel.Peer{}
		require.Equal(t, petrel.ClientInfo{
			ID: "c", Identity: "user", Connected: true, UserName: "user", Version: packets.V5, Since: start, KeepAlive: 30 * time.Second,
			Subscriptions: 3, Queued: 3, QueuedBytes: 6, Inflight: 2,
		}, info)
		require.Equal(t, 600*time.Second, client(t, b, "old").KeepAlive)
		require.Equal(t, packets.V31, client(t, b, "old").Version)
		require.Equal(t, 60*time.Second, client(t, b, "capped").KeepAlive)

		c.Drop()
		require.Equal(t, petrel.ClientInfo{ID: "c", Identity: "user", Subscriptions: 3, Queued: 3, QueuedBytes: 6, Inflight: 2}, client(t, b, "c"))
		old.Drop()
		require.Equal(t, map[string]bool{"c": false, "capped": true}, countClients(b), "a session that has ended is not there")

		n := 0
		for range b.Clients() {
			n++
			break
		}
		require.Equal(t, 1, n)
		for info := range b.Clients() { // the body may use the broker
			if info.Connected {
				require.NoError(t, b.Disconnect(info.ID, nil))
			}
		}
	})
}

// countClients tells of each client whether it is connected.
func countClients(b *brokertest.Broker) map[string]bool {
	list := make(map[string]bool)
	for c := range b.Clients() {
		list[c.ID] = c.Connected
	}
	return list
}

func TestDisconnect(t *testing.T) {
	for _, tc := range []struct {
		name   string
		reason error
		code   petrel.ReasonCode
	}{
		{"no reason", nil, packets.AdministrativeAction},
		{"a code", packets.ServerBusy, packets.ServerBusy},
		{"a code in the tree", fmt.Errorf("because: %w", packets.QuotaExceeded), packets.QuotaExceeded},
		{"an error without a code", errors.New("secret"), packets.UnspecifiedError},
		{"a code that DISCONNECT does not have", packets.BadUserNameOrPassword, packets.UnspecifiedError},
		{"a success", packets.NormalDisconnection, packets.UnspecifiedError},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			watcher := b.Connect(brokertest.ID("watcher"))
			watcher.Subscribe(0, "will")
			with := brokertest.Durable("c")
			with.HasWill, with.Will = true, packets.Will{Topic: []byte("will"), Payload: []byte("w")}
			c := b.Connect(with)
			c.Subscribe(1, "a")
			require.NoError(t, b.Disconnect("c", tc.reason))
			p := c.ExpectDisconnect(tc.code)
			require.Empty(t, p.ReasonString, "what the error says is for the log")
			require.Error(t, c.Served())
			watcher.ExpectPublish("will", "w")
			require.Equal(t, 1, client(t, b, "c").Subscriptions, "the session stays")
			require.ErrorIs(t, b.Disconnect("c", nil), petrel.ErrNoSuchClient, "it is offline")
			_, ack := b.TryConnect(brokertest.Durable("c"))
			require.True(t, ack.SessionPresent)
		})
	}
	t.Run("with all that can be said", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c := b.Connect(brokertest.ID("c"))
		require.NoError(t, b.Disconnect("c", &petrel.Refusal{
			Code: packets.UseAnotherServer, ReasonString: "moved", ServerReference: "other:1883",
			UserProperties: []petrel.UserProperty{{Name: "k", Value: "v"}}, Err: errors.New("secret"),
		}))
		p := c.ExpectDisconnect(packets.UseAnotherServer)
		require.Equal(t, "moved", string(p.ReasonString))
		require.Equal(t, "other:1883", string(p.ServerReference))
		require.Equal(t, 1, p.UserProperties.Len())
	})
	t.Run("older versions are told nothing", func(t *testing.T) {
		for _, v := range []packets.Version{packets.V31, packets.V311} {
			b := brokertest.New(t, petrel.Options{})
			c := b.Connect(speaking(v, "c"))
			require.NoError(t, b.Disconnect("c", nil))
			c.ExpectClosed()
		}
	})
	t.Run("unknown client", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		b.Connect(brokertest.ID("c"))
		for _, id := range []string{"", "C", "nobody"} {
			require.ErrorIs(t, b.Disconnect(id, nil), petrel.ErrNoSuchClient)
		}
	})
}

func TestRetainedOfTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		defer b.Close()
		p := b.Connect(brokertest.ID("p"))
		for _, topic := range []string{"b", "a/2", "a/1", "a", "$x/y", "c/1"} {
			keep(t, p, topic, "of "+topic)
		}
		p.PublishWith(packets.Publish{Topic: []byte("c/2"), Payload: []byte("of c/2"), QoS: 2, Retain: true, HasMessageExpiry: true, MessageExpiryInterval: 60})
		for _, tc := range []struct {
			filter string
			want   []string
		}{
			{"#", []string{"a", "a/1", "a/2", "b", "c/1", "c/2"}},
			{"a/#", []string{"a", "a/1", "a/2"}},
			{"+/1", []string{"a/1", "c/1"}},
			{"b", []string{"b"}},
			{"$x/#", []string{"$x/y"}},
			{"nothing", nil},
			{"", nil}, {"a#", nil}, {"a/#/b", nil}, // invalid
			{"$share/g/a", nil},
		} {
			var got []string
			for m := range b.Retained(tc.filter) {
				got = append(got, m.Topic)
				require.Equal(t, "of "+m.Topic, string(m.Payload))
				require.True(t, m.Retain)
				require.Equal(t, "p", m.PublisherID)
			}
			require.ElementsMatch(t, tc.want, got, tc.filter)
		}
		time.Sleep(20 * time.Second)
		for m := range b.Retained("c/2") {
			require.Equal(t, 40*time.Second, m.Expiry)
			require.Equal(t, petrel.ExactlyOnce, m.QoS)
		}
		time.Sleep(40 * time.Second)
		for m := range b.Retained("c/2") {
			t.Errorf("got %+v, which has expired", m)
		}
		n := 0
		for m := range b.Retained("#") { // the body may use the broker
			require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: m.Topic, Retain: true}))
			if n++; n == 3 {
				break
			}
		}
		require.Len(t, retainedTopics(b, "#"), 2)
	})
}

func retainedTopics(b *brokertest.Broker, filter string) (topics []string) {
	for m := range b.Retained(filter) {
		topics = append(topics, m.Topic)
	}
	return topics
}

// wireSize is what the packets take on the wire.
func wireSize(t *testing.T, list ...packets.Packet) (n uint64) {
	t.Helper()
	for _, p := range list {
		b, err := p.AppendTo(nil, packets.V5)
		require.NoError(t, err)
		n += uint64(len(b))
	}
	return n
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		defer b.Close()
		require.Equal(t, petrel.Stats{Uptime: b.Stats().Uptime, Dropped: map[petrel.DropReason]uint64{}, LimitsReached: map[petrel.Limit]uint64{}}, b.Stats())

		connect := brokertest.ID("c")
		c, ack := b.TryConnect(connect)
		sub := asking(on("a", 1), on("$share/g/b", 0))
		sub.PacketID = 1
		c.Send(&sub)
		suback := brokertest.Expect[*packets.Suback](c)
		publish := packets.Publish{Topic: []byte("a"), Payload: []byte("12345"), QoS: 1, PacketID: 1}
		c.Send(&publish)
		// The copy and the acknowledgement come in this order.
		delivered := c.ExpectPublish("a", "12345")
		puback := brokertest.Expect[*packets.Puback](c)
		s := b.Stats()
		require.Equal(t, petrel.Stats{
			Uptime: s.Uptime, ClientsConnected: 1, ClientsMaximum: 1, Sessions: 1, ConnectionsOpened: 1, Connects: 1, Subscriptions: 2, SharedSubscription: 1, SharedGroups: 1,
			MessageBytes: 6, PacketsReceived: 3, PacketsSent: 4, BytesReceived: wireSize(t, &connect, &sub, &publish),
			BytesSent:       wireSize(t, ack, suback, delivered, puback),
			PublishReceived: 1, PublishSent: 1, PublishBytesReceived: 5, PublishBytesSent: 5,
			Dropped: map[petrel.DropReason]uint64{}, LimitsReached: map[petrel.Limit]uint64{},
		}, s)

		c.Accept(delivered)
		c.ExpectNothing()
		require.Zero(t, b.Stats().MessageBytes)

		d := b.Connect(packets.Connect{ClientID: []byte("d"), SessionExpiryInterval: 5})
		d.Subscribe(1, "q")
		again := b.Connect(packets.Connect{ClientID: []byte("d"), SessionExpiryInterval: 5})
		d.ExpectDisconnect(packets.SessionTakenOver)
		d.Served()
		s = b.Stats()
		require.Equal(t, []int{2, 2, 2, 3}, []int{s.ClientsConnected, s.ClientsMaximum - min(s.ClientsMaximum-2, 1), s.Sessions, int(s.Connects)})
		require.Equal(t, uint64(1), s.TakenOver)
		again.Drop()
		keep(t, c, "kept", "1234")
		send(t, b, "q", 1, 3)
		s = b.Stats()
		require.Equal(t, int64(8+3*2), s.MessageBytes, "retained and queued")
		require.Equal(t, []int{1, 2, 1}, []int{s.ClientsConnected, s.Sessions, s.Retained})
		time.Sleep(6 * time.Second)
		s = b.Stats()
		require.Equal(t, []int{1, 1, 2}, []int{s.ClientsConnected, s.Sessions, s.Subscriptions})
		require.Equal(t, uint64(1), s.SessionsExpired)
		require.Equal(t, int64(8), s.MessageBytes)
		require.Equal(t, map[petrel.DropReason]uint64{petrel.DropSessionEnded: 3}, s.Dropped)
		c.Drop()
		s = b.Stats()
		require.Equal(t, []int{0, 0, 0, 0, 0}, []int{s.ClientsConnected, s.Sessions, s.Subscriptions, s.SharedSubscription, s.SharedGroups})
		clearOf := petrel.Message{Topic: "kept", Retain: true}
		require.NoError(t, b.Publish(t.Context(), clearOf))
		require.Zero(t, b.Stats().MessageBytes)
		require.GreaterOrEqual(t, b.Stats().Uptime, 6*time.Second)
	})
}

func TestOptionsThatCannotBeMeant(t *testing.T) {
	for _, tc := range []struct {
		option string
		o      petrel.Options
		valid  bool
	}{
		{"ReceiveMaximum", petrel.Options{ReceiveMaximum: 65535}, true},
		{"ReceiveMaximum", petrel.Options{ReceiveMaximum: 65536}, false},
		{"MaximumInflight", petrel.Options{MaximumInflight: 65535}, true},
		{"MaximumInflight", petrel.Options{MaximumInflight: 65536}, false},
		{"TopicAliasMaximum", petrel.Options{TopicAliasMaximum: 65535}, true},
		{"TopicAliasMaximum", petrel.Options{TopicAliasMaximum: 65536}, false},
		{"MaximumKeepAlive", petrel.Options{MaximumKeepAlive: time.Second}, true},
		{"MaximumKeepAlive", petrel.Options{MaximumKeepAlive: time.Second - 1}, false},
		{"MaximumKeepAlive", petrel.Options{MaximumKeepAlive: 65535 * time.Second}, true},
		{"MaximumKeepAlive", petrel.Options{MaximumKeepAlive: 65536 * time.Second}, false},
		{"QueueFull", petrel.Options{QueueFull: petrel.DropOldest}, true},
		{"QueueFull", petrel.Options{QueueFull: petrel.DropOldest + 1}, false},
		{"SharedStrategy", petrel.Options{SharedStrategy: petrel.TopicHash}, true},
		{"SharedStrategy", petrel.Options{SharedStrategy: petrel.TopicHash + 1}, false},
		{"Hooks", petrel.Options{Hooks: []petrel.Hook{nil}}, false},
		{"Hooks", petrel.Options{Hooks: []petrel.Hook{42}}, false},
	} {
		t.Run(fmt.Sprintf("%s valid %v", tc.option, tc.valid), func(t *testing.T) {
			tc.o.Hooks = append(tc.o.Hooks, admitAll{})
			tc.o.Logger = slog.New(slog.DiscardHandler)
			b, err := petrel.New(tc.o)
			if tc.valid {
				require.NoError(t, err)
				require.NoError(t, b.Close())
				return
			}
			require.ErrorContains(t, err, "petrel: Options."+tc.option)
			require.Nil(t, b)
		})
	}
	t.Run("nobody could connect", func(t *testing.T) {
		_, err := petrel.New(petrel.Options{})
		require.ErrorContains(t, err, "auth.AllowAll")
	})
	t.Run("every number at its extremes", func(t *testing.T) {
		for _, n := range []int{1, math.MaxInt, math.MinInt} {
			o := petrel.Options{
				MaximumPacketSize: n, MaximumConnectSize: n, MaximumTopicLevels: n, MaximumFilters: n, MaximumUserProperties: n, QueueMessages: n,
				QueueBytes: n, OutboundBytes: n, MaximumConnections: n, MaximumSessions: n, MaximumRetained: n, MaximumSubscriptions: n, MessageRate: n,
				ByteRate: n, MemoryLimit: int64(n), ConnectTimeout: time.Duration(n), HookTimeout: time.Duration(n), MaximumSessionExpiry: time.Duration(n),
				MaximumConnectionsPerIdentity: n, MaximumSessionsPerIdentity: n, MaximumRetainedBytes: int64(n),
				SysInterval: -1, Hooks: []petrel.Hook{admitAll{}}, Logger: slog.New(slog.DiscardHandler),
			}
			if n < 0 {
				o.ReceiveMaximum, o.MaximumInflight, o.TopicAliasMaximum, o.MaximumKeepAlive = n, n, n, time.Duration(n)
			}
			b, err := petrel.New(o)
			require.NoError(t, err)
			require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "a"}))
			require.NoError(t, b.Close())
		}
	})
}

// sized is a PUBLISH with QoS 1 that takes n bytes on the wire.
func sized(t *testing.T, n int) *packets.Publish {
	t.Helper()
	p := &packets.Publish{Topic: []byte("a"), QoS: 1, PacketID: 1, Payload: make([]byte, n-10)}
	for range 10 {
		if d := n - int(wireSize(t, p)); d != 0 {
			p.Payload = make([]byte, len(p.Payload)+d)
			continue
		}
		return p
	}
	t.Fatalf("no PUBLISH has %d bytes", n)
	return nil
}

func TestMaximumPacketSizeOption(t *testing.T) {
	for _, tc := range []struct {
		option    int
		announced uint32
		fits      []int
		tooLarge  int
	}{
		{0, 2 << 20, []int{2<<20 - 1, 2 << 20}, 2<<20 + 1},
		{1000, 1000, []int{999, 1000}, 1001},
		{-1, 0, []int{2<<20 + 1, 5 << 20}, 0},
	} {
		t.Run(fmt.Sprint(tc.option), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MaximumPacketSize: tc.option})
			c, ack := b.TryConnect(brokertest.ID("c"))
			require.Equal(t, tc.announced, ack.MaximumPacketSize)
			for _, n := range tc.fits {
				c.Send(sized(t, n))
				require.False(t, brokertest.Expect[*packets.Puback](c).Reason.IsError())
			}
			if tc.tooLarge > 0 {
				c.Send(sized(t, tc.tooLarge))
				c.ExpectDisconnect(packets.PacketTooLarge)
			}
		})
	}
}

func TestMaximumConnectSizeOption(t *testing.T) {
	connect := func(t *testing.T, n int) packets.Connect {
		p := brokertest.ID("c")
		p.ReceiveMaximum = 65535
		for left := n - int(wireSize(t, &p)); left > 70_000; left -= 60_005 {
			p.UserProperties = p.UserProperties.Append("", strings.Repeat("x", 60_000))
		}
		for base, pad := p.UserProperties, 100; ; {
			p.UserProperties = base[:len(base):len(base)].Append("", strings.Repeat("x", pad/2)).Append("", strings.Repeat("x", pad-pad/2))
			d := n - int(wireSize(t, &p))
			if d == 0 {
				return p
			}
			pad += d
		}
	}
	for _, tc := range []struct {
		option   int
		fits     []int
		tooLarge int
	}{
		{0, []int{512<<10 - 1, 512 << 10}, 512<<10 + 1},
		{1000, []int{999, 1000}, 1001},
		{-1, []int{512<<10 + 1}, 0},
	} {
		t.Run(fmt.Sprint(tc.option), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MaximumConnectSize: tc.option})
			for _, n := range tc.fits {
				b.Connect(connect(t, n))
			}
			if tc.tooLarge > 0 {
				_, ack := b.TryConnect(connect(t, tc.tooLarge))
				require.Equal(t, packets.PacketTooLarge, ack.Reason)
			}
		})
	}
}

func TestReceiveMaximumOption(t *testing.T) {
	for _, tc := range []struct{ option, most, send int }{{0, 1024, 1025}, {3, 3, 4}, {3, 3, 3}, {3, 3, 2}, {-1, 65535, 2000}} {
		t.Run(fmt.Sprintf("%d open with %d", tc.send, tc.option), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{ReceiveMaximum: tc.option})
			c, ack := b.TryConnect(brokertest.ID("c"))
			if tc.most == 65535 {
				require.Contains(t, []uint16{0, 65535}, ack.ReceiveMaximum, "the default of the standard need not be said")
			} else {
				require.Equal(t, uint16(tc.most), ack.ReceiveMaximum)
			}
			for i := range tc.send {
				c.Send(&packets.Publish{Topic: []byte("a"), QoS: 2, PacketID: uint16(i + 1)})
				if i >= tc.most {
					c.ExpectDisconnect(packets.ReceiveMaximumExceeded)
					return
				}
				brokertest.Expect[*packets.Pubrec](c)
			}
			c.ExpectNothing()
		})
	}
}

func TestMaximumInflightOption(t *testing.T) {
	for _, tc := range []struct {
		option         int
		receiveMaximum uint16
		send, inflight int
	}{{0, 65535, 1100, 1024}, {5, 65535, 4, 4}, {5, 65535, 5, 5}, {5, 65535, 6, 5}, {5, 3, 6, 3}, {-1, 65535, 1100, 1100}} {
		t.Run(fmt.Sprintf("%d sent with %d, receive maximum %d", tc.send, tc.option, tc.receiveMaximum), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MaximumInflight: tc.option})
			c := b.Connect(window(tc.receiveMaximum, brokertest.ID("c")))
			c.Subscribe(1, "a")
			send(t, b, "a", 1, tc.send)
			require.Len(t, arrived(t, c), tc.inflight)
			require.Equal(t, tc.inflight, client(t, b, "c").Inflight)
			require.Equal(t, tc.send-tc.inflight, client(t, b, "c").Queued)
		})
	}
}

func TestTopicAliasMaximumOption(t *testing.T) {
	for _, tc := range []struct {
		option, most int
	}{{0, 32}, {2, 2}, {-1, 0}} {
		t.Run(fmt.Sprint(tc.option), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{TopicAliasMaximum: tc.option})
			c, ack := b.TryConnect(brokertest.ID("c"))
			require.Equal(t, uint16(tc.most), ack.TopicAliasMaximum)
			for alias := 1; alias <= tc.most; alias++ {
				c.PublishWith(packets.Publish{Topic: []byte("a"), QoS: 1, HasTopicAlias: true, TopicAlias: uint16(alias)})
			}
			c.Send(&packets.Publish{Topic: []byte("a"), HasTopicAlias: true, TopicAlias: uint16(tc.most + 1)})
			c.ExpectDisconnect(packets.TopicAliasInvalid)
		})
	}
}

func TestMaximumTopicLevelsOption(t *testing.T) {
	levels := func(n int) string { return strings.Repeat("/", n-1) }
	for _, tc := range []struct {
		option, n int
		ok        bool
	}{{0, 127, true}, {0, 128, true}, {0, 129, false}, {3, 2, true}, {3, 3, true}, {3, 4, false}, {-1, 129, true}, {-1, 60_000, true}} {
		t.Run(fmt.Sprintf("%d levels with %d", tc.n, tc.option), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MaximumTopicLevels: tc.option})
			c := b.Connect(brokertest.ID("c"))
			want := packets.TopicFilterInvalid
			if tc.ok {
				want = 0
			}
			require.Equal(t, []packets.ReasonCode{want, want},
				c.SubscribeWith(asking(on(levels(tc.n), 0), on("$share/g/"+levels(tc.n), 0))), "a share is no level")
			require.Equal(t, tc.ok, b.Publish(context.Background(), petrel.Message{Topic: levels(tc.n)}) == nil)
			if tc.ok {
				require.Len(t, arrived(t, c), 2)
			}
			c.Send(&packets.Publish{Topic: []byte(levels(tc.n)), QoS: 0})
			if !tc.ok {
				c.ExpectDisconnect(packets.TopicNameInvalid)
			} else {
				require.Len(t, arrived(t, c), 2)
			}
		})
	}
}

func TestMaximumFiltersOption(t *testing.T) {
	for _, tc := range []struct{ option, n, granted int }{{0, 8192, 8192}, {0, 8193, 8192}, {-1, 8193, 8193}} {
		t.Run(fmt.Sprintf("%d filters with %d", tc.n, tc.option), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MaximumFilters: tc.option})
			c := b.Connect(brokertest.ID("c"))
			var p packets.Subscribe
			for _, topic := range brokertest.Topics("t", tc.n) {
				p.Subscriptions = p.Subscriptions.Append(on(topic, 0))
			}
			codes := c.SubscribeWith(p)
			require.Len(t, codes, tc.n)
			require.Equal(t, tc.granted, b.Stats().Subscriptions)
			require.Equal(t, tc.granted < tc.n, codes[tc.n-1] == packets.QuotaExceeded)
		})
	}
}

func TestMaximumUserPropertiesOption(t *testing.T) {
	for _, tc := range []struct {
		option, n int
		ok        bool
	}{{0, 255, true}, {0, 256, true}, {0, 257, false}, {2, 1, true}, {2, 2, true}, {2, 3, false}, {-1, 1000, true}} {
		t.Run(fmt.Sprintf("%d properties with %d", tc.n, tc.option), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MaximumUserProperties: tc.option})
			var props packets.Properties
			var list packets.UserProperties
			for range tc.n {
				props, list = props.AppendUserProperty("k", "v"), list.Append("k", "v")
			}
			var subscriptions packets.Subscriptions
			for name, p := range map[string]packets.Packet{
				"PUBLISH":     &packets.Publish{Topic: []byte("a"), Properties: props},
				"SUBSCRIBE":   &packets.Subscribe{PacketID: 1, UserProperties: list, Subscriptions: subscriptions.Append(on("a", 0))},
				"UNSUBSCRIBE": &packets.Unsubscribe{PacketID: 1, UserProperties: list, Filters: packets.Filters(nil).Append("a")},
				"PUBACK":      &packets.Puback{PacketID: 1, UserProperties: list},
			} {
				c := b.Connect(brokertest.ID("c-" + name))
				c.Send(p, &packets.Pingreq{})
				if !tc.ok {
					c.ExpectDisconnect(packets.QuotaExceeded)
					continue
				}
				for answered := false; !answered; {
					_, answered = c.Receive().(*packets.Pingresp)
				}
			}
			connect := brokertest.ID("c")
			connect.UserProperties = list
			_, ack := b.TryConnect(connect)
			require.Equal(t, !tc.ok, ack.Reason == packets.QuotaExceeded)
		})
	}
}

func TestQueueOptions(t *testing.T) {
	const mega = 1 << 20
	for _, tc := range []struct {
		name         string
		o            petrel.Options
		size, n      int // of the messages
		queued       int
		queuedAnyway bool
	}{
		{name: "QueueMessages zero is 10,000", n: 10_001, queued: 10_000},
		{name: "QueueMessages 3, one less", o: petrel.Options{QueueMessages: 3}, n: 2, queued: 2},
		{name: "QueueMessages 3, as many", o: petrel.Options{QueueMessages: 3}, n: 3, queued: 3},
		{name: "QueueMessages 3, one more", o: petrel.Options{QueueMessages: 3}, n: 4, queued: 3},
		{name: "QueueMessages negative is no limit", o: petrel.Options{QueueMessages: -1}, n: 10_001, queued: 10_001},
		{name: "QueueBytes zero is 16 MiB", size: mega, n: 17, queued: 16},
		{name: "QueueBytes 30, one byte less than full", o: petrel.Options{QueueBytes: 31}, size: 10, n: 4, queued: 3},
		{name: "QueueBytes 30, full", o: petrel.Options{QueueBytes: 30}, size: 10, n: 4, queued: 3},
		{name: "QueueBytes 29", o: petrel.Options{QueueBytes: 29}, size: 10, n: 4, queued: 2},
		{name: "QueueBytes negative is no limit", o: petrel.Options{QueueBytes: -1}, size: mega, n: 17, queued: 17},
		{name: "MemoryLimit zero is no limit", size: 1000, n: 100, queued: 100},
		{name: "MemoryLimit 30", o: petrel.Options{MemoryLimit: 30}, size: 10, n: 4, queued: 3},
		{name: "MemoryLimit 29", o: petrel.Options{MemoryLimit: 29}, size: 10, n: 4, queued: 2},
		{name: "MemoryLimit negative is no limit", o: petrel.Options{MemoryLimit: -1}, size: 1000, n: 100, queued: 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := brokertest.New(t, tc.o)
			c := b.Connect(brokertest.Durable("c"))
			c.Subscribe(1, "t")
			c.Drop()
			payload := make([]byte, max(tc.size, 1)-1) // the topic counts too
			for range tc.n {
				require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "t", Payload: payload, QoS: 1}))
			}
			info := client(t, b, "c")
			require.Equal(t, tc.queued, info.Queued)
			require.Equal(t, tc.queued*max(tc.size, 1), info.QueuedBytes)
			require.Equal(t, int64(info.QueuedBytes), b.Stats().MessageBytes)
			var dropped uint64
			for _, n := range b.Stats().Dropped {
				dropped += n
			}
			require.Equal(t, tc.n-tc.queued, int(dropped))
		})
	}
}

func TestOutboundBytesOption(t *testing.T) {
	for _, tc := range []struct {
		name    string
		option  int
		maximum int // bytes that are encoded at most; 0 for all
	}{{"zero is 4 MiB", 0, 4 << 20}, {"1 MiB", 1 << 20, 1 << 20}, {"negative is no limit", -1, 0}} {
		t.Run(tc.name, func(t *testing.T) {
			const size, n = 256 << 10, 40 // 10 MiB
			b := brokertest.New(t, petrel.Options{OutboundBytes: tc.option, Engine: petrel.GoroutineEngine})
			c := b.Connect(brokertest.ID("c"))
			c.Subscribe(0, "a")
			c.ExpectNothing()
			c.Stall()
			for range n {
				require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "a", Payload: make([]byte, size)}))
			}
			queued := client(t, b, "c").QueuedBytes
			if tc.maximum == 0 {
				require.Zero(t, queued)
			} else { // the last packet may exceed it, and one read of the client may have begun
				require.InDelta(t, n*size-tc.maximum, queued, 2*size)
			}
			c.Resume()
			for range n {
				c.ExpectPublish("a", string(make([]byte, size)))
			}
			require.Empty(t, b.Stats().Dropped)
		})
	}
}

func TestMaximumConnectionsAndSessionsOptions(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    petrel.Options
		most int
	}{
		{"MaximumConnections 2", petrel.Options{MaximumConnections: 2}, 2},
		{"MaximumSessions 2", petrel.Options{MaximumSessions: 2}, 2},
		{"zero", petrel.Options{}, 50},
		{"negative", petrel.Options{MaximumConnections: -1, MaximumSessions: -1}, 50},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := brokertest.New(t, tc.o)
			var first *brokertest.Client
			for i := range tc.most {
				c := b.Connect(brokertest.ID(fmt.Sprint("c", i)))
				if i == 0 {
					first = c
				}
			}
			if tc.most > 2 {
				return
			}
			surplus, ack := b.TryConnect(brokertest.ID("surplus"))
			require.Equal(t, packets.QuotaExceeded, ack.Reason)
			surplus.Drop()
			surplus, ack = b.TryConnect(speaking(packets.V311, "surplus"))
			require.Equal(t, packets.ServerUnavailable, ack.Reason)
			surplus.Drop()
			first.Drop()
			b.Connect(brokertest.ID("next"))
		})
	}
}

func TestRateOptions(t *testing.T) {
	for _, tc := range []struct {
		name     string
		o        petrel.Options
		from, to time.Duration // that 30 messages of 10 bytes take
	}{
		{"none", petrel.Options{}, 0, 0},
		{"negative is no limit", petrel.Options{MessageRate: -1, ByteRate: -1}, 0, 0},
		{"10 messages a second", petrel.Options{MessageRate: 10}, 1900 * time.Millisecond, 3500 * time.Millisecond},
		{"100 bytes a second", petrel.Options{ByteRate: 100}, 1900 * time.Millisecond, 3500 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, tc.o)
				defer b.Close()
				c := b.Connect(brokertest.ID("c"))
				start := time.Now()
				p := sized(t, 10)
				for range 30 {
					c.Send(p)
					brokertest.Expect[*packets.Puback](c)
				}
				took := time.Since(start)
				require.GreaterOrEqual(t, took, tc.from)
				require.LessOrEqual(t, took, tc.to)
			})
		})
	}
}

func TestMaximumSessionExpiryAndKeepAliveOptions(t *testing.T) {
	for _, tc := range []struct {
		name      string
		o         petrel.Options
		expiry    uint32 // asked for
		keepAlive uint16
		toldOf    []uint32 // expiry and keep alive that CONNACK has; nil for none
	}{
		{"zero is no cap", petrel.Options{}, math.MaxUint32, 0, nil},
		{"negative is no cap", petrel.Options{MaximumSessionExpiry: -1, MaximumKeepAlive: -1}, math.MaxUint32, 65535, nil},
		{"one less", petrel.Options{MaximumSessionExpiry: time.Minute, MaximumKeepAlive: time.Minute}, 59, 59, nil},
		{"as much", petrel.Options{MaximumSessionExpiry: time.Minute, MaximumKeepAlive: time.Minute}, 60, 60, nil},
		{"one more", petrel.Options{MaximumSessionExpiry: time.Minute, MaximumKeepAlive: time.Minute}, 61, 61, []uint32{60, 60}},
		{"without an end", petrel.Options{MaximumSessionExpiry: time.Minute, MaximumKeepAlive: time.Minute}, math.MaxUint32, 0, []uint32{60, 60}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := brokertest.New(t, tc.o)
			_, ack := b.TryConnect(packets.Connect{ClientID: []byte("c"), SessionExpiryInterval: tc.expiry, KeepAlive: tc.keepAlive})
			require.Equal(t, tc.toldOf != nil, ack.HasSessionExpiryInterval)
			require.Equal(t, tc.toldOf != nil, ack.HasServerKeepAlive)
			if tc.toldOf != nil {
				require.Equal(t, tc.toldOf, []uint32{ack.SessionExpiryInterval, uint32(ack.ServerKeepAlive)})
			}
		})
	}
}

func TestConnectTimeoutOption(t *testing.T) {
	for _, tc := range []struct {
		name   string
		option time.Duration
		after  time.Duration // 0 for never
	}{{"zero is 10 seconds", 0, 10 * time.Second}, {"a minute", time.Minute, time.Minute}, {"negative is never", -1, 0}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{ConnectTimeout: tc.option})
				defer b.Close()
				c := b.Dial(packets.V5)
				if tc.after == 0 {
					time.Sleep(24 * time.Hour)
					c.Send(&packets.Connect{Version: packets.V5, ClientID: []byte("c")})
					require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](c).Reason)
					return
				}
				time.Sleep(tc.after - time.Second)
				start := time.Now()
				c.ExpectClosed()
				require.InDelta(t, time.Second, time.Since(start), float64(100*time.Millisecond))
			})
		})
	}
}

// slowAdmission takes its time, unless its context ends.
type slowAdmission time.Duration

func (d slowAdmission) Authenticate(ctx context.Context, _ *petrel.ConnectRequest) error {
	select {
	case <-time.After(time.Duration(d)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestHookTimeoutOption(t *testing.T) {
	for _, tc := range []struct {
		name          string
		option, takes time.Duration
		ok            bool
	}{
		{"zero is 3 seconds, less", 0, 3*time.Second - time.Millisecond, true},
		{"zero is 3 seconds, more", 0, 3*time.Second + time.Millisecond, false},
		{"a second, more", time.Second, 1001 * time.Millisecond, false},
		{"negative is no limit", -1, time.Hour, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{ConnectTimeout: -1, HookTimeout: tc.option, Hooks: []petrel.Hook{slowAdmission(tc.takes)}})
				defer b.Close()
				c := b.Dial(packets.V5)
				c.Send(&packets.Connect{Version: packets.V5, ClientID: []byte("c")})
				time.Sleep(tc.takes)
				require.Equal(t, tc.ok, brokertest.Expect[*packets.Connack](c).Reason == packets.Success)
			})
		})
	}
}

func TestPublishRetainedWithoutRetain(t *testing.T) {
	b := brokertest.New(t, petrel.Options{DisableRetain: true})
	require.ErrorIs(t, b.Publish(t.Context(), petrel.Message{Topic: "a", Payload: []byte("x"), Retain: true}), packets.RetainNotSupported)
	require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "a", Payload: []byte("x")}))
	require.Zero(t, b.Stats().Retained)
}

// A connection that comes when the broker has been closed is refused, whatever
// would have waited for it.
func TestServeConnOfAClosedBroker(t *testing.T) {
	for _, engine := range []petrel.Engine{petrel.AutoEngine, petrel.GoroutineEngine, petrel.LoopEngine} {
		t.Run(fmt.Sprint("engine ", engine), func(t *testing.T) {
			b, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{everybody{}}, Logger: silent(), Engine: engine})
			if engine == petrel.LoopEngine && runtime.GOOS != "linux" {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.NoError(t, b.Close())
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			client, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer client.Close()
			server, err := l.Accept()
			require.NoError(t, err)
			require.ErrorIs(t, b.ServeConn(server), petrel.ErrBrokerClosed)
			_, err = client.Read(make([]byte, 1))
			require.Error(t, err, "it is closed")
		})
	}
}
