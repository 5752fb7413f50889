package petrel

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/petrelmq/petrel/internal/engine"
	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/topics"
)

// Message is an application message as hosts and hooks see it: a plain value
// with nothing to release. Its byte slices are shared with other holders of the
// message: they must not be written to.
type Message struct {
	Topic   string
	Payload []byte
	QoS     QoS
	Retain  bool

	// The properties of MQTT 5.0. Older clients neither send nor get them.

	// Expiry is the time that the message has left to live when it is handed
	// over; it travels in whole seconds, rounded up. Zero means that it never
	// expires, negative that it has expired.
	Expiry           time.Duration
	PayloadIsUTF8    bool // the Payload Format Indicator
	ContentType      string
	ResponseTopic    string
	CorrelationData  []byte
	UserProperties   []UserProperty
	PublisherID      string // client identifier of the publisher; empty for the host and the broker
	PublisherVersion Version
}

// message is the form in which the broker keeps a message. It is immutable and
// shared by all sessions and by the retained index.
type message struct {
	topic   string
	body    []byte     // properties in wire form, then the payload
	props   int        // length of the properties
	by      *principal // who published it; nil for the host and the broker
	expires instant
	kept    uint64 // its number among all that were ever retained, if it was
	qos     QoS
	retain  bool
	counted bool         // those who hold its record are counted in journal.holders alone
	holders atomic.Int32 // of its record in the store: deliveries in memory, and who is adding some
	number  uint64       // of that record
}

func (m *message) properties() packets.Properties {
	return packets.Properties(m.body[:m.props:m.props])
}
func (m *message) payload() []byte { return m.body[m.props:] }

// size is what the message counts for in queues and limits, in bytes.
func (m *message) size() int { return len(m.topic) + len(m.body) }

func (m *message) expired(now instant) bool { return m.expires != 0 && m.expires <= now }

// publication is a message on its way through the broker. Its slices alias the
// read buffer of the publisher; whoever must keep the message longer asks for
// the one copy that all of them share. Only what is on its way to a socket may
// refer to the read buffer longer, and retains it meanwhile.
type publication struct {
	topic   []byte
	payload []byte
	props   packets.Properties
	by      *principal // nil for the host and the broker
	qos     QoS
	retain  bool
	expires instant
	held    *message
	lent    *engine.Buffer // that payload lies in, nil if it is not in one or nobody may retain it
}

// size is that of its message.
func (p *publication) size() int { return len(p.topic) + len(p.props) + len(p.payload) }

// message returns the copy that outlives the packet.
func (p *publication) message() *message {
	if p.held == nil {
		body := clone(p.payload)
		if len(p.props) > 0 {
			body = slices.Concat(p.props, p.payload)
		}
		p.held = &message{
			topic: string(p.topic), body: body, props: len(p.props), by: p.by,
			expires: p.expires, qos: p.qos, retain: p.retain,
		}
		p.payload, p.lent = p.held.payload(), nil // which may be referred to without end, unlike a read buffer
	}
	return p.held
}

// content is the payload as it is sent.
func (p *publication) content() content {
	return content{b: p.payload, kept: p.held != nil, lent: p.lent}
}

// from makes p the publication of a kept message. topic is a buffer for its topic.
func (p *publication) from(m *message, topic []byte) {
	*p = publication{
		topic: append(topic[:0], m.topic...), payload: m.payload(), props: m.properties(), by: m.by,
		qos: m.qos, retain: m.retain, expires: m.expires, held: m,
	}
}

// secondsLeft is the Message Expiry Interval to send at the given time: rounded
// up, so that it is never 0 while the message lives.
func secondsLeft(expires, now instant) uint32 {
	left := (int64(expires-now) + int64(time.Second) - 1) / int64(time.Second)
	return uint32(min(max(left, 0), math.MaxUint32))
}

// expiresAt is the deadline of a message with the given Message Expiry Interval
// that came now. An interval of 0 has passed as soon as the message would wait.
func expiresAt(now instant, seconds uint32) instant {
	return now + instant(time.Duration(seconds)*time.Second) // 136 years at most
}

// public is p as hosts and hooks see it. The result is valid as long as
// it is needed: it shares nothing with p but what is immutable.
func (p *publication) public(now instant) *Message {
	payload := p.payload
	if p.held == nil {
		payload = clone(payload) // it aliases a read buffer
	}
	m := &Message{
		Topic: string(p.topic), Payload: payload, QoS: p.qos, Retain: p.retain,
		ContentType: string(p.props.ContentType()), ResponseTopic: string(p.props.ResponseTopic()),
		PublisherID: p.by.name(),
	}
	if data := p.props.CorrelationData(); data != nil {
		m.CorrelationData = append([]byte{}, data...)
	}
	if format, ok := p.props.PayloadFormat(); ok {
		m.PayloadIsUTF8 = format == 1
	}
	for name, value := range p.props.UserProperties() {
		m.UserProperties = append(m.UserProperties, UserProperty{string(name), string(value)})
	}
	if p.expires != 0 {
		m.Expiry = time.Duration(p.expires - now)
		if m.Expiry == 0 {
			m.Expiry = -1
		}
	}
	return m
}

// setFrom makes p the publication of a message that a host or a hook gave.
func (p *publication) setFrom(m *Message, now instant) {
	*p = publication{
		topic: []byte(m.Topic), payload: m.Payload, props: appendProperties(nil, m),
		qos: m.QoS, retain: m.Retain,
	}
	if m.Expiry != 0 {
		p.expires = now + instant(min(max(m.Expiry, 0), math.MaxUint32*time.Second))
	}
}

func appendProperties(props packets.Properties, m *Message) packets.Properties {
	if m.PayloadIsUTF8 {
		props = props.AppendPayloadFormat(1)
	}
	if m.ContentType != "" {
		props = props.AppendContentType(m.ContentType)
	}
	if m.ResponseTopic != "" {
		props = props.AppendResponseTopic(m.ResponseTopic)
	}
	if m.CorrelationData != nil {
		props = props.AppendCorrelationData(m.CorrelationData)
	}
	for _, u := range m.UserProperties {
		props = props.AppendUserProperty(u.Name, u.Value)
	}
	return props
}

// validText reports whether s may be an MQTT string (MQTT 5.0, section 1.5.4).
func validText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// check validates a message that a host or a hook made.
func (m *Message) check(o *Options) error {
	if err := topics.CheckName(m.Topic, o.MaximumTopicLevels); err != nil {
		return &packets.Error{Code: packets.TopicNameInvalid, Err: err}
	}
	if m.Retain && o.DisableRetain {
		return &packets.Error{Code: packets.RetainNotSupported}
	}
	if m.QoS > ExactlyOnce {
		return &packets.Error{Code: packets.QoSNotSupported, Err: fmt.Errorf("petrel: QoS %d", m.QoS)}
	}
	if !validText(m.Topic) {
		return &packets.Error{Code: packets.TopicNameInvalid, Err: fmt.Errorf("petrel: topic %q is not UTF-8", m.Topic)}
	}
	if err := m.checkText(); err != nil {
		return err
	}
	return appendProperties(nil, m).Check()
}

// checkText refuses what has no wire form: a string or binary value is at most 65,535 bytes.
func (m *Message) checkText() error {
	longest := max(len(m.ContentType), len(m.ResponseTopic), len(m.CorrelationData))
	for _, u := range m.UserProperties {
		longest = max(longest, len(u.Name), len(u.Value))
	}
	if longest > math.MaxUint16 {
		return &packets.Error{Code: packets.PacketTooLarge, Err: fmt.Errorf("petrel: a property of %d bytes", longest)}
	}
	return nil
}
