// Package debug has hooks that show what a broker does.
package debug

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/topics"
)

var _ petrel.PacketTracer = (*Tracer)(nil)

// Tracer is a [petrel.PacketTracer] that logs packets, one line each, with the
// fields that matter. Passwords and payloads are not shown: of a payload its
// length is, of a password that there is one. It may be told at any time what to
// trace; the zero value traces everything to [slog.Default].
type Tracer struct {
	// Logger receives the lines. Nil means [slog.Default]. It must not be
	// changed while the tracer is in use.
	Logger *slog.Logger
	// Level is that of the lines. It must not be changed while the tracer is in use.
	Level slog.Level

	mu      sync.Mutex
	clients map[string]bool
	filters []string
}

// Only limits the trace to the clients with the given identifiers, and to
// packets on topics that match one of the given filters, which must be valid. An
// empty list limits nothing. Packets without a topic are not limited by filters
// when a list of clients is given, and left out otherwise.
func (t *Tracer) Only(clientIDs, filters []string) error {
	for _, f := range filters {
		if err := topics.CheckFilter(f, 0); err != nil {
			return fmt.Errorf("debug: trace %q: %w", f, err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clients = nil
	for _, id := range clientIDs {
		if t.clients == nil {
			t.clients = make(map[string]bool)
		}
		t.clients[id] = true
	}
	t.filters = append([]string(nil), filters...)
	return nil
}

// PacketReceived logs a packet of a client.
func (t *Tracer) PacketReceived(c *petrel.Client, packet []byte) { t.trace(c, "received", packet) }

// PacketSent logs a packet to a client.
func (t *Tracer) PacketSent(c *petrel.Client, packet []byte) { t.trace(c, "sent", packet) }

func (t *Tracer) trace(c *petrel.Client, direction string, packet []byte) {
	log := t.Logger
	if log == nil {
		log = slog.Default()
	}
	if !log.Enabled(context.Background(), t.Level) {
		return
	}
	id, version := c.ID(), c.Version()
	p, kind, err := decode(packet, version)
	if connect, ok := p.(*packets.Connect); ok && id == "" {
		id = string(connect.ClientID) // it is not settled yet
	}
	if !t.wants(id, topicsOf(p)) {
		return
	}
	attrs := []any{"client", id, "packet", kind.String(), "bytes", len(packet)}
	if err != nil {
		attrs = append(attrs, "error", err)
	} else {
		attrs = append(attrs, fields(p)...)
	}
	log.Log(context.Background(), t.Level, "petrel: "+direction, attrs...)
}

// wants reports whether a packet is to be shown.
func (t *Tracer) wants(id string, names []string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.clients != nil && !t.clients[id] {
		return false
	}
	if len(t.filters) == 0 {
		return true
	}
	if len(names) == 0 {
		return t.clients != nil
	}
	for _, f := range t.filters {
		for _, name := range names {
			if f == name || !topics.HasWildcard(name) && topics.Match(f, name) {
				return true
			}
		}
	}
	return false
}

func decode(packet []byte, v packets.Version) (packets.Packet, packets.Type, error) {
	h, n, err := packets.DecodeHeader(packet)
	if err != nil {
		return nil, 0, err
	}
	p := packets.New(h.Type)
	return p, h.Type, p.Decode(h.Flags, packet[n:], v)
}

// topicsOf returns the topic or the filters of a packet.
func topicsOf(p packets.Packet) (names []string) {
	switch p := p.(type) {
	case *packets.Publish:
		names = append(names, string(p.Topic))
	case *packets.Subscribe:
		for s := range p.Subscriptions.All() {
			names = append(names, string(s.Filter))
		}
	case *packets.Unsubscribe:
		for f := range p.Filters.All() {
			names = append(names, string(f))
		}
	}
	return names
}

// fields are what a line says of a packet.
func fields(p packets.Packet) []any {
	switch p := p.(type) {
	case *packets.Connect:
		return []any{
			"version", p.Version.String(), "cleanStart", p.CleanStart, "keepAlive", p.KeepAlive, "userName", string(p.UserName),
			"hasPassword", p.HasPassword, "hasWill", p.HasWill, "sessionExpiry", p.SessionExpiryInterval,
		}
	case *packets.Connack:
		return []any{"reason", p.Reason.String(), "sessionPresent", p.SessionPresent}
	case *packets.Publish:
		return []any{
			"topic", string(p.Topic), "id", p.PacketID, "qos", int(p.QoS), "retain", p.Retain, "dup", p.Dup, "alias", p.TopicAlias,
			"payloadBytes", len(p.Payload),
		}
	case *packets.Puback:
		return []any{"id", p.PacketID, "reason", p.Reason.String()}
	case *packets.Pubrec:
		return []any{"id", p.PacketID, "reason", p.Reason.String()}
	case *packets.Pubrel:
		return []any{"id", p.PacketID, "reason", p.Reason.String()}
	case *packets.Pubcomp:
		return []any{"id", p.PacketID, "reason", p.Reason.String()}
	case *packets.Subscribe:
		return []any{"id", p.PacketID, "filters", strings.Join(topicsOf(p), " ")}
	case *packets.Suback:
		return []any{"id", p.PacketID, "reasons", reasons(p.Reasons)}
	case *packets.Unsubscribe:
		return []any{"id", p.PacketID, "filters", strings.Join(topicsOf(p), " ")}
	case *packets.Unsuback:
		return []any{"id", p.PacketID, "reasons", reasons(p.Reasons)}
	case *packets.Disconnect:
		return []any{"reason", p.Reason.String()}
	case *packets.Auth:
		return []any{"reason", p.Reason.String(), "method", string(p.AuthenticationMethod)}
	}
	return nil
}

func reasons(codes []packets.ReasonCode) string {
	words := make([]string, len(codes))
	for i, c := range codes {
		words[i] = fmt.Sprintf("0x%02X", byte(c))
	}
	return strings.Join(words, " ")
}
