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
	Profiled  = "profiled" // petrel with its profiles and figures at an address
)

// Broker is a program that can be started.
type Broker struct {
	Name string // in the tables
	Kind string
	Path string
	Args []string // besides those that name the listeners

	// Store is what keeps its state in a directory, a new one for each process:
	// one that the profiled petrel knows, or "file" for mosquitto's. "" is none.
	Store string

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

// place is where a broker listens, and where it keeps its state.
type place struct {
	tcp     netip.AddrPort
	other   netip.AddrPort // for a transport that is not TCP
	figures netip.AddrPort // for the profiled petrel's
	data    string         // directory; "" without a store
	config  string         // file; "" without one
}

// Start runs the broker. The address is that of the transport.
func (b *Broker) Start(transport Transport, certificate Certificate) (p *Process, address netip.AddrPort, err error) {
	at, err := b.place()
	if err != nil {
		return nil, at.tcp, err
	}
	defer func() {
		if err != nil {
			at.remove()
		}
	}()
	args, err := b.arguments(transport, certificate, &at)
	if err != nil {
		return nil, at.tcp, err
	}
	address, listening := at.tcp, []netip.AddrPort{at.tcp}
	if transport != TCP {
		address = at.other
		listening = append(listening, at.other)
	}
	if p, err = Start(b.Path, append(args, b.Args...), listening...); err != nil {
		return nil, at.tcp, err
	}
	p.ended = at.remove
	if b.Kind == Profiled {
		p.figures = at.figures
	}
	return p, address, nil
}

// place finds room for a process.
func (b *Broker) place() (at place, err error) {
	for _, address := range []*netip.AddrPort{&at.tcp, &at.other, &at.figures} {
		if *address, err = FreeAddress(); err != nil {
			return at, err
		}
	}
	if b.Store == "" {
		return at, nil
	}
	if at.data, err = os.MkdirTemp("", "store-"); err == nil {
		err = os.Chmod(at.data, 0o777) // for a broker that gives up its rights
	}
	if err != nil {
		at.remove()
		err = fmt.Errorf("make a directory for the state of %s: %w", b.Name, err)
	}
	return at, err
}

func (at *place) remove() {
	for _, name := range []string{at.data, at.config} {
		if name != "" {
			_ = os.RemoveAll(name)
		}
	}
}

// arguments are those of the command line. A file that they name is noted in at.
func (b *Broker) arguments(transport Transport, c Certificate, at *place) (args []string, err error) {
	switch b.Kind {
	case Petrel:
		at.config, err = petrelConfig(transport, c, at)
		return []string{"-config", at.config}, err
	case Mosquitto:
		at.config, err = mosquittoConfig(transport, c, at)
		return []string{"-c", at.config}, err
	case Mochi:
		args = []string{"-tcp", at.tcp.String()}
		switch transport {
		case TLS:
			args = append(args, "-tls", at.other.String(), "-certificate", c.File, "-key", c.Key)
		case WebSocket:
			args = append(args, "-ws", at.other.String())
		}
		return args, nil
	case Relay, Profiled:
		if transport != TCP {
			return nil, fmt.Errorf("%s does not speak %s", b.Kind, transport)
		}
		args = []string{"-tcp", at.tcp.String()}
		if b.Kind == Profiled {
			args = append(args, "-figures", at.figures.String())
		}
		if at.data != "" {
			args = append(args, "-store", b.Store, "-data", at.data)
		}
		return args, nil
	}
	return nil, fmt.Errorf("there is no broker of the kind %q", b.Kind)
}

func petrelConfig(transport Transport, c Certificate, at *place) (string, error) {
	open := map[string][]string{"tcp": {at.tcp.String()}, "ws": {}}
	config := map[string]any{"listeners": open, "log": "error"}
	switch transport {
	case TLS:
		open["tls"] = []string{at.other.String()}
		config["tls"] = map[string]string{"certificate": c.File, "key": c.Key}
	case WebSocket:
		open["ws"] = []string{at.other.String()}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("encode the configuration of petrel: %w", err)
	}
	return temporary("petrel-*.json", text)
}

// mosquittoConfig raises the limits that stand in the way of a fair comparison:
// 20 messages in flight and 1,000 in a queue, where the others have 1,024 and
// 8,192 or more. Like them it turns Nagle's algorithm off. Of its state it writes
// a file every half an hour and at its end, as it does by default.
func mosquittoConfig(transport Transport, c Certificate, at *place) (string, error) {
	var text strings.Builder
	fmt.Fprintf(&text, `allow_anonymous true
persistence %t
log_type error
set_tcp_nodelay true
max_inflight_messages 1024
max_queued_messages 0
max_queued_bytes 0
listener %d %v
`, at.data != "", at.tcp.Port(), at.tcp.Addr())
	if at.data != "" {
		fmt.Fprintf(&text, "persistence_location %s/\n", at.data)
	}
	switch transport {
	case TLS:
		fmt.Fprintf(&text, "listener %d %v\ncertfile %s\nkeyfile %s\n", at.other.Port(), at.other.Addr(), c.File, c.Key)
	case WebSocket:
		fmt.Fprintf(&text, "listener %d %v\nprotocol websockets\n", at.other.Port(), at.other.Addr())
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
