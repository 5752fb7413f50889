package listeners

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// upgrade is what is settled about a request before it is upgraded.
type upgrade struct {
	key      string // of the client, RFC 6455, section 4.1
	protocol string
}

// refusal is why a request is not upgraded.
type refusal struct {
	status int
	reason string
}

// admit decides about a request from its head alone, while it can still be
// refused with an ordinary response.
func (s *WebSocket) admit(r *http.Request) (upgrade, *refusal) {
	if s.opts.Path != "" && r.URL.Path != s.opts.Path {
		return upgrade{}, &refusal{http.StatusNotFound, "not the path of MQTT"}
	}
	select {
	case <-s.done:
		return upgrade{}, &refusal{http.StatusServiceUnavailable, "closed"}
	default:
	}
	if refused := checkUpgrade(r); refused != nil {
		return upgrade{}, refused
	}
	if !s.mayConnect(r) {
		return upgrade{}, &refusal{http.StatusForbidden, "origin is not allowed"}
	}
	protocol := subprotocol(r.Header)
	if protocol == "" {
		return upgrade{}, &refusal{http.StatusBadRequest, "no usable subprotocol: offer mqtt"}
	}
	return upgrade{r.Header.Get("Sec-WebSocket-Key"), protocol}, nil
}

// checkUpgrade holds a request to RFC 6455, section 4.2.1.
func checkUpgrade(r *http.Request) *refusal {
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return &refusal{http.StatusHTTPVersionNotSupported, "WebSocket needs HTTP/1.1"}
	case !hasToken(r.Header, "Upgrade", "websocket"):
		return &refusal{http.StatusUpgradeRequired, "not a WebSocket handshake"}
	case r.Method != http.MethodGet:
		return &refusal{http.StatusMethodNotAllowed, "a WebSocket handshake is a GET"}
	case !hasToken(r.Header, "Connection", "upgrade"):
		return &refusal{http.StatusBadRequest, "header Connection does not say Upgrade"}
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return &refusal{http.StatusUpgradeRequired, "WebSocket version is not 13"}
	}
	keys := r.Header.Values("Sec-WebSocket-Key")
	if len(keys) == 1 {
		if key, err := base64.StdEncoding.DecodeString(keys[0]); err == nil && len(key) == 16 {
			return nil
		}
	}
	return &refusal{http.StatusBadRequest, "header Sec-WebSocket-Key is not one nonce of 16 bytes"}
}

// hasToken reports whether a header that is a list has the token, in any case.
func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// subprotocol picks from the offers of a handshake; empty means none fits.
func subprotocol(h http.Header) string {
	picked := ""
	for _, line := range h.Values("Sec-WebSocket-Protocol") {
		for offer := range strings.SplitSeq(line, ",") {
			switch strings.TrimSpace(offer) {
			case "mqtt":
				return "mqtt"
			case "mqttv3.1":
				picked = "mqttv3.1"
			}
		}
	}
	return picked
}

// answer agrees to the upgrade on the hijacked connection.
//
// Package websocket of x/net could do that, and more; its Conn is not used
// because it would keep a buffer for each direction, loses its place in the
// stream when a deadline passes inside a frame header, blocks Close behind a
// Write that blocks, and overlooks reserved bits, reserved opcodes and broken
// fragmentation.
func (u upgrade) answer(raw net.Conn, timeout time.Duration) error {
	if timeout > 0 {
		_ = raw.SetDeadline(time.Now().Add(timeout)) // on failure the write fails too
	}
	// RFC 6455, section 4.2.2: the key and a name that stands for WebSocket.
	accept := sha1.Sum([]byte(u.key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err := fmt.Fprintf(raw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(accept[:]), u.protocol)
	if err != nil {
		return err
	}
	return raw.SetDeadline(time.Time{})
}

// refuse tells the client and the log why.
func (s *WebSocket) refuse(w http.ResponseWriter, r *http.Request, why *refusal) {
	switch why.status {
	case http.StatusUpgradeRequired:
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Sec-WebSocket-Version", "13")
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodGet)
	}
	http.Error(w, why.reason, why.status)
	s.logRefusal(r, why.status, why.reason)
}

// refuseHijacked is refuse for a connection that the HTTP server has given away.
func (s *WebSocket) refuseHijacked(raw net.Conn, r *http.Request, why *refusal) {
	if s.opts.HandshakeTimeout > 0 {
		_ = raw.SetDeadline(time.Now().Add(s.opts.HandshakeTimeout)) // on failure the write fails too
	}
	answer := http.Response{
		StatusCode: why.status, ProtoMajor: 1, ProtoMinor: 1, Close: true, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(why.reason)), ContentLength: int64(len(why.reason)),
	}
	answer.Header.Set("Content-Type", "text/plain; charset=utf-8")
	answer.Header.Set("X-Content-Type-Options", "nosniff")
	_ = answer.Write(raw) // the log says it as well
	_ = raw.Close()
	s.logRefusal(r, why.status, why.reason)
}
