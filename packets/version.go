package packets

import "strconv"

// Version is the protocol level that CONNECT announces.
type Version byte

// The protocol versions this package knows.
const (
	V31  Version = 3
	V311 Version = 4
	V5   Version = 5
)

// String returns the version as it is usually written, such as "3.1.1".
func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	}
	return "level " + strconv.Itoa(int(v))
}

// QoS is a quality of service: how often a message is delivered (MQTT 5.0,
// section 4.3).
type QoS byte

// The three qualities of service.
const (
	AtMostOnce QoS = iota
	AtLeastOnce
	ExactlyOnce
)

// String returns "QoS 0", "QoS 1" or "QoS 2".
func (q QoS) String() string {
	return "QoS " + strconv.Itoa(int(q))
}
