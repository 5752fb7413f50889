package conformance_test

import (
	"slices"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Rules without a number about wills, and their traps.

// willed is a CONNECT with a will on a topic, and somebody who waits for it.
func (t *T) willed(delay, expiry uint32) (p packets.Connect, watch *brokertest.Client, topic string) {
	t.Helper()
	topic = t.Unique("t")
	watch = t.Client()
	watch.Subscribe(0, topic)
	p = t.durable(t.Unique("c"))
	p.SessionExpiryInterval = expiry
	p.HasWill, p.Will = true, packets.Will{Topic: []byte(topic), Payload: []byte("will"), DelayInterval: delay}
	return p, watch, topic
}

// noLonger is p without its will.
func noLonger(p packets.Connect) packets.Connect {
	p.HasWill, p.Will = false, packets.Will{}
	return p
}

func init() {
	timedRule("will-1", "", func(t *T) {
		p, watch, topic := t.willed(2, 3600)
		p.Will.HasMessageExpiry, p.Will.MessageExpiryInterval = true, 100
		t.Connect(p).Conn.Close()
		// A Will Delay Interval is no property of PUBLISH: the client would not decode it.
		if got := watch.ExpectPublish(topic, "will"); !got.HasMessageExpiry || got.MessageExpiryInterval != 100 {
			t.Fatalf("Message Expiry Interval %d; want 100", got.MessageExpiryInterval)
		}
	})
	rule("will-2", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{forbids(petrel.Publish)}})
		watch, p := t.Client(), t.CONNECT()
		watch.Subscribe(0, "no/#", "yes")
		p.HasWill, p.Will = true, packets.Will{Topic: []byte("no/will"), Payload: []byte("will")}
		c := t.Dial()
		c.Send(&p)
		if ack, ok := c.Next(); ok && ack.(*packets.Connack).Reason == packets.Success {
			t.Saw("a connection")
			c.Conn.Close()
		} else {
			t.Saw("a refused connection")
		}
		expectWillOn(t, watch, "yes")
		watch.ExpectNothing()
	})
	rule("will-3", "", func(t *T) {
		p, watch, topic := t.willed(0, 3600)
		old := t.Connect(p)
		t.Connect(noLonger(p))
		t.Refused(old, packets.SessionTakenOver)
		watch.ExpectPublish(topic, "will")
		watch.ExpectNothing()
	})
	rule("will-5", "", func(t *T) {
		p, _, topic := t.willed(0, 0)
		watch := t.Client()
		watch.Subscribe(2, topic)
		p.Will.QoS = 2
		p.Will.Properties = packets.Properties(nil).AppendPayloadFormat(1).AppendContentType("type").AppendResponseTopic("reply").
			AppendCorrelationData([]byte{1, 0xFF}).AppendUserProperty("n", "v")
		t.Connect(p).Conn.Close()
		got := watch.ExpectPublish(topic, "will")
		format, _ := got.Properties.PayloadFormat()
		if got.QoS != 2 || got.Retain || format != 1 || string(got.Properties.ContentType()) != "type" ||
			string(got.Properties.ResponseTopic()) != "reply" || string(got.Properties.CorrelationData()) != "\x01\xFF" ||
			!slices.Equal(userProperties(got), []string{"n=v"}) {
			t.Fatalf("%v, RETAIN %v, properties % x", got.QoS, got.Retain, []byte(got.Properties))
		}
	})
	takeovers()
	delays()
	rule("trap-connect-22", "the operator", func(t *T) {
		t.With(petrel.Options{})
		p, watch, topic := t.willed(0, 0)
		c := t.Connect(p)
		if err := t.broker.Disconnect(string(p.ClientID), nil); err != nil {
			t.Fatal(err)
		}
		t.Refused(c, packets.AdministrativeAction)
		watch.ExpectPublish(topic, "will")
	})
	rule("trap-connect-23", "", func(t *T) {
		t.With(petrel.Options{Hooks: []petrel.Hook{known}})
		topic := t.Unique("t")
		watch := t.Connect(by(t.CONNECT()))
		watch.Subscribe(0, topic)
		p := t.CONNECT()
		p.HasWill, p.Will = true, packets.Will{Topic: []byte(topic), Payload: []byte("will")}
		c := t.Dial()
		c.Send(&p)
		t.Refused(c, packets.NotAuthorized)
		last := by(t.CONNECT())
		last.HasWill, last.Will = true, packets.Will{Topic: []byte(topic), Payload: []byte("last")}
		t.Connect(last).Conn.Close()
		watch.ExpectPublish(topic, "last")
	})
	rule("trap-publish-15", "", func(t *T) {
		topic := t.Unique("t")
		sub := t.Client()
		sub.Subscribe(1, topic)
		expectWill(t, packets.Will{Topic: []byte(topic), QoS: 2}, func(c *brokertest.Client) { c.Conn.Close() })
		if got := sub.ExpectPublish(topic, "will"); got.QoS != 1 {
			t.Fatalf("%v; granted 1", got.QoS)
		}
	})
}

func takeovers() {
	rule("trap-connect-6", "", func(t *T) {
		topic, p := t.Unique("t"), t.durable(t.Unique("c"))
		watch := t.Client()
		watch.Subscribe(0, topic)
		p.HasWill, p.Will = true, packets.Will{Topic: []byte(topic), Payload: []byte("will")}
		old := t.Connect(p)
		c := t.Connect(noLonger(p))
		t.Refused(old, packets.SessionTakenOver)
		old.Conn.Close()
		watch.ExpectPublish(topic, "will")
		leave(c, packets.Success)
		expectWillOn(t, watch, topic) // the next will is that of another
		watch.ExpectNothing()
	})
	rule("trap-connect-7", "on takeover", func(t *T) {
		p, watch, topic := t.willed(3600, 3600)
		old := t.Connect(p)
		p.CleanStart = true
		t.Connect(noLonger(p))
		t.Refused(old, packets.SessionTakenOver)
		watch.ExpectPublish(topic, "will")
	})
	rule("trap-connect-7", "while the delay runs", func(t *T) {
		p, watch, topic := t.willed(3600, 3600)
		t.Connect(p).Conn.Close()
		p.CleanStart = true
		t.Connect(noLonger(p))
		watch.ExpectPublish(topic, "will")
	})
	timedRule("trap-connect-8", "on takeover", func(t *T) {
		p, watch, topic := t.willed(1, 3600)
		old := t.Connect(p)
		t.Connect(noLonger(p))
		t.Refused(old, packets.SessionTakenOver)
		other, _, _ := t.willed(2, 3600) // marks the time when the will would have come
		other.Will.Topic, other.Will.Payload = []byte(topic), []byte("other")
		t.Connect(other).Conn.Close()
		watch.ExpectPublish(topic, "other")
	})
	timedRule("trap-connect-8", "while it waits", func(t *T) {
		p, watch, topic := t.willed(1, 3600)
		t.Connect(p).Conn.Close()
		t.Connect(noLonger(p))
		other, _, _ := t.willed(2, 3600)
		other.Will.Topic, other.Will.Payload = []byte(topic), []byte("other")
		t.Connect(other).Conn.Close()
		watch.ExpectPublish(topic, "other")
	})
}

// delays are the traps of time. Wills of others with known delays mark it.
func delays() {
	// first wants the will of p, whose connection ends like that, before the
	// will of another client with a delay of late seconds.
	first := func(t *T, delay, expiry, late uint32, end func(c *brokertest.Client)) {
		t.Helper()
		p, watch, topic := t.willed(delay, expiry)
		other, _, _ := t.willed(late, 3600)
		other.Will.Topic, other.Will.Payload = []byte(topic), []byte("late")
		end(t.Connect(p))
		t.Connect(other).Conn.Close()
		watch.ExpectPublish(topic, "will")
		watch.ExpectPublish(topic, "late")
		watch.ExpectNothing()
	}
	cut := func(c *brokertest.Client) { c.Conn.Close() }
	timedRule("trap-connect-14", "", func(t *T) { first(t, 3600, 1, 4, cut) })
	timedRule("trap-connect-15", "", func(t *T) { first(t, 1, 3600, 4, cut) })
	timedRule("trap-connect-16", "", func(t *T) { first(t, 3600, 0, 2, cut) })
	timedRule("trap-connect-17", "", func(t *T) {
		p, watch, topic := t.willed(2, 3600)
		c := t.Connect(p)
		leave(c, packets.DisconnectWithWill)
		expectWillOn(t, watch, topic) // at once, and so before
		watch.ExpectPublish(topic, "will")
	})
	timedRule("trap-connect-15", "not before", func(t *T) {
		p, watch, topic := t.willed(2, 3600)
		t.Connect(p).Conn.Close()
		time.Sleep(time.Second)
		expectWillOn(t, watch, topic)
		watch.ExpectPublish(topic, "will")
	})
	rule("subscribe-2", "", func(t *T) {
		p, watch, topic := t.willed(0, 3600)
		c := t.Connect(p)
		s := subscription(topic, 1)
		s.NoLocal = true
		subscribe(t, c, 0, s)
		c.Conn.Close()
		watch.ExpectPublish(topic, "will")
		c = t.Connect(noLonger(p))
		c.ExpectNothing()
		t.Client().Publish(topic, "of another", 1)
		c.ExpectPublish(topic, "of another")
	})
}
