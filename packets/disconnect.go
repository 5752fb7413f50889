package packets

// Disconnect ends a connection (MQTT 5.0, section 3.14). Before MQTT 5.0 it has
// no fields and only clients send it.
type Disconnect struct {
	Reason ReasonCode
	// HasSessionExpiryInterval is legal from a client only, which Decode does
	// not judge.
	HasSessionExpiryInterval bool
	// SessionExpiryInterval is in seconds; 0xFFFFFFFF means never.
	SessionExpiryInterval uint32
	// ReasonString is for a person to read.
	ReasonString []byte
	// ServerReference is legal from a server only, which Decode does not
	// judge.
	ServerReference []byte
	UserProperties  UserProperties

	scratch []byte
}

// Type returns [TypeDisconnect].
func (p *Disconnect) Type() Type {
	return TypeDisconnect
}

// AppendTo appends the wire form of p for a peer speaking v, in the shortest
// form there is. On error dst is returned unchanged.
func (p *Disconnect) AppendTo(dst []byte, v Version) ([]byte, error) {
	var size sizer
	var props propertyWriter
	if v == V5 {
		p.properties(&props)
		if props.size > 0 || p.Reason != NormalDisconnection {
			size.reason(p.Reason, TypeDisconnect)
		}
		if props.size > 0 {
			size.block(&props)
		}
	}
	out, err := size.header(dst, TypeDisconnect.first())
	if err != nil {
		return dst, err
	}
	if size.n > 0 {
		out = append(out, byte(p.Reason))
	}
	if props.size > 0 {
		props.begin(out)
		p.properties(&props)
		out = props.dst
	}
	return out, nil
}

func (p *Disconnect) properties(w *propertyWriter) {
	if p.HasSessionExpiryInterval {
		w.number(propSessionExpiry, p.SessionExpiryInterval)
	}
	w.text(propReasonString, p.ReasonString)
	w.user(p.UserProperties)
	w.text(propServerReference, p.ServerReference)
}

// Decode parses the body of a DISCONNECT. Strings and properties alias body.
func (p *Disconnect) Decode(flags byte, body []byte, v Version) error {
	*p = Disconnect{scratch: p.scratch}
	r := newReader(TypeDisconnect, flags, body, v)
	if v == V5 && r.left() > 0 {
		p.Reason = r.reason(TypeDisconnect)
	}
	if v == V5 && r.left() > 0 {
		p.decodeProperties(&r)
	}
	return r.end()
}

func (p *Disconnect) decodeProperties(r *reader) {
	props := r.properties(inDisconnect, p.scratch)
	for props.next(r) {
		switch props.id {
		case propSessionExpiry:
			p.HasSessionExpiryInterval, p.SessionExpiryInterval = true, props.num
		case propReasonString:
			p.ReasonString = props.data
		case propServerReference:
			p.ServerReference = props.data
		case propUserProperty:
			props.keep(r)
		}
	}
	p.UserProperties, p.scratch = props.kept()
}
