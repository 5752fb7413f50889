package petrel_test

import (
	"testing"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// The way of a message through every QoS, version by version.
func TestPublishReachesSubscriber(t *testing.T) {
	for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
		for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
			t.Run(v.String()+" "+qos.String(), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				sub := b.Connect(packets.Connect{Version: v, ClientID: []byte("sub"), CleanStart: true})
				pub := b.Connect(packets.Connect{Version: v, ClientID: []byte("pub"), CleanStart: true})
				sub.Subscribe(qos, "a/+")
				pub.Publish("a/b", "hello", qos)
				p := sub.ExpectPublish("a/b", "hello")
				if p.QoS != qos || p.Retain || p.Dup {
					t.Errorf("got %v, retain %v, dup %v; want %v", p.QoS, p.Retain, p.Dup, qos)
				}
				sub.Accept(p)
				sub.ExpectNothing()
			})
		}
	}
}
