package topics

import (
	"errors"
	"fmt"
)

// MaxLength is the length in bytes that a topic name or filter can have at most:
// what the two-byte length of an MQTT string can say.
const MaxLength = 65535

// Text is a topic name or filter, in either of the forms that Go has for text.
type Text interface{ ~string | ~[]byte }

// The kinds of refusal by [CheckName] and [CheckFilter]; use [errors.Is]. The
// errors they return say the reason too. Too many levels is reported as an
// error that is both [ErrTooManyLevels] and the name's or filter's own.
var (
	ErrInvalidName   = errors.New("topics: invalid name")
	ErrInvalidFilter = errors.New("topics: invalid filter")
	ErrTooManyLevels = errors.New("too many levels")
)

// The refusals are made once, so that hostile input costs no allocation.
var (
	errNameEmpty    = fmt.Errorf("%w: empty", ErrInvalidName)
	errNameTooLong  = fmt.Errorf("%w: longer than %d bytes", ErrInvalidName, MaxLength)
	errNameNUL      = fmt.Errorf("%w: contains U+0000", ErrInvalidName)
	errNameWildcard = fmt.Errorf("%w: contains a wildcard", ErrInvalidName)
	errNameLevels   = fmt.Errorf("%w: %w", ErrInvalidName, ErrTooManyLevels)

	errFilterEmpty    = fmt.Errorf("%w: empty", ErrInvalidFilter)
	errFilterTooLong  = fmt.Errorf("%w: longer than %d bytes", ErrInvalidFilter, MaxLength)
	errFilterNUL      = fmt.Errorf("%w: contains U+0000", ErrInvalidFilter)
	errFilterHashLast = fmt.Errorf("%w: '#' not last", ErrInvalidFilter)
	errFilterHashMix  = fmt.Errorf("%w: '#' not alone in its level", ErrInvalidFilter)
	errFilterPlusMix  = fmt.Errorf("%w: '+' not alone in its level", ErrInvalidFilter)
	errFilterLevels   = fmt.Errorf("%w: %w", ErrInvalidFilter, ErrTooManyLevels)

	errShareNameEmpty    = fmt.Errorf("%w: share name is empty", ErrInvalidFilter)
	errShareNameNUL      = fmt.Errorf("%w: share name contains U+0000", ErrInvalidFilter)
	errShareNameWildcard = fmt.Errorf("%w: share name contains a wildcard", ErrInvalidFilter)
	errShareNoFilter     = fmt.Errorf("%w: share without a filter", ErrInvalidFilter)
)

// CheckName reports why name cannot be a topic name, or nil: it has 1 to
// [MaxLength] bytes, no wildcard, no U+0000, and at most maxLevels levels,
// where maxLevels of zero or less means no limit. It does not check UTF-8.
// It does not allocate.
func CheckName[T Text](name T, maxLevels int) error {
	switch {
	case len(name) == 0:
		return errNameEmpty
	case len(name) > MaxLength:
		return errNameTooLong
	}
	levels := 1
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case 0:
			return errNameNUL
		case '+', '#':
			return errNameWildcard
		case '/':
			levels++
		}
	}
	if maxLevels > 0 && levels > maxLevels {
		return errNameLevels
	}
	return nil
}

// CheckFilter reports why filter cannot be a topic filter, or nil. A filter
// whose first level is "$share" must be a whole "$share/NAME/FILTER". At most
// maxLevels levels are allowed, not counting the two of a share; maxLevels of
// zero or less means no limit. It does not check UTF-8. It does not allocate.
func CheckFilter[T Text](filter T, maxLevels int) error {
	switch {
	case len(filter) == 0:
		return errFilterEmpty
	case len(filter) > MaxLength:
		return errFilterTooLong
	case !isShared(filter):
		return checkLevels(filter, maxLevels)
	case len(filter) == len(sharePrefix)-1:
		return errShareNameEmpty
	}
	rest := filter[len(sharePrefix):]
	end := levelEnd(rest, 0)
	if err := checkShareName(rest[:end]); err != nil {
		return err
	}
	if end+1 >= len(rest) {
		return errShareNoFilter
	}
	return checkLevels(rest[end+1:], maxLevels)
}

func checkShareName[T Text](name T) error {
	if len(name) == 0 {
		return errShareNameEmpty
	}
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case 0:
			return errShareNameNUL
		case '+', '#':
			return errShareNameWildcard
		}
	}
	return nil
}

// checkLevels holds the levels of a filter without share against the rules.
func checkLevels[T Text](filter T, maxLevels int) error {
	levels := 1
	for i := 0; i < len(filter); i++ {
		switch filter[i] {
		case 0:
			return errFilterNUL
		case '/':
			levels++
		case '+':
			if !alone(filter, i) {
				return errFilterPlusMix
			}
		case '#':
			if !alone(filter, i) {
				return errFilterHashMix
			}
			if i != len(filter)-1 {
				return errFilterHashLast
			}
		}
	}
	if maxLevels > 0 && levels > maxLevels {
		return errFilterLevels
	}
	return nil
}

// alone reports whether the byte at i is a level of its own.
func alone[T Text](filter T, i int) bool {
	return (i == 0 || filter[i-1] == '/') && (i == len(filter)-1 || filter[i+1] == '/')
}

// HasWildcard reports whether a valid filter has a '+' or '#' level.
func HasWildcard[T Text](filter T) bool {
	for i := 0; i < len(filter); i++ {
		if filter[i] == '+' || filter[i] == '#' {
			return true
		}
	}
	return false
}

const sharePrefix = "$share/"

// isShared reports whether the first level of filter is "$share".
func isShared[T Text](filter T) bool {
	const n = len(sharePrefix) - 1
	return len(filter) >= n && string(filter[:n]) == sharePrefix[:n] && (len(filter) == n || filter[n] == '/')
}

// SplitShared takes a valid filter "$share/NAME/FILTER" apart. For any other
// filter inner is the filter itself and shared is false. The results alias filter.
func SplitShared[T Text](filter T) (group, inner T, shared bool) {
	if !isShared(filter) || len(filter) < len(sharePrefix) {
		return group, filter, false
	}
	rest := filter[len(sharePrefix):]
	end := levelEnd(rest, 0)
	if end == len(rest) {
		return group, filter, false
	}
	return rest[:end], rest[end+1:], true
}

// levelEnd returns the index of the '/' that ends the level that begins at
// start, or len(s) if it is the last level.
func levelEnd[T Text](s T, start int) int {
	for start < len(s) && s[start] != '/' {
		start++
	}
	return start
}
