package petrel

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Retained messages that were stored before they had a number are older than all
// that have one.
func TestRetainedRecordWithoutANumber(t *testing.T) {
	a := newAlarms()
	m := &message{topic: "t", body: []byte("payload"), by: &principal{"o", accountOf("i", "u")}, qos: 1, kept: 300}
	f := fields{b: a.appendRetained(nil, m)}
	got := f.retained(a)
	require.NoError(t, f.end())
	require.Equal(t, []any{uint64(300), *m.by}, []any{got.kept, *got.by})

	f = fields{b: appendText(appendText(a.appendMessage(nil, m), "i"), "u")}
	got = f.retained(a)
	require.NoError(t, f.end())
	require.Equal(t, []any{uint64(0), *m.by}, []any{got.kept, *got.by})
	require.Equal(t, "payload", string(got.payload()))
}

func TestSubscriptionRecordSaysWhatItIsOwed(t *testing.T) {
	s := subscription{filter: "a/#", qos: 2, check: true, owed: &replay{upTo: 300, behind: "a/b"}}
	f := fields{b: s.append(nil)}
	var got subscription
	require.NoError(t, got.read(&f))
	require.Equal(t, s, got)
	require.Equal(t, ", retained messages behind \"a/b\" up to number 300 are not sent yet", describeOwed(got.owed))

	s.owed, got = nil, subscription{}
	f = fields{b: s.append(nil)}
	require.NoError(t, got.read(&f))
	require.Equal(t, s, got)
}

// FuzzRecords reads any bytes as the value of any record, as a store with damage
// that its checksums do not show would give them.
func FuzzRecords(f *testing.F) {
	a := newAlarms()
	m := &message{topic: "t", body: []byte("payload"), by: &principal{"o", accountOf("i", "")}, qos: 1}
	f.Add(byte(kindMessage), a.appendMessage(nil, m))
	f.Add(byte(kindRetained), a.appendRetained(nil, m))
	f.Add(byte(kindDelivery), a.appendDelivery(nil, &delivery{msg: m, ids: []uint32{1, 2}, qos: 2}, 7))
	f.Add(byte(kindSession), (&sessionRecord{id: "c", expiry: 9, expires: 1}).append(nil))
	f.Add(byte(kindWill), (&will{topic: []byte("w"), delay: 3}).append(nil, 5))
	f.Add(byte(kindSubscription), (&subscription{filter: "a/#", ids: []uint32{3}, qos: 1, noLocal: true}).append(nil))
	f.Add(byte(kindSubscription), (&subscription{filter: "a/#", owed: &replay{upTo: 300, behind: "a/b"}}).append(nil))
	f.Add(byte(kindFlight), []byte{7, 1})
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		key := appendKeyOf(nil, recordKind(kind), 1)
		text, err := describeRecord(a, recordKind(kind), key, seal(key, body))
		if err != nil && text != "" {
			t.Fatalf("got %q with %v", text, err)
		}
	})
}
