package petrel

import "reflect"

// SessionsAtRestShareNothing reports whether what sessions without a backlog share
// is still empty.
func SessionsAtRestShareNothing() bool { return reflect.ValueOf(noBacklog).IsZero() }
