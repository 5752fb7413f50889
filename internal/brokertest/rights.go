package brokertest

import (
	"slices"
	"testing"

	"github.com/petrelmq/petrel/packets"
)

// The rights of which [CheckRights] knows what they allow.
var (
	RightsToPublish   = []string{"out/%c", "u/%u"}
	RightsToSubscribe = []string{"in/%c/#", "news"}
)

// CheckRights checks that c, the client "c" of the user "alice", may do what
// [RightsToPublish] and [RightsToSubscribe] say, and nothing else. The client root
// may do everything.
func CheckRights(t *testing.T, root, c *Client) {
	t.Helper()
	root.Subscribe(packets.AtMostOnce, "#")
	for _, tt := range []struct {
		topic   string
		allowed bool
	}{{"out/c", true}, {"u/alice", true}, {"out/d", false}, {"u/bob", false}, {"news", false}, {"in/c/x", false}} {
		c.Publish(tt.topic, "x", packets.AtMostOnce)
		if tt.allowed {
			root.ExpectPublish(tt.topic, "x")
		}
		c.ExpectNothing() // it is handled
		root.ExpectNothing()
	}
	root.Unsubscribe("#")
	refused := packets.NotAuthorized
	if c.version != packets.V5 {
		refused = packets.UnspecifiedError
	}
	for _, tt := range []struct {
		filter string
		code   packets.ReasonCode
	}{{"in/c/+", packets.GrantedQoS0}, {"out/#", refused}, {"in/d/x", refused}, {"+", packets.GrantedQoS0}, {"#", packets.GrantedQoS0}} {
		codes := c.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions{}.Append(packets.Subscription{Filter: []byte(tt.filter)})})
		if !slices.Equal(codes, []packets.ReasonCode{tt.code}) {
			t.Fatalf("a subscription to %s was answered with %v; want %v", tt.filter, codes, tt.code)
		}
	}
	for _, topic := range []string{"in/d/x", "secret", "out/c", "news", "in/c/x"} {
		root.Publish(topic, "y", packets.AtLeastOnce)
	}
	c.ExpectPublish("news", "y")
	c.ExpectPublish("in/c/x", "y")
	c.ExpectNothing()
}
