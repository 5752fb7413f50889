//go:build linux

package process

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// The kinds of broker that can be started.
const (
	Petrel    = "petrel"
	Mochi     = "mochi"
	Mosquitto = "mosquitto"
	Relay     = "relay"
	Profiled  = "profiled" // petrel with its profiles at an address
)

// Broker is a program that can be started.
type Broker struct {
	Name string // in the tables
	Kind string
	Path string
	Args []string // besides those that name the listeners

	Embedded string // program that links the broker, "" if there is none
}

// Transport is how clients reach a broker.
type Transport string

// The transports. A broker listens on TCP whatever else it does.
const (
	TCP       Transport = "tcp"
	TLS       Transport = "tls"
	WebSocket Transport = "ws"
)

// Certificate names the PEM files for TLS.
type Certificate struct{ File, Key string }

// Start runs the broker. The address is that of the transport.
func (b *Broker) Start(transport Transport, certificate Certificate) (*Process, netip.AddrPort, error) {
	tcp, err := FreeAddress()
	if err != nil {
		return nil, tcp, err
	}
	other, err := FreeAddress()
	if err != nil {
		return nil, tcp, err
	}
	config, args, err := b.arguments(transport, certificate, tcp, other)
	if err != nil {
		return nil, tcp, err
	}
	address, listening := tcp, []netip.AddrPort{tcp}
	if transport != TCP {
		address = other
		listening = append(listening, other)
	}
	p, err := Start(b.Path, append(args, b.Args...), listening...)
	if err != nil {
		_ = os.Remove(config)
		return nil, tcp, err
	}
	if config != "" {
		p.remove = append(p.remove, config)
	}
	return p, address, nil
}

// arguments are those of the command line, and the name of the file that they
// name, if any.
func (b *Broker) arguments(transport Transport, c Certificate, tcp, other netip.AddrPort) (config string, args []string, err error) {
	switch b.Kind {
	case Petrel:
		config, err = petrelConfig(transport, c, tcp, other)
		return config, []string{"-config", config}, err
	case Mosquitto:
		config, err = mosquittoConfig(transport, c, tcp, other)
		return config, []string{"-c", config}, err
	case Mochi:
		args = []string{"-tcp", tcp.String()}
		switch transport {
		case TLS:
			args = append(args, "-tls", other.String(), "-certificate", c.File, "-key", c.Key)
		case WebSocket:
			args = append(args, "-ws", other.String())
		}
		return "", args, nil
	case Relay, Profiled:
		if transport != TCP {
			return "", nil, fmt.Errorf("%s does not speak %s", b.Kind, transport)
		}
		return "", []string{"-tcp", tcp.String()}, nil
	}
	return "", nil, fmt.Errorf("there is no broker of the kind %q", b.Kind)
}

func petrelConfig(transport Transport, c Certificate, tcp, other netip.AddrPort) (string, error) {
	open := map[string][]string{"tcp": {tcp.String()}, "ws": {}}
	config := map[string]any{"listeners": open, "log": "error"}
	switch transport {
	case TLS:
		open["tls"] = []string{other.String()}
		config["tls"] = map[string]string{"certificate": c.File, "key": c.Key}
	case WebSocket:
		open["ws"] = []string{other.String()}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("encode the configuration of petrel: %w", err)
	}
	return temporary("petrel-*.json", text)
}

// mosquittoConfig raises the limits that stand in the way of a fair comparison:
// 20 messages in flight and 1,000 in a queue, where the others have 1,024 and
// 8,192 or more. Like them it turns Nagle's algorithm off.
func mosquittoConfig(transport Transport, c Certificate, tcp, other netip.AddrPort) (string, error) {
	var text strings.Builder
	fmt.Fprintf(&text, `allow_anonymous true
persistence false
log_type error
set_tcp_nodelay true
max_inflight_messages 1024
max_queued_messages 0
max_queued_bytes 0
listener %d %v
`, tcp.Port(), tcp.Addr())
	switch transport {
	case TLS:
		fmt.Fprintf(&text, "listener %d %v\ncertfile %s\nkeyfile %s\n", other.Port(), other.Addr(), c.File, c.Key)
	case WebSocket:
		fmt.Fprintf(&text, "listener %d %v\nprotocol websockets\n", other.Port(), other.Addr())
	}
	return temporary("mosquitto-*.conf", []byte(text.String()))
}

func temporary(pattern string, content []byte) (string, error) {
	f, err := os.CreateTemp("", pattern)
	if err != nil {
		return "", fmt.Errorf("write a configuration: %w", err)
	}
	_, err = f.Write(content)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return "", fmt.Errorf("write a configuration: %w", err)
	}
	return filepath.Abs(f.Name())
}
