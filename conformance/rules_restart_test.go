package conformance_test

import (
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/store/storetest"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

func init() {
	timedRule("session-6", "", func(t *T) {
		restart := t.WithStore()
		p := t.durable(t.Unique("c"))
		sub := t.Connect(p)
		sub.Subscribe(packets.AtLeastOnce, "a/+")
		t.Client().Publish("a/1", "before", packets.AtLeastOnce)
		sub.ExpectPublish("a/1", "before")
		restart(time.Minute)
		pub := t.Client()
		pub.Publish("a/2", "after", packets.AtLeastOnce)
		sub, ack := t.TryConnect(p)
		if !ack.SessionPresent {
			t.Fatal("the session is gone")
		}
		again := sub.ExpectPublish("a/1", "before")
		if !again.Dup {
			t.Fatal("it is sent again, without DUP")
		}
		sub.Accept(again)
		sub.Accept(sub.ExpectPublish("a/2", "after"))
		sub.ExpectNothing()
	})
	timedRule("will-4", "", func(t *T) {
		restart := t.WithStore()
		watcher := t.durable(t.Unique("c"))
		t.Connect(watcher).Subscribe(packets.AtLeastOnce, "will")
		p := t.durable(t.Unique("c"))
		p.HasWill, p.Will = true, packets.Will{Topic: []byte("will"), Payload: []byte("gone"), QoS: packets.AtLeastOnce}
		t.Connect(p)
		restart(time.Minute)
		c := t.Connect(watcher)
		c.Accept(c.ExpectPublish("will", "gone"))
		c.ExpectNothing()
	})
	timedRule("trap-publish-8", "", func(t *T) {
		restart := t.WithStore()
		pub := t.Client()
		for topic, seconds := range map[string]uint32{"kept/short": 30, "kept/long": 300} {
			pub.PublishWith(packets.Publish{
				Topic: []byte(topic), Payload: []byte("x"), QoS: packets.AtLeastOnce, Retain: true,
				HasMessageExpiry: true, MessageExpiryInterval: seconds,
			})
		}
		restart(100 * time.Second)
		c := t.Client()
		c.Subscribe(packets.AtLeastOnce, "kept/+")
		m := c.ExpectPublish("kept/long", "x")
		if !m.HasMessageExpiry || m.MessageExpiryInterval < 195 || m.MessageExpiryInterval > 200 {
			t.Fatalf("expires in %d seconds; want 200", m.MessageExpiryInterval)
		}
		c.Accept(m)
		c.ExpectNothing()
	})
	timedRule("trap-qos-2", "", func(t *T) {
		restart := t.WithStore()
		publisher, watcher := t.durable(t.Unique("c")), t.durable(t.Unique("c"))
		t.Connect(watcher).Subscribe(packets.ExactlyOnce, "a")
		m := packets.Publish{Topic: []byte("a"), Payload: []byte("once"), QoS: packets.ExactlyOnce, PacketID: 7}
		c := t.Connect(publisher)
		c.Send(&m)
		brokertest.Expect[*packets.Pubrec](c)
		restart(time.Minute)
		c = t.Connect(publisher)
		m.Dup = true
		c.Send(&m)
		brokertest.Expect[*packets.Pubrec](c)
		c.Send(&packets.Pubrel{PacketID: 7})
		brokertest.Expect[*packets.Pubcomp](c)
		c = t.Connect(watcher)
		c.Accept(c.ExpectPublish("a", "once"))
		c.ExpectNothing()
	})
}

// WithStore is With for a broker that keeps its state. It returns what ends that
// as a crash does, and starts it again after a time.
func (t *T) WithStore() (restart func(down time.Duration)) {
	t.Helper()
	disk := storetest.NewDisk()
	start := func() {
		t.Helper()
		s, err := disk.Open()
		if err != nil {
			t.Fatal(err)
		}
		t.With(petrel.Options{Hooks: []petrel.Hook{s}})
	}
	start()
	return func(down time.Duration) {
		t.Helper()
		disk.Crash()
		if err := t.broker.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(down)
		start()
	}
}
