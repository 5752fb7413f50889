package petrel

import (
	"github.com/petrelmq/petrel/topics"
)

// subscription is what the tree keeps for one filter of one session. It is
// immutable: another SUBSCRIBE for the same filter replaces it.
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
}

type entry = topics.Entry[subscription]

func (s *subscription) public() Subscription {
	p := Subscription{Filter: s.filter, QoS: s.qos, NoLocal: s.noLocal, RetainAsPublished: s.asIs, RetainHandling: s.handling}
	if len(s.ids) > 0 {
		p.Identifier = s.ids[0]
	}
	return p
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
