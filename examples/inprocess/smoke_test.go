package main

import (
	"testing"

	"github.com/petrelmq/petrel/examples/internal/smoke"
	"github.com/petrelmq/petrel/packets"
)

func TestAlarm(t *testing.T) {
	addr := smoke.Start(t, `listening on (\S+)`, "-listen", "127.0.0.1:0")[0]
	c := smoke.Connect(t, addr, packets.Connect{ClientID: []byte("c")})
	c.Subscribe(0, "alarms/+")
	c.Send(&packets.Publish{Topic: []byte("machines/press/temperature"), Payload: []byte("81")})
	c.ExpectPublish("alarms/press", "too hot")
	c.Send(&packets.Publish{Topic: []byte("machines/press/temperature"), Payload: []byte("79.5")})
	c.ExpectPublish("alarms/press", "")
}
