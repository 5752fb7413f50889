// Intercept changes messages on their way in, and rejects those that make no
// sense: thermometers that report in Fahrenheit are heard in Celsius.
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
	"github.com/petrelmq/petrel/packets"
)

// celsius is the hook.
type celsius struct{}

var _ petrel.PublishInterceptor = celsius{}

// InterceptPublish turns "NAME/fahrenheit" into "NAME/celsius". A reading that
// is no number is refused, and the device is told why if it speaks MQTT 5.0.
func (celsius) InterceptPublish(_ context.Context, r *petrel.PublishRequest) error {
	name, ok := strings.CutSuffix(r.Message.Topic, "/fahrenheit")
	if !ok {
		return nil
	}
	f, err := strconv.ParseFloat(string(r.Message.Payload), 64)
	if err != nil {
		return &petrel.Refusal{Code: packets.PayloadFormatInvalid, ReasonString: "a temperature is a number", Err: err}
	}
	r.Message.Topic = name + "/celsius"
	r.Message.Payload = strconv.AppendFloat(nil, (f-32)*5/9, 'f', 1, 64)
	r.Message.UserProperties = append(r.Message.UserProperties, petrel.UserProperty{Name: "converted-from", Value: "fahrenheit"})
	return nil
}

func main() {
	listen := flag.String("listen", "127.0.0.1:1883", "`address` to serve MQTT on")
	flag.Parse()
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{auth.AllowLocal{}, celsius{}}})
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Print("listening on ", l.Addr())
	log.Fatal(broker.Serve(l))
}
