package hostile

import (
	"strings"

	"github.com/petrelmq/petrel/packets"
)

// tight is the Maximum Packet Size of the clients that have one. Every packet with a
// short payload fits, and of those with a long one some do.
const tight = 64

// longest is the size of the Subscription Identifiers of a message that matches all
// the filters that it can.
const longest = 6 * 3

// padding makes of some payloads long ones.
func (w *world) padding() string {
	if !w.choices.one(3) || w.o.small() {
		return ""
	}
	return strings.Repeat("x", 20+w.choices.pick(35))
}

// isLong reports whether it may be too large for some clients.
func (n *note) isLong() bool { return len(n.payload) > 10 }

// sizes are the least and the most bytes of the packet that d is sent as: how large
// it is depends on the topic aliases there are, and on which of several subscriptions
// a copy came by, where the client cannot tell.
func (p *peer) sizes(d *due) (least, most int) {
	m := packets.Publish{Topic: []byte(d.topic), Payload: []byte(d.payload), QoS: d.qos, PacketID: 1, SubscriptionIDs: d.ids}
	m.HasMessageExpiry = !d.expires.IsZero()
	vague := d.unsure || d.again && (d.group != nil || d.replay != "")
	if vague {
		m.SubscriptionIDs = nil
	}
	most = len(encode(&m))
	if least = most; p.aliases {
		m.Topic, m.HasTopicAlias, m.TopicAlias = nil, true, 1
		least = min(least, len(encode(&m)))
	}
	if vague {
		most += longest
	}
	return least, most
}

// takes reports whether the client takes the packet that d is, for sure.
func (p *peer) takes(d *due) bool {
	_, most := p.sizes(d)
	return p.most == 0 || most <= p.most
}

// neverTakes reports whether no form of it is small enough.
func (p *peer) neverTakes(d *due) bool {
	least, _ := p.sizes(d)
	return p.most != 0 && least > p.most
}

// discard drops what waits and is too large for the client, as if it had been sent and
// acknowledged (section 3.1.2.11.4). Whether that has happened yet cannot be told while
// the client takes no more.
func (w *world) discard(p *peer) {
	var left []*due
	for _, d := range p.owner.dues {
		switch {
		case d.stage != waiting || p.takes(d):
		case d.again && d.qos == packets.ExactlyOnce: // the client has to be told that it is not sent again
		case p.owner.room() > 0 && p.neverTakes(d):
			if d.group != nil {
				d.group.leave(d)
			}
			continue
		default:
			d.optional = true
		}
		left = append(left, d)
	}
	p.owner.dues = left
}
