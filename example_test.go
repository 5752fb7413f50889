package petrel_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/listeners"
	"github.com/petrelmq/petrel/packets"
)

// quiet keeps the log out of the examples' output.
var quiet = slog.New(slog.DiscardHandler)

// The host program publishes and subscribes like a client.
func ExampleBroker_Subscribe() {
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{auth.AllowAll{}}, Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()

	done := make(chan struct{})
	_, err = broker.Subscribe("rooms/+/temperature", petrel.SubscribeOptions{}, func(_ context.Context, m *petrel.Message) {
		fmt.Printf("%s: %s\n", m.Topic, m.Payload)
		close(done)
	})
	if err != nil {
		log.Fatal(err)
	}
	m := petrel.Message{Topic: "rooms/kitchen/temperature", Payload: []byte("21.5"), Retain: true}
	if err := broker.Publish(context.Background(), m); err != nil {
		log.Fatal(err)
	}
	<-done
	// Output: rooms/kitchen/temperature: 21.5
}

// Retained messages can be looked at without a subscription.
func ExampleBroker_Retained() {
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{auth.AllowAll{}}, Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	for _, door := range []string{"front", "back"} {
		m := petrel.Message{Topic: "doors/" + door, Payload: []byte("shut"), Retain: true}
		if err := broker.Publish(context.Background(), m); err != nil {
			log.Fatal(err)
		}
	}
	for m := range broker.Retained("doors/#") {
		fmt.Printf("%s is %s\n", m.Topic, m.Payload)
	}
	// Output:
	// doors/back is shut
	// doors/front is shut
}

// A hook is refused if nothing of it fits, and if a method nearly fits.
func ExampleNew() {
	_, err := petrel.New(petrel.Options{})
	fmt.Println(err)
	_, err = petrel.New(petrel.Options{Hooks: []petrel.Hook{auth.AllowAll{}, "a text"}})
	fmt.Println(err)
	// Output:
	// petrel: Options.Hooks has no Authenticator, so nobody could connect; auth.AllowAll admits everybody
	// petrel: Options.Hooks[1]: string implements none of the hook interfaces
}

// Users own the topics below their name; a 5.0 client is told why it was refused.
func ExampleAuthorizerFunc() {
	own := petrel.AuthorizerFunc(func(_ context.Context, r *petrel.AccessRequest) error {
		if strings.HasPrefix(r.Topic, r.Client.Identity()+"/") {
			return nil
		}
		return &petrel.Refusal{Code: packets.NotAuthorized, ReasonString: "not below your name"}
	})
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{auth.AllowAll{}, own}, Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
}

// A broker serves as many listeners as there are, beside the HTTP routes of its host.
func ExampleBroker_Serve() {
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{auth.AllowLocal{}}, Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	secure, err := listeners.TLSFiles(":8883", "server.crt", "server.key", "")
	if err != nil {
		log.Fatal(err)
	}
	ws := listeners.NewWebSocket(listeners.WebSocketOptions{})
	http.Handle("/mqtt", ws)
	go func() { log.Print(broker.Serve(secure)) }()
	go func() { log.Print(broker.Serve(ws)) }()
	log.Fatal(http.ListenAndServe(":8080", nil))
}
