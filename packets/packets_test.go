package packets_test

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/packets"
)

// wire turns "10 0D" into bytes.
func wire(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

// split decodes the fixed header of a whole packet.
func split(t testing.TB, b []byte) (packets.Header, []byte) {
	t.Helper()
	h, n, err := packets.DecodeHeader(b)
	require.NoError(t, err)
	require.Positive(t, n)
	require.Len(t, b, n+h.Remaining)
	return h, b[n:]
}

// decode decodes a whole packet.
func decode(t testing.TB, b []byte, v packets.Version) (packets.Packet, error) {
	t.Helper()
	h, body := split(t, b)
	p := packets.New(h.Type)
	return p, p.Decode(h.Flags, body, v)
}

// values returns the exported fields of a packet, by which packets are compared:
// the others are memory to use again.
func values(p any) map[string]any {
	m := make(map[string]any)
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() {
			m[f.Name] = v.Field(i).Interface()
		}
	}
	return m
}

// byteSlices calls each for every byte slice in a packet, by name.
func byteSlices(p any, each func(name string, b []byte)) {
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch {
		case !v.Type().Field(i).IsExported() || name == "Reasons":
		case f.Kind() == reflect.Struct:
			byteSlices(f.Addr().Interface(), each)
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Uint8:
			each(name, f.Bytes())
		}
	}
}

// aliases reports whether b lies in body.
func aliases(b, body []byte) bool {
	for i := range body {
		if &body[i] == &b[0] {
			return i+len(b) <= len(body)
		}
	}
	return false
}

// reserved is the largest number of elements that a packet keeps memory for,
// apart from what aliases its body.
func reserved(p any) int {
	n := 0
	v := reflect.ValueOf(p).Elem()
	for _, name := range []string{"scratch", "willScratch", "SubscriptionIDs", "Reasons"} {
		if f := v.FieldByName(name); f.IsValid() {
			n = max(n, f.Cap())
		}
	}
	return n
}

var versions = []packets.Version{packets.V31, packets.V311, packets.V5}

var types = []packets.Type{
	packets.TypeConnect, packets.TypeConnack, packets.TypePublish, packets.TypePuback, packets.TypePubrec,
	packets.TypePubrel, packets.TypePubcomp, packets.TypeSubscribe, packets.TypeSuback, packets.TypeUnsubscribe,
	packets.TypeUnsuback, packets.TypePingreq, packets.TypePingresp, packets.TypeDisconnect, packets.TypeAuth,
}
