package petrel

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"
	"unicode/utf8"

	"github.com/rs/xid"

	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/topics"
)

// connecting is a CONNECT on its way to CONNACK, as a copy that outlives its packet.
type connecting struct {
	request       ConnectRequest
	expiry        uint32 // Session Expiry Interval
	keepAlive     uint16 // seconds
	window        uint16 // Receive Maximum
	aliases       uint16 // Topic Alias Maximum
	wantsResponse bool
	will          *will
	method        string // Authentication Method; with hasMethod
	hasMethod     bool
	data          []byte // Authentication Data
	rounds        int    // AUTH packets of the client
	revocations   uint64 // that there were before it was authenticated
}

// connect handles a CONNECT (MQTT 5.0, section 3.1) up to the decision of the
// hooks; accept does the rest.
func (c *Client) connect(bt *batch, flags byte, body []byte) error {
	b := c.broker
	var p packets.Connect
	err := p.Decode(flags, body, 0)
	c.version = p.Version
	if err != nil {
		return c.refuse(err)
	}
	if p.MaximumPacketSize != 0 {
		c.maximumPacket = int32(min(p.MaximumPacketSize, math.MaxInt32))
	}
	c.noProblems = p.NoProblemInformation
	if err := c.secured(); err != nil {
		return c.refuse(err)
	}
	if err := c.checkConnect(&p); err != nil {
		return c.refuse(err)
	}
	cn, err := c.copyConnect(&p)
	if err != nil {
		return c.refuse(err)
	}
	if cn.hasMethod {
		return c.beginExchange(bt, cn)
	}
	if err := b.authenticate(c.context(), c.door, &cn.request); err != nil {
		return c.refuse(err)
	}
	return c.accept(bt, cn, nil)
}

// checkConnect refuses what the broker does not take, whoever asks.
func (c *Client) checkConnect(p *packets.Connect) error {
	o := &c.broker.opts
	if p.Bridge {
		c.broker.stats.bridgeLevels.Add(1)
		if !o.TolerateBridgeLevel {
			return &packets.Error{Code: packets.UnsupportedProtocolVersion, Detail: "the protocol level of a bridge; see Options.TolerateBridgeLevel"}
		}
		c.bridge = true
	}
	if c.surplus != 0 {
		return c.surplus.refusal()
	}
	if err := c.checkProperties(p.UserProperties.Len()); err != nil {
		return err
	}
	if err := c.checkClientID(p); err != nil {
		return err
	}
	if p.HasWill {
		return c.checkWill(&p.Will)
	}
	return nil
}

func (c *Client) checkClientID(p *packets.Connect) error {
	refused := func(detail string) error {
		return &packets.Error{Code: packets.ClientIdentifierNotValid, Detail: detail}
	}
	switch p.Version {
	case packets.V31:
		if len(p.ClientID) == 0 {
			return refused("an empty client identifier in MQTT 3.1")
		}
		if utf8.RuneCount(p.ClientID) > 23 {
			c.broker.stats.longClientIDs.Add(1)
			if !c.broker.opts.TolerateLongClientIDs {
				return refused("a client identifier of more than 23 characters in MQTT 3.1; see Options.TolerateLongClientIDs")
			}
		}
	case packets.V311:
		if len(p.ClientID) == 0 && !p.CleanStart {
			return refused("an empty client identifier without Clean Session")
		}
	}
	return nil
}

func (c *Client) checkWill(w *packets.Will) error {
	o := &c.broker.opts
	if w.QoS > o.maximumQoS() {
		return &packets.Error{Code: packets.QoSNotSupported, Detail: "Will QoS"}
	}
	if w.Retain && o.DisableRetain {
		return &packets.Error{Code: packets.RetainNotSupported, Detail: "Will Retain"}
	}
	if err := topics.CheckName(w.Topic, o.MaximumTopicLevels); err != nil {
		return &packets.Error{Code: packets.TopicNameInvalid, Detail: "Will Topic", Err: err}
	}
	if format, _ := w.Properties.PayloadFormat(); format == 1 && o.ValidatePayloadFormat && !utf8.Valid(w.Payload) {
		return &packets.Error{Code: packets.PayloadFormatInvalid, Detail: "Will Payload"}
	}
	return c.checkProperties(w.Properties.UserPropertyCount())
}

// copyConnect takes from p what has to outlive it.
func (c *Client) copyConnect(p *packets.Connect) (*connecting, error) {
	id := string(p.ClientID)
	for id == "" || len(p.ClientID) == 0 && c.broker.directory.get(id) != nil {
		id = xid.New().String() // of no session, not even of one that somebody made with foresight
	}
	c.principal = &principal{id: id, userName: string(p.UserName)}
	cn := &connecting{
		revocations: c.broker.revoked.count.Load(),
		expiry:      p.SessionExpiryInterval, keepAlive: p.KeepAlive, window: p.ReceiveMaximum, aliases: p.TopicAliasMaximum,
		wantsResponse: p.RequestResponseInformation,
		hasMethod:     p.HasAuthenticationMethod, method: string(p.AuthenticationMethod), data: clone(p.AuthenticationData),
	}
	cn.request = ConnectRequest{
		Peer: c.Peer(), Version: p.Version, ClientID: id, AssignedID: len(p.ClientID) == 0,
		HasUserName: p.HasUserName, UserName: string(p.UserName), HasPassword: p.HasPassword, Password: clone(p.Password),
		CleanStart: p.CleanStart, KeepAlive: time.Duration(p.KeepAlive) * time.Second, Identity: string(p.UserName),
	}
	for name, value := range p.UserProperties.All() {
		cn.request.UserProperties = append(cn.request.UserProperties, UserProperty{string(name), string(value)})
	}
	if p.Version != packets.V5 && !p.CleanStart {
		cn.expiry = neverExpires
	}
	if p.HasWill {
		cn.will = newWill(c, &p.Will)
		cn.request.Will = cn.will.public(c.broker.alarms.now())
	}
	return cn, nil
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }

// refuse answers a CONNECT that is not accepted, in a form that the client can
// read, if there is one (MQTT 5.0, section 4.13). It returns err.
func (c *Client) refuse(err error) error {
	code := packets.ReasonOf(err)
	if c.version == 0 {
		return err
	}
	if !code.AllowedIn(packets.TypeConnack) {
		code = packets.UnspecifiedError
	}
	c.refused = code
	reason, reference, properties := toPeer(err)
	p := &packets.Connack{
		Reason: code, ReasonString: []byte(reason), ServerReference: []byte(reference),
		UserProperties: appendUserProperties(nil, properties),
	}
	c.sayLast(c.fit(p, func() { p.ReasonString, p.UserProperties = nil, nil }))
	return err
}

// looksLikeV5 reports whether the body of a CONNECT begins like one of MQTT 5.0,
// as far as it has come.
func looksLikeV5(body []byte) bool {
	const start = "\x00\x04MQTT\x05"
	return len(body) >= len(start) && string(body[:len(start)]) == start
}

// accept makes the client the owner of its session and sends CONNACK. Before
// that, what its predecessor leaves behind is settled: a device publishes
// "online" at once, and its old will must not come after that.
func (c *Client) accept(bt *batch, cn *connecting, data []byte) error {
	b := c.broker
	c.identity, c.userName = cn.request.Identity, cn.request.UserName
	c.hadExpiry = cn.expiry != 0
	if err := c.prove(&cn.request); err != nil {
		return c.refuse(err)
	}
	if err := c.authenticated(cn); err != nil {
		return c.refuse(err)
	}
	if err := c.mayLeaveWill(cn.will); err != nil {
		return c.refuse(err)
	}
	known, err := b.ruleBefore(c, cn.request.CleanStart)
	if err != nil {
		return c.refuse(err)
	}
	c.dropContext()
	if cn.expiry != 0 || cn.will != nil {
		if err := b.journal.refusal(); err != nil {
			return c.refuse(err)
		}
	}
	cl, err := b.claim(c, cn.request.CleanStart, b.capExpiry(cn.expiry), cn.revocations)
	if cl.limit != 0 {
		bt.limited(cl.limit, c, c.id, "")
	}
	if err != nil {
		return c.refuse(err)
	}
	c.session = cl.session
	b.settle(c, &cl, cn)
	if cl.present && len(b.hooks.authorize) > 0 { // what its predecessor has subscribed to meanwhile
		if err := b.rule(c.context(), c, cl.session, known); err != nil {
			return c.refuse(err)
		}
		c.dropContext()
	}

	s := cl.session
	var removed []*entry
	waits := false // for what the Authorizers have to be asked
	s.mu.Lock()
	defer func() {
		s.mu.Unlock()
		if c.phase == connected {
			for _, e := range removed {
				observe(b, b.hooks.subscription, func(o SubscriptionObserver) { o.Unsubscribed(c, e.Value.filter) })
			}
			b.log.Debug("petrel: client connected", "client", c.id, "version", c.version.String(), "address", addressOf(c), c.door.attr())
			observe(b, b.hooks.connection, func(o ConnectionObserver) { o.ClientConnected(c) })
			if waits {
				bt.flush()
				b.goOn(s, c)
			}
		}
	}()
	if s.owner != c || c.ending.Load() {
		return io.EOF // displaced already, or out of time
	}
	c.will = cn.will
	c.window = int32(min(int(cn.window), b.opts.MaximumInflight))
	if n := min(int(cn.aliases), b.opts.TopicAliasMaximum); n > 0 {
		c.aliasesOut = &aliases{maximum: uint16(n)}
	}
	keepAlive := c.setKeepAlive(cn.keepAlive)
	ack := c.connack(&cl, cn, keepAlive, data)
	if c.fit(ack, func() {}) == nil {
		return &packets.Error{Code: packets.PacketTooLarge, Detail: "CONNACK is above the Maximum Packet Size of the client"}
	}
	c.phase = connected
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
	waits = s.scrutiny != nil || s.nextToAskLocked(c) != nil
	return nil
}

// settle ends what a claim has displaced.
func (b *Broker) settle(c *Client, cl *claim, cn *connecting) {
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
		b.endSession(cl.ended, SessionExpired)
		b.stats.expired.Add(1)
	case cn.request.CleanStart:
		b.endSession(cl.ended, SessionDiscarded)
	default:
		b.endSession(cl.ended, SessionEnded)
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

func addressOf(c *Client) slog.Value {
	if a := c.conn.RemoteAddr(); a != nil {
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
