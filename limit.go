package petrel

import (
	"context"
	"time"

	"github.com/petrelmq/petrel/packets"
)

// Limit names a limit that refuses clients something, or holds them up. Its
// String is the name of the option.
type Limit byte

const (
	LimitConnections            Limit = iota + 1 // [Options.MaximumConnections]
	LimitListenerConnections                     // [ListenerOptions.MaximumConnections]
	LimitConnectionsPerIdentity                  // [Options.MaximumConnectionsPerIdentity]
	LimitSessions                                // [Options.MaximumSessions]
	LimitSessionsPerIdentity                     // [Options.MaximumSessionsPerIdentity]
	LimitSubscriptions                           // [Options.MaximumSubscriptions]
	LimitRetained                                // [Options.MaximumRetained]
	LimitRetainedBytes                           // [Options.MaximumRetainedBytes]
	LimitMessageRate                             // [Options.MessageRate]
	LimitByteRate                                // [Options.ByteRate]
	LimitMemory                                  // [Options.MemoryLimit]
	limits
)

// limitTexts are the names of the limits, and what a client is told of them.
var limitTexts = [limits]struct{ name, detail string }{
	LimitConnections:            {"MaximumConnections", "too many connections"},
	LimitListenerConnections:    {"ListenerOptions.MaximumConnections", "too many connections to this listener"},
	LimitConnectionsPerIdentity: {"MaximumConnectionsPerIdentity", "too many connections of this user"},
	LimitSessions:               {"MaximumSessions", "too many sessions"},
	LimitSessionsPerIdentity:    {"MaximumSessionsPerIdentity", "too many sessions of this user"},
	LimitSubscriptions:          {"MaximumSubscriptions", "too many subscriptions"},
	LimitRetained:               {"MaximumRetained", "too many retained messages"},
	LimitRetainedBytes:          {"MaximumRetainedBytes", "too many bytes of retained messages"},
	LimitMessageRate:            {"MessageRate", "too many messages a second"},
	LimitByteRate:               {"ByteRate", "too many bytes a second"},
	LimitMemory:                 {"MemoryLimit", "the memory limit of the broker is reached"},
}

func (l Limit) String() string {
	if l > 0 && l < limits {
		return limitTexts[l].name
	}
	return "unknown"
}

// refusal is why a client does not get what is above the limit.
func (l Limit) refusal() error {
	return &packets.Error{Code: packets.QuotaExceeded, Detail: limitTexts[l].detail}
}

// dropReason says why a retained message is dropped that is above the limit.
func (l Limit) dropReason() DropReason {
	if l == LimitMemory {
		return DropMemory
	}
	return DropRetainedFull
}

// LimitEvent is something that a limit has refused, or has held up.
type LimitEvent struct {
	Limit    Limit
	Client   *Client // whose connection it is; nil for the host, and for a session without one
	ClientID string  // empty for the host, and before CONNECT
	Topic    string  // of the message, or the filter; empty where there is none
}

// limitReached tells of a limit where no lock is held.
func (b *Broker) limitReached(ctx context.Context, e *LimitEvent) {
	b.stats.limited[e.Limit].Add(1)
	b.observeLimit(ctx, e)
}

func (b *Broker) observeLimit(ctx context.Context, e *LimitEvent) {
	observe(b, b.hooks.limit, func(o LimitObserver) { o.LimitReached(ctx, e) })
}

// limited notes that a limit was reached; see [LimitEvent].
func (bt *batch) limited(l Limit, c *Client, id, topic string) {
	if l == LimitMemory && !bt.broker.memory.tell(bt.now) {
		return
	}
	bt.broker.stats.limited[l].Add(1)
	if len(bt.broker.hooks.limit) == 0 {
		return
	}
	bt.limits = append(bt.limits, LimitEvent{Limit: l, Client: c, ClientID: id, Topic: topic})
}

// observeLimits tells the observers. No lock may be held.
func (bt *batch) observeLimits() {
	for i := range bt.limits {
		bt.broker.observeLimit(bt.context(), &bt.limits[i])
	}
	clear(bt.limits)
	bt.limits = bt.limits[:0]
}

// oncePer lets something pass that has not happened for a second.
type oncePer struct{ last instant }

func (o *oncePer) second(now instant) bool {
	if o.last != 0 && now-o.last < instant(time.Second) {
		return false
	}
	o.last = now
	return true
}
