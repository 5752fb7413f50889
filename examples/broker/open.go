package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/listeners"
)

// opened is a listener, and what is different for its connections.
type opened struct {
	net.Listener
	options petrel.ListenerOptions
}

// listen opens all listeners, or none.
func listen(c *config, a *access, log *slog.Logger) (open []opened, err error) {
	if c.tcp == nil {
		c.tcp = defaultTCP(log)
	}
	inherited, err := listeners.Systemd()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			for _, l := range inherited {
				_ = l.Close()
			}
			for _, l := range open {
				_ = l.Close()
			}
		}
	}()
	for _, d := range c.doors() {
		var sockets []net.Listener
		if sockets, inherited, err = d.sockets(inherited); err != nil {
			return open, err
		}
		for i, socket := range sockets {
			l, err := d.wrap(socket, c, a, log)
			if err != nil {
				for _, rest := range sockets[i:] {
					_ = rest.Close()
				}
				return open, fmt.Errorf("%s: %w", d.at, err)
			}
			open = append(open, opened{l, a.options(&d, c)})
			log.Info("listening", "transport", d.name, "address", l.Addr(), d.attr())
		}
	}
	switch {
	case len(inherited) > 0:
		return open, fmt.Errorf("no listener of the configuration is for the socket %q of the service manager", inherited[0].Name)
	case len(open) == 0:
		return open, errors.New("nothing to listen on: -tcp and -ws are empty, and the configuration names no other listener")
	}
	return open, nil
}

// attr is the name in the log, nothing if it has none.
func (d *door) attr() slog.Attr {
	if d.label == "" {
		return slog.Attr{}
	}
	return slog.String("name", d.label)
}

// sockets opens the socket of the listener, or takes those that are for it from
// what the service manager has opened. It returns what is left of that.
func (d *door) sockets(inherited []listeners.Inherited) (list []net.Listener, left []listeners.Inherited, err error) {
	if d.systemd != "" {
		for _, l := range inherited {
			if l.Name == d.systemd {
				list = append(list, l.Listener)
			} else {
				left = append(left, l)
			}
		}
		if list == nil {
			err = fmt.Errorf("%s.systemd: the service manager has opened no socket %q", d.at, d.systemd)
		}
		return list, left, err
	}
	open := listeners.TCP
	if d.unix {
		mode := os.FileMode(d.mode)
		if mode == 0 {
			mode = 0o660
		}
		open = func(path string) (net.Listener, error) { return listeners.Unix(path, mode) }
	}
	l, err := open(d.address)
	if err != nil {
		return nil, inherited, fmt.Errorf("%s: %w", d.at, err)
	}
	return []net.Listener{l}, inherited, nil
}

// wrap puts on top of a socket what is spoken there: the PROXY protocol below all else.
func (d *door) wrap(l net.Listener, c *config, a *access, log *slog.Logger) (net.Listener, error) {
	if d.proxy != nil {
		var err error
		if l, err = listeners.ProxyProtocol(l, *d.proxy); err != nil {
			return nil, err
		}
	}
	certificates := a.certificates[d.certificates(c)]
	switch {
	case d.web:
		options := c.web
		options.Logger = log
		if d.secure {
			options.TLSConfig = certificates.Config("http/1.1")
		}
		return listeners.NewWebSocketListener(l, options)
	case d.secure:
		return tls.NewListener(l, certificates.Config()), nil
	}
	return l, nil
}

// defaultTCP are the addresses of TCP that are listened on if none are named.
func defaultTCP(log *slog.Logger) []door {
	addresses := []string{"127.0.0.1:1883"}
	if hasIPv6() {
		addresses = append(addresses, "[::1]:1883")
	} else {
		log.Info("not listening on [::1]:1883: this machine has no IPv6")
	}
	return doorsAt(overTCP, addresses...)
}

// doorsAt are listeners of which nothing but the address is said.
func doorsAt(t transport, addresses ...string) []door {
	list := []door{}
	for _, address := range addresses {
		list = append(list, door{transport: t, address: address, at: fmt.Sprintf("-%s %s", t.key, address)})
	}
	return list
}

// hasIPv6 reports whether [::1] can be listened on at all; a port that is
// taken is then told from a machine without IPv6.
func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}
