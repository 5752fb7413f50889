package petrel

import (
	"time"

	"github.com/petrelmq/petrel/packets"
)

// will is the message that a client leaves with the broker (MQTT 5.0, section
// 3.1.2.5), as it will be published.
type will struct {
	client    *Client
	delay     uint32  // Will Delay Interval, in seconds
	due       instant // 0 until its connection has ended; guarded by session.mu
	topic     []byte
	payload   []byte
	props     packets.Properties
	qos       QoS
	retain    bool
	hasExpiry bool
	expiry    uint32 // in seconds, from its publication on
}

// newWill copies the will of a CONNECT.
func newWill(c *Client, w *packets.Will) *will {
	return &will{
		client: c, delay: w.DelayInterval, topic: clone(w.Topic), payload: clone(w.Payload),
		props: packets.Properties(clone(w.Properties)), qos: w.QoS, retain: w.Retain,
		hasExpiry: w.HasMessageExpiry, expiry: w.MessageExpiryInterval,
	}
}

// dueFrom is when the will of a connection that has ended now, or before, is due.
func (w *will) dueFrom(now instant) instant {
	if w.due == 0 {
		w.due = now.after(time.Duration(w.delay) * time.Second)
	}
	return w.due
}

// publication is the will as it is published now.
func (w *will) publication(now instant) publication {
	p := publication{
		topic: w.topic, payload: w.payload, props: w.props, by: w.client.principal, qos: w.qos, retain: w.retain,
	}
	if w.hasExpiry {
		p.expires = expiresAt(now, w.expiry)
	}
	return p
}

// public is the will as hooks see it.
func (w *will) public(now instant) *Message {
	p := w.publication(now)
	return p.public(now)
}

// publishWill publishes a will that has become due: it goes the way of any
// message of its client. Nil is no will.
func (b *Broker) publishWill(w *will) {
	if w == nil {
		return
	}
	defer b.directory.willIsOut(w)
	bt := b.batch()
	defer bt.finish()
	bt.pub = w.publication(bt.now)
	if b.journal != nil {
		bt.journal.will = w.client.session
	}
	_, err := w.client.pass(bt, &bt.pub, true)
	bt.forgetPublishedWill() // if it was not routed
	if err != nil {
		b.log.Info("petrel: a will was refused", "client", w.client.id, "topic", string(w.topic), "error", err)
		return
	}
	w.client.observePublished(bt, &bt.pub)
}
