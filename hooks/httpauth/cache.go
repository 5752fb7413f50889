package httpauth

import (
	"container/list"
	"sync/atomic"
	"time"
)

// table has the verdicts that were used last, by the keys of their questions.
type table struct {
	most  int
	order *list.List // of *entry, the one that was used last in front
	byKey map[key]*list.Element
}

type entry struct {
	key     key
	verdict *verdict
}

func newTable(most int) *table {
	return &table{most: most, order: list.New(), byKey: make(map[key]*list.Element)}
}

// get returns the verdict for a question, nil if there is none that may be used.
func (t *table) get(k key, now time.Time) *verdict {
	at := t.byKey[k]
	if at == nil {
		return nil
	}
	v := at.Value.(*entry).verdict
	if !now.Before(v.until) {
		t.remove(at)
		return nil
	}
	t.order.MoveToFront(at)
	return v
}

// put keeps a verdict, in place of the one that was used least.
func (t *table) put(k key, v *verdict) {
	if at := t.byKey[k]; at != nil {
		t.remove(at)
	}
	if t.most <= 0 {
		return
	}
	if len(t.byKey) >= t.most {
		t.remove(t.order.Back())
	}
	t.byKey[k] = t.order.PushFront(&entry{k, v})
}

func (t *table) remove(at *list.Element) {
	delete(t.byKey, at.Value.(*entry).key)
	t.order.Remove(at)
}

// ledger knows which answers are void because they were forgotten. Time is the
// number of calls of Forget.
type ledger struct {
	now   atomic.Uint64     // written under Service.mu
	floor uint64            // what was asked before is void, whomever it is about
	of    map[string]uint64 // by identity: likewise, about it
}

// mostForgotten is how many identities are told apart. With more, all is forgotten:
// that costs questions, and lets nothing pass that should not.
const mostForgotten = 10_000

func (l *ledger) forget(identity string) {
	if _, known := l.of[identity]; !known && len(l.of) >= mostForgotten {
		l.forgetAll()
		return
	}
	l.of[identity] = l.now.Add(1)
}

func (l *ledger) forgetAll() {
	l.floor = l.now.Add(1)
	clear(l.of)
}

// void reports whether an answer about somebody of these names was forgotten.
func (l *ledger) void(asked uint64, names ...string) bool {
	if asked < l.floor {
		return true
	}
	for _, name := range names {
		if asked < l.of[name] {
			return true
		}
	}
	return false
}
