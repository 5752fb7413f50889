// Package listeners makes [net.Listener]s for the ways an MQTT client can
// reach a broker: [TCP], [TLS], [Unix] sockets, WebSocket and, for clients in
// the same process, an in-memory [Pipe]. A broker serves any net.Listener, so
// these are conveniences, and anything else that implements the interface
// works as well.
//
//	l, err := listeners.TLSFiles(":8883", "server.crt", "server.key", "")
//	if err != nil {
//		log.Fatal(err)
//	}
//	log.Fatal(broker.Serve(l))
//
// Closing a listener ends a waiting Accept with an error that matches
// [net.ErrClosed], and leaves the connections it has returned to whoever
// accepted them. No listener does I/O with a client inside Accept: a slow TLS
// or WebSocket handshake holds up nobody else.
//
// # Certificates
//
// [Certificates] are those of a TLS or wss listener, with a client CA and
// revocation lists, from files that are read again by [Certificates.Reload] or
// when [Certificates.Watch] sees that they have changed. Open connections stay;
// by [Certificates.Check] a broker finds those of clients that are not trusted any
// more.
//
// # WebSocket
//
// A [WebSocket] is both an [net/http.Handler] and a net.Listener: mount it on
// the mux you have and give it to the broker. [WebSocketListen] is for those
// who have no HTTP server; it brings one, also for wss, and [NewWebSocketListener]
// one for a listener that is there already.
//
// Clients must offer the subprotocol "mqtt" or "mqttv3.1". Pages in browsers may
// connect from the origin they connect to, and from [WebSocketOptions.Origins].
// What is refused is answered with the fitting HTTP status, and logged.
//
// The connections carry the payload of binary messages as a stream of bytes; how
// the client cut it into frames and fragments is invisible, and each Write is one
// frame. A message may be of any size: of what has come, nothing is held but what
// the caller has read, so the packet limit of the broker is the only one there
// needs to be, and it is reached on the header of a packet. Pings are answered
// inside Read, a close frame is answered and read as [io.EOF], and a text frame
// or a breach of RFC 6455 is answered with the fitting status and is an error
// from Read. Read, Write, Close and the deadlines may be used at the same time.
// RemoteAddr is the peer of the underlying connection, or what a proxy of
// [WebSocketOptions.TrustedProxies] says.
//
// To learn more about a client, assert a connection to one of
//
//	interface{ Header() map[string][]string }          // WebSocket: the header of the upgraded request
//	interface{ Request() *http.Request }               // WebSocket: the request itself
//	interface{ ProxyAddr() net.Addr }                  // WebSocket, PROXY: the proxy whose word RemoteAddr is, or nil
//	interface{ ReadProxyHeader() error }               // PROXY: wait for what the proxy says, before the first Read
//	interface{ ConnectionState() tls.ConnectionState } // TLS, and WebSocket over TLS
package listeners
