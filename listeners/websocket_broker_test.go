package listeners_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/listeners"
	"github.com/petrelmq/petrel/packets"
)

// onMux starts a broker whose WebSocket is one route of a host with others.
func onMux(t *testing.T, o petrel.Options) (broker *brokertest.Broker, host *httptest.Server) {
	t.Helper()
	broker = brokertest.New(t, o)
	ws := listeners.NewWebSocket(listeners.WebSocketOptions{Logger: slog.New(slog.DiscardHandler), TrustedProxies: proxies})
	mux := http.NewServeMux()
	mux.Handle("/mqtt", ws)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a page") })
	host = httptest.NewServer(mux)
	t.Cleanup(host.Close)
	served := make(chan error, 1)
	go func() { served <- broker.Serve(ws) }()
	t.Cleanup(func() {
		require.NoError(t, broker.Close())
		require.ErrorIs(t, receive(t, served), petrel.ErrBrokerClosed)
	})
	return broker, host
}

// cutter is a client's connection that carries each Write in frames, fragments
// and pieces that have nothing to do with the packets in it.
type cutter struct {
	*rawClient
	mu     sync.Mutex // guards rnd, and keeps Writes whole
	rnd    *rand.Rand
	unread []byte
}

func newCutter(t *testing.T, host *httptest.Server, seed uint64) *cutter {
	t.Helper()
	return &cutter{rawClient: upgrade(t, dialTCP(t, host.Listener.Addr().String())), rnd: rand.New(rand.NewPCG(seed, 1))}
}

func (c *cutter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for stream := randomFrames(c.rnd, p); len(stream) > 0; {
		n := min(len(stream), 1+c.rnd.IntN(1<<c.rnd.IntN(14)))
		if _, err := c.rawClient.Write(stream[:n]); err != nil {
			return 0, err
		}
		stream = stream[n:]
	}
	return len(p), nil
}

func (c *cutter) Read(p []byte) (int, error) {
	for len(c.unread) == 0 {
		first, payload, err := c.rawClient.read()
		switch {
		case err != nil:
			return 0, err
		case first == fin|closeFrame:
			return 0, io.EOF
		case first != fin|binaryFrame:
			return 0, fmt.Errorf("frame %#x from the server", first)
		}
		c.unread = payload
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

func connectBytes(t *testing.T, v packets.Version, id string) []byte {
	t.Helper()
	p := packets.Connect{Version: v, ClientID: []byte(id), CleanStart: true}
	b, err := p.AppendTo(nil, v)
	require.NoError(t, err)
	return b
}

// CVE-2026-25627: packets that are longer or shorter than the frames around them.
func TestWebSocketRandomCutsThroughABroker(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	_, host := onMux(t, petrel.Options{})
	for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
		t.Run(v.String(), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, uint64(v)))
			sub := brokertest.NewClient(t, newCutter(t, host, rnd.Uint64()), v)
			sub.SendRaw(connectBytes(t, v, "sub"))
			brokertest.Expect[*packets.Connack](sub)
			sub.Subscribe(packets.ExactlyOnce, "cut/#")

			const messages = 300
			stream := connectBytes(t, v, "pub")
			want := map[string][]string{} // payloads of each topic
			for i := range messages {
				qos := packets.QoS(i % 3)
				topic := fmt.Sprintf("cut/%d", qos)
				p := packets.Publish{Topic: []byte(topic), QoS: qos, Payload: make([]byte, rnd.IntN(1<<rnd.IntN(17)))}
				if qos > 0 {
					p.PacketID = uint16(1 + i)
				}
				for j := range p.Payload {
					p.Payload[j] = byte(rnd.Uint32())
				}
				want[topic] = append(want[topic], string(p.Payload))
				var err error
				stream, err = p.AppendTo(stream, v)
				require.NoError(t, err)
			}
			pub := brokertest.NewClient(t, newCutter(t, host, rnd.Uint64()), v)
			sent := make(chan struct{})
			go func() { // all of it in one go: what is cut is the stream
				defer close(sent)
				pub.SendRaw(stream)
			}()
			got := map[string][]string{}
			for n := 0; n < messages || len(got["complete"]) < messages/3; {
				switch p := sub.Receive().(type) {
				case *packets.Publish:
					n++
					got[string(p.Topic)] = append(got[string(p.Topic)], string(p.Payload))
					switch p.QoS {
					case packets.AtLeastOnce:
						sub.Send(&packets.Puback{PacketID: p.PacketID})
					case packets.ExactlyOnce:
						sub.Send(&packets.Pubrec{PacketID: p.PacketID})
					}
				case *packets.Pubrel:
					got["complete"] = append(got["complete"], "")
					sub.Send(&packets.Pubcomp{PacketID: p.PacketID})
				default:
					t.Fatalf("got %T", p)
				}
			}
			for topic, payloads := range want {
				require.True(t, slices.Equal(payloads, got[topic]), "%s: messages came through changed", topic)
			}
			brokertest.Expect[*packets.Connack](pub)
			for i := range messages {
				switch packets.QoS(i % 3) {
				case packets.AtLeastOnce:
					require.EqualValues(t, 1+i, brokertest.Expect[*packets.Puback](pub).PacketID)
				case packets.ExactlyOnce:
					require.EqualValues(t, 1+i, brokertest.Expect[*packets.Pubrec](pub).PacketID)
				}
			}
			receive(t, sent)
			pub.Close()
			sub.Close()
		})
	}
	response, err := host.Client().Get(host.URL)
	require.NoError(t, err)
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, "a page", string(page), "the route beside it")
}

// Hooks see the header of the upgrade, the client's address and the proxy's.
func TestWebSocketPeerThroughABroker(t *testing.T) {
	peers := make(chan petrel.Peer, 1)
	_, host := onMux(t, petrel.Options{Hooks: []petrel.Hook{
		petrel.AuthenticatorFunc(func(_ context.Context, r *petrel.ConnectRequest) error {
			peers <- r.Peer
			return nil
		}),
	}})
	for _, test := range []struct{ name, header, remote string }{
		{"direct", "X-Tenant: blue", ""},
		{"through a proxy", "X-Forwarded-For: 203.0.113.1", "203.0.113.1:0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn := closing(t, dialTCP(t, host.Listener.Addr().String()))
			request := handshake("/mqtt", "Sec-WebSocket-Protocol: mqtt", test.header)
			_, err := conn.Write(append([]byte(request), frame(fin|binaryFrame, connectBytes(t, packets.V5, "c"))...))
			require.NoError(t, err)
			peer := receive(t, peers)
			name, value, _ := strings.Cut(test.header, ": ")
			require.Equal(t, []string{value}, peer.Header[name])
			if test.remote == "" {
				require.Equal(t, conn.LocalAddr().String(), peer.RemoteAddr.String())
				require.Nil(t, peer.Proxy)
				return
			}
			require.Equal(t, test.remote, peer.RemoteAddr.String())
			require.NotNil(t, peer.Proxy)
			require.Equal(t, conn.LocalAddr().String(), peer.Proxy.Addr.String())
		})
	}
}

// A text frame ends the connection, and the client is gone as if it had been cut off.
func TestWebSocketTextFrameThroughABroker(t *testing.T) {
	broker, host := onMux(t, petrel.Options{})
	watch := broker.Connect(brokertest.ID("watch"))
	watch.Subscribe(0, "will")
	client := upgrade(t, closing(t, dialTCP(t, host.Listener.Addr().String())))
	p := packets.Connect{
		Version: packets.V311, ClientID: []byte("texter"), CleanStart: true,
		HasWill: true, Will: packets.Will{Topic: []byte("will"), Payload: []byte("gone")},
	}
	b, err := p.AppendTo(nil, packets.V311)
	require.NoError(t, err)
	client.send(t, frame(fin|binaryFrame, b))
	client.expect(t, fin|binaryFrame, []byte{0x20, 2, 0, 0})
	client.send(t, frame(fin|text, []byte{0xC0, 0}))
	client.expect(t, fin|closeFrame, status(1003, ""))
	_, _, err = client.read()
	require.Error(t, err)
	watch.ExpectPublish("will", "gone")
}

// A frame of 2^62 bytes is as good as any: the broker looks at the packets in it,
// holds none of it, and refuses the packet that is too large for it on its header.
func TestWebSocketAnnouncedLengthThroughABroker(t *testing.T) {
	const most, sent = 100_000, 64 << 20
	_, host := onMux(t, petrel.Options{MaximumPacketSize: most})
	client := upgrade(t, closing(t, dialTCP(t, host.Listener.Addr().String())))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	head := binary.BigEndian.AppendUint64([]byte{fin | binaryFrame, 0x80 | 127}, 1<<62)
	client.send(t, head, make([]byte, 4), connectBytes(t, packets.V5, "huge")) // a mask of zeros changes nothing
	first, payload := client.next(t)
	require.Equal(t, byte(fin|binaryFrame), first)
	require.Equal(t, byte(0x20), payload[0])

	p := packets.Publish{Topic: []byte("nobody"), Payload: make([]byte, 60_000)}
	message, err := p.AppendTo(nil, packets.V5)
	require.NoError(t, err)
	for range sent / len(message) {
		_, err := client.Write(message)
		require.NoError(t, err)
	}
	client.send(t, []byte{0xC0, 0})
	client.expect(t, fin|binaryFrame, []byte{0xD0, 0})
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20), "memory for %d bytes in one frame", sent)

	client.send(t, []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}) // PUBLISH of 256 MiB, of which nothing comes
	first, payload = client.next(t)
	require.Equal(t, byte(fin|binaryFrame), first)
	require.Equal(t, []byte{0xE0, byte(len(payload) - 2), byte(packets.PacketTooLarge)}, payload[:3])
	_, _, err = client.read()
	require.True(t, err == nil || errors.Is(err, io.EOF))
}

// A client that pings as fast as it can, and reads no pong, costs a bounded
// amount of memory, and others nothing.
func TestWebSocketPingFloodThroughABroker(t *testing.T) {
	broker, host := onMux(t, petrel.Options{})
	flooder := upgrade(t, closing(t, dialTCP(t, host.Listener.Addr().String())))
	require.NoError(t, flooder.Conn.(*net.TCPConn).SetReadBuffer(4096))
	flooder.send(t, frame(fin|binaryFrame, connectBytes(t, packets.V5, "flooder")))
	first, _ := flooder.next(t)
	require.Equal(t, byte(fin|binaryFrame), first)

	sub, pub := broker.Connect(brokertest.ID("sub")), broker.Connect(brokertest.ID("pub"))
	sub.Subscribe(1, "a")
	flood := bytes.Join(slices.Repeat([][]byte{frame(fin|ping, make([]byte, 125))}, 1000), nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for err := error(nil); err == nil; {
			_, err = flooder.Write(flood)
		}
	}()
	for range 300 {
		pub.Publish("a", "x", packets.AtLeastOnce)
		sub.Accept(sub.ExpectPublish("a", "x"))
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.HeapAlloc, before.HeapAlloc+(8<<20))
	require.NoError(t, flooder.Close())
	receive(t, ended)
}
