package petrel

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/petrelmq/petrel/packets"
)

// Hook is any value that implements at least one of the capability interfaces
// of this file. [New] sorts the values of [Options.Hooks] into one list per
// event, in the order in which they are given; it refuses a value that fits
// none of them, and a value with a method that has the name of a capability
// but not its signature.
//
// Decisions (the interfaces that return an error) fail closed: the first error
// refuses, whatever its type, and so does a panic or an answer that comes after
// [Options.HookTimeout]. A [ReasonCode] among the errors in its tree is what the
// client is told. Adding a hook never widens access.
//
// Hooks are called by many goroutines at once, with no lock held. They see
// settled facts: topic aliases are resolved, names are valid, QoS is bounded.
// A call holds up the connection that caused it, and no other.
type Hook any

// ConnectionAuthorizer decides whether a connection is served, before its client
// has said who it is, and again when it has. It is asked at up to three stages of
// every connection of every listener, see [ConnectionStage], and at a fourth by
// [Broker.Reauthorize]. [ListenerOptions] are for one that is about one listener.
//
// A refusal at [StageAccepted] closes the connection and nothing is said; at the
// next two stages CONNACK has its reason code, and at the last one DISCONNECT.
type ConnectionAuthorizer interface {
	// AuthorizeConnection refuses with an error. It does not hold up other
	// connections, nor the listener.
	AuthorizeConnection(ctx context.Context, r *ConnectionRequest) error
}

// Authenticator decides whether a client may connect. It is not asked about
// clients that use enhanced authentication, see [EnhancedAuthenticator].
type Authenticator interface {
	// Authenticate refuses with an error. It may set r.Identity.
	Authenticate(ctx context.Context, r *ConnectRequest) error
}

// PromptAuthenticator is an [Authenticator] that says of itself whether it decides
// within microseconds, from what it has in memory: it waits for no file, no network
// and no lock that others hold for long, and hashes no password. Where all that decide
// at a listener do so, and no other hook could hold up who connects, a CONNECT
// needs no goroutine of its own.
//
// For that, such a decision has the context of the broker, not of the connection, and
// [Options.HookTimeout] refuses it no earlier than it has been made. One that does
// wait holds up others: those whose packets came at the same moment. A type that embeds a
// prompt one and decides in its own way has to say so for itself.
type PromptAuthenticator interface {
	// DecidesPromptly is asked once for each listener.
	DecidesPromptly() bool
}

// EnhancedAuthenticator speaks one or more Authentication Methods with AUTH
// packets (MQTT 5.0, section 4.12).
type EnhancedAuthenticator interface {
	// AuthenticationMethods are the names of the methods. No two hooks may name the same.
	AuthenticationMethods() []string
	// BeginAuthentication starts the exchange of one connection, or its
	// re-authentication. r.Method is one of AuthenticationMethods.
	BeginAuthentication(ctx context.Context, r *AuthenticationRequest) (AuthenticationExchange, error)
}

// AuthenticationExchange is one conversation of an [EnhancedAuthenticator] with one client.
type AuthenticationExchange interface {
	// Authenticate handles the data that the client sent (nil if it sent none)
	// and says how to go on. data is valid during the call only.
	Authenticate(ctx context.Context, data []byte) (AuthenticationStep, error)
}

// AuthenticationStep is the answer to one round of an exchange.
type AuthenticationStep struct {
	Data     []byte // sent to the client; nil for none
	Done     bool   // the client has proved who it is
	Identity string // with Done: who that is; empty means the user name

	// Expires, with Done, is as in [ConnectRequest]. After a re-authentication it
	// takes the place of the end that was set before; zero means that there is none.
	Expires time.Time
}

// AuthenticationRequest describes the start of an enhanced authentication.
type AuthenticationRequest struct {
	Connect          *ConnectRequest
	Method           string
	Reauthentication bool // the client is connected and proves itself again
}

// Authorizer decides what a client may do.
type Authorizer interface {
	// Authorize refuses with an error.
	Authorize(ctx context.Context, r *AccessRequest) error
}

// PublishInterceptor sees each message that a client publishes, its will
// included, before anybody gets it, and may change it. Several are called in
// order, each sees what its predecessors made of the message.
type PublishInterceptor interface {
	// InterceptPublish stops the message with an error. A changed topic is
	// authorised again.
	InterceptPublish(ctx context.Context, r *PublishRequest) error
}

// SubscribeInterceptor sees each filter of a SUBSCRIBE and UNSUBSCRIBE before
// it takes effect, and may change it. Several are called in order, each sees
// what its predecessors made of it.
type SubscribeInterceptor interface {
	// InterceptSubscribe refuses the filter with an error. A changed filter is
	// authorised again.
	InterceptSubscribe(ctx context.Context, r *SubscribeRequest) error
}

// DeliverInterceptor sees each copy of a message before it is handed to the
// session of its receiver, connected or not, and may change it for that
// receiver. With one of them every delivery costs a copy of the message.
type DeliverInterceptor interface {
	// InterceptDeliver drops the copy with an error.
	InterceptDeliver(ctx context.Context, r *DeliverRequest) error
}

// SharedSelector chooses the member of a shared subscription that gets a
// message, in place of [Options.SharedStrategy]. There is at most one.
type SharedSelector interface {
	// SelectMember returns the index in r.Members, or a negative number for the
	// choice of the broker. A member that is not connected keeps the message
	// until it is.
	SelectMember(ctx context.Context, r *SelectRequest) int
}

// PacketTracer is told of every packet that is received from and sent to
// clients. It costs every packet a call and every sent one a copy. It must not
// publish: what it publishes is traced as well.
type PacketTracer interface {
	// PacketReceived is called before the packet is handled. packet is the whole
	// packet, that of a CONNECT with its password. It is valid during the call only.
	PacketReceived(c *Client, packet []byte)
	// PacketSent is called soon after the packet was handed to the socket, or
	// to the buffer before it. packet is valid during the call only.
	PacketSent(c *Client, packet []byte)
}

// ConnectionObserver is told of connections that were accepted, and of their end.
type ConnectionObserver interface {
	ClientConnected(c *Client)
	// ClientDisconnected says why the connection ended; cause is nil after a
	// DISCONNECT of the client without error.
	ClientDisconnected(c *Client, cause error)
}

// RefusalObserver is told of connections that ended before their CONNECT was
// accepted, whoever ended them, but for those that were too many to be served at
// all, see [LimitObserver].
type RefusalObserver interface {
	ConnectionRefused(r *RefusedConnection)
}

// SessionObserver is told what becomes of sessions.
type SessionObserver interface {
	SessionChanged(e *SessionEvent)
}

// SubscriptionObserver is told of subscriptions that were made and removed by packets,
// and of those that were removed because an [Authorizer] no longer allows them.
type SubscriptionObserver interface {
	Subscribed(c *Client, s Subscription)
	Unsubscribed(c *Client, filter string)
}

// PublishObserver is told of each message that was accepted from a client and
// has been handed to all its receivers.
type PublishObserver interface {
	MessagePublished(c *Client, m *Message)
}

// DropObserver is told of each copy of a message that will not be delivered.
type DropObserver interface {
	// MessageDropped gets a context for [Broker.Publish], which bounds what
	// observers that publish can cause each other.
	MessageDropped(ctx context.Context, d *Drop)
}

// LimitObserver is told when a limit of [Options] or [ListenerOptions] refuses
// something to a client, or holds it up.
type LimitObserver interface {
	// LimitReached is called for each connection, session, subscription and
	// retained message that is refused. Of a client that is read from more slowly
	// it tells at most once a second for each rate, and of the memory limit at
	// most once a second at all; there the [DropObserver] hears of each message.
	// The context is one for [Broker.Publish].
	LimitReached(ctx context.Context, e *LimitEvent)
}

// AuthenticatorFunc is a function as an [Authenticator].
type AuthenticatorFunc func(ctx context.Context, r *ConnectRequest) error

// Authenticate calls f.
func (f AuthenticatorFunc) Authenticate(ctx context.Context, r *ConnectRequest) error {
	return f(ctx, r)
}

// AuthorizerFunc is a function as an [Authorizer].
type AuthorizerFunc func(ctx context.Context, r *AccessRequest) error

// Authorize calls f.
func (f AuthorizerFunc) Authorize(ctx context.Context, r *AccessRequest) error { return f(ctx, r) }

// PublishInterceptorFunc is a function as a [PublishInterceptor].
type PublishInterceptorFunc func(ctx context.Context, r *PublishRequest) error

// InterceptPublish calls f.
func (f PublishInterceptorFunc) InterceptPublish(ctx context.Context, r *PublishRequest) error {
	return f(ctx, r)
}

// ConnectRequest describes a CONNECT to an [Authenticator].
type ConnectRequest struct {
	Peer           Peer
	Version        Version
	ClientID       string // assigned by the broker if the client gave none
	AssignedID     bool
	HasUserName    bool // a user name without a password is no credential
	UserName       string
	HasPassword    bool
	Password       Secret // valid during the call only
	CleanStart     bool
	KeepAlive      time.Duration
	Will           *Message // nil if there is none
	UserProperties []UserProperty

	// Identity is who the client is found to be: the owner of its session.
	// It starts as the user name, with a password or without; a hook may set it,
	// and should where devices put something else into the user name.
	Identity string

	// Expires may be set to the end of the credentials: then the client is
	// disconnected, a 5.0 client with 0xA0, unless it proves itself again before.
	// Of several hooks the one that sets the earliest end is heeded. Zero means
	// that there is none.
	Expires time.Time

	values *value // see SetValue
}

// Peer is what is known of the client at the other end of a connection. Behind a
// trusted proxy (Proxy is not nil) RemoteAddr and LocalAddr are what the proxy
// says, and what would be a fact about the proxy is not here: TLS is nil unless
// the client itself speaks it through the proxy, and Credentials are nil.
type Peer struct {
	Listener    string // the name that it has in its [ListenerOptions]; empty for [Broker.Serve] and [Broker.ServeConn]
	RemoteAddr  net.Addr
	LocalAddr   net.Addr
	TLS         *tls.ConnectionState // nil without TLS
	Proxy       *Proxy               // nil unless a trusted proxy forwards the connection
	Credentials *Credentials         // nil unless the client came by a Unix socket, on Linux
	Header      map[string][]string  // of the HTTP request, by canonical name; nil unless it is WebSocket; not to be changed
}

// Action is what an [AccessRequest] asks for.
type Action byte

const (
	Publish   Action = iota + 1 // publish to a topic, also as a will
	Subscribe                   // subscribe to a filter
	Receive                     // be sent a message of a topic
)

func (a Action) String() string {
	switch a {
	case Publish:
		return "publish"
	case Subscribe:
		return "subscribe"
	case Receive:
		return "receive"
	}
	return "unknown action"
}

// AccessRequest asks an [Authorizer] about one action of one client.
type AccessRequest struct {
	Client *Client
	Action Action
	Topic  string // Publish and Receive: a topic name; Subscribe: a filter, without "$share/NAME/"
	Share  string // Subscribe: the ShareName of a shared subscription, or empty
	QoS    QoS
	Retain bool

	// CheckDeliveries may be set in answer to Subscribe: then each message for
	// this subscription is asked about with Receive before it is delivered.
	// Otherwise Receive is never asked, and deliveries cost nothing.
	CheckDeliveries bool
}

// PublishRequest is a message on its way in. Message may be changed in place;
// its byte slices must be replaced, not written to. It is valid during the call only.
type PublishRequest struct {
	Client  *Client
	Message *Message
	Will    bool
}

// SubscribeRequest is a filter on its way in. It may be changed in place.
type SubscribeRequest struct {
	Client       *Client
	Subscription Subscription // of an UNSUBSCRIBE only the Filter means anything
	Unsubscribe  bool
}

// DeliverRequest is a copy of a message on its way to one receiver. Message may
// be changed in place, but for its PublisherID; its byte slices must be
// replaced, not written to. It is valid during the call only.
type DeliverRequest struct {
	ClientID string
	Client   *Client // nil if the receiver is not connected
	Message  *Message
	Retained bool // it is sent because of a SUBSCRIBE
}

// SelectRequest asks a [SharedSelector] for a choice. It is valid during the
// call only.
type SelectRequest struct {
	Share   string // the ShareName
	Filter  string // without "$share/NAME/"
	Topic   string
	QoS     QoS
	Members []Member // in the order in which they joined; never empty
}

// Member is one member of a shared subscription.
type Member struct {
	ClientID  string // empty for one of the host
	Connected bool
	Queued    int // messages that wait to be sent to the client
	Inflight  int // messages that were sent and not acknowledged to the end
}

// SessionEvent says what became of a session.
type SessionEvent struct {
	ClientID string
	Identity string
	Kind     SessionEventKind
}

// SessionEventKind names what became of a session, and why.
type SessionEventKind byte

const (
	SessionCreated   SessionEventKind = iota + 1 // a CONNECT found none
	SessionResumed                               // a CONNECT with Clean Start 0 found it
	SessionTakenOver                             // another connection of the same client took it
	SessionDiscarded                             // a CONNECT with Clean Start 1 ended it
	SessionExpired                               // its Session Expiry Interval passed
	SessionEnded                                 // it ended with its connection
	SessionRevoked                               // [Broker.Revoke] ended it
)

func (k SessionEventKind) String() string {
	names := [...]string{"", "created", "resumed", "taken over", "discarded", "expired", "ended", "revoked"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Drop is one copy of a message that will not be delivered, and why.
type Drop struct {
	ClientID string // the receiver; empty if it was dropped before any was found
	Topic    string
	QoS      QoS
	Reason   DropReason
}

// DropReason says why a message was not delivered.
type DropReason byte

const (
	DropQueueFull       DropReason = iota + 1 // the queue of the session is full
	DropOffline                               // QoS 0, and the session is not connected
	DropExpired                               // its Message Expiry Interval passed before it was sent
	DropTooLarge                              // larger than the Maximum Packet Size of the receiver
	DropNotAuthorized                         // an Authorizer refused the publisher or the receiver
	DropIntercepted                           // a PublishInterceptor refused it
	DropSessionEnded                          // the session ended before it was sent
	DropMemory                                // the memory limit of the broker is reached
	DropReserved                              // a client published to $SYS
	DropRefusedByClient                       // the receiver answered with 0x80 or above
	DropRetainedFull                          // a retained message above Options.MaximumRetained or MaximumRetainedBytes
	DropInvalidPayload                        // not the UTF-8 that it claims to be, see Options.ValidatePayloadFormat
	dropReasons
)

var dropNames = [dropReasons]string{
	DropQueueFull: "queue full", DropOffline: "offline", DropExpired: "expired", DropTooLarge: "too large",
	DropNotAuthorized: "not authorized", DropIntercepted: "intercepted", DropSessionEnded: "session ended",
	DropMemory: "memory limit", DropReserved: "reserved topic", DropRefusedByClient: "refused by client",
	DropRetainedFull: "too many retained messages", DropInvalidPayload: "invalid payload",
}

func (r DropReason) String() string {
	if r < dropReasons {
		return dropNames[r]
	}
	return "unknown"
}

// Names of package packets that hosts and hooks meet every day.
type (
	QoS        = packets.QoS
	Version    = packets.Version
	ReasonCode = packets.ReasonCode
)

// The three qualities of service.
const (
	AtMostOnce  = packets.AtMostOnce
	AtLeastOnce = packets.AtLeastOnce
	ExactlyOnce = packets.ExactlyOnce
)

// UserProperty is a name and value pair; names may repeat, order matters.
type UserProperty struct{ Name, Value string }

// Subscription is one subscription of a session.
type Subscription struct {
	Filter            string // with "$share/NAME/" if shared
	QoS               QoS    // the highest QoS that was granted
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
	Identifier        uint32 // 0 for none
}
