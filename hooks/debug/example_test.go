package debug_test

import (
	"log"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/hooks/debug"
)

// What one device says and hears goes to the log.
func ExampleTracer() {
	var tracer debug.Tracer
	if err := tracer.Only([]string{"thermostat-7"}, nil); err != nil {
		log.Fatal(err)
	}
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{auth.AllowAll{}, &tracer}})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
}
