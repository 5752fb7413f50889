package packets

import "math"

// The Connect Flags.
const (
	connectReserved   = 1 << 0
	connectCleanStart = 1 << 1
	connectWill       = 1 << 2
	connectWillQoS    = 3 // shift
	connectWillRetain = 1 << 5
	connectPassword   = 1 << 6
	connectUserName   = 1 << 7

	connectWillBits = 3<<connectWillQoS | connectWillRetain
)

// bridgeBit is the bit of the protocol level by which bridges make themselves
// known to some brokers. It is no part of the standard.
const bridgeBit = 0x80

// Connect opens a connection (MQTT 5.0, section 3.1). What only MQTT 5.0 has is
// zero for the other versions, except ReceiveMaximum.
type Connect struct {
	Version Version
	// Bridge says that bit 7 of the protocol level was set (0x83, 0x84).
	// Version is the level without it.
	Bridge bool
	// CleanStart is called Clean Session before MQTT 5.0.
	CleanStart bool
	// KeepAlive is in seconds; 0 turns it off.
	KeepAlive uint16
	ClientID  []byte

	HasUserName, HasPassword bool
	UserName, Password       []byte

	HasWill bool
	Will    Will

	// SessionExpiryInterval is in seconds, 0 also when absent; 0xFFFFFFFF
	// means never.
	SessionExpiryInterval uint32
	// ReceiveMaximum is 65535 after Decode when absent, in every version.
	// AppendTo leaves out 65535, and 0 counts as absent.
	ReceiveMaximum uint16
	// MaximumPacketSize is in bytes. 0 means absent: no limit.
	MaximumPacketSize uint32
	// TopicAliasMaximum is 0 also when absent.
	TopicAliasMaximum          uint16
	RequestResponseInformation bool
	// NoProblemInformation says that Request Problem Information was 0.
	NoProblemInformation bool
	UserProperties       UserProperties

	HasAuthenticationMethod bool
	AuthenticationMethod    []byte
	HasAuthenticationData   bool
	AuthenticationData      []byte

	scratch     []byte
	willScratch []byte
}

// Type returns [TypeConnect].
func (p *Connect) Type() Type {
	return TypeConnect
}

// AppendTo appends the wire form of p in its own Version, or for v if that is
// 0. On error dst is returned unchanged.
func (p *Connect) AppendTo(dst []byte, v Version) ([]byte, error) {
	if p.Version != 0 {
		v = p.Version
	}
	var size sizer
	var props, will propertyWriter
	p.size(&size, &props, &will, v)
	out, err := size.header(dst, TypeConnect.first())
	if err != nil {
		return dst, err
	}
	out = appendBytes(out, protocolName(v))
	level := byte(v)
	if p.Bridge {
		level |= bridgeBit
	}
	out = append(out, level, p.flags(), byte(p.KeepAlive>>8), byte(p.KeepAlive))
	if v == V5 {
		props.begin(out)
		p.properties(&props)
		out = props.dst
	}
	out = appendBytes(out, p.ClientID)
	if p.HasWill {
		out = p.Will.appendTo(out, &will, v)
	}
	if p.HasUserName {
		out = appendBytes(out, p.UserName)
	}
	if p.HasPassword {
		out = appendBytes(out, p.Password)
	}
	return out, nil
}

// size checks p and counts its body.
func (p *Connect) size(s *sizer, props, will *propertyWriter, v Version) {
	name := protocolName(v)
	if name == "" || p.Bridge && v == V5 {
		s.fail(UnsupportedProtocolVersion, "CONNECT of "+v.String())
	}
	s.n += 2 + len(name) + 4 // level, flags, keep alive
	if v == V5 {
		p.properties(props)
		s.block(props)
	}
	s.bytes("client identifier", p.ClientID)
	if p.HasWill {
		p.Will.size(s, will, v)
	}
	if p.HasUserName {
		s.bytes("user name", p.UserName)
	}
	if p.HasPassword {
		s.bytes("password", p.Password)
		if v != V5 && !p.HasUserName {
			s.fail(MalformedPacket, "password without user name")
		}
	}
}

func protocolName(v Version) string {
	switch v {
	case V31:
		return "MQIsdp"
	case V311, V5:
		return "MQTT"
	}
	return ""
}

// flags are the Connect Flags.
func (p *Connect) flags() byte {
	var b byte
	if p.CleanStart {
		b |= connectCleanStart
	}
	if p.HasWill {
		b |= connectWill | byte(p.Will.QoS)<<connectWillQoS
		if p.Will.Retain {
			b |= connectWillRetain
		}
	}
	if p.HasPassword {
		b |= connectPassword
	}
	if p.HasUserName {
		b |= connectUserName
	}
	return b
}

func (p *Connect) properties(w *propertyWriter) {
	w.optional(propSessionExpiry, p.SessionExpiryInterval)
	if p.ReceiveMaximum != math.MaxUint16 {
		w.optional(propReceiveMaximum, uint32(p.ReceiveMaximum))
	}
	w.optional(propMaximumPacketSize, p.MaximumPacketSize)
	w.optional(propTopicAliasMaximum, uint32(p.TopicAliasMaximum))
	w.flag(propRequestResponseInfo, p.RequestResponseInformation, 1)
	w.flag(propRequestProblemInfo, p.NoProblemInformation, 0)
	w.authentication(p.HasAuthenticationMethod, p.AuthenticationMethod, p.HasAuthenticationData, p.AuthenticationData)
	w.user(p.UserProperties)
}

// Decode parses the body of a CONNECT, whose version is found in the body: the
// last argument is ignored.
//
// Version is the form in which to answer, also when Decode fails. It is 0 if
// the protocol name is unknown (UnsupportedProtocolVersion) or if the body ends
// before the level: close without an answer. For a known name with an unknown
// level (UnsupportedProtocolVersion) it is V5 if the level is above 5, else
// V311.
func (p *Connect) Decode(flags byte, body []byte, _ Version) error {
	*p = Connect{ReceiveMaximum: math.MaxUint16, scratch: p.scratch, willScratch: p.willScratch}
	r := reader{b: body}
	p.decodeProtocol(&r)
	r.checkFlags(TypeConnect, flags, p.Version)
	bits := p.decodeFlags(&r)
	p.KeepAlive = r.uint16("keep alive")
	if p.Version == V5 {
		p.decodeProperties(&r)
	}
	p.ClientID = r.text("client identifier")
	if bits&connectWill != 0 {
		p.HasWill = true
		p.Will.QoS = QoS(bits >> connectWillQoS & 3)
		p.Will.Retain = bits&connectWillRetain != 0
		p.willScratch = p.Will.decode(&r, p.Version, p.willScratch)
	}
	p.decodeCredentials(&r, bits)
	return r.end()
}

func (p *Connect) decodeProtocol(r *reader) {
	name := r.binary("protocol name")
	if string(name) != "MQTT" && string(name) != "MQIsdp" {
		r.fail(UnsupportedProtocolVersion, "protocol name", 0)
	}
	at := r.off
	level := r.uint8("protocol level")
	if r.err != nil {
		return
	}
	v := Version(level &^ bridgeBit)
	switch {
	case string(name) == protocolName(v) && (v != V5 || level == byte(V5)):
		p.Version, p.Bridge = v, level&bridgeBit != 0
		return
	case level > byte(V5):
		p.Version = V5
	default:
		p.Version = V311
	}
	r.fail(UnsupportedProtocolVersion, "protocol level", at)
}

// decodeFlags reads the Connect Flags and judges what they say by themselves.
func (p *Connect) decodeFlags(r *reader) byte {
	at := r.off
	bits := r.uint8("connect flags")
	switch {
	case bits&connectReserved != 0 && p.Version != V31:
		r.fail(MalformedPacket, "reserved connect flag", at)
	case bits&connectWill == 0 && bits&connectWillBits != 0:
		r.fail(MalformedPacket, "will flags without will", at)
	case QoS(bits>>connectWillQoS&3) > ExactlyOnce:
		r.fail(MalformedPacket, "will QoS 3", at)
	case p.Version != V5 && bits&connectPassword != 0 && bits&connectUserName == 0:
		r.fail(MalformedPacket, "password without user name", at)
	}
	p.CleanStart = bits&connectCleanStart != 0
	return bits
}

// decodeCredentials reads User Name and Password. In MQTT 3.1 the packet may
// end before a field that the flags announce, which means that it is not given.
func (p *Connect) decodeCredentials(r *reader, bits byte) {
	announced := func(flag byte) bool {
		return bits&flag != 0 && (p.Version != V31 || r.left() > 0)
	}
	if p.HasUserName = announced(connectUserName); p.HasUserName {
		p.UserName = r.text("user name")
	}
	if p.HasPassword = announced(connectPassword); p.HasPassword {
		p.Password = r.binary("password")
	}
}

func (p *Connect) decodeProperties(r *reader) {
	props := r.properties(inConnect, p.scratch)
	for props.next(r) {
		switch props.id {
		case propSessionExpiry:
			p.SessionExpiryInterval = props.num
		case propReceiveMaximum:
			p.ReceiveMaximum = uint16(props.num)
		case propMaximumPacketSize:
			p.MaximumPacketSize = props.num
		case propTopicAliasMaximum:
			p.TopicAliasMaximum = uint16(props.num)
		case propRequestResponseInfo:
			p.RequestResponseInformation = props.num == 1
		case propRequestProblemInfo:
			p.NoProblemInformation = props.num == 0
		case propAuthenticationMethod:
			p.HasAuthenticationMethod, p.AuthenticationMethod = true, props.data
		case propAuthenticationData:
			p.HasAuthenticationData, p.AuthenticationData = true, props.data
		case propUserProperty:
			props.keep(r)
		}
	}
	p.UserProperties, p.scratch = props.kept()
	if p.HasAuthenticationData && !p.HasAuthenticationMethod {
		r.fail(ProtocolError, "authentication data without method", r.off)
	}
}
