package petrel

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Keys and values of the store; see store.go for what they are.

// schemeVersion is the version of keys and values that this program writes. In version 1
// a delivery did not say how large the message is that it refers to; see
// restoring.upgrade.
const schemeVersion = 2

// recordKind is the third byte of a key.
type recordKind byte

const (
	kindVersion      recordKind = 'v'
	kindSession      recordKind = 's'
	kindWill         recordKind = 'w'
	kindSubscription recordKind = 'u'
	kindReceived     recordKind = 'i'
	kindDelivery     recordKind = 'q'
	kindFlight       recordKind = 'f'
	kindMessage      recordKind = 'm'
	kindRetained     recordKind = 'r'
	kindUnreadable   recordKind = 'x'
)

// keyPrefix is how long partition and kind are.
const keyPrefix = 3

// longName is from when a topic or filter stands in a key as its hash. The whole
// is in the value.
const longName = 1024

func appendKey(b []byte, kind recordKind) []byte { return append(b, 0, 0, byte(kind)) }

func appendKeyOf(b []byte, kind recordKind, number uint64) []byte {
	return binary.BigEndian.AppendUint64(appendKey(b, kind), number)
}

func appendPlaceOf(b []byte, kind recordKind, serial, n uint64) []byte {
	return binary.BigEndian.AppendUint64(appendKeyOf(b, kind, serial), n)
}

func appendName(b []byte, name string) []byte {
	if len(name) < longName {
		return append(b, name...)
	}
	sum := sha256.Sum256([]byte(name))
	return append(append(b, name[:longName]...), sum[:]...)
}

// rangeOf returns the range of all keys of a kind.
func rangeOf(kind recordKind) (from, to []byte) {
	return appendKey(nil, kind), appendKey(nil, kind+1)
}

// numberIn returns the number that a key begins with, and what follows it.
func numberIn(key []byte) (n uint64, rest []byte, err error) {
	if len(key) < keyPrefix+8 {
		return 0, nil, errors.New("its key is too short")
	}
	return binary.BigEndian.Uint64(key[keyPrefix:]), key[keyPrefix+8:], nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal appends the checksum over key and value to the value.
func seal(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return binary.LittleEndian.AppendUint32(value, sum)
}

// unseal checks and removes the checksum.
func unseal(key, value []byte) ([]byte, error) {
	if len(value) < 4 {
		return nil, errors.New("its value is too short")
	}
	body, sum := value[:len(value)-4], binary.LittleEndian.Uint32(value[len(value)-4:])
	if crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body) != sum {
		return nil, errors.New("its checksum is wrong")
	}
	return body, nil
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendText[T ~string | ~[]byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// fields reads the fields of a value. The first that is cut short makes all
// further ones zero.
type fields struct {
	b   []byte
	err error
}

func (f *fields) fail(what string) {
	if f.err == nil {
		f.err = fmt.Errorf("its %s is cut short", what)
	}
	f.b = nil
}

func (f *fields) number(what string) uint64 {
	n, size := binary.Uvarint(f.b)
	if size <= 0 {
		f.fail(what)
		return 0
	}
	f.b = f.b[size:]
	return n
}

func (f *fields) byte(what string) byte {
	if len(f.b) == 0 {
		f.fail(what)
		return 0
	}
	v := f.b[0]
	f.b = f.b[1:]
	return v
}

func (f *fields) bool(what string) bool { return f.byte(what) != 0 }

// bytes returns a part of the value, not a copy.
func (f *fields) bytes(what string) []byte {
	n := f.number(what)
	if n > uint64(len(f.b)) {
		f.fail(what)
		return nil
	}
	v := f.b[:n:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) text(what string) string { return string(f.bytes(what)) }

// end returns the first error, and one for bytes that no field has used.
func (f *fields) end() error {
	if f.err == nil && len(f.b) > 0 {
		return fmt.Errorf("%d bytes too many", len(f.b))
	}
	return f.err
}

// Flags of a message, and of a delivery.
const (
	flagQoS    = 3
	flagRetain = 1 << 2
	flagByRef  = 1 << 3 // the message is a record of its own
	flagKept   = 1 << 4 // the number of a retained message follows it
)

func flagsOf(qos QoS, retain bool) byte {
	f := byte(qos)
	if retain {
		f |= flagRetain
	}
	return f
}

// appendMessage encodes a message.
func (a *alarms) appendMessage(b []byte, m *message) []byte {
	b = append(b, flagsOf(m.qos, m.retain))
	b = binary.AppendUvarint(b, uint64(a.calendar(m.expires)))
	b = appendText(b, m.topic)
	b = appendText(b, m.by.name())
	b = appendText(b, m.properties())
	return appendText(b, m.payload())
}

// message decodes a message; what it returns is a copy.
func (f *fields) message(a *alarms) *message {
	m := new(message)
	f.messageInto(m, a)
	return m
}

func (f *fields) messageInto(m *message, a *alarms) {
	flags := f.byte("message flags")
	m.qos, m.retain = QoS(flags&flagQoS), flags&flagRetain != 0
	m.expires = a.instantOf(int64(f.number("message expiry")))
	m.topic, m.by = f.text("topic"), hostNamed(f.text("publisher"))
	props, payload := f.bytes("properties"), f.bytes("payload")
	m.body = append(append(make([]byte, 0, len(props)+len(payload)), props...), payload...)
	m.props = len(props)
}

// skipMessage reads a message to learn its size.
func (f *fields) skipMessage() (size int) {
	f.byte("message flags")
	f.number("message expiry")
	topic := f.bytes("topic")
	f.bytes("publisher")
	return len(topic) + len(f.bytes("properties")) + len(f.bytes("payload"))
}

// appendRetained encodes a retained message: with its number, by which it is told
// which subscriptions are owed it, and with the client that published it, if it was one.
func (a *alarms) appendRetained(b []byte, m *message) []byte {
	at := len(b)
	b = a.appendMessage(b, m)
	b[at] |= flagKept
	b = binary.AppendUvarint(b, m.kept)
	if m.by.isHost() {
		return b
	}
	return appendText(appendText(b, m.by.identity), m.by.userName)
}

// retained decodes a retained message. One without a number is older than all
// that have one.
func (f *fields) retained(a *alarms) *message {
	numbered := len(f.b) > 0 && f.b[0]&flagKept != 0
	m := f.message(a)
	if numbered {
		m.kept = f.number("number")
	}
	if f.err == nil && len(f.b) > 0 {
		m.by = &principal{m.by.name(), accountOf(f.text("publisher's identity"), f.text("publisher's user name"))}
	}
	return m
}

// sessionState says in a session record what the session waits for.
type sessionState byte

const (
	stateConnected sessionState = iota
	stateWaiting
	stateEnded // what it leaves behind is still being settled
)

// sessionRecord is the value of a session.
type sessionRecord struct {
	state    sessionState
	id       string
	identity string
	userName string
	version  Version
	expiry   uint32
	expires  int64 // calendar, with stateWaiting; 0 means never
}

func (r *sessionRecord) append(b []byte) []byte {
	b = append(b, byte(r.state), byte(r.version))
	b = binary.AppendUvarint(b, uint64(r.expiry))
	b = binary.AppendUvarint(b, uint64(r.expires))
	b = appendText(b, r.id)
	b = appendText(b, r.identity)
	return appendText(b, r.userName)
}

func (r *sessionRecord) read(f *fields) error {
	r.state, r.version = sessionState(f.byte("state")), Version(f.byte("version"))
	r.expiry, r.expires = uint32(f.number("expiry interval")), int64(f.number("expiry"))
	r.id, r.identity, r.userName = f.text("client identifier"), f.text("identity"), f.text("user name")
	return f.end()
}

// append encodes a will that is due at a time of the calendar, or with its
// connection if that is 0.
func (w *will) append(b []byte, due int64) []byte {
	b = append(b, flagsOf(w.qos, w.retain))
	b = binary.AppendUvarint(b, uint64(due))
	b = binary.AppendUvarint(b, uint64(w.delay))
	b = appendBool(b, w.hasExpiry)
	b = binary.AppendUvarint(b, uint64(w.expiry))
	b = appendText(b, w.topic)
	b = appendText(b, w.props)
	return appendText(b, w.payload)
}

func (w *will) read(f *fields) (due int64, err error) {
	flags := f.byte("will flags")
	w.qos, w.retain = QoS(flags&flagQoS), flags&flagRetain != 0
	due, w.delay = int64(f.number("will time")), uint32(f.number("will delay"))
	w.hasExpiry, w.expiry = f.bool("will expiry"), uint32(f.number("will expiry"))
	w.topic, w.props, w.payload = clone(f.bytes("will topic")), clone(f.bytes("will properties")), clone(f.bytes("will payload"))
	return due, f.end()
}

// Flags of a subscription beside its QoS.
const (
	flagNoLocal = 1 << (2 + iota)
	flagAsIs
	flagCheck
	flagOwed // retained messages have not been sent yet
)

func (s *subscription) append(b []byte) []byte {
	flags := byte(s.qos)
	for _, x := range [...]struct {
		set  bool
		flag byte
	}{{s.noLocal, flagNoLocal}, {s.asIs, flagAsIs}, {s.check, flagCheck}, {s.owed != nil, flagOwed}} {
		if x.set {
			flags |= x.flag
		}
	}
	b = append(b, flags, s.handling)
	b = appendIDs(b, s.ids)
	b = appendText(b, s.filter)
	if s.owed == nil {
		return b
	}
	return appendText(binary.AppendUvarint(b, s.owed.upTo), s.owed.behind)
}

func (s *subscription) read(f *fields) error {
	flags := f.byte("subscription flags")
	s.qos = QoS(flags & flagQoS)
	s.noLocal, s.asIs, s.check = flags&flagNoLocal != 0, flags&flagAsIs != 0, flags&flagCheck != 0
	s.handling = f.byte("retain handling")
	s.ids = f.ids()
	s.filter = f.text("filter")
	if flags&flagOwed != 0 {
		s.owed = &replay{upTo: f.number("number of the latest retained message"), behind: f.text("topic of a retained message")}
	}
	return f.end()
}

func appendIDs(b []byte, ids []uint32) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return b
}

func (f *fields) ids() (ids []uint32) {
	n := f.number("subscription identifiers")
	if n > uint64(len(f.b)) {
		f.fail("subscription identifiers")
		return nil
	}
	for range n {
		ids = append(ids, uint32(f.number("subscription identifier")))
	}
	return ids
}

// appendDelivery encodes a delivery, with its message or a reference to it. id is
// the packet identifier if it was sent at once.
func (a *alarms) appendDelivery(b []byte, d *delivery, id uint16) []byte {
	flags := flagsOf(d.qos, d.retain)
	if d.place.byRef {
		flags |= flagByRef
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(id))
	b = appendIDs(b, d.ids)
	filter := ""
	if d.shared != nil {
		filter = d.shared.Value.filter
	}
	b = appendText(b, filter)
	if d.place.byRef {
		return binary.AppendUvarint(binary.AppendUvarint(b, d.msg.number), uint64(d.msg.size()))
	}
	return a.appendMessage(b, d.msg)
}

// deliveryRecord is what the record of a delivery says.
type deliveryRecord struct {
	delivery
	id     uint16
	filter string // of the shared subscription it came by, or empty
	number uint64 // of its message, with place.byRef
	size   int    // of its message
}

func (r *deliveryRecord) read(f *fields, a *alarms) error {
	flags := f.byte("delivery flags")
	r.qos, r.retain, r.place.byRef = QoS(flags&flagQoS), flags&flagRetain != 0, flags&flagByRef != 0
	r.id, r.ids, r.filter = uint16(f.number("packet identifier")), f.ids(), f.text("shared filter")
	if r.place.byRef {
		r.number, r.size = f.reference()
		r.msg = &message{counted: true, number: r.number} // to be read
	} else {
		r.msg = f.message(a)
		r.size = r.msg.size()
	}
	return f.end()
}

// reference reads the number of a message, and its size, which version 1 did not have.
func (f *fields) reference() (number uint64, size int) {
	number = f.number("message number")
	if len(f.b) > 0 {
		size = int(f.number("message size"))
	}
	return number, size
}

// deliveryOutline is what has to be known of the record of a message that waits.
type deliveryOutline struct {
	id     uint16
	byRef  bool
	shared bool
	number uint64 // with byRef
	size   int
}

// read is that of deliveryRecord for millions of records: it makes nothing.
func (r *deliveryOutline) read(f *fields) error {
	r.byRef = f.byte("delivery flags")&flagByRef != 0
	r.id = uint16(f.number("packet identifier"))
	for range min(f.number("subscription identifiers"), uint64(len(f.b))) {
		f.number("subscription identifier")
	}
	r.shared = len(f.bytes("shared filter")) > 0
	if r.byRef {
		r.number, r.size = f.reference()
	} else {
		r.size = f.skipMessage()
	}
	return f.end()
}
