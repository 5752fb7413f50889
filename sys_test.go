package petrel_test

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// sysNames are all topics below $SYS/broker.
func sysNames() []string {
	names := []string{
		"version", "uptime", "heap/current", "heap/maximum", "store/messages/count", "store/messages/bytes", "messages/stored", "messages/inflight",
		"clients/total", "clients/connected", "clients/active", "clients/disconnected", "clients/inactive", "clients/maximum", "clients/expired",
		"messages/received", "messages/sent", "bytes/received", "bytes/sent",
		"publish/messages/received", "publish/messages/sent", "publish/messages/dropped", "publish/bytes/received", "publish/bytes/sent",
		"subscriptions/count", "shared_subscriptions/count", "retained messages/count",
	}
	for _, load := range []string{
		"messages/received", "messages/sent", "publish/received", "publish/sent", "publish/dropped", "bytes/received", "bytes/sent", "connections", "sockets",
	} {
		for _, minutes := range []int{1, 5, 15} {
			names = append(names, fmt.Sprintf("load/%s/%dmin", load, minutes))
		}
	}
	return names
}

// sysValues are the retained values below $SYS/broker.
func sysValues(b *brokertest.Broker) map[string]string {
	values := make(map[string]string)
	for m := range b.Retained("$SYS/#") {
		values[strings.TrimPrefix(m.Topic, "$SYS/broker/")] = string(m.Payload)
	}
	return values
}

// sysBroker runs f in a bubble with a broker that publishes every ten seconds.
func sysBroker(t *testing.T, f func(t *testing.T, b *brokertest.Broker)) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{SysInterval: 10 * time.Second})
		defer b.Close()
		synctest.Wait()
		f(t, b)
	})
}

// nextSys waits until the tree has been published again.
func nextSys() {
	time.Sleep(10*time.Second + 100*time.Millisecond)
	synctest.Wait()
}

func TestSysNames(t *testing.T) {
	sysBroker(t, func(t *testing.T, b *brokertest.Broker) {
		nextSys()
		values := sysValues(b)
		var got []string
		for name, value := range values {
			got = append(got, name)
			switch {
			case name == "version":
				require.Regexp(t, `^petrel \S+$`, value)
			case name == "uptime":
				require.Regexp(t, `^1\d seconds$`, value)
			case strings.HasPrefix(name, "load/"):
				require.Regexp(t, `^\d+\.\d\d$`, value, name)
			default:
				require.Regexp(t, `^\d+$`, value, name)
			}
		}
		require.ElementsMatch(t, sysNames(), got)
		require.Equal(t, len(got), b.Stats().Retained)
	})
}

func TestSysValuesAreThoseOfStats(t *testing.T) {
	sysBroker(t, func(t *testing.T, b *brokertest.Broker) {
		sub := b.Connect(brokertest.Durable("sub"))
		sub.Subscribe(1, "a/#", "$share/g/a/#")
		gone := b.Connect(packets.Connect{ClientID: []byte("gone"), SessionExpiryInterval: 2})
		away := b.Connect(brokertest.Durable("away"))
		away.Subscribe(1, "a/#")
		gone.Drop()
		away.Drop()
		p := b.Connect(brokertest.ID("p"))
		for range 3 {
			p.Publish("a/b", "hello", packets.AtLeastOnce)
		}
		p.Publish("a/b", "to nobody who is away", packets.AtMostOnce)
		p.PublishWith(packets.Publish{Topic: []byte("kept"), Payload: []byte("r"), Retain: true})
		arrived(t, sub)
		nextSys()
		nextSys() // its own retained messages have settled
		s, values := b.Stats(), sysValues(b)
		require.Equal(t, 2, s.ClientsConnected)
		require.Equal(t, uint64(1), s.SessionsExpired)
		for name, want := range map[string]uint64{
			"clients/total": 3, "clients/connected": 2, "clients/active": 2, "clients/disconnected": 1, "clients/inactive": 1,
			"clients/maximum": 3, "clients/expired": 1,
			"messages/received": s.PacketsReceived, "messages/sent": s.PacketsSent, "bytes/received": s.BytesReceived, "bytes/sent": s.BytesSent,
			"publish/messages/received": 5, "publish/messages/sent": 8, "publish/messages/dropped": 1,
			"publish/bytes/received": s.PublishBytesReceived, "publish/bytes/sent": s.PublishBytesSent,
			"subscriptions/count": 3, "shared_subscriptions/count": 1, "retained messages/count": uint64(s.Retained),
			"store/messages/bytes": uint64(s.MessageBytes),
		} {
			if name == "store/messages/bytes" { // its own values have changed in length since
				got, err := strconv.ParseInt(values[name], 10, 64)
				require.NoError(t, err)
				require.InDelta(t, want, got, 100)
				continue
			}
			require.Equal(t, fmt.Sprint(want), values[name], name)
		}
		require.Equal(t, fmt.Sprintf("%d seconds", int((s.Uptime-100*time.Millisecond).Seconds())), values["uptime"])
	})
}

// What sessions hold is counted from what they hold, in the store as in memory.
func TestSysCountsTheMessagesOfSessions(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		b := m.start(petrel.Options{Logger: silent(), SysInterval: 10 * time.Second, MemoryLimit: 1 << 20})
		const queued, inflight = 3000, 2 // of which a part leaves memory
		away := b.Connect(brokertest.Durable("away"))
		away.Subscribe(packets.AtLeastOnce, "a")
		away.Drop()
		p := b.Connect(brokertest.ID("p"))
		slow := b.Connect(brokertest.Durable("slow"))
		slow.Subscribe(packets.ExactlyOnce, "b")
		var open []*packets.Publish
		for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
			p.Publish("b", "x", qos)
			open = append(open, slow.ExpectPublish("b", "x"))
		}
		for range queued {
			p.Publish("a", strings.Repeat("x", 500), packets.AtLeastOnce)
		}
		check := func(queued, inflight int) {
			t.Helper()
			nextSys()
			values := sysValues(b)
			all := fmt.Sprint(queued + inflight + b.Stats().Retained)
			require.Equal(t, []string{all, all, fmt.Sprint(inflight)}, []string{values["store/messages/count"], values["messages/stored"], values["messages/inflight"]})
		}
		nextSys() // which retains what is below $SYS
		require.Less(t, b.Stats().MessageBytes, int64(queued*500), "some are in the store only")
		check(queued, inflight)
		for _, publish := range open[1:] {
			slow.Accept(publish)
		}
		check(queued, 0)
		b.Connect(packets.Connect{ClientID: []byte("away"), CleanStart: true})
		check(0, 0)
	})
}

func TestSysHeapMaximumIsTheMostThatWasSeen(t *testing.T) {
	sysBroker(t, func(t *testing.T, b *brokertest.Broker) {
		heap := func(name string) int {
			n, err := strconv.Atoi(sysValues(b)["heap/"+name])
			require.NoError(t, err)
			return n
		}
		runtime.GC()
		nextSys()
		most := heap("current")
		ballast := make([]byte, 64<<20)
		nextSys()
		require.GreaterOrEqual(t, heap("maximum"), most+len(ballast)/2)
		most = heap("maximum")
		runtime.KeepAlive(ballast)
		runtime.GC()
		nextSys()
		require.Less(t, heap("current"), most)
		require.Equal(t, most, heap("maximum"))
	})
}

// A connection counts when it comes, with a CONNECT that is accepted or without.
func TestSysLoadOfSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{SysInterval: time.Minute, ConnectTimeout: time.Second})
		defer b.Close()
		time.Sleep(time.Second) // the first round has been
		b.Connect(brokertest.ID("c"))
		for range 3 {
			b.Dial(packets.V5)
		}
		time.Sleep(time.Minute)
		values, weight := sysValues(b), 1-math.Exp(-1)
		require.Equal(t, uint64(4), b.Stats().ConnectionsOpened)
		require.Equal(t, fmt.Sprintf("%.2f", weight), values["load/connections/1min"])
		require.Equal(t, fmt.Sprintf("%.2f", 4*weight), values["load/sockets/1min"])
	})
}

func TestSysPublishesOnlyWhatHasChanged(t *testing.T) {
	sysBroker(t, func(t *testing.T, b *brokertest.Broker) {
		watcher := b.Connect(brokertest.ID("watcher"))
		nextSys()
		watcher.Subscribe(0, "$SYS/broker/clients/#", "$SYS/broker/version")
		for _, m := range arrived(t, watcher) {
			require.True(t, m.Retain)
		}
		for range 3 {
			nextSys()
			watcher.ExpectNothing()
		}
		other := b.Connect(brokertest.Durable("other"))
		nextSys()
		got := make(map[string]string)
		for _, m := range arrived(t, watcher) {
			require.False(t, m.Retain, "live")
			got[strings.TrimPrefix(string(m.Topic), "$SYS/broker/clients/")] = string(m.Payload)
		}
		require.Equal(t, map[string]string{"total": "2", "connected": "2", "active": "2", "maximum": "2"}, got)
		other.Drop()
		nextSys()
		got = make(map[string]string)
		for _, m := range arrived(t, watcher) {
			got[strings.TrimPrefix(string(m.Topic), "$SYS/broker/clients/")] = string(m.Payload)
		}
		require.Equal(t, map[string]string{"connected": "1", "active": "1", "disconnected": "1", "inactive": "1"}, got)
	})
}

func TestSysLoadIsAMovingAverage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{SysInterval: time.Minute})
		defer b.Close()
		p := b.Connect(brokertest.ID("p"))
		time.Sleep(time.Second)
		for range 120 {
			p.Publish("a", "x", packets.AtMostOnce)
		}
		rate := func(over int) float64 {
			f, err := strconv.ParseFloat(sysValues(b)[fmt.Sprintf("load/publish/received/%dmin", over)], 64)
			require.NoError(t, err)
			return f
		}
		for minute := range 3 {
			time.Sleep(time.Minute)
			for _, over := range []int{1, 5, 15} {
				n := float64(over)
				want := 120 * (1 - math.Exp(-1/n)) * math.Exp(-float64(minute)/n)
				require.InDelta(t, want, rate(over), want/50, "minute %d, average over %d", minute, over)
			}
		}
	})
}

func TestSysIsNotMatchedByLeadingWildcards(t *testing.T) {
	sysBroker(t, func(t *testing.T, b *brokertest.Broker) {
		nextSys()
		c := b.Connect(brokertest.ID("c"))
		c.Subscribe(0, "#", "+/broker/#", "+/+/uptime", "$share/g/#")
		c.ExpectNothing()
		nextSys()
		c.ExpectNothing()
		c.Subscribe(0, "$SYS/broker/uptime")
		require.True(t, brokertest.Expect[*packets.Publish](c).Retain)
		nextSys()
		require.False(t, brokertest.Expect[*packets.Publish](c).Retain)
		c.ExpectNothing()
	})
}

func TestSysIsReservedForTheBroker(t *testing.T) {
	for _, topic := range []string{"$SYS/broker/uptime", "$SYS/mine", "$SYS"} {
		for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
			t.Run(fmt.Sprint(topic, " with ", qos), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				watcher := b.Connect(brokertest.ID("watcher"))
				watcher.Subscribe(0, "$SYS/#")
				c := b.Connect(brokertest.ID("c"))
				code := c.PublishWith(packets.Publish{Topic: []byte(topic), Payload: []byte("forged"), QoS: qos, Retain: true})
				require.False(t, code.IsError(), "it is acknowledged, got %v", code)
				watcher.ExpectNothing()
				require.Zero(t, b.Stats().Retained)
				require.Equal(t, map[petrel.DropReason]uint64{petrel.DropReserved: 1}, b.Stats().Dropped)
			})
		}
	}
}

func TestSysInterval(t *testing.T) {
	for _, tc := range []struct {
		name     string
		interval time.Duration
		rounds   int // in 60.5 seconds
	}{{"zero is 10 seconds", 0, 6}, {"20 seconds", 20 * time.Second, 3}, {"negative is off", -1, 0}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, err := petrel.New(petrel.Options{SysInterval: tc.interval, Hooks: []petrel.Hook{admitAll{}}})
				require.NoError(t, err)
				defer b.Close()
				synctest.Wait()
				require.Equal(t, tc.rounds > 0, b.Stats().Retained > 0, "at once")
				rounds, last := 0, ""
				for range 605 {
					time.Sleep(100 * time.Millisecond)
					synctest.Wait()
					for m := range b.Retained("$SYS/broker/uptime") {
						if now := string(m.Payload); now != last && now != "0 seconds" {
							last = now
							rounds++
						}
					}
				}
				require.Equal(t, tc.rounds, rounds)
			})
		})
	}
}

// What $SYS counts begins with the process, as its uptime does; what it says of the
// state is that of the store.
func TestSysAfterARestart(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		o := petrel.Options{Logger: silent(), SysInterval: 10 * time.Second}
		b := m.start(o)
		c := b.Connect(brokertest.Durable("c"))
		c.Subscribe(packets.AtLeastOnce, "a", "b")
		c.PublishWith(packets.Publish{Topic: []byte("kept"), Payload: []byte("x"), QoS: 1, Retain: true})
		time.Sleep(11 * time.Second)
		require.Equal(t, "1", sysValues(b)["publish/messages/received"])
		b = m.restart(o)
		time.Sleep(time.Second)
		got := sysValues(b)
		for topic, want := range map[string]string{
			"publish/messages/received": "0", "messages/received": "0", "bytes/received": "0", "clients/maximum": "0", "uptime": "0 seconds",
			"clients/total": "1", "clients/disconnected": "1", "subscriptions/count": "2",
		} {
			require.Equal(t, want, got[topic], topic)
		}
		require.Len(t, slices.Collect(b.Retained("kept")), 1)
		for key := range m.disk.Records() {
			require.NotContains(t, key, "$SYS")
		}
	})
}
