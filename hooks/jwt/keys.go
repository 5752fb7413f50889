package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/petrelmq/petrel"
)

// Algorithm is one that signs tokens, by its name in RFC 7518 and RFC 8037.
type Algorithm string

// The algorithms that a key can be for.
const (
	HS256 Algorithm = "HS256" // HMAC with SHA-256; the key is a petrel.Secret of at least 32 bytes
	RS256 Algorithm = "RS256" // RSA, PKCS #1 v1.5, with SHA-256; a *rsa.PublicKey of at least 2,048 bits
	ES256 Algorithm = "ES256" // ECDSA on P-256 with SHA-256; a *ecdsa.PublicKey
	EdDSA Algorithm = "EdDSA" // Ed25519; a ed25519.PublicKey
)

// Key verifies tokens that are signed with one algorithm.
type Key struct {
	ID        string // the kid of its tokens; empty if they have none
	Algorithm Algorithm
	Key       any // of the type that Algorithm says
}

// KeySource is where an [Authenticator] takes its keys from: [Keys] that never
// change, a [JWKSFile], or something of the host that fetches them.
type KeySource interface {
	// CurrentKeys is called for each token, by many goroutines at once.
	CurrentKeys() *Keys
}

// Keys is a set of keys. It never changes. It does not print what is in it.
type Keys struct{ list []Key }

// maximumKeys bounds what one token without kid can make the broker try.
const maximumKeys = 256

// NewKeys checks that each key fits its algorithm, and that no two have the same
// ID and algorithm unless that ID is empty.
func NewKeys(keys ...Key) (*Keys, error) {
	if len(keys) > maximumKeys {
		return nil, fmt.Errorf("jwt: %d keys; at most %d are possible", len(keys), maximumKeys)
	}
	k := new(Keys)
	for i, key := range keys {
		if err := key.check(); err != nil {
			return nil, fmt.Errorf("jwt: key %d (%q): %w", i, key.ID, err)
		}
		if key.ID != "" && len(k.find(key.Algorithm, key.ID)) > 0 {
			return nil, fmt.Errorf("jwt: key %d: there is another %s key %q", i, key.Algorithm, key.ID)
		}
		if secret, ok := key.Key.(petrel.Secret); ok {
			key.Key = append(petrel.Secret(nil), secret...)
		}
		k.list = append(k.list, key)
	}
	return k, nil
}

func (k Key) check() error {
	fits := false
	switch key := k.Key.(type) {
	case petrel.Secret:
		if fits = k.Algorithm == HS256; fits && len(key) < 32 {
			return fmt.Errorf("a secret of %d bytes; at least 32 are needed", len(key))
		}
	case *rsa.PublicKey:
		if fits = k.Algorithm == RS256; fits && (key == nil || key.N == nil || key.N.BitLen() < 2048 || key.E < 3 || key.E%2 == 0) {
			return errors.New("a RSA key that is no key, or of less than 2,048 bits")
		}
	case *ecdsa.PublicKey:
		if fits = k.Algorithm == ES256; fits && (key == nil || key.Curve != elliptic.P256()) {
			return errors.New("the key is not on P-256")
		}
	case ed25519.PublicKey:
		if fits = k.Algorithm == EdDSA; fits && len(key) != ed25519.PublicKeySize {
			return errors.New("the key is not one of Ed25519")
		}
	}
	if !fits {
		return fmt.Errorf("a %T is no key for %q", k.Key, k.Algorithm)
	}
	return nil
}

// CurrentKeys returns k.
func (k *Keys) CurrentKeys() *Keys { return k }

// Len returns how many keys there are. With none, no token is accepted.
func (k *Keys) Len() int { return len(k.list) }

// Format prints how many keys there are.
func (k *Keys) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "jwt.Keys(%d)", k.Len()) }

var _ fmt.Formatter = (*Keys)(nil)

// find returns the keys of an algorithm that a token with the kid can be signed
// with: all of them if it has none.
func (k *Keys) find(a Algorithm, kid string) []Key {
	var found []Key
	for _, key := range k.list {
		if key.Algorithm == a && (kid == "" || key.ID == kid) {
			found = append(found, key)
		}
	}
	return found
}

// material is the key in the type that verifies.
func material(k Key) any {
	if secret, ok := k.Key.(petrel.Secret); ok {
		return []byte(secret)
	}
	return k.Key
}
