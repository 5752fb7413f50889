package auth

import (
	"errors"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/topics"
)

// acl is what an ACL file says. It never changes.
type acl struct {
	anonymous rights
	users     map[string]*rights
	patterns  rights // of everybody
	nothing   rights // of users who are not there
	rules     int
}

// rights are rules by what they say. One that allows both to read and to write
// is there twice.
type rights struct{ denied, readable, writable []rule }

// access is what a rule allows; one that allows nothing denies.
type access byte

const (
	read access = 1 << iota
	write
	deny access = 0
)

func (r *rights) add(a access, to rule) {
	if a == deny {
		r.denied = append(r.denied, to)
	}
	if a&read != 0 {
		r.readable = append(r.readable, to)
	}
	if a&write != 0 {
		r.writable = append(r.writable, to)
	}
}

// subject is the client that rules are applied to.
type subject struct{ id, identity string }

// rule is the filter of a rule: text, variable, text, and so on.
type rule struct {
	text      []string // one more than there are variables
	variables []byte   // 'c' and 'u'
}

// filter appends the filter that the rule has for the client. There is none
// if a variable would have no value, one that is more than a level or one that
// has a wildcard; nor if the client would choose that the filter begins with
// '$', which a wildcard in that place would not match either.
func (r *rule) filter(dst []byte, s subject) ([]byte, bool) {
	for i, variable := range r.variables {
		value := s.id
		if variable == 'u' {
			value = s.identity
		}
		if value == "" || strings.ContainsAny(value, "+#/") {
			return nil, false
		}
		dst = append(append(dst, r.text[i]...), value...)
	}
	dst = append(dst, r.text[len(r.variables)]...)
	return dst, dst[0] != '$' || r.text[0] != ""
}

func (r *rule) matches(s subject, topic string) bool {
	if len(r.variables) == 0 {
		return topics.Match(r.text[0], topic)
	}
	var room [128]byte
	filter, ok := r.filter(room[:0], s)
	return ok && topics.Match(filter, topic)
}

func match(rules []rule, s subject, topic string) bool {
	for i := range rules {
		if rules[i].matches(s, topic) {
			return true
		}
	}
	return false
}

// of returns the two sets of rules that apply to the client.
func (a *acl) of(s subject) (own, common *rights) {
	if s.identity == "" {
		return &a.anonymous, &a.patterns
	}
	if r := a.users[s.identity]; r != nil {
		return r, &a.patterns
	}
	return &a.nothing, &a.patterns
}

// decide answers r for the client.
func (a *acl) decide(s subject, r *petrel.AccessRequest) error {
	own, common := a.of(s)
	allowed := false
	switch r.Action {
	case petrel.Publish:
		allowed = match(own.writable, s, r.Topic) || match(common.writable, s, r.Topic)
	case petrel.Receive:
		allowed = match(own.readable, s, r.Topic) || match(common.readable, s, r.Topic)
	case petrel.Subscribe:
		return a.subscribe(s, r)
	}
	if !allowed || match(own.denied, s, r.Topic) || match(common.denied, s, r.Topic) {
		return packets.NotAuthorized
	}
	return nil
}

// subscribe allows what can have deliveries, and says whether they have to be
// checked one by one.
func (a *acl) subscribe(s subject, r *petrel.AccessRequest) error {
	own, common := a.of(s)
	denied := cover(own.denied, s, r.Topic).or(cover(common.denied, s, r.Topic))
	allowed := cover(own.readable, s, r.Topic).or(cover(common.readable, s, r.Topic))
	switch {
	case denied.all || !allowed.some:
		return packets.NotAuthorized
	case denied.some || !allowed.all:
		r.CheckDeliveries = true
	}
	return nil
}

// coverage says how much of what a filter matches is matched by rules.
type coverage struct {
	some bool // there is a topic that a rule matches
	all  bool // one rule matches every topic
}

func (c coverage) or(d coverage) coverage { return coverage{c.some || d.some, c.all || d.all} }

func cover(rules []rule, s subject, filter string) (c coverage) {
	for i := range rules {
		if by, ok := rules[i].filter(nil, s); ok {
			c = c.or(coverage{overlap(filter, string(by)), inside(filter, string(by))})
		}
	}
	return c
}

func parseACL(path string, text []byte) (*acl, error) {
	a := &acl{users: make(map[string]*rights)}
	section := &a.anonymous
	err := eachLine(path, text, func(_ int, line string) error {
		keyword, rest := cutWord(line)
		switch keyword {
		case "user":
			if rest == "" {
				return errors.New("the user name is missing")
			}
			if a.users[rest] == nil {
				a.users[rest] = new(rights)
			}
			section = a.users[rest]
			return nil
		case "topic":
			return a.add(section, rest, fixed)
		case "pattern":
			return a.add(&a.patterns, rest, variable)
		}
		return errors.New(`the line begins with none of "user", "topic" and "pattern"`)
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

var errSharedRule = errors.New("a shared subscription has the rights of the filter in it, and none of its own")

// add adds what follows the keyword of a rule to the rights.
func (a *acl) add(to *rights, text string, compile func(filter string) rule) error {
	word, filter := cutWord(text)
	what, named := accessOf(word)
	switch {
	case filter == "" && (named || word == ""):
		return errors.New("the filter is missing")
	case filter == "":
		what, filter = read|write, word
	case !named:
		return errors.New(`the access is none of "read", "write", "readwrite" and "deny"; without one the filter cannot have spaces`)
	}
	if err := topics.CheckFilter(filter, 0); err != nil {
		return err
	}
	if _, _, shared := topics.SplitShared(filter); shared {
		return errSharedRule
	}
	to.add(what, compile(filter))
	a.rules++
	return nil
}

func accessOf(word string) (a access, ok bool) {
	switch word {
	case "read":
		return read, true
	case "write":
		return write, true
	case "readwrite":
		return read | write, true
	}
	return deny, word == "deny"
}

// fixed makes the rule of a topic line, in which %c and %u are plain text.
func fixed(filter string) rule { return rule{text: []string{filter}} }

// variable makes the rule of a pattern line.
func variable(filter string) rule {
	var r rule
	start := 0
	for i := 1; i < len(filter); i++ {
		if filter[i-1] == '%' && (filter[i] == 'c' || filter[i] == 'u') {
			r.text = append(r.text, filter[start:i-1])
			r.variables = append(r.variables, filter[i])
			start = i + 1
		}
	}
	r.text = append(r.text, filter[start:])
	return r
}

// cutWord splits s after its first word.
func cutWord(s string) (word, rest string) {
	i := strings.IndexAny(s, blank)
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], blank)
}
