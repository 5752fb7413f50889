package conformance_test

import (
	"bytes"
	"math"
	"slices"

	"github.com/petrelmq/petrel/packets"
)

// Mutations of flow control, packet sizes, DISCONNECT and AUTH.

var mutationsOfFlowControl = []mutation{
	{
		name: "receive-maximum", broken: "The Receive Maximum of the client is ignored.",
		mqtt5: "3.3.4-9 3.3.4-10 4.9.0-1 4.9.0-2 4.9.0-3",
		acts:  up(connect(func(_ *link, p *packets.Connect) { p.ReceiveMaximum = math.MaxUint16 })),
	},
	{
		name: "pubrec-ends-a-message", broken: "A QoS 2 message counts as delivered with its PUBREC, not with its PUBCOMP.",
		mqtt5: "3.3.4-10",
		acts: func() acts {
			held, times := map[*link][]byte{}, map[*link]int{}
			return acts{
				fromClient: func(l *link, b []byte) [][]byte {
					switch p, ok := decode[*packets.Connect](l, b); {
					case ok && p.ReceiveMaximum == 1:
						p.ReceiveMaximum = 2
						return keep(encode(l, p))
					case packets.Type(b[0]>>4) == packets.TypePubrec && held[l] != nil:
						l.extra = append(l.extra, extra{l.client, held[l]})
						held[l] = nil
					}
					return keep(b)
				},
				fromBroker: func(l *link, b []byte) [][]byte {
					p, ok := decode[*packets.Publish](l, b)
					if !ok || l.connect.ReceiveMaximum != 1 || p.QoS != packets.ExactlyOnce {
						return keep(b)
					}
					if times[l]++; times[l] != 2 {
						return keep(b)
					}
					held[l] = b
					return nil
				},
			}
		},
	},
	{
		name: "full-window-holds-suback", broken: "A client with Receive Maximum 1 gets no SUBACK while a message is open.",
		mqtt5: "3.3.4-10 4.9.0-3",
		acts: func() acts {
			open := map[*link]bool{}
			return acts{
				fromClient: edit(func(l *link, _ *packets.Subscribe) bool { return !open[l] }),
				fromBroker: publish(func(l *link, p *packets.Publish) {
					open[l] = p.QoS == packets.ExactlyOnce && l.connect.ReceiveMaximum == 1
				}),
			}
		},
	},
	{
		name: "receive-maximum-of-the-server", broken: "The server does not hold clients to the Receive Maximum of its CONNACK.",
		mqtt5: "3.3.4-7",
		acts:  down(connack(func(_ *link, p *packets.Connack) { p.ReceiveMaximum = 10 })),
	},
}

// tooLarge makes acts that give packets of some types a Reason String or a User
// Property that a client with a small Maximum Packet Size does not take.
func tooLarge(types []packets.Type, reasonString bool) func() acts {
	return func() acts {
		long := bytes.Repeat([]byte("r"), 50)
		return acts{fromBroker: func(l *link, b []byte) [][]byte {
			if l.connect == nil || l.connect.MaximumPacketSize == 0 || l.connect.MaximumPacketSize > 50 {
				return keep(b)
			}
			p := packets.New(packets.Type(b[0] >> 4))
			if _, n, _ := packets.DecodeHeader(b); p.Decode(b[0]&0xF, b[n:], l.version) != nil || !slices.Contains(types, p.Type()) {
				return keep(b)
			}
			if reasonString {
				return keep(encode(l, explain(p, long, nil)))
			}
			return keep(encode(l, explain(p, nil, packets.UserProperties(nil).Append("name", string(long)))))
		}}
	}
}

// explain adds a Reason String and User Properties to a packet.
func explain(p packets.Packet, reason []byte, user packets.UserProperties) packets.Packet {
	switch p := p.(type) {
	case *packets.Puback:
		p.ReasonString, p.UserProperties = reason, user
	case *packets.Pubrec:
		p.ReasonString, p.UserProperties = reason, user
	case *packets.Pubrel:
		p.ReasonString, p.UserProperties = reason, user
	case *packets.Pubcomp:
		p.ReasonString, p.UserProperties = reason, user
	case *packets.Suback:
		p.ReasonString, p.UserProperties = reason, user
	case *packets.Unsuback:
		p.ReasonString, p.UserProperties = reason, user
	case *packets.Auth:
		p.ReasonString, p.UserProperties = reason, user
	case *packets.Disconnect:
		p.ReasonString, p.UserProperties = reason, user
	}
	return p
}

var mutationsOfSizes = []mutation{
	{
		name: "one-byte-too-large", broken: "A packet that is one byte longer than the client takes is sent.",
		mqtt5: "3.1.2-24",
		acts: up(connect(func(_ *link, p *packets.Connect) {
			if p.MaximumPacketSize > 0 {
				p.MaximumPacketSize++
			}
		})),
	},
	{
		name: "equal-is-too-large", broken: "A packet that is as long as the client takes is not sent.",
		mqtt5: "3.1.2-24",
		acts: up(connect(func(_ *link, p *packets.Connect) {
			if p.MaximumPacketSize > 60 {
				p.MaximumPacketSize--
			}
		})),
	},
	{
		name: "too-large-stays-open", broken: "A message that is too large for the client keeps its place among those in flight.",
		mqtt5: "3.1.2-25",
		acts: func() acts {
			limited := func(l *link) bool {
				return l.connect.ReceiveMaximum == 1 && l.connect.MaximumPacketSize > 0
			}
			return acts{
				fromClient: connect(func(l *link, p *packets.Connect) {
					if limited(l) {
						p.MaximumPacketSize = 0
					}
				}),
				fromBroker: func(l *link, b []byte) [][]byte {
					if packets.Type(b[0]>>4) == packets.TypePublish && limited(l) && len(b) > int(l.connect.MaximumPacketSize) {
						return nil
					}
					return keep(b)
				},
			}
		},
	},
	{
		name: "problem-information", broken: "PUBACK has a Reason String, though the client wants none.",
		mqtt5: "3.1.2-29",
		acts: down(edit(func(l *link, p *packets.Puback) bool {
			if l.connect.NoProblemInformation {
				p.ReasonString = []byte("because")
			}
			return true
		})),
	},
	{
		name: "reason-string-of-puback", broken: "PUBACK has a Reason String, though it is too large with it.",
		mqtt5: "3.4.2-2", acts: tooLarge([]packets.Type{packets.TypePuback}, true),
	},
	{
		name: "user-property-of-puback", broken: "PUBACK has a User Property, though it is too large with it.",
		mqtt5: "3.4.2-3", acts: tooLarge([]packets.Type{packets.TypePuback}, false),
	},
	{
		name: "reason-string-of-pubrec", broken: "PUBREC has a Reason String, though it is too large with it.",
		mqtt5: "3.5.2-2", acts: tooLarge([]packets.Type{packets.TypePubrec}, true),
	},
	{
		name: "user-property-of-pubrec", broken: "PUBREC has a User Property, though it is too large with it.",
		mqtt5: "3.5.2-3", acts: tooLarge([]packets.Type{packets.TypePubrec}, false),
	},
	{
		name: "reason-string-of-pubrel", broken: "PUBREL and PUBCOMP have a Reason String, though they are too large with it.",
		mqtt5: "3.6.2-2 3.7.2-2", acts: tooLarge([]packets.Type{packets.TypePubrel, packets.TypePubcomp}, true),
	},
	{
		name: "user-property-of-pubrel", broken: "PUBREL and PUBCOMP have a User Property, though they are too large with it.",
		mqtt5: "3.6.2-3 3.7.2-3", acts: tooLarge([]packets.Type{packets.TypePubrel, packets.TypePubcomp}, false),
	},
	{
		name: "reason-string-of-suback", broken: "SUBACK and UNSUBACK have a Reason String, though they are too large with it.",
		mqtt5: "3.9.2-1 3.11.2-1", acts: tooLarge([]packets.Type{packets.TypeSuback, packets.TypeUnsuback}, true),
	},
	{
		name: "user-property-of-suback", broken: "SUBACK and UNSUBACK have a User Property, though they are too large with it.",
		mqtt5: "3.9.2-2 3.11.2-2", acts: tooLarge([]packets.Type{packets.TypeSuback, packets.TypeUnsuback}, false),
	},
	{
		name: "reason-string-of-disconnect", broken: "DISCONNECT has a Reason String, though it is too large with it.",
		mqtt5: "3.14.2-3", acts: tooLarge([]packets.Type{packets.TypeDisconnect}, true),
	},
	{
		name: "user-property-of-disconnect", broken: "DISCONNECT has a User Property, though it is too large with it.",
		mqtt5: "3.14.2-4", acts: tooLarge([]packets.Type{packets.TypeDisconnect}, false),
	},
	{
		name: "reason-string-of-auth", broken: "AUTH has a Reason String, though it is too large with it.",
		mqtt5: "3.15.2-2", acts: tooLarge([]packets.Type{packets.TypeAuth}, true),
	},
	{
		name: "user-property-of-auth", broken: "AUTH has a User Property, though it is too large with it.",
		mqtt5: "3.15.2-3", acts: tooLarge([]packets.Type{packets.TypeAuth}, false),
	},
}

var mutationsOfEnds = []mutation{
	{
		name: "publish-after-disconnect", broken: "A PUBLISH in one piece with a DISCONNECT is passed on.",
		mqtt5: "3.14.4-1", mqtt311: "3.14.4-2",
		acts: up(func(l *link, b []byte) [][]byte {
			_, ok := decode[*packets.Disconnect](l, b)
			if p, more := decode[*packets.Publish](l, l.behind); ok && more {
				l.toBroker(p)
			}
			return keep(b)
		}),
	},
	{
		name: "expiry-in-disconnect", broken: "The DISCONNECT of a server has a Session Expiry Interval.",
		mqtt5: "3.14.2-2",
		acts: down(edit(func(_ *link, p *packets.Disconnect) bool {
			p.HasSessionExpiryInterval = true
			return true
		})),
	},
	{
		name: "undefined-reason-of-pubrel", broken: "A PUBREL with a code that there is not is ignored.",
		mqtt5: "4.13.1-1 4.13.2-1",
		acts: up(func(_ *link, b []byte) [][]byte {
			if bytes.Equal(b, []byte{0x62, 3, 0, 1, 0x80}) {
				return nil
			}
			return keep(b)
		}),
	},
	{
		name: "qos-3-of-subscribe", broken: "A SUBSCRIBE with QoS 3 is taken, as one with QoS 2.",
		mqtt5: "4.13.1-1 4.13.2-1", mqtt311: "3.8.3-4",
		acts: up(rewrite(packets.TypeSubscribe, func(_ *link, b []byte) []byte {
			if b[len(b)-1] == 3 {
				b[len(b)-1] = 2
			}
			return b
		})),
	},
}

var mutationsOfAuth = []mutation{
	{
		name: "unknown-method", broken: "An Authentication Method that is not known counts as none.",
		mqtt5: "4.12.0-1",
		acts: up(connect(func(_ *link, p *packets.Connect) {
			p.HasAuthenticationMethod = p.HasAuthenticationMethod && len(p.AuthenticationMethod) == 1
		})),
	},
	{
		name: "code-of-a-question", broken: "AUTH has the code 0 where the server asks for more.",
		mqtt5: "4.12.0-2",
		acts: down(edit(func(_ *link, p *packets.Auth) bool {
			p.Reason = packets.Success
			return true
		})),
	},
	{
		name: "code-of-the-client", broken: "AUTH has the code 0x19, which is for clients, where the server asks for more.",
		mqtt5: "3.15.2-1 4.12.0-2",
		acts: down(edit(func(_ *link, p *packets.Auth) bool {
			if p.Reason == packets.ContinueAuthentication {
				p.Reason = packets.Reauthenticate
			}
			return true
		})),
	},
	{
		name: "code-of-an-answer", broken: "The code of the AUTH that answers is not looked at.",
		mqtt5: "4.12.0-3",
		acts: up(edit(func(l *link, p *packets.Auth) bool {
			if l.connack == nil {
				p.Reason = packets.ContinueAuthentication
			}
			return true
		})),
	},
	{
		name: "refusal-of-auth", broken: "A client that is refused in the middle of its authentication gets no answer and stays connected.",
		mqtt5: "4.12.0-4",
		acts: func() acts {
			refused := map[*link]bool{}
			return acts{
				fromBroker: edit(func(l *link, p *packets.Connack) bool {
					refused[l] = p.Reason == packets.NotAuthorized && l.connect.HasAuthenticationMethod && len(l.connect.AuthenticationMethod) == 1
					return !refused[l]
				}),
				closing: func(l *link) bool { return !refused[l] },
			}
		},
	},
	{
		name: "method-of-auth", broken: "AUTH has another Authentication Method than CONNECT.",
		mqtt5: "4.12.0-5",
		acts: down(edit(func(_ *link, p *packets.Auth) bool {
			p.AuthenticationMethod = []byte("N")
			return true
		})),
	},
	{
		name: "method-of-connack", broken: "CONNACK has no Authentication Method, though CONNECT had one.",
		mqtt5: "4.12.0-5",
		acts: down(connack(func(_ *link, p *packets.Connack) {
			p.HasAuthenticationMethod, p.HasAuthenticationData = false, false
		})),
	},
	{
		name: "method-for-all", broken: "CONNACK has an Authentication Method, though CONNECT had none.",
		mqtt5: "4.12.0-6",
		acts: down(only(packets.V5, connack(func(l *link, p *packets.Connack) {
			if !l.connect.HasAuthenticationMethod {
				p.HasAuthenticationMethod, p.AuthenticationMethod = true, []byte("M")
			}
		}))),
	},
	{
		name: "auth-without-method", broken: "AUTH is ignored where CONNECT had no Authentication Method.",
		mqtt5: "4.12.0-7",
		acts:  up(edit(func(l *link, _ *packets.Auth) bool { return l.connect == nil || l.connect.HasAuthenticationMethod })),
	},
	{
		name: "another-method", broken: "Re-authentication with another method goes by the one of CONNECT.",
		mqtt5: "4.12.1-1",
		acts: up(edit(func(l *link, p *packets.Auth) bool {
			if l.connack != nil && l.connect.HasAuthenticationMethod {
				p.AuthenticationMethod = l.connect.AuthenticationMethod
			}
			return true
		})),
	},
	{
		name: "failed-authentication-again", broken: "A re-authentication that fails has no consequence.",
		mqtt5: "4.12.1-2",
		acts: func() acts {
			failed := map[*link]bool{}
			return acts{
				fromBroker: edit(func(l *link, p *packets.Disconnect) bool {
					failed[l] = p.Reason == packets.NotAuthorized
					return !failed[l]
				}),
				closing: func(l *link) bool { return !failed[l] },
			}
		},
	},
	{
		name: "packets-before-connack", broken: "What a client sends in the middle of its authentication is ignored, unless it is AUTH.",
		mqtt5: "3.1.2-30",
		acts: up(func(l *link, b []byte) [][]byte {
			t := packets.Type(b[0] >> 4)
			if l.connect != nil && l.connect.HasAuthenticationMethod && l.connack == nil &&
				(t == packets.TypePingreq || t == packets.TypePublish || t == packets.TypePuback) {
				return nil
			}
			return keep(b)
		}),
	},
}
