package topics

// Match reports whether a valid filter matches a valid topic name. A filter
// that begins with a wildcard matches no name that begins with '$'. The filter
// is not a shared one; see [SplitShared]. Match does not allocate and looks at
// each byte once.
func Match[F, N Text](filter F, name N) bool {
	if beginsWild(filter) && len(name) > 0 && name[0] == '$' {
		return false
	}
	f, n := 0, 0
	for {
		// Both stand at the beginning of a level.
		if f < len(filter) {
			switch filter[f] {
			case '#':
				return true
			case '+':
				f++
				n = levelEnd(name, n)
			}
		}
		for f < len(filter) && n < len(name) && filter[f] == name[n] && name[n] != '/' {
			f, n = f+1, n+1
		}
		// Both must stand at the end of a level now.
		if n == len(name) {
			return f == len(filter) || endsDeep(filter, f)
		}
		if f == len(filter) || filter[f] != '/' || name[n] != '/' {
			return false
		}
		f, n = f+1, n+1
	}
}

// beginsWild reports whether the first level of filter is a wildcard.
func beginsWild[F Text](filter F) bool {
	return len(filter) > 0 && (filter[0] == '+' || filter[0] == '#')
}

// endsDeep reports whether all that is left of filter is "/#", which matches
// the parent level too.
func endsDeep[F Text](filter F, at int) bool {
	return len(filter)-at == 2 && filter[at] == '/' && filter[at+1] == '#'
}
