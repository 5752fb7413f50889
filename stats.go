package petrel

import (
	"sync/atomic"
	"time"
)

// counters are what one batch counts, to be added to the stats at its end.
type counters struct {
	messagesIn, messagesOut         uint64
	bytesIn, bytesOut               uint64
	publishIn, publishOut           uint64
	publishBytesIn, publishBytesOut uint64
	dropped                         [dropReasons]uint64
	full                            bool // some outbound buffer should be flushed soon
}

// stats are the counters of a broker.
type stats struct {
	messagesIn, messagesOut         atomic.Uint64
	bytesIn, bytesOut               atomic.Uint64
	publishIn, publishOut           atomic.Uint64
	publishBytesIn, publishBytesOut atomic.Uint64
	dropped                         [dropReasons]atomic.Uint64
	limited                         [limits]atomic.Uint64

	connected     atomic.Int64
	mostConnected atomic.Int64
	opened        atomic.Uint64
	connects      atomic.Uint64
	takenOver     atomic.Uint64
	expired       atomic.Uint64

	// Who would have been refused, or was: see the tolerations in Options.
	bridgeLevels, receiveMaximum, longClientIDs atomic.Uint64
}

// add adds what a batch has counted, and sets that to zero.
func (s *stats) add(c *counters) {
	for _, x := range [...]struct {
		to   *atomic.Uint64
		from *uint64
	}{
		{&s.messagesIn, &c.messagesIn}, {&s.messagesOut, &c.messagesOut},
		{&s.bytesIn, &c.bytesIn}, {&s.bytesOut, &c.bytesOut},
		{&s.publishIn, &c.publishIn}, {&s.publishOut, &c.publishOut},
		{&s.publishBytesIn, &c.publishBytesIn}, {&s.publishBytesOut, &c.publishBytesOut},
	} {
		if *x.from != 0 {
			x.to.Add(*x.from)
		}
	}
	for i := range c.dropped {
		if c.dropped[i] != 0 {
			s.dropped[i].Add(c.dropped[i])
		}
	}
	*c = counters{}
}

// noteConnected counts an accepted CONNECT.
func (s *stats) noteConnected() {
	s.connects.Add(1)
	n := s.connected.Add(1)
	for {
		most := s.mostConnected.Load()
		if n <= most || s.mostConnected.CompareAndSwap(most, n) {
			return
		}
	}
}

// Stats are the figures of a broker since it was made, as far as they are not of
// the moment. Bytes are those of MQTT packets, without TLS or TCP.
type Stats struct {
	Uptime time.Duration

	ClientsConnected   int // now
	ClientsMaximum     int // the most at one time
	Sessions           int // now, of connected clients and of others
	SessionsExpired    uint64
	ConnectionsOpened  uint64 // connections that came, whether a CONNECT did or not
	Connects           uint64 // accepted
	TakenOver          uint64 // connections displaced by another with the same client identifier
	Subscriptions      int    // now, shared ones included
	SharedSubscription int    // now
	SharedGroups       int    // now
	Retained           int    // messages, now
	MessageBytes       int64  // now in memory: in queues, in flight and retained

	PacketsReceived, PacketsSent           uint64 // of any type
	BytesReceived, BytesSent               uint64
	PublishReceived, PublishSent           uint64 // PUBLISH packets
	PublishBytesReceived, PublishBytesSent uint64 // of their payloads

	StoreCommits uint64 // batches that are in the store
	StoreChanges uint64 // records that were put or removed with them

	Dropped map[DropReason]uint64 // copies that were not delivered; only reasons that occurred

	// LimitsReached counts what LimitObservers are told of; only limits that were reached.
	LimitsReached map[Limit]uint64

	// Clients that a strict broker refuses, whether they were tolerated or not.
	BridgeLevels           uint64 // see Options.TolerateBridgeLevel
	ReceiveMaximumExceeded uint64 // see Options.TolerateReceiveMaximum
	LongClientIDs          uint64 // see Options.TolerateLongClientIDs
}

// Stats returns the figures of this moment. They are read one after the other
// while the broker runs.
func (b *Broker) Stats() Stats {
	s := &b.stats
	r := Stats{
		Uptime:             time.Duration(b.alarms.now()),
		ClientsConnected:   int(s.connected.Load()),
		ClientsMaximum:     int(s.mostConnected.Load()),
		Sessions:           int(b.directory.count.Load()),
		SessionsExpired:    s.expired.Load(),
		ConnectionsOpened:  s.opened.Load(),
		Connects:           s.connects.Load(),
		TakenOver:          s.takenOver.Load(),
		Subscriptions:      b.tree.Len(),
		SharedSubscription: b.tree.SharedLen(),
		SharedGroups:       b.tree.Groups(),
		Retained:           b.retained.index.Len(),
		MessageBytes:       b.memory.all.Load(),

		PacketsReceived: s.messagesIn.Load(), PacketsSent: s.messagesOut.Load(),
		BytesReceived: s.bytesIn.Load(), BytesSent: s.bytesOut.Load(),
		PublishReceived: s.publishIn.Load(), PublishSent: s.publishOut.Load(),
		PublishBytesReceived: s.publishBytesIn.Load(), PublishBytesSent: s.publishBytesOut.Load(),

		Dropped:                make(map[DropReason]uint64),
		LimitsReached:          make(map[Limit]uint64),
		BridgeLevels:           s.bridgeLevels.Load(),
		ReceiveMaximumExceeded: s.receiveMaximum.Load(),
		LongClientIDs:          s.longClientIDs.Load(),
	}
	if b.journal != nil {
		r.StoreCommits, r.StoreChanges = b.journal.commits.Load(), b.journal.changes.Load()
	}
	for reason := range s.dropped {
		if n := s.dropped[reason].Load(); n != 0 {
			r.Dropped[DropReason(reason)] = n
		}
	}
	for l := range s.limited {
		if n := s.limited[l].Load(); n != 0 {
			r.LimitsReached[Limit(l)] = n
		}
	}
	return r
}

// droppedTotal is the sum over all reasons.
func (s *Stats) droppedTotal() (n uint64) {
	for _, k := range s.Dropped {
		n += k
	}
	return n
}
