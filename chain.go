package petrel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/petrelmq/petrel/packets"
)

// chain holds the hooks by event, in their order. It never changes after New,
// so that an event that nobody wants costs a look at an empty slice.
type chain struct {
	all          []Hook
	admit        []ConnectionAuthorizer
	authenticate []Authenticator
	prompt       []PromptAuthenticator
	enhanced     []EnhancedAuthenticator
	methods      map[string]EnhancedAuthenticator // by Authentication Method
	authorize    []Authorizer
	intercept    []PublishInterceptor
	connection   []ConnectionObserver
	refusal      []RefusalObserver
	session      []SessionObserver
	subscription []SubscriptionObserver
	published    []PublishObserver
	drop         []DropObserver
	limit        []LimitObserver
	subscribe    []SubscribeInterceptor
	deliver      []DeliverInterceptor
	selector     []SharedSelector // at most one
	trace        []PacketTracer
	store        []Store // at most one

	aside bool // who comes or goes is a matter for a goroutine of its own

	slow atomic.Bool // the last decision took long; who waits for another should have flushed
}

// compile sorts the hooks by what they can do.
func compile(hooks []Hook) (*chain, error) {
	c := newChain()
	for i, h := range hooks {
		if _, err := c.sort(h); err != nil {
			return nil, fmt.Errorf("petrel: Options.Hooks[%d]: %w", i, err)
		}
	}
	if len(c.authenticate) == 0 && len(c.enhanced) == 0 {
		return nil, errors.New("petrel: Options.Hooks has no Authenticator, so nobody could connect; auth.AllowAll admits everybody")
	}
	c.aside = c.mayWait() || len(c.admit)+len(c.connection)+len(c.refusal)+len(c.session)+len(c.store) > 0
	return c, nil
}

func newChain() *chain { return &chain{methods: make(map[string]EnhancedAuthenticator)} }

// sort adds h to each list that it fits, and returns how many those are.
func (c *chain) sort(h Hook) (fits int, err error) {
	if h == nil {
		return 0, errors.New("it is nil")
	}
	c.all = append(c.all, h)
	for _, try := range []func() (bool, error){
		func() (bool, error) { return enlist(&c.admit, h) },
		func() (bool, error) { return enlist(&c.authenticate, h) },
		func() (bool, error) { return enlist(&c.enhanced, h) },
		func() (bool, error) { return enlist(&c.authorize, h) },
		func() (bool, error) { return enlist(&c.intercept, h) },
		func() (bool, error) { return enlist(&c.connection, h) },
		func() (bool, error) { return enlist(&c.refusal, h) },
		func() (bool, error) { return enlist(&c.session, h) },
		func() (bool, error) { return enlist(&c.subscription, h) },
		func() (bool, error) { return enlist(&c.published, h) },
		func() (bool, error) { return enlist(&c.drop, h) },
		func() (bool, error) { return enlist(&c.limit, h) },
		func() (bool, error) { return enlist(&c.subscribe, h) },
		func() (bool, error) { return enlist(&c.deliver, h) },
		func() (bool, error) { return enlist(&c.selector, h) },
		func() (bool, error) { return enlist(&c.trace, h) },
		func() (bool, error) { return enlist(&c.store, h) },
	} {
		fit, err := try()
		if err != nil {
			return 0, err
		}
		if fit {
			fits++
		}
	}
	prompt, err := enlist(&c.prompt, h)
	switch authenticator, _ := h.(Authenticator); {
	case err != nil:
		return 0, err
	case prompt && authenticator == nil:
		return 0, fmt.Errorf("%T is a PromptAuthenticator, and no Authenticator", h)
	case fits == 0:
		return 0, fmt.Errorf("%T implements none of the hook interfaces%s", h, pointerHint(h))
	case len(c.selector) > 1:
		return 0, fmt.Errorf("%T is a second SharedSelector after %T", h, c.selector[0])
	case len(c.store) > 1:
		return 0, fmt.Errorf("%T is a second Store after %T", h, c.store[0])
	}
	if e, ok := h.(EnhancedAuthenticator); ok {
		return fits, c.addMethods(e)
	}
	return fits, nil
}

// mayWait reports whether a hook is asked or told about the packets of a client
// that is connected: it may block, whatever it should do.
func (c *chain) mayWait() bool {
	return len(c.authorize)+len(c.intercept)+len(c.subscribe)+len(c.deliver)+len(c.selector)+
		len(c.subscription)+len(c.published)+len(c.drop)+len(c.limit)+len(c.trace) > 0
}

// enlist appends h to the hooks of one event if it implements its interface T.
// A method with the right name and another signature is an error: it is what a
// type assertion would silently pass over.
func enlist[T any](stage *[]T, h Hook) (bool, error) {
	if t, ok := h.(T); ok {
		*stage = append(*stage, t)
		return true, nil
	}
	capability, have := reflect.TypeFor[T](), reflect.TypeOf(h)
	for i := range capability.NumMethod() {
		want := capability.Method(i)
		if want.Name == "Close" {
			continue // many things can be closed
		}
		if got, ok := have.MethodByName(want.Name); ok {
			return false, fmt.Errorf("%T has a method %s of type %v, but not the methods of petrel.%s (%s%s)",
				h, want.Name, got.Type, capability.Name(), want.Name, want.Type.String()[len("func"):])
		}
	}
	return false, nil
}

// pointerHint tells of the common slip of giving a value whose pointer has the methods.
func pointerHint(h Hook) string {
	t := reflect.TypeOf(h)
	if t.Kind() != reflect.Pointer && reflect.PointerTo(t).NumMethod() > t.NumMethod() {
		return "; a pointer to it has more methods"
	}
	return ""
}

func (c *chain) addMethods(e EnhancedAuthenticator) error {
	for _, m := range e.AuthenticationMethods() {
		if _, taken := c.methods[m]; taken {
			return fmt.Errorf("%T: another hook has the Authentication Method %q", e, m)
		}
		c.methods[m] = e
	}
	return nil
}

// slowDecision is how long a decision may take until it is not worth while to
// gather more before a flush.
const slowDecision = time.Millisecond

// errHookPanic and errHookLate refuse what a hook did not decide.
var (
	errHookPanic = errors.New("petrel: the hook panicked")
	errHookLate  = errors.New("petrel: the hook did not decide in time")
)

// decision is a refusal of a hook. What it says is for the log, and not for the
// client, unless there is a [Refusal] in it.
type decision struct{ err error }

func (d *decision) Error() string { return d.err.Error() }
func (d *decision) Unwrap() error { return d.err }

// decide asks one hook on the calling goroutine, and refuses if it panics or
// answers too late.
func (b *Broker) decide(parent context.Context, hook any, ask func(context.Context) error) (err error) {
	d := newDeadline(parent, b.opts.HookTimeout)
	defer d.end()
	defer func() {
		if r := recover(); r != nil {
			b.log.panicked("a hook", r, "hook", fmt.Sprintf("%T", hook))
			err = errHookPanic
		}
	}()
	start := time.Now()
	err = ask(d)
	if slow := time.Since(start) > slowDecision; slow != b.hooks.slow.Load() {
		b.hooks.slow.Store(slow)
	}
	if err != nil {
		err = &decision{err}
	}
	if err == nil && d.Err() != nil {
		err = fmt.Errorf("%w: %w", errHookLate, d.Err())
	}
	if err != nil && packets.ReasonOf(err) == packets.UnspecifiedError {
		b.log.hookFailed(hook, err)
	}
	return err
}

// decideAside asks one hook on a goroutine of its own, and does not wait longer
// than the time it has: a hook that ignores its context holds up nobody. Nor does
// it wait for a client that has gone, which is looked for now and then.
func (b *Broker) decideAside(ctx context.Context, gone func() bool, hook any, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, b.opts.HookTimeout)
	decided := make(chan error, 1)
	b.spawn(func() {
		defer cancel()
		decided <- b.decide(ctx, hook, ask)
	})
	look := time.NewTicker(goneAfter)
	defer look.Stop()
	for ctx.Err() == nil {
		select {
		case err := <-decided:
			return err
		case <-ctx.Done():
		case <-look.C:
			if gone() {
				cancel()
				return errGone
			}
		}
	}
	select { // a hook that minds its context has an answer now
	case err := <-decided:
		return err
	default:
		err := fmt.Errorf("%w: %w", errHookLate, ctx.Err())
		b.log.hookFailed(hook, err)
		return err
	}
}

// goneAfter is the time between two looks at a client that waits for a decision.
const goneAfter = 250 * time.Millisecond

// errGone ends a connection whose client did not wait for its CONNACK.
var errGone = fmt.Errorf("petrel: the client left before it was answered: %w", io.EOF)

// gone reports whether the client has left while its CONNECT is being decided, and
// has said no more than that: what it has sent behind its CONNECT is to be heard.
func (c *Client) gone() bool { return c.phase != connected && !c.followed && c.conn.Gone() }

// never is for decisions that are not about a CONNECT.
func never() bool { return false }

func (c *Client) authorizeConnection(r *ConnectionRequest) error {
	for _, h := range c.door.admit {
		err := c.broker.decideAside(c.context(), c.gone, h, func(ctx context.Context) error { return h.AuthorizeConnection(ctx, r) })
		if err != nil {
			return err
		}
	}
	return nil
}

// authenticate asks the authenticators of the client's listener.
func (c *Client) authenticate(r *ConnectRequest) error {
	b, d := c.broker, c.door
	if len(d.authenticate) == 0 {
		return packets.NotAuthorized // only enhanced authentication admits
	}
	for _, h := range d.authenticate {
		until := r.Expires
		var err error
		if ask := func(ctx context.Context) error { return h.Authenticate(ctx, r) }; h.prompt {
			err = b.decide(b.ctx, h.Authenticator, ask)
		} else {
			err = b.decideAside(c.context(), c.gone, h.Authenticator, ask)
		}
		if err != nil {
			return err
		}
		r.Expires = earlier(until, r.Expires)
	}
	return nil
}

func (b *Broker) authorize(ctx context.Context, r *AccessRequest) error {
	for _, h := range b.hooks.authorize {
		if err := b.decide(ctx, h, func(ctx context.Context) error { return h.Authorize(ctx, r) }); err != nil {
			return err
		}
	}
	return nil
}

func (b *Broker) intercept(ctx context.Context, r *PublishRequest) error {
	for _, h := range b.hooks.intercept {
		if err := b.decide(ctx, h, func(ctx context.Context) error { return h.InterceptPublish(ctx, r) }); err != nil {
			return err
		}
	}
	return nil
}

func (b *Broker) interceptSubscribe(ctx context.Context, r *SubscribeRequest) error {
	for _, h := range b.hooks.subscribe {
		if err := b.decide(ctx, h, func(ctx context.Context) error { return h.InterceptSubscribe(ctx, r) }); err != nil {
			return err
		}
	}
	return nil
}

func (b *Broker) interceptDeliver(ctx context.Context, r *DeliverRequest) error {
	for _, h := range b.hooks.deliver {
		if err := b.decide(ctx, h, func(ctx context.Context) error { return h.InterceptDeliver(ctx, r) }); err != nil {
			return err
		}
	}
	return nil
}

// observe tells observers of an event; one that panics harms nobody.
func observe[T any](b *Broker, observers []T, tell func(T)) {
	for _, o := range observers {
		func() {
			defer func() {
				if r := recover(); r != nil {
					b.log.panicked("a hook", r, "hook", fmt.Sprintf("%T", o))
				}
			}()
			tell(o)
		}()
	}
}

func (b *Broker) sessionChanged(s *session, kind SessionEventKind) {
	if len(b.hooks.session) > 0 {
		e := &SessionEvent{ClientID: s.id, Identity: s.identity, Kind: kind}
		observe(b, b.hooks.session, func(o SessionObserver) { o.SessionChanged(e) })
	}
}

func (b *Broker) messageDropped(bt *batch, d *Drop) {
	ctx := bt.context()
	observe(b, b.hooks.drop, func(o DropObserver) { o.MessageDropped(ctx, d) })
}

// dropped tells of a message that is dropped where no lock is held.
func (b *Broker) dropped(bt *batch, receiver, topic string, qos QoS, reason DropReason) {
	bt.count.dropped[reason]++
	if len(b.hooks.drop) > 0 {
		b.messageDropped(bt, &Drop{receiver, topic, qos, reason})
	}
}
