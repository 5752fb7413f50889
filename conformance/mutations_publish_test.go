package conformance_test

import (
	"bytes"
	"slices"
	"time"

	"github.com/petrelmq/petrel/packets"
)

// Mutations of PUBLISH: flags, retained messages, properties and identifiers.

// publish is an act on sound PUBLISH packets.
func publish(f func(l *link, p *packets.Publish)) act {
	return edit(func(l *link, p *packets.Publish) bool {
		f(l, p)
		return true
	})
}

// seen remembers, by topic, what clients have published.
type seen map[string]*packets.Publish

func (s seen) remember() act {
	return publish(func(_ *link, p *packets.Publish) { s[string(p.Topic)] = p })
}

// withSeen makes acts: what the broker sends is changed by what was published last
// on the same topic.
func withSeen(f func(l *link, p, published *packets.Publish)) func() acts {
	return func() acts {
		s := seen{}
		return acts{
			fromClient: s.remember(),
			fromBroker: publish(func(l *link, p *packets.Publish) {
				if published := s[string(p.Topic)]; published != nil {
					f(l, p, published)
				}
			}),
		}
	}
}

var mutationsOfPublish = []mutation{
	{
		name: "qos-3", broken: "A PUBLISH with both QoS bits is taken, as one with QoS 2.",
		mqtt5: "3.3.1-4", mqtt311: "3.3.1-4",
		acts: up(rewrite(packets.TypePublish, func(_ *link, b []byte) []byte {
			if b[0]&6 == 6 {
				b[0] &^= 2
			}
			return b
		})),
	},
	{
		name: "dup-passed-on-with-qos-0", broken: "The DUP of the first message on a topic is passed on with QoS 0.",
		mqtt5: "3.3.1-2", mqtt311: "3.3.1-2",
		acts: func() acts {
			dup := map[string]bool{}
			return acts{
				fromClient: publish(func(_ *link, p *packets.Publish) {
					if _, ok := dup[string(p.Topic)]; !ok {
						dup[string(p.Topic)] = p.Dup
					}
				}),
				fromBroker: func(l *link, b []byte) [][]byte {
					if p, ok := decode[*packets.Publish](l, b); ok && dup[string(p.Topic)] && p.QoS == 0 {
						b[0] |= 8
					}
					return keep(b)
				},
			}
		},
	},
	{
		name: "dup-passed-on", broken: "The DUP of a publisher is passed on with QoS 1 and 2.",
		mqtt5: "3.3.1-3", mqtt311: "3.3.1-3",
		acts: withSeen(func(_ *link, p, published *packets.Publish) { p.Dup = p.QoS > 0 && (p.Dup || published.Dup) }),
	},
	{
		name: "no-dup", broken: "A message that comes again after a reconnect has no DUP.",
		mqtt5: "3.3.1-1", mqtt311: "3.3.1-1",
		acts: down(publish(func(_ *link, p *packets.Publish) { p.Dup = false })),
	},
	{
		name: "dup-at-once", broken: "A message with QoS 1 or 2 has DUP when it comes for the first time.",
		mqtt5: "3.3.1-1 3.3.1-3 4.3.2-2 4.3.3-2", mqtt311: "2.3.1-4 3.3.1-1 3.3.1-3 4.3.2-1 4.3.3-1",
		acts: down(publish(func(_ *link, p *packets.Publish) { p.Dup = p.QoS > 0 })),
	},
	{
		name: "wildcards-in-topic-names", broken: "Wildcards are taken in topic names.",
		mqtt5: "3.3.2-2 4.7.0-1", mqtt311: "3.3.2-2 4.7.1-1",
		acts: up(rewrite(packets.TypePublish, func(l *link, b []byte) []byte {
			if _, ok := decode[*packets.Publish](l, b); ok || len(b) < 5 {
				return b
			}
			topic := b[4:min(len(b), 4+int(b[3]))]
			for i, c := range topic {
				if c == '+' || c == '#' {
					topic[i] = '?'
				}
			}
			return b
		})),
	},
	{
		name: "wildcards-in-response-topics", broken: "Wildcards are taken in Response Topics.",
		mqtt5: "3.3.2-14",
		acts:  up(replace(packets.TypePublish, "\x08\x00\x03a/+", "\x08\x00\x03a/?", "\x08\x00\x01#", "\x08\x00\x01?")),
	},
	{
		name: "empty-topic-name", broken: "A PUBLISH with an empty topic and no topic alias is taken.",
		mqtt5: "4.7.3-1", mqtt311: "4.7.3-1",
		acts: up(func(_ *link, b []byte) [][]byte {
			if bytes.Equal(b, []byte{0x30, 3, 0, 0, 0}) || bytes.Equal(b, []byte{0x30, 2, 0, 0}) {
				return nil
			}
			return keep(b)
		}),
	},
	{
		name: "subscription-identifier-of-client", broken: "A Subscription Identifier in a PUBLISH of a client is skipped.",
		mqtt5: "3.3.4-6",
		acts:  up(publish(func(_ *link, p *packets.Publish) { p.SubscriptionIDs = nil })),
	},
	{
		name: "unrelated-topic", broken: "A plus at a level also matches that there is no such level.",
		mqtt5: "3.3.2-3", mqtt311: "3.3.2-3",
		acts: func() acts {
			parents := map[string]*link{} // of filters that end with /+/c, by what is before
			return acts{
				fromClient: both(edit(func(l *link, p *packets.Subscribe) bool {
					for s := range p.Subscriptions.All() {
						if before, ok := bytes.CutSuffix(s.Filter, []byte("/+/c")); ok {
							parents[string(before)] = l
						}
					}
					return true
				}), publish(func(_ *link, p *packets.Publish) {
					before, ok := bytes.CutSuffix(p.Topic, []byte("/c"))
					if sub := parents[string(before)]; ok && sub != nil {
						sub.toClient(&packets.Publish{Topic: p.Topic, Payload: p.Payload})
					}
				})),
			}
		},
	},
}

var mutationsOfRetain = []mutation{
	{
		name: "first-retained-message-stays", broken: "A retained message does not replace the one before.",
		mqtt5: "3.3.1-5", mqtt311: "3.3.1-6 3.3.1-7",
		acts: func() acts {
			retained := map[string]bool{}
			return acts{fromClient: publish(func(_ *link, p *packets.Publish) {
				if p.Retain && len(p.Payload) > 0 && retained[string(p.Topic)] {
					p.Retain = false
				}
				retained[string(p.Topic)] = retained[string(p.Topic)] || p.Retain
			})}
		},
	},
	{
		name: "qos-of-retained", broken: "A retained message is kept with QoS 0.",
		mqtt5: "3.3.1-5", mqtt311: "3.3.1-5",
		acts: func() acts {
			return acts{fromBroker: func(l *link, b []byte) [][]byte {
				p, ok := decode[*packets.Publish](l, b)
				if !ok || !p.Retain || p.QoS == 0 || p.Dup {
					return keep(b)
				}
				l.toBroker(&packets.Puback{PacketID: p.PacketID})
				p.QoS, p.PacketID = 0, 0
				return keep(encode(l, p))
			}}
		},
	},
	{
		name: "retained-message-not-removed", broken: "An empty retained message does not remove the one before.",
		mqtt5: "3.3.1-6", mqtt311: "3.3.1-10",
		acts: func() acts {
			retained := map[string]bool{}
			return acts{fromClient: publish(func(_ *link, p *packets.Publish) {
				if retained[string(p.Topic)] && len(p.Payload) == 0 {
					p.Retain = false
				}
				retained[string(p.Topic)] = retained[string(p.Topic)] || p.Retain
			})}
		},
	},
	{
		name: "empty-message-kept", broken: "An empty retained message is kept where there was none.",
		mqtt5: "3.3.1-7", mqtt311: "3.3.1-11",
		acts: func() acts {
			published, kept, asked := map[string]bool{}, map[string]bool{}, map[*link][]byte{}
			return acts{
				fromClient: both(publish(func(_ *link, p *packets.Publish) {
					topic := string(p.Topic)
					kept[topic] = p.Retain && len(p.Payload) == 0 && !published[topic]
					published[topic] = true
				}), edit(func(l *link, p *packets.Subscribe) bool {
					if s, _, ok := p.Subscriptions.Next(); ok && kept[string(s.Filter)] {
						asked[l] = s.Filter
					}
					return true
				})),
				fromBroker: func(l *link, b []byte) [][]byte {
					if _, ok := decode[*packets.Suback](l, b); ok && asked[l] != nil {
						return [][]byte{b, encode(l, &packets.Publish{Topic: asked[l], Retain: true})}
					}
					return keep(b)
				},
			}
		},
	},
	{
		name: "everything-retained", broken: "A message without RETAIN is kept, if it has a payload and there is a retained one.",
		mqtt5: "3.3.1-8", mqtt311: "3.3.1-12",
		acts: func() acts {
			retained := map[string]bool{}
			return acts{fromClient: publish(func(_ *link, p *packets.Publish) {
				p.Retain = p.Retain || retained[string(p.Topic)] && len(p.Payload) > 0
				retained[string(p.Topic)] = p.Retain
			})}
		},
	},
	{
		name: "retain-handling-0", broken: "Retain Handling 0 is taken for 1: retained messages come with a new subscription only.",
		mqtt5: "3.3.1-9 3.8.4-4",
		acts:  up(handling(func(h byte) byte { return max(h, 1) })),
	},
	{
		name: "retain-handling-1", broken: "Retain Handling 1 is taken for 0.",
		mqtt5: "3.3.1-10",
		acts:  up(handling(func(h byte) byte { return h &^ 1 })),
	},
	{
		name: "retain-handling-2", broken: "Retain Handling 2 is taken for 1.",
		mqtt5: "3.3.1-11",
		acts:  up(handling(func(h byte) byte { return min(h, 1) })),
	},
	{
		name: "always-as-published", broken: "Every subscription counts as one with Retain As Published.",
		mqtt5: "3.3.1-12",
		acts:  up(subscriptions(func(s *packets.Subscription) { s.RetainAsPublished = true })),
	},
	{
		name: "never-as-published", broken: "Retain As Published is ignored.",
		mqtt5: "3.3.1-13",
		acts:  up(subscriptions(func(s *packets.Subscription) { s.RetainAsPublished = false })),
	},
	{
		name: "retain-to-old-subscription", broken: "A live message has the RETAIN of its publisher in 3.1.1.",
		mqtt311: "3.3.1-9",
		acts: withSeen(func(l *link, p, published *packets.Publish) {
			p.Retain = p.Retain || l.version == packets.V311 && published.Retain
		}),
	},
	{
		name: "retained-without-retain", broken: "A retained message comes without RETAIN in 3.1.1.",
		mqtt311: "3.1.2-17 3.3.1-8",
		acts:    down(only(packets.V311, publish(func(_ *link, p *packets.Publish) { p.Retain = false }))),
	},
}

// subscriptions is an act on each subscription of SUBSCRIBE in 5.0.
func subscriptions(f func(s *packets.Subscription)) act {
	return only(packets.V5, edit(func(_ *link, p *packets.Subscribe) bool {
		var list packets.Subscriptions
		for s := range p.Subscriptions.All() {
			f(&s)
			list = list.Append(s)
		}
		p.Subscriptions = list
		return true
	}))
}

func handling(f func(h byte) byte) act {
	return subscriptions(func(s *packets.Subscription) { s.RetainHandling = f(s.RetainHandling) })
}

// property is an act on the properties of messages that the broker sends.
func property(f func(p packets.Properties) packets.Properties) func() acts {
	return down(publish(func(_ *link, p *packets.Publish) { p.Properties = f(p.Properties) }))
}

var mutationsOfProperties = []mutation{
	{
		name: "payload-format", broken: "The Payload Format Indicator is not passed on.",
		mqtt5: "3.3.2-4",
		acts:  property(func(p packets.Properties) packets.Properties { return bytes.Replace(p, []byte{1, 1}, []byte{1, 0}, 1) }),
	},
	{
		name: "content-type", broken: "The Content Type is passed on in small letters and shortened.",
		mqtt5: "3.3.2-20",
		acts: property(func(p packets.Properties) packets.Properties {
			return bytes.Replace(p, packets.Properties(nil).AppendContentType("text/plain"), packets.Properties(nil).AppendContentType("text"), 1)
		}),
	},
	{
		name: "response-topic", broken: "The Response Topic is passed on with a slash in front.",
		mqtt5: "3.3.2-15",
		acts: property(func(p packets.Properties) packets.Properties {
			if topic := p.ResponseTopic(); len(topic) > 0 {
				p = bytes.Replace(p, packets.Properties(nil).AppendResponseTopic(string(topic)), packets.Properties(nil).AppendResponseTopic("/"+string(topic)), 1)
			}
			return p
		}),
	},
	{
		name: "correlation-data", broken: "Correlation Data ends with its first zero byte.",
		mqtt5: "3.3.2-16",
		acts: property(func(p packets.Properties) packets.Properties {
			if data := p.CorrelationData(); len(data) > 0 {
				short, _, _ := bytes.Cut(data, []byte{0})
				p = bytes.Replace(p, packets.Properties(nil).AppendCorrelationData(data), packets.Properties(nil).AppendCorrelationData(short), 1)
			}
			return p
		}),
	},
	{
		name: "user-property-order", broken: "User Properties are passed on in another order.",
		mqtt5: "3.1.3-10 3.3.2-18",
		acts: property(func(p packets.Properties) packets.Properties {
			return userPairs(p, func(pairs [][2]string) [][2]string {
				slices.Reverse(pairs[1:])
				return pairs
			})
		}),
	},
	{
		name: "last-user-property", broken: "Of several User Properties the last one is not passed on.",
		mqtt5: "3.1.3-10 3.3.2-17 3.3.2-18",
		acts: property(func(p packets.Properties) packets.Properties {
			return userPairs(p, func(pairs [][2]string) [][2]string { return pairs[:len(pairs)-1] })
		}),
	},
	{
		name: "short-expiry", broken: "A Message Expiry Interval of a second or less counts as none.",
		mqtt5: "3.3.2-5",
		acts: up(publish(func(_ *link, p *packets.Publish) {
			p.HasMessageExpiry = p.HasMessageExpiry && p.MessageExpiryInterval > 1
		})),
	},
	{
		name: "expiry-not-reduced", broken: "The Message Expiry Interval is passed on as it came, not as what is left of it.",
		mqtt5: "3.3.2-6",
		acts: withSeen(func(_ *link, p, published *packets.Publish) {
			p.MessageExpiryInterval = published.MessageExpiryInterval
		}),
	},
	{
		name: "expired-in-flight", broken: "A message that expires unacknowledged does not come again.",
		mqtt5: "4.3.3-7",
		acts: func() acts {
			sent := map[string]time.Time{}
			return acts{fromBroker: edit(func(_ *link, p *packets.Publish) bool {
				first, ok := sent[string(p.Topic)]
				if !ok {
					sent[string(p.Topic)] = time.Now()
				}
				return !ok || !p.Dup || time.Since(first) < time.Second
			})}
		},
	},
	{
		name: "alias-of-the-last-connection", broken: "Topic aliases outlive the connection.",
		mqtt5: "3.3.2-7",
		acts: func() acts {
			topics := map[string][]byte{}
			return acts{fromClient: publish(func(l *link, p *packets.Publish) {
				switch id := string(l.connect.ClientID); {
				case !p.HasTopicAlias || p.TopicAlias != 1:
				case len(p.Topic) > 0:
					topics[id] = p.Topic
				default:
					p.Topic = topics[id]
				}
			})}
		},
	},
	{
		name: "alias-0", broken: "A PUBLISH with topic alias 0 is ignored.",
		mqtt5: "3.3.2-8",
		acts: up(func(_ *link, b []byte) [][]byte {
			if bytes.Equal(b, []byte{0x30, 7, 0, 1, 'a', 3, 0x23, 0, 0}) {
				return nil
			}
			return keep(b)
		}),
	},
	{
		name: "alias-of-the-maximum", broken: "The topic alias that is the maximum is not known when it is used.",
		mqtt5: "3.3.2-12",
		acts: up(edit(func(l *link, p *packets.Publish) bool {
			return len(p.Topic) > 0 || p.TopicAlias != l.connack.TopicAliasMaximum
		})),
	},
	{
		name: "alias-not-allowed", broken: "The server uses a topic alias, though the client allows none.",
		mqtt5: "3.1.2-27",
		acts: func() acts {
			type key struct {
				l     *link
				topic string
			}
			times := map[key]int{}
			return acts{fromBroker: only(packets.V5, publish(func(l *link, p *packets.Publish) {
				k := key{l, string(p.Topic)}
				if times[k]++; times[k] == 2 && l.connect.TopicAliasMaximum == 0 {
					p.HasTopicAlias, p.TopicAlias = true, 1
				}
			}))}
		},
	},
	{
		name: "alias-too-high", broken: "The server uses a topic alias above the maximum of the client.",
		mqtt5: "3.1.2-26 3.3.2-11",
		acts: down(publish(func(l *link, p *packets.Publish) {
			if most := l.connect.TopicAliasMaximum; most > 0 && !p.HasTopicAlias {
				p.HasTopicAlias, p.TopicAlias = true, most+1
			}
		})),
	},
}

// userPairs returns properties with other User Properties, if there are several.
func userPairs(p packets.Properties, f func(pairs [][2]string) [][2]string) packets.Properties {
	var pairs [][2]string
	for name, value := range p.UserProperties() {
		pairs = append(pairs, [2]string{string(name), string(value)})
	}
	if len(pairs) < 2 {
		return p
	}
	at := bytes.IndexByte(p, 0x26) // they are neighbours, behind the others
	p = slices.Clone(p[:at])
	for _, pair := range f(pairs) {
		p = p.AppendUserProperty(pair[0], pair[1])
	}
	return p
}
