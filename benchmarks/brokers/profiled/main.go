// Profiled is petrel with its profiles at an address, to see what a message costs
// and where.
package main

import (
	"flag"
	"log"
	"net/http"
	_ "net/http/pprof" // at /debug/pprof/

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
)

func main() {
	tcp := flag.String("tcp", "127.0.0.1:1883", "listen on `ADDR`")
	profiles := flag.String("profiles", "127.0.0.1:6060", "serve profiles on `ADDR`")
	flag.Parse()
	b, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{auth.AllowAll{}}})
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.ListenAndServe(*profiles, nil)) }()
	log.Fatal(b.ListenAndServe(*tcp))
}
