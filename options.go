package petrel

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/petrelmq/petrel/internal/engine"
)

// Options configures a [Broker]. The zero value of every field is a sensible
// default, a negative number means "no limit" where a limit is meant. [New]
// copies the value: a running broker never sees later changes.
type Options struct {
	// Hooks extend the broker, see [Hook]. At least one of them must be an
	// [Authenticator] or an [EnhancedAuthenticator]; auth.AllowAll admits everybody.
	Hooks []Hook

	// Sync says when what is in the [Store], if there is one among the hooks, is
	// synced to the disk. Zero is [SyncEach]: what was acknowledged is on the disk.
	Sync SyncPolicy

	// Logger receives what the broker has to say. Nil means [slog.Default].
	// Passwords and payloads are never logged.
	Logger *slog.Logger

	// Engine says who waits for the sockets of clients. Zero is [AutoEngine].
	Engine Engine

	// ConnectTimeout bounds the time from accepting a connection to its
	// CONNECT, a TLS handshake and an enhanced authentication included.
	// Zero means 10 seconds; negative means no limit.
	ConnectTimeout time.Duration

	// HookTimeout bounds one decision of a hook. A decision that takes longer
	// refuses. Zero means 3 seconds, as some
	// devices wait for CONNACK no longer than 4; negative means no limit.
	//
	// A client that leaves while its CONNECT is being decided, with nothing sent
	// behind it, ends the context of the hook and frees its connection within a
	// quarter of a second, over TLS and WebSocket too. It is noticed only when the
	// hook has decided, or its time is over, on Windows, and of a connection of the
	// host's own in which no method NetConn leads to a TCP or Unix connection; one
	// in which it does has to go on after a read deadline that has passed, as
	// net.Conn asks for.
	HookTimeout time.Duration

	// MaximumPacketSize is the largest packet a client may send after CONNECT,
	// in bytes, fixed header included; it is announced to 5.0 clients. A larger
	// one is answered with 0x95. Zero means 2 MiB.
	MaximumPacketSize int

	// MaximumConnectSize is the largest CONNECT in bytes. Zero means 512 KiB.
	MaximumConnectSize int

	// ReceiveMaximum is how many QoS 1 and 2 PUBLISH packets of one client may
	// be open at once; it is announced to 5.0 clients, and a client that
	// exceeds it is disconnected with 0x93. Zero means 1,024; negative means
	// 65,535, the most that MQTT allows.
	ReceiveMaximum int

	// MaximumInflight is how many QoS 1 and 2 messages may be on their way to
	// one client unacknowledged; a client that announces a smaller Receive
	// Maximum gets that. What exceeds it waits in the queue. Zero means 1,024;
	// negative means 65,535.
	MaximumInflight int

	// TopicAliasMaximum is how many topic aliases a client may use towards the
	// broker, and the most that the broker uses towards a client which allows
	// aliases. Zero means 32; negative means none at all.
	TopicAliasMaximum int

	// MaximumTopicLevels bounds the levels of topic names and filters.
	// Zero means 128; negative means no limit.
	MaximumTopicLevels int

	// MaximumFilters bounds the filters of one SUBSCRIBE or UNSUBSCRIBE; each
	// one above it is answered with 0x97 (0x80 to 3.1.1 clients), in UNSUBACK
	// with 0x83, as that has no 0x97.
	// Zero means 8,192; negative means no limit.
	MaximumFilters int

	// MaximumUserProperties bounds the user properties of one packet; a packet
	// with more of them is answered with 0x97 and closes the connection.
	// Zero means 256; negative means no limit.
	MaximumUserProperties int

	// QueueMessages bounds the messages that wait for one session, because it is
	// offline, its window is full or its socket does not take them. What exceeds
	// it is dropped as QueueFull says and reported to each [DropObserver]. With a
	// [Store] a long queue of a session that outlives its connection costs the memory
	// of its beginning and its end only.
	// Zero means 10,000; negative means no limit.
	QueueMessages int

	// QueueBytes bounds the same queue in bytes of topic, properties and
	// payload. Zero means 16 MiB; negative means no limit.
	QueueBytes int

	// QueueFull says what a full queue drops. Zero is [DropNewest].
	QueueFull DropPolicy

	// QueueQoS0 also queues QoS 0 messages for sessions that are offline. They are
	// never in the [Store], and so do not outlive the process.
	QueueQoS0 bool

	// OutboundBytes bounds what is encoded for one connection and not yet taken
	// by its socket, in bytes. Further messages wait in the session's queue; the
	// broker stops reading from a client whose own answers fill the buffer.
	// Zero means 4 MiB; negative means no limit.
	OutboundBytes int

	// MaximumConnections, MaximumSessions, MaximumRetained and
	// MaximumSubscriptions (per session) bound what their names say. Refusals
	// carry 0x97. Zero and negative mean no limit.
	MaximumConnections   int
	MaximumSessions      int
	MaximumRetained      int
	MaximumSubscriptions int

	// MaximumConnectionsPerIdentity and MaximumSessionsPerIdentity bound what
	// clients with the same identity have together. A client may always take over
	// its own session. Clients without an identity count as one; an
	// [Authenticator] may give each of them one. Refusals carry 0x97. Zero and
	// negative mean no limit.
	MaximumConnectionsPerIdentity int
	MaximumSessionsPerIdentity    int

	// MaximumRetainedBytes bounds topic, properties and payload of all retained
	// messages together, in bytes. What would exceed it is refused with 0x97.
	// Zero means three quarters of MemoryLimit, so that retained messages leave
	// room for those on their way, and no limit without one; negative means no limit.
	MaximumRetainedBytes int64

	// MessageRate and ByteRate bound what one client may publish per second, in
	// messages and in bytes of whole packets. A client above them is not
	// disconnected: the broker reads from it more slowly.
	// Zero and negative mean no limit.
	MessageRate int
	ByteRate    int

	// MemoryLimit bounds the bytes that messages hold in memory, in all queues, in
	// flight and retained, together; a message counts for each session that has it.
	// What waits in the [Store] only does not count. What retained messages leave of
	// the limit is not all for what the store has too: messages that would take the
	// last quarter of it wait there, if their session outlives its connection. What
	// else the limit leaves no room for is given up in this order:
	//
	//  1. Messages of QoS 0 for queues: new ones are dropped, and those that wait,
	//     whoever for, give way to the rest, the oldest of a session first.
	//  2. When none waits, new messages of QoS 1 and 2 for sessions are dropped,
	//     and new retained messages refused with 0x97.
	//
	// Nothing else that was accepted is given up. Retained messages that a client is
	// owed, and what waits in the Store, are sent as there is room for them in flight;
	// one at a time is sent without, so that the client goes on. MaximumRetainedBytes
	// keeps retained messages from taking all of it. Zero and negative mean no limit.
	MemoryLimit int64

	// MaximumSessionExpiry caps the Session Expiry Interval, also for 3.1.1
	// clients with Clean Session 0. Zero and negative mean no cap.
	MaximumSessionExpiry time.Duration

	// MaximumKeepAlive caps the Keep Alive of 5.0 clients, which are told so by
	// Server Keep Alive; older clients cannot be told and keep what they asked
	// for. At most 65,535 seconds. Zero and negative mean no cap.
	MaximumKeepAlive time.Duration

	// DisableQoS1 limits everything to QoS 0, DisableQoS2 to QoS 1.
	DisableQoS1 bool
	DisableQoS2 bool

	// These switch off what their names say; 5.0 clients are told in CONNACK.
	DisableRetain                  bool
	DisableWildcardSubscriptions   bool
	DisableSharedSubscriptions     bool
	DisableSubscriptionIdentifiers bool

	// RecheckRetained asks each [Authorizer] before a retained message is sent
	// because of a SUBSCRIBE: may the client that published it still publish to its
	// topic? If not, it is not sent, but stays. What the host published is not asked about.
	RecheckRetained bool

	// DeliverPerSubscription sends one copy for each of the matching
	// subscriptions of a client, each with its own QoS and identifier, instead
	// of one copy at the highest QoS with all identifiers.
	DeliverPerSubscription bool

	// SharedStrategy chooses the member of a shared subscription that gets a
	// message, among its connected members as long as there are any. Those whose
	// queue is full, or for whom MemoryLimit leaves no room, are left out as long as
	// there are others. Zero is [RoundRobin].
	SharedStrategy SharedStrategy

	// ResponseInformation is given to 5.0 clients that ask for it (property 0x1A).
	// Empty means none.
	ResponseInformation string

	// SysInterval is the time between two publications of the $SYS tree.
	// Zero means 10 seconds; negative means that there is no $SYS tree, and so
	// does DisableRetain.
	SysInterval time.Duration

	// ValidatePayloadFormat refuses a message with 0x99 whose Payload Format
	// Indicator says UTF-8 and whose payload is not.
	ValidatePayloadFormat bool

	// Tolerations: what a strict broker refuses. Each is counted in [Stats]
	// whether it is tolerated or not.

	// TolerateBridgeLevel accepts the protocol levels 0x83 and 0x84, by which
	// mosquitto bridges ask for No Local and Retain As Published on all their
	// subscriptions. Otherwise they get CONNACK 0x01 and fall back.
	TolerateBridgeLevel bool

	// TolerateReceiveMaximum keeps a 5.0 client connected that exceeds the
	// announced Receive Maximum.
	TolerateReceiveMaximum bool

	// TolerateLongClientIDs accepts 3.1 clients whose identifier has more than
	// 23 characters.
	TolerateLongClientIDs bool
}

// Engine names who waits for the sockets of clients: what an idle connection
// costs, and what a message costs where few come at a time.
type Engine byte

const (
	// AutoEngine is LoopEngine on Linux, and GoroutineEngine elsewhere.
	AutoEngine Engine = iota

	// GoroutineEngine has a goroutine for each connection, whatever it runs on.
	GoroutineEngine

	// LoopEngine has one goroutine for each processor, which waits with epoll for
	// all connections of plain TCP and Unix listeners together. What runs on
	// something else, such as TLS or WebSocket, has a goroutine all the same.
	// Linux only.
	LoopEngine
)

// DropPolicy names what a full queue gives up. Either way a queued QoS 0
// message gives way to a message of a higher QoS first.
type DropPolicy byte

const (
	DropNewest DropPolicy = iota // the message that does not fit
	DropOldest                   // the message that has waited longest; the queue may be a page longer while that is read from the store
)

// SharedStrategy names how a member of a shared subscription is chosen.
type SharedStrategy byte

const (
	RoundRobin SharedStrategy = iota // each connected member in turn, of those for which nothing waits if there are some
	Random                           // any of the same
	Sticky                           // the one that joined first, as long as it is connected
	TopicHash                        // the same member for the same topic while the group does not change
)

const noLimit = math.MaxInt

// withDefaults fills in every default; afterwards a limit is a plain number.
func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	duration(&o.ConnectTimeout, 10*time.Second)
	duration(&o.HookTimeout, 3*time.Second)
	limit(&o.MaximumPacketSize, 2<<20, noLimit)
	limit(&o.MaximumConnectSize, 512<<10, noLimit)
	limit(&o.ReceiveMaximum, 1024, math.MaxUint16)
	limit(&o.MaximumInflight, 1024, math.MaxUint16)
	limit(&o.TopicAliasMaximum, 32, 0)
	limit(&o.MaximumTopicLevels, 128, noLimit)
	limit(&o.MaximumFilters, 8192, noLimit)
	limit(&o.MaximumUserProperties, 256, noLimit)
	limit(&o.QueueMessages, 10_000, noLimit)
	limit(&o.QueueBytes, 16<<20, noLimit)
	limit(&o.OutboundBytes, 4<<20, noLimit)
	limit(&o.MaximumConnections, noLimit, noLimit)
	limit(&o.MaximumSessions, noLimit, noLimit)
	limit(&o.MaximumRetained, noLimit, noLimit)
	limit(&o.MaximumSubscriptions, noLimit, noLimit)
	limit(&o.MaximumConnectionsPerIdentity, noLimit, noLimit)
	limit(&o.MaximumSessionsPerIdentity, noLimit, noLimit)
	limit(&o.MessageRate, noLimit, noLimit)
	limit(&o.ByteRate, noLimit, noLimit)
	limit(&o.MemoryLimit, noMemoryLimit, noMemoryLimit)
	limit(&o.MaximumRetainedBytes, retainedShare(o.MemoryLimit), math.MaxInt64)
	duration(&o.MaximumSessionExpiry, forever)
	duration(&o.MaximumKeepAlive, forever)
	duration(&o.SysInterval, 10*time.Second)
	return o
}

// retainedShare is how much of a memory limit retained messages may take.
func retainedShare(memoryLimit int64) int64 {
	if memoryLimit == noMemoryLimit {
		return math.MaxInt64
	}
	return memoryLimit - memoryLimit/4
}

// forever is a duration that is never reached, and can still be added to a time.
const forever = time.Duration(math.MaxInt64 / 4)

func limit[N int | int64](n *N, whenZero, whenNegative N) {
	switch {
	case *n == 0:
		*n = whenZero
	case *n < 0:
		*n = whenNegative
	}
}

func duration(d *time.Duration, whenZero time.Duration) {
	switch {
	case *d == 0:
		*d = whenZero
	case *d < 0:
		*d = forever
	}
}

// validate reports the first option whose value cannot be meant.
func (o Options) validate() error {
	switch {
	case o.Engine > LoopEngine:
		return fmt.Errorf("petrel: Options.Engine is %d", o.Engine)
	case o.Engine == LoopEngine && !engine.HasLoops:
		return errors.New("petrel: Options.Engine is LoopEngine, which needs Linux")
	case o.ReceiveMaximum > math.MaxUint16:
		return fmt.Errorf("petrel: Options.ReceiveMaximum is %d; at most 65535 is possible", o.ReceiveMaximum)
	case o.MaximumInflight > math.MaxUint16:
		return fmt.Errorf("petrel: Options.MaximumInflight is %d; at most 65535 is possible", o.MaximumInflight)
	case o.TopicAliasMaximum > math.MaxUint16:
		return fmt.Errorf("petrel: Options.TopicAliasMaximum is %d; at most 65535 is possible", o.TopicAliasMaximum)
	case o.MaximumKeepAlive != forever && (o.MaximumKeepAlive < time.Second || o.MaximumKeepAlive > math.MaxUint16*time.Second):
		return fmt.Errorf("petrel: Options.MaximumKeepAlive is %v; 1s to 65535s is possible", o.MaximumKeepAlive)
	case len(o.ResponseInformation) > math.MaxUint16 || o.ResponseInformation != text(o.ResponseInformation):
		return errors.New("petrel: Options.ResponseInformation is not UTF-8 of at most 65535 bytes")
	case o.QueueFull > DropOldest:
		return fmt.Errorf("petrel: Options.QueueFull is %d, which names no policy", o.QueueFull)
	case o.SharedStrategy > TopicHash:
		return fmt.Errorf("petrel: Options.SharedStrategy is %d, which names no strategy", o.SharedStrategy)
	}
	return nil
}

// maximumQoS is the highest QoS that the options leave.
func (o *Options) maximumQoS() QoS {
	switch {
	case o.DisableQoS1:
		return AtMostOnce
	case o.DisableQoS2:
		return AtLeastOnce
	}
	return ExactlyOnce
}
