package scram

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/petrelmq/petrel"
)

const method = "SCRAM-SHA-256"

var _ petrel.EnhancedAuthenticator = (*Authenticator)(nil)

// ErrUnknownUser is what [Credentials] say of a user that there is not.
var ErrUnknownUser = errors.New("scram: unknown user")

// Credentials are where the broker knows its users from: a [File], or a table of
// the host.
type Credentials interface {
	// Credential returns that of a user, or ErrUnknownUser. Any other error
	// refuses and is logged. It is called by many goroutines at once.
	Credential(ctx context.Context, user string) (Credential, error)
}

// Options configures an [Authenticator].
type Options struct {
	// Credentials must be set.
	Credentials Credentials

	// Iterations is what unknown users seem to have, so that nobody learns who
	// exists: give what the credentials have. Zero means DefaultIterations.
	Iterations int

	// SaltKey is what the salts of unknown users are made of, at least 16 bytes.
	// Empty means a random one: then the salts of unknown users change with each
	// start of the broker, and those of known users do not, which tells who exists.
	SaltKey petrel.Secret
}

// Authenticator is a [petrel.EnhancedAuthenticator] for SCRAM-SHA-256. A client
// that proves that it knows the password of its user gets the user as its
// identity. If its CONNECT has a user name too, that must be the same. Everything
// else is refused with [packets.NotAuthorized], and the log says why.
//
// An unknown user gets a salt, always the same, and is refused like one whose
// password is wrong.
type Authenticator struct {
	o     Options
	nonce func() string
}

// New makes the hook. It refuses options that cannot be meant.
func New(o Options) (*Authenticator, error) {
	if o.Credentials == nil {
		return nil, errors.New("scram: Options.Credentials is nil")
	}
	if o.Iterations == 0 {
		o.Iterations = DefaultIterations
	}
	if o.Iterations < MinimumIterations || o.Iterations > MaximumIterations {
		return nil, fmt.Errorf("scram: Options.Iterations is %d; %d to %d is possible", o.Iterations, MinimumIterations, MaximumIterations)
	}
	switch {
	case len(o.SaltKey) == 0:
		o.SaltKey = make(petrel.Secret, sha256.Size)
		rand.Read(o.SaltKey)
	case len(o.SaltKey) < 16:
		return nil, fmt.Errorf("scram: Options.SaltKey has %d bytes; at least 16 are needed", len(o.SaltKey))
	}
	return &Authenticator{o, rand.Text}, nil
}

// AuthenticationMethods returns SCRAM-SHA-256.
func (a *Authenticator) AuthenticationMethods() []string { return []string{method} }

// BeginAuthentication starts an exchange of two rounds.
func (a *Authenticator) BeginAuthentication(_ context.Context, r *petrel.AuthenticationRequest) (petrel.AuthenticationExchange, error) {
	x := &exchange{a: a}
	switch {
	case r.Reauthentication:
		x.must = r.Connect.Identity
	case r.Connect.HasUserName:
		x.must = r.Connect.UserName
	}
	return x, nil
}

// lookup returns the credential of a user. That of an unknown one is made up, and
// no password has it.
func (a *Authenticator) lookup(ctx context.Context, user string) (c Credential, known bool, err error) {
	salt := mac(a.o.SaltKey, user)
	c, err = a.o.Credentials.Credential(ctx, user)
	if errors.Is(err, ErrUnknownUser) {
		c = Credential{Iterations: a.o.Iterations, Salt: salt[:saltSize]}
		rand.Read(c.StoredKey[:])
		rand.Read(c.ServerKey[:])
		return c, false, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("scram: look up a user: %w", err)
	}
	return c, true, c.check()
}

// proves reports whether proof is what only somebody with the password can say
// about the messages of the exchange.
func (c *Credential) proves(proof []byte, messages string) bool {
	signature := mac(c.StoredKey[:], messages)
	if len(proof) != len(signature) {
		return false
	}
	key := make([]byte, len(proof))
	for i := range proof {
		key[i] = proof[i] ^ signature[i]
	}
	stored := sha256.Sum256(key)
	return hmac.Equal(stored[:], c.StoredKey[:])
}
