package brokertest

import (
	"net"
	"testing"

	"golang.org/x/net/websocket"
)

// WebSocketOver makes a WebSocket of a client's connection.
func WebSocketOver(t testing.TB, conn net.Conn) net.Conn {
	t.Helper()
	config, err := websocket.NewConfig("ws://broker/", "http://broker")
	if err != nil {
		t.Fatal(err)
	}
	config.Protocol = []string{"mqtt"}
	c, err := websocket.NewClient(config, conn)
	if err != nil {
		t.Fatalf("open a WebSocket: %v", err)
	}
	c.PayloadType = websocket.BinaryFrame
	return c
}
