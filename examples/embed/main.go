// Embed is the smallest program with a broker inside: it serves MQTT on port
// 1883 of this machine, to everybody who gets there.
package main

import (
	"log"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
)

func main() {
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{auth.AllowAll{}}})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(broker.ListenAndServe("127.0.0.1:1883"))
}
