package limit_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/hooks/limit"
)

// At most two connects at once of one address, and of one identity, whatever its address.
func ExampleLimiter() {
	limiter, err := limit.New(limit.Options{PerAddress: limit.Rate{Count: 2}, PerIdentity: limit.Rate{Count: 2}})
	if err != nil {
		log.Fatal(err)
	}
	connect := func(address, identity string) error {
		r := &petrel.ConnectionRequest{Stage: petrel.StageAccepted}
		r.Peer.RemoteAddr = &net.TCPAddr{IP: net.ParseIP(address)}
		if err := limiter.AuthorizeConnection(context.Background(), r); err != nil {
			return err
		}
		r.Stage, r.Connect = petrel.StageAuthenticated, &petrel.ConnectRequest{Identity: identity}
		return limiter.AuthorizeConnection(context.Background(), r)
	}
	for _, c := range [][2]string{
		{"192.0.2.1", "alice"}, {"192.0.2.1", "bob"}, {"192.0.2.1", "carol"}, {"192.0.2.2", "alice"}, {"192.0.2.3", "alice"},
	} {
		fmt.Println(c, connect(c[0], c[1]))
	}
	// Output:
	// [192.0.2.1 alice] <nil>
	// [192.0.2.1 bob] <nil>
	// [192.0.2.1 carol] mqtt: connection rate exceeded: 192.0.2.1/32 connects too often
	// [192.0.2.2 alice] <nil>
	// [192.0.2.3 alice] mqtt: connection rate exceeded: "alice" connects too often
}

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
