package petrel

import (
	"errors"
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
	policy        uint64 // Broker.policy before the ConnectionAuthorizers were asked
}

// connect handles a CONNECT (MQTT 5.0, section 3.1) up to the decision of the
// hooks; accept does the rest.
func (c *Client) connect(bt *batch, flags byte, body []byte) error {
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
	if err := c.authenticate(&cn.request); err != nil {
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
	userName := string(p.UserName)
	c.principal = &principal{id, accountOf("", userName)}
	cn := &connecting{
		revocations: c.broker.revoked.count.Load(),
		expiry:      p.SessionExpiryInterval, keepAlive: p.KeepAlive, window: p.ReceiveMaximum, aliases: p.TopicAliasMaximum,
		wantsResponse: p.RequestResponseInformation,
		hasMethod:     p.HasAuthenticationMethod, method: string(p.AuthenticationMethod), data: clone(p.AuthenticationData),
	}
	cn.request = ConnectRequest{
		Peer: c.Peer(), Version: p.Version, ClientID: id, AssignedID: len(p.ClientID) == 0,
		HasUserName: p.HasUserName, UserName: userName, HasPassword: p.HasPassword, Password: clone(p.Password),
		CleanStart: p.CleanStart, KeepAlive: time.Duration(p.KeepAlive) * time.Second, Identity: userName,
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
	if c.version == 0 || errors.Is(err, errGone) {
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
