package petrel_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// comingBack is a client that would leave a will and a session.
func comingBack(p *packets.Connect) { p.CleanStart, p.SessionExpiryInterval = false, 60 }

// A client that says DISCONNECT and connects again at once has left, though its
// connections are handled side by side: what it said last is heard first.
func TestComingBackAtOnce(t *testing.T) {
	for name, engine := range map[string]petrel.Engine{"goroutines": petrel.GoroutineEngine, "loops": petrel.LoopEngine} {
		t.Run(name, func(t *testing.T) {
			if engine == petrel.LoopEngine && runtime.GOOS != "linux" {
				return // there are none
			}
			b := brokertest.New(t, petrel.Options{Engine: engine})
			w := watcher(b)
			const n = 200
			for range n {
				c, ack := b.TryConnect(withWill(packets.V5, comingBack))
				require.False(t, ack.SessionPresent)
				c.Send(&packets.Publish{Topic: []byte("t"), Payload: []byte("last words")},
					&packets.Disconnect{HasSessionExpiryInterval: true})
				c.Conn.Close()
			}
			b.Connect(withWill(packets.V5))
			for range n {
				w.ExpectPublish("t", "last words")
			}
			w.ExpectNothing() // no will
			require.Zero(t, b.Stats().TakenOver)
		})
	}
}

// holdUp is a PublishInterceptor that waits for as long as a message says.
type holdUp struct{}

func (holdUp) InterceptPublish(_ context.Context, r *petrel.PublishRequest) error {
	if wait, err := time.ParseDuration(string(r.Message.Payload)); err == nil {
		time.Sleep(wait)
	}
	return nil
}

// A predecessor whose packets are still being handled is waited for, but not for long.
func TestComingBackWhileAHookHoldsUp(t *testing.T) {
	for _, tt := range []struct {
		name, wait string
		present    bool
		takenOver  uint64
		longest    time.Duration
	}{
		{"until it has left", "100ms", false, 0, 110 * time.Millisecond},
		{"no longer than it may take", "2s", true, 1, 260 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{holdUp{}}}, func(t *testing.T, b *brokertest.Broker) {
				old := b.Connect(withWill(packets.V5, comingBack))
				old.Send(&packets.Publish{Topic: []byte("t"), Payload: []byte(tt.wait)},
					&packets.Disconnect{HasSessionExpiryInterval: true})
				start := time.Now()
				_, ack := b.TryConnect(withWill(packets.V5, comingBack))
				require.Equal(t, tt.present, ack.SessionPresent)
				require.LessOrEqual(t, time.Since(start), tt.longest)
				require.Equal(t, tt.takenOver, b.Stats().TakenOver)
				old.Served()
			})
		})
	}
}
