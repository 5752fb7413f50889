package topics_test

import (
	"slices"
	"strings"
)

// reference is the matcher that the tests believe: the words of MQTT 5 section
// 4.7, level by level.
func reference(filter, name string) bool {
	if strings.HasPrefix(name, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	return levelsMatch(strings.Split(filter, "/"), strings.Split(name, "/"))
}

func levelsMatch(filter, name []string) bool {
	switch {
	case len(filter) == 0:
		return len(name) == 0
	case filter[0] == "#":
		return true
	case len(name) == 0:
		return false
	case filter[0] != "+" && filter[0] != name[0]:
		return false
	}
	if len(name) == 1 && slices.Equal(filter[1:], []string{"#"}) {
		return true // the parent level
	}
	return levelsMatch(filter[1:], name[1:])
}

// referenceShared takes a filter apart like SplitShared.
func referenceShared(filter string) (group, inner string, shared bool) {
	parts := strings.SplitN(filter, "/", 3)
	if parts[0] != "$share" || len(parts) < 3 {
		return "", filter, false
	}
	return parts[1], parts[2], true
}

// referenceValid is the rules for a filter.
func referenceValid(filter string) bool {
	if filter == "" || len(filter) > 65535 || strings.Contains(filter, "\x00") {
		return false
	}
	levels := strings.Split(filter, "/")
	if levels[0] == "$share" {
		if len(levels) < 3 || levels[1] == "" || strings.ContainsAny(levels[1], "+#") {
			return false
		}
		levels = levels[2:]
		if len(levels) == 1 && levels[0] == "" {
			return false
		}
	}
	for i, l := range levels {
		if strings.ContainsAny(l, "+#") && len(l) > 1 || l == "#" && i != len(levels)-1 {
			return false
		}
	}
	return true
}
