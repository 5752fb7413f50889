package limit_test

import (
	"fmt"
	"log"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/hooks/limit"
)

func ExampleNew() {
	limiter, err := limit.New(limit.Options{
		PerAddress:         limit.Rate{Count: 10, Burst: 100},
		FailuresPerAddress: limit.Rate{Count: 10, Period: time.Minute},
		PerIdentity:        limit.Rate{Count: 1, Burst: 5},
	})
	if err != nil {
		log.Fatal(err)
	}
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{limiter, auth.AllowLocal{}}})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	fmt.Println(limiter.Refused(), "refused")
	// Output: 0 refused
}
