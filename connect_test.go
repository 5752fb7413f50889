package petrel_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// inFakeTime runs f with a broker whose clock stands still while anything moves.
func inFakeTime(t *testing.T, o petrel.Options, f func(t *testing.T, b *brokertest.Broker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, o)
		f(t, b)
		require.NoError(t, b.Close())
	})
}

// connectDecision is an Authenticator made of a function.
type connectDecision func(context.Context, *petrel.ConnectRequest) error

func (f connectDecision) Authenticate(ctx context.Context, r *petrel.ConnectRequest) error {
	return f(ctx, r)
}

// wire is a connection whose bytes are looked at. It belongs in a bubble.
type wire struct {
	net.Conn
	mu      sync.Mutex
	got     []byte
	ended   bool // the broker closed the connection
	endedAt time.Time
	cause   error // what ServeConn returned
}

func dialWire(t *testing.T, b *brokertest.Broker) *wire {
	client, server := net.Pipe()
	w := &wire{Conn: client}
	t.Cleanup(func() { client.Close() })
	go func() {
		err := b.ServeConn(server)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.cause = err
	}()
	go func() {
		chunk := make([]byte, 4096)
		for {
			n, err := client.Read(chunk)
			w.mu.Lock()
			w.got = append(w.got, chunk[:n]...)
			if w.ended = err != nil; w.ended {
				w.endedAt = time.Now()
			}
			w.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return w
}

// exchange sends b and returns all that comes back before everything is at
// rest, and whether the connection is closed then.
func (w *wire) exchange(b []byte) (got []byte, ended bool) {
	w.Write(b) // the broker may have closed meanwhile
	return w.settled()
}

func (w *wire) settled() (got []byte, ended bool) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	got, w.got = w.got, nil
	return got, w.ended
}

// wireString is a length-prefixed string.
func wireString(s string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s
}

// wirePacket is a packet with any first byte and body.
func wirePacket(first byte, body string) []byte {
	b := packets.AppendVarint([]byte{first}, uint32(len(body)))
	return append(b, body...)
}

// wireConnect is a CONNECT with a keep alive of 60 s.
func wireConnect(name string, level, flags byte, rest ...string) []byte {
	return wirePacket(0x10, wireString(name)+string([]byte{level, flags, 0, 60})+strings.Join(rest, ""))
}

// plainOptions make a 5.0 CONNACK that has no properties.
var plainOptions = petrel.Options{ReceiveMaximum: -1, TopicAliasMaximum: -1, MaximumPacketSize: -1}

func TestConnectAnswerBytes(t *testing.T) {
	var (
		accepted  = "\x20\x02\x00\x00"
		accepted5 = "\x20\x03\x00\x00\x00"
		code      = func(c byte) string { return "\x20\x02\x00" + string([]byte{c}) }
		id        = wireString("a")
		will      = wireString("w") + wireString("x")
	)
	const silence = ""
	for _, tt := range []struct {
		name string
		send []byte
		want string
	}{
		// 3.1
		{"3.1 accepted", wireConnect("MQIsdp", 3, 0x02, id), accepted},
		{"3.1 never has session present", wireConnect("MQIsdp", 3, 0x00, id), accepted},
		{"3.1 reserved flag is not looked at", wireConnect("MQIsdp", 3, 0x03, id), accepted},
		{"3.1 flags of the fixed header are not looked at", append([]byte{0x18}, wireConnect("MQIsdp", 3, 0x02, id)[1:]...), accepted},
		{"3.1 user name announced and not there", wireConnect("MQIsdp", 3, 0x82, id), accepted},
		{"3.1 password announced and not there", wireConnect("MQIsdp", 3, 0xC2, id, wireString("u")), accepted},
		{"3.1 user name cut in the middle", wireConnect("MQIsdp", 3, 0x82, id, "\x00\x05u"), silence},
		{"3.1 password without user name", wireConnect("MQIsdp", 3, 0x42, id, wireString("p")), silence},
		{"3.1 will QoS 3", wireConnect("MQIsdp", 3, 0x1E, id, will), silence},
		{"3.1 with will", wireConnect("MQIsdp", 3, 0x06, id, will), accepted},
		{"3.1 empty id", wireConnect("MQIsdp", 3, 0x02, wireString("")), code(2)},
		{"3.1 id of 23 characters", wireConnect("MQIsdp", 3, 0x02, wireString(strings.Repeat("x", 23))), accepted},
		{"3.1 id of 23 characters of two bytes", wireConnect("MQIsdp", 3, 0x02, wireString(strings.Repeat("ä", 23))), accepted},
		{"3.1 id of 24 characters", wireConnect("MQIsdp", 3, 0x02, wireString(strings.Repeat("x", 24))), code(2)},
		{"3.1 surplus bytes", wireConnect("MQIsdp", 3, 0x02, id, "z"), silence},

		// 3.1.1
		{"3.1.1 accepted", wireConnect("MQTT", 4, 0x02, id), accepted},
		{"3.1.1 accepted, clean session 0", wireConnect("MQTT", 4, 0x00, id), accepted},
		{"3.1.1 empty id, clean session 1", wireConnect("MQTT", 4, 0x02, wireString("")), accepted},
		{"3.1.1 empty id, clean session 0", wireConnect("MQTT", 4, 0x00, wireString("")), code(2)},
		{"3.1.1 id of 65535 bytes", wireConnect("MQTT", 4, 0x02, wireString(strings.Repeat("x", 65535))), accepted},
		{"3.1.1 user name and password", wireConnect("MQTT", 4, 0xC2, id, wireString("u"), wireString("p")), accepted},
		{"3.1.1 user name alone", wireConnect("MQTT", 4, 0x82, id, wireString("u")), accepted},
		{"3.1.1 password without user name", wireConnect("MQTT", 4, 0x42, id, wireString("p")), silence},
		{"3.1.1 reserved flag", wireConnect("MQTT", 4, 0x03, id), silence},
		{"3.1.1 flags of the fixed header", append([]byte{0x12}, wireConnect("MQTT", 4, 0x02, id)[1:]...), silence},
		{"3.1.1 will QoS 3", wireConnect("MQTT", 4, 0x1E, id, will), silence},
		{"3.1.1 will QoS without will", wireConnect("MQTT", 4, 0x0A, id), silence},
		{"3.1.1 will retain without will", wireConnect("MQTT", 4, 0x22, id), silence},
		{"3.1.1 will announced and not there", wireConnect("MQTT", 4, 0x06, id), silence},
		{"3.1.1 will topic with wildcard", wireConnect("MQTT", 4, 0x06, id, wireString("a/#"), wireString("x")), silence},
		{"3.1.1 user name announced and not there", wireConnect("MQTT", 4, 0x82, id), silence},
		{"3.1.1 surplus bytes", wireConnect("MQTT", 4, 0x02, id, "z"), silence},
		{"3.1.1 id with U+0000", wireConnect("MQTT", 4, 0x02, wireString("a\x00")), silence},
		{"3.1.1 id with a surrogate", wireConnect("MQTT", 4, 0x02, wireString("\xED\xA0\x80")), silence},
		{"3.1.1 overlong remaining length", append([]byte{0x10, 0x8D, 0x00}, wireConnect("MQTT", 4, 0x02, id)[2:]...), silence},
		{"remaining length of five bytes", []byte{0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}, silence},

		// 5.0
		{"5.0 accepted", wireConnect("MQTT", 5, 0x02, "\x00", id), accepted5},
		{"5.0 accepted, clean start 0", wireConnect("MQTT", 5, 0x00, "\x00", id), accepted5},
		{"5.0 password without user name", wireConnect("MQTT", 5, 0x42, "\x00", id, wireString("p")), accepted5},
		{"5.0 topic alias maximum 0", wireConnect("MQTT", 5, 0x02, "\x03\x22\x00\x00", id), accepted5},
		{"5.0 id of 65535 bytes", wireConnect("MQTT", 5, 0x02, "\x00", wireString(strings.Repeat("x", 65535))), accepted5},

		// The name and the level
		{"unknown name", wireConnect("MQXX", 4, 0x02, id), silence},
		{"name in lower case", wireConnect("mqtt", 4, 0x02, id), silence},
		{"empty name", wireConnect("", 4, 0x02, id), silence},
		{"packet ends before the level", wirePacket(0x10, wireString("MQTT")), silence},
		{"empty CONNECT", []byte{0x10, 0x00}, silence},
		{"MQTT level 0", wireConnect("MQTT", 0, 0x02, id), code(1)},
		{"MQTT level 3", wireConnect("MQTT", 3, 0x02, id), code(1)},
		{"MQIsdp level 4", wireConnect("MQIsdp", 4, 0x02, id), code(1)},
		{"level 0x83", wireConnect("MQIsdp", 0x83, 0x02, id), code(1)},
		{"level 0x84", wireConnect("MQTT", 0x84, 0x02, id), code(1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, plainOptions, func(t *testing.T, b *brokertest.Broker) {
				w := dialWire(t, b)
				got, ended := w.exchange(tt.send)
				require.Equal(t, []byte(tt.want), append([]byte{}, got...), "the answer to % x", tt.send[:min(len(tt.send), 40)])
				if takes := tt.want == accepted || tt.want == accepted5; ended == takes {
					t.Errorf("connection closed: %v; want %v", ended, !takes)
				}
				require.Equal(t, !ended, b.Stats().ClientsConnected == 1)
			})
		})
	}
}

// A 5.0 client is told why: with CONNACK, never with DISCONNECT.
func TestConnectRefusedWithReason(t *testing.T) {
	var (
		id    = wireString("a")
		will  = wireString("w") + wireString("x")
		props = func(s string) string { return string([]byte{byte(len(s))}) + s }
	)
	for _, tt := range []struct {
		name string
		send []byte
		code packets.ReasonCode
		o    petrel.Options
	}{
		{name: "reserved flag", send: wireConnect("MQTT", 5, 0x03, "\x00", id), code: packets.MalformedPacket},
		{name: "flags of the fixed header", send: append([]byte{0x11}, wireConnect("MQTT", 5, 0x02, "\x00", id)[1:]...), code: packets.MalformedPacket},
		{name: "will QoS 3", send: wireConnect("MQTT", 5, 0x1E, "\x00", id, "\x00", will), code: packets.MalformedPacket},
		{name: "will QoS without will", send: wireConnect("MQTT", 5, 0x0A, "\x00", id), code: packets.MalformedPacket},
		{name: "will retain without will", send: wireConnect("MQTT", 5, 0x22, "\x00", id), code: packets.MalformedPacket},
		{name: "will announced and not there", send: wireConnect("MQTT", 5, 0x06, "\x00", id), code: packets.MalformedPacket},
		{name: "will without will properties", send: wireConnect("MQTT", 5, 0x06, "\x00", id, "\x7F", will), code: packets.MalformedPacket},
		{name: "user name announced and not there", send: wireConnect("MQTT", 5, 0x82, "\x00", id), code: packets.MalformedPacket},
		{name: "password announced and not there", send: wireConnect("MQTT", 5, 0x42, "\x00", id), code: packets.MalformedPacket},
		{name: "surplus bytes", send: wireConnect("MQTT", 5, 0x02, "\x00", id, "z"), code: packets.MalformedPacket},
		{name: "no properties at all", send: wireConnect("MQTT", 5, 0x02), code: packets.MalformedPacket},
		{name: "property length of two bytes for zero", send: wireConnect("MQTT", 5, 0x02, "\x80\x00", id), code: packets.MalformedPacket},
		{name: "property length beyond the packet", send: wireConnect("MQTT", 5, 0x02, "\x7F", id), code: packets.MalformedPacket},
		{name: "property length ends inside a value", send: wireConnect("MQTT", 5, 0x02, "\x03\x11\x00\x00\x00\x0A", id), code: packets.MalformedPacket},
		{name: "unknown property", send: wireConnect("MQTT", 5, 0x02, props("\x7E\x00"), id), code: packets.MalformedPacket},
		{name: "property of another packet", send: wireConnect("MQTT", 5, 0x02, props("\x0B\x01"), id), code: packets.MalformedPacket},
		{name: "will delay among the CONNECT properties", send: wireConnect("MQTT", 5, 0x02, props("\x18\x00\x00\x00\x01"), id), code: packets.MalformedPacket},
		{name: "session expiry among the will properties", send: wireConnect("MQTT", 5, 0x06, "\x00", id, props("\x11\x00\x00\x00\x01"), will), code: packets.MalformedPacket},
		{name: "id that is no UTF-8", send: wireConnect("MQTT", 5, 0x02, "\x00", wireString("\xC0\x80")), code: packets.MalformedPacket},
		{name: "id with U+0000", send: wireConnect("MQTT", 5, 0x02, "\x00", wireString("\x00")), code: packets.MalformedPacket},
		{name: "user name with a surrogate", send: wireConnect("MQTT", 5, 0x82, "\x00", id, wireString("\xED\xBF\xBF")), code: packets.MalformedPacket},
		{name: "will topic that is no UTF-8", send: wireConnect("MQTT", 5, 0x06, "\x00", id, "\x00", wireString("\xFF"), wireString("x")), code: packets.MalformedPacket},
		{name: "user property that is no UTF-8", send: wireConnect("MQTT", 5, 0x02, props("\x26"+wireString("n")+wireString("\xFF")), id), code: packets.MalformedPacket},

		{name: "repeated session expiry", send: wireConnect("MQTT", 5, 0x02, props("\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01"), id), code: packets.ProtocolError},
		{name: "repeated will delay", send: wireConnect("MQTT", 5, 0x06, "\x00", id, props("\x18\x00\x00\x00\x01\x18\x00\x00\x00\x01"), will), code: packets.ProtocolError},
		{name: "receive maximum 0", send: wireConnect("MQTT", 5, 0x02, props("\x21\x00\x00"), id), code: packets.ProtocolError},
		{name: "maximum packet size 0", send: wireConnect("MQTT", 5, 0x02, props("\x27\x00\x00\x00\x00"), id), code: packets.ProtocolError},
		{name: "request problem information 2", send: wireConnect("MQTT", 5, 0x02, props("\x17\x02"), id), code: packets.ProtocolError},
		{name: "request response information 2", send: wireConnect("MQTT", 5, 0x02, props("\x19\x02"), id), code: packets.ProtocolError},
		{name: "authentication data without method", send: wireConnect("MQTT", 5, 0x02, props("\x16\x00\x01d"), id), code: packets.ProtocolError},
		{name: "payload format 2 of the will", send: wireConnect("MQTT", 5, 0x06, "\x00", id, props("\x01\x02"), will), code: packets.ProtocolError},

		{name: "will topic with wildcard", send: wireConnect("MQTT", 5, 0x06, "\x00", id, "\x00", wireString("a/+"), wireString("x")), code: packets.TopicNameInvalid},
		{name: "empty will topic", send: wireConnect("MQTT", 5, 0x06, "\x00", id, "\x00", wireString(""), wireString("x")), code: packets.TopicNameInvalid},
		{name: "will topic of too many levels", send: wireConnect("MQTT", 5, 0x06, "\x00", id, "\x00", wireString("a/b/c/d"), wireString("x")), code: packets.TopicNameInvalid,
			o: petrel.Options{MaximumTopicLevels: 3}},
		{name: "will QoS 1 without QoS 1", send: wireConnect("MQTT", 5, 0x0E, "\x00", id, "\x00", will), code: packets.QoSNotSupported,
			o: petrel.Options{DisableQoS1: true}},
		{name: "will QoS 2 without QoS 2", send: wireConnect("MQTT", 5, 0x16, "\x00", id, "\x00", will), code: packets.QoSNotSupported,
			o: petrel.Options{DisableQoS2: true}},
		{name: "will retain without retain", send: wireConnect("MQTT", 5, 0x26, "\x00", id, "\x00", will), code: packets.RetainNotSupported,
			o: petrel.Options{DisableRetain: true}},
		{name: "will that is not the UTF-8 it claims to be", send: wireConnect("MQTT", 5, 0x06, "\x00", id, props("\x01\x01"), wireString("w"), wireString("\xFF")), code: packets.PayloadFormatInvalid,
			o: petrel.Options{ValidatePayloadFormat: true}},

		{name: "level 6", send: wireConnect("MQTT", 6, 0x02, "\x00", id), code: packets.UnsupportedProtocolVersion},
		{name: "level 0x85", send: wireConnect("MQTT", 0x85, 0x02, "\x00", id), code: packets.UnsupportedProtocolVersion},
		{name: "level 0xFF", send: wireConnect("MQTT", 0xFF, 0x02, "\x00", id), code: packets.UnsupportedProtocolVersion},
		{name: "method without anybody who knows one", send: wireConnect("MQTT", 5, 0x02, props("\x15\x00\x01M"), id), code: packets.BadAuthenticationMethod},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, tt.o, func(t *testing.T, b *brokertest.Broker) {
				w := dialWire(t, b)
				got, ended := w.exchange(tt.send)
				h, n, err := packets.DecodeHeader(got)
				require.NoError(t, err)
				require.Equal(t, packets.TypeConnack, h.Type, "answer % x", got)
				require.Equal(t, len(got), n+h.Remaining, "nothing follows CONNACK: % x", got)
				var ack packets.Connack
				require.NoError(t, ack.Decode(h.Flags, got[n:], packets.V5))
				require.Equal(t, tt.code, ack.Reason, "%q", ack.ReasonString)
				require.False(t, ack.SessionPresent)
				require.True(t, ended, "the connection is closed")
				require.Zero(t, b.Stats().Sessions)
			})
		})
	}
}

// CVE-2023-0809: whatever comes first and is not CONNECT ends the connection,
// before its body has come.
func TestFirstPacketIsNotConnect(t *testing.T) {
	valid := map[packets.Type][]byte{
		packets.TypeConnack:     {0x20, 2, 0, 0},
		packets.TypePublish:     {0x30, 4, 0, 1, 'a', 0},
		packets.TypePuback:      {0x40, 2, 0, 1},
		packets.TypePubrec:      {0x50, 2, 0, 1},
		packets.TypePubrel:      {0x62, 2, 0, 1},
		packets.TypePubcomp:     {0x70, 2, 0, 1},
		packets.TypeSubscribe:   {0x82, 6, 0, 1, 0, 1, 'a', 0},
		packets.TypeSuback:      {0x90, 3, 0, 1, 0},
		packets.TypeUnsubscribe: {0xA2, 5, 0, 1, 0, 1, 'a'},
		packets.TypeUnsuback:    {0xB0, 2, 0, 1},
		packets.TypePingreq:     {0xC0, 0},
		packets.TypePingresp:    {0xD0, 0},
		packets.TypeDisconnect:  {0xE0, 0},
		packets.TypeAuth:        {0xF0, 0},
		0:                       {0x00, 0},
	}
	require.Len(t, valid, 15)
	silent := func(name string, send []byte) {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, petrel.Options{}, func(t *testing.T, b *brokertest.Broker) {
				got, ended := dialWire(t, b).exchange(send)
				require.Empty(t, got)
				require.True(t, ended, "closed")
			})
		})
	}
	for kind, send := range valid {
		silent(kind.String(), send)
		silent(kind.String()+" with CONNECT behind it", append(bytes.Clone(send), wireConnect("MQTT", 4, 2, wireString("a"))...))
	}
	silent("PUBLISH that is too large and begins like CONNECT", append([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, "\x00\x04MQTT\x05\x02\x00\x00"...))
	silent("TLS hello", []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
	silent("HTTP request", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
}

func TestConnectClientIDTolerance(t *testing.T) {
	for _, tt := range []struct {
		n        int
		tolerate bool
		code     packets.ReasonCode
		counted  uint64
	}{
		{22, false, packets.Success, 0},
		{23, false, packets.Success, 0},
		{24, false, packets.ClientIdentifierNotValid, 1},
		{24, true, packets.Success, 1},
		{200, true, packets.Success, 1},
		{0, true, packets.ClientIdentifierNotValid, 0},
	} {
		t.Run(fmt.Sprintf("%d characters, tolerated %v", tt.n, tt.tolerate), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{TolerateLongClientIDs: tt.tolerate})
			_, ack := b.TryConnect(packets.Connect{Version: packets.V31, ClientID: []byte(strings.Repeat("x", tt.n)), CleanStart: true})
			require.Equal(t, tt.code, ack.Reason)
			require.Equal(t, tt.counted, b.Stats().LongClientIDs)
		})
	}
}

func TestConnectBridgeLevel(t *testing.T) {
	for _, v := range []packets.Version{packets.V31, packets.V311} {
		for _, tolerate := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, tolerated %v", v, tolerate), func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{TolerateBridgeLevel: tolerate})
				c, ack := b.TryConnect(packets.Connect{Version: v, Bridge: true, ClientID: []byte("bridge"), CleanStart: true})
				require.Equal(t, uint64(1), b.Stats().BridgeLevels)
				if !tolerate {
					require.Equal(t, packets.UnsupportedProtocolVersion, ack.Reason)
					c.ExpectClosed()
					return
				}
				require.Equal(t, packets.Success, ack.Reason)
				c.Subscribe(packets.AtLeastOnce, "#")
				c.Publish("own", "not sent back", packets.AtMostOnce)
				other := b.Connect(brokertest.ID("other"))
				other.PublishWith(packets.Publish{Topic: []byte("a"), Payload: []byte("kept"), Retain: true})
				require.True(t, c.ExpectPublish("a", "kept").Retain, "RETAIN stays as it was published")
				other.PublishWith(packets.Publish{Topic: []byte("a"), Payload: []byte("not kept")})
				require.False(t, c.ExpectPublish("a", "not kept").Retain)
				c.ExpectNothing()
			})
		}
	}
}

// Limits at one less, exactly, and one more.
func TestConnectSizeLimit(t *testing.T) {
	const limit = 100
	for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
		for _, size := range []int{limit - 1, limit, limit + 1} {
			t.Run(fmt.Sprintf("%v, %d bytes of %d", v, size, limit), func(t *testing.T) {
				inFakeTime(t, petrel.Options{MaximumConnectSize: limit}, func(t *testing.T, b *brokertest.Broker) {
					p := packets.Connect{Version: v, ClientID: []byte("a"), CleanStart: true, HasUserName: true}
					short, err := p.AppendTo(nil, v)
					require.NoError(t, err)
					p.UserName = bytes.Repeat([]byte{'u'}, size-len(short))
					send, err := p.AppendTo(nil, v)
					require.NoError(t, err)
					require.Len(t, send, size)
					c := b.Dial(v)
					c.SendRaw(send)
					switch {
					case size <= limit:
						require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](c).Reason)
						c.ExpectNothing()
					case v == packets.V5:
						require.Equal(t, packets.PacketTooLarge, brokertest.Expect[*packets.Connack](c).Reason)
						c.ExpectClosed()
					default:
						c.ExpectClosed()
					}
				})
			})
		}
	}
	t.Run("refused by the fixed header alone", func(t *testing.T) {
		inFakeTime(t, petrel.Options{MaximumConnectSize: limit}, func(t *testing.T, b *brokertest.Broker) {
			got, ended := dialWire(t, b).exchange([]byte{0x10, limit - 1})
			require.Empty(t, got)
			require.True(t, ended, "closed before a byte of the body has come")
		})
	})
	t.Run("MaximumPacketSize does not count for CONNECT", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{MaximumPacketSize: 50})
		c := b.Connect(packets.Connect{ClientID: bytes.Repeat([]byte{'a'}, 100), CleanStart: true})
		c.Send(&packets.Publish{Topic: bytes.Repeat([]byte{'t'}, 100)})
		c.ExpectDisconnect(packets.PacketTooLarge)
	})
}

func TestConnectUserPropertyLimit(t *testing.T) {
	const limit = 3
	for _, tt := range []struct {
		name          string
		connect, will int
		code          packets.ReasonCode
	}{
		{"one less", limit - 1, 0, packets.Success},
		{"as many as allowed", limit, 0, packets.Success},
		{"one more", limit + 1, 0, packets.QuotaExceeded},
		{"one less in the will", 0, limit - 1, packets.Success},
		{"as many as allowed in both", limit, limit, packets.Success},
		{"one more in the will", 0, limit + 1, packets.QuotaExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MaximumUserProperties: limit})
			p := brokertest.ID("a")
			for range tt.connect {
				p.UserProperties = p.UserProperties.Append("n", "v")
			}
			p.HasWill, p.Will.Topic = true, []byte("w")
			for range tt.will {
				p.Will.Properties = p.Will.Properties.AppendUserProperty("n", "v")
			}
			c, ack := b.TryConnect(p)
			require.Equal(t, tt.code, ack.Reason)
			if tt.code.IsError() {
				c.ExpectClosed()
			} else {
				c.ExpectNothing()
			}
		})
	}
	t.Run("no limit", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{MaximumUserProperties: -1})
		p := brokertest.ID("a")
		for range 5000 {
			p.UserProperties = p.UserProperties.Append("", "")
		}
		b.Connect(p).ExpectNothing()
	})
}

func TestConnectionLimit(t *testing.T) {
	for _, v := range []packets.Version{packets.V311, packets.V5} {
		t.Run(v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{MaximumConnections: 2})
			b.Connect(brokertest.ID("1"))
			last := b.Connect(brokertest.ID("2"))
			c, ack := b.TryConnect(packets.Connect{Version: v, ClientID: []byte("3"), CleanStart: true})
			if v == packets.V5 {
				require.Equal(t, packets.QuotaExceeded, ack.Reason)
			} else {
				require.Equal(t, packets.ServerUnavailable, ack.Reason, "return code 3")
			}
			c.ExpectClosed()
			c.Served()
			last.Drop()
			b.Connect(brokertest.ID("3")).ExpectNothing()
		})
	}
}

func TestSessionLimit(t *testing.T) {
	b := brokertest.New(t, petrel.Options{MaximumSessions: 2})
	b.Connect(brokertest.Durable("1")).Drop()
	c := b.Connect(brokertest.ID("2"))
	refused, ack := b.TryConnect(brokertest.ID("3"))
	require.Equal(t, packets.QuotaExceeded, ack.Reason)
	refused.ExpectClosed()
	b.Connect(brokertest.Durable("1")).ExpectNothing() // is there already
	b.Connect(brokertest.ID("1")).Drop()               // takes the place of the one that it ends
	b.Connect(brokertest.ID("3"))
	c.ExpectNothing()
	require.Equal(t, 2, b.Stats().Sessions)
}

// CONNACK tells what differs from the defaults of the standard, and nothing else.
func TestConnackProperties(t *testing.T) {
	plain := func(change func(o *petrel.Options)) petrel.Options {
		o := plainOptions
		change(&o)
		return o
	}
	none := func(*packets.Connect) {}
	for _, tt := range []struct {
		name    string
		o       petrel.Options
		connect func(p *packets.Connect)
		want    packets.Connack
	}{
		{"nothing", plainOptions, none, packets.Connack{}},
		{"the default limits", petrel.Options{}, none,
			packets.Connack{ReceiveMaximum: 1024, TopicAliasMaximum: 32, MaximumPacketSize: 2 << 20}},
		{"receive maximum", plain(func(o *petrel.Options) { o.ReceiveMaximum = 7 }), none, packets.Connack{ReceiveMaximum: 7}},
		{"receive maximum 65535 is the default", plain(func(o *petrel.Options) { o.ReceiveMaximum = 65535 }), none, packets.Connack{}},
		{"topic alias maximum", plain(func(o *petrel.Options) { o.TopicAliasMaximum = 9 }), none, packets.Connack{TopicAliasMaximum: 9}},
		{"maximum packet size", plain(func(o *petrel.Options) { o.MaximumPacketSize = 12345 }), none, packets.Connack{MaximumPacketSize: 12345}},
		{"no QoS 2", plain(func(o *petrel.Options) { o.DisableQoS2 = true }), none, packets.Connack{HasMaximumQoS: true, MaximumQoS: 1}},
		{"no QoS 1", plain(func(o *petrel.Options) { o.DisableQoS1 = true }), none, packets.Connack{HasMaximumQoS: true, MaximumQoS: 0}},
		{"no retain", plain(func(o *petrel.Options) { o.DisableRetain = true }), none, packets.Connack{RetainUnavailable: true}},
		{"no wildcards", plain(func(o *petrel.Options) { o.DisableWildcardSubscriptions = true }), none, packets.Connack{WildcardSubscriptionUnavailable: true}},
		{"no subscription identifiers", plain(func(o *petrel.Options) { o.DisableSubscriptionIdentifiers = true }), none, packets.Connack{SubscriptionIdentifiersUnavailable: true}},
		{"no shared subscriptions", plain(func(o *petrel.Options) { o.DisableSharedSubscriptions = true }), none, packets.Connack{SharedSubscriptionUnavailable: true}},
		{"session expiry below the cap", plain(func(o *petrel.Options) { o.MaximumSessionExpiry = 100e9 }),
			func(p *packets.Connect) { p.SessionExpiryInterval = 99 }, packets.Connack{}},
		{"session expiry at the cap", plain(func(o *petrel.Options) { o.MaximumSessionExpiry = 100e9 }),
			func(p *packets.Connect) { p.SessionExpiryInterval = 100 }, packets.Connack{}},
		{"session expiry above the cap", plain(func(o *petrel.Options) { o.MaximumSessionExpiry = 100e9 }),
			func(p *packets.Connect) { p.SessionExpiryInterval = 101 }, packets.Connack{HasSessionExpiryInterval: true, SessionExpiryInterval: 100}},
		{"session without an end under a cap", plain(func(o *petrel.Options) { o.MaximumSessionExpiry = 100e9 }),
			func(p *packets.Connect) { p.SessionExpiryInterval = 0xFFFFFFFF }, packets.Connack{HasSessionExpiryInterval: true, SessionExpiryInterval: 100}},
		{"session without an end and no cap", plainOptions,
			func(p *packets.Connect) { p.SessionExpiryInterval = 0xFFFFFFFF }, packets.Connack{}},
		{"keep alive at the cap", plain(func(o *petrel.Options) { o.MaximumKeepAlive = 30e9 }),
			func(p *packets.Connect) { p.KeepAlive = 30 }, packets.Connack{}},
		{"keep alive above the cap", plain(func(o *petrel.Options) { o.MaximumKeepAlive = 30e9 }),
			func(p *packets.Connect) { p.KeepAlive = 31 }, packets.Connack{HasServerKeepAlive: true, ServerKeepAlive: 30}},
		{"keep alive off under a cap", plain(func(o *petrel.Options) { o.MaximumKeepAlive = 30e9 }),
			func(p *packets.Connect) { p.KeepAlive = 0 }, packets.Connack{HasServerKeepAlive: true, ServerKeepAlive: 30}},
		{"response information if asked", plain(func(o *petrel.Options) { o.ResponseInformation = "replies/" }),
			func(p *packets.Connect) { p.RequestResponseInformation = true }, packets.Connack{ResponseInformation: []byte("replies/")}},
		{"response information if not asked", plain(func(o *petrel.Options) { o.ResponseInformation = "replies/" }), none, packets.Connack{}},
		{"response information asked and not there", plainOptions,
			func(p *packets.Connect) { p.RequestResponseInformation = true }, packets.Connack{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := brokertest.New(t, tt.o)
			p := brokertest.ID("a")
			p.KeepAlive = 10
			tt.connect(&p)
			_, ack := b.TryConnect(p)
			got, err := ack.AppendTo(nil, packets.V5)
			require.NoError(t, err)
			want, err := tt.want.AppendTo(nil, packets.V5)
			require.NoError(t, err)
			require.Equal(t, want, got, "got %+v; want %+v", ack, tt.want)
		})
	}
}

func TestResponseInformationIsText(t *testing.T) {
	for name, s := range map[string]string{
		"no UTF-8": "\xFF", "U+0000": "a\x00", "65536 bytes": strings.Repeat("x", 65536),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := petrel.New(petrel.Options{ResponseInformation: s, Hooks: []petrel.Hook{connectDecision(nil)}})
			require.ErrorContains(t, err, "ResponseInformation")
		})
	}
	b := brokertest.New(t, petrel.Options{ResponseInformation: strings.Repeat("x", 65535)})
	p := brokertest.ID("c")
	p.RequestResponseInformation = true
	_, ack := b.TryConnect(p)
	require.Len(t, ack.ResponseInformation, 65535)
}

// Older clients get two bytes, whatever there would be to tell.
func TestConnackOfOlderClients(t *testing.T) {
	o := petrel.Options{DisableQoS2: true, DisableRetain: true, MaximumSessionExpiry: 1e9, MaximumKeepAlive: 1e9, ReceiveMaximum: 5}
	inFakeTime(t, o, func(t *testing.T, b *brokertest.Broker) {
		got, ended := dialWire(t, b).exchange(wireConnect("MQTT", 4, 0x00, wireString("a")))
		require.Equal(t, []byte{0x20, 2, 0, 0}, got)
		require.False(t, ended)
		got, ended = dialWire(t, b).exchange(wireConnect("MQTT", 4, 0x00, wireString("a")))
		require.Equal(t, []byte{0x20, 2, 1, 0}, got, "session present")
		require.False(t, ended)
		got, _ = dialWire(t, b).exchange(wireConnect("MQIsdp", 3, 0x00, wireString("a")))
		require.Equal(t, []byte{0x20, 2, 0, 0}, got, "3.1 has no session present")
	})
}

func TestAssignedClientIDs(t *testing.T) {
	t.Run("are told to 5.0 clients, and unique", func(t *testing.T) {
		seen := make(map[string]bool)
		for range 2 { // brokers
			b := brokertest.New(t, petrel.Options{})
			for _, clean := range []bool{true, false} {
				for range 50 {
					c, ack := b.TryConnect(packets.Connect{CleanStart: clean})
					id := string(ack.AssignedClientID)
					require.NotEmpty(t, id)
					require.False(t, ack.SessionPresent)
					require.False(t, seen[id], "%q was assigned twice", id)
					seen[id] = true
					c.ExpectNothing()
				}
			}
			require.Equal(t, 100, b.Stats().ClientsConnected, "nobody displaces anybody")
		}
	})
	t.Run("a session under an assigned id is resumed by that id", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		c, ack := b.TryConnect(packets.Connect{SessionExpiryInterval: 100})
		c.Drop()
		_, again := b.TryConnect(packets.Connect{ClientID: ack.AssignedClientID, SessionExpiryInterval: 100})
		require.True(t, again.SessionPresent)
		require.Empty(t, again.AssignedClientID, "it is the client's own now")
	})
	t.Run("3.1.1 clients get one each and never learn it", func(t *testing.T) {
		b := brokertest.New(t, petrel.Options{})
		p := packets.Connect{Version: packets.V311, CleanStart: true}
		one, two := b.Connect(p), b.Connect(p)
		one.ExpectNothing()
		two.ExpectNothing()
		ids := make(map[string]bool)
		for c := range b.Clients() {
			ids[c.ID] = true
		}
		require.Len(t, ids, 2)
		require.NotContains(t, ids, "")
	})
	t.Run("a given id is not told", func(t *testing.T) {
		_, ack := brokertest.New(t, petrel.Options{}).TryConnect(brokertest.ID("mine"))
		require.Empty(t, ack.AssignedClientID)
	})
}

func TestSecondConnect(t *testing.T) {
	for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
		t.Run(v.String(), func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{})
			watch := b.Connect(brokertest.ID("watch"))
			watch.Subscribe(packets.AtMostOnce, "#")
			p := packets.Connect{Version: v, ClientID: []byte("a"), CleanStart: true, HasWill: true, Will: packets.Will{Topic: []byte("w"), Payload: []byte("gone")}}
			c := b.Connect(p)
			c.Send(&p, &packets.Publish{Topic: []byte("behind")})
			if v == packets.V5 {
				c.ExpectDisconnect(packets.ProtocolError)
			} else {
				c.ExpectClosed()
			}
			watch.ExpectPublish("w", "gone")
			c.Served()
			watch.ExpectNothing()
		})
	}
}

// What a client sends behind CONNECT without waiting is handled after it,
// however the bytes are cut.
func TestPipelinedBehindConnect(t *testing.T) {
	for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
		var send []byte
		for _, p := range []packets.Packet{
			&packets.Connect{Version: v, ClientID: []byte("a"), CleanStart: true, ReceiveMaximum: 65535},
			&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions{}.Append(packets.Subscription{Filter: []byte("t/#"), QoS: packets.AtLeastOnce})},
			&packets.Publish{Topic: []byte("t/1"), Payload: []byte("hello"), QoS: packets.AtLeastOnce, PacketID: 2},
			&packets.Pingreq{},
		} {
			var err error
			send, err = p.AppendTo(send, v)
			require.NoError(t, err)
		}
		for name, cut := range map[string]int{"in one piece": len(send), "byte by byte": 1, "in pieces of 2": 2, "in pieces of 7": 7} {
			t.Run(v.String()+" "+name, func(t *testing.T) {
				b := brokertest.New(t, petrel.Options{})
				c := b.Dial(v)
				for rest := send; len(rest) > 0; rest = rest[min(cut, len(rest)):] {
					c.SendRaw(rest[:min(cut, len(rest))])
				}
				require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](c).Reason)
				require.Equal(t, []packets.ReasonCode{packets.GrantedQoS1}, brokertest.Expect[*packets.Suback](c).Reasons)
				c.Accept(c.ExpectPublish("t/1", "hello"))
				require.Equal(t, uint16(2), brokertest.Expect[*packets.Puback](c).PacketID)
				brokertest.Expect[*packets.Pingresp](c)
				c.ExpectNothing()
			})
		}
		t.Run(v.String()+" is discarded after a refusal", func(t *testing.T) {
			b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{connectDecision(
				func(context.Context, *petrel.ConnectRequest) error { return packets.NotAuthorized })}})
			c := b.Dial(v)
			c.Send(
				&packets.Connect{Version: v, ClientID: []byte("a"), CleanStart: true},
				&packets.Publish{Topic: []byte("t"), Payload: []byte("x"), Retain: true},
				&packets.Pingreq{},
			)
			require.Equal(t, packets.NotAuthorized, brokertest.Expect[*packets.Connack](c).Reason)
			c.ExpectClosed()
			c.Served()
			for m := range b.Retained("#") {
				t.Errorf("%q was published", m.Topic)
			}
			require.Zero(t, b.Stats().PublishReceived)
		})
	}
}

// The end of a connection is what ServeConn returns.
func TestServeConnResult(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	c := b.Connect(brokertest.ID("a"))
	c.Send(&packets.Disconnect{})
	require.NoError(t, c.Served())

	c = b.Connect(brokertest.ID("a"))
	c.Close()
	require.ErrorIs(t, c.Served(), io.EOF)

	c, _ = b.TryConnect(packets.Connect{Version: packets.V31, ClientID: nil})
	require.ErrorIs(t, c.Served(), packets.ClientIdentifierNotValid)
}

// A client that no answer fits is not left waiting for it.
func TestAnswersAboveTheMaximumPacketSize(t *testing.T) {
	b := brokertest.New(t, petrel.Options{})
	c := b.Dial(packets.V5)
	p := brokertest.ID("c")
	p.MaximumPacketSize = 4
	c.Send(&p)
	c.ExpectClosed() // without CONNACK, and so without DISCONNECT
	require.ErrorIs(t, c.Served(), packets.PacketTooLarge)

	p.MaximumPacketSize = 64
	c = b.Connect(p)
	var subs packets.Subscriptions
	for range 64 {
		subs = subs.Append(packets.Subscription{Filter: []byte("a")})
	}
	c.Send(&packets.Subscribe{PacketID: 1, Subscriptions: subs})
	c.ExpectDisconnect(packets.PacketTooLarge)
}
