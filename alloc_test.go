package petrel_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// A QoS 0 message costs no allocation on its way from socket to socket.
func TestForwardingDoesNotAllocate(t *testing.T) {
	const chunk = 100
	chunks, most := 100, 0.01
	if underRaceDetector() {
		chunks, most = 10, 20 // it makes pools forget at random
	}
	properties := packets.Properties(nil).AppendContentType("text/plain").AppendUserProperty("name", "value").AppendUserProperty("name", "again")
	for _, c := range []struct {
		name        string
		version     packets.Version // of the publisher
		subscriber  packets.Version
		subscribers int
		publish     packets.Publish
		arrives     packets.Publish // zero if it is the same
	}{
		{"3.1.1 to one", packets.V311, packets.V311, 1, packets.Publish{Topic: []byte("a/b"), Payload: []byte("payload")}, packets.Publish{}},
		{"5.0 to one", packets.V5, packets.V5, 1, packets.Publish{Topic: []byte("a/b"), Payload: []byte("payload")}, packets.Publish{}},
		{"5.0 to ten", packets.V5, packets.V5, 10, packets.Publish{Topic: []byte("a/b"), Payload: []byte("payload")}, packets.Publish{}},
		{"3.1.1 to ten", packets.V311, packets.V311, 10, packets.Publish{Topic: []byte("a/b"), Payload: []byte("payload")}, packets.Publish{}},
		{
			"5.0 with user properties", packets.V5, packets.V5, 1,
			packets.Publish{Topic: []byte("a/b"), Payload: []byte("payload"), Properties: properties}, packets.Publish{},
		},
		{
			"5.0 with user properties to ten", packets.V5, packets.V5, 10,
			packets.Publish{Topic: []byte("a/b"), Payload: []byte("payload"), Properties: properties}, packets.Publish{},
		},
		{
			"5.0 with user properties to ten of 3.1.1", packets.V5, packets.V311, 10,
			packets.Publish{Topic: []byte("a/b"), Payload: []byte("payload"), Properties: properties},
			packets.Publish{Topic: []byte("a/b"), Payload: []byte("payload")},
		},
		{
			"5.0 by a topic alias", packets.V5, packets.V5, 1,
			packets.Publish{Topic: []byte("a/b"), Payload: []byte("payload"), HasTopicAlias: true, TopicAlias: 1},
			packets.Publish{Topic: []byte("a/b"), Payload: []byte("payload")},
		},
		{
			"payloads of 1,000 bytes", packets.V5, packets.V5, 1,
			packets.Publish{Topic: []byte("a/b"), Payload: make([]byte, 1000)}, packets.Publish{},
		},
		{
			"QoS 1 for subscribers of QoS 0", packets.V5, packets.V5, 1,
			packets.Publish{Topic: []byte("a/b"), Payload: []byte("payload"), QoS: 1, PacketID: 1},
			packets.Publish{Topic: []byte("a/b"), Payload: []byte("payload")},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{Logger: silent()})
			addr := serveTCP(t, b.Broker)
			subs := make([]net.Conn, c.subscribers)
			for i := range subs {
				subs[i] = dialMQTT(t, addr, packets.Connect{Version: c.subscriber, ClientID: fmt.Appendf(nil, "sub%d", i), CleanStart: true})
				subscribeMQTT(t, subs[i], c.subscriber, "a/+", packets.AtMostOnce)
			}
			pub := dialMQTT(t, addr, packets.Connect{Version: c.version, ClientID: []byte("pub"), CleanStart: true})
			out := repeated(t, &c.publish, c.version, chunk)
			if c.arrives.Topic == nil {
				c.arrives = c.publish
			}
			in := repeated(t, &c.arrives, c.subscriber, chunk)
			got := make([]byte, len(in))
			acks := make([]byte, 0)
			if c.publish.QoS > 0 {
				acks = repeated(t, &packets.Puback{PacketID: 1}, c.version, chunk)
			}
			send := func() {
				if _, err := pub.Write(out); err != nil {
					t.Fatal(err)
				}
				for _, sub := range subs {
					if _, err := io.ReadFull(sub, got); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := io.ReadFull(pub, acks); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 * chunks {
				send()
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range chunks {
				send()
			}
			runtime.ReadMemStats(&after)
			require.True(t, bytes.Equal(in, got), "what arrives is what was published")
			per := float64(after.Mallocs-before.Mallocs) / float64(chunk*chunks)
			require.Less(t, per, most, "allocations for each message")
		})
	}
}

// The payload of a large QoS 0 message is sent from where it was read, and so are
// those that follow.
func TestForwardingLargePayloadsDoesNotCopy(t *testing.T) {
	const size, n = 100_000, 200
	b := brokertest.New(t, petrel.Options{Logger: silent()})
	addr := serveTCP(t, b.Broker)
	subs := make([]net.Conn, 3)
	for i := range subs {
		subs[i] = dialMQTT(t, addr, packets.Connect{Version: packets.V5, ClientID: fmt.Appendf(nil, "sub%d", i), CleanStart: true})
		subscribeMQTT(t, subs[i], packets.V5, "a/b", packets.AtMostOnce)
	}
	pub := dialMQTT(t, addr, packets.Connect{Version: packets.V5, ClientID: []byte("pub"), CleanStart: true})
	out := repeated(t, &packets.Publish{Topic: []byte("a/b"), Payload: bytes.Repeat([]byte("x"), size)}, packets.V5, 1)
	got := make([]byte, len(out))
	send := func() {
		_, err := pub.Write(out)
		require.NoError(t, err)
		for _, sub := range subs {
			_, err := io.ReadFull(sub, got)
			require.NoError(t, err)
		}
		require.True(t, bytes.Equal(out, got))
	}
	var before, after runtime.MemStats
	for range n {
		send()
	}
	runtime.ReadMemStats(&before)
	for range n {
		send()
	}
	runtime.ReadMemStats(&after)
	most := size / 10
	if underRaceDetector() {
		most = 20 * size // it makes pools forget at random
	}
	require.Less(t, int(after.TotalAlloc-before.TotalAlloc)/n, most, "bytes allocated for each message")
}

// repeated is the wire form of p, n times.
func repeated(t testing.TB, p packets.Packet, v packets.Version, n int) []byte {
	t.Helper()
	one, err := p.AppendTo(nil, v)
	require.NoError(t, err)
	return slices.Repeat(one, n)
}

// underRaceDetector reports whether this is a build with -race.
func underRaceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// dialMQTT connects over TCP until the test ends.
func dialMQTT(t testing.TB, addr string, p packets.Connect) net.Conn {
	t.Helper()
	conn := openMQTT(t, addr, p)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// openMQTT connects over TCP, in a form that costs nothing afterwards. It
// returns when CONNACK has come.
func openMQTT(t testing.TB, addr string, p packets.Connect) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Minute)))
	sendMQTT(t, conn, p.Version, &p)
	var ack packets.Connack
	receiveMQTT(t, conn, p.Version, &ack)
	require.Equal(t, packets.Success, ack.Reason)
	return conn
}

func sendMQTT(t testing.TB, conn net.Conn, v packets.Version, list ...packets.Packet) {
	t.Helper()
	var b []byte
	var err error
	for _, p := range list {
		b, err = p.AppendTo(b, v)
		require.NoError(t, err)
	}
	_, err = conn.Write(b)
	require.NoError(t, err)
}

// receiveMQTT reads one packet, and no byte more, into p.
func receiveMQTT(t testing.TB, conn net.Conn, v packets.Version, p packets.Packet) {
	t.Helper()
	var b []byte
	for {
		var one [1]byte
		_, err := io.ReadFull(conn, one[:])
		require.NoError(t, err)
		b = append(b, one[0])
		h, n, err := packets.DecodeHeader(b)
		require.NoError(t, err)
		if n == 0 {
			continue
		}
		body := make([]byte, h.Remaining)
		_, err = io.ReadFull(conn, body)
		require.NoError(t, err)
		require.Equal(t, p.Type(), h.Type)
		require.NoError(t, p.Decode(h.Flags, body, v))
		return
	}
}

func subscribeMQTT(t testing.TB, conn net.Conn, v packets.Version, filter string, qos packets.QoS) {
	t.Helper()
	s := packets.Subscription{Filter: []byte(filter), QoS: qos}
	sendMQTT(t, conn, v, &packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(s)})
	var ack packets.Suback
	receiveMQTT(t, conn, v, &ack)
	require.Equal(t, []packets.ReasonCode{packets.ReasonCode(qos)}, ack.Reasons)
}
