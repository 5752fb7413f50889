package petrel

import "sync"

// owners counts the sessions and the connections of each identity, if an option
// limits them.
type owners struct {
	maximum owned

	mu sync.Mutex
	of map[string]owned
}

// owned is what one identity has. A connection counts from the moment that it
// has a session.
type owned struct{ sessions, connections int }

// init makes o count, unless there is nothing to be limited.
func (o *owners) init(opts *Options) {
	o.maximum = owned{opts.MaximumSessionsPerIdentity, opts.MaximumConnectionsPerIdentity}
	if o.maximum != (owned{noLimit, noLimit}) {
		o.of = make(map[string]owned)
	}
}

// claim adds to what an identity has, as far as its limits allow, and returns
// the limit that does not.
func (o *owners) claim(identity string, more owned) Limit {
	if o.of == nil {
		return 0
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	has := o.of[identity]
	switch {
	case more.sessions > 0 && has.sessions+more.sessions > o.maximum.sessions:
		return LimitSessionsPerIdentity
	case more.connections > 0 && has.connections+more.connections > o.maximum.connections:
		return LimitConnectionsPerIdentity
	}
	o.addLocked(identity, more)
	return 0
}

// add is claim without a limit: for what is less, and what was there before.
func (o *owners) add(identity string, more owned) {
	if o.of == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.addLocked(identity, more)
}

func (o *owners) addLocked(identity string, more owned) {
	has := o.of[identity]
	has.sessions += more.sessions
	has.connections += more.connections
	if has == (owned{}) {
		delete(o.of, identity)
		return
	}
	o.of[identity] = has
}
