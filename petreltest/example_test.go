package petreltest_test

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/petreltest"
)

// exampleTest is the test that the examples are part of; they know it as t.
var (
	exampleTest = new(fakeTest)
	t           = exampleTest
)

func Example() {
	b := petreltest.StartInMemory(t)
	ctx, cancel := context.WithCancel(context.Background()) // in a test: t.Context()
	defer cancel()
	go thermostat(ctx, func() (net.Conn, error) { return b.Dial(), nil })

	b.Publish("home/temp", "17.5")
	fmt.Println("heater:", b.WaitFor("home/heater/set"))
	b.Publish("home/temp", "19")
	fmt.Println("heater:", b.WaitFor("home/heater/set"))
	// Output:
	// heater: ON
	// heater: OFF
}

func ExampleBroker_Restart() {
	b := petreltest.StartInMemory(t)
	ctx, cancel := context.WithCancel(context.Background()) // in a test: t.Context()
	defer cancel()
	go thermostat(ctx, func() (net.Conn, error) { return b.Dial(), nil })

	b.Publish("home/temp", "17.5")
	fmt.Println("heater:", b.WaitFor("home/heater/set"))
	b.Restart()
	b.Publish("home/temp", "17.5") // waits until the program has subscribed again
	fmt.Println("heater:", b.WaitFor("home/heater/set"))
	// Output:
	// heater: ON
	// heater: ON
}

func ExampleBroker_Messages() {
	b := petreltest.StartInMemory(t)
	for _, room := range []string{"kitchen", "bath"} {
		b.PublishMessage(petrel.Message{Topic: "home/" + room + "/light", Payload: []byte("on"), Retain: true})
	}
	for _, m := range slices.Backward(b.Messages("home/+/light")) {
		fmt.Println(m.Topic, m)
	}
	// Output:
	// home/bath/light on
	// home/kitchen/light on
}
