package petrel_test

import (
	"net"
	"testing"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// FuzzBytesAfterConnect gives a running broker any bytes behind a good CONNECT.
// The connection may end as it likes; another client goes on, and nothing is
// held for the one that is gone.
func FuzzBytesAfterConnect(f *testing.F) {
	for _, v := range []packets.Version{packets.V31, packets.V311, packets.V5} {
		var all []byte
		for _, whole := range every(f, v) {
			f.Add(byte(v), whole)
			f.Add(byte(v), whole[:len(whole)/2])
			all = append(all, whole...)
		}
		f.Add(byte(v), all)
	}
	for _, list := range [][]offence{framingOffences, strictOffences, offences311, offences5} {
		for _, o := range list {
			raw := octets(f, o.body)
			if o.first != 0 {
				raw = framed(f, o.first, o.body)
			}
			f.Add(byte(packets.V5), raw)
			f.Add(byte(packets.V311), raw)
		}
	}
	// a conversation: subscribe to everything, then publish to it in every QoS
	f.Add(byte(packets.V5), octets(f, "82 07 00 01 00 00 01 23 02 30 06 00 01 61 00 68 69 33 07 00 01 61 00 02 00 6D 34 07 00 01 61 00 03 00 6D 62 02 00 03 50 02 00 02 70 02 00 02 40 02 00 01"))
	f.Fuzz(func(t *testing.T, level byte, raw []byte) {
		v := packets.Version(level)
		if v != packets.V31 && v != packets.V311 {
			v = packets.V5
		}
		b := brokertest.New(t, petrel.Options{Logger: silent()})
		witness := b.Connect(brokertest.ID("witness"))
		witness.Subscribe(packets.AtMostOnce, "witness/only")

		client, server := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- b.ServeConn(server) }()
		go func() { // reads what comes, so that answers never fill the buffer
			buf := make([]byte, 4096)
			for {
				if _, err := client.Read(buf); err != nil {
					return
				}
			}
		}()
		connect := packets.Connect{
			Version: v, ClientID: []byte("fuzz"), CleanStart: true, HasWill: true, Will: packets.Will{Topic: []byte("will"), QoS: 1},
		}
		hello, err := connect.AppendTo(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		client.SetWriteDeadline(time.Now().Add(10 * time.Second))
		client.Write(append(hello, raw...)) // fails if the broker has had enough of it
		client.Close()
		select {
		case <-served:
		case <-time.After(10 * time.Second):
			t.Fatal("the connection is still served")
		}

		pub := b.Connect(brokertest.ID("pub"))
		pub.Publish("witness/only", "still here", packets.AtLeastOnce)
		for {
			if p := brokertest.Expect[*packets.Publish](witness); string(p.Payload) == "still here" {
				break
			} // else it is from the bytes
		}
		witness.ExpectNothing()
		s := b.Stats()
		if s.ClientsConnected != 2 || s.Sessions != 2 || s.Subscriptions != 1 {
			t.Errorf("%d clients, %d sessions, %d subscriptions are left; want 2, 2, 1", s.ClientsConnected, s.Sessions, s.Subscriptions)
		}
		if s.Retained == 0 && s.MessageBytes != 0 {
			t.Errorf("%d bytes are held for nothing", s.MessageBytes)
		}
	})
}
