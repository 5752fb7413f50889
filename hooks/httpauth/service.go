package httpauth

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/sample"
)

// Service is a web service of the host that is asked who may connect, and who may
// do what. Make one with [New]. Its methods may be called at any time. It does not
// print what is in it.
type Service struct {
	o       Options
	client  *http.Client
	token   atomic.Pointer[petrel.Secret]
	secret  [32]byte      // of the keys of questions
	turns   chan struct{} // holds one value for each question that the service has
	waiting atomic.Int64  // for a turn
	count   counters
	log     sample.Sampler
	breaker breaker

	mu      sync.Mutex // guards what follows; not held while the service is asked
	allowed *table
	denied  *table
	flights map[key]*flight
	ledger  ledger
}

// New makes a service. It refuses options that cannot be meant, and asks nothing.
func New(o Options) (*Service, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Service{
		o: o, client: o.asker(), turns: make(chan struct{}, o.MaximumConcurrent),
		allowed: newTable(o.CacheEntries), denied: newTable(o.CacheEntries),
		flights: make(map[key]*flight), ledger: ledger{of: make(map[string]uint64)},
		breaker: breaker{after: o.PauseAfter, pause: o.PauseFor}, log: sample.Sampler{Most: 1},
	}
	rand.Read(s.secret[:])
	s.o.Token = nil
	return s, s.SetToken(o.Token)
}

// SetToken replaces [Options.Token]: what is asked from now on has the new one. It
// refuses a token that cannot be one, and then keeps the old.
func (s *Service) SetToken(token petrel.Secret) error {
	if err := checkToken(token); err != nil {
		return fmt.Errorf("httpauth: set the token: %w", err)
	}
	token = slices.Clone(token)
	s.token.Store(&token)
	return nil
}

// Authenticator returns the hook that asks about each CONNECT.
func (s *Service) Authenticator() petrel.Authenticator { return authenticator{s} }

// Authorizer returns the hook that asks about each PUBLISH, each SUBSCRIBE, and
// each delivery that is checked. Of clients that the [Service.Authenticator] of the
// same Service has admitted with rights it does not ask.
//
// Rights are those of a connection: a client that is only known from the
// [petrel.Store] has none, and is asked about until it comes back.
func (s *Service) Authorizer() petrel.Authorizer { return authorizer{s} }

// Forget forgets all answers about an identity, and about CONNECTs with such a
// user name. From its return on, nothing that was asked before decides: the rights
// of connections are void too, and what their clients do is asked about instead.
// [petrel.Broker.Reauthorize], called after it, applies the change to what they have
// already. A client about which the service then does not answer is disconnected, and
// gets its new rights when it connects again.
//
// The empty identity is that of all clients without a user name.
func (s *Service) Forget(identity string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.forget(identity)
}

// ForgetAll is [Service.Forget] for everybody.
func (s *Service) ForgetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.forgetAll()
}

// Stats are how many questions there were, since [New].
type Stats struct {
	Requests uint64 // sent to the service
	Cached   uint64 // answered from the cache
	Shared   uint64 // answered together with another one that was the same
	Failures uint64 // that had no answer; several that were the same count once
	Paused   uint64 // refused at once because the service did not answer others, see [Options.PauseAfter]
}

type counters struct{ requests, cached, shared, failures, paused atomic.Uint64 }

// Stats returns the counters.
func (s *Service) Stats() Stats {
	c := &s.count
	return Stats{
		Requests: c.requests.Load(), Cached: c.cached.Load(), Shared: c.shared.Load(), Failures: c.failures.Load(), Paused: c.paused.Load(),
	}
}

// Format prints a name, for every verb.
func (s *Service) Format(f fmt.State, _ rune) { fmt.Fprint(f, "httpauth.Service") }
