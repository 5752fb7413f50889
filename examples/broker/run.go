package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/listeners"
)

// patience is how long clients may take to leave when the broker shuts down.
const patience = 10 * time.Second

// run serves until ctx ends, and then shuts down in order.
func run(ctx context.Context, c config, log *slog.Logger) error {
	options := c.limits
	options.Hooks = []petrel.Hook{c.anonymous.hook()}
	options.Logger = log
	broker, err := petrel.New(options)
	if err != nil {
		return err
	}
	open, err := listen(c, log)
	if err != nil {
		return errors.Join(err, broker.Close())
	}
	log.Log(ctx, c.anonymous.level(), c.anonymous.String())

	served := make(chan error, len(open))
	for _, l := range open {
		go func() { served <- broker.Serve(l) }()
	}
	var failed error
	select {
	case <-ctx.Done():
		log.Info("shutting down")
	case failed = <-served:
	}

	hurry, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := broker.Shutdown(hurry); err != nil {
		log.Warn("shutdown was cut short", "error", err)
	}
	return failed
}

// listen opens all listeners, or none.
func listen(c config, log *slog.Logger) (open []net.Listener, err error) {
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
	add := func(transport string, l net.Listener, err error) error {
		if err == nil {
			open = append(open, l)
			log.Info("listening", "transport", transport, "address", l.Addr())
		}
		return err
	}
	for _, address := range tcp {
		l, err := listeners.TCP(address)
		if err := add("tcp", l, err); err != nil {
			return open, err
		}
	}
	for _, address := range c.ws {
		l, err := listeners.WebSocketListen(address, listeners.WebSocketOptions{Logger: log})
		if err := add("websocket", l, err); err != nil {
			return open, err
		}
	}
	if len(open) == 0 {
		return nil, errors.New("nothing to listen on: -tcp and -ws are both empty")
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
