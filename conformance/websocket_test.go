package conformance_test

import (
	"flag"
	"io"
	"net/http/httptest"
	"strings"
	"time"

	"golang.org/x/net/websocket"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/listeners"
	"github.com/petrelmq/petrel/packets"
)

var webSocketFlag = flag.String("ws", "", "`URL` of the WebSocket listener of the broker, with -target; such as ws://127.0.0.1:8083/mqtt")

// Statements of section 6, WebSocket.

// webSocketURL is where the broker takes WebSocket connections.
func webSocketURL(t *T) string {
	t.Helper()
	if *targetFlag != "" {
		if *webSocketFlag == "" {
			t.Unfit("needs -ws")
		}
		return *webSocketFlag
	}
	if t.broker == nil {
		t.With(petrel.Options{})
	}
	ws := listeners.NewWebSocket(listeners.WebSocketOptions{})
	go t.broker.Serve(ws)
	server := httptest.NewServer(ws)
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "http", "ws", 1) + "/mqtt"
}

// dialWebSocket connects with the subprotocol.
func dialWebSocket(t *T, protocol string) (*websocket.Conn, error) {
	t.Helper()
	url := webSocketURL(t)
	config, err := websocket.NewConfig(url, strings.Replace(url, "ws", "http", 1))
	if err != nil {
		t.Fatal(err)
	}
	config.Origin.Path = "" // that of the broker itself is what brokers accept first
	if protocol != "" {
		config.Protocol = []string{protocol}
	}
	conn, err := config.DialContext(t.Context())
	if err == nil {
		conn.PayloadType = websocket.BinaryFrame
		if err := conn.SetDeadline(time.Now().Add(*patienceFlag)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

func init() {
	for _, v := range []packets.Version{packets.V5, packets.V311} {
		add := func(id, name string, run func(t *T)) { register(v, statementTest{id, name, network, run}) }
		text, pieces, offered, answered := "MQTT-6.0.0-1", "MQTT-6.0.0-2", "MQTT-6.0.0-3", "MQTT-6.0.0-4"
		add(text, "", func(t *T) {
			conn, err := dialWebSocket(t, "mqtt")
			if err != nil {
				t.Fatal(err)
			}
			conn.PayloadType = websocket.TextFrame
			p := t.CONNECT()
			if _, err := conn.Write(raw(t, &p)); err != nil {
				t.Fatal(err)
			}
			if n, err := conn.Read(make([]byte, 100)); err == nil {
				t.Fatalf("%d bytes in answer to a text frame", n)
			}
		})
		add(pieces, "", func(t *T) {
			for _, width := range []int{1, 2, 7, 1000} {
				conn, err := dialWebSocket(t, "mqtt")
				if err != nil {
					t.Fatal(err)
				}
				c := t.client(conn)
				p := t.CONNECT()
				topic := t.Unique("t")
				all := raw(t, &p)
				all = append(all, raw(t, &packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription(topic, 0))})...)
				all = append(all, raw(t, &packets.Publish{Topic: []byte(topic), Payload: []byte("x")})...)
				for at := 0; at < len(all); at += width {
					c.SendRaw(all[at:min(at+width, len(all))])
				}
				brokertest.Expect[*packets.Connack](c)
				brokertest.Expect[*packets.Suback](c)
				c.ExpectPublish(topic, "x")
			}
		})
		add(offered, "", func(t *T) {
			for _, protocol := range []string{"", "chat"} {
				conn, err := dialWebSocket(t, protocol)
				if err != nil {
					t.Saw("a refused handshake")
					continue
				}
				p := t.CONNECT()
				if _, err := conn.Write(raw(t, &p)); err != nil {
					continue
				}
				if _, err := io.ReadFull(conn, make([]byte, 1)); err == nil {
					t.Fatalf("a client that offers %q is served", protocol)
				}
			}
		})
		add(answered, "", func(t *T) {
			conn, err := dialWebSocket(t, "mqtt")
			if err != nil {
				t.Fatal(err) // the client wants the protocol that it offered
			}
			if got := conn.Config().Protocol; len(got) != 1 || got[0] != "mqtt" {
				t.Fatalf("subprotocol %v", got)
			}
		})
	}
}
