package hostile

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// attacks are the rows of TestAttacks. Each names what it may cost.
var attacks = slices.Concat(connectAttacks, packetAttacks, messageAttacks, doorAttacks)

// TestAttacks lets each attack loose on a broker, by each door.
func TestAttacks(t *testing.T) {
	seed := uint64(rand.Uint32())
	if s := os.Getenv(seedVariable); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", seedVariable, seed)
	for _, k := range attacks {
		doors := k.doors
		if doors == nil {
			doors = plainDoors
		}
		for _, d := range doors {
			t.Run(k.name+"/"+d.name, func(t *testing.T) { k.stage(t, d, seed) })
		}
	}
}

// shortTimeout is for attacks that a timeout ends.
const shortTimeout = 300 * time.Millisecond

func perConnection(n int, _ *petrel.Options) int64 { return int64(n) * perConn }

// connectAttacks come before a CONNECT, or with it.
var connectAttacks = []attack{
	{
		name: "CONNECT a byte at a time", n: 300, bound: perConnection,
		options: petrel.Options{ConnectTimeout: shortTimeout},
		run: func(a *arena) {
			hello := encode(&packets.Connect{Version: packets.V5, ClientID: bytes.Repeat([]byte("x"), 60_000)})
			for range a.n {
				conn := a.dial()
				a.wg.Go(func() {
					for i := range hello {
						if _, err := conn.Write(hello[i : i+1]); err != nil {
							return
						}
						time.Sleep(5 * time.Millisecond) // as the attacker does
					}
					a.t.Error("the broker waited for all of it")
				})
			}
			a.ended()
		},
	},
	{
		name: "no CONNECT", n: 1000, bound: perConnection,
		options: petrel.Options{ConnectTimeout: shortTimeout},
		run: func(a *arena) {
			for range a.n {
				a.dial()
			}
			a.ended()
		},
	},
	{
		name: "huge announced lengths", n: 5000, bound: perConnection,
		options: petrel.Options{ConnectTimeout: -1},
		run: func(a *arena) {
			starts := [][]byte{
				{0x10, 0xFF, 0xFF, 0x1E, 0, 4, 'M', 'Q', 'T', 'T', 5},                                                      // CONNECT of 512 kB
				append(encode(&packets.Connect{Version: packets.V5, CleanStart: true}), 0x30, 0xFF, 0xFF, 0x7E, 0, 1, 'a'), // PUBLISH of 2 MB
				append(encode(&packets.Connect{Version: packets.V5, CleanStart: true}), 0x82, 0xFF, 0xFF, 0x7E, 0, 1),      // SUBSCRIBE
			}
			for i := range a.n {
				conn := a.dial()
				a.write(conn, starts[i%len(starts)])
				if i%len(starts) > 0 {
					a.swallow(conn)
				}
			}
			a.until("all have said hello", func() bool { return a.b.Stats().ClientsConnected >= 2+a.n/3*2 })
		},
	},
	{
		name: "takeovers", n: 2000,
		bound: func(n int, _ *petrel.Options) int64 { return int64(n) * 8 * kB }, // what the attackers have themselves
		run: func(a *arena) {
			a.each(func(i int) {
				p := packets.Connect{Version: packets.V5, ClientID: []byte("victim"), CleanStart: i%2 == 0, SessionExpiryInterval: uint32(i % 3), HasWill: true}
				p.Will = packets.Will{Topic: []byte("will"), QoS: 1, DelayInterval: uint32(i % 2)}
				conn := a.dial()
				a.swallow(conn)
				a.write(conn, encode(&p))
			})
			a.until("one of them is left", func() bool { s := a.b.Stats(); return s.ClientsConnected <= 3 && s.Sessions <= 3 })
		},
	},
	{
		name: "wills of thousands that die at once", n: 2000,
		bound: func(n int, _ *petrel.Options) int64 { return int64(n) * 8 * kB }, // a session, and a will of 1 kB twice
		run: func(a *arena) {
			watcher := a.connect(packets.Connect{CleanStart: true, ClientID: []byte("watcher")})
			a.subscribe(watcher, 1, "will/#")
			a.each(func(i int) {
				a.connect(packets.Connect{
					ClientID: fmt.Append(nil, "mortal ", i), SessionExpiryInterval: 3600, HasWill: true,
					Will: packets.Will{Topic: fmt.Append(nil, "will/", i), Payload: make([]byte, kB), QoS: 1, Retain: i%4 == 0, DelayInterval: uint32(i%2) * 600},
				})
			})
			a.closeAll()
			a.until("all are gone", func() bool { return a.b.Stats().ClientsConnected == 2 })
			a.until("the wills without a delay are out", func() bool { return a.b.Stats().Retained >= a.n/4 })
		},
	},
}

// subscribe sends a SUBSCRIBE; nobody reads the answer.
func (a *arena) subscribe(conn interface{ Write([]byte) (int, error) }, qos packets.QoS, filters ...string) {
	p := packets.Subscribe{PacketID: 1}
	for _, f := range filters {
		p.Subscriptions = p.Subscriptions.Append(packets.Subscription{Filter: []byte(f), QoS: qos})
	}
	if _, err := conn.Write(encode(&p)); err != nil {
		a.t.Errorf("SUBSCRIBE: %v", err)
	}
}

// README.md says how many attacks there are.
func TestReadmeCountsTheAttacks(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if said := fmt.Sprintf("| hostile clients | %d attacks |", len(attacks)); !bytes.Contains(readme, []byte(said)) {
		t.Errorf("README.md does not say %q", said)
	}
}
