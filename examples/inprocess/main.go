// Inprocess publishes and subscribes from the host program: it watches the
// temperatures that devices report, and raises an alarm that they can hear.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"strconv"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
)

const tooHot = 80

// watch raises a retained alarm while a machine is too hot.
func watch(broker *petrel.Broker) func(context.Context, *petrel.Message) {
	return func(ctx context.Context, m *petrel.Message) {
		machine := strings.Split(m.Topic, "/")[1]
		degrees, err := strconv.ParseFloat(string(m.Payload), 64)
		if err != nil {
			log.Printf("%s reports %q, which is no number", machine, m.Payload)
			return
		}
		alarm := petrel.Message{Topic: "alarms/" + machine, Retain: true, QoS: petrel.AtLeastOnce}
		if degrees >= tooHot {
			alarm.Payload = []byte("too hot")
		} // an empty retained message takes the alarm away
		if err := broker.Publish(ctx, alarm); err != nil {
			log.Print(err)
		}
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:1883", "`address` to serve MQTT on")
	flag.Parse()
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{auth.AllowLocal{}}})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := broker.Subscribe("machines/+/temperature", petrel.SubscribeOptions{}, watch(broker)); err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Print("listening on ", l.Addr())
	log.Fatal(broker.Serve(l))
}
