package petrel

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
)

// ListenerOptions says what is different for the connections of one listener.
// The zero value changes nothing.
type ListenerOptions struct {
	// Name is that of the listener in [Peer.Listener], where hooks and
	// [ClientInfo] have it, and in the log. Several listeners may share one.
	Name string

	// Authenticate are the hooks that decide who connects here, in place of each
	// [Authenticator] and [EnhancedAuthenticator] of [Options.Hooks]; each must be
	// one of the two. Nil means those of Options.Hooks. What else such a hook can
	// do is done for all listeners, or for none: a hook that is more than an
	// authenticator must be among Options.Hooks as well.
	Authenticate []Hook

	// Admit are asked about the connections of this listener, after the
	// ConnectionAuthorizers of [Options.Hooks]. A hook that is more than that must be
	// among Options.Hooks as well.
	Admit []ConnectionAuthorizer

	// MaximumConnections bounds the connections of this listener, together with those
	// of others that have its Name if it is not empty, as [Options.MaximumConnections]
	// bounds those of all. A refusal carries 0x97. Zero and negative mean no limit.
	MaximumConnections int
}

// door is what the connections of one listener have in common.
type door struct {
	name         string
	admit        []ConnectionAuthorizer
	authenticate []authenticator
	methods      map[string]EnhancedAuthenticator
	maximum      int
	aside        bool // a CONNECT has to be handled on a goroutine of its own
	open         *int // connections, counted by name; guarded by Broker.mu
}

// authenticator is an Authenticator, and whether it is a prompt one.
type authenticator struct {
	Authenticator
	prompt bool
}

// newDoor checks the options of a listener, as New does those of the broker.
func (b *Broker) newDoor(o ListenerOptions) (*door, error) {
	limit(&o.MaximumConnections, noLimit, noLimit)
	d := &door{name: o.Name, admit: b.hooks.admit, maximum: o.MaximumConnections, open: b.openAt(o.Name)}
	own := newChain()
	for i, h := range o.Admit {
		if err := own.addConnectionAuthorizer(h, b.hooks); err != nil {
			return nil, fmt.Errorf("petrel: ListenerOptions.Admit[%d]: %w", i, err)
		}
	}
	d.admit = slices.Concat(d.admit, own.admit)
	if o.Authenticate == nil {
		d.admitBy(b.hooks, b.hooks.aside)
		return d, nil
	}
	own = newChain()
	for i, h := range o.Authenticate {
		if err := own.addAuthenticator(h, b.hooks); err != nil {
			return nil, fmt.Errorf("petrel: ListenerOptions.Authenticate[%d]: %w", i, err)
		}
	}
	if len(own.all) == 0 {
		return nil, errors.New("petrel: ListenerOptions.Authenticate is empty, so nobody could connect; nil means the hooks of Options")
	}
	d.admitBy(own, b.hooks.aside)
	return d, nil
}

// admitBy makes the authenticators of c those of the listener.
func (d *door) admitBy(c *chain, aside bool) {
	d.methods = c.methods
	d.aside = aside || len(d.admit)+len(c.methods) > 0
	for _, h := range c.authenticate {
		p, ok := h.(PromptAuthenticator)
		prompt := ok && p.DecidesPromptly()
		d.authenticate = append(d.authenticate, authenticator{h, prompt})
		d.aside = d.aside || !prompt
	}
}

// openAt counts the connections of a listener with a name, or of one without.
func (b *Broker) openAt(name string) *int {
	if name == "" {
		return new(int)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[name] == nil {
		b.open[name] = new(int)
	}
	return b.open[name]
}

// addConnectionAuthorizer adds a hook of a listener, which the broker asks for
// nothing but whether a connection there is served.
func (c *chain) addConnectionAuthorizer(h Hook, whole *chain) error {
	fits, err := c.sort(h)
	if err == nil && fits > 1 && !whole.has(h) {
		err = fmt.Errorf("%T is more than a ConnectionAuthorizer, and that would go unnoticed; list it in Options.Hooks as well", h)
	}
	return err
}

// addAuthenticator adds a hook of a listener, which the broker asks for nothing
// but who connects there.
func (c *chain) addAuthenticator(h Hook, whole *chain) error {
	before := len(c.authenticate) + len(c.enhanced)
	fits, err := c.sort(h)
	if err != nil {
		return err
	}
	decides := len(c.authenticate) + len(c.enhanced) - before
	switch {
	case decides == 0:
		return fmt.Errorf("%T is neither an Authenticator nor an EnhancedAuthenticator", h)
	case fits > decides && !whole.has(h):
		return fmt.Errorf("%T is more than an authenticator, and that would go unnoticed; list it in Options.Hooks as well", h)
	}
	return nil
}

// has reports whether h is one of the hooks.
func (c *chain) has(h Hook) bool {
	for _, x := range c.all {
		if reflect.TypeOf(x) == reflect.TypeOf(h) && reflect.ValueOf(h).Comparable() && x == h {
			return true
		}
	}
	return false
}

// attr is the listener in the log, nothing if it has no name.
func (d *door) attr() slog.Attr {
	if d.name == "" {
		return slog.Attr{}
	}
	return slog.String("listener", d.name)
}
