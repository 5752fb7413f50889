package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/listeners"
)

// patience is how long clients may take to leave when the broker shuts down.
const patience = 10 * time.Second

// prepare makes the broker, and so checks the whole configuration.
func prepare(c *config, log *slog.Logger) (*petrel.Broker, *access, error) {
	if err := c.web.Validate(); err != nil {
		return nil, nil, err
	}
	a, err := newAccess(c)
	if err != nil {
		return nil, nil, err
	}
	options := c.limits
	options.Hooks = a.hooks()
	options.Logger = log
	if c.data == "" {
		broker, err := petrel.New(options)
		return broker, a, err
	}
	s, err := openData(c.data, log)
	if err != nil {
		return nil, nil, err
	}
	options.Hooks, options.Sync = append(options.Hooks, s), petrel.SyncPolicy(c.sync)
	broker, err := petrel.New(options)
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	return broker, a, nil
}

// run serves until ctx ends, and then shuts down in order. A value from reload
// makes it read its files again.
func run(ctx context.Context, c config, log *slog.Logger, reload <-chan os.Signal) error {
	broker, a, err := prepare(&c, log)
	if err != nil {
		return err
	}
	open, err := listen(&c, a, log)
	if err != nil {
		return errors.Join(err, broker.Close())
	}
	a.warn(log)
	log.Log(ctx, c.anonymous.level(c.passwords != ""), c.anonymous.describe(c.passwords != ""))

	go keepHeap(ctx)
	served := make(chan error, len(open))
	for _, l := range open {
		go func() { served <- broker.Serve(l) }()
	}
	var failed error
	for serving := true; serving; {
		select {
		case <-reload:
			a.reload(log)
			if err := broker.Reauthorize(ctx, petrel.Everybody()); err != nil {
				log.Error("rights could not be applied to all clients", "error", err)
			}
		case <-ctx.Done():
			log.Info("shutting down")
			serving = false
		case failed = <-served:
			serving = false
		}
	}

	hurry, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := broker.Shutdown(hurry); err != nil {
		log.Warn("shutdown was cut short", "error", err)
	}
	return failed
}

// listen opens all listeners, or none.
func listen(c *config, a *access, log *slog.Logger) (open []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range open {
				_ = l.Close()
			}
		}
	}()
	tcp := c.tcp
	if tcp == nil {
		tcp = []string{"127.0.0.1:1883"}
		if hasIPv6() {
			tcp = append(tcp, "[::1]:1883")
		} else {
			log.Info("not listening on [::1]:1883: this machine has no IPv6")
		}
	}
	var secure, secureWeb *tls.Config
	if a.tls != nil {
		secure, secureWeb = a.tls.Config(), a.tls.Config("http/1.1")
	}
	ws := func(config *tls.Config) func(string) (net.Listener, error) {
		return func(address string) (net.Listener, error) {
			options := c.web
			options.TLSConfig, options.Logger = config, log
			return listeners.WebSocketListen(address, options)
		}
	}
	for _, door := range []struct {
		transport string
		addresses []string
		open      func(address string) (net.Listener, error)
	}{
		{"tcp", tcp, listeners.TCP},
		{"tls", c.tls, func(address string) (net.Listener, error) { return listeners.TLS(address, secure) }},
		{"websocket", c.ws, ws(nil)},
		{"secure-websocket", c.wss, ws(secureWeb)},
		{"unix", c.unix, func(path string) (net.Listener, error) { return listeners.Unix(path, 0o660) }},
	} {
		for _, address := range door.addresses {
			l, err := door.open(address)
			if err != nil {
				return open, err
			}
			open = append(open, l)
			log.Info("listening", "transport", door.transport, "address", l.Addr())
		}
	}
	if len(open) == 0 {
		return nil, errors.New("nothing to listen on: -tcp and -ws are empty, and the configuration names no other listener")
	}
	return open, nil
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
