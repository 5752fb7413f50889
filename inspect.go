package petrel

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

// StoreRecord is a record of a [Store] as [InspectStore] shows it.
type StoreRecord struct {
	Key  []byte
	Kind string // "session", "retained" and so on; "unknown" for a key that this version does not write
	Text string // what it says, for a human; payloads are cut short
	Err  error  // why it cannot be understood; nil if it can
}

// recordNames are the kinds as humans call them.
var recordNames = map[recordKind]string{
	kindVersion: "version", kindSession: "session", kindWill: "will", kindSubscription: "subscription", kindReceived: "received",
	kindDelivery: "delivery", kindFlight: "flight", kindMessage: "message", kindRetained: "retained", kindUnreadable: "unreadable",
}

// InspectStore calls each for every record of a store that no broker has, in the
// order of keys, until it returns an error. The slices of the record are valid
// during the call only.
func InspectStore(ctx context.Context, s Store, each func(StoreRecord) error) error {
	a := &alarms{start: time.Unix(0, 0)} // by which an instant is a time of the calendar
	return s.Load(ctx, []byte{0}, []byte{0xff, 0xff, 0xff}, func(key, value []byte) error {
		r := StoreRecord{Key: key, Kind: "unknown"}
		if len(key) >= keyPrefix {
			kind := recordKind(key[keyPrefix-1])
			if name, ok := recordNames[kind]; ok {
				r.Kind = name
				r.Text, r.Err = describeRecord(a, kind, key, value)
			}
		}
		if r.Kind == "unknown" {
			r.Err = fmt.Errorf("petrel: record %x: its kind is unknown", key)
		}
		return each(r)
	})
}

// describeRecord says what a record says.
func describeRecord(a *alarms, kind recordKind, key, value []byte) (text string, err error) {
	if kind == kindUnreadable {
		return fmt.Sprintf("key %x, %d bytes, set aside because they were damaged", key[keyPrefix:], len(value)), nil
	}
	body, err := unseal(key, value)
	if err == nil {
		text, err = describeBody(a, kind, &fields{b: body})
	}
	if err == nil && kind != kindRetained && kind != kindVersion {
		var n uint64
		var rest []byte
		if n, rest, err = numberIn(key); err == nil {
			text = describeKey(kind, n, rest) + text
		}
	}
	if err != nil {
		return "", fmt.Errorf("petrel: %s record %x: %w", recordNames[kind], key, err)
	}
	return text, nil
}

func describeKey(kind recordKind, n uint64, rest []byte) string {
	switch {
	case kind == kindMessage:
		return fmt.Sprintf("number %d: ", n)
	case (kind == kindDelivery || kind == kindFlight) && len(rest) == 8:
		return fmt.Sprintf("session %d, place %d: ", n, binary.BigEndian.Uint64(rest))
	case kind == kindReceived && len(rest) == 2:
		return fmt.Sprintf("session %d: packet identifier %d", n, binary.BigEndian.Uint16(rest))
	}
	return fmt.Sprintf("session %d: ", n)
}

func describeBody(a *alarms, kind recordKind, f *fields) (string, error) {
	switch kind {
	case kindVersion:
		return fmt.Sprint(f.number("version")), f.end()
	case kindSession:
		var r sessionRecord
		err := r.read(f)
		state := [...]string{"connected", "waiting", "ended"}[min(r.state, stateEnded)]
		return fmt.Sprintf("client %q of %q, %s, expiry interval %d%s", r.id, r.identity, state, r.expiry, describeTime(", until", r.expires)), err
	case kindWill:
		var w will
		due, err := w.read(f)
		return fmt.Sprintf("topic %q, QoS %d, %s%s", w.topic, w.qos, describePayload(w.payload), describeTime(", due", due)), err
	case kindSubscription:
		var s subscription
		err := s.read(f)
		return fmt.Sprintf("%+v", s.public()) + describeOwed(s.owed), err
	case kindFlight:
		id := f.number("packet identifier")
		state := [...]string{"sent", "to be completed"}[min(f.byte("state"), 1)]
		return fmt.Sprintf("packet identifier %d, %s", id, state), f.end()
	case kindDelivery:
		var d deliveryRecord
		err := d.read(f, a)
		return describeDelivery(&d), err
	case kindMessage:
		m := f.message(a)
		return describeMessage(m), f.end()
	case kindRetained:
		m := f.retained(a)
		return describeMessage(m), f.end()
	}
	return "", f.end()
}

func describeDelivery(d *deliveryRecord) string {
	text := fmt.Sprintf("QoS %d, ", d.qos)
	if d.id != 0 {
		text += fmt.Sprintf("sent as %d, ", d.id)
	}
	if d.filter != "" {
		text += fmt.Sprintf("by %q, ", d.filter)
	}
	if d.place.byRef {
		return text + fmt.Sprintf("message %d", d.number)
	}
	return text + describeMessage(d.msg)
}

func describeMessage(m *message) string {
	return fmt.Sprintf("topic %q, QoS %d, %s%s", m.topic, m.qos, describePayload(m.payload()), describeTime(", expires", int64(m.expires)))
}

func describePayload(p []byte) string {
	const most = 40
	if len(p) <= most {
		return fmt.Sprintf("payload %q", p)
	}
	return fmt.Sprintf("payload of %d bytes %q...", len(p), p[:most])
}

func describeOwed(r *replay) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf(", retained messages behind %q up to number %d are not sent yet", r.behind, r.upTo)
}

func describeTime(what string, calendar int64) string {
	if calendar == 0 {
		return ""
	}
	return what + " " + time.Unix(0, calendar).UTC().Format(time.RFC3339)
}
