package packets

import (
	"encoding/binary"
	"iter"
)

// The Subscription Options (MQTT 5.0, section 3.8.3.1).
const (
	optionQoS                 = 3
	optionNoLocal             = 1 << 2
	optionRetainAsPublished   = 1 << 3
	optionRetainHandling      = 3 // after the shift
	optionRetainHandlingShift = 4
	optionReserved            = 3 << 6
)

// Subscription is one topic filter of a SUBSCRIBE with its options. Before MQTT
// 5.0 the only option is QoS.
type Subscription struct {
	Filter []byte
	// QoS is the highest QoS to deliver with.
	QoS QoS
	// NoLocal keeps the client's own messages from it.
	NoLocal bool
	// RetainAsPublished keeps the RETAIN flag of forwarded messages.
	RetainAsPublished bool
	// RetainHandling: retained messages are sent at every subscribe (0), only
	// if the subscription is new (1), or never (2).
	RetainHandling byte
}

// options is the wire form. What is out of range becomes 3, which encoders
// refuse.
func (s Subscription) options() byte {
	b := min(byte(s.QoS), optionQoS) | min(s.RetainHandling, optionRetainHandling)<<optionRetainHandlingShift
	if s.NoLocal {
		b |= optionNoLocal
	}
	if s.RetainAsPublished {
		b |= optionRetainAsPublished
	}
	return b
}

// Subscriptions are the subscriptions of a SUBSCRIBE in wire form, in the order
// they were sent.
type Subscriptions []byte

// Next splits off the first subscription, whose filter aliases s.
func (s Subscriptions) Next() (Subscription, Subscriptions, bool) {
	n := bytesLen(s)
	if n >= len(s) {
		return Subscription{}, nil, false
	}
	options := s[n]
	return Subscription{
		Filter:            s[2:n:n],
		QoS:               QoS(options & optionQoS),
		NoLocal:           options&optionNoLocal != 0,
		RetainAsPublished: options&optionRetainAsPublished != 0,
		RetainHandling:    options >> optionRetainHandlingShift & optionRetainHandling,
	}, s[n+1:], true
}

// All walks the subscriptions in order. Filters alias s.
func (s Subscriptions) All() iter.Seq[Subscription] {
	return func(yield func(Subscription) bool) {
		for {
			sub, rest, ok := s.Next()
			if !ok || !yield(sub) {
				return
			}
			s = rest
		}
	}
}

// Len reports how many subscriptions there are.
func (s Subscriptions) Len() int {
	n := 0
	for range s.All() {
		n++
	}
	return n
}

// Append returns s with one more subscription. What cannot be sent, such as a
// filter longer than 65535 bytes, is found when the SUBSCRIBE is encoded.
func (s Subscriptions) Append(sub Subscription) Subscriptions {
	return append(appendFilter(s, sub.Filter), sub.options())
}

// appendFilter appends a filter. For one that is too long only its length is
// written, which the encoder finds to be wrong.
func appendFilter[T []byte | string](dst []byte, filter T) []byte {
	if len(filter) > 0xFFFF {
		return append(dst, 0xFF, 0xFF)
	}
	return appendBytes(dst, filter)
}

// Subscribe asks for subscriptions (MQTT 5.0, section 3.8).
type Subscribe struct {
	PacketID uint16
	// SubscriptionID is 1 to 268435455, 0 if there is none.
	SubscriptionID uint32
	UserProperties UserProperties
	// Subscriptions has at least one entry. Decode checks everything but the
	// syntax of the filters, which a SUBACK can report one by one; a filter
	// may even be empty.
	Subscriptions Subscriptions

	scratch []byte
}

// Type returns [TypeSubscribe].
func (p *Subscribe) Type() Type {
	return TypeSubscribe
}

// AppendTo appends the wire form of p for a peer speaking v. Options that v
// does not have are an error. On error dst is returned unchanged.
func (p *Subscribe) AppendTo(dst []byte, v Version) ([]byte, error) {
	var size sizer
	var props propertyWriter
	size.packetID(p.PacketID)
	if v == V5 {
		p.properties(&props)
		size.block(&props)
	}
	r := reader{b: p.Subscriptions, err: size.err}
	if r.subscriptions(v) && v == V31 {
		r.fail(MalformedPacket, "options", 0)
	}
	size.err = r.err
	size.n += len(p.Subscriptions)
	out, err := size.header(dst, TypeSubscribe.first())
	if err != nil {
		return dst, err
	}
	out = binary.BigEndian.AppendUint16(out, p.PacketID)
	if v == V5 {
		props.begin(out)
		p.properties(&props)
		out = props.dst
	}
	return append(out, p.Subscriptions...), nil
}

func (p *Subscribe) properties(w *propertyWriter) {
	w.optional(propSubscriptionID, p.SubscriptionID)
	w.user(p.UserProperties)
}

// Decode parses the body of a SUBSCRIBE. UserProperties and Subscriptions alias
// body, unless something had to be removed from between them.
func (p *Subscribe) Decode(flags byte, body []byte, v Version) error {
	*p = Subscribe{scratch: p.scratch}
	r := newReader(TypeSubscribe, flags, body, v)
	p.PacketID = r.packetID()
	if v == V5 {
		p.decodeProperties(&r)
	}
	start := r.off
	surplus := r.subscriptions(v)
	if r.err != nil {
		return r.err
	}
	p.Subscriptions = body[start:len(body):len(body)]
	if surplus {
		p.clearOptions()
	}
	return nil
}

func (p *Subscribe) decodeProperties(r *reader) {
	props := r.properties(inSubscribe, p.scratch)
	for props.next(r) {
		switch props.id {
		case propSubscriptionID:
			p.SubscriptionID = props.num
		case propUserProperty:
			props.keep(r)
		}
	}
	p.UserProperties, p.scratch = props.kept()
}

// subscriptions checks what is left as a list of subscriptions. surplus says
// that options have bits that v gives no meaning to, which MQTT 3.1 allows.
func (r *reader) subscriptions(v Version) (surplus bool) {
	if r.left() == 0 {
		r.fail(ProtocolError, "no subscription", r.off)
	}
	for r.err == nil && r.left() > 0 {
		r.text("topic filter")
		at := r.off
		options := r.uint8("subscription options")
		switch {
		case v != V5 && options > optionQoS:
			surplus = true
			if v != V31 {
				r.fail(MalformedPacket, "subscription options", at)
			}
		case options&optionReserved != 0:
			r.fail(MalformedPacket, "subscription options", at)
		case options>>optionRetainHandlingShift == 3:
			r.fail(ProtocolError, "retain handling 3", at)
		}
		if options&optionQoS > byte(ExactlyOnce) {
			if v == V5 {
				r.fail(ProtocolError, "QoS 3", at)
			}
			r.fail(MalformedPacket, "QoS 3", at)
		}
	}
	return surplus
}

// clearOptions moves the subscriptions to memory of p and clears all options
// but QoS there. MQTT 3.1 has no properties that could need that memory.
func (p *Subscribe) clearOptions() {
	if cap(p.scratch) < len(p.Subscriptions) {
		p.scratch = make([]byte, 0, len(p.Subscriptions))
	}
	p.scratch = append(p.scratch[:0], p.Subscriptions...)
	for b := p.scratch; len(b) > 0; {
		n := bytesLen(b)
		b[n] &= optionQoS
		b = b[n+1:]
	}
	p.Subscriptions = p.scratch[:len(p.scratch):len(p.scratch)]
}
