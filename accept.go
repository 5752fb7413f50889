package petrel

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/petrelmq/petrel/packets"
)

// accept makes the client the owner of its session and sends CONNACK. Before
// that, what its predecessor leaves behind is settled: a device publishes
// "online" at once, and its old will must not come after that.
func (c *Client) accept(bt *batch, cn *connecting, data []byte) error {
	c.account = accountOf(cn.request.Identity, cn.request.UserName)
	c.hadExpiry = cn.expiry != 0
	known, err := c.mayEnter(cn)
	if err != nil {
		return c.refuse(err)
	}
	cl, err := c.takeSession(bt, cn, known)
	if err != nil {
		return c.refuse(err)
	}
	removed, waits, err := c.welcome(bt, cn, &cl, known, data)
	if err != nil {
		return err
	}
	c.welcomed(bt, removed, waits)
	return nil
}

// mayEnter asks what is left to be asked about a client that is known by now. It
// returns what the Authorizers say about the subscriptions of its session.
func (c *Client) mayEnter(cn *connecting) (rulings, error) {
	b := c.broker
	if err := c.prove(&cn.request); err != nil {
		return nil, err
	}
	if err := c.authenticated(cn); err != nil {
		return nil, err
	}
	if err := c.mayLeaveWill(cn.will); err != nil {
		return nil, err
	}
	known, err := b.ruleBefore(c, cn.request.CleanStart)
	if err != nil {
		return nil, err
	}
	c.dropContext()
	if cn.expiry != 0 || cn.will != nil {
		return known, b.journal.refusal()
	}
	return known, nil
}

// takeSession claims the session, and settles what the claim has displaced.
func (c *Client) takeSession(bt *batch, cn *connecting, known rulings) (claim, error) {
	b := c.broker
	b.hearPredecessor(bt, c.id)
	cl, err := b.claim(c, cn.request.CleanStart, b.capExpiry(cn.expiry), cn.revocations)
	if cl.limit != 0 {
		bt.limited(cl.limit, c, c.id, "")
	}
	if err != nil {
		return cl, err
	}
	c.session = cl.session
	if after := b.settle(c, &cl, cn); after != nil {
		bt.journaled = after // CONNACK says that the old session is gone
	}
	if err := c.authenticatedStill(cn); err != nil {
		return cl, err
	}
	if cl.present && len(b.hooks.authorize) > 0 { // what its predecessor has subscribed to meanwhile
		if err := b.rule(c.context(), c, cl.session, known); err != nil {
			return cl, err
		}
		c.dropContext()
	}
	return cl, nil
}

// catchUp bounds the wait for what a predecessor has sent.
const catchUp = 250 * time.Millisecond

// hearPredecessor sees to it that the connection which has the session is displaced
// behind what it has sent: a client that has said DISCONNECT, and comes again at
// once, has left. Its two connections are handled side by side.
func (b *Broker) hearPredecessor(bt *batch, id string) {
	s := b.directory.get(id)
	if s == nil {
		return
	}
	s.mu.Lock()
	old := s.owner
	s.mu.Unlock()
	if old != nil {
		bt.flush() // or what others in the round are sent would wait too
		old.conn.CatchUp(catchUp)
	}
}

// welcome sends CONNACK, and behind it what waits for the client. It returns the
// subscriptions that the client may no longer have, and whether the Authorizers
// have to be asked before more is sent.
func (c *Client) welcome(bt *batch, cn *connecting, cl *claim, known rulings, data []byte) (removed []*entry, waits bool, err error) {
	b, s := c.broker, cl.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != c || c.ending.Load() {
		return nil, false, io.EOF // displaced already, or out of time
	}
	c.window = int32(min(int(cn.window), b.opts.MaximumInflight))
	if n := min(int(cn.aliases), b.opts.TopicAliasMaximum); n > 0 {
		c.aliasesOut = &aliases{maximum: uint16(n)}
	}
	keepAlive := c.setKeepAlive(cn.keepAlive)
	ack := c.connack(cl, cn, keepAlive, data)
	if c.fit(ack, func() {}) == nil {
		return nil, false, &packets.Error{Code: packets.PacketTooLarge, Detail: "CONNACK is above the Maximum Packet Size of the client"}
	}
	c.phase, c.will = connected, cn.will
	b.stats.noteConnected()
	s.client, s.last = c, c
	s.userName, s.version = c.userName, c.version
	if cl.present && len(b.hooks.authorize) > 0 {
		removed = s.applyLocked(bt, known)
	}
	if b.journal != nil {
		s.keepLocked(bt, c)
	}
	s.online.Store(true)
	s.quota = c.window
	bt.reply(c, ack)
	s.resumeLocked(bt)
	s.pumpLocked(bt)
	return removed, s.scrutiny != nil || s.nextToAskLocked(c) != nil, nil
}

// welcomed tells of a client that is connected now, and goes on with what waits.
func (c *Client) welcomed(bt *batch, removed []*entry, waits bool) {
	b := c.broker
	for _, e := range removed {
		observe(b, b.hooks.subscription, func(o SubscriptionObserver) { o.Unsubscribed(c, e.Value.filter) })
	}
	b.log.Debug("petrel: client connected", "client", c.id, "version", c.version.String(), "address", addressOf(c), c.door.attr())
	observe(b, b.hooks.connection, func(o ConnectionObserver) { o.ClientConnected(c) })
	if waits {
		bt.flush()
		b.goOn(c.session, c)
	}
}

// settle ends what a claim has displaced. It returns what has to be safe in the store
// before the client is told.
func (b *Broker) settle(c *Client, cl *claim, cn *connecting) (after *commit) {
	if cl.displaced != nil {
		b.stats.takenOver.Add(1)
		if cl.flapping {
			b.log.Warn("petrel: several clients seem to use one client identifier, they displace each other",
				"client", c.id, "address", addressOf(c), "displaced", addressOf(cl.displaced))
		}
		cl.displaced.stop(packets.SessionTakenOver)
	}
	switch {
	case cl.ended == nil:
	case cl.expired:
		after = b.endSession(cl.ended, SessionExpired)
		b.stats.expired.Add(1)
	case cn.request.CleanStart:
		after = b.endSession(cl.ended, SessionDiscarded)
	default:
		after = b.endSession(cl.ended, SessionEnded)
	}
	switch {
	case cl.created:
		b.sessionChanged(cl.session, SessionCreated)
	case cl.displaced != nil:
		b.sessionChanged(cl.session, SessionTakenOver)
	default:
		b.sessionChanged(cl.session, SessionResumed)
	}
	b.publishWill(cl.will)
	if cl.earlier != nil {
		select {
		case <-cl.earlier:
		case <-c.context().Done():
		}
		c.dropContext()
	}
	return after
}

// setKeepAlive starts the keep alive and returns the value that is in force, in
// seconds (MQTT 5.0, section 3.1.2.10).
func (c *Client) setKeepAlive(seconds uint16) uint16 {
	o := &c.broker.opts
	if c.version == packets.V5 && o.MaximumKeepAlive != forever {
		if most := uint16(o.MaximumKeepAlive / time.Second); seconds == 0 || seconds > most {
			seconds = most
		}
	}
	now := c.broker.alarms.now()
	c.lastSeen.Store(int64(now))
	if seconds == 0 {
		c.keepAlive.Store(noKeepAlive)
	} else {
		c.keepAlive.Store(int64(time.Duration(seconds) * time.Second * 3 / 2))
	}
	c.watch(now)
	return seconds
}

// connack accepts, and tells what differs from the defaults of the standard.
func (c *Client) connack(cl *claim, cn *connecting, keepAlive uint16, data []byte) *packets.Connack {
	o := &c.broker.opts
	p := &packets.Connack{SessionPresent: cl.present}
	if c.version != packets.V5 {
		return p
	}
	if expiry := c.broker.capExpiry(cn.expiry); expiry != cn.expiry {
		p.HasSessionExpiryInterval, p.SessionExpiryInterval = true, expiry
	}
	if o.ReceiveMaximum != math.MaxUint16 {
		p.ReceiveMaximum = uint16(o.ReceiveMaximum)
	}
	if most := o.maximumQoS(); most < ExactlyOnce {
		p.HasMaximumQoS, p.MaximumQoS = true, most
	}
	p.RetainUnavailable = o.DisableRetain
	p.WildcardSubscriptionUnavailable = o.DisableWildcardSubscriptions
	p.SubscriptionIdentifiersUnavailable = o.DisableSubscriptionIdentifiers
	p.SharedSubscriptionUnavailable = o.DisableSharedSubscriptions
	if o.MaximumPacketSize <= largestPacket {
		p.MaximumPacketSize = uint32(o.MaximumPacketSize)
	}
	if cn.request.AssignedID {
		p.AssignedClientID = []byte(c.id)
	}
	p.TopicAliasMaximum = uint16(o.TopicAliasMaximum)
	if keepAlive != cn.keepAlive {
		p.HasServerKeepAlive, p.ServerKeepAlive = true, keepAlive
	}
	if cn.wantsResponse {
		p.ResponseInformation = []byte(o.ResponseInformation)
	}
	if cn.hasMethod {
		p.HasAuthenticationMethod, p.AuthenticationMethod = true, []byte(cn.method)
		p.HasAuthenticationData, p.AuthenticationData = data != nil, data
	}
	return p
}

// largestPacket is the size of the largest packet that MQTT can express.
const largestPacket = packets.MaxRemaining + 5

// capExpiry applies Options.MaximumSessionExpiry to a Session Expiry Interval.
func (b *Broker) capExpiry(seconds uint32) uint32 {
	most := b.opts.MaximumSessionExpiry
	if most == forever || time.Duration(seconds)*time.Second <= most {
		return seconds
	}
	return uint32(min((most+time.Second-1)/time.Second, neverExpires-1))
}

// addressOf is where the client comes from, for a log that may not want to know.
func addressOf(c *Client) slog.LogValuer { return remote{c} }

type remote struct{ *Client }

func (r remote) LogValue() slog.Value {
	if a := r.conn.RemoteAddr(); a != nil {
		return slog.StringValue(a.String())
	}
	return slog.StringValue("")
}

// mayLeaveWill asks whether the client may publish its will, before it is
// needed: a client that may not is refused (MQTT 5.0, section 3.1.2.5).
func (c *Client) mayLeaveWill(w *will) error {
	if w == nil || isReserved(w.topic) {
		return nil
	}
	r := AccessRequest{Client: c, Action: Publish, Topic: string(w.topic), QoS: w.qos, Retain: w.retain}
	if err := c.broker.authorize(c.context(), &r); err != nil {
		if packets.ReasonOf(err) == packets.UnspecifiedError {
			return errors.Join(packets.NotAuthorized, fmt.Errorf("petrel: authorize the will: %w", err))
		}
		return err
	}
	return nil
}
