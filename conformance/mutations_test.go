package conformance_test

import (
	"bytes"
	"slices"

	"github.com/petrelmq/petrel/packets"
)

// mutations are all of them.
var mutations = slices.Concat(
	[]mutation{{name: "none", broken: "Nothing: what stands between the clients and the broker changes no packet."}},
	mutationsOfText, mutationsOfFlags, mutationsOfConnect, mutationsOfConnack, mutationsOfSessions, mutationsOfWills,
	mutationsOfPublish, mutationsOfRetain, mutationsOfProperties, mutationsOfIdentifiers, mutationsOfQoS, mutationsOfOrder,
	mutationsOfSubscribe, mutationsOfFilters, mutationsOfShares, mutationsOfFlowControl, mutationsOfSizes, mutationsOfEnds, mutationsOfAuth,
)

// act is one of the functions of acts.
type act = func(l *link, packet []byte) [][]byte

// up makes acts of one on what the broker receives.
func up(a act) func() acts { return func() acts { return acts{fromClient: a} } }

// down makes acts of one on what the broker sends.
func down(a act) func() acts { return func() acts { return acts{fromBroker: a} } }

// keep is the packet as it is.
func keep(packet []byte) [][]byte { return [][]byte{packet} }

// replace is an act on packets of a type: each text becomes another one of the
// same length.
func replace(t packets.Type, pairs ...string) act {
	return rewrite(t, func(_ *link, b []byte) []byte {
		for i := 0; i < len(pairs); i += 2 {
			b = bytes.ReplaceAll(b, []byte(pairs[i]), []byte(pairs[i+1]))
		}
		return b
	})
}

// setFlags is an act that gives packets of a type their flags.
func setFlags(t packets.Type, flags byte) act {
	return rewrite(t, func(_ *link, b []byte) []byte {
		b[0] = b[0]&0xF0 | flags
		return b
	})
}

// both does one act after the other.
func both(first, second act) act {
	return func(l *link, packet []byte) (out [][]byte) {
		for _, b := range first(l, packet) {
			out = append(out, second(l, b)...)
		}
		return out
	}
}
