package conformance_test

import (
	"bytes"
	"slices"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// Mutations of SUBSCRIBE, UNSUBSCRIBE, filters and shared subscriptions.

// suback is an act on SUBACK packets.
func suback(f func(l *link, p *packets.Suback)) act {
	return edit(func(l *link, p *packets.Suback) bool {
		f(l, p)
		return true
	})
}

// unsuback is an act on the UNSUBACK packets of 5.0.
func unsuback(f func(l *link, p *packets.Unsuback)) act {
	return only(packets.V5, edit(func(l *link, p *packets.Unsuback) bool {
		f(l, p)
		return true
	}))
}

var mutationsOfSubscribe = []mutation{
	{
		name: "no-local", broken: "No Local is ignored.",
		mqtt5: "3.8.3-3",
		acts: up(subscriptions(func(s *packets.Subscription) {
			s.NoLocal = s.NoLocal && bytes.HasPrefix(s.Filter, []byte("$share/"))
		})),
	},
	{
		name: "no-local-of-a-share", broken: "No Local is taken in a shared subscription.",
		mqtt5: "3.8.3-4",
		acts: up(subscriptions(func(s *packets.Subscription) {
			s.NoLocal = s.NoLocal && !bytes.HasPrefix(s.Filter, []byte("$share/"))
		})),
	},
	{
		name: "reserved-options", broken: "The reserved bits of the Subscription Options are not looked at.",
		mqtt5: "3.8.3-5",
		acts: up(only(packets.V5, rewrite(packets.TypeSubscribe, func(_ *link, b []byte) []byte {
			b[len(b)-1] &^= 0xC0
			return b
		}))),
	},
	{
		name: "reserved-options-of-old-clients", broken: "The reserved bits of the requested QoS are not looked at in 3.1.1.",
		mqtt311: "3.8.3-4",
		acts: up(only(packets.V311, rewrite(packets.TypeSubscribe, func(_ *link, b []byte) []byte {
			b[len(b)-1] &= 3
			return b
		}))),
	},
	{
		name: "empty-subscribe", broken: "A SUBSCRIBE without filters is ignored.",
		mqtt5: "3.8.3-2", mqtt311: "3.8.3-3",
		acts: up(func(l *link, b []byte) [][]byte {
			if b[0] == 0x82 && (l.version == packets.V5 && len(b) == 5 || l.version == packets.V311 && len(b) == 4) {
				return nil
			}
			return keep(b)
		}),
	},
	{
		name: "empty-unsubscribe", broken: "An UNSUBSCRIBE without filters is ignored.",
		mqtt5: "3.10.3-2", mqtt311: "3.10.3-2",
		acts: up(func(l *link, b []byte) [][]byte {
			if b[0] == 0xA2 && (l.version == packets.V5 && len(b) == 5 || l.version == packets.V311 && len(b) == 4) {
				return nil
			}
			return keep(b)
		}),
	},
	{
		name: "fifth-subscribe", broken: "The fifth SUBSCRIBE on a connection gets no SUBACK.",
		mqtt5: "3.8.4-1", mqtt311: "3.8.4-1",
		acts: func() acts {
			times := map[*link]int{}
			return acts{fromBroker: edit(func(l *link, _ *packets.Suback) bool {
				times[l]++
				return times[l] != 5
			})}
		},
	},
	{
		name: "fifth-unsubscribe", broken: "The fifth UNSUBSCRIBE on a connection gets no UNSUBACK.",
		mqtt5: "3.10.4-4", mqtt311: "3.10.4-5",
		acts: func() acts {
			times := map[*link]int{}
			return acts{fromBroker: edit(func(l *link, _ *packets.Unsuback) bool {
				times[l]++
				return times[l] != 5
			})}
		},
	},
	{
		name: "first-subscription-stays", broken: "A filter that is there already does not replace its subscription.",
		mqtt5: "3.8.4-3",
		acts: func() acts {
			type key struct {
				l      *link
				filter string
			}
			ids := map[key]uint32{}
			return acts{fromClient: edit(func(l *link, p *packets.Subscribe) bool {
				if s, _, ok := p.Subscriptions.Next(); ok {
					if id := ids[key{l, string(s.Filter)}]; id > 0 {
						p.SubscriptionID = id
					}
					ids[key{l, string(s.Filter)}] = p.SubscriptionID
				}
				return true
			})}
		},
	},
	{
		name: "three-codes-at-most", broken: "SUBACK has three codes at most.",
		mqtt5: "3.8.4-6 3.9.3-1", mqtt311: "3.8.4-5 3.9.3-1",
		acts: down(suback(func(_ *link, p *packets.Suback) { p.Reasons = p.Reasons[:min(3, len(p.Reasons))] })),
	},
	{
		name: "codes-sorted", broken: "The codes of SUBACK are sorted.",
		mqtt5: "3.9.3-1", mqtt311: "3.9.3-1",
		acts: down(suback(func(_ *link, p *packets.Suback) {
			if len(p.Reasons) > 3 {
				slices.Sort(p.Reasons)
			}
		})),
	},
	{
		name: "code-of-what-is-not-allowed", broken: "A subscription that is not allowed has the code 0 in SUBACK.",
		mqtt5: "3.9.3-2",
		acts: down(suback(func(_ *link, p *packets.Suback) {
			if p.Reasons[0] == packets.NotAuthorized {
				p.Reasons[0] = 0
			}
		})),
	},
	{
		name: "code-of-a-failure", broken: "A subscription that fails has the code 0 in the SUBACK of 3.1.1.",
		mqtt311: "3.9.3-2 4.7.1-2 4.7.1-3 4.7.3-1",
		acts: down(suback(func(_ *link, p *packets.Suback) {
			if p.Reasons[0] == packets.UnspecifiedError {
				p.Reasons[0] = 0
			}
		})),
	},
	{
		name: "second-suback", broken: "SUBSCRIBE with three filters gets two SUBACK.",
		mqtt5: "3.8.4-5", mqtt311: "3.8.4-4",
		acts: down(func(l *link, b []byte) [][]byte {
			if p, ok := decode[*packets.Suback](l, b); ok && len(p.Reasons) == 3 && p.Reasons[0] == p.Reasons[2]+1 {
				return [][]byte{b, b}
			}
			return keep(b)
		}),
	},
	{
		name: "unsubscribe-matches", broken: "UNSUBSCRIBE with a plus ends the subscriptions that its filter matches.",
		mqtt5: "3.10.4-1", mqtt311: "3.10.4-1",
		acts: func() acts {
			filters := map[*link][]string{}
			return acts{fromClient: both(edit(func(l *link, p *packets.Subscribe) bool {
				for s := range p.Subscriptions.All() {
					filters[l] = append(filters[l], string(s.Filter))
				}
				return true
			}), edit(func(l *link, p *packets.Unsubscribe) bool {
				var list packets.Filters
				for f := range p.Filters.All() {
					list = list.Append(string(f))
					if before, ok := bytes.CutSuffix(f, []byte("+")); ok {
						for _, known := range filters[l] {
							if bytes.HasPrefix([]byte(known), before) && !bytes.ContainsAny([]byte(known), "+#") {
								list = list.Append(known)
							}
						}
					}
				}
				p.Filters = list
				return true
			}))}
		},
	},
	{
		name: "unsubscribe-the-first-only", broken: "UNSUBSCRIBE ends only the first of its subscriptions.",
		mqtt5: "3.10.4-6 3.11.3-1", mqtt311: "3.10.4-6",
		acts: up(edit(func(_ *link, p *packets.Unsubscribe) bool {
			var list packets.Filters
			for f := range p.Filters.All() {
				if len(list) > 0 {
					f = []byte("nothing")
				}
				list = list.Append(string(f))
			}
			p.Filters = list
			return true
		})),
	},
	{
		name: "no-code-0x11", broken: "UNSUBACK has the code 0 where there was no subscription.",
		mqtt5: "3.10.4-5 3.11.3-1",
		acts:  down(unsuback(func(_ *link, p *packets.Unsuback) { clear(p.Reasons) })),
	},
	{
		name: "codes-of-unsuback-sorted", broken: "The codes of UNSUBACK are sorted.",
		mqtt5: "3.11.3-1",
		acts:  down(unsuback(func(_ *link, p *packets.Unsuback) { slices.Sort(p.Reasons) })),
	},
	{
		name: "two-codes-of-unsuback", broken: "UNSUBACK has two codes at most.",
		mqtt5: "3.11.3-1 3.11.3-2",
		acts:  down(unsuback(func(_ *link, p *packets.Unsuback) { p.Reasons = p.Reasons[:min(2, len(p.Reasons))] })),
	},
	{
		name: "unsubscribe-ends-exchanges", broken: "After UNSUBSCRIBE a PUBREC gets no PUBREL.",
		mqtt5: "3.10.4-3", mqtt311: "3.10.4-3",
		acts: func() acts {
			ended := map[*link]bool{}
			return acts{fromClient: both(edit(func(l *link, p *packets.Unsubscribe) bool {
				ended[l] = true
				return true
			}), edit(func(l *link, _ *packets.Pubrec) bool { return !ended[l] }))}
		},
	},
	{
		name: "one-more-after-unsubscribe", broken: "After UNSUBSCRIBE a QoS 2 message still comes.",
		mqtt5: "3.10.4-2", mqtt311: "3.10.4-2",
		acts: func() acts {
			left := map[string]*link{}
			return acts{fromClient: both(edit(func(l *link, p *packets.Unsubscribe) bool {
				for f := range p.Filters.All() {
					left[string(f)] = l
				}
				return true
			}), publish(func(_ *link, p *packets.Publish) {
				if l := left[string(p.Topic)]; l != nil && p.QoS == packets.ExactlyOnce {
					l.toClient(&packets.Publish{Topic: p.Topic, Payload: p.Payload})
				}
			}))}
		},
	},
	{
		name: "identifiers-of-overlaps", broken: "A message has the first only of several Subscription Identifiers.",
		mqtt5: "3.3.4-3 3.3.4-4",
		acts: down(publish(func(_ *link, p *packets.Publish) {
			p.SubscriptionIDs = p.SubscriptionIDs[:min(1, len(p.SubscriptionIDs))]
		})),
	},
	{
		name: "identifier-of-a-copy", broken: "Where each subscription gets a copy, the second one has the Subscription Identifier of the first.",
		mqtt5: "3.3.4-5",
		acts: func() acts {
			first := map[*link]*packets.Publish{}
			return acts{fromBroker: publish(func(l *link, p *packets.Publish) {
				if old := first[l]; old != nil && bytes.Equal(old.Topic, p.Topic) && bytes.Equal(old.Payload, p.Payload) &&
					len(old.SubscriptionIDs) == 1 && len(p.SubscriptionIDs) == 1 {
					p.SubscriptionIDs[0] = old.SubscriptionIDs[0]
				}
				first[l] = p
			})}
		},
	},
	{
		name: "third-pingreq", broken: "Of three PINGREQ in one piece two are answered.",
		mqtt5: "3.12.4-1",
		acts: up(func(l *link, b []byte) [][]byte {
			if b[0] == 0xC0 && bytes.Equal(l.behind, []byte{0xC0, 0, 0xC0, 0}) {
				return nil
			}
			return keep(b)
		}),
	},
}

var mutationsOfFilters = []mutation{
	{
		name: "hash-in-the-middle", broken: "A hash is taken in the middle of a filter.",
		mqtt5: "4.7.1-1", mqtt311: "4.7.1-2",
		acts: up(replace(packets.TypeSubscribe, "a/#/b", "a/h/b")),
	},
	{
		name: "hash-in-a-level", broken: "A hash is taken behind other characters of its level.",
		mqtt5: "4.7.1-1", mqtt311: "4.7.1-2",
		acts: up(replace(packets.TypeSubscribe, "\x00\x02a#", "\x00\x02ah")),
	},
	{
		name: "plus-in-a-level", broken: "A plus is taken beside other characters of its level.",
		mqtt5: "4.7.1-2", mqtt311: "4.7.1-3",
		acts: up(replace(packets.TypeSubscribe, "a/+b/c", "a/pb/c")),
	},
	{
		name: "empty-filter", broken: "An empty filter is ignored, with a SUBACK.",
		mqtt5: "4.7.3-1", mqtt311: "4.7.3-1",
		acts: up(func(l *link, b []byte) [][]byte {
			if bytes.Equal(b, []byte{0x82, 6, 0, 1, 0, 0, 0, 0}) || bytes.Equal(b, []byte{0x82, 5, 0, 1, 0, 0, 0}) {
				l.toClient(&packets.Suback{PacketID: 1, Reasons: []packets.ReasonCode{packets.GrantedQoS0}})
				return nil
			}
			return keep(b)
		}),
	},
	{
		name: "dollar-topics", broken: "Filters that begin with a wildcard match topics that begin with a dollar sign.",
		mqtt5: "4.7.2-1", mqtt311: "4.7.2-1",
		acts: func() acts {
			all := map[*link]bool{}
			return acts{fromClient: both(edit(func(l *link, p *packets.Subscribe) bool {
				for s := range p.Subscriptions.All() {
					all[l] = all[l] || string(s.Filter) == "#"
				}
				return true
			}), publish(func(_ *link, p *packets.Publish) {
				for l, yes := range all {
					if yes && bytes.HasPrefix(p.Topic, []byte("$")) {
						l.toClient(&packets.Publish{Topic: p.Topic, Payload: p.Payload})
					}
				}
			}))}
		},
	},
	{
		name: "case-folded", broken: "Topics are compared without regard to case.",
		mqtt5: "4.7.3-4", mqtt311: "4.7.3-4",
		acts: up(publish(func(_ *link, p *packets.Publish) { p.Topic = bytes.ToLower(p.Topic) })),
	},
	{
		name: "normalized", broken: "Topics are compared in their composed form.",
		mqtt5: "4.7.3-4", mqtt311: "4.7.3-4",
		acts: up(publish(func(_ *link, p *packets.Publish) {
			p.Topic = bytes.ReplaceAll(p.Topic, []byte("e\u0301"), []byte("\u00E9"))
		})),
	},
	{
		name: "wildcards-that-are-disabled", broken: "A subscription with a wildcard is accepted, though the broker has no wildcards.",
		mqtt311: "3.8.3-2",
		options: func(o *petrel.Options) { o.DisableWildcardSubscriptions = false },
	},
}

var mutationsOfShares = []mutation{
	{
		name: "share-without-a-name", broken: "A shared subscription with an empty ShareName is an ordinary one.",
		mqtt5: "4.8.2-1",
		acts:  up(replace(packets.TypeSubscribe, "$share//a", "$shar///a")),
	},
	{
		name: "share-with-a-wildcard", broken: "A ShareName with a plus is taken.",
		mqtt5: "4.8.2-2",
		acts:  up(replace(packets.TypeSubscribe, "$share/a+b/c", "$share/apb/c")),
	},
	{
		name: "share-at-the-highest-qos", broken: "Every member of a group gets messages with the QoS of the publisher.",
		mqtt5: "4.8.2-3",
		acts: func() acts {
			low := map[*link]bool{}
			return acts{
				fromClient: only(packets.V5, edit(func(l *link, p *packets.Subscribe) bool {
					if s, _, ok := p.Subscriptions.Next(); ok && bytes.HasPrefix(s.Filter, []byte("$share/")) && s.QoS == 0 {
						low[l] = true
					}
					return true
				})),
				fromBroker: publish(func(l *link, p *packets.Publish) {
					if low[l] && p.QoS == 0 {
						p.QoS, p.PacketID = packets.AtLeastOnce, 1
					}
				}),
			}
		},
	},
	{
		name: "share-passed-to-another", broken: "A QoS 2 message of a member that loses its connection goes to another member.",
		mqtt5: "4.8.2-4 4.8.2-5",
		acts: func() acts {
			members, open := map[*link]bool{}, map[*link]*packets.Publish{}
			return acts{
				fromClient: joins(members),
				fromBroker: publish(func(l *link, p *packets.Publish) {
					if members[l] && p.QoS == packets.ExactlyOnce {
						open[l] = p
					}
				}),
				gone: func(l *link) { passOn(l, members, open[l]) },
			}
		},
	},
	{
		name: "share-refused-by-one", broken: "A message that a member refuses goes to another member.",
		mqtt5: "4.8.2-6",
		acts: func() acts {
			members := map[*link]bool{}
			return acts{fromClient: both(joins(members), edit(func(l *link, p *packets.Pubrec) bool {
				if p.Reason.IsError() && members[l] {
					passOn(l, members, &packets.Publish{Topic: []byte("a"), QoS: packets.ExactlyOnce, PacketID: 1})
				}
				return true
			}))}
		},
	},
}

// joins remembers who has a shared subscription.
func joins(members map[*link]bool) act {
	return only(packets.V5, edit(func(l *link, p *packets.Subscribe) bool {
		if s, _, ok := p.Subscriptions.Next(); ok && bytes.HasPrefix(s.Filter, []byte("$share/")) {
			members[l] = true
		}
		return true
	}))
}

// passOn sends a message to another member of the group.
func passOn(l *link, members map[*link]bool, p *packets.Publish) {
	for _, other := range l.links {
		if other != l && members[other] && !other.isClosed && p != nil {
			other.toClient(p)
			return
		}
	}
}
