package topics_test

import (
	"strings"
	"testing"

	"github.com/petrelmq/petrel/topics"
	"github.com/stretchr/testify/require"
)

func TestCheckName(t *testing.T) {
	tests := []struct {
		name, topic string
		maxLevels   int
		want        string // the whole error text; empty for none
		is          error
	}{
		{"one level", "a", 0, "", nil},
		{"three levels", "a/b/c", 0, "", nil},
		{"a slash alone has two empty levels", "/", 0, "", nil},
		{"empty levels in front, between and behind", "/a//b/", 0, "", nil},
		{"spaces", "a b/ c", 0, "", nil},
		{"dollar", "$SYS/x", 0, "", nil},
		{"share prefix is an ordinary name", "$share/g/a", 0, "", nil},
		{"byte order mark is an ordinary character", "\ufeff", 0, "", nil},
		{"longest", strings.Repeat("a", 65535), 0, "", nil},
		{"empty", "", 0, "topics: invalid name: empty", topics.ErrInvalidName},
		{"one byte too long", strings.Repeat("a", 65536), 0, "topics: invalid name: longer than 65535 bytes", topics.ErrInvalidName},
		{"plus as a level", "a/+", 0, "topics: invalid name: contains a wildcard", topics.ErrInvalidName},
		{"plus within a level", "a+", 0, "topics: invalid name: contains a wildcard", topics.ErrInvalidName},
		{"hash", "#", 0, "topics: invalid name: contains a wildcard", topics.ErrInvalidName},
		{"NUL", "a\x00", 0, "topics: invalid name: contains U+0000", topics.ErrInvalidName},
		{"as many levels as allowed", "a/b/c", 3, "", nil},
		{"one level too many", "a/b/", 2, "topics: invalid name: too many levels", topics.ErrTooManyLevels},
		{"too many levels is an invalid name too", "a/b/", 2, "topics: invalid name: too many levels", topics.ErrInvalidName},
		{"negative limit is none", strings.Repeat("/", 65535), -1, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			requireError(t, topics.CheckName(tt.topic, tt.maxLevels), tt.want, tt.is)
			requireError(t, topics.CheckName([]byte(tt.topic), tt.maxLevels), tt.want, tt.is)
		})
	}
}

func TestCheckFilter(t *testing.T) {
	const (
		hashLast  = "topics: invalid filter: '#' not last"
		hashAlone = "topics: invalid filter: '#' not alone in its level"
		plusAlone = "topics: invalid filter: '+' not alone in its level"
		nameEmpty = "topics: invalid filter: share name is empty"
		nameWild  = "topics: invalid filter: share name contains a wildcard"
		noFilter  = "topics: invalid filter: share without a filter"
		levels    = "topics: invalid filter: too many levels"
	)
	tests := []struct {
		name, filter string
		maxLevels    int
		want         string
	}{
		{"plain", "a/b", 0, ""},
		{"hash alone", "#", 0, ""},
		{"plus alone", "+", 0, ""},
		{"plus and plus", "+/+", 0, ""},
		{"hash behind a level", "a/#", 0, ""},
		{"hash behind an empty level", "a//#", 0, ""},
		{"hash behind a plus", "+/#", 0, ""},
		{"plus behind an empty level", "/+", 0, ""},
		{"plus before an empty level", "+/", 0, ""},
		{"plus between", "a/+/b", 0, ""},
		{"slash", "/", 0, ""},
		{"longest", strings.Repeat("a", 65535), 0, ""},
		{"empty", "", 0, "topics: invalid filter: empty"},
		{"one byte too long", strings.Repeat("a", 65536), 0, "topics: invalid filter: longer than 65535 bytes"},
		{"NUL", "a/\x00", 0, "topics: invalid filter: contains U+0000"},
		{"hash behind text", "a#", 0, hashAlone},
		{"hash before text", "#a", 0, hashAlone},
		{"two hashes", "##", 0, hashAlone},
		{"hash and plus in one level", "#+", 0, hashAlone},
		{"hash between", "a/#/b", 0, hashLast},
		{"hash before an empty level", "#/", 0, hashLast},
		{"plus behind text", "a+", 0, plusAlone},
		{"plus before text", "+a/b", 0, plusAlone},
		{"two pluses", "++", 0, plusAlone},
		{"as many levels as allowed", "a/+/#", 3, ""},
		{"one level too many", "a/+/#", 2, levels},
		{"share", "$share/g/a", 0, ""},
		{"share of a wildcard", "$share/g/+/#", 0, ""},
		{"share of a filter that begins with a slash", "$share/g//f", 0, ""},
		{"share of a slash", "$share/g//", 0, ""},
		{"share of a dollar filter", "$share/g/$SYS/#", 0, ""},
		{"share of something that looks like a share", "$share/g/$share/h/a", 0, ""},
		{"levels of a share do not count", "$share/g/a/b", 2, ""},
		{"share with one level too many", "$share/g/a/b", 1, levels},
		{"share of an invalid filter", "$share/g/a#", 0, hashAlone},
		{"share of hash between", "$share/g/#/a", 0, hashLast},
		{"share prefix alone", "$share", 0, nameEmpty},
		{"share prefix and slash", "$share/", 0, nameEmpty},
		{"share without a name", "$share//f", 0, nameEmpty},
		{"share without filter or slash", "$share/g", 0, noFilter},
		{"share without a filter", "$share/g/", 0, noFilter},
		{"share name with plus", "$share/a+b/f", 0, nameWild},
		{"share name is a plus", "$share/+/f", 0, nameWild},
		{"share name is a hash", "$share/#", 0, nameWild},
		{"share name with NUL", "$share/\x00/f", 0, "topics: invalid filter: share name contains U+0000"},
		{"longer than the share prefix", "$shared", 0, ""},
		{"shorter than the share prefix", "$shar/g", 0, ""},
		{"share prefix in capitals", "$SHARE", 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			is := topics.ErrInvalidFilter
			requireError(t, topics.CheckFilter(tt.filter, tt.maxLevels), tt.want, is)
			requireError(t, topics.CheckFilter([]byte(tt.filter), tt.maxLevels), tt.want, is)
			if tt.want == levels {
				require.ErrorIs(t, topics.CheckFilter(tt.filter, tt.maxLevels), topics.ErrTooManyLevels)
				return
			}
			require.Equal(t, tt.want == "", referenceValid(tt.filter), "the tests' own rules")
		})
	}
}

func requireError(t *testing.T, err error, text string, is error) {
	t.Helper()
	if text == "" {
		require.NoError(t, err)
		return
	}
	require.EqualError(t, err, text)
	require.ErrorIs(t, err, is)
}

func TestSplitShared(t *testing.T) {
	tests := []struct {
		name, filter, group, inner string
		shared                     bool
	}{
		{"plain", "a/b", "", "a/b", false},
		{"share", "$share/g/a/b", "g", "a/b", true},
		{"filter begins with a slash", "$share/g//f", "g", "/f", true},
		{"share within a share", "$share/g/$share/h/a", "g", "$share/h/a", true},
		{"longer than the prefix", "$shared/g/a", "", "$shared/g/a", false},
		{"other dollar", "$SYS/#", "", "$SYS/#", false},
		{"invalid: prefix alone", "$share", "", "$share", false},
		{"invalid: no filter", "$share/g", "", "$share/g", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			group, inner, shared := topics.SplitShared(tt.filter)
			require.Equal(t, []any{tt.group, tt.inner, tt.shared}, []any{group, inner, shared})
			g, i, shared := topics.SplitShared([]byte(tt.filter))
			require.Equal(t, []any{tt.group, tt.inner, tt.shared}, []any{string(g), string(i), shared})
		})
	}
}

func TestHasWildcard(t *testing.T) {
	for filter, want := range map[string]bool{
		"a/b": false, "": false, "#": true, "a/+": true, "a/#": true, "$share/g/a": false, "$share/g/+": true,
	} {
		require.Equal(t, want, topics.HasWildcard(filter), filter)
		require.Equal(t, want, topics.HasWildcard([]byte(filter)), filter)
	}
}

func FuzzCheckFilter(f *testing.F) {
	for _, s := range []string{"a/b", "a/#/b", "+a", "$share/g/a", "$share/g/", "$share//+", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, filter string) {
		require.Equal(t, referenceValid(filter), topics.CheckFilter(filter, 0) == nil)
		group, inner, shared := topics.SplitShared(filter)
		if referenceValid(filter) {
			g, i, s := referenceShared(filter)
			require.Equal(t, []any{g, i, s}, []any{group, inner, shared})
		}
	})
}

func TestChecksDoNotAllocate(t *testing.T) {
	name, filter := []byte("building/7/floor/3/room/12/temperature"), []byte("$share/workers/building/+/floor/#")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_ = topics.CheckName(name, 128)
		_ = topics.CheckName(string(filter[:0]), 1)
		_ = topics.CheckFilter(filter, 128)
		_ = topics.CheckFilter(filter, 1)
		_, inner, _ := topics.SplitShared(filter)
		_ = topics.Match(inner, name)
	}))
}
