package petrel_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// diary is what hooks write down, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// take returns what was written since the last call.
func (d *diary) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return lines
}

// verdicts are the ways in which a hook says no. decide runs in its place.
var verdicts = []struct {
	name   string
	decide func(ctx context.Context) error
	code   packets.ReasonCode // of its own; 0 if the kind of hook decides
}{
	{"not authorized", func(context.Context) error { return packets.NotAuthorized }, packets.NotAuthorized},
	{"quota exceeded", func(context.Context) error { return packets.QuotaExceeded }, packets.QuotaExceeded},
	{"implementation specific error", func(context.Context) error { return packets.ImplementationSpecificError }, packets.ImplementationSpecificError},
	{"code that PUBACK has not", func(context.Context) error { return packets.BadUserNameOrPassword }, packets.ImplementationSpecificError},
	{"code in a wrapper", func(context.Context) error { return fmt.Errorf("line 12: %w", packets.QuotaExceeded) }, packets.QuotaExceeded},
	{"code in a join", func(context.Context) error { return errors.Join(errors.New("x"), packets.NotAuthorized) }, packets.NotAuthorized},
	{"error of the codec", func(context.Context) error { return &packets.Error{Code: packets.TopicNameInvalid, Detail: "secret"} }, packets.TopicNameInvalid},
	{"refusal", func(context.Context) error { return &petrel.Refusal{Code: packets.QuotaExceeded} }, packets.QuotaExceeded},
	{"any error", func(context.Context) error { return errors.New("secret") }, 0},
	{"success as an error", func(context.Context) error { return packets.Success }, 0},
	{"no matching subscribers as an error", func(context.Context) error { return packets.NoMatchingSubscribers }, 0},
	{"a nil pointer that is an error", func(context.Context) error { return (*packets.Error)(nil) }, 0},
	{"end of a context", func(context.Context) error { return context.Canceled }, 0},
	{"panic", func(context.Context) error { panic("on purpose") }, 0},
	{"panic with an error", func(context.Context) error { panic(packets.Success) }, 0},
	{"late, minding its context", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 0},
	{"late, with a yes", func(ctx context.Context) error { <-ctx.Done(); return nil }, 0},
	{"late, ignoring its context", func(context.Context) error { time.Sleep(time.Minute); return nil }, 0},
}

// Whatever kind of no a hook says, nobody gets the message, and the client
// learns of it as far as its version and the QoS allow.
func TestHookRefusesPublish(t *testing.T) {
	kinds := []struct {
		name string
		hook func(func(context.Context) error) petrel.Hook
		code packets.ReasonCode // of an error that has none
		drop petrel.DropReason
	}{
		{"authorizer", func(decide func(context.Context) error) petrel.Hook {
			return accessInTime(func(ctx context.Context, r *petrel.AccessRequest) error {
				if r.Action == petrel.Publish {
					return decide(ctx)
				}
				return nil
			})
		}, packets.NotAuthorized, petrel.DropNotAuthorized},
		{"interceptor", func(decide func(context.Context) error) petrel.Hook {
			return intercept(func(ctx context.Context, r *petrel.PublishRequest) error { return decide(ctx) })
		}, packets.UnspecifiedError, petrel.DropIntercepted},
	}
	for _, kind := range kinds {
		for _, verdict := range verdicts {
			for _, v := range everyVersion {
				t.Run(fmt.Sprintf("%s, %s, %v", kind.name, verdict.name, v), func(t *testing.T) {
					seen := new(dropRecorder)
					var asked atomic.Int32
					hook := kind.hook(func(ctx context.Context) error {
						asked.Add(1)
						return verdict.decide(ctx)
					})
					o := petrel.Options{Hooks: []petrel.Hook{hook, seen}, HookTimeout: time.Second, Logger: silent()}
					want := verdict.code
					if want == 0 {
						want = kind.code
					}
					inFakeTime(t, o, func(t *testing.T, b *brokertest.Broker) {
						sub, pub := b.Connect(brokertest.ID("sub")), b.Connect(fresh(v, "pub"))
						sub.Subscribe(packets.ExactlyOnce, "#")
						for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
							m := &packets.Publish{Topic: []byte("t"), Payload: []byte("m"), QoS: qos, Retain: true}
							if qos > 0 {
								m.PacketID = 7
							}
							pub.Send(m)
							if qos > 0 {
								time.Sleep(2 * time.Minute) // of a hook that is late
								id, code := idAndCode(t, pub.Receive())
								require.EqualValues(t, 7, id)
								require.Equal(t, inVersion(v, want), code)
							}
							if qos == packets.ExactlyOnce {
								refusedQoS2(t, pub, m, v, &asked)
							}
							time.Sleep(2 * time.Minute)
							pub.ExpectNothing()
							sub.ExpectNothing()
							synctest.Wait()
							for _, d := range seen.take() {
								require.Equal(t, petrel.Drop{Topic: "t", QoS: qos, Reason: kind.drop}, d)
							}
						}
						refused := uint64(asked.Load())
						require.Equal(t, map[petrel.DropReason]uint64{kind.drop: refused}, b.Stats().Dropped)
						require.Zero(t, b.Stats().Retained)
					})
				})
			}
		}
	}
}

// refusedQoS2 goes on after a QoS 2 message with identifier 7 was refused: a 5.0
// client has been told, and the identifier is new; another goes through the exchange.
func refusedQoS2(t *testing.T, pub *brokertest.Client, m *packets.Publish, v packets.Version, asked *atomic.Int32) {
	t.Helper()
	before := asked.Load()
	pub.Send(m)
	time.Sleep(2 * time.Minute)
	_, code := idAndCode(t, brokertest.Expect[*packets.Pubrec](pub))
	pub.Send(&packets.Pubrel{PacketID: 7})
	comp := brokertest.Expect[*packets.Pubcomp](pub)
	require.EqualValues(t, 7, comp.PacketID)
	if v == packets.V5 {
		require.True(t, code.IsError())
		require.Equal(t, before+1, asked.Load(), "the identifier is new")
		require.Equal(t, packets.PacketIdentifierNotFound, comp.Reason)
	} else {
		require.Equal(t, before, asked.Load(), "it is a repeat")
	}
}

// accessInTime is an Authorizer that wants its context.
type accessInTime func(ctx context.Context, r *petrel.AccessRequest) error

func (f accessInTime) Authorize(ctx context.Context, r *petrel.AccessRequest) error { return f(ctx, r) }

// What an error says is for the log; what a Refusal says is for the client.
func TestHookErrorsAreNotToldToClients(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		reason string
		pairs  int
	}{
		{"any error", errors.New("secret"), "", 0},
		{"code", packets.NotAuthorized, "", 0},
		{"error of the codec", &packets.Error{Code: packets.NotAuthorized, Detail: "secret"}, "", 0},
		{"refusal", &petrel.Refusal{Code: packets.NotAuthorized, ReasonString: "not yours", Err: errors.New("secret"),
			UserProperties: []petrel.UserProperty{{Name: "a", Value: "b"}, {Name: "a", Value: "c"}}}, "not yours", 2},
		{"refusal in a wrapper", fmt.Errorf("secret: %w", &petrel.Refusal{Code: packets.NotAuthorized, ReasonString: "not yours"}), "not yours", 0},
		{"refusal without a word", &petrel.Refusal{Code: packets.NotAuthorized, Err: errors.New("secret")}, "", 0},
	}
	for _, tt := range tests {
		for _, hook := range []petrel.Hook{
			access(func(*petrel.AccessRequest) error { return tt.err }),
			intercept(func(context.Context, *petrel.PublishRequest) error { return tt.err }),
		} {
			t.Run(fmt.Sprintf("%s, %T", tt.name, hook), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{hook}})
				pub := b.Connect(brokertest.ID("pub"))
				pub.Send(&packets.Publish{Topic: []byte("t"), QoS: packets.AtLeastOnce, PacketID: 1})
				ack := brokertest.Expect[*packets.Puback](pub)
				require.Equal(t, tt.reason, string(ack.ReasonString))
				require.Equal(t, tt.pairs, ack.UserProperties.Len())
				pub.Send(&packets.Publish{Topic: []byte("t"), QoS: packets.ExactlyOnce, PacketID: 1})
				rec := brokertest.Expect[*packets.Pubrec](pub)
				require.Equal(t, tt.reason, string(rec.ReasonString))
				require.Equal(t, tt.pairs, rec.UserProperties.Len())
			})
		}
	}
}

// A hook that takes its time holds up its client, and no other.
func TestSlowHookHoldsUpItsClientOnly(t *testing.T) {
	hook := access(func(r *petrel.AccessRequest) error {
		if r.Client.ID() == "slow" {
			time.Sleep(2 * time.Second)
		}
		return nil
	})
	inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{hook}}, func(t *testing.T, b *brokertest.Broker) {
		sub, slow, fast := b.Connect(brokertest.ID("sub")), b.Connect(brokertest.ID("slow")), b.Connect(brokertest.ID("fast"))
		sub.Subscribe(packets.AtMostOnce, "t")
		start := time.Now()
		slow.Send(&packets.Publish{Topic: []byte("t"), Payload: []byte("slow"), QoS: packets.AtLeastOnce, PacketID: 1})
		synctest.Wait()
		fast.Publish("t", "fast", packets.AtLeastOnce)
		sub.ExpectPublish("t", "fast")
		require.Zero(t, time.Since(start))
		sub.ExpectPublish("t", "slow")
		require.Equal(t, 2*time.Second, time.Since(start))
		brokertest.Expect[*packets.Puback](slow)
	})
}

// Hooks are asked in their order; each must agree.
func TestOrderOfHooks(t *testing.T) {
	const refuses = "refuses"
	book := new(diary)
	authorizer := func(name string) petrel.Hook {
		return access(func(r *petrel.AccessRequest) error {
			if r.Action == petrel.Publish {
				book.note("authorizer %s: %s", name, r.Topic)
			}
			if r.Topic == name+" "+refuses {
				return packets.NotAuthorized
			}
			return nil
		})
	}
	interceptor := func(name string) petrel.Hook {
		return intercept(func(_ context.Context, r *petrel.PublishRequest) error {
			book.note("interceptor %s: %s = %s", name, r.Message.Topic, r.Message.Payload)
			if r.Message.Topic == name+" "+refuses {
				return packets.NotAuthorized
			}
			if topic, ok := strings.CutPrefix(r.Message.Topic, name+" to "); ok {
				r.Message.Topic = topic
			}
			r.Message.Payload = append(slices.Clone(r.Message.Payload), name...)
			return nil
		})
	}
	tests := []struct {
		topic string
		want  []string
		comes string // to this topic; nowhere if it is empty
	}{
		{"t", []string{"authorizer 1: t", "authorizer 2: t", "interceptor 3: t = ", "interceptor 4: t = 3", "published: t = 34"}, "t"},
		{"1 refuses", []string{"authorizer 1: 1 refuses"}, ""},
		{"2 refuses", []string{"authorizer 1: 2 refuses", "authorizer 2: 2 refuses"}, ""},
		{"3 refuses", []string{"authorizer 1: 3 refuses", "authorizer 2: 3 refuses", "interceptor 3: 3 refuses = "}, ""},
		{"4 refuses", []string{"authorizer 1: 4 refuses", "authorizer 2: 4 refuses", "interceptor 3: 4 refuses = ", "interceptor 4: 4 refuses = 3"}, ""},
		{"3 to t", []string{"authorizer 1: 3 to t", "authorizer 2: 3 to t", "interceptor 3: 3 to t = ", "interceptor 4: t = 3",
			"authorizer 1: t", "authorizer 2: t", "published: t = 34"}, "t"},
		{"4 to 2 refuses", []string{"authorizer 1: 4 to 2 refuses", "authorizer 2: 4 to 2 refuses", "interceptor 3: 4 to 2 refuses = ",
			"interceptor 4: 4 to 2 refuses = 3", "authorizer 1: 2 refuses", "authorizer 2: 2 refuses"}, ""},
	}
	hooks := []petrel.Hook{
		// kinds are mixed: their order is that of the kinds, and within each as given
		interceptor("3"), publishObserver(func(_ *petrel.Client, m *petrel.Message) { book.note("published: %s = %s", m.Topic, m.Payload) }),
		authorizer("1"), interceptor("4"), authorizer("2"),
	}
	for _, tt := range tests {
		t.Run(tt.topic, func(t *testing.T) {
			inFakeTime(t, petrel.Options{Hooks: hooks}, func(t *testing.T, b *brokertest.Broker) {
				sub, pub := b.Connect(brokertest.ID("sub")), b.Connect(brokertest.ID("pub"))
				sub.Subscribe(packets.AtMostOnce, "#")
				book.take()
				code := pub.PublishWith(packets.Publish{Topic: []byte(tt.topic), QoS: packets.AtLeastOnce})
				if tt.comes == "" {
					require.Equal(t, packets.NotAuthorized, code)
				} else {
					require.Equal(t, packets.Success, code)
					sub.ExpectPublish(tt.comes, "34")
				}
				sub.ExpectNothing()
				synctest.Wait()
				require.Equal(t, tt.want, book.take())
			})
		})
	}
}

type publishObserver func(c *petrel.Client, m *petrel.Message)

func (f publishObserver) MessagePublished(c *petrel.Client, m *petrel.Message) { f(c, m) }

// What an Authorizer is asked.
func TestAccessRequest(t *testing.T) {
	book := new(diary)
	hook := access(func(r *petrel.AccessRequest) error {
		book.note("%s %v %q %q %v %v", r.Client.ID(), r.Action, r.Topic, r.Share, r.QoS, r.Retain)
		r.CheckDeliveries = r.Action == petrel.Subscribe && r.Topic == "checked/#"
		if r.Action == petrel.Receive && r.Topic == "checked/no" {
			return packets.NotAuthorized
		}
		return nil
	})
	seen := new(dropRecorder)
	inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{hook, seen}}, func(t *testing.T, b *brokertest.Broker) {
		c := brokertest.ID("pub")
		c.HasWill, c.Will = true, packets.Will{Topic: []byte("will"), QoS: 1, Retain: true}
		pub, sub := b.Connect(c), b.Connect(brokertest.ID("sub"))
		require.Equal(t, []string{`pub publish "will" "" QoS 1 true`}, book.take())
		sub.Subscribe(packets.AtLeastOnce, "$share/g/a/+")
		require.Equal(t, []string{`sub subscribe "a/+" "g" QoS 1 false`}, book.take())
		sub.Subscribe(packets.ExactlyOnce, "checked/#")
		require.Equal(t, []string{`sub subscribe "checked/#" "" QoS 2 false`}, book.take())
		pub.PublishWith(packets.Publish{Topic: []byte("a/b"), QoS: 1, Retain: true})
		require.Equal(t, []string{`pub publish "a/b" "" QoS 1 true`}, book.take(), "Receive is asked only where it was wanted")
		sub.ExpectPublish("a/b", "")
		pub.Publish("checked/yes", "", packets.AtLeastOnce)
		sub.ExpectPublish("checked/yes", "")
		require.Equal(t, []string{`pub publish "checked/yes" "" QoS 1 false`, `sub receive "checked/yes" "" QoS 1 false`}, book.take())
		pub.Publish("checked/no", "", packets.AtLeastOnce)
		sub.ExpectNothing()
		synctest.Wait()
		require.Equal(t, []petrel.Drop{{ClientID: "sub", Topic: "checked/no", QoS: 1, Reason: petrel.DropNotAuthorized}}, seen.take())
	})
}

// What an interceptor makes of a message is what everybody gets; the answer to
// the publisher goes on as the packet was.
func TestInterceptorChangesMessage(t *testing.T) {
	change := intercept(func(_ context.Context, r *petrel.PublishRequest) error {
		m := r.Message
		if m.Topic != "t" {
			return errors.New("asked about " + m.Topic)
		}
		if string(m.Payload) != "m" || m.PublisherID != "pub" || m.PublisherVersion != r.Client.Version() || r.Client.ID() != "pub" || r.Will {
			return fmt.Errorf("got %+v", r)
		}
		m.Topic, m.Payload, m.Retain = "new", []byte("changed"), true
		m.QoS = packets.ExactlyOnce - m.QoS
		m.PayloadIsUTF8, m.ContentType, m.ResponseTopic, m.CorrelationData = true, "c", "r", []byte{1}
		m.UserProperties = append(m.UserProperties, petrel.UserProperty{Name: "n", Value: "v"})
		m.Expiry = 1500 * time.Millisecond
		m.PublisherID = "somebody else"
		return nil
	})
	for _, v := range everyVersion {
		for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
			t.Run(fmt.Sprintf("%v %v", v, qos), func(t *testing.T) {
				inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{change}}, func(t *testing.T, b *brokertest.Broker) {
					sub, pub := b.Connect(brokertest.ID("sub")), b.Connect(fresh(v, "pub"))
					sub.Subscribe(packets.ExactlyOnce, "#")
					m := packets.Publish{Topic: []byte("t"), Payload: []byte("m"), QoS: qos}
					if v == packets.V5 {
						m.Properties = m.Properties.AppendUserProperty("n", "0").AppendContentType("old")
						m.HasMessageExpiry, m.MessageExpiryInterval = true, 3600
					}
					require.Equal(t, packets.Success, pub.PublishWith(m)) // which expects the answers of its QoS
					got := sub.ExpectPublish("new", "changed")
					require.Equal(t, packets.ExactlyOnce-qos, got.QoS)
					require.EqualValues(t, 2, got.MessageExpiryInterval)
					want := packets.Properties(nil).AppendPayloadFormat(1).AppendContentType("c").AppendResponseTopic("r").AppendCorrelationData([]byte{1})
					if v == packets.V5 {
						want = want.AppendUserProperty("n", "0")
					}
					require.Equal(t, want.AppendUserProperty("n", "v"), got.Properties)
					sub.Accept(got)
					require.EqualValues(t, 1, b.Stats().Retained)
					for kept := range b.Retained("#") {
						require.Equal(t, "new", kept.Topic)
						require.Equal(t, "pub", kept.PublisherID, "the publisher stays who it is")
					}
				})
			})
		}
	}
}

// An interceptor that does nothing changes nothing, not even an interval that is
// out of the ordinary.
func TestInterceptorThatChangesNothing(t *testing.T) {
	idle := intercept(func(context.Context, *petrel.PublishRequest) error { return nil })
	inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{idle}}, func(t *testing.T, b *brokertest.Broker) {
		sub, pub := b.Connect(brokertest.ID("sub")), b.Connect(brokertest.ID("pub"))
		sub.Subscribe(packets.ExactlyOnce, "#")
		for _, m := range []packets.Publish{
			{Topic: []byte("t")},
			{Topic: []byte("t"), Payload: []byte("m"), QoS: 2, HasMessageExpiry: true, MessageExpiryInterval: 1<<32 - 1},
			{Topic: []byte("t"), QoS: 1, HasMessageExpiry: true, MessageExpiryInterval: 1,
				Properties: packets.Properties(nil).AppendPayloadFormat(1).AppendCorrelationData([]byte{}).AppendUserProperty("", "").AppendUserProperty("", "x")},
		} {
			require.Equal(t, packets.Success, pub.PublishWith(m))
			got := sub.ExpectPublish("t", string(m.Payload))
			require.Equal(t, m.QoS, got.QoS)
			require.Equal(t, m.HasMessageExpiry, got.HasMessageExpiry)
			require.Equal(t, m.MessageExpiryInterval, got.MessageExpiryInterval)
			require.Equal(t, string(m.Properties), string(got.Properties))
			sub.Accept(got)
		}
	})
}

// A message that no packet can carry is refused, not sent.
func TestInterceptorMakesInvalidMessage(t *testing.T) {
	long := strings.Repeat("x", 65536)
	tests := map[string]func(m *petrel.Message){
		"empty topic":                  func(m *petrel.Message) { m.Topic = "" },
		"wildcard":                     func(m *petrel.Message) { m.Topic = "a/#" },
		"zero in the topic":            func(m *petrel.Message) { m.Topic = "a\x00b" },
		"topic that is not utf-8":      func(m *petrel.Message) { m.Topic = "\xff" },
		"topic that is too long":       func(m *petrel.Message) { m.Topic = long },
		"too many levels":              func(m *petrel.Message) { m.Topic = "a/b/c/d" },
		"qos 3":                        func(m *petrel.Message) { m.QoS = 3 },
		"response topic with wildcard": func(m *petrel.Message) { m.ResponseTopic = "a/+" },
		"content type not utf-8":       func(m *petrel.Message) { m.ContentType = "\xff" },
		"content type too long":        func(m *petrel.Message) { m.ContentType = long },
		"user property too long":       func(m *petrel.Message) { m.UserProperties = []petrel.UserProperty{{Name: long}} },
		"user property with a zero":    func(m *petrel.Message) { m.UserProperties = []petrel.UserProperty{{Value: "\x00"}} },
		"correlation data too long":    func(m *petrel.Message) { m.CorrelationData = []byte(long) },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			seen := new(dropRecorder)
			hook := intercept(func(_ context.Context, r *petrel.PublishRequest) error {
				spoil(r.Message)
				return nil
			})
			o := petrel.Options{Hooks: []petrel.Hook{hook, seen}, MaximumTopicLevels: 3, Logger: silent()}
			inFakeTime(t, o, func(t *testing.T, b *brokertest.Broker) {
				sub, pub := b.Connect(brokertest.ID("sub")), b.Connect(brokertest.ID("pub"))
				sub.Subscribe(packets.ExactlyOnce, "#")
				for qos := packets.AtLeastOnce; qos <= packets.ExactlyOnce; qos++ {
					require.Equal(t, packets.ImplementationSpecificError, pub.PublishWith(packets.Publish{Topic: []byte("t"), QoS: qos}))
					sub.ExpectNothing()
					synctest.Wait()
					require.Equal(t, []petrel.Drop{{Topic: "t", QoS: qos, Reason: petrel.DropIntercepted}}, seen.take())
				}
			})
		})
	}
}

// An interceptor sees wills, too.
func TestInterceptorOfWill(t *testing.T) {
	hook := intercept(func(_ context.Context, r *petrel.PublishRequest) error {
		if !r.Will {
			return errors.New("not a will")
		}
		r.Message.Payload = append([]byte("late "), r.Message.Payload...)
		return nil
	})
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{hook}})
	sub := b.Connect(brokertest.ID("sub"))
	sub.Subscribe(packets.AtMostOnce, "will")
	p := brokertest.ID("c")
	p.HasWill, p.Will = true, packets.Will{Topic: []byte("will"), Payload: []byte("c")}
	b.Connect(p).Drop()
	sub.ExpectPublish("will", "late c")
}

// Types whose methods are near misses.
type (
	withoutContext struct{}
	withoutError   struct{}
	halfObserver   struct{}
	pointerOnly    struct{}
	twoMethods     struct{ name string }
	selector       struct{}
	nothing        struct{ Name string }
)

func (withoutContext) Authorize(*petrel.AccessRequest) error                  { return nil }
func (withoutError) InterceptPublish(context.Context, *petrel.PublishRequest) {}
func (halfObserver) ClientConnected(*petrel.Client)                           {}
func (*pointerOnly) Authorize(context.Context, *petrel.AccessRequest) error   { return nil }
func (selector) SelectMember(context.Context, *petrel.SelectRequest) int      { return -1 }
func (m twoMethods) AuthenticationMethods() []string                          { return []string{m.name, "common"} }
func (twoMethods) BeginAuthentication(context.Context, *petrel.AuthenticationRequest) (petrel.AuthenticationExchange, error) {
	return nil, packets.NotAuthorized
}

type onlyPrompt struct{ *dropRecorder }

func (onlyPrompt) DecidesPromptly() bool { return true }

type promptly struct{ connectDecision }

func (promptly) DecidesPromptly() {}

func TestNewRefusesHooks(t *testing.T) {
	everybody := connectDecision(func(context.Context, *petrel.ConnectRequest) error { return nil })
	tests := []struct {
		name  string
		hooks []petrel.Hook
		want  []string // that the error names; none if the hooks are right
	}{
		{"none", nil, []string{"Authenticator", "auth.AllowAll"}},
		{"no authenticator", []petrel.Hook{new(dropRecorder), access(nil)}, []string{"Authenticator", "auth.AllowAll"}},
		{"nil", []petrel.Hook{everybody, nil}, []string{"Hooks[1]", "nil"}},
		{"no hook at all", []petrel.Hook{everybody, nothing{}}, []string{"Hooks[1]", "petrel_test.nothing", "none of the hook interfaces"}},
		{"a number", []petrel.Hook{everybody, 7}, []string{"Hooks[1]", "int"}},
		{"a function", []petrel.Hook{func(context.Context, *petrel.ConnectRequest) error { return nil }}, []string{"Hooks[0]", "none"}},
		{"method without the context", []petrel.Hook{everybody, withoutContext{}}, []string{"Hooks[1]", "Authorize", "petrel.Authorizer", "withoutContext"}},
		{"method without the error", []petrel.Hook{withoutError{}, everybody}, []string{"Hooks[0]", "InterceptPublish", "petrel.PublishInterceptor"}},
		{"one method of two", []petrel.Hook{everybody, halfObserver{}}, []string{"Hooks[1]", "ClientConnected", "petrel.ConnectionObserver"}},
		{"value of a type whose pointer is a hook", []petrel.Hook{everybody, pointerOnly{}}, []string{"Hooks[1]", "pointerOnly", "pointer"}},
		{"good in one way, wrong in another", []petrel.Hook{struct {
			connectDecision
			withoutContext
		}{everybody, withoutContext{}}}, []string{"Hooks[0]", "Authorize"}},
		{"prompt without a decision", []petrel.Hook{everybody, onlyPrompt{}}, []string{"Hooks[1]", "onlyPrompt", "PromptAuthenticator"}},
		{"prompt in another way", []petrel.Hook{promptly{everybody}}, []string{"Hooks[0]", "DecidesPromptly", "petrel.PromptAuthenticator"}},
		{"an authentication method twice", []petrel.Hook{twoMethods{"a"}, twoMethods{"b"}}, []string{"Hooks[1]", "common"}},
		{"two selectors", []petrel.Hook{everybody, selector{}, selector{}}, []string{"Hooks[2]", "SharedSelector"}},

		{"authenticator", []petrel.Hook{everybody}, nil},
		{"two authenticators", []petrel.Hook{everybody, everybody}, nil},
		{"enhanced authenticator alone", []petrel.Hook{twoMethods{"a"}}, nil},
		{"pointer", []petrel.Hook{everybody, new(pointerOnly)}, nil},
		{"one value that is several hooks", []petrel.Hook{struct {
			connectDecision
			*pointerOnly
			*dropRecorder
		}{everybody, new(pointerOnly), new(dropRecorder)}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := petrel.New(petrel.Options{Hooks: tt.hooks, SysInterval: -1})
			if tt.want == nil {
				require.NoError(t, err)
				require.NoError(t, b.Close())
				return
			}
			require.Nil(t, b)
			for _, word := range tt.want {
				require.ErrorContains(t, err, word)
			}
			require.ErrorContains(t, err, "petrel: ")
		})
	}
}

// witness observes everything and writes it down.
type witness struct{ diary }

func (w *witness) ClientConnected(c *petrel.Client) {
	w.note("connected %s %v", c.ID(), c.Version())
}
func (w *witness) ClientDisconnected(c *petrel.Client, cause error) {
	w.note("disconnected %s %s", c.ID(), packets.ReasonOf(cause).String())
}
func (w *witness) SessionChanged(e *petrel.SessionEvent) {
	w.note("session %s of %q %v", e.ClientID, e.Identity, e.Kind)
}
func (w *witness) Subscribed(c *petrel.Client, s petrel.Subscription) {
	w.note("subscribed %s %+v", c.ID(), s)
}
func (w *witness) Unsubscribed(c *petrel.Client, filter string) {
	w.note("unsubscribed %s %s", c.ID(), filter)
}
func (w *witness) MessagePublished(c *petrel.Client, m *petrel.Message) {
	w.note("published %s %s %s %v %v by %s %v", c.ID(), m.Topic, m.Payload, m.QoS, m.Retain, m.PublisherID, m.PublisherVersion)
}
func (w *witness) MessageDropped(_ context.Context, d *petrel.Drop) {
	w.note("dropped %s %s %v %v", d.ClientID, d.Topic, d.QoS, d.Reason)
}

func TestObservers(t *testing.T) {
	w := new(witness)
	inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{w}}, func(t *testing.T, b *brokertest.Broker) {
		saw := func(want ...string) {
			t.Helper()
			synctest.Wait()
			require.Equal(t, want, w.take())
		}
		p := brokertest.Durable("c")
		p.HasUserName, p.UserName = true, []byte("ann")
		c := b.Connect(p)
		saw(`session c of "ann" created`, `connected c 5.0`)
		c.SubscribeWith(packets.Subscribe{SubscriptionID: 9, Subscriptions: packets.Subscriptions(nil).
			Append(packets.Subscription{Filter: []byte("a/+"), QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 1}).
			Append(packets.Subscription{Filter: []byte("a#")}).
			Append(packets.Subscription{Filter: []byte("$share/g/b"), QoS: 1}),
		})
		saw(`subscribed c {Filter:a/+ QoS:QoS 2 NoLocal:true RetainAsPublished:true RetainHandling:1 Identifier:9}`,
			`subscribed c {Filter:$share/g/b QoS:QoS 1 NoLocal:false RetainAsPublished:false RetainHandling:0 Identifier:9}`)
		c.Unsubscribe("a/+", "never", "$share/g/b")
		saw(`unsubscribed c a/+`, `unsubscribed c $share/g/b`)
		c.PublishWith(packets.Publish{Topic: []byte("t"), Payload: []byte("m"), QoS: 2, Retain: true})
		saw(`published c t m QoS 2 true by c 5.0`)
		c.PublishWith(packets.Publish{Topic: []byte("$SYS/t"), QoS: 1})
		saw(`dropped  $SYS/t QoS 1 reserved topic`)

		second := b.Connect(p)
		c.ExpectDisconnect(packets.SessionTakenOver)
		saw2 := func(want ...string) { // two connections at once have no order
			t.Helper()
			synctest.Wait()
			require.ElementsMatch(t, want, w.take())
		}
		saw2(`session c of "ann" taken over`, `connected c 5.0`, `disconnected c session taken over`)
		second.Subscribe(packets.AtMostOnce, "t")
		second.ExpectPublish("t", "m")
		second.Leave(packets.NormalDisconnection)
		saw(`subscribed c {Filter:t QoS:QoS 0 NoLocal:false RetainAsPublished:false RetainHandling:0 Identifier:0}`, `disconnected c success`)
		hostPublishes(t, b, packets.AtMostOnce, "m")
		saw(`dropped c t QoS 0 offline`)
		third := b.Connect(p)
		saw(`session c of "ann" resumed`, `connected c 5.0`)
		third.SendRaw([]byte{0xC1, 0})
		third.ExpectDisconnect(packets.MalformedPacket)
		saw(`disconnected c malformed packet`)
		time.Sleep(2 * time.Hour)
		saw(`session c of "ann" expired`)

		old := fresh(packets.V311, "old")
		c = b.Connect(old)
		saw(`session old of "" created`, `connected old 3.1.1`)
		c.Publish("t", "m", packets.AtMostOnce)
		saw(`published old t m QoS 0 false by old 3.1.1`)
		c.Leave(packets.NormalDisconnection)
		saw(`session old of "" ended`, `disconnected old success`)
		b.Connect(brokertest.Durable("d")).Drop()
		saw2(`session d of "" created`, `connected d 5.0`, `disconnected d unspecified error`)
		b.Connect(brokertest.ID("d"))
		saw(`session d of "" discarded`, `session d of "" created`, `connected d 5.0`)
	})
}

// A message that an observer keeps does not change.
func TestObservedMessagesAreKept(t *testing.T) {
	var mu sync.Mutex
	var kept []*petrel.Message
	keep := publishObserver(func(_ *petrel.Client, m *petrel.Message) {
		mu.Lock()
		defer mu.Unlock()
		kept = append(kept, m)
	})
	seen := intercept(func(_ context.Context, r *petrel.PublishRequest) error {
		keep(nil, &petrel.Message{Topic: r.Message.Topic, Payload: r.Message.Payload, CorrelationData: r.Message.CorrelationData})
		return nil
	})
	for name, hook := range map[string]petrel.Hook{"observer": keep, "interceptor": seen} {
		for _, retain := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, retain %v", name, retain), func(t *testing.T) {
				kept = nil
				inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{hook}}, func(t *testing.T, b *brokertest.Broker) {
					pub := b.Connect(brokertest.ID("pub"))
					var batch []packets.Packet
					for i := range 100 {
						text := fmt.Appendf(nil, "m%02d", i)
						batch = append(batch, &packets.Publish{Topic: text, Payload: text, Retain: retain, Properties: packets.Properties(nil).AppendCorrelationData(text)})
					}
					pub.Send(batch...)
					for i := range 100 {
						pub.Publish(fmt.Sprintf("x%02d", i), fmt.Sprintf("x%02d", i), packets.AtMostOnce)
					}
					synctest.Wait()
					require.Len(t, kept, 200)
					for i, m := range kept[:100] {
						want := fmt.Sprintf("m%02d", i)
						require.Equal(t, []string{want, want, want}, []string{m.Topic, string(m.Payload), string(m.CorrelationData)})
					}
				})
			})
		}
	}
}

// panicker observes everything and can bear nothing.
type panicker struct{ times atomic.Int32 }

func (p *panicker) fall() {
	p.times.Add(1)
	panic("on purpose")
}
func (p *panicker) ClientConnected(*petrel.Client)                   { p.fall() }
func (p *panicker) ClientDisconnected(*petrel.Client, error)         { p.fall() }
func (p *panicker) SessionChanged(*petrel.SessionEvent)              { p.fall() }
func (p *panicker) Subscribed(*petrel.Client, petrel.Subscription)   { p.fall() }
func (p *panicker) Unsubscribed(*petrel.Client, string)              { p.fall() }
func (p *panicker) MessagePublished(*petrel.Client, *petrel.Message) { p.fall() }
func (p *panicker) MessageDropped(context.Context, *petrel.Drop)     { p.fall() }
func (p *panicker) PacketReceived(*petrel.Client, []byte)            { p.fall() }
func (p *panicker) PacketSent(*petrel.Client, []byte)                { p.fall() }

// An observer that panics harms nobody: not the client, and not the observers
// that come after it.
func TestPanickingObserverHarmsNobody(t *testing.T) {
	bad, w := new(panicker), new(witness)
	inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{bad, w}, Logger: silent()}, func(t *testing.T, b *brokertest.Broker) {
		sub, pub := b.Connect(brokertest.Durable("sub")), b.Connect(brokertest.ID("pub"))
		sub.Subscribe(packets.ExactlyOnce, "t", "u")
		require.Equal(t, []packets.ReasonCode{packets.Success}, sub.Unsubscribe("u"))
		for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
			pub.Publish("t", "m", qos)
			sub.Accept(sub.ExpectPublish("t", "m"))
		}
		sub.ExpectNothing()
		sub.Leave(packets.NormalDisconnection)
		pub.Publish("t", "lost", packets.AtMostOnce)
		pub.Publish("$SYS/t", "reserved", packets.AtLeastOnce)
		pub.Publish("t", "kept", packets.AtLeastOnce)
		sub = b.Connect(brokertest.Durable("sub"))
		sub.Accept(sub.ExpectPublish("t", "kept"))
		sub.ExpectNothing()
		pub.Leave(packets.NormalDisconnection)
		synctest.Wait()
		require.Len(t, w.take(), 19, "the observer behind it is told everything")
		require.Greater(t, bad.times.Load(), int32(19))
	})
}

// inside has a host's publication made by every kind of hook.
type inside struct {
	broker atomic.Pointer[petrel.Broker]
	kinds  sync.Map // of hooks that have published
}

// publish publishes the first time that a kind of hook is called.
func (h *inside) publish(ctx context.Context, kind string) {
	if b := h.broker.Load(); b != nil {
		if _, again := h.kinds.LoadOrStore(kind, true); !again {
			if err := b.Publish(ctx, petrel.Message{Topic: "inside/" + kind, Payload: []byte(kind), QoS: packets.AtLeastOnce}); err != nil {
				panic(err)
			}
		}
	}
}
func (h *inside) Authenticate(ctx context.Context, _ *petrel.ConnectRequest) error {
	h.publish(ctx, "authenticate")
	return nil
}
func (h *inside) Authorize(ctx context.Context, r *petrel.AccessRequest) error {
	h.publish(ctx, "authorize "+r.Action.String())
	r.CheckDeliveries = true
	return nil
}
func (h *inside) InterceptPublish(ctx context.Context, _ *petrel.PublishRequest) error {
	h.publish(ctx, "intercept publish")
	return nil
}
func (h *inside) InterceptSubscribe(ctx context.Context, r *petrel.SubscribeRequest) error {
	h.publish(ctx, "intercept subscribe")
	return nil
}
func (h *inside) InterceptDeliver(ctx context.Context, _ *petrel.DeliverRequest) error {
	h.publish(ctx, "intercept deliver")
	return nil
}
func (h *inside) SelectMember(ctx context.Context, _ *petrel.SelectRequest) int {
	h.publish(ctx, "select")
	return -1
}
func (h *inside) ClientConnected(*petrel.Client) { h.publish(context.Background(), "connected") }
func (h *inside) ClientDisconnected(*petrel.Client, error) {
	h.publish(context.Background(), "disconnected")
}
func (h *inside) SessionChanged(e *petrel.SessionEvent) {
	h.publish(context.Background(), "session "+e.Kind.String())
}
func (h *inside) Subscribed(*petrel.Client, petrel.Subscription) {
	h.publish(context.Background(), "subscribed")
}
func (h *inside) Unsubscribed(*petrel.Client, string) {
	h.publish(context.Background(), "unsubscribed")
}
func (h *inside) MessagePublished(*petrel.Client, *petrel.Message) {
	h.publish(context.Background(), "published")
}
func (h *inside) MessageDropped(ctx context.Context, _ *petrel.Drop) { h.publish(ctx, "dropped") }
func (h *inside) PacketReceived(*petrel.Client, []byte)              { h.publish(context.Background(), "received") }
func (h *inside) PacketSent(*petrel.Client, []byte)                  { h.publish(context.Background(), "sent") }

func TestPublishFromInsideHooks(t *testing.T) {
	h := new(inside)
	inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{h}}, func(t *testing.T, b *brokertest.Broker) {
		watcher := b.Connect(brokertest.ID("watcher"))
		watcher.Subscribe(packets.AtLeastOnce, "inside/#")
		h.broker.Store(b.Broker)
		c := b.Connect(brokertest.Durable("c"))
		c.Subscribe(packets.AtLeastOnce, "t", "$share/g/s")
		b.Connect(brokertest.ID("pub")).Publish("s", "m", packets.AtLeastOnce)
		c.ExpectPublish("s", "m")
		c.Unsubscribe("t")
		c.Subscribe(packets.AtMostOnce, "t")
		c.Leave(packets.NormalDisconnection)
		hostPublishes(t, b, packets.AtMostOnce, "m")
		b.Connect(brokertest.Durable("c")).Drop()
		b.Connect(brokertest.ID("c")).Drop()
		synctest.Wait()
		h.broker.Store(nil)
		var want, got []string
		h.kinds.Range(func(kind, _ any) bool {
			want = append(want, kind.(string))
			return true
		})
		for range want {
			m := brokertest.Expect[*packets.Publish](watcher)
			require.Equal(t, "inside/"+string(m.Payload), string(m.Topic))
			got = append(got, string(m.Payload))
		}
		require.ElementsMatch(t, want, got)
		require.ElementsMatch(t, []string{
			"authenticate", "authorize publish", "authorize subscribe", "authorize receive", "intercept publish", "intercept subscribe",
			"intercept deliver", "select", "connected", "disconnected", "session created", "session resumed", "session discarded", "session ended",
			"subscribed", "unsubscribed", "published", "dropped", "received", "sent",
		}, got)
	})
}

// Hooks that publish and are called because of that go round 8 times, and then
// are told.
func TestPublishingInACircle(t *testing.T) {
	const most = 8
	var b *brokertest.Broker
	var mu sync.Mutex
	var errs []error
	again := func(ctx context.Context) {
		err := b.Publish(ctx, petrel.Message{Topic: "t"})
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	circles := map[string]petrel.Hook{
		"drop observer": dropObserver(func(ctx context.Context, _ *petrel.Drop) { again(ctx) }),
		"authorizer of deliveries": accessInTime(func(ctx context.Context, r *petrel.AccessRequest) error {
			if r.CheckDeliveries = r.Action == petrel.Subscribe; r.Action == petrel.Receive {
				again(ctx)
			}
			return nil
		}),
		"interceptor of deliveries": deliverInterceptor(func(ctx context.Context, _ *petrel.DeliverRequest) error {
			again(ctx)
			return nil
		}),
	}
	for name, hook := range circles {
		for _, from := range []string{"host", "client"} {
			t.Run(name+", begun by the "+from, func(t *testing.T) {
				errs = nil
				inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{hook}, Logger: silent()}, func(t *testing.T, broker *brokertest.Broker) {
					b = broker
					sub, pub := b.Connect(brokertest.Durable("sub")), b.Connect(brokertest.ID("pub"))
					sub.Subscribe(packets.AtMostOnce, "t")
					sub.Drop() // what is published to it is dropped
					published := most
					if from == "host" {
						require.NoError(t, b.Publish(context.Background(), petrel.Message{Topic: "t"}))
					} else {
						pub.Publish("t", "", packets.AtMostOnce)
						published++ // the packet itself is none of the host's publications
					}
					synctest.Wait()
					require.Len(t, errs, published)
					for i, err := range errs { // the innermost ends first
						if i == 0 {
							require.ErrorIs(t, err, packets.ImplementationSpecificError)
							require.ErrorContains(t, err, "circle")
						} else {
							require.NoError(t, err)
						}
					}
				})
			})
		}
	}
}

type dropObserver func(ctx context.Context, d *petrel.Drop)

func (f dropObserver) MessageDropped(ctx context.Context, d *petrel.Drop) { f(ctx, d) }

type deliverInterceptor func(ctx context.Context, r *petrel.DeliverRequest) error

func (f deliverInterceptor) InterceptDeliver(ctx context.Context, r *petrel.DeliverRequest) error {
	return f(ctx, r)
}
