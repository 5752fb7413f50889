package auth_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/topics"
	"github.com/stretchr/testify/assert"
)

func TestInsideAndOverlap(t *testing.T) {
	for _, tc := range []struct {
		name            string
		inner, outer    string
		inside, overlap bool
	}{
		{"the same name", "a/b", "a/b", true, true},
		{"another name", "a/b", "a/c", false, false},
		{"one level more", "a/b/c", "a/b", false, false},
		{"a name under +", "a/b", "a/+", true, true},
		{"+ over a name", "a/+", "a/b", false, true},
		{"crossing wildcards", "a/+", "+/b", false, true},
		{"+ under #", "a/+", "a/#", true, true},
		{"# over +", "a/#", "a/+", false, true},
		{"the parent of #", "a", "a/#", true, true},
		{"the parent of # under +", "a/#", "+/#", true, true},
		{"# reaches above a level that must be", "a/#", "a/+/#", false, true},
		{"a part of a level", "ab/c", "a/#", false, false},
		{"everything under everything", "#", "#", true, true},
		{"# is +/#", "#", "+/#", true, true},
		{"+/# is #", "+/#", "#", true, true},
		{"+ under everything", "+", "#", true, true},
		{"/# has no parent", "/#", "/+/#", true, true},
		{"/# begins at the second level", "/#", "+", false, false},
		{"an empty level under +", "/a", "+/a", true, true},
		{"trailing empty level under #", "a/", "a/#", true, true},
		{"trailing empty level under +", "a/", "a/+", true, true},
		{"trailing empty level", "a/", "a", false, false},
		{"$ under #", "$SYS/x", "#", false, false},
		{"$ under +", "$SYS/x", "+/x", false, false},
		{"# over $", "#", "$SYS/#", false, false},
		{"$ under $", "$SYS/+", "$SYS/#", true, true},
		{"$ on another level", "a/$x", "a/+", true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			assert.Equal(t, tc.inside, auth.Inside(tc.inner, tc.outer), "inside")
			assert.Equal(t, tc.overlap, auth.Overlap(tc.inner, tc.outer), "overlap")
			assert.Equal(t, tc.overlap, auth.Overlap(tc.outer, tc.inner), "overlap the other way round")
		})
	}
}

// The levels of which the reference makes filters and names. No filter has z:
// it stands for all levels that no filter spells out.
var (
	literals = []string{"", "a", "$a"}
	names    = allOf(4, append(slices.Clone(literals), "z"))
)

// allOf returns all names of at most n of the levels.
func allOf(n int, levels []string) (all []string) {
	last := slices.Clone(levels)
	all = append(all, last...)
	for range n - 1 {
		var next []string
		for _, head := range last {
			for _, l := range levels {
				next = append(next, head+"/"+l)
			}
		}
		last = next
		all = append(all, last...)
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// matches is section 4.7 of MQTT 5.0, level by level.
func matches(filter, name string) bool {
	if name[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return false // 4.7.2
	}
	levels, of := strings.Split(filter, "/"), strings.Split(name, "/")
	for i, level := range levels {
		switch {
		case level == "#":
			return true // the parent, and any number of levels below it
		case i == len(of), level != "+" && level != of[i]:
			return false
		}
	}
	return len(levels) == len(of)
}

// reference answers by looking at all names. It is right for filters of up to
// three levels out of literals and wildcards.
func reference(a, b string) (inside, overlap bool) {
	inside = true
	for _, n := range names {
		switch inA, inB := matches(a, n), matches(b, n); {
		case inA && inB:
			overlap = true
		case inA:
			inside = false
		}
	}
	return inside, overlap
}

func TestInsideAndOverlapAgreeWithEnumeration(t *testing.T) {
	filters := slices.DeleteFunc(allOf(3, append(slices.Clone(literals), "+", "#")), func(f string) bool {
		return topics.CheckFilter(f, 0) != nil
	})
	assert.Len(t, filters, 3+(16)+64+1+4+16)
	for _, a := range filters {
		for _, b := range filters {
			inside, overlap := reference(a, b)
			if got := auth.Inside(a, b); got != inside {
				t.Errorf("Inside(%q, %q) = %v; want %v", a, b, got, inside)
			}
			if got := auth.Overlap(a, b); got != overlap {
				t.Errorf("Overlap(%q, %q) = %v; want %v", a, b, got, overlap)
			}
		}
	}
}

// FuzzFilters holds the decisions about two filters against the reference, and
// for filters that it cannot judge against one name.
func FuzzFilters(f *testing.F) {
	for _, seed := range [][3]string{
		{"a/+", "a/#", "a/b"}, {"#", "$a/#", "$a/b"}, {"/#", "+", "a"}, {"+/a/#", "$a/+", "$a/a"}, {"a/+/x", "+/b/#", "a/b/x"}, {"", "a", "a"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, a, b, name string) {
		a, b = few(a), few(b)
		if a == "" || b == "" {
			return
		}
		inside, overlap := auth.Inside(a, b), auth.Overlap(a, b)
		if judged(a) && judged(b) {
			wantInside, wantOverlap := reference(a, b)
			if inside != wantInside || overlap != wantOverlap {
				t.Fatalf("%q and %q: inside %v, overlap %v; want %v, %v", a, b, inside, overlap, wantInside, wantOverlap)
			}
		}
		if topics.CheckName(name, 0) != nil {
			return
		}
		inA, inB := matches(a, name), matches(b, name)
		if inside && inA && !inB {
			t.Fatalf("%q is said to be inside %q, but only the first matches %q", a, b, name)
		}
		if !overlap && inA && inB {
			t.Fatalf("%q and %q are said not to overlap, but both match %q", a, b, name)
		}
	})
}

// few makes a filter of text that the reference can often judge; empty if there is none.
func few(text string) string {
	levels := strings.Split(text, "/")
	for i, l := range levels {
		if strings.HasPrefix(l, "a") {
			levels[i] = "a"
		}
		if strings.HasPrefix(l, "$") {
			levels[i] = "$a"
		}
	}
	f := strings.Join(levels, "/")
	if _, _, shared := topics.SplitShared(f); shared || topics.CheckFilter(f, 0) != nil {
		return ""
	}
	return f
}

// judged reports whether the reference is right about the filter.
func judged(filter string) bool {
	levels := strings.Split(filter, "/")
	return len(levels) <= 3 && !slices.ContainsFunc(levels, func(l string) bool {
		return l != "+" && l != "#" && !slices.Contains(literals, l)
	})
}
