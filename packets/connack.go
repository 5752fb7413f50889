package packets

import "fmt"

// Connack answers a CONNECT (MQTT 5.0, section 3.2). Only SessionPresent and
// Reason exist before MQTT 5.0, and MQTT 3.1 has no SessionPresent.
type Connack struct {
	// SessionPresent is false unless Reason is Success.
	SessionPresent bool
	// Reason is translated from and to the return codes of the older
	// versions; see [ConnackReturnCode].
	Reason ReasonCode

	HasSessionExpiryInterval bool
	// SessionExpiryInterval is in seconds; 0xFFFFFFFF means never.
	SessionExpiryInterval uint32
	// ReceiveMaximum is 0 when absent, which means 65535.
	ReceiveMaximum uint16
	HasMaximumQoS  bool
	// MaximumQoS is 0 or 1. The value 2 is not written, as it is the default.
	MaximumQoS QoS

	RetainUnavailable                  bool
	WildcardSubscriptionUnavailable    bool
	SubscriptionIdentifiersUnavailable bool
	SharedSubscriptionUnavailable      bool

	// MaximumPacketSize is in bytes. 0 means absent: no limit.
	MaximumPacketSize uint32
	AssignedClientID  []byte
	TopicAliasMaximum uint16
	// ReasonString is for a person to read.
	ReasonString       []byte
	UserProperties     UserProperties
	HasServerKeepAlive bool
	// ServerKeepAlive is in seconds; 0 turns it off.
	ServerKeepAlive     uint16
	ResponseInformation []byte
	ServerReference     []byte

	HasAuthenticationMethod bool
	AuthenticationMethod    []byte
	HasAuthenticationData   bool
	AuthenticationData      []byte

	scratch []byte
}

// Type returns [TypeConnack].
func (p *Connack) Type() Type {
	return TypeConnack
}

// AppendTo appends the wire form of p for a peer speaking v. It fails if v is
// not V5 and Reason has no return code: then the connection is closed without
// a CONNACK. On error dst is returned unchanged.
func (p *Connack) AppendTo(dst []byte, v Version) ([]byte, error) {
	var size sizer
	var props propertyWriter
	code := byte(p.Reason)
	size.n++ // acknowledge flags
	size.reason(p.Reason, TypeConnack)
	if v == V5 {
		p.properties(&props)
		size.block(&props)
	} else if c, ok := ConnackReturnCode(p.Reason); ok {
		code = c
	} else {
		size.fail(ProtocolError, fmt.Sprintf("no return code in MQTT %v for %v", v, p.Reason))
	}
	var flags byte
	if p.SessionPresent && v != V31 {
		flags = 1
		if p.Reason != Success {
			size.fail(ProtocolError, "session present in a refusal")
		}
	}
	out, err := size.header(dst, TypeConnack.first())
	if err != nil {
		return dst, err
	}
	out = append(out, flags, code)
	if v == V5 {
		props.begin(out)
		p.properties(&props)
		out = props.dst
	}
	return out, nil
}

func (p *Connack) properties(w *propertyWriter) {
	if p.HasSessionExpiryInterval {
		w.number(propSessionExpiry, p.SessionExpiryInterval)
	}
	w.optional(propReceiveMaximum, uint32(p.ReceiveMaximum))
	if p.HasMaximumQoS && p.MaximumQoS != ExactlyOnce {
		w.number(propMaximumQoS, uint32(p.MaximumQoS))
	}
	w.flag(propRetainAvailable, p.RetainUnavailable, 0)
	w.optional(propMaximumPacketSize, p.MaximumPacketSize)
	w.text(propAssignedClientID, p.AssignedClientID)
	w.optional(propTopicAliasMaximum, uint32(p.TopicAliasMaximum))
	w.text(propReasonString, p.ReasonString)
	w.user(p.UserProperties)
	w.flag(propWildcardAvailable, p.WildcardSubscriptionUnavailable, 0)
	w.flag(propSubscriptionIDsAllowed, p.SubscriptionIdentifiersUnavailable, 0)
	w.flag(propSharedAvailable, p.SharedSubscriptionUnavailable, 0)
	if p.HasServerKeepAlive {
		w.number(propServerKeepAlive, uint32(p.ServerKeepAlive))
	}
	w.text(propResponseInfo, p.ResponseInformation)
	w.text(propServerReference, p.ServerReference)
	w.authentication(p.HasAuthenticationMethod, p.AuthenticationMethod, p.HasAuthenticationData, p.AuthenticationData)
}

// Decode parses the body of a CONNACK. Strings and properties alias body.
func (p *Connack) Decode(flags byte, body []byte, v Version) error {
	*p = Connack{scratch: p.scratch}
	r := newReader(TypeConnack, flags, body, v)
	bits := r.uint8("acknowledge flags")
	if bits > 1 && v != V31 {
		r.fail(MalformedPacket, "acknowledge flags", 0)
	}
	p.SessionPresent = bits == 1 && v != V31
	if v == V5 {
		p.Reason = r.reason(TypeConnack)
		p.decodeProperties(&r)
	} else {
		p.Reason = r.returnCode()
	}
	if p.SessionPresent && p.Reason != Success {
		r.fail(ProtocolError, "session present in a refusal", 0)
	}
	return r.end()
}

// returnCode reads the return code of MQTT 3.1.1 and 3.1.
func (r *reader) returnCode() ReasonCode {
	at := r.off
	code := r.uint8("return code")
	if int(code) < len(returnCodes) {
		return returnCodes[code]
	}
	r.fail(ProtocolError, "return code", at)
	return UnspecifiedError
}

func (p *Connack) decodeProperties(r *reader) {
	props := r.properties(inConnack, p.scratch)
	for props.next(r) {
		switch props.id {
		case propSessionExpiry:
			p.HasSessionExpiryInterval, p.SessionExpiryInterval = true, props.num
		case propReceiveMaximum:
			p.ReceiveMaximum = uint16(props.num)
		case propMaximumQoS:
			p.HasMaximumQoS, p.MaximumQoS = true, QoS(props.num)
		case propRetainAvailable:
			p.RetainUnavailable = props.num == 0
		case propMaximumPacketSize:
			p.MaximumPacketSize = props.num
		case propAssignedClientID:
			p.AssignedClientID = props.data
		case propTopicAliasMaximum:
			p.TopicAliasMaximum = uint16(props.num)
		case propReasonString:
			p.ReasonString = props.data
		case propUserProperty:
			props.keep(r)
		case propWildcardAvailable:
			p.WildcardSubscriptionUnavailable = props.num == 0
		case propSubscriptionIDsAllowed:
			p.SubscriptionIdentifiersUnavailable = props.num == 0
		case propSharedAvailable:
			p.SharedSubscriptionUnavailable = props.num == 0
		case propServerKeepAlive:
			p.HasServerKeepAlive, p.ServerKeepAlive = true, uint16(props.num)
		case propResponseInfo:
			p.ResponseInformation = props.data
		case propServerReference:
			p.ServerReference = props.data
		case propAuthenticationMethod:
			p.HasAuthenticationMethod, p.AuthenticationMethod = true, props.data
		case propAuthenticationData:
			p.HasAuthenticationData, p.AuthenticationData = true, props.data
		}
	}
	p.UserProperties, p.scratch = props.kept()
	if p.HasAuthenticationData && !p.HasAuthenticationMethod {
		r.fail(ProtocolError, "authentication data without method", r.off)
	}
}
