//go:build unix

// Inprocess is a host program that publishes to itself through the broker that it
// holds: one goroutine publishes, one subscription takes. It prints what a message
// costs, as JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	mochipackets "github.com/mochi-mqtt/server/v2/packets"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
)

const topic = "house/kitchen/temperature"

func main() {
	name := flag.String("broker", "petrel", "petrel or mochi")
	seconds := flag.Float64("seconds", 3, "length of the measured window")
	flag.Parse()
	if err := run(*name, time.Duration(*seconds*float64(time.Second))); err != nil {
		log.Fatal(err)
	}
}

func run(name string, window time.Duration) error {
	credit := newCredit()
	publish, err := embed(name, credit.arrived)
	if err != nil {
		return err
	}
	payload := []byte(strings.Repeat("x", 64))
	if _, err := credit.spend(window/3, publish, payload); err != nil {
		return err
	}
	began, used := time.Now(), cpu()
	n, err := credit.spend(window, publish, payload)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"cost": float64(cpu()-used) / float64(n),
		"rate": float64(n) / time.Since(began).Seconds(),
	})
}

// embed starts a broker whose one subscription calls arrived.
func embed(name string, arrived func()) (publish func([]byte) error, err error) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	switch name {
	case "petrel":
		b, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{auth.AllowAll{}}, Logger: quiet})
		if err != nil {
			return nil, err
		}
		_, err = b.Subscribe(topic, petrel.SubscribeOptions{}, func(context.Context, *petrel.Message) { arrived() })
		return func(payload []byte) error {
			return b.Publish(context.Background(), petrel.Message{Topic: topic, Payload: payload})
		}, err
	case "mochi":
		s := mochi.New(&mochi.Options{InlineClient: true, Logger: quiet})
		if err := s.Serve(); err != nil {
			return nil, err
		}
		err := s.Subscribe(topic, 1, func(*mochi.Client, mochipackets.Subscription, mochipackets.Packet) { arrived() })
		return func(payload []byte) error { return s.Publish(topic, payload, false, 0) }, err
	}
	return nil, fmt.Errorf("-broker %q is neither petrel nor mochi", name)
}

// credit keeps the publisher at most two portions ahead of the subscription, so
// that nothing is dropped.
type credit struct {
	portions chan struct{}
	seen     int
}

const portion = 500

func newCredit() *credit {
	c := &credit{portions: make(chan struct{}, 3)}
	c.portions <- struct{}{}
	c.portions <- struct{}{}
	return c
}

// arrived is called by one goroutine at a time.
func (c *credit) arrived() {
	if c.seen++; c.seen%portion == 0 {
		c.portions <- struct{}{}
	}
}

// spend publishes for a time and says how many messages that were.
func (c *credit) spend(d time.Duration, publish func([]byte) error, payload []byte) (n int, err error) {
	for began := time.Now(); time.Since(began) < d; n += portion {
		select {
		case <-c.portions:
		case <-time.After(10 * time.Second):
			return n, fmt.Errorf("messages were lost: %d arrived", c.seen)
		}
		for range portion {
			if err := publish(payload); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func cpu() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		log.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
