package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/petrelmq/petrel"
)

// patience is how long clients may take to leave when the broker shuts down.
const patience = 10 * time.Second

// prepare makes the broker, and so checks the whole configuration.
func prepare(c *config, log *slog.Logger) (*petrel.Broker, *access, error) {
	if err := c.checkAll(); err != nil {
		return nil, nil, err
	}
	a, err := newAccess(c, log)
	if err != nil {
		return nil, nil, err
	}
	options := c.limits
	options.Hooks = a.hooks(c)
	options.Logger = log
	var s petrel.Store
	if c.data != "" {
		if s, err = openData(c.data, log); err != nil {
			return nil, nil, fmt.Errorf("data.directory: %w", err)
		}
		options.Hooks, options.Sync = append(options.Hooks, s), petrel.SyncPolicy(c.sync)
	}
	broker, err := petrel.New(options)
	if err != nil && s != nil {
		err = errors.Join(err, s.Close())
	}
	return broker, a, c.atLimit(err)
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
	c.describe(ctx, log)

	go keepHeap(ctx)
	served := make(chan error, len(open))
	for _, l := range open {
		go func() { served <- broker.ServeListener(l.Listener, l.options) }()
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
