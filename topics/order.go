package topics

import "strings"

// The index of retained values orders topics by their bytes, but with '/'
// before all others. So a topic is followed at once by everything below it,
// and topics are ordered level by level. U+0000 does not occur in topics.

// rank is the place of a byte in the order.
func rank(b byte) int {
	if b == '/' {
		return 0
	}
	return int(b)
}

// compare returns the order of a and b: less than, equal to or greater than zero.
func compare(a, b string) int {
	n := commonPrefix(a, b)
	if n < len(a) && n < len(b) {
		return rank(a[n]) - rank(b[n])
	}
	return len(a) - len(b)
}

// commonPrefix returns the number of bytes that a and b have in common at the
// beginning.
func commonPrefix(a, b string) int {
	const stride = 8
	n := min(len(a), len(b))
	i := 0
	for i+stride <= n && a[i:i+stride] == b[i:i+stride] {
		i += stride
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// bound is a place in the order, to the left of the topic that it spells. It
// comes in two pieces so that moving about allocates nothing.
type bound struct{ head, tail string }

// behind spells what follows a topic and all topics below it, when appended to
// the topic: no level can begin with less.
const behind = "\x01"

// below reports whether topic stands to the left of b.
func (b bound) below(topic string) bool {
	n := commonPrefix(topic, b.head)
	switch {
	case n < len(b.head) && n < len(topic):
		return rank(topic[n]) < rank(b.head[n])
	case n < len(b.head):
		return true
	}
	return compare(topic[n:], b.tail) < 0
}

// verdict is what a filter says about a topic.
type verdict int

const (
	matches verdict = iota // it matches
	skips                  // it does not; the next that could is at a bound further on
	ends                   // it does not, nor does any that follows
)

// judge holds topic against filter. With skips it returns the place before
// which no further topic can match.
func judge(filter, topic string) (verdict, bound) {
	if beginsWild(filter) && strings.HasPrefix(topic, "$") {
		return skips, bound{tail: "%"} // what comes after '$'
	}
	past := -1 // end of the last level of topic that a '+' matched
	f, n := 0, 0
	for {
		// Both stand at the beginning of a level, and match so far.
		fEnd, nEnd := levelEnd(filter, f), levelEnd(topic, n)
		switch level := filter[f:fEnd]; {
		case level == "#":
			return matches, bound{}
		case level == "+":
			past = nEnd
		default:
			c := compare(topic[n:nEnd], level)
			if c < 0 {
				return skips, bound{topic[:n], literals(filter[f:])}
			}
			if c > 0 {
				return exhausted(topic, past)
			}
		}
		switch {
		case nEnd == len(topic) && (fEnd == len(filter) || endsDeep(filter, fEnd)):
			return matches, bound{}
		case nEnd == len(topic):
			return skips, bound{topic, literals(filter[fEnd:])}
		case fEnd == len(filter):
			return exhausted(topic, past)
		}
		f, n = fEnd+1, nEnd+1
	}
}

// exhausted says where to go on when nothing more can match under the level
// that ends at past.
func exhausted(topic string, past int) (verdict, bound) {
	if past < 0 {
		return ends, bound{}
	}
	return skips, bound{topic[:past], behind}
}

// literals returns what every topic that filter matches begins with. Of "a/#"
// that is "a", which it matches too.
func literals(filter string) string {
	if n := len(filter) - len("/#"); n >= 0 && endsDeep(filter, n) {
		filter = filter[:n]
	}
	if i := strings.IndexAny(filter, "+#"); i >= 0 {
		return filter[:i]
	}
	return filter
}
