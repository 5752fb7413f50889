package auth_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/topics"
)

// question is a SUBSCRIBE, and the rules by which it is decided.
type question struct {
	rules        []string // lines of an ACL file
	id, identity string
	filter       string
}

// What questions are made of: few levels, so that rules and filters meet often.
var (
	ruleLevels   = []string{"a", "+", "#", "", "$a", "%c", "%u", "b%c"}
	filterLevels = []string{"a", "+", "#", "", "$a", "ba"}
	identities   = []string{"a", "b", "", "$a", "+", "#", "a/a", "/", "$", "a+"}
	ruleWords    = []string{"pattern read", "topic read", "pattern deny", "topic deny", "pattern readwrite", "topic write"}
)

// newQuestion makes a question of the bytes of a fuzz input.
func newQuestion(data []byte) (q question) {
	next := func(n int) int {
		if len(data) == 0 {
			return 0
		}
		b := int(data[0]) % n
		data = data[1:]
		return b
	}
	filter := func(levels []string) string {
		list := make([]string, 1+next(3))
		for i := range list {
			list[i] = levels[next(len(levels))]
		}
		return strings.Join(list, "/")
	}
	q.id, q.identity = identities[next(len(identities))], identities[next(len(identities))]
	q.filter = filter(filterLevels)
	for range 1 + next(3) {
		word := ruleWords[next(len(ruleWords))]
		if f := filter(ruleLevels); topics.CheckFilter(f, 0) == nil {
			q.rules = append(q.rules, word+" "+f)
		}
	}
	return q
}

// file is the ACL file of the rules.
func (q *question) file(t *testing.T) *auth.ACLFile {
	lines := q.rules
	if q.identity != "" {
		lines = append([]string{"user " + q.identity}, lines...)
	}
	f, err := auth.ParseACLFile("acl", []byte(strings.Join(lines, "\n")))
	require.NoError(t, err)
	return f
}

// meant are the filters that the rules have for the client: of those that allow to
// read, and of those that deny.
func (q *question) meant() (readable, denied []string) {
	for _, rule := range q.rules {
		kind, rest, _ := strings.Cut(rule, " ")
		access, filter, _ := strings.Cut(rest, " ")
		if kind == "pattern" {
			var applies bool
			if filter, applies = q.fill(filter); !applies {
				continue
			}
		}
		switch access {
		case "read", "readwrite":
			readable = append(readable, filter)
		case "deny":
			denied = append(denied, filter)
		}
	}
	return readable, denied
}

// fill puts the client into the filter of a pattern line.
func (q *question) fill(filter string) (filled string, applies bool) {
	for variable, value := range map[string]string{"%c": q.id, "%u": q.identity} {
		if strings.Contains(filter, variable) && (value == "" || strings.ContainsAny(value, "+#/")) {
			return "", false
		}
	}
	filled = strings.NewReplacer("%c", q.id, "%u", q.identity).Replace(filter)
	return filled, filter[0] != '%' || filled[0] != '$'
}

// names are all topic names of up to four levels out of those that the filters
// spell out, the empty one, and one that none of them has. With filters of up to
// three levels, nothing happens with other names that does not with one of these.
func (q *question) names(filters ...[]string) []string {
	levels := []string{"", "none"}
	for _, filter := range slices.Concat(filters...) {
		for level := range strings.SplitSeq(filter, "/") {
			if level != "+" && level != "#" && !slices.Contains(levels, level) {
				levels = append(levels, level)
			}
		}
	}
	return allOf(4, levels)
}

// want is the decision by all names one by one, in the words of answer.
func (q *question) want() (decision string, mayHave map[string]bool) {
	readable, denied := q.meant()
	mayHave = make(map[string]bool) // by each name that the filter matches
	reads, denies := make([]int, len(readable)), make([]int, len(denied))
	someReadable, someDenied := false, false
	for _, name := range q.names(readable, denied, []string{q.filter}) {
		if !matches(q.filter, name) {
			continue
		}
		may, not := false, false
		for i, r := range readable {
			if matches(r, name) {
				reads[i]++
				may = true
			}
		}
		for i, d := range denied {
			if matches(d, name) {
				denies[i]++
				not = true
			}
		}
		someReadable, someDenied = someReadable || may, someDenied || not
		mayHave[name] = may && !not
	}
	switch {
	case !someReadable, slices.Contains(denies, len(mayHave)):
		return "no", mayHave
	case !someDenied && slices.Contains(reads, len(mayHave)): // one of them alone has all
		return "yes", mayHave
	}
	return "checked", mayHave
}

func (q *question) check(t *testing.T) {
	if topics.CheckFilter(q.filter, 0) != nil {
		return
	}
	f := q.file(t)
	got := answer(t, f, q.id, q.identity, subscribe, q.filter)
	want, mayHave := q.want()
	require.Equal(t, want, got, "%+v", q)
	for name, may := range mayHave {
		switch {
		case got == "yes" && !may:
			t.Fatalf("%+v: %q would be delivered unchecked", q, name)
		case got == "no" && may:
			t.Fatalf("%+v: refused, although %q may be read", q, name)
		}
		require.Equal(t, map[bool]string{true: "yes", false: "no"}[may], answer(t, f, q.id, q.identity, receive, name), "%+v, %s", q, name)
	}
	r := petrel.AccessRequest{Action: subscribe, Topic: q.filter, Share: "group"}
	err := f.Decide(q.id, q.identity, &r)
	require.Equal(t, []bool{got == "no", got == "checked"}, []bool{err != nil, r.CheckDeliveries}, "a shared subscription is decided in the same way")
}

// FuzzCovers holds what is said to a SUBSCRIBE against what may be read of all
// topic names, one by one. Allowed without a check is what one line allows and
// none denies a part of; what only several lines allow together is checked, and so
// is what only several deny.
func FuzzCovers(f *testing.F) {
	random := rand.NewChaCha8([32]byte{7})
	for range 300 {
		data := make([]byte, 20)
		_, _ = random.Read(data)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		q := newQuestion(data)
		q.check(t)
	})
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		name string
		q    question
		want string
	}{
		{"an identity called #", question{[]string{"pattern read %u"}, "c", "#", "a"}, "no"},
		{"an identity called +", question{[]string{"pattern read u/%u/#"}, "c", "+", "u/a/#"}, "no"},
		{"an identity with a level more", question{[]string{"pattern read u/%u"}, "c", "a/a", "u/a/a"}, "no"},
		{"an identity called $SYS", question{[]string{"pattern read %u/#"}, "c", "$SYS", "$SYS/#"}, "no"},
		{"an identity that is part of $SYS", question{[]string{"pattern read $%u/#"}, "c", "SYS", "$SYS/#"}, "yes"},
		{"a denial of an identity called #", question{[]string{"pattern read a", "pattern deny %u"}, "c", "#", "a"}, "yes"},
		{"two variables in a level", question{[]string{"pattern read %c%u"}, "a", "b", "ab"}, "yes"},
		{"a variable in a line that has none", question{[]string{"topic read %u"}, "c", "a", "a"}, "no"},
		{"several lines together", question{[]string{"topic read a/#", "topic read +/b"}, "c", "a", "a/+"}, "yes"},
		{"several lines only together", question{[]string{"topic read a", "topic read a/+/#"}, "c", "a", "a/#"}, "checked"},
		{"several denials only together", question{[]string{"topic read #", "topic deny a", "topic deny a/+/#"}, "c", "a", "a/#"}, "checked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, answer(t, tt.q.file(t), tt.q.id, tt.q.identity, subscribe, tt.q.filter))
			tt.q.check(t)
		})
	}
}

// What fuzzing makes of its bytes has all three answers, and often enough.
func TestCoversIsAskedAllKinds(t *testing.T) {
	random := rand.NewChaCha8([32]byte{8})
	kinds := map[string]int{}
	for range 2000 {
		data := make([]byte, 20)
		_, _ = random.Read(data)
		q := newQuestion(data)
		if topics.CheckFilter(q.filter, 0) == nil {
			kinds[answer(t, q.file(t), q.id, q.identity, subscribe, q.filter)]++
		}
	}
	for _, kind := range []string{"yes", "no", "checked"} {
		require.Greater(t, kinds[kind], 50, fmt.Sprint(kinds))
	}
}
