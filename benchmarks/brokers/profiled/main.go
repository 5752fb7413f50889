// Profiled is petrel with its profiles and figures at an address, to see what a
// message costs and where; with or without a store.
package main

import (
	"expvar"
	"flag"
	"fmt"
	"log"
	"net/http"
	_ "net/http/pprof" // at /debug/pprof/

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/hooks/store/bolt"
	"github.com/petrelmq/petrel/hooks/store/pebble"
)

func main() {
	tcp := flag.String("tcp", "127.0.0.1:1883", "listen on `ADDR`")
	figures := flag.String("figures", "127.0.0.1:6060", "serve /debug/pprof and /debug/vars on `ADDR`")
	kind := flag.String("store", "", "keep the state with `KIND`, bolt or pebble, and sync each commit")
	data := flag.String("data", "", "the `DIRECTORY` of the store")
	flag.Parse()
	hooks, err := hooks(*kind, *data)
	if err != nil {
		log.Fatal(err)
	}
	b, err := petrel.New(petrel.Options{Hooks: hooks})
	if err != nil {
		log.Fatal(err)
	}
	expvar.Publish("petrel", expvar.Func(func() any { return b.Stats() })) // at /debug/vars
	go func() { log.Fatal(http.ListenAndServe(*figures, nil)) }()
	log.Fatal(b.ListenAndServe(*tcp))
}

// hooks are those of the broker, with the store that was asked for.
func hooks(kind, dir string) ([]petrel.Hook, error) {
	var s petrel.Store
	var err error
	switch kind {
	case "":
		return []petrel.Hook{auth.AllowAll{}}, nil
	case "bolt":
		s, err = bolt.Open(dir, bolt.Options{})
	case "pebble":
		s, err = pebble.Open(dir, pebble.Options{})
	default:
		err = fmt.Errorf("-store: %q is neither bolt nor pebble", kind)
	}
	return []petrel.Hook{auth.AllowAll{}, s}, err
}
