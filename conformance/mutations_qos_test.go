package conformance_test

import (
	"time"

	"github.com/petrelmq/petrel/packets"
)

// Mutations of packet identifiers, of the exchanges of QoS 1 and 2 and of order.

var mutationsOfIdentifiers = []mutation{
	{
		name: "two-bytes-for-an-identifier", broken: "A QoS 0 message whose payload has two bytes loses it: they are taken for a packet identifier.",
		mqtt5: "2.2.1-2", mqtt311: "2.3.1-5",
		acts: up(publish(func(_ *link, p *packets.Publish) {
			if p.QoS == 0 && len(p.Payload) == 2 {
				p.Payload = nil
			}
		})),
	},
	{
		name: "identifier-0", broken: "Packet identifier 0 is taken in PUBLISH, SUBSCRIBE and UNSUBSCRIBE.",
		mqtt5: "2.2.1-3", mqtt311: "2.3.1-1",
		acts: up(both(both(
			replace(packets.TypePublish, "\x32\x07\x00\x01a\x00\x00", "\x32\x07\x00\x01a\x00\x01", "\x32\x06\x00\x01a\x00\x00", "\x32\x06\x00\x01a\x00\x01"),
			rewrite(packets.TypeSubscribe, withIdentifier)),
			rewrite(packets.TypeUnsubscribe, withIdentifier))),
	},
	{
		name: "identifiers-in-a-circle", broken: "The server uses the packet identifiers 1 to 100 in turn, also those that are in use.",
		mqtt5: "2.2.1-4",
		acts: func() acts {
			type key struct {
				l  *link
				id uint16
			}
			real := map[key]uint16{}
			return acts{
				fromBroker: publish(func(l *link, p *packets.Publish) {
					if p.QoS > 0 {
						id := (p.PacketID-1)%100 + 1
						real[key{l, id}] = p.PacketID
						p.PacketID = id
					}
				}),
				fromClient: edit(func(l *link, p *packets.Puback) bool {
					if id := real[key{l, p.PacketID}]; id > 0 {
						p.PacketID = id
					}
					return true
				}),
			}
		},
	},
	{
		name: "signed-puback", broken: "PUBACK loses the highest bit of the packet identifier.",
		mqtt5: "2.2.1-5", mqtt311: "2.3.1-6",
		acts: down(edit(func(_ *link, p *packets.Puback) bool {
			p.PacketID &= 0x7FFF
			return true
		})),
	},
	{
		name: "one-byte-pubrec", broken: "PUBREC repeats only the lower byte of a packet identifier that needs two.",
		mqtt5: "2.2.1-5 4.3.3-8", mqtt311: "2.3.1-6",
		acts: down(edit(func(_ *link, p *packets.Pubrec) bool {
			p.PacketID = lower(p.PacketID)
			return true
		})),
	},
	{
		name: "one-byte-pubcomp", broken: "PUBCOMP repeats only the lower byte of a packet identifier that needs two.",
		mqtt5: "2.2.1-5 4.3.3-8 4.3.3-11", mqtt311: "2.3.1-6",
		acts: down(edit(func(_ *link, p *packets.Pubcomp) bool {
			p.PacketID = lower(p.PacketID)
			return true
		})),
	},
	{
		name: "one-byte-puback", broken: "PUBACK repeats only the lower byte of a packet identifier that needs two.",
		mqtt5: "2.2.1-4 2.2.1-5 4.3.2-4", mqtt311: "2.3.1-6",
		acts: down(edit(func(_ *link, p *packets.Puback) bool {
			p.PacketID = lower(p.PacketID)
			return true
		})),
	},
	{
		name: "one-byte-suback", broken: "SUBACK repeats only the lower byte of a packet identifier that needs two.",
		mqtt5: "2.2.1-6 3.8.4-2", mqtt311: "2.3.1-7 3.8.4-2",
		acts: down(edit(func(_ *link, p *packets.Suback) bool {
			p.PacketID = lower(p.PacketID)
			return true
		})),
	},
	{
		name: "one-byte-unsuback", broken: "UNSUBACK repeats only the lower byte of a packet identifier that needs two.",
		mqtt5: "2.2.1-6 3.10.4-5", mqtt311: "2.3.1-7 3.10.4-4",
		acts: down(edit(func(_ *link, p *packets.Unsuback) bool {
			p.PacketID = lower(p.PacketID)
			return true
		})),
	},
}

// withIdentifier gives a SUBSCRIBE or UNSUBSCRIBE an identifier that has none.
func withIdentifier(_ *link, b []byte) []byte {
	if b[2] == 0 && b[3] == 0 {
		b[3] = 1
	}
	return b
}

func lower(id uint16) uint16 { return max(id&0xFF, 1) }

var mutationsOfQoS = []mutation{
	{
		name: "repeated-qos-1", broken: "A PUBLISH with QoS 1 and DUP, with the identifier of one before, is acknowledged and not passed on.",
		mqtt5: "4.3.2-5", mqtt311: "4.3.2-2",
		acts: func() acts {
			used := map[uint16]bool{}
			return acts{fromClient: edit(func(l *link, p *packets.Publish) bool {
				if p.QoS != packets.AtLeastOnce {
					return true
				}
				if p.Dup && used[p.PacketID] {
					l.toClient(&packets.Puback{PacketID: p.PacketID})
					return false
				}
				used[p.PacketID] = true
				return true
			})}
		},
	},
	{
		name: "repeated-qos-2", broken: "A PUBLISH with QoS 2 that comes twice before its PUBREL is passed on twice.",
		mqtt5: "4.3.3-10", mqtt311: "4.3.3-2",
		acts: func() acts {
			open := map[uint16]bool{}
			return acts{fromClient: both(edit(func(l *link, p *packets.Publish) bool {
				if p.QoS == packets.ExactlyOnce && open[p.PacketID] {
					l.toBroker(&packets.Publish{Topic: p.Topic, Payload: p.Payload})
				}
				open[p.PacketID] = open[p.PacketID] || p.QoS == packets.ExactlyOnce
				return true
			}), edit(func(_ *link, p *packets.Pubrel) bool {
				open[p.PacketID] = false
				return true
			}))}
		},
	},
	{
		name: "identifier-after-pubcomp", broken: "A PUBLISH with QoS 2 and DUP is not passed on, if its identifier has been used in an exchange that has ended.",
		mqtt5: "4.3.3-12", mqtt311: "4.3.3-2",
		acts: func() acts {
			ended := map[uint16]bool{}
			return acts{fromClient: both(edit(func(l *link, p *packets.Publish) bool {
				if p.QoS != packets.ExactlyOnce || !p.Dup || !ended[p.PacketID] {
					return true
				}
				l.toClient(&packets.Pubrec{PacketID: p.PacketID})
				return false
			}), edit(func(_ *link, p *packets.Pubrel) bool {
				ended[p.PacketID] = true
				return true
			}))}
		},
	},
	{
		name: "identifier-after-a-refusal", broken: "After a PUBREC with an error the same identifier is taken for the same message, and acknowledged.",
		mqtt5: "4.3.3-9",
		acts: func() acts {
			refused := map[*link]uint16{}
			return acts{
				fromClient: edit(func(l *link, p *packets.Publish) bool {
					if p.QoS == packets.ExactlyOnce && refused[l] == p.PacketID {
						l.toClient(&packets.Pubrec{PacketID: p.PacketID})
						return false
					}
					return true
				}),
				fromBroker: edit(func(l *link, p *packets.Pubrec) bool {
					if p.Reason.IsError() {
						refused[l] = p.PacketID
					}
					return true
				}),
			}
		},
	},
	{
		name: "pubrel-that-nobody-knows", broken: "A PUBREL with an unknown identifier gets a PUBCOMP without an error.",
		mqtt5: "4.3.3-11",
		acts: down(edit(func(_ *link, p *packets.Pubcomp) bool {
			p.Reason = packets.Success
			return true
		})),
	},
	{
		name: "pubrel-without-pubcomp", broken: "A PUBREL with an unknown identifier gets no PUBCOMP.",
		mqtt5: "3.7.2-1 3.7.2-2 3.7.2-3 4.3.3-11",
		acts:  down(edit(func(_ *link, p *packets.Pubcomp) bool { return p.Reason == packets.Success })),
	},
	{
		name: "unlisted-pubcomp-code", broken: "PUBCOMP has the code 0x80, which it must not have, where the identifier is unknown.",
		mqtt5: "3.7.2-1 3.7.2-2 3.7.2-3 4.3.3-11",
		acts:  down(replace(packets.TypePubcomp, "\x92", "\x80")),
	},
	{
		name: "unlisted-pubrel-code", broken: "PUBREL has the code 0x80, which it must not have, where the identifier is unknown.",
		mqtt5: "3.6.2-1 3.6.2-2 3.6.2-3",
		acts:  down(replace(packets.TypePubrel, "\x92", "\x80")),
	},
	{
		name: "unlisted-puback-code", broken: "PUBACK has a code that it must not have, where the client may not publish.",
		mqtt5: "3.1.2-29 3.4.2-1 3.4.2-2 3.4.2-3",
		acts: down(rewrite(packets.TypePuback, func(_ *link, b []byte) []byte {
			if len(b) > 4 && b[1] < 0x80 && b[4] == byte(packets.NotAuthorized) {
				b[4] = byte(packets.BadUserNameOrPassword)
			}
			return b
		})),
	},
	{
		name: "puback-of-what-is-refused", broken: "PUBACK says that all is well, where the client may not publish.",
		mqtt5: "3.4.2-1",
		acts: down(edit(func(_ *link, p *packets.Puback) bool {
			p.Reason = packets.Success
			return true
		})),
	},
	{
		name: "pubrec-of-what-is-refused", broken: "PUBREC has the code 0x80, whatever the reason.",
		mqtt5: "3.5.2-1 4.3.3-9",
		acts: down(edit(func(_ *link, p *packets.Pubrec) bool {
			if p.Reason.IsError() {
				p.Reason = packets.UnspecifiedError
			}
			return true
		})),
	},
	{
		name: "pubrel-after-an-error", broken: "A PUBREC with an error is answered with PUBREL.",
		mqtt5: "4.3.3-4 4.4.0-2 4.8.2-6",
		acts: up(edit(func(l *link, p *packets.Pubrec) bool {
			if p.Reason.IsError() {
				l.toClient(&packets.Pubrel{PacketID: p.PacketID})
			}
			return true
		})),
	},
	{
		name: "error-does-not-acknowledge", broken: "A message comes again after a PUBACK or PUBREC with an error.",
		mqtt5: "4.4.0-2",
		acts: up(both(
			edit(func(_ *link, p *packets.Puback) bool { return !p.Reason.IsError() }),
			edit(func(_ *link, p *packets.Pubrec) bool { return !p.Reason.IsError() }))),
	},
	{
		name: "qos-1-not-again", broken: "A QoS 1 message that was not acknowledged does not come again.",
		mqtt5: "3.3.1-1 4.3.2-3 4.4.0-1 4.6.0-1", mqtt311: "3.3.1-1 4.4.0-1 4.6.0-1",
		acts: down(edit(func(_ *link, p *packets.Publish) bool { return !p.Dup || p.QoS != packets.AtLeastOnce })),
	},
	{
		name: "pubrel-not-again", broken: "PUBREL is sent only once, also if it was not acknowledged.",
		mqtt5: "4.3.3-5 4.3.3-13", mqtt311: "4.3.3-1",
		acts: func() acts {
			released := map[string]bool{}
			return acts{fromBroker: edit(func(l *link, _ *packets.Pubrel) bool {
				id := string(l.connect.ClientID)
				again := released[id] && !l.connect.CleanStart
				released[id] = true
				return !again
			})}
		},
	},
	{
		name: "publish-after-pubrel", broken: "A QoS 2 message comes again after its PUBREL, in front of that.",
		mqtt5: "4.3.3-5 4.3.3-6 4.3.3-13", mqtt311: "4.3.3-1",
		acts: func() acts {
			sent := map[uint16]*packets.Publish{}
			first := map[uint16]*link{}
			return acts{fromBroker: both(publish(func(l *link, p *packets.Publish) {
				if p.QoS == packets.ExactlyOnce {
					sent[p.PacketID], first[p.PacketID] = p, l
				}
			}), edit(func(l *link, p *packets.Pubrel) bool {
				if m := sent[p.PacketID]; m != nil && first[p.PacketID] != l {
					again := *m
					again.Dup = true
					l.toClient(&again)
				}
				return true
			}))}
		},
	},
	{
		name: "again-with-another-identifier", broken: "A message that comes again has another packet identifier.",
		mqtt5: "3.3.1-1 4.3.2-3 4.3.3-3 4.3.3-7 4.4.0-1", mqtt311: "4.1.0-1 4.4.0-1",
		acts: down(publish(func(_ *link, p *packets.Publish) {
			if p.Dup {
				p.PacketID += 1000
			}
		})),
	},
	{
		name: "again-on-a-living-connection", broken: "A message that is not acknowledged within a second comes again.",
		mqtt5: "4.4.0-1",
		acts: func() acts {
			open := map[*link]*packets.Publish{}
			return acts{
				fromClient: func(l *link, b []byte) [][]byte {
					if t := packets.Type(b[0] >> 4); t == packets.TypePuback || t == packets.TypePubrec {
						open[l] = nil
					}
					return keep(b)
				},
				fromBroker: publish(func(l *link, p *packets.Publish) {
					if p.QoS == 0 || p.Dup {
						return
					}
					again := *p
					again.Dup = true
					open[l] = &again
					l.after(time.Second, func() {
						if open[l] == &again && !l.isClosed {
							l.toClient(&again)
						}
					})
				}),
			}
		},
	},
	{
		name: "granted-qos-ignored", broken: "A subscription with QoS 1 gets QoS 2 messages with QoS 2.",
		mqtt5: "3.8.4-5 3.8.4-8", mqtt311: "3.8.4-4 3.8.4-6",
		acts: func() acts {
			type key struct {
				l  *link
				id uint16
			}
			codes := map[key][]packets.ReasonCode{}
			return acts{
				fromClient: edit(func(l *link, p *packets.Subscribe) bool {
					var list packets.Subscriptions
					for s := range p.Subscriptions.All() {
						codes[key{l, p.PacketID}] = append(codes[key{l, p.PacketID}], packets.ReasonCode(s.QoS))
						if s.QoS == packets.AtLeastOnce {
							s.QoS = packets.ExactlyOnce
						}
						list = list.Append(s)
					}
					p.Subscriptions = list
					return true
				}),
				fromBroker: edit(func(l *link, p *packets.Suback) bool {
					for i, code := range codes[key{l, p.PacketID}] {
						if i < len(p.Reasons) && p.Reasons[i] == packets.GrantedQoS2 {
							p.Reasons[i] = code
						}
					}
					return true
				}),
			}
		},
	},
	{
		name: "lowest-qos", broken: "Where subscriptions overlap a message comes with QoS 0.",
		mqtt5: "3.3.4-2", mqtt311: "",
		acts: func() acts {
			return acts{fromBroker: func(l *link, b []byte) [][]byte {
				p, ok := decode[*packets.Publish](l, b)
				if !ok || len(p.SubscriptionIDs) < 2 {
					return keep(b)
				}
				p.QoS, p.PacketID = 0, 0
				return keep(encode(l, p))
			}}
		},
	},
}

// swapped lets two messages on a topic change their places, if the second comes
// before any time has passed. which tells whether a message may be the first of
// the two; n counts those on a connection with the same topic.
func swapped(which func(p *packets.Publish, n int) bool) func() acts {
	return func() acts {
		held, topics, times := map[*link][]byte{}, map[*link]string{}, map[*link]map[string]int{}
		return acts{fromBroker: func(l *link, b []byte) [][]byte {
			p, ok := decode[*packets.Publish](l, b)
			if !ok {
				return keep(b)
			}
			if times[l] == nil {
				times[l] = map[string]int{}
			}
			times[l][string(p.Topic)]++
			if first := held[l]; first != nil && topics[l] == string(p.Topic) {
				held[l] = nil
				return [][]byte{b, first}
			}
			if held[l] != nil || !which(p, times[l][string(p.Topic)]) {
				return keep(b)
			}
			held[l], topics[l] = b, string(p.Topic)
			l.after(time.Millisecond, func() {
				if first := held[l]; first != nil {
					held[l] = nil
					l.extra = append(l.extra, extra{l.client, first})
				}
			})
			return nil
		}}
	}
}

var mutationsOfOrder = []mutation{
	{
		name: "unordered", broken: "Every fifth message on a topic, if its QoS is 1, is sent behind the next one.",
		mqtt5: "4.6.0-5 4.6.0-6", mqtt311: "4.6.0-5 4.6.0-6",
		acts: swapped(func(p *packets.Publish, n int) bool { return p.QoS == packets.AtLeastOnce && !p.Dup && n%5 == 0 }),
	},
	{
		name: "again-in-another-order", broken: "Messages that come again do not come in the order of the first time.",
		mqtt5: "4.6.0-1", mqtt311: "4.6.0-1",
		acts: swapped(func(p *packets.Publish, _ int) bool { return p.Dup && p.QoS == packets.ExactlyOnce }),
	},
	{
		name: "offline-clients-forgotten", broken: "A message that a connected client gets is not kept for those that are not connected.",
		mqtt5: "4.5.0-1", mqtt311: "4.5.0-1",
		acts: func() acts {
			live := map[string]bool{}
			return acts{fromBroker: edit(func(l *link, p *packets.Publish) bool {
				if l.connack.SessionPresent && live[string(p.Topic)] && !p.Dup && !p.Retain {
					return false
				}
				live[string(p.Topic)] = !l.connack.SessionPresent && !p.Retain
				return true
			})}
		},
	},
	{
		name: "acknowledgements-in-another-order", broken: "PUBREC comes for the later of two messages first.",
		mqtt311: "4.6.0-3",
		acts: func() acts {
			var held []byte
			return acts{fromBroker: func(l *link, b []byte) [][]byte {
				_, ok := decode[*packets.Pubrec](l, b)
				switch first := held; {
				case !ok || l.version != packets.V311:
					return keep(b)
				case first != nil:
					held = nil
					return [][]byte{b, first}
				}
				held = b
				l.after(time.Millisecond, func() {
					if held != nil {
						l.extra = append(l.extra, extra{l.client, held})
						held = nil
					}
				})
				return nil
			}}
		},
	},
}
