package petrel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/petrelmq/petrel/internal/engine"
	"github.com/petrelmq/petrel/packets"
)

// Client is one connection of an MQTT client. Hooks get it to learn who they
// deal with; its methods may be called at any time.
type Client struct {
	broker *Broker
	conn   engine.Conn
	door   *door // by which it came in
	out    outbound

	// Settled by CONNECT.
	*principal
	session  *session
	enhanced *enhanced // nil unless the CONNECT had an Authentication Method
	since    instant   // of the connection
	proof    atomic.Pointer[proof]

	// The read side: touched by whoever handles this connection, one at a time.
	aliasesIn *aliasesIn // nil until the client has set one
	pace      *pace      // nil without a rate limit
	opened    int32      // QoS 2 messages of this connection that wait for PUBREL
	followed  bool       // more was read behind the packet that is being handled, before CONNACK

	// Written before the client is online, then read by everybody.
	maximumPacket int32 // of what the client takes, in bytes
	window        int32 // QoS 1 and 2 messages that may be open towards the client
	version       Version
	phase         phase
	left          bool       // the client sent a DISCONNECT
	bridge        bool       // No Local and Retain As Published for all its subscriptions
	noProblems    bool       // Request Problem Information was 0
	hadExpiry     bool       // the Session Expiry Interval of CONNECT was not 0
	said          bool       // a last packet was sent, and should arrive
	unsecured     bool       // ConnectionAuthorizers are to be asked again after the TLS handshake
	refused       ReasonCode // of CONNACK
	surplus       Limit      // of connections that this one is above; 0 if there is room
	aliasesOut    *aliases
	alarm         alarm        // connect time-out, keep alive, end of the credentials
	keepAlive     atomic.Int64 // nanoseconds, 1.5 times the Keep Alive; 0 until there is one, or noKeepAlive

	will     *will        // guarded by session.mu
	lastSeen atomic.Int64 // instant of the last packet
	busy     atomic.Bool  // the broker handles packets or keeps the client to its rate: silence proves nothing
	ending   atomic.Bool

	mu    sync.Mutex
	cause error       // why the connection ends, set before ending
	life  *clientLife // nil until a hook needs a context
}

// clientLife is the context of a connection.
type clientLife struct {
	context.Context
	cancel context.CancelFunc
}

// phase is how far a connection has come.
type phase byte

const (
	awaitConnect   phase = iota // nothing but a CONNECT is right
	authenticating              // an exchange of AUTH packets before CONNACK
	connected                   // CONNACK with success was sent
)

// ID returns the client identifier.
func (c *Client) ID() string { return c.id }

// Identity returns who the client was found to be: what an [Authenticator]
// said, else its user name.
func (c *Client) Identity() string { return c.identity }

// UserName returns the user name of the CONNECT, empty if it had none.
func (c *Client) UserName() string { return c.userName }

// Connected reports whether the connection has not ended. It has where a hook is
// asked about what a client left behind: its session, a will, a retained message.
func (c *Client) Connected() bool { return !c.ending.Load() }

// Version returns the version of MQTT that the client speaks.
func (c *Client) Version() Version { return c.version }

// Peer returns what is known of the other end of the connection.
func (c *Client) Peer() Peer {
	p := Peer{Listener: c.door.name, RemoteAddr: c.conn.RemoteAddr(), LocalAddr: c.conn.LocalAddr()}
	p.look(c.conn)
	return p
}

func newClient(b *Broker, conn engine.Conn) *Client {
	c := &Client{
		broker: b, conn: conn, door: b.door, principal: &nobody, since: b.alarms.now(), pace: newPace(b.alarms, &b.opts),
	}
	c.out.client = c
	c.maximumPacket = math.MaxInt32
	return c
}

// context is cancelled when the connection ends.
func (c *Client) context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life == nil {
		ctx, cancel := context.WithCancel(c.broker.ctx)
		c.life = &clientLife{ctx, cancel}
		if c.ending.Load() {
			cancel()
		}
	}
	return c.life.Context
}

// dropContext ends the context that the hooks of CONNECT had: most clients need
// none any more, and one at rest should not hold it.
func (c *Client) dropContext() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLifeLocked()
	c.life = nil
}

func (c *Client) endLifeLocked() {
	if c.life != nil {
		c.life.cancel()
	}
}

// stop ends the connection for the given cause, if nothing has ended it before.
// It returns at once: the goroutine that reads says farewell.
func (c *Client) stop(cause error) {
	c.mu.Lock()
	first := !c.ending.Load()
	if first {
		c.cause = cause
		c.ending.Store(true)
		c.endLifeLocked()
	}
	c.mu.Unlock()
	if first {
		c.conn.Interrupt()
		c.out.release()
		c.pace.release()
	}
}

// ended makes err the cause of the end, unless there is one.
func (c *Client) ended(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ending.Load() {
		c.cause = err
		c.ending.Store(true)
	}
	c.endLifeLocked()
}

// ring is called when the connect time-out, the keep alive or the credentials of
// the client may have ended.
func (c *Client) ring(now instant) {
	if c.keepAlive.Load() == 0 {
		c.stop(errConnectTimeout)
		c.conn.Expire()
		return
	}
	if until := c.until(); until != 0 && until <= now {
		c.stop(errCredentialsExpired)
		return
	}
	if due := c.silent(now); due != 0 && due <= now {
		c.stop(packets.KeepAliveTimeout)
		return
	}
	c.watch(now)
}

// silent is when the silence of the client lasts too long; 0 means never.
func (c *Client) silent(now instant) instant {
	patience := time.Duration(c.keepAlive.Load())
	switch {
	case patience == noKeepAlive:
		return 0
	case c.busy.Load():
		return now.after(patience) // what came meanwhile has not been looked at
	}
	return instant(c.lastSeen.Load()).after(patience)
}

// watch sets the alarm for what may end the connection next.
func (c *Client) watch(now instant) {
	for {
		p := c.proof.Load()
		at := c.silent(now)
		if until := c.until(); until != 0 && (at == 0 || until < at) {
			at = until
		}
		if at != 0 {
			c.broker.alarms.set(&c.alarm, c, at)
		}
		if at == 0 || c.ending.Load() {
			c.broker.alarms.stop(&c.alarm)
		}
		if c.proof.Load() == p {
			return // or a re-authentication was faster
		}
	}
}

// noKeepAlive says that the client need not show that it lives.
const noKeepAlive = -1

var errConnectTimeout = errors.New("petrel: no CONNECT in time")

// Ended is called by the engine when the connection has ended, last.
func (c *Client) Ended(err error, aside func(func())) {
	c.ended(err)
	if c.broker.hooks.aside {
		aside(func() {
			c.end()
			c.close()
		})
		return
	}
	c.end()
	if c.said || !c.out.shut() {
		aside(c.close)
		return
	}
	c.close()
}

// outcome is why the connection ended: nil after a farewell of the client.
func (c *Client) outcome() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.cause, errFarewell) {
		return nil
	}
	return c.cause
}

// MayWait reports whether the next packet asks who the client is, which may take long.
func (c *Client) MayWait() bool {
	return c.phase != connected && c.door.aside || c.enhanced != nil && c.enhanced.exchange != nil
}

// Data handles the whole packets in b. It is called by the engine.
func (c *Client) Data(r engine.Round, b []byte, of *engine.Buffer) (used, need int, err error) {
	c.busy.Store(true)
	bt := r.(*batch)
	bt.journaled = nil // by others that share the round
	bt.read = of
	defer func() {
		bt.read = nil
		if r := recover(); r != nil {
			bt.abandon()
			c.broker.log.panicked("the handling of a packet", r, "client", c.id)
			err = packets.UnspecifiedError
		}
	}()
	bt.count.bytesIn += uint64(len(b))
	for used < len(b) {
		h, n, err := packets.DecodeHeader(b[used:])
		if err != nil {
			return used, 0, err
		}
		if n == 0 {
			break
		}
		size := n + h.Remaining
		if err := c.checkHeader(h, size, b[used+n:]); err != nil {
			return used, 0, err
		}
		if len(b)-used < size {
			need = size
			break
		}
		if c.ending.Load() {
			return used, 0, io.EOF
		}
		if trace := c.broker.hooks.trace; len(trace) > 0 {
			observe(c.broker, trace, func(o PacketTracer) { o.PacketReceived(c, b[used:used+size]) })
		}
		if c.phase != connected {
			c.followed = len(b) > used+size
		}
		if err := c.packet(bt, h, b[used+n:used+size]); err != nil {
			return used, 0, err
		}
		used += size
		if c.pace.spend(bt.now, h.Type == packets.TypePublish, size) {
			c.pace.reached(bt.now, func(l Limit) { bt.limited(l, c, c.id, "") })
			break
		}
	}
	if used > 0 {
		c.lastSeen.Store(int64(bt.now))
	}
	// what was counted as received may come again as the rest of the next read
	bt.count.bytesIn -= uint64(len(b) - used)
	return used, need, nil
}

// Hold makes the engine wait while the answers to the client fill its buffer,
// or while it is above its rate.
func (c *Client) Hold() <-chan struct{} {
	hold := c.out.held()
	full := hold != nil
	if !full {
		hold = c.pace.held()
	}
	if hold == nil {
		hold = c.broker.journal.held()
	}
	c.busy.Store(hold != nil && !full)
	if c.ending.Load() { // who ends it may have released what was held before this
		return nil
	}
	return hold
}

// checkHeader refuses a packet by its type and its announced size, before its
// body has come.
func (c *Client) checkHeader(h packets.Header, size int, body []byte) error {
	o := &c.broker.opts
	if c.phase != awaitConnect {
		if size > o.MaximumPacketSize {
			return &packets.Error{Code: packets.PacketTooLarge, Detail: fmt.Sprintf("%d bytes; Options.MaximumPacketSize is %d", size, o.MaximumPacketSize)}
		}
		return nil
	}
	if h.Type != packets.TypeConnect {
		return fmt.Errorf("petrel: the first packet is %v", h.Type)
	}
	if size <= o.MaximumConnectSize {
		return nil
	}
	err := &packets.Error{Code: packets.PacketTooLarge, Detail: fmt.Sprintf("CONNECT of %d bytes; Options.MaximumConnectSize is %d", size, o.MaximumConnectSize)}
	if looksLikeV5(body) {
		c.version = packets.V5
		c.refuse(err)
	}
	return err
}

// packet handles one packet.
func (c *Client) packet(bt *batch, h packets.Header, body []byte) error {
	bt.count.messagesIn++
	switch c.phase {
	case awaitConnect:
		return c.connect(bt, h.Flags, body)
	case authenticating:
		return c.authPacket(bt, h, body)
	}
	switch h.Type {
	case packets.TypePublish:
		return c.publish(bt, h.Flags, body)
	case packets.TypePuback:
		return c.puback(bt, h.Flags, body)
	case packets.TypePubrec:
		return c.pubrec(bt, h.Flags, body)
	case packets.TypePubrel:
		return c.pubrel(bt, h.Flags, body)
	case packets.TypePubcomp:
		return c.pubcomp(bt, h.Flags, body)
	case packets.TypeSubscribe:
		return c.subscribe(bt, h.Flags, body)
	case packets.TypeUnsubscribe:
		return c.unsubscribe(bt, h.Flags, body)
	case packets.TypePingreq:
		return c.ping(bt, h.Flags, body)
	case packets.TypeDisconnect:
		return c.disconnect(bt, h.Flags, body)
	case packets.TypeAuth:
		return c.reauthenticate(bt, h.Flags, body)
	}
	return &packets.Error{Code: packets.ProtocolError, Detail: "a client may not send " + h.Type.String() + " now"}
}

func (c *Client) ping(bt *batch, flags byte, body []byte) error {
	var p packets.Pingreq
	if err := p.Decode(flags, body, c.version); err != nil {
		return err
	}
	bt.reply(c, &packets.Pingresp{})
	return nil
}

// checkProperties refuses a packet with more User Properties than allowed.
func (c *Client) checkProperties(n int) error {
	if n > c.broker.opts.MaximumUserProperties {
		return &packets.Error{Code: packets.QuotaExceeded, Detail: fmt.Sprintf("%d User Properties; Options.MaximumUserProperties is %d", n, c.broker.opts.MaximumUserProperties)}
	}
	return nil
}

// refill sends what waits in the session after the socket has taken everything.
func (c *Client) refill() {
	if !c.out.more.Load() {
		return
	}
	s := c.session // set before more
	bt := c.broker.batch()
	defer bt.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == c {
		s.pumpLocked(bt)
	}
}

func appendUserProperties(to packets.UserProperties, list []UserProperty) packets.UserProperties {
	for _, u := range list {
		to = to.Append(text(u.Name), text(u.Value))
	}
	return to
}
