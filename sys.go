package petrel

import (
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"time"
)

// sys publishes the figures of the broker below $SYS/broker, under the names
// that mosquitto uses. Only what has changed is published; all is retained, but
// not in the store: counters begin with the process, as its uptime does and as they
// do in mosquitto, so that a reader can tell a rate from them.
type sys struct {
	broker *Broker
	alarm  alarm
	sent   map[string]string
	loads  []load
	last   instant
	heap   uint64 // the most bytes in a round
}

// load is the moving averages of a counter: how much it grows per minute, over
// the last 1, 5 and 15 minutes.
type load struct {
	topic   string
	read    func(*Stats) uint64
	last    uint64
	average [3]float64
}

var loadMinutes = [3]float64{1, 5, 15}

func (y *sys) init(b *Broker) {
	y.broker = b
	y.sent = make(map[string]string)
	y.loads = []load{
		{topic: "messages/received", read: func(s *Stats) uint64 { return s.PacketsReceived }},
		{topic: "messages/sent", read: func(s *Stats) uint64 { return s.PacketsSent }},
		{topic: "publish/received", read: func(s *Stats) uint64 { return s.PublishReceived }},
		{topic: "publish/sent", read: func(s *Stats) uint64 { return s.PublishSent }},
		{topic: "publish/dropped", read: func(s *Stats) uint64 { return s.droppedTotal() }},
		{topic: "bytes/received", read: func(s *Stats) uint64 { return s.BytesReceived }},
		{topic: "bytes/sent", read: func(s *Stats) uint64 { return s.BytesSent }},
		{topic: "connections", read: func(s *Stats) uint64 { return s.Connects }},
		{topic: "sockets", read: func(s *Stats) uint64 { return s.ConnectionsOpened }},
	}
	if b.opts.SysInterval != forever && !b.opts.DisableRetain {
		b.alarms.set(&y.alarm, y, b.alarms.now())
	}
}

// ring publishes, and sees to the next time. One round ends before the next is set.
func (y *sys) ring(now instant) {
	b := y.broker
	b.begin(func() {
		y.publish(now)
		b.alarms.set(&y.alarm, y, now.after(b.opts.SysInterval))
	})
}

func (y *sys) publish(now instant) {
	b := y.broker
	s := b.Stats()
	bt := b.batch()
	defer bt.finish()
	put := func(topic, value string) {
		if y.sent[topic] == value {
			return
		}
		y.sent[topic] = value
		b.publishFromHost(bt, &Message{Topic: "$SYS/broker/" + topic, Payload: []byte(value), Retain: true})
	}
	number := func(topic string, n uint64) { put(topic, strconv.FormatUint(n, 10)) }

	put("version", "petrel "+version())
	put("uptime", fmt.Sprintf("%d seconds", int(s.Uptime.Seconds())))
	y.clients(number, &s)
	number("messages/received", s.PacketsReceived)
	number("messages/sent", s.PacketsSent)
	number("publish/messages/received", s.PublishReceived)
	number("publish/messages/sent", s.PublishSent)
	number("publish/messages/dropped", s.droppedTotal())
	number("publish/bytes/received", s.PublishBytesReceived)
	number("publish/bytes/sent", s.PublishBytesSent)
	number("bytes/received", s.BytesReceived)
	number("bytes/sent", s.BytesSent)
	number("subscriptions/count", uint64(s.Subscriptions))
	number("shared_subscriptions/count", uint64(s.SharedSubscription))
	number("retained messages/count", uint64(s.Retained))
	y.messages(number, &s)
	heap := heapBytes()
	y.heap = max(y.heap, heap)
	number("heap/current", heap)
	number("heap/maximum", y.heap)
	y.putLoads(put, &s, now)
}

func (y *sys) clients(number func(string, uint64), s *Stats) {
	offline := max(s.Sessions-s.ClientsConnected, 0)
	number("clients/total", uint64(s.ClientsConnected+offline))
	number("clients/connected", uint64(s.ClientsConnected))
	number("clients/active", uint64(s.ClientsConnected))
	number("clients/disconnected", uint64(offline))
	number("clients/inactive", uint64(offline))
	number("clients/maximum", uint64(s.ClientsMaximum))
	number("clients/expired", s.SessionsExpired)
}

// messages asks each session what it holds: a counter of it would be one more thing
// that all deliveries share.
func (y *sys) messages(number func(string, uint64), s *Stats) {
	stored, inflight := s.Retained, 0
	for session := range y.broker.directory.all() {
		queued, sent := session.held()
		stored += queued + sent
		inflight += sent
	}
	number("messages/stored", uint64(stored))
	number("messages/inflight", uint64(inflight))
	number("store/messages/count", uint64(stored))
	number("store/messages/bytes", uint64(max(s.MessageBytes, 0)))
}

// held is how many messages wait for the client, and how many are on their way to it.
func (s *session) held() (queued, inflight int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.messages(), int(s.flights.n)
}

func (y *sys) putLoads(put func(topic, value string), s *Stats, now instant) {
	minutes := time.Duration(now - y.last).Minutes()
	y.last = now
	for i := range y.loads {
		l := &y.loads[i]
		n := l.read(s)
		rate := float64(n-l.last) / minutes
		l.last = n
		for j, over := range loadMinutes {
			weight := math.Exp(-minutes / over)
			l.average[j] = rate + weight*(l.average[j]-rate)
			put(fmt.Sprintf("load/%s/%dmin", l.topic, int(over)), strconv.FormatFloat(l.average[j], 'f', 2, 64))
		}
	}
}

// heapBytes is the size of the Go heap in use.
func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// version is that of the module in the running program.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return runtime.Version()
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == modulePath {
			if m.Replace != nil && m.Replace.Version != "" {
				return m.Replace.Version
			}
			return m.Version
		}
	}
	return "(devel)"
}

const modulePath = "github.com/petrelmq/petrel"
