package listeners

import (
	"context"
	"net"
	"time"
)

// keepAlive finds a peer that vanished without a word in about five minutes.
// MQTT has its own keep alive, but a client may turn it off. Probing more
// often would cost a server with many idle clients, and wake their radios;
// probing less often would let many NAT tables forget the connection.
var keepAlive = net.KeepAliveConfig{
	Enable:   true,
	Idle:     3 * time.Minute,
	Interval: 30 * time.Second,
	Count:    4,
}

// TCP listens for plain MQTT on addr, for example ":1883" or
// "127.0.0.1:0". Accepted connections have TCP keep-alive on, so that a
// vanished peer is noticed within about five minutes. The error is that of
// [net.Listen]. Closing the listener leaves accepted connections open.
func TCP(addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	return lc.Listen(context.Background(), "tcp", addr)
}
