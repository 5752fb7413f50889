package auth_test

import (
	"context"
	"strings"
	"testing"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// as is the CONNECT of a user, whose password is the user name twice.
func as(v packets.Version, id, user string) packets.Connect {
	p := packets.Connect{Version: v, ClientID: []byte(id), CleanStart: true}
	if user != "" {
		p.HasUserName, p.UserName = true, []byte(user)
		p.HasPassword, p.Password = true, []byte(user+user)
	}
	return p
}

// guarded is a broker with both files, which admits some clients without a name.
func guarded(t *testing.T, acl *auth.ACLFile) *brokertest.Broker {
	users := passwordFile(t, line7("alice", "alicealice", 101), line6("bob", "bobbob"), line6("+", "++"))
	nameless := authenticator(func(_ context.Context, r *petrel.ConnectRequest) error {
		if !r.HasUserName && strings.HasPrefix(r.ClientID, "anonymous") {
			return nil
		}
		return packets.NotAuthorized
	})
	return brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{auth.AnyOf(users, nameless), acl}})
}

func TestPasswordFileOnTheWire(t *testing.T) {
	brokertest.EachVersion(t, func(t *testing.T, v packets.Version) {
		users, err := auth.NewPasswordFile("testdata/passwd")
		require.NoError(t, err)
		b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{users}})
		for _, tc := range []struct {
			name string
			p    packets.Connect
			want packets.ReasonCode
		}{
			{"pbkdf2", packets.Connect{HasUserName: true, UserName: []byte("alice"), HasPassword: true, Password: []byte("open sesame")}, packets.Success},
			{"sha512", packets.Connect{HasUserName: true, UserName: []byte("bob"), HasPassword: true, Password: []byte("pässwörd")}, packets.Success},
			{"wrong password", packets.Connect{HasUserName: true, UserName: []byte("alice"), HasPassword: true, Password: []byte("x")}, packets.BadUserNameOrPassword},
			{"unknown user", packets.Connect{HasUserName: true, UserName: []byte("carol"), HasPassword: true, Password: []byte("x")}, packets.BadUserNameOrPassword},
			{"no password", packets.Connect{HasUserName: true, UserName: []byte("alice")}, packets.BadUserNameOrPassword},
			{"empty user name", packets.Connect{HasUserName: true, HasPassword: true, Password: []byte("x")}, packets.BadUserNameOrPassword},
			{"no user name", packets.Connect{}, packets.NotAuthorized},
		} {
			t.Run(tc.name, func(t *testing.T) {
				tc.p.Version, tc.p.ClientID, tc.p.CleanStart = v, []byte("c"), true
				c, ack := b.TryConnect(tc.p)
				assert.Equal(t, tc.want, ack.Reason)
				if tc.want == packets.Success {
					c.Leave(packets.NormalDisconnection)
				} else {
					c.ExpectClosed()
				}
			})
		}
	})
}

func TestACLFilePublishOnTheWire(t *testing.T) {
	brokertest.EachVersion(t, func(t *testing.T, v packets.Version) {
		b := guarded(t, aclFile(t, "topic write anonymous", "user alice", "topic readwrite home/#", "topic deny home/safe/#", "pattern write client/%c", "pattern write user/%u/#",
			"user bob", "topic read #"))
		watcher := b.Connect(as(v, "watcher", "bob"))
		watcher.Subscribe(packets.AtMostOnce, "#")
		for _, tc := range []struct {
			name, id, user, topic string
			allowed               bool
		}{
			{"allowed", "c", "alice", "home/light", true},
			{"denied by a line", "c", "alice", "home/safe/door", false},
			{"denied by none", "c", "alice", "office", false},
			{"of a user without rights to write", "c", "bob", "home/light", false},
			{"its client", "c", "bob", "client/c", true},
			{"another client", "c", "bob", "client/d", false},
			{"its user", "c", "bob", "user/bob/x", true},
			{"another user", "c", "bob", "user/alice/x", false},
			{"a user called +", "c", "+", "user/alice/x", false},
			{"a client called #", "#", "bob", "client/c", false},
			{"anonymous", "anonymous", "", "anonymous", true},
			{"anonymous, of a user", "anonymous", "", "home/light", false},
			{"a user, of anonymous", "c", "alice", "anonymous", false},
		} {
			t.Run(tc.name, func(t *testing.T) {
				c := b.Connect(as(v, tc.id, tc.user))
				defer c.Leave(packets.NormalDisconnection)
				for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
					code := c.PublishWith(packets.Publish{Topic: []byte(tc.topic), Payload: []byte(tc.name), QoS: qos})
					refused := v == packets.V5 && qos > packets.AtMostOnce && !tc.allowed
					assert.Equal(t, refused, code == packets.NotAuthorized, "%v: %v", qos, code) // 3.1.1 has no codes
					if tc.allowed {
						watcher.ExpectPublish(tc.topic, tc.name)
					}
					watcher.ExpectNothing()
				}
			})
		}
	})
}

func TestACLFileSubscribeOnTheWire(t *testing.T) {
	brokertest.EachVersion(t, func(t *testing.T, v packets.Version) {
		refused := packets.NotAuthorized
		if v != packets.V5 {
			refused = packets.UnspecifiedError // the one failure that 3.1.1 has
		}
		b := guarded(t, aclFile(t, "user alice", "topic #", "user bob", "topic read home/#", "topic deny home/safe/#", "topic read news", "pattern read u/%u"))
		alice := b.Connect(as(v, "a", "alice"))
		all := map[string]bool{"home": true, "home/light": true, "home/safe/door": false, "news": true, "office/light": false, "u/bob": true, "u/alice": false}
		for topic := range all {
			alice.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte("retained"), QoS: packets.AtLeastOnce, Retain: true})
		}
		for _, tc := range []struct {
			name, filter string
			code         packets.ReasonCode
			topics       []string // that the filter matches and bob may read
		}{
			{"everything", "#", packets.GrantedQoS1, []string{"home", "home/light", "news", "u/bob"}},
			{"a wildcard with nothing but rights", "home/+", packets.GrantedQoS1, []string{"home/light"}},
			{"a wildcard with a denial in it", "home/#", packets.GrantedQoS1, []string{"home", "home/light"}},
			{"a wildcard that crosses a right", "+/light", packets.GrantedQoS1, []string{"home/light"}},
			{"a pattern among others", "u/+", packets.GrantedQoS1, []string{"u/bob"}},
			{"a topic", "news", packets.GrantedQoS1, []string{"news"}},
			{"a topic that is denied", "home/safe/door", refused, nil},
			{"a wildcard that is denied", "home/safe/+", refused, nil},
			{"beside all rights", "office/#", refused, nil},
			{"of another user", "u/alice", refused, nil},
			{"$SYS", "$SYS/#", refused, nil},
		} {
			t.Run(tc.name, func(t *testing.T) {
				bob := b.Connect(as(v, "b", "bob"))
				defer bob.Leave(packets.NormalDisconnection)
				codes := bob.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions{}.Append(packets.Subscription{Filter: []byte(tc.filter), QoS: packets.AtLeastOnce})})
				require.Equal(t, []packets.ReasonCode{tc.code}, codes)
				var retained []string
				for range tc.topics {
					p := brokertest.Expect[*packets.Publish](bob)
					assert.True(t, p.Retain)
					bob.Accept(p)
					retained = append(retained, string(p.Topic))
				}
				assert.ElementsMatch(t, tc.topics, retained, "retained messages")
				bob.ExpectNothing()

				var live []string
				for topic := range all {
					alice.Publish(topic, "live", packets.AtLeastOnce)
				}
				for range tc.topics {
					p := brokertest.Expect[*packets.Publish](bob)
					assert.False(t, p.Retain)
					bob.Accept(p)
					live = append(live, string(p.Topic))
				}
				assert.ElementsMatch(t, tc.topics, live, "messages")
				bob.ExpectNothing()
			})
		}
	})
}

// Every filter is granted, and nothing is delivered that may not be read: retained,
// live or queued. The other member of a shared subscription gets all of it instead.
func TestACLFileGrantSubscriptionsOnTheWire(t *testing.T) {
	brokertest.EachVersion(t, func(t *testing.T, v packets.Version) {
		f := aclFile(t, "user alice", "topic #", "user bob", "topic read home/#", "topic deny home/safe/#")
		f.GrantSubscriptions = true
		b := guarded(t, f)
		alice, member := b.Connect(as(v, "a", "alice")), b.Connect(as(v, "m", "alice"))
		member.Subscribe(packets.AtMostOnce, "$share/g/office/+")
		send := func(payload string) {
			for _, topic := range []string{"home/safe/door", "office/light", "home/light"} {
				alice.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: packets.AtLeastOnce, Retain: true})
			}
			member.ExpectPublish("office/light", payload)
		}
		send("retained")
		p := as(v, "b", "bob")
		p.CleanStart, p.SessionExpiryInterval = false, 3600
		bob := b.Connect(p)
		var filters packets.Subscriptions
		for _, filter := range []string{"office/#", "home/safe/door", "$SYS/#", "home/+", "#", "$share/g/office/+"} {
			filters = filters.Append(packets.Subscription{Filter: []byte(filter), QoS: packets.AtLeastOnce})
		}
		for _, code := range bob.SubscribeWith(packets.Subscribe{Subscriptions: filters}) {
			assert.Equal(t, packets.GrantedQoS1, code)
		}
		expect := func(payload string) { bob.Accept(bob.ExpectPublish("home/light", payload)) }
		expect("retained")
		expect("retained") // as # matches it too
		bob.ExpectNothing()

		for range 3 {
			send("live")
			expect("live")
			bob.ExpectNothing()
		}
		bob.Drop()
		send("queued")
		bob = b.Connect(p)
		expect("queued")
		bob.ExpectNothing()
	})
}

func TestACLFileSharedSubscriptionOnTheWire(t *testing.T) {
	b := guarded(t, aclFile(t, "user alice", "topic #", "user bob", "topic read home/#", "topic deny home/safe/#"))
	alice, bob := b.Connect(as(packets.V5, "a", "alice")), b.Connect(as(packets.V5, "b", "bob"))
	codes := bob.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions{}.
		Append(packets.Subscription{Filter: []byte("$share/g/home/#")}).
		Append(packets.Subscription{Filter: []byte("$share/g/office/#")})})
	require.Equal(t, []packets.ReasonCode{packets.GrantedQoS0, packets.NotAuthorized}, codes)
	for _, topic := range []string{"home/safe/door", "office/light", "home/light"} {
		alice.Publish(topic, "x", packets.AtLeastOnce)
	}
	bob.ExpectPublish("home/light", "x")
	bob.ExpectNothing()
}

func TestACLFileWillOnTheWire(t *testing.T) {
	brokertest.EachVersion(t, func(t *testing.T, v packets.Version) {
		b := guarded(t, aclFile(t, "user alice", "topic read #", "topic write home/#", "topic deny home/safe/#"))
		watcher := b.Connect(as(v, "watcher", "alice"))
		watcher.Subscribe(packets.AtMostOnce, "#")
		p := as(v, "c", "alice")
		p.HasWill, p.Will = true, packets.Will{Topic: []byte("home/safe/door"), Payload: []byte("gone")}
		_, ack := b.TryConnect(p)
		assert.Equal(t, packets.NotAuthorized, ack.Reason)
		p.Will.Topic = []byte("home/light")
		b.Connect(p).Drop()
		watcher.ExpectPublish("home/light", "gone")
		watcher.ExpectNothing()
	})
}

func TestACLFileReloadOnTheWire(t *testing.T) {
	const (
		before = "user alice\ntopic #\nuser bob\ntopic home/#"
		after  = "user alice\ntopic #\nuser bob\ntopic home/light"
	)
	for _, checkAll := range []bool{false, true} {
		name := map[bool]string{false: "unchecked deliveries go on", true: "with CheckAll they do not"}[checkAll]
		t.Run(name, func(t *testing.T) {
			brokertest.EachVersion(t, func(t *testing.T, v packets.Version) {
				path := write(t, "", before)
				acl, err := auth.NewACLFile(path)
				require.NoError(t, err)
				acl.CheckAll = checkAll
				b := guarded(t, acl)
				alice, bob := b.Connect(as(v, "a", "alice")), b.Connect(as(v, "b", "bob"))
				bob.Subscribe(packets.AtMostOnce, "home/#")

				write(t, path, after)
				require.NoError(t, acl.Reload())
				alice.Publish("home/door", "x", packets.AtLeastOnce)
				if !checkAll {
					bob.ExpectPublish("home/door", "x")
				}
				bob.ExpectNothing()
				bob.Publish("home/door", "no longer allowed", packets.AtMostOnce) // and nothing comes of it
				bob.Subscribe(packets.AtMostOnce, "home/#")
				alice.Publish("home/door", "again", packets.AtLeastOnce)
				alice.Publish("home/light", "again", packets.AtLeastOnce)
				bob.ExpectPublish("home/light", "again")
				bob.ExpectNothing()
			})
		})
	}
}
