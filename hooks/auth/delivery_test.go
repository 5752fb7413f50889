package auth_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// counted is an authorizer that counts how often it is asked whether a client may receive.
func counted(a petrel.Authorizer, n *atomic.Int64) petrel.Authorizer {
	return petrel.AuthorizerFunc(func(ctx context.Context, r *petrel.AccessRequest) error {
		if r.Action == petrel.Receive {
			n.Add(1)
		}
		return a.Authorize(ctx, r)
	})
}

// Where one right covers all of a filter, nobody is asked about deliveries: live,
// retained, shared, or to a session that comes back.
func TestDeliveriesInsideARightAskNobody(t *testing.T) {
	const messages = 20
	for _, tt := range []struct {
		name, rule, filter string
		asks               bool
	}{
		{"inside", "topic read home/#", "home/+", false},
		{"the right itself", "topic read home/#", "home/#", false},
		{"of its own", "pattern read +/%u", "home/bob", false},
		{"shared", "topic read home/#", "$share/g/home/+", false},
		{"everything", "topic read #", "#", false},
		{"a denial elsewhere", "topic read home/#\ntopic deny office/#", "home/+", false},
		{"wider", "topic read home/#", "+/bob", true},
		{"wider, shared", "topic read home/#", "$share/g/#", true},
		{"a denial in it", "topic read home/#\ntopic deny home/safe", "home/+", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked atomic.Int64
			acl := aclFile(t, "user bob", tt.rule)
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{counted(acl, &asked), auth.AllowAll{}}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
			send := func() {
				for i := range messages {
					require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "home/bob", QoS: packets.AtLeastOnce, Payload: fmt.Append(nil, i), Retain: true}))
				}
			}
			read := func(c *brokertest.Client, n int) {
				for range n {
					p := brokertest.Expect[*packets.Publish](c)
					c.Accept(p)
				}
				c.ExpectNothing()
			}
			p := as(packets.V5, "c", "bob")
			p.CleanStart, p.SessionExpiryInterval = false, 3600
			send()
			c := b.Connect(p)
			c.Subscribe(packets.AtLeastOnce, tt.filter)
			if tt.filter[0] != '$' {
				read(c, 1) // what is retained, which a shared subscription gets none of
			}
			send()
			read(c, messages)
			c.Drop()
			send()
			read(b.Connect(p), messages)
			if tt.asks {
				assert.GreaterOrEqual(t, asked.Load(), int64(2*messages))
			} else {
				assert.Zero(t, asked.Load())
			}
		})
	}
}

// offline is a broker with a session that nobody uses: a message for it is routed,
// and dropped.
func offline(t testing.TB, filter string, rules ...string) *brokertest.Broker {
	o := petrel.Options{Hooks: []petrel.Hook{auth.AllowAll{}}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if len(rules) > 0 {
		o.Hooks = append(o.Hooks, aclFile(t, rules...))
	}
	b := brokertest.New(t, o)
	p := brokertest.Durable("c")
	c := b.Connect(p)
	c.Subscribe(packets.AtMostOnce, filter)
	c.Drop()
	return b
}

// deliveries are ways to decide on the filter home/+.
var deliveries = []struct {
	name  string
	rules []string
}{
	{"without rights", nil},
	{"inside a right", []string{"topic read home/#"}},
	{"checked", []string{"topic read home/#", "topic deny home/safe"}},
}

func TestDeliveriesInsideARightAllocateNothing(t *testing.T) {
	var allocations []float64
	for _, d := range deliveries {
		b := offline(t, "home/+", d.rules...)
		m := petrel.Message{Topic: "home/light", Payload: []byte("on")}
		least := math.Inf(1)
		for range 200 { // in some of them a pool has nothing
			least = min(least, testing.AllocsPerRun(1, func() {
				if err := b.Publish(context.Background(), m); err != nil {
					t.Fatal(err)
				}
			}))
		}
		allocations = append(allocations, least)
	}
	assert.Equal(t, allocations[0], allocations[1], "no more than without an authorizer")
	assert.Greater(t, allocations[2], allocations[0], "which is what a check costs")
}

func BenchmarkDelivery(b *testing.B) {
	for _, d := range deliveries {
		b.Run(d.name, func(b *testing.B) {
			broker := offline(b, "home/+", d.rules...)
			m := petrel.Message{Topic: "home/light", Payload: []byte("on")}
			b.ReportAllocs()
			for b.Loop() {
				if err := broker.Publish(context.Background(), m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
