package scram

import "github.com/petrelmq/petrel"

// SetNonce replaces the random half of the broker's nonces.
func (a *Authenticator) SetNonce(nonce string) { a.nonce = func() string { return nonce } }

// Derive is NewCredential with a given salt.
func Derive(password petrel.Secret, salt []byte, iterations int) (Credential, error) {
	return derive(password, salt, iterations)
}
