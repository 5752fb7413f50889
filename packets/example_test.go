package packets_test

import (
	"fmt"

	"github.com/petrelmq/petrel/packets"
)

// A packet is appended to a buffer, and decoded from one.
func Example() {
	sent := packets.Publish{Topic: []byte("a/b"), QoS: packets.AtLeastOnce, PacketID: 10, Payload: []byte("hi")}
	buf, err := sent.AppendTo(nil, packets.V311)
	fmt.Printf("% x %v\n", buf, err)

	h, n, err := packets.DecodeHeader(buf)
	if err != nil || n == 0 {
		return
	}
	var got packets.Publish
	err = got.Decode(h.Flags, buf[n:n+h.Remaining], packets.V311)
	fmt.Println(h.Type, string(got.Topic), got.QoS, string(got.Payload), err)
	// Output:
	// 32 09 00 03 61 2f 62 00 0a 68 69 <nil>
	// PUBLISH a/b QoS 1 hi <nil>
}

// An error says what was wrong, and the code to report it with.
func ExampleReasonOf() {
	var p packets.Publish
	err := p.Decode(0, []byte("\x00\x03a/+\x00"), packets.V5)
	fmt.Println(err)
	fmt.Printf("0x%02X\n", byte(packets.ReasonOf(err)))
	// Output:
	// mqtt: topic name invalid: wildcard in topic at byte 0
	// 0x90
}
