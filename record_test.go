package petrel

import (
	"testing"
)

// FuzzRecords reads any bytes as the value of any record, as a store with damage
// that its checksums do not show would give them.
func FuzzRecords(f *testing.F) {
	a := newAlarms()
	m := &message{topic: "t", body: []byte("payload"), by: &principal{id: "o", identity: "i"}, qos: 1}
	f.Add(byte(kindMessage), a.appendMessage(nil, m))
	f.Add(byte(kindRetained), a.appendRetained(nil, m))
	f.Add(byte(kindDelivery), a.appendDelivery(nil, &delivery{msg: m, ids: []uint32{1, 2}, qos: 2}, 7))
	f.Add(byte(kindSession), (&sessionRecord{id: "c", expiry: 9, expires: 1}).append(nil))
	f.Add(byte(kindWill), (&will{topic: []byte("w"), delay: 3}).append(nil, 5))
	f.Add(byte(kindSubscription), (&subscription{filter: "a/#", ids: []uint32{3}, qos: 1, noLocal: true}).append(nil))
	f.Add(byte(kindFlight), []byte{7, 1})
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		key := appendKeyOf(nil, recordKind(kind), 1)
		text, err := describeRecord(a, recordKind(kind), key, seal(key, body))
		if err != nil && text != "" {
			t.Fatalf("got %q with %v", text, err)
		}
	})
}
