package conformance_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// Rules without a number about strings, topics and filters.

func init() {
	rule("text-1", "", func(t *T) {
		refused, passed := 0, 0
		for _, char := range "\x01\x1F\x7F\u0080\u009F\uFDD0\uFDEF\uFFFE\uFFFF\U0001FFFF\U0010FFFF" {
			topic := t.Unique("t") + string(char)
			c := t.Client()
			c.Send(&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(subscription(topic, 0))})
			if p, ok := c.Next(); !ok || p.Type() != packets.TypeSuback || p.(*packets.Suback).Reasons[0] != 0 {
				refused++
				continue
			}
			c.Send(&packets.Publish{Topic: []byte(topic)})
			c.ExpectPublish(topic, "")
			passed++
		}
		t.Saw("%d refused, %d passed on", refused, passed)
	})
	rule("text-2", "", func(t *T) {
		topic := t.Unique("t")
		topic += strings.Repeat("x", 65535-len(topic))
		c := t.Client()
		c.Subscribe(0, topic)
		c.Send(&packets.Publish{Topic: []byte(topic)})
		c.ExpectPublish(topic, "")
	})
	rule("topics-1", "", func(t *T) {
		root := t.Unique("t")
		c := t.Client()
		c.Subscribe(0, root+"/a b/C ")
		for _, topic := range []string{"/a b/c ", "/A b/C ", "/a b/C", "/ab/C ", "/a b/C "} {
			c.Send(&packets.Publish{Topic: []byte(root + topic), Payload: []byte(topic)})
		}
		c.ExpectPublish(root+"/a b/C ", "/a b/C ")
		c.ExpectNothing()
	})
	for _, filter := range []string{"/", "+/+"} {
		rule("topics-1", "a lone slash matches "+strings.ReplaceAll(filter, "/", "|"), func(t *T) {
			c, payload := t.Client(), t.Unique("x")
			among(t, c, filter)
			c.Send(&packets.Publish{Topic: []byte("/"), Payload: []byte(payload)})
			if !slices.ContainsFunc(until(c), func(p *packets.Publish) bool { return string(p.Topic) == "/" && string(p.Payload) == payload }) {
				t.Fatal("it did not come")
			}
		})
	}
	rule("topics-2", "", func(t *T) { among(t, t.Client(), "#", "+", "+/+", "a/#", "/+", "a//#") })
	rule("topics-3", "", func(t *T) {
		if *targetFlag == "" {
			t.With(petrel.Options{SysInterval: 100 * time.Millisecond})
		}
		c := t.Client()
		c.Subscribe(0, "$SYS/#")
		if p := brokertest.Expect[*packets.Publish](c); !strings.HasPrefix(string(p.Topic), "$SYS/") {
			t.Fatalf("got %q", p.Topic)
		}
	})
	for qos := packets.AtMostOnce; qos <= packets.ExactlyOnce; qos++ {
		rule("topics-4", qos.String(), func(t *T) {
			topic := "$SYS/" + t.Unique("t")
			watch, c := t.Client(), t.Client()
			watch.Subscribe(0, topic)
			p := packets.Publish{Topic: []byte(topic), QoS: qos, Retain: true}
			if qos > 0 {
				p.PacketID = 1
			}
			c.Send(&p, &packets.Pingreq{})
			t.sawNext(c)
			watch.ExpectNothing()
		})
	}
	rule("topics-5", "", func(t *T) {
		topic := t.Unique("t")
		sub, pub := t.Client(), t.Client()
		sub.Subscribe(0, "$share/g//"+topic)
		pub.Publish(topic, "without", 1)
		pub.Publish("/"+topic, "with", 1)
		sub.ExpectPublish("/"+topic, "with")
	})
	matching()
}

// sawNext says what the broker answers.
func (t *T) sawNext(c *brokertest.Client) {
	t.Helper()
	p, ok := c.Next()
	if !ok {
		t.Saw("a plain close")
		return
	}
	switch p := p.(type) {
	case *packets.Puback:
		t.Saw("PUBACK 0x%02X", byte(p.Reason))
	case *packets.Pubrec:
		t.Saw("PUBREC 0x%02X", byte(p.Reason))
	case *packets.Disconnect:
		t.Saw("DISCONNECT 0x%02X", byte(p.Reason))
	case *packets.Pingresp:
		t.Saw("no answer")
	default:
		t.Saw("%v", p.Type())
	}
}

// matching are the traps of matching a topic against a filter.
func matching() {
	for _, m := range []struct {
		id, filter  string
		topics, not []string
	}{
		{"trap-publish-22", "R/#", []string{"R", "R/", "R/b", "R/b/c"}, []string{"Rb", "/R", "r"}},
		{"trap-publish-23", "R/+", []string{"R/", "R/b"}, []string{"R", "R/b/c", "R//", "/R/b"}},
		{"trap-publish-23", "/R/+/c", []string{"/R//c", "/R/b/c"}, []string{"/R/c", "R/b/c"}},
		{"trap-publish-24", "/R", []string{"/R"}, []string{"R", "/R/", "//R"}},
		{"trap-publish-24", "R", []string{"R"}, []string{"/R", "R/"}},
		{"trap-publish-25", "R/+/b", []string{"R//b", "R/a/b"}, []string{"R/b"}},
		{"trap-publish-25", "R//b", []string{"R//b"}, []string{"R/b", "R///b"}},
	} {
		rule(m.id, fmt.Sprint("filter ", strings.ReplaceAll(m.filter, "/", "|")), func(t *T) {
			root := t.Unique("t")
			at := func(s string) string { return strings.ReplaceAll(s, "R", root) }
			c, pub := t.Client(), t.Client()
			c.Subscribe(0, at(m.filter))
			for _, topic := range slices.Concat(m.not, m.topics) {
				pub.Publish(at(topic), topic, 1)
			}
			for _, topic := range m.topics {
				c.ExpectPublish(at(topic), topic)
			}
			c.ExpectNothing()
		})
	}
}
