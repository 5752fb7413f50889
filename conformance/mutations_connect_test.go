package conformance_test

import (
	"bytes"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// Mutations of CONNECT, CONNACK, sessions and wills.

// connectFlags is an act that changes the flags of short CONNECT packets.
func connectFlags(f func(flags byte) byte) act {
	return rewrite(packets.TypeConnect, func(_ *link, b []byte) []byte {
		if b[1] < 0x80 && len(b) > 9 && string(b[4:8]) == "MQTT" {
			b[9] = f(b[9])
		}
		return b
	})
}

// connack is an act on CONNACK packets that accept a client.
func connack(f func(l *link, p *packets.Connack)) act {
	return edit(func(l *link, p *packets.Connack) bool {
		if p.Reason == packets.Success && l.connect != nil {
			f(l, p)
		}
		return true
	})
}

// connect is an act on CONNECT packets that are sound.
func connect(f func(l *link, p *packets.Connect)) act {
	return edit(func(l *link, p *packets.Connect) bool {
		f(l, p)
		return true
	})
}

var mutationsOfConnect = []mutation{
	{
		name: "reserved-connect-flag", broken: "Bit 0 of the Connect Flags is not looked at.",
		mqtt5: "3.1.2-3", mqtt311: "3.1.2-3 3.2.2-6",
		acts: up(connectFlags(func(f byte) byte { return f &^ 1 })),
	},
	{
		name: "will-qos-3", broken: "A will with QoS 3 is taken, as one with QoS 2.",
		mqtt5: "3.1.2-12", mqtt311: "3.1.2-14",
		acts: up(connectFlags(func(f byte) byte {
			if f&0x1C == 0x1C {
				f &^= 8
			}
			return f
		})),
	},
	{
		name: "will-qos-without-will", broken: "A Will QoS without a will is taken.",
		mqtt5: "3.1.2-11", mqtt311: "3.1.2-13",
		acts: up(connectFlags(func(f byte) byte {
			if f&4 == 0 {
				f &^= 0x18
			}
			return f
		})),
	},
	{
		name: "will-retain-without-will", broken: "Will Retain without a will is taken.",
		mqtt5: "3.1.2-13", mqtt311: "3.1.2-15",
		acts: up(connectFlags(func(f byte) byte {
			if f&4 == 0 {
				f &^= 0x20
			}
			return f
		})),
	},
	{
		name: "missing-user-name", broken: "A User Name that is missing is taken for none.",
		mqtt5: "3.1.2-17", mqtt311: "3.1.2-19",
		acts: up(rewrite(packets.TypeConnect, func(l *link, b []byte) []byte {
			if _, ok := decode[*packets.Connect](l, b); !ok && len(b) > 9 && b[9]&0xC0 == 0x80 {
				b[9] &^= 0x80
			}
			return b
		})),
	},
	{
		name: "missing-password", broken: "A Password that is missing is taken for none.",
		mqtt5: "3.1.2-19", mqtt311: "3.1.2-21",
		acts: up(rewrite(packets.TypeConnect, func(l *link, b []byte) []byte {
			if _, ok := decode[*packets.Connect](l, b); !ok && len(b) > 9 && b[9]&0xC0 == 0xC0 {
				b[9] &^= 0x40
			}
			return b
		})),
	},
	{
		name: "password-needs-user-name", broken: "A Password without a User Name is refused, as in 3.1.1.",
		mqtt5: "3.1.2-19",
		acts: up(edit(func(l *link, p *packets.Connect) bool {
			if p.HasPassword && !p.HasUserName {
				l.hangUp()
				return false
			}
			return true
		})),
	},
	{
		name: "password-without-user-name", broken: "A Password without a User Name is taken in 3.1.1, as in 5.0.",
		mqtt311: "3.1.2-22",
		acts: up(only(packets.V311, rewrite(packets.TypeConnect, func(_ *link, b []byte) []byte {
			if len(b) > 9 && b[9]&0xC0 == 0x40 {
				b = bytes.Replace(b, text("password"), nil, 1)
				b[1] = byte(len(b) - 2)
				b[9] &^= 0x40
			}
			return b
		}))),
	},
	{
		name: "surplus-of-connect", broken: "What is left behind the last field of CONNECT is skipped: a user name, a password or anything else.",
		mqtt5: "3.1.2-16 3.1.2-18 3.1.4-1",
		acts: up(only(packets.V5, rewrite(packets.TypeConnect, func(l *link, b []byte) []byte {
			for n := len(b); n > 13; n-- {
				short := append([]byte{b[0], byte(n - 2)}, b[2:n]...)
				if _, ok := decode[*packets.Connect](l, short); ok {
					return short
				}
			}
			return b
		}))),
	},
	{
		name: "receive-maximum-0", broken: "A Receive Maximum of 0 is taken for none.",
		mqtt5: "3.1.4-1",
		acts:  up(replace(packets.TypeConnect, "\x03\x21\x00\x00", "\x03\x21\x00\x01")),
	},
	{
		name: "protocol-name", broken: "The protocol name is not looked at.",
		mqtt5: "3.1.2-1", mqtt311: "3.1.2-1",
		acts: up(replace(packets.TypeConnect, "\x00\x04MQTX", "\x00\x04MQTT", "\x00\x04mqtt", "\x00\x04MQTT")),
	},
	{
		name: "protocol-level", broken: "Protocol levels above 5 are taken for 5.",
		mqtt5: "3.1.2-2",
		acts:  up(replace(packets.TypeConnect, "MQTT\x06", "MQTT\x05", "MQTT\x07", "MQTT\x05", "MQTT\x7F", "MQTT\x05")),
	},
	{
		name: "protocol-level-answer", broken: "A protocol level that is too low is answered with a close, without CONNACK 0x01.",
		mqtt311: "3.1.2-2",
		acts: down(func(l *link, b []byte) [][]byte {
			if bytes.Equal(b, []byte{0x20, 2, 0, 1}) {
				return nil
			}
			return keep(b)
		}),
	},
	{
		name: "first-packet", broken: "Packets before CONNECT are ignored, if it comes within five seconds.",
		mqtt5: "3.1.0-1", mqtt311: "3.1.0-1",
		acts: up(func(l *link, b []byte) [][]byte {
			if l.connects == 0 {
				l.after(5*time.Second, func() {
					if l.connects == 0 {
						l.hangUp()
					}
				})
				return nil
			}
			return keep(b)
		}),
	},
	{
		name: "second-connect", broken: "A second CONNECT is answered with a second CONNACK.",
		mqtt5: "3.1.0-2 3.2.0-2", mqtt311: "3.1.0-2",
		acts: up(edit(func(l *link, p *packets.Connect) bool {
			if l.connack == nil {
				return true
			}
			l.toClient(l.connack)
			return false
		})),
	},
	{
		name: "disconnect-before-connack", broken: "A client that gets no CONNACK gets a DISCONNECT.",
		mqtt5: "3.1.0-1 3.1.2-1 3.14.0-1",
		acts: func() acts {
			answered := map[*link]bool{}
			return acts{
				fromBroker: func(l *link, b []byte) [][]byte {
					answered[l] = true
					return keep(b)
				},
				closing: func(l *link) bool {
					if l.version == packets.V5 && !answered[l] {
						l.toClient(&packets.Disconnect{Reason: packets.ProtocolError})
					}
					return true
				},
			}
		},
	},
	{
		name: "client-id-of-23", broken: "A client identifier of 23 bytes is refused.",
		mqtt5: "3.1.3-5", mqtt311: "3.1.3-5",
		acts: up(edit(func(l *link, p *packets.Connect) bool {
			if len(p.ClientID) != 23 {
				return true
			}
			l.toClient(&packets.Connack{Reason: packets.ClientIdentifierNotValid})
			l.hangUp()
			return false
		})),
	},
	{
		name: "empty-client-id-with-session", broken: "An empty client identifier is taken with CleanSession 0.",
		mqtt311: "3.1.3-7 3.1.3-8 3.1.4-5",
		acts: up(only(packets.V311, connect(func(_ *link, p *packets.Connect) {
			p.CleanStart = p.CleanStart || len(p.ClientID) == 0
		}))),
	},
	{
		name: "same-client-id-for-all", broken: "All clients without an identifier are given the same.",
		mqtt5: "3.1.3-6 3.2.2-16", mqtt311: "3.1.3-6",
		acts: func() acts {
			return acts{
				fromClient: connect(func(_ *link, p *packets.Connect) {
					if len(p.ClientID) == 0 && (p.Version == packets.V5 || p.CleanStart) {
						p.ClientID = []byte("same")
					}
				}),
				fromBroker: connack(func(l *link, p *packets.Connack) {
					if len(l.connect.ClientID) == 0 {
						p.AssignedClientID, p.SessionPresent = []byte("same"), false
					}
				}),
			}
		},
	},
	{
		name: "session-of-assigned-id", broken: "A client with an assigned identifier has no session after it has gone.",
		mqtt5: "3.1.3-7",
		acts: up(connect(func(_ *link, p *packets.Connect) {
			if len(p.ClientID) == 0 {
				p.SessionExpiryInterval = 0
			}
		})),
	},
	{
		name: "publish-of-a-refused-client", broken: "A PUBLISH in one piece with its CONNECT is passed on, though the client is refused.",
		mqtt5: "3.1.4-6", mqtt311: "3.1.4-5",
		acts: up(func(l *link, b []byte) [][]byte {
			_, isConnect := decode[*packets.Connect](l, b)
			if p, ok := decode[*packets.Publish](l, l.behind); ok && isConnect {
				p.Retain = false
				l.links[0].toBroker(p)
			}
			return keep(b)
		}),
	},
}

var mutationsOfConnack = []mutation{
	{
		name: "reserved-acknowledge-flags", broken: "CONNACK has reserved flags for a clean session that will outlive the connection.",
		mqtt5: "3.2.2-1",
		acts: func() acts {
			known := map[string]bool{}
			return acts{fromBroker: func(l *link, b []byte) [][]byte {
				if p, ok := decode[*packets.Connack](l, b); ok && p.Reason == packets.Success && len(l.connect.ClientID) > 0 {
					c := l.connect
					if c.CleanStart && c.SessionExpiryInterval > 0 && !c.HasWill && !known[string(c.ClientID)] {
						b[2] |= 2
					}
					known[string(c.ClientID)] = true
				}
				return keep(b)
			}}
		},
	},
	{
		name: "pingresp-before-connack", broken: "A PINGREQ in one piece with its CONNECT is answered before that.",
		mqtt5: "3.2.0-1", mqtt311: "3.2.0-1",
		acts: up(func(l *link, b []byte) [][]byte {
			if _, ok := decode[*packets.Connect](l, b); ok && bytes.Equal(l.behind, []byte{0xC0, 0}) {
				l.toClient(&packets.Pingresp{})
			}
			return keep(b)
		}),
	},
	{
		name: "unlisted-connack-code", broken: "CONNACK has a code that it must not have, where a client is banned.",
		mqtt5: "3.1.4-2 3.2.2-7 3.2.2-8",
		acts: down(rewrite(packets.TypeConnack, func(_ *link, b []byte) []byte {
			if b[3] == byte(packets.Banned) {
				b[3] = byte(packets.PacketIdentifierInUse)
			}
			return b
		})),
	},
	{
		name: "open-after-refusal", broken: "The connection stays open after CONNACK 0x89.",
		mqtt5: "3.1.4-2 3.2.2-7",
		acts: func() acts {
			refused := map[*link]bool{}
			return acts{
				fromBroker: edit(func(l *link, p *packets.Connack) bool {
					refused[l] = p.Reason == packets.ServerBusy
					return true
				}),
				closing: func(l *link) bool { return !refused[l] },
			}
		},
	},
	{
		name: "refused-without-saying-why", broken: "CONNACK has the code 0x80 instead of 0x8A.",
		mqtt5: "3.1.4-2 3.2.2-8",
		acts: down(edit(func(_ *link, p *packets.Connack) bool {
			if p.Reason == packets.Banned {
				p.Reason = packets.UnspecifiedError
			}
			return true
		})),
	},
	{
		name: "identifier-rejected", broken: "A client identifier that is refused gets the return code 5.",
		mqtt311: "3.1.3-7 3.1.3-8 3.1.3-9",
		acts: down(only(packets.V311, edit(func(_ *link, p *packets.Connack) bool {
			if p.Reason == packets.ClientIdentifierNotValid {
				p.Reason = packets.NotAuthorized
			}
			return true
		}))),
	},
	{
		name: "maximum-qos-untold", broken: "CONNACK does not say which QoS is the highest.",
		mqtt5: "3.2.2-9",
		acts:  down(connack(func(_ *link, p *packets.Connack) { p.HasMaximumQoS = false })),
	},
	{
		name: "maximum-qos-refuses-subscriptions", broken: "A subscription with a QoS above the highest is refused.",
		mqtt5: "3.2.2-10",
		acts: down(edit(func(l *link, p *packets.Suback) bool {
			if l.connack != nil && l.connack.HasMaximumQoS {
				p.Reasons[len(p.Reasons)-1] = packets.UnspecifiedError
			}
			return true
		})),
	},
	{
		name: "maximum-qos-of-publish", broken: "A PUBLISH above the highest QoS is taken, with QoS 0.",
		mqtt5: "3.2.2-11",
		acts: up(edit(func(l *link, p *packets.Publish) bool {
			if l.connack != nil && l.connack.HasMaximumQoS {
				p.QoS = packets.AtMostOnce
			}
			return true
		})),
	},
	{
		name: "qos-of-will", broken: "Every will has QoS 0.",
		mqtt5: "3.2.2-12",
		acts:  up(connect(func(_ *link, p *packets.Connect) { p.Will.QoS = packets.AtMostOnce })),
	},
	{
		name: "retain-available", broken: "A broker that is to have no retained messages has them all the same.",
		mqtt5:   "3.2.2-13 3.2.2-14",
		options: func(o *petrel.Options) { o.DisableRetain = false },
	},
	{
		name: "packet-too-large", broken: "The broker does not hold clients to its Maximum Packet Size.",
		mqtt5:   "3.2.2-15",
		options: func(o *petrel.Options) { o.MaximumPacketSize = 0 },
		acts:    down(connack(func(_ *link, p *packets.Connack) { p.MaximumPacketSize = 100 })),
	},
	{
		name: "alias-above-maximum", broken: "Topic aliases above the Topic Alias Maximum are taken.",
		mqtt5: "3.2.2-17 3.2.2-18 3.3.2-9",
		acts: up(edit(func(l *link, p *packets.Publish) bool {
			if l.connack != nil && p.TopicAlias > l.connack.TopicAliasMaximum {
				p.HasTopicAlias = false
			}
			return true
		})),
	},
	{
		name: "response-information", broken: "CONNACK has Response Information, though nobody asked.",
		mqtt5: "3.1.2-28",
		acts: down(connack(func(l *link, p *packets.Connack) {
			if l.version == packets.V5 && !l.connect.RequestResponseInformation {
				p.ResponseInformation = []byte("replies/")
			}
		})),
	},
	{
		name: "reason-string-of-connack", broken: "CONNACK has its Reason String, though the packet is too large with it.",
		mqtt5: "3.2.2-19",
		acts: down(edit(func(l *link, p *packets.Connack) bool {
			if p.Reason != packets.Success && l.connect.MaximumPacketSize < 50 && l.connect.MaximumPacketSize > 20 {
				p.ReasonString = bytes.Repeat([]byte("r"), 50)
			}
			return true
		})),
	},
	{
		name: "user-property-of-connack", broken: "CONNACK has its User Property, though the packet is too large with it.",
		mqtt5: "3.2.2-20",
		acts: down(edit(func(l *link, p *packets.Connack) bool {
			if p.Reason != packets.Success && p.UserProperties.Len() == 0 && l.connect.MaximumPacketSize < 20 {
				p.UserProperties = p.UserProperties.Append("name", "value")
			}
			return true
		})),
	},
}
