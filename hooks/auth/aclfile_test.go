package auth_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/topics"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func aclFile(t testing.TB, lines ...string) *auth.ACLFile {
	t.Helper()
	f, err := auth.NewACLFile(write(t, "", strings.Join(lines, "\n")))
	require.NoError(t, err)
	return f
}

// answer is what a file says to a request, in a word.
func answer(t testing.TB, f *auth.ACLFile, id, identity string, action petrel.Action, topic string) string {
	t.Helper()
	r := petrel.AccessRequest{Action: action, Topic: topic}
	err := f.Decide(id, identity, &r)
	if err != nil {
		require.ErrorIs(t, err, packets.NotAuthorized)
		assert.False(t, r.CheckDeliveries)
		return "no"
	}
	if r.CheckDeliveries {
		return "checked"
	}
	return "yes"
}

const (
	publish   = petrel.Publish
	subscribe = petrel.Subscribe
	receive   = petrel.Receive
)

func TestACLFileSections(t *testing.T) {
	f := aclFile(t,
		"# clients without user name",
		"topic read news/#",
		"",
		"user alice",
		"topic both/a",
		"topic readwrite both/b",
		"topic read in/+",
		"topic write out/+",
		"topic readwrite with spaces/in it",
		"pattern read everybody",
		"user bob smith",
		"topic write out/bob",
		"user alice",
		"topic write more",
	)
	assert.Equal(t, 9, f.Rules())
	for _, tc := range []struct {
		name, identity string
		action         petrel.Action
		topic, want    string
	}{
		{"anonymous may read", "", receive, "news/today", "yes"},
		{"anonymous may not write what it may read", "", publish, "news/today", "no"},
		{"anonymous gets nothing of users", "", receive, "in/x", "no"},
		{"users get nothing of anonymous", "alice", receive, "news/today", "no"},
		{"users who are not there neither", "carol", receive, "news/today", "no"},
		{"without an access: write", "alice", publish, "both/a", "yes"},
		{"without an access: read", "alice", receive, "both/a", "yes"},
		{"readwrite: write", "alice", publish, "both/b", "yes"},
		{"readwrite: read", "alice", receive, "both/b", "yes"},
		{"read: read", "alice", receive, "in/x", "yes"},
		{"read: write", "alice", publish, "in/x", "no"},
		{"write: read", "alice", receive, "out/x", "no"},
		{"write: subscribe", "alice", subscribe, "out/x", "no"},
		{"write: write", "alice", publish, "out/x", "yes"},
		{"a filter with spaces", "alice", publish, "with spaces/in it", "yes"},
		{"not a part of the filter", "alice", publish, "with spaces", "no"},
		{"not below the filter", "alice", publish, "both/a/x", "no"},
		{"not the beginning of a level", "alice", publish, "both/ab", "no"},
		{"a second section of the same user", "alice", publish, "more", "yes"},
		{"a user name with a space", "bob smith", publish, "out/bob", "yes"},
		{"not the first word of it", "bob", publish, "out/bob", "no"},
		{"user names have case", "Alice", publish, "both/a", "no"},
		{"a pattern in a section is for all: itself", "alice", receive, "everybody", "yes"},
		{"a pattern in a section is for all: others", "carol", receive, "everybody", "yes"},
		{"a pattern in a section is for all: anonymous", "", receive, "everybody", "yes"},
		{"an action that is none", "alice", 0, "both/a", "no"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			assert.Equal(t, tc.want, answer(t, f, "c", tc.identity, tc.action, tc.topic))
		})
	}
}

func TestACLFileDenyWins(t *testing.T) {
	f := aclFile(t,
		"user alice",
		"topic deny home/safe/#",
		"topic readwrite home/#",
		"topic readwrite home/safe/code",
		"user bob",
		"topic readwrite #",
		"topic deny home/+/private",
		"pattern deny banned/#",
		"pattern readwrite banned/but/allowed",
		"pattern deny own/%u",
	)
	for _, tc := range []struct {
		name, identity string
		action         petrel.Action
		topic, want    string
	}{
		{"before the line that allows: write", "alice", publish, "home/safe/door", "no"},
		{"before the line that allows: read", "alice", receive, "home/safe/door", "no"},
		{"over one that says more", "alice", publish, "home/safe/code", "no"},
		{"the parent level too", "alice", publish, "home/safe", "no"},
		{"others are allowed", "alice", publish, "home/light", "yes"},
		{"behind the line that allows", "bob", publish, "home/x/private", "no"},
		{"of one user is not of another", "bob", publish, "home/safe/door", "yes"},
		{"a pattern over a topic", "bob", publish, "banned/x", "no"},
		{"a pattern over a pattern", "alice", publish, "banned/but/allowed", "no"},
		{"a pattern for its user", "bob", publish, "own/bob", "no"},
		{"a pattern not for another", "bob", publish, "own/alice", "yes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			assert.Equal(t, tc.want, answer(t, f, "c", tc.identity, tc.action, tc.topic))
		})
	}
}

func TestACLFilePatterns(t *testing.T) {
	f := aclFile(t,
		"pattern readwrite u/%u/#",
		"pattern write c/%c",
		"pattern write both/%c/%u/x",
		"pattern write dev-%c/%c%u",
		"pattern readwrite %c/top/#",
		"pattern write 100%/%x/%%c/%",
		"user alice",
		"topic write fixed/%u/%c",
	)
	for _, tc := range []struct {
		name, id, identity string
		action             petrel.Action
		topic, want        string
	}{
		{"user", "c1", "alice", publish, "u/alice/x", "yes"},
		{"another user", "c1", "alice", publish, "u/bob/x", "no"},
		{"client", "c1", "alice", publish, "c/c1", "yes"},
		{"another client", "c1", "alice", publish, "c/c2", "no"},
		{"both", "c1", "alice", publish, "both/c1/alice/x", "yes"},
		{"both, exchanged", "c1", "alice", publish, "both/alice/c1/x", "no"},
		{"within a level", "c1", "alice", publish, "dev-c1/c1alice", "yes"},
		{"other percent signs are text", "c1", "", publish, "100%/%x/%c1/%", "yes"},
		{"topic lines have no variables", "c1", "alice", publish, "fixed/%u/%c", "yes"},
		{"topic lines have no variables, the values", "c1", "alice", publish, "fixed/alice/c1", "no"},
		{"subscribe", "c1", "alice", subscribe, "u/alice/#", "yes"},
		{"subscribe to more", "c1", "alice", subscribe, "u/+/x", "checked"},
		{"subscribe to another's", "c1", "alice", subscribe, "u/bob/#", "no"},

		{"anonymous has no %u", "c1", "", publish, "u//x", "no"},
		{"anonymous has no %u, subscribe", "c1", "", subscribe, "u/#", "no"},
		{"anonymous has %c", "c1", "", publish, "c/c1", "yes"},
		{"a user called +", "c1", "+", publish, "u/bob/x", "no"},
		{"a user called +, subscribe", "c1", "+", subscribe, "u/+/x", "no"},
		{"a user called #", "c1", "#", publish, "u/bob", "no"},
		{"a user called #, subscribe", "c1", "#", subscribe, "u/#", "no"},
		{"a user with + in it", "c1", "a+", publish, "u/a+/x", "no"},
		{"a user with a level", "c1", "bob/x", publish, "u/bob/x/y", "no"},
		{"a user with a level, subscribe", "c1", "bob/x", subscribe, "u/bob/x/#", "no"},
		{"a user called /", "c1", "/", publish, "u///x", "no"},
		{"a client called +", "+", "alice", publish, "c/c1", "no"},
		{"a client called #", "#", "alice", publish, "c/c1", "no"},
		{"a client with a level", "c1/x", "alice", publish, "c/c1/x", "no"},
		{"a bad client does not harm the rules of its user", "#", "alice", publish, "u/alice/x", "yes"},
		{"a bad user does not harm the rules of its client", "c1", "+", publish, "c/c1", "yes"},
		{"a client called like a variable", "%u", "alice", publish, "c/%u", "yes"},
		{"a value is not looked at again", "%u", "alice", publish, "c/alice", "no"},
		{"a leading variable", "c1", "alice", publish, "c1/top/x", "yes"},
		{"a leading variable, and a client called $SYS", "$SYS", "alice", receive, "$SYS/top/x", "no"},
		{"a leading variable, and a client called $SYS, subscribe", "$SYS", "alice", subscribe, "$SYS/top/#", "no"},
		{"$ on another level", "$SYS", "alice", publish, "c/$SYS", "yes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			assert.Equal(t, tc.want, answer(t, f, tc.id, tc.identity, tc.action, tc.topic))
		})
	}
}

func TestACLFileDenyingPatternsDoNotApplyToNamesWithWildcards(t *testing.T) {
	f := aclFile(t, "pattern readwrite #", "pattern deny u/%u/#")
	assert.Equal(t, "no", answer(t, f, "c", "alice", publish, "u/alice/x"))
	assert.Equal(t, "yes", answer(t, f, "c", "+", publish, "u/alice/x"))
	assert.Equal(t, "yes", answer(t, f, "c", "+", subscribe, "u/alice/x"))
}

func TestACLFileSubscribe(t *testing.T) {
	for _, tc := range []struct {
		name   string
		rules  []string
		filter string
		want   string
	}{
		{"no rules", nil, "a", "no"},
		{"the topic of a right", []string{"read a"}, "a", "yes"},
		{"another topic", []string{"read a"}, "b", "no"},
		{"inside", []string{"read a/#"}, "a/+/c", "yes"},
		{"the parent of a right", []string{"read a/#"}, "a", "yes"},
		{"wider", []string{"read a/+"}, "a/#", "checked"},
		{"crossing", []string{"read a/+"}, "+/b", "checked"},
		{"everything, of a right to one", []string{"read a"}, "#", "checked"},
		{"inside two together only", []string{"read a/+", "read b/+"}, "+/x", "checked"},
		{"beside", []string{"read a/+"}, "a/b/c", "no"},
		{"inside the second of two", []string{"read a", "read a/+"}, "a/+", "yes"},
		{"a right to write", []string{"write a/#"}, "a/b", "no"},
		{"a denial beside", []string{"read a/#", "deny b/#"}, "a/#", "yes"},
		{"a denial in it", []string{"read a/#", "deny a/x"}, "a/#", "checked"},
		{"a denial that crosses", []string{"read a/#", "deny +/x"}, "a/+", "checked"},
		{"a denial of all of it", []string{"read a/#", "deny a/x/#"}, "a/x/y", "no"},
		{"a denial of all of it, with the same filter", []string{"deny a", "read a"}, "a", "no"},
		{"a denial of all of it, with wildcards", []string{"read a/#", "deny a/x/#"}, "a/x/+", "no"},
		{"a denial of all there is", []string{"read a", "deny #"}, "#", "no"},
		{"a denial of what is not allowed anyway", []string{"read a", "deny b"}, "+", "checked"},
		{"everything", []string{"read #"}, "#", "yes"},
		{"everything, spelled out", []string{"read +/#"}, "#", "yes"},
		{"$SYS is not everything", []string{"read #"}, "$SYS/#", "no"},
		{"$SYS is not +", []string{"read +/x"}, "$SYS/x", "no"},
		{"$SYS", []string{"read $SYS/#"}, "$SYS/broker/+", "yes"},
		{"everything is not $SYS", []string{"read $SYS/#"}, "#", "no"},
		{"a denial of everything is none of $SYS", []string{"read $SYS/#", "deny #"}, "$SYS/#", "yes"},
		{"a denial of $SYS is none of everything", []string{"read #", "deny $SYS/#"}, "#", "yes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := aclFile(t, "user alice", strings.Join(prefixed("topic ", tc.rules), "\n"))
			assert.Equal(t, tc.want, answer(t, f, "c", "alice", subscribe, tc.filter), "as topics")
			f = aclFile(t, prefixed("pattern ", tc.rules)...)
			assert.Equal(t, tc.want, answer(t, f, "c", "alice", subscribe, tc.filter), "as patterns")
		})
	}
}

func prefixed(with string, list []string) []string {
	out := slices.Clone(list)
	for i := range out {
		out[i] = with + out[i]
	}
	return out
}

func TestACLFileCheckDeliveries(t *testing.T) {
	f := aclFile(t, "topic read a/#")
	r := petrel.AccessRequest{Action: subscribe, Topic: "a/b", CheckDeliveries: true}
	require.NoError(t, f.Decide("c", "", &r))
	assert.True(t, r.CheckDeliveries, "what another hook has set stays")

	f.CheckAll = true
	assert.Equal(t, "checked", answer(t, f, "c", "", subscribe, "a/b"))
	assert.Equal(t, "checked", answer(t, f, "c", "", subscribe, "#"))
	assert.Equal(t, "no", answer(t, f, "c", "", subscribe, "b"))
	assert.Equal(t, "yes", answer(t, f, "c", "", receive, "a/b"))
}

func TestACLFileGrantSubscriptions(t *testing.T) {
	f := aclFile(t, "topic readwrite a/#", "topic deny a/safe", "topic write out")
	f.GrantSubscriptions = true
	for _, tc := range []struct {
		name   string
		action petrel.Action
		topic  string
		want   string
	}{
		{"inside a right", subscribe, "a/+/c", "yes"},
		{"wider than all rights", subscribe, "#", "checked"},
		{"a denial in it", subscribe, "a/+", "checked"},
		{"beside all rights", subscribe, "b", "checked"},
		{"what is denied", subscribe, "a/safe", "checked"},
		{"what may only be written", subscribe, "out", "checked"},
		{"$SYS", subscribe, "$SYS/#", "checked"},
		{"to receive what may be read", receive, "a/b", "yes"},
		{"to receive what is denied", receive, "a/safe", "no"},
		{"to receive what no line allows", receive, "b", "no"},
		{"to publish what may be written", publish, "out", "yes"},
		{"to publish what no line allows", publish, "b", "no"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			assert.Equal(t, tc.want, answer(t, f, "c", "", tc.action, tc.topic))
		})
	}
	f.CheckAll = true
	assert.Equal(t, "checked", answer(t, f, "c", "", subscribe, "a/+/c"))
}

func TestACLFileLines(t *testing.T) {
	const (
		keyword = "1: the line begins with none of \"user\", \"topic\" and \"pattern\""
		access  = "1: the access is none of \"read\", \"write\", \"readwrite\" and \"deny\"; without one the filter cannot have spaces"
		missing = "1: the filter is missing"
	)
	for _, tc := range []struct {
		name, text string
		rules      int
		want       string // the error behind the path; empty for none
	}{
		{"nothing", "", 0, ""},
		{"nothing but comments and blank lines", "#topic a\n\n  \t\r\n  # topic b\n", 0, ""},
		{"a user without rules", "user alice\n", 0, ""},
		{"lines that end in CR LF", "topic read a\r\nuser x\r\ntopic b\r\n", 2, ""},
		{"no line feed at the end", "topic a", 1, ""},
		{"spaces and tabs", "  topic \t read \t a/b  \t\n", 1, ""},
		{"a byte order mark", "\ufefftopic a", 1, ""},
		{"an access is not a filter", "topic read", 0, missing},
		{"deny without a filter", "pattern deny  ", 0, missing},
		{"no filter", "topic", 0, missing},
		{"no pattern", "pattern\n", 0, missing},
		{"an unknown access", "topic subscribe a", 0, access},
		{"accesses have no case", "topic READ a", 0, access},
		{"an unknown keyword", "topics read a", 0, keyword},
		{"keywords have no case", "Topic read a", 0, keyword},
		{"a line of another file", "alice:$6$secret$secret", 0, keyword},
		{"a user without name", "topic a\n\nuser \n", 0, "3: the user name is missing"},
		{"# in the middle", "topic read a/#/b", 0, "1: topics: invalid filter: '#' not last"},
		{"# beside text", "topic read a#", 0, "1: topics: invalid filter: '#' not alone in its level"},
		{"+ beside text", "topic a\ntopic read a+/b", 0, "2: topics: invalid filter: '+' not alone in its level"},
		{"+ beside a variable", "pattern read %c+", 0, "1: topics: invalid filter: '+' not alone in its level"},
		{"a comment behind a filter", "topic read a # mine", 0, "1: topics: invalid filter: '#' not alone in its level"},
		{"U+0000", "topic read a\x00", 0, "1: topics: invalid filter: contains U+0000"},
		{"a share", "topic read $share/g/a", 0, "1: a shared subscription has the rights of the filter in it, and none of its own"},
		{"not UTF-8", "topic read a\xff", 0, "1: not valid UTF-8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := write(t, "", tc.text)
			f, err := auth.NewACLFile(path)
			if tc.want != "" {
				assert.EqualError(t, err, "auth: "+path+":"+tc.want)
				assert.Nil(t, f)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.rules, f.Rules())
		})
	}
}

func TestACLFileThatCannotBeRead(t *testing.T) {
	for name, path := range map[string]string{
		"missing":     filepath.Join(t.TempDir(), "none"),
		"a directory": t.TempDir(),
	} {
		t.Run(name, func(t *testing.T) {
			f, err := auth.NewACLFile(path)
			assert.Nil(t, f)
			assert.ErrorContains(t, err, path)
		})
	}
}

func TestACLFileWithoutRulesAllowsNothing(t *testing.T) {
	for name, f := range map[string]*auth.ACLFile{
		"empty file": aclFile(t), "users only": aclFile(t, "user alice"), "zero value": {}, "zero value, with CheckAll": {CheckAll: true},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Zero(t, f.Rules())
			for _, identity := range []string{"", "alice"} {
				for _, a := range []petrel.Action{publish, subscribe, receive} {
					assert.Equal(t, "no", answer(t, f, "c", identity, a, "a"))
				}
			}
		})
	}
}

func TestACLFileReload(t *testing.T) {
	path := write(t, "", "topic write a")
	f, err := auth.NewACLFile(path)
	require.NoError(t, err)

	write(t, path, "topic write b\ntopic write c")
	require.Equal(t, "yes", answer(t, f, "c", "", publish, "a"), "the file alone changes nothing")
	require.NoError(t, f.Reload())
	assert.Equal(t, 2, f.Rules())
	assert.Equal(t, "no", answer(t, f, "c", "", publish, "a"))
	assert.Equal(t, "yes", answer(t, f, "c", "", publish, "b"))

	write(t, path, "topic write d\ntopic write")
	assert.EqualError(t, f.Reload(), "auth: "+path+":2: the filter is missing")
	require.NoError(t, os.Remove(path))
	assert.ErrorIs(t, f.Reload(), fs.ErrNotExist)
	assert.Equal(t, 2, f.Rules(), "a Reload that fails changes nothing")
	assert.Equal(t, "yes", answer(t, f, "c", "", publish, "b"))
	assert.Equal(t, "no", answer(t, f, "c", "", publish, "d"))

	write(t, path, "")
	require.NoError(t, f.Reload())
	assert.Zero(t, f.Rules())
	assert.Equal(t, "no", answer(t, f, "c", "", publish, "b"))
}

// Each decision is of one version of the file: none of the two allows a, but
// half of one and half of the other would.
func TestACLFileReloadWhileClientsPublish(t *testing.T) {
	versions := []string{"pattern write b", "pattern deny a\npattern write #"}
	path := write(t, "", versions[0])
	f, err := auth.NewACLFile(path)
	require.NoError(t, err)
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for range 1000 {
				assert.Error(t, f.Decide("c", "", &petrel.AccessRequest{Action: publish, Topic: "a"}))
				assert.NoError(t, f.Decide("c", "", &petrel.AccessRequest{Action: publish, Topic: "b"}))
			}
		})
	}
	for i := range 50 {
		write(t, path, versions[i%2])
		assert.NoError(t, f.Reload())
	}
	clients.Wait()
}

func TestACLFileAllocatesNothingForMessages(t *testing.T) {
	f := aclFile(t, "user alice", "topic read a/+", "topic deny a/x", "pattern readwrite b/%u/%c/#")
	for _, r := range []petrel.AccessRequest{
		{Action: publish, Topic: "b/alice/c/x"}, {Action: receive, Topic: "a/b"}, {Action: receive, Topic: "a/x"}, {Action: publish, Topic: "none"},
	} {
		assert.Zero(t, testing.AllocsPerRun(100, func() { _ = f.Decide("c", "alice", &r) }), "%v %s", r.Action, r.Topic)
	}
}

// slowACL decides like an ACL file, line by line.
func slowACL(text, id, identity string, action petrel.Action, topic string, match func(filter, topic string) bool) (allowed, denied bool) {
	const space = " \t\r\v\f"
	form := regexp.MustCompile(`^(topic|pattern)[ \t\r\v\f]+(?:(read|write|readwrite|deny)[ \t\r\v\f]+)?(.+)$`)
	section, letter := "", map[petrel.Action]string{publish: "write", receive: "read", subscribe: "read"}[action]
	for _, line := range strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n") {
		line = strings.Trim(line, space)
		if rest, ok := strings.CutPrefix(line, "user"); ok && strings.Trim(rest, space) != rest {
			section = strings.Trim(rest, space)
		}
		m := form.FindStringSubmatch(line)
		if m == nil || m[1] == "topic" && section != identity {
			continue
		}
		filter := m[3]
		if m[1] == "pattern" {
			bad := func(variable, value string) bool {
				return strings.Contains(filter, variable) && (value == "" || strings.ContainsAny(value, "+#/"))
			}
			if bad("%c", id) || bad("%u", identity) {
				continue
			}
			filled := strings.NewReplacer("%c", id, "%u", identity).Replace(filter)
			if filled[0] == '$' && (strings.HasPrefix(filter, "%c") || strings.HasPrefix(filter, "%u")) {
				continue
			}
			filter = filled
		}
		if match(filter, topic) {
			allowed = allowed || m[2] == "" || m[2] == "readwrite" || m[2] == letter
			denied = denied || m[2] == "deny"
		}
	}
	return allowed, denied
}

// FuzzACLFile: no text makes the parser panic, and what it accepts decides as
// its lines do, one by one.
func FuzzACLFile(f *testing.F) {
	f.Add("topic read a/#\nuser alice\ntopic a\ntopic deny a/b", "c", "alice", "a/b")
	f.Add("pattern write %c/%u/+\n# x\n\npattern deny x%u", "c", "alice", "c/alice/x")
	f.Add("pattern readwrite %c/#", "$SYS", "", "$SYS/x")
	f.Add("pattern readwrite u/%u", "c", "+", "u/x")
	f.Add("user a\r\ntopic deny #\r\ntopic #", "c", "a", "x")
	f.Add("topic read", "", "", "read")
	f.Fuzz(func(t *testing.T, text, id, identity, topic string) {
		file, err := auth.ParseACLFile("/etc/acl", []byte(text))
		if err != nil {
			assert.Regexp(t, `^auth: /etc/acl:[0-9]+: [-a-zA-Z0-9 "'#+:;,_]+$`, err.Error())
			return
		}
		if topics.CheckName(topic, 0) == nil {
			for _, a := range []petrel.Action{publish, receive} {
				allowed, denied := slowACL(text, id, identity, a, topic, topics.Match)
				want := map[bool]string{true: "yes", false: "no"}[allowed && !denied]
				require.Equal(t, want, answer(t, file, id, identity, a, topic), "%v", a)
			}
		}
		if _, _, shared := topics.SplitShared(topic); shared || topics.CheckFilter(topic, 0) != nil {
			return
		}
		some, someDenied := slowACL(text, id, identity, subscribe, topic, auth.Overlap)
		all, allDenied := slowACL(text, id, identity, subscribe, topic, func(filter, topic string) bool { return auth.Inside(topic, filter) })
		want := "checked"
		switch {
		case !some || allDenied:
			want = "no"
		case all && !someDenied:
			want = "yes"
		}
		require.Equal(t, want, answer(t, file, id, identity, subscribe, topic))
	})
}
