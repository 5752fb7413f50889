package packets

// Auth is one step of enhanced authentication (MQTT 5.0, section 3.15). Other
// versions have no such packet.
type Auth struct {
	Reason ReasonCode
	// HasAuthenticationMethod is always true in a legal AUTH.
	HasAuthenticationMethod bool
	AuthenticationMethod    []byte
	HasAuthenticationData   bool
	AuthenticationData      []byte
	// ReasonString is for a person to read.
	ReasonString   []byte
	UserProperties UserProperties

	scratch []byte
}

// Type returns [TypeAuth].
func (p *Auth) Type() Type {
	return TypeAuth
}

// AppendTo appends the wire form of p. It fails for any version but V5. On
// error dst is returned unchanged.
func (p *Auth) AppendTo(dst []byte, v Version) ([]byte, error) {
	var size sizer
	var props propertyWriter
	if v != V5 {
		size.fail(MalformedPacket, "AUTH in MQTT "+v.String())
	}
	if !p.HasAuthenticationMethod {
		size.fail(ProtocolError, "AUTH without authentication method")
	}
	p.properties(&props)
	size.reason(p.Reason, TypeAuth)
	size.block(&props)
	out, err := size.header(dst, TypeAuth.first())
	if err != nil {
		return dst, err
	}
	props.begin(append(out, byte(p.Reason)))
	p.properties(&props)
	return props.dst, nil
}

func (p *Auth) properties(w *propertyWriter) {
	w.authentication(p.HasAuthenticationMethod, p.AuthenticationMethod, p.HasAuthenticationData, p.AuthenticationData)
	w.text(propReasonString, p.ReasonString)
	w.user(p.UserProperties)
}

// Decode parses the body of an AUTH. Strings and properties alias body. It
// fails for any version but V5.
func (p *Auth) Decode(flags byte, body []byte, v Version) error {
	*p = Auth{scratch: p.scratch}
	if v != V5 {
		return &Error{Code: MalformedPacket, Detail: "AUTH in MQTT " + v.String()}
	}
	r := newReader(TypeAuth, flags, body, v)
	if r.left() > 0 {
		p.Reason = r.reason(TypeAuth)
	}
	if r.left() > 0 {
		p.decodeProperties(&r)
	}
	if !p.HasAuthenticationMethod {
		r.fail(ProtocolError, "AUTH without authentication method", r.off)
	}
	return r.end()
}

func (p *Auth) decodeProperties(r *reader) {
	props := r.properties(inAuth, p.scratch)
	for props.next(r) {
		switch props.id {
		case propAuthenticationMethod:
			p.HasAuthenticationMethod, p.AuthenticationMethod = true, props.data
		case propAuthenticationData:
			p.HasAuthenticationData, p.AuthenticationData = true, props.data
		case propReasonString:
			p.ReasonString = props.data
		case propUserProperty:
			props.keep(r)
		}
	}
	p.UserProperties, p.scratch = props.kept()
}
