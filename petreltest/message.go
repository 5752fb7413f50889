package petreltest

import (
	"context"
	"fmt"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/topics"
)

// Message is a message that the broker took. Its PublisherID is empty if the
// test itself published it.
type Message struct{ petrel.Message }

// String returns the payload.
func (m Message) String() string { return string(m.Payload) }

// describe tells all of a message that helps to find out why it is not the one
// that a test waits for.
func (m Message) describe() string {
	payload := fmt.Sprintf("%q", m.Payload)
	if most := 200; len(m.Payload) > most {
		payload = fmt.Sprintf("%q... (%d bytes)", m.Payload[:most], len(m.Payload))
	}
	from := "the test"
	if m.PublisherID != "" {
		from = fmt.Sprintf("%q", m.PublisherID)
	}
	retained := ""
	if m.Retain {
		retained = ", retained"
	}
	return fmt.Sprintf("%s %s (from %s, QoS %d%s)", m.Topic, payload, from, m.QoS, retained)
}

// Publish publishes to the clients that have subscribed to topic. It waits until
// there is one, see [Broker.WaitForSubscriber], so it may be called while the
// program under test is still starting, or connecting again. It publishes with
// QoS 2, so that each client gets the message with the QoS that it asked for.
func (b *Broker) Publish(topic, payload string) {
	b.t.Helper()
	b.WaitForSubscriber(topic)
	b.PublishMessage(petrel.Message{Topic: topic, Payload: []byte(payload), QoS: petrel.ExactlyOnce})
}

// PublishMessage publishes any message, at once, whether somebody has subscribed
// to its topic or not. It fails the test if the message is not valid.
func (b *Broker) PublishMessage(m petrel.Message) {
	b.t.Helper()
	taken := b.watch.record(m) // before an answer to it can be
	if err := b.Broker().Publish(context.Background(), m); err != nil {
		b.watch.forget(taken)
		b.t.Fatal(err)
	}
}

// WaitForSubscriber waits until the session of a client, connected or not, has a
// subscription that topic matches. It fails the test after 5 seconds, and lists
// the subscriptions that there are. Subscriptions made with the Subscribe method
// of [Broker.Broker] do not count.
func (b *Broker) WaitForSubscriber(topic string) {
	b.t.Helper()
	if err := topics.CheckName(topic, 0); err != nil {
		b.t.Fatalf("petreltest: topic %q: %v", topic, err)
	}
	subscribed := func() bool {
		for filter := range b.watch.subscriptions(b.Broker()) {
			_, inner, _ := topics.SplitShared(filter)
			if topics.Match(inner, topic) {
				return true
			}
		}
		return false
	}
	if b.watch.await(subscribed) {
		return
	}
	var s strings.Builder
	for filter, client := range b.watch.subscriptions(b.Broker()) {
		fmt.Fprintf(&s, "\n\t%s (of %q)", filter, client)
	}
	b.t.Fatalf("petreltest: nobody has subscribed to %q within %v; subscriptions: %s", topic, patience, orNone(&s))
}

// WaitFor returns the first message whose topic matches filter and that it has
// not returned before. It waits for one, and fails the test after 5 seconds,
// listing what did arrive.
//
// All messages count that the broker took since [Start], whether somebody
// has subscribed to them or not, those that WaitFor came too late to see
// included: those of clients, with their wills, and those of [Broker.Publish]
// and [Broker.PublishMessage]; not those of the host's own, which are published
// with the Publish method of [Broker.Broker], or by a hook.
func (b *Broker) WaitFor(filter string) Message {
	b.t.Helper()
	b.checkFilter(filter)
	var m Message
	found := b.watch.await(func() (ok bool) {
		m, ok = b.watch.take(filter)
		return ok
	})
	if found {
		return m
	}
	var s strings.Builder
	for m, returned := range b.watch.messages {
		fmt.Fprintf(&s, "\n\t%s", m.describe())
		if returned {
			s.WriteString(" that WaitFor has returned already")
		}
	}
	b.t.Fatalf("petreltest: no message on %q within %v; messages that arrived: %s", filter, patience, orNone(&s))
	return Message{}
}

// Messages returns all messages so far whose topics match filter, in the order
// in which they came, those that [Broker.WaitFor] has returned included. What is
// still on its way has to be waited for first.
func (b *Broker) Messages(filter string) []Message {
	b.t.Helper()
	b.checkFilter(filter)
	var list []Message
	for m := range b.watch.messages {
		if topics.Match(filter, m.Topic) {
			list = append(list, m)
		}
	}
	return list
}

func (b *Broker) checkFilter(filter string) {
	b.t.Helper()
	if err := topics.CheckFilter(filter, 0); err != nil {
		b.t.Fatalf("petreltest: filter %q: %v", filter, err)
	}
	if _, _, shared := topics.SplitShared(filter); shared {
		b.t.Fatalf("petreltest: filter %q is one of a shared subscription", filter)
	}
}

func orNone(s *strings.Builder) string {
	if s.Len() == 0 {
		return "none"
	}
	return s.String()
}
