package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"

	"github.com/petrelmq/petrel/listeners"
)

// transport is what a listener speaks below MQTT.
type transport struct {
	key    string // of its listeners in the configuration file
	name   string // in the log
	secure bool   // TLS
	web    bool   // WebSocket
	unix   bool   // a Unix socket instead of TCP
}

var (
	overTCP  = transport{key: "tcp", name: "tcp"}
	overTLS  = transport{key: "tls", name: "tls", secure: true}
	overWS   = transport{key: "ws", name: "websocket", web: true}
	overWSS  = transport{key: "wss", name: "secure-websocket", web: true, secure: true}
	overUnix = transport{key: "unix", name: "unix", unix: true}
)

// door is one listener. What the configuration does not say of it is as it is
// for all of them.
type door struct {
	transport
	at      string // where the configuration says it, such as "listeners.tls[0]"
	address string // HOST:PORT, or the path of a Unix socket
	systemd string // instead of an address: the name of sockets that the service manager has opened

	label       string // for hooks and for the log
	connections int    // at one time; none above 0 means no limit
	mode        fileMode
	ways        []way  // in which clients prove who they are; nil means all that there are files for
	anonymous   policy // empty means that of all listeners

	proxy *listeners.ProxyOptions // nil unless there are proxies in front
	tls   *tlsFiles               // nil means those of all listeners
}

// doors are all listeners, in the order in which they are opened.
func (c *config) doors() []door {
	return slices.Concat(c.tcp, c.tls, c.ws, c.wss, c.unix)
}

// certificates are the files that a listener with TLS takes its own from.
func (d *door) certificates(c *config) tlsFiles {
	if d.tls != nil {
		return *d.tls
	}
	return c.tlsFiles
}

// check reports what is wrong with the listener, and where that is said.
func (d *door) check(c *config) error {
	wrong := func(key string, err error) error { return fmt.Errorf("%s%s: %w", d.at, key, err) }
	switch {
	case d.address == "" && d.systemd == "":
		return wrong("", errors.New(`it has neither an "address" nor, of "systemd", the name of a socket`))
	case d.address != "" && d.systemd != "":
		return wrong("", errors.New(`it has both an "address" and, of "systemd", the name of a socket`))
	case d.address != "" && !d.unix:
		if err := checkAddress(d.address); err != nil {
			return wrong("", err)
		}
	}
	if files := d.certificates(c); d.secure && (files.certificate == "" || files.key == "") {
		return wrong("", errors.New("it needs tls.certificate and tls.key"))
	}
	if d.proxy != nil {
		if err := d.proxy.Validate(); err != nil {
			return wrong(".proxyProtocol", err)
		}
	}
	for i, w := range d.ways {
		if err := w.check(c, d); err != nil {
			return wrong(fmt.Sprintf(".authenticateBy[%d]", i), err)
		}
	}
	return nil
}

// checkAddress says whether there could be such an address. Names of hosts are
// not looked up.
func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%q is no HOST:PORT: %w", address, err)
	}
	return nil
}

// fileMode is written in octal, such as "0660".
type fileMode os.FileMode

func (m *fileMode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || n == 0 || n > 0o777 {
		return fmt.Errorf(`%q are no permissions such as "0660"`, text)
	}
	*m = fileMode(n)
	return nil
}
