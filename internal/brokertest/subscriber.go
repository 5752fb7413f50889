package brokertest

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/petrelmq/petrel/packets"
)

// Subscriber subscribes once, and takes what comes.
type Subscriber struct {
	lasting
	filter     string
	qos        packets.QoS
	subscribed chan struct{}
	granted    bool
	ids        map[uint16]bool // QoS 2 messages that were received and not released

	state struct {
		sync.Mutex
		last  map[string]int // by topic
		twice int            // QoS 1 messages that came again
	}
}

// Subscriber adds a client with a filter. Each of the topics below it must be
// that of one Publisher, which begins after the subscription.
func (l *Ledger) Subscriber(name, filter string, qos packets.QoS) *Subscriber {
	s := &Subscriber{filter: filter, qos: qos, subscribed: make(chan struct{}), ids: make(map[uint16]bool)}
	s.ledger = l
	s.connect = Durable(name)
	s.connect.ReceiveMaximum = 20
	s.state.last = make(map[string]int)
	s.live(s.talk)
	return s
}

// Subscribed is closed when the subscription is confirmed.
func (s *Subscriber) Subscribed() <-chan struct{} { return s.subscribed }

// Last returns the last number that came on a topic.
func (s *Subscriber) Last(topic string) int {
	s.state.Lock()
	defer s.state.Unlock()
	return s.state.last[topic]
}

// Repeated returns how many QoS 1 messages came again.
func (s *Subscriber) Repeated() int {
	s.state.Lock()
	defer s.state.Unlock()
	return s.state.twice
}

func (s *Subscriber) talk(present bool) error {
	if !present {
		clear(s.ids)
	}
	if !s.granted {
		err := s.send(&packets.Subscribe{PacketID: 1, Subscriptions: packets.Subscriptions(nil).Append(packets.Subscription{
			Filter: []byte(s.filter), QoS: s.qos, RetainHandling: 2,
		})})
		if err != nil {
			return err
		}
	}
	for {
		packet, err := s.receive()
		if err != nil {
			return err
		}
		if err := s.handle(packet); err != nil {
			return err
		}
	}
}

func (s *Subscriber) handle(packet packets.Packet) error {
	switch p := packet.(type) {
	case *packets.Suback:
		if !s.granted {
			s.granted = true
			close(s.subscribed)
		}
	case *packets.Publish:
		switch p.QoS {
		case packets.AtLeastOnce:
			s.take(p)
			return s.send(&packets.Puback{PacketID: p.PacketID})
		case packets.ExactlyOnce:
			if !s.ids[p.PacketID] {
				s.ids[p.PacketID] = true
				s.take(p)
			}
			return s.send(&packets.Pubrec{PacketID: p.PacketID})
		}
	case *packets.Pubrel:
		delete(s.ids, p.PacketID)
		return s.send(&packets.Pubcomp{PacketID: p.PacketID})
	case *packets.Disconnect:
		return fmt.Errorf("disconnected: %v", p.Reason)
	}
	return nil
}

// take compares a message with what has to come.
func (s *Subscriber) take(p *packets.Publish) {
	topic := string(p.Topic)
	n, err := strconv.Atoi(strings.TrimSpace(string(p.Payload)))
	if err != nil {
		s.ledger.complain("%s: %q on %s", s.connect.ClientID, p.Payload, topic)
		return
	}
	s.state.Lock()
	last := s.state.last[topic]
	switch {
	case n == last+1:
		s.state.last[topic] = n
	case n <= last && p.QoS == packets.AtLeastOnce:
		s.state.twice++
	}
	s.state.Unlock()
	switch {
	case n > last+1:
		s.ledger.complain("%s: %s: %d after %d: lost or out of order", s.connect.ClientID, topic, n, last)
		s.state.Lock()
		s.state.last[topic] = n
		s.state.Unlock()
	case n <= last && p.QoS == packets.ExactlyOnce:
		s.ledger.complain("%s: %s: QoS 2 message %d came again, after %d", s.connect.ClientID, topic, n, last)
	}
}
