package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/examples/internal/smoke"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

func TestFahrenheitIsHeardInCelsius(t *testing.T) {
	addr := smoke.Start(t, `listening on (\S+)`, "-listen", "127.0.0.1:0")[0]
	sub := smoke.Connect(t, addr, packets.Connect{ClientID: []byte("sub")})
	sub.Subscribe(1, "#")
	device := smoke.Connect(t, addr, packets.Connect{ClientID: []byte("device")})

	device.Publish("oven/fahrenheit", "212", 1)
	sub.Accept(sub.ExpectPublish("oven/celsius", "100.0"))

	device.Send(&packets.Publish{Topic: []byte("oven/fahrenheit"), Payload: []byte("hot"), QoS: 1, PacketID: 7})
	ack := brokertest.Expect[*packets.Puback](device)
	require.Equal(t, packets.PayloadFormatInvalid, ack.Reason)
	require.Equal(t, "a temperature is a number", string(ack.ReasonString))
	device.Publish("oven/door", "open", 1)
	sub.ExpectPublish("oven/door", "open")
}
