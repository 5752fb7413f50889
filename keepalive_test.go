package petrel_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// wireClient connects client "c" and returns its wire and CONNACK.
func wireClient(t *testing.T, b *brokertest.Broker, p packets.Connect) (*wire, []byte) {
	t.Helper()
	p.ClientID, p.CleanStart, p.ReceiveMaximum = []byte("c"), true, 65535
	send, err := p.AppendTo(nil, p.Version)
	require.NoError(t, err)
	w := dialWire(t, b)
	ack, ended := w.exchange(send)
	require.False(t, ended)
	require.Equal(t, byte(0x20), ack[0])
	require.Zero(t, ack[3], "return code")
	return w, ack
}

// requireEnd waits long and checks that the connection ended d after start: not
// a moment before, and at most 100 ms later.
func requireEnd(t *testing.T, w *wire, start time.Time, d time.Duration) (got []byte) {
	t.Helper()
	time.Sleep(2*d + time.Minute)
	got, ended := w.settled()
	require.True(t, ended, "it goes on after %v", time.Since(start))
	after := w.endedAt.Sub(start)
	require.GreaterOrEqual(t, after, d, "too early")
	require.LessOrEqual(t, after, d+100*time.Millisecond, "too late")
	return got
}

func TestKeepAliveEndsSilentClients(t *testing.T) {
	for _, tt := range []struct {
		seconds uint16
		after   time.Duration
	}{{1, 1500 * time.Millisecond}, {7, 10500 * time.Millisecond}, {60, 90 * time.Second}, {65535, 65535 * 1500 * time.Millisecond}} {
		for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
			t.Run(v.String()+" "+tt.after.String(), func(t *testing.T) {
				inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
					start := time.Now()
					w, _ := wireClient(t, b, packets.Connect{Version: v, KeepAlive: tt.seconds})
					got := requireEnd(t, w, start, tt.after)
					if v == packets.V5 {
						require.Equal(t, []byte{0xE0, byte(packets.KeepAliveTimeout)}, []byte{got[0], got[2]}, "DISCONNECT with 0x8D")
					} else {
						require.Empty(t, got)
					}
					require.ErrorIs(t, w.cause, packets.KeepAliveTimeout)
				})
			})
		}
	}
}

// Alarms of many clients are gathered into rounds; still none is early or late.
func TestKeepAliveOfMany(t *testing.T) {
	inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
		const n = 200
		wires, starts := make([]*wire, n), make([]time.Time, n)
		for i := range wires {
			p := packets.Connect{Version: packets.V5, ClientID: []byte{'a' + byte(i/26), 'a' + byte(i%26)}, CleanStart: true, KeepAlive: uint16(1 + i%5), ReceiveMaximum: 65535}
			send, err := p.AppendTo(nil, packets.V5)
			require.NoError(t, err)
			wires[i], starts[i] = dialWire(t, b), time.Now()
			wires[i].exchange(send)
			time.Sleep(7 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		for i, w := range wires {
			_, ended := w.settled()
			require.True(t, ended)
			want := time.Duration(1+i%5) * 1500 * time.Millisecond
			after := w.endedAt.Sub(starts[i])
			require.True(t, after >= want && after <= want+100*time.Millisecond, "ended after %v; want %v", after, want)
		}
	})
}

func TestKeepAliveOff(t *testing.T) {
	for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
		t.Run(v.String(), func(t *testing.T) {
			inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
				w, _ := wireClient(t, b, packets.Connect{Version: v, KeepAlive: 0})
				time.Sleep(1000 * time.Hour)
				got, ended := w.exchange([]byte{0xC0, 0})
				require.False(t, ended)
				require.Equal(t, []byte{0xD0, 0}, got)
			})
		})
	}
}

// Any whole packet of the client counts, and nothing else does.
func TestKeepAliveReset(t *testing.T) {
	sub := packets.Subscriptions{}.Append(packets.Subscription{Filter: []byte("t"), QoS: packets.AtLeastOnce})
	for _, tt := range []struct {
		name   string
		packet packets.Packet
	}{
		{"PINGREQ", &packets.Pingreq{}},
		{"PUBLISH QoS 0", &packets.Publish{Topic: []byte("x")}},
		{"PUBLISH QoS 1", &packets.Publish{Topic: []byte("x"), QoS: packets.AtLeastOnce, PacketID: 1}},
		{"PUBLISH QoS 2", &packets.Publish{Topic: []byte("x"), QoS: packets.ExactlyOnce, PacketID: 1}},
		{"PUBACK for nothing", &packets.Puback{PacketID: 9}},
		{"PUBREC for nothing", &packets.Pubrec{PacketID: 9}},
		{"PUBREL for nothing", &packets.Pubrel{PacketID: 9}},
		{"PUBCOMP for nothing", &packets.Pubcomp{PacketID: 9}},
		{"SUBSCRIBE", &packets.Subscribe{PacketID: 1, Subscriptions: sub}},
		{"UNSUBSCRIBE", &packets.Unsubscribe{PacketID: 1, Filters: packets.Filters{}.Append("t")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
				w, _ := wireClient(t, b, packets.Connect{Version: packets.V5, KeepAlive: 10})
				send, err := tt.packet.AppendTo(nil, packets.V5)
				require.NoError(t, err)
				for range 5 {
					time.Sleep(15*time.Second - 1)
					_, ended := w.exchange(send)
					require.False(t, ended)
				}
				requireEnd(t, w, time.Now(), 15*time.Second)
			})
		})
	}
	t.Run("half a packet does not count", func(t *testing.T) {
		inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			start := time.Now()
			w, _ := wireClient(t, b, packets.Connect{Version: packets.V5, KeepAlive: 10})
			time.Sleep(14 * time.Second)
			w.exchange([]byte{0x30, 100, 0, 1, 'x', 0})
			requireEnd(t, w, start, 15*time.Second)
		})
	})
	t.Run("the last byte of a packet does", func(t *testing.T) {
		inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			w, _ := wireClient(t, b, packets.Connect{Version: packets.V5, KeepAlive: 10})
			w.exchange([]byte{0x30, 5, 0, 1, 'x', 0})
			time.Sleep(14 * time.Second)
			w.exchange([]byte{'p'})
			requireEnd(t, w, time.Now(), 15*time.Second)
		})
	})
	t.Run("what the client is sent does not count", func(t *testing.T) {
		inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			w, _ := wireClient(t, b, packets.Connect{Version: packets.V5, KeepAlive: 10})
			send, err := (&packets.Subscribe{PacketID: 1, Subscriptions: sub}).AppendTo(nil, packets.V5)
			require.NoError(t, err)
			start := time.Now()
			w.exchange(send)
			for range 14 {
				time.Sleep(time.Second)
				require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "t"}))
			}
			got := requireEnd(t, w, start, 15*time.Second)
			require.Contains(t, string(got), "\x30\x04\x00\x01t\x00", "it was sent messages")
		})
	})
	t.Run("a resumed session starts anew", func(t *testing.T) {
		inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			first, _ := wireClient(t, b, packets.Connect{Version: packets.V5, KeepAlive: 10})
			time.Sleep(14 * time.Second)
			start := time.Now()
			second, _ := wireClient(t, b, packets.Connect{Version: packets.V5, KeepAlive: 20})
			_, ended := first.settled()
			require.True(t, ended, "taken over")
			requireEnd(t, second, start, 30*time.Second)
		})
	})
}

func TestServerKeepAlive(t *testing.T) {
	const most = 20 * time.Second
	for _, tt := range []struct {
		name  string
		v     packets.Version
		asked uint16
		after time.Duration // 0: not at all
	}{
		{"5.0 below the cap", packets.V5, 10, 15 * time.Second},
		{"5.0 at the cap", packets.V5, 20, 30 * time.Second},
		{"5.0 above the cap", packets.V5, 1000, 30 * time.Second},
		{"5.0 off", packets.V5, 0, 30 * time.Second},
		{"3.1.1 above the cap keeps what it asked for", packets.V311, 1000, 1500 * time.Second},
		{"3.1.1 off", packets.V311, 0, 0},
		{"3.1 off", packets.V31, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, petrel.Options{MaximumKeepAlive: most}, func(t *testing.T, b *brokertest.Broker) {
				start := time.Now()
				w, _ := wireClient(t, b, packets.Connect{Version: tt.v, KeepAlive: tt.asked})
				for info := range b.Clients() {
					require.Equal(t, tt.after*2/3, info.KeepAlive)
				}
				if tt.after > 0 {
					requireEnd(t, w, start, tt.after)
					return
				}
				time.Sleep(100 * time.Hour)
				_, ended := w.settled()
				require.False(t, ended)
			})
		})
	}
}

// The broker may hold a client back; that is not the silence of the client.
func TestKeepAliveOfClientsThatAreHeldBack(t *testing.T) {
	ping := []byte{0xC0, 0}
	publish := func(size int) []byte {
		b, err := (&packets.Publish{Topic: []byte("t"), Payload: make([]byte, size), QoS: packets.AtLeastOnce, PacketID: 1}).AppendTo(nil, packets.V5)
		if err != nil {
			panic(err)
		}
		return b
	}
	t.Run("by its rate", func(t *testing.T) {
		inFakeTime(t, petrel.Options{ByteRate: 100}, func(t *testing.T, b *brokertest.Broker) {
			w, _ := wireClient(t, b, packets.Connect{Version: packets.V5, KeepAlive: 2})
			go w.Write(append(publish(3000), ping...)) // 30 s worth of bytes, 3 s of patience
			time.Sleep(40 * time.Second)
			got, ended := w.settled()
			require.Contains(t, string(got), "\xD0\x00", "PINGRESP")
			require.True(t, ended, "then it was silent for 10 s")
		})
	})
	t.Run("by a slow hook", func(t *testing.T) {
		slow := authorizeWill(func(r *petrel.AccessRequest) error {
			time.Sleep(4 * time.Second)
			return nil
		})
		inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{slow}}, func(t *testing.T, b *brokertest.Broker) {
			w, _ := wireClient(t, b, packets.Connect{Version: packets.V5, KeepAlive: 2})
			w.Write(append(publish(1), publish(1)...))
			for range 6 { // it does what it has to
				w.Write(ping)
				time.Sleep(2 * time.Second)
			}
			got, ended := w.settled()
			require.False(t, ended)
			require.Contains(t, string(got), "\xD0\x00", "PINGRESP")
		})
	})
	t.Run("but not by itself", func(t *testing.T) {
		inFakeTime(t, petrel.Options{OutboundBytes: 1000}, func(t *testing.T, b *brokertest.Broker) {
			client, server := net.Pipe()
			defer client.Close()
			served := make(chan error, 1)
			start := time.Now()
			go func() { served <- b.ServeConn(server) }()
			go func() { // it asks and asks, and never reads an answer
				client.Write(wireConnect("MQTT", 4, 2, wireString("a")))
				for {
					if _, err := client.Write(ping); err != nil {
						return
					}
				}
			}()
			select {
			case err := <-served:
				require.ErrorIs(t, err, packets.KeepAliveTimeout)
				require.LessOrEqual(t, time.Since(start), 92*time.Second)
			case <-time.After(time.Hour):
				t.Error("it is served for ever")
			}
		})
	})
}

func TestConnectTimeout(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    petrel.Options
		send []byte
		want time.Duration
	}{
		{"the default", petrel.Options{}, nil, 10 * time.Second},
		{"another", petrel.Options{ConnectTimeout: time.Minute}, nil, time.Minute},
		{"half a CONNECT", petrel.Options{}, []byte{0x10, 13, 0, 4, 'M', 'Q'}, 10 * time.Second},
		{"a first byte", petrel.Options{}, []byte{0x10}, 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, tt.o, func(t *testing.T, b *brokertest.Broker) {
				start := time.Now()
				w := dialWire(t, b)
				if len(tt.send) > 0 {
					w.Write(tt.send)
				}
				got := requireEnd(t, w, start, tt.want)
				require.Empty(t, got, "nothing is said")
				require.Error(t, w.cause)
			})
		})
	}
	t.Run("bytes that come one by one do not prolong it", func(t *testing.T) {
		inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			start := time.Now()
			w := dialWire(t, b)
			go func() {
				for _, c := range wireConnect("MQTT", 4, 2, wireString("abcdefghijkl")) {
					if _, err := w.Write([]byte{c}); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}()
			requireEnd(t, w, start, 10*time.Second)
		})
	})
	t.Run("negative is no limit", func(t *testing.T) {
		inFakeTime(t, petrel.Options{ConnectTimeout: -1}, func(t *testing.T, b *brokertest.Broker) {
			w := dialWire(t, b)
			time.Sleep(1000 * time.Hour)
			got, ended := w.exchange(wireConnect("MQTT", 4, 2, wireString("a")))
			require.False(t, ended)
			require.Equal(t, []byte{0x20, 2, 0, 0}, got)
		})
	})
	t.Run("it is over with CONNECT", func(t *testing.T) {
		inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
			w := dialWire(t, b)
			time.Sleep(10*time.Second - 1)
			_, ended := w.exchange(wireConnect("MQTT", 5, 2, "\x00", wireString("a")))
			require.False(t, ended)
			time.Sleep(80 * time.Second)
			_, ended = w.exchange([]byte{0xC0, 0})
			require.False(t, ended)
		})
	})
	t.Run("it bounds a hook as well", func(t *testing.T) {
		hang := connectDecision(func(ctx context.Context, _ *petrel.ConnectRequest) error {
			<-ctx.Done()
			return nil
		})
		inFakeTime(t, petrel.Options{Hooks: []petrel.Hook{hang}, HookTimeout: -1}, func(t *testing.T, b *brokertest.Broker) {
			start := time.Now()
			w := dialWire(t, b)
			w.Write(wireConnect("MQTT", 4, 2, wireString("a")))
			requireEnd(t, w, start, 10*time.Second)
			require.Zero(t, b.Stats().Sessions)
		})
	})
}
