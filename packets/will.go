package packets

// Will is the message that CONNECT leaves with the server, to be published when
// the connection ends without a DISCONNECT (MQTT 5.0, section 3.1.2.5).
type Will struct {
	QoS     QoS
	Retain  bool
	Topic   []byte
	Payload []byte
	// DelayInterval is in seconds, 0 also when absent.
	DelayInterval    uint32
	HasMessageExpiry bool
	// MessageExpiryInterval is in seconds. It starts when the will is
	// published.
	MessageExpiryInterval uint32
	// Properties are what is passed on to subscribers.
	Properties Properties
}

func (w *Will) size(s *sizer, props *propertyWriter, v Version) {
	if w.QoS > ExactlyOnce {
		s.fail(MalformedPacket, "will "+w.QoS.String())
	}
	if v == V5 {
		w.properties(props)
		s.block(props)
	}
	s.bytes("will topic", w.Topic)
	if len(w.Topic) == 0 {
		s.fail(TopicNameInvalid, "empty will topic")
	} else if code := checkTopic(w.Topic); code != Success {
		s.fail(code, "will topic")
	}
	s.bytes("will payload", w.Payload)
}

func (w *Will) properties(p *propertyWriter) {
	p.optional(propWillDelay, w.DelayInterval)
	if w.HasMessageExpiry {
		p.number(propMessageExpiry, w.MessageExpiryInterval)
	}
	p.wire(w.Properties, forwardableIDs)
}

func (w *Will) appendTo(dst []byte, props *propertyWriter, v Version) []byte {
	if v == V5 {
		props.begin(dst)
		w.properties(props)
		dst = props.dst
	}
	dst = appendBytes(dst, w.Topic)
	return appendBytes(dst, w.Payload)
}

func (w *Will) decode(r *reader, v Version, scratch []byte) []byte {
	if v == V5 {
		props := r.properties(inWill, scratch)
		for props.next(r) {
			switch props.id {
			case propWillDelay:
				w.DelayInterval = props.num
			case propMessageExpiry:
				w.HasMessageExpiry, w.MessageExpiryInterval = true, props.num
			default:
				props.keep(r)
			}
		}
		w.Properties, scratch = props.kept()
	}
	at := r.off
	w.Topic = r.topic("will topic", TopicNameInvalid)
	if len(w.Topic) == 0 {
		r.fail(TopicNameInvalid, "empty will topic", at)
	}
	w.Payload = r.binary("will payload")
	return scratch
}
