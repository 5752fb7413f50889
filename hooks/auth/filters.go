package auth

import "strings"

// inside reports whether outer matches every topic name that inner matches.
// Both are valid filters, not shared.
func inside(inner, outer string) bool {
	inner, outer = canonical(inner), canonical(outer)
	if inner[0] == '$' && outer[0] == '+' {
		return false
	}
	for {
		in, moreIn, goesOnIn := strings.Cut(inner, "/")
		out, moreOut, goesOnOut := strings.Cut(outer, "/")
		switch {
		case out == "#":
			return true
		case in == "#", out != "+" && out != in:
			return false
		case !goesOnIn:
			return !goesOnOut || moreOut == "#" // which matches its parent
		case !goesOnOut:
			return false
		}
		inner, outer = moreIn, moreOut
	}
}

// overlap reports whether there is a topic name that both filters match. Both
// are valid, not shared.
func overlap(a, b string) bool {
	a, b = canonical(a), canonical(b)
	if a[0] == '$' && b[0] == '+' || a[0] == '+' && b[0] == '$' {
		return false
	}
	for {
		levelA, moreA, goesOnA := strings.Cut(a, "/")
		levelB, moreB, goesOnB := strings.Cut(b, "/")
		switch {
		case levelA == "#" || levelB == "#":
			return true
		case levelA != levelB && levelA != "+" && levelB != "+":
			return false
		case !goesOnA:
			return !goesOnB || moreB == "#"
		case !goesOnB:
			return moreA == "#"
		}
		a, b = moreA, moreB
	}
}

// canonical returns the longer spelling of the two filters that have one: no name
// is empty, so the parent that their # would match too does not exist. No two
// others match the same names.
func canonical(filter string) string {
	switch filter {
	case "#":
		return "+/#"
	case "/#":
		return "/+/#"
	}
	return filter
}
