package petrel

import (
	"encoding/binary"

	"github.com/petrelmq/petrel/internal/engine"
	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/topics"
)

// batch is the working memory of one goroutine while it handles the bytes of one
// read, or any other job that sends messages: what it decodes into and encodes
// from, and the clients that it has to flush at the end. Batches come from a
// pool, so that a connection at rest has none.
type batch struct {
	broker  *Broker
	now     instant
	touched []*Client
	drops   []Drop // to be observed when no lock is held
	limits  []LimitEvent
	traces  []trace // to be told when no lock is held
	count   counters
	depth   int // of publications by hooks that this one is part of

	overdrawn bool // messages of QoS 0 have to give way to what it has added

	journal   publicationJournal
	journaled *commit // the last that this batch has changes in; nil if there are none

	read     *engine.Buffer // that the packets lie in which are handled; nil if it cannot be retained
	in       decoded
	pub      publication // the message that is being published
	waiting  publication // a kept message that is being sent
	matches  topics.Matches[subscription]
	members  []*entry
	targets  []target
	overlap  overlap
	retained []*message

	heads   headCache
	out     packets.Publish
	scratch []byte
	reasons []packets.ReasonCode
}

// decoded has one packet of each kind that a client sends, to be decoded into.
type decoded struct {
	publish     packets.Publish
	ack         packets.Puback
	rec         packets.Pubrec
	rel         packets.Pubrel
	comp        packets.Pubcomp
	subscribe   packets.Subscribe
	unsubscribe packets.Unsubscribe
	disconnect  packets.Disconnect
	auth        packets.Auth
}

// batch takes a batch from the pool; finish gives it back.
func (b *Broker) batch() *batch {
	bt, ok := b.batches.Get().(*batch)
	if !ok {
		bt = &batch{broker: b}
	}
	bt.now = b.alarms.now()
	return bt
}

// Finish ends a batch that was a round of the engine.
func (bt *batch) Finish() { bt.finish() }

// finish flushes every client that was touched, and tells of what was dropped.
func (bt *batch) finish() {
	b := bt.broker
	bt.abandon()
	if bt.overdrawn {
		bt.overdrawn = false
		b.shed(bt)
	}
	b.stats.add(&bt.count) // who gets an answer finds it counted
	bt.flush()
	bt.observeDrops()
	bt.observeLimits()
	bt.reset()
	b.batches.Put(bt)
}

// reset lets go of everything that a pooled batch must not keep alive.
func (bt *batch) reset() {
	bt.pub, bt.depth, bt.journaled = publication{}, 0, nil
	bt.waiting = publication{topic: bt.waiting.topic[:0]}
	bt.matches.Reset()
	clear(bt.members)
	clear(bt.targets)
	clear(bt.retained)
	bt.members, bt.targets, bt.retained = bt.members[:0], bt.targets[:0], bt.retained[:0]
	bt.heads.forget()
	if cap(bt.scratch) > keepUpTo {
		bt.scratch = nil
	}
	if cap(bt.targets) > 1<<14 {
		bt.targets, bt.matches, bt.overlap = nil, topics.Matches[subscription]{}, overlap{}
	}
}

// push appends a PUBLISH to the outbound buffer of c and sees to its flush. It
// does not leave before the commit after is safe; nil is none.
func (bt *batch) push(c *Client, head []byte, p *publication, idAt int, id uint16, after *commit) {
	if len(bt.broker.hooks.trace) > 0 {
		bt.trace(c, head, p.payload, idAt, id)
	}
	mustFlush, size := c.out.pushAfter(after, head, p.content(), idAt, id)
	bt.count.publishOut++
	bt.count.publishBytesOut += uint64(len(p.payload))
	bt.sent(c, len(head)+len(p.payload), mustFlush, size)
}

// reply sends a packet other than PUBLISH, which does not leave before all that
// the batch has journaled is safe. Reason String and User Properties
// must have been left out where the client does not want them.
func (bt *batch) reply(c *Client, p packets.Packet) { bt.replyShort(c, p, nil) }

// replyShort is reply for a packet that shrink can make smaller, by leaving out
// what explains it, if it is too large for the client (MQTT 5.0, section 3.1.2.11.4).
func (bt *batch) replyShort(c *Client, p packets.Packet, shrink func()) {
	b, err := p.AppendTo(bt.scratch[:0], c.version)
	if (err != nil || len(b) > int(c.maximumPacket)) && shrink != nil {
		shrink()
		b, err = p.AppendTo(bt.scratch[:0], c.version)
	}
	if err != nil {
		c.broker.log.Error("petrel: encoding an answer", "client", c.id, "packet", p.Type().String(), "error", err)
		return
	}
	bt.scratch = b[:0]
	if len(b) > int(c.maximumPacket) {
		// It would wait for the answer for ever.
		c.stop(&packets.Error{Code: packets.PacketTooLarge, Detail: p.Type().String() + " is above the Maximum Packet Size of the client"})
		return
	}
	if len(bt.broker.hooks.trace) > 0 {
		bt.trace(c, b, nil, 0, 0)
	}
	mustFlush, size := c.out.pushAfter(bt.journaled, b, content{}, 0, 0)
	bt.sent(c, len(b), mustFlush, size)
}

func (bt *batch) sent(c *Client, n int, mustFlush bool, size int) {
	bt.count.messagesOut++
	bt.count.bytesOut += uint64(n)
	if mustFlush {
		bt.touched = append(bt.touched, c)
	}
	full := flushFrom
	if n >= shareFrom {
		full = flushLargeFrom
	}
	if size >= full && size-n < full {
		bt.count.full = true
	}
}

// relieve flushes the clients that were touched when one of them has much to
// write. No lock may be held.
func (bt *batch) relieve() {
	if !bt.count.full || bt.journal.bracketed && len(bt.broker.hooks.trace) > 0 {
		return
	}
	bt.count.full = false
	bt.flush()
}

// flush writes what the touched clients have waiting. No lock may be held.
func (bt *batch) flush() {
	for i, c := range bt.touched {
		bt.touched[i] = nil
		c.out.flush()
	}
	bt.touched = bt.touched[:0]
	bt.tellTraces()
}

// trace is a packet that was sent, for the PacketTracers.
type trace struct {
	client *Client
	packet []byte
}

// trace notes a packet that is sent, as it will be on the wire.
func (bt *batch) trace(c *Client, head, payload []byte, idAt int, id uint16) {
	packet := append(append(make([]byte, 0, len(head)+len(payload)), head...), payload...)
	if idAt != 0 {
		binary.BigEndian.PutUint16(packet[idAt:], id)
	}
	bt.traces = append(bt.traces, trace{c, packet})
}

// tellTraces tells the PacketTracers. No lock may be held.
func (bt *batch) tellTraces() {
	for _, t := range bt.traces {
		observe(bt.broker, bt.broker.hooks.trace, func(o PacketTracer) { o.PacketSent(t.client, t.packet) })
	}
	clear(bt.traces)
	bt.traces = bt.traces[:0]
}

// drop notes that a copy of p is not delivered.
func (bt *batch) drop(receiver string, p *publication, qos QoS, reason DropReason) {
	bt.count.dropped[reason]++
	if len(bt.broker.hooks.drop) > 0 {
		bt.drops = append(bt.drops, Drop{receiver, string(p.topic), qos, reason})
	}
}

// dropMessage notes that a kept message is not delivered.
func (bt *batch) dropMessage(receiver string, m *message, qos QoS, reason DropReason) {
	bt.count.dropped[reason]++
	if len(bt.broker.hooks.drop) > 0 {
		bt.drops = append(bt.drops, Drop{receiver, m.topic, qos, reason})
	}
}

// observeDrops tells the observers. No lock may be held.
func (bt *batch) observeDrops() {
	for i := range bt.drops {
		bt.broker.messageDropped(bt, &bt.drops[i])
	}
	clear(bt.drops)
	bt.drops = bt.drops[:0]
}
