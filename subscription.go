package petrel

import (
	"errors"
	"fmt"

	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/topics"
)

// subscription is what the tree keeps for one filter of one session. It is
// immutable but for owed: another SUBSCRIBE for the same filter replaces it.
type subscription struct {
	session  *session
	filter   string   // as the client wrote it, "$share/NAME/" included
	ids      []uint32 // the Subscription Identifier, or nothing
	qos      QoS
	handling byte // Retain Handling
	shared   bool
	noLocal  bool
	asIs     bool // Retain As Published
	check    bool // each delivery has to be authorised

	owed *replay // what it has not been sent yet; guarded by session.mu
}

type entry = topics.Entry[subscription]

func (s *subscription) public() Subscription {
	p := Subscription{Filter: s.filter, QoS: s.qos, NoLocal: s.noLocal, RetainAsPublished: s.asIs, RetainHandling: s.handling}
	if len(s.ids) > 0 {
		p.Identifier = s.ids[0]
	}
	return p
}

// setFrom makes s what a hook made of it.
func (s *subscription) setFrom(p *Subscription, o *Options) error {
	if err := topics.CheckFilter(p.Filter, o.MaximumTopicLevels); err != nil {
		return err
	}
	_, _, shared := topics.SplitShared(p.Filter)
	switch {
	case !validText(p.Filter):
		return errors.New("petrel: the filter is not UTF-8")
	case p.QoS > o.maximumQoS():
		return fmt.Errorf("petrel: %v is not available", p.QoS)
	case p.RetainHandling > 2:
		return fmt.Errorf("petrel: Retain Handling %d", p.RetainHandling)
	case shared && p.NoLocal:
		return errors.New("petrel: No Local on a shared subscription")
	case p.Identifier > packets.MaxRemaining:
		return fmt.Errorf("petrel: Subscription Identifier %d", p.Identifier)
	}
	s.filter, s.shared, s.qos, s.handling = p.Filter, shared, p.QoS, p.RetainHandling
	s.noLocal, s.asIs, s.ids = p.NoLocal, p.RetainAsPublished, nil
	if p.Identifier != 0 {
		s.ids = []uint32{p.Identifier}
	}
	return nil
}

// subscriptionSet holds the subscriptions of a session by filter. Few of them,
// as most clients have, cost a short slice and no map.
type subscriptionSet struct {
	list  []*entry
	index map[string]int // place in list; nil while the list is short
}

const indexFrom = 16

func (s *subscriptionSet) place(filter string) int {
	if s.index != nil {
		if i, ok := s.index[filter]; ok {
			return i
		}
		return -1
	}
	for i, e := range s.list {
		if e.Value.filter == filter {
			return i
		}
	}
	return -1
}

// get returns the subscription for the filter, nil if there is none.
func (s *subscriptionSet) get(filter string) *entry {
	if i := s.place(filter); i >= 0 {
		return s.list[i]
	}
	return nil
}

// put adds e, or lets it replace the subscription with its filter, which is returned.
func (s *subscriptionSet) put(e *entry) (old *entry) {
	if i := s.place(e.Value.filter); i >= 0 {
		old, s.list[i] = s.list[i], e
		return old
	}
	s.list = append(s.list, e)
	if s.index != nil {
		s.index[e.Value.filter] = len(s.list) - 1
	} else if len(s.list) > indexFrom {
		s.index = make(map[string]int, len(s.list))
		for i, e := range s.list {
			s.index[e.Value.filter] = i
		}
	}
	return nil
}

// remove takes out and returns the subscription with the filter.
func (s *subscriptionSet) remove(filter string) *entry {
	i := s.place(filter)
	if i < 0 {
		return nil
	}
	e, last := s.list[i], len(s.list)-1
	s.list[i] = s.list[last]
	s.list[last] = nil
	s.list = s.list[:last]
	if s.index != nil {
		delete(s.index, filter)
		if i != last {
			s.index[s.list[i].Value.filter] = i
		}
	}
	if len(s.list) == 0 {
		s.list, s.index = nil, nil
	}
	return e
}
