package petrel

import (
	"errors"
	"fmt"
	"slices"

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

// subscriptionSet holds the subscriptions of a session by filter. One, as most
// clients have, costs nothing but the pointer to it.
type subscriptionSet struct {
	only [1]*entry // unless there are more
	more *subscriptionList
}

// subscriptionList holds more than one subscription. A few cost a short slice and no map.
type subscriptionList struct {
	list  []*entry
	index map[string]int // place in list; nil while the list is short
}

const indexFrom = 16

// all returns the subscriptions. The slice is valid until the set is changed.
func (s *subscriptionSet) all() []*entry {
	switch {
	case s.more != nil:
		return s.more.list
	case s.only[0] != nil:
		return s.only[:]
	}
	return nil
}

func (s *subscriptionSet) place(filter string) int {
	if s.more != nil && s.more.index != nil {
		if i, ok := s.more.index[filter]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(s.all(), func(e *entry) bool { return e.Value.filter == filter })
}

// get returns the subscription for the filter, nil if there is none.
func (s *subscriptionSet) get(filter string) *entry {
	if i := s.place(filter); i >= 0 {
		return s.all()[i]
	}
	return nil
}

// put adds e, or lets it replace the subscription with its filter, which is returned.
func (s *subscriptionSet) put(e *entry) (old *entry) {
	all := s.all()
	if i := s.place(e.Value.filter); i >= 0 {
		old, all[i] = all[i], e
		return old
	}
	switch {
	case s.more != nil:
		s.more.add(e)
	case len(all) == 0:
		s.only[0] = e
	default:
		s.only, s.more = [1]*entry{}, &subscriptionList{list: []*entry{all[0], e}}
	}
	return nil
}

func (l *subscriptionList) add(e *entry) {
	l.list = append(l.list, e)
	if l.index != nil {
		l.index[e.Value.filter] = len(l.list) - 1
	} else if len(l.list) > indexFrom {
		l.index = make(map[string]int, len(l.list))
		for i, e := range l.list {
			l.index[e.Value.filter] = i
		}
	}
}

// remove takes out and returns the subscription with the filter.
func (s *subscriptionSet) remove(filter string) *entry {
	i := s.place(filter)
	if i < 0 {
		return nil
	}
	e := s.all()[i]
	if s.more == nil {
		s.only[0] = nil
		return e
	}
	if s.more.remove(i); len(s.more.list) == 1 {
		s.only[0], s.more = s.more.list[0], nil
	}
	return e
}

func (l *subscriptionList) remove(i int) {
	removed, last := l.list[i], len(l.list)-1
	l.list[i] = l.list[last]
	l.list[last] = nil
	l.list = l.list[:last]
	if l.index != nil {
		delete(l.index, removed.Value.filter)
		if i != last {
			l.index[l.list[i].Value.filter] = i
		}
	}
}
