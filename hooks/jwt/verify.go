package jwt

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// latest is a bound on exp: what is beyond is no date.
var latest = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// verify says what a token has to say, or why it is not valid; the error does not
// quote it.
func (a *Authenticator) verify(token, clientID string) (*findings, error) {
	if a.o.MaximumTokenSize >= 0 && len(token) > a.o.MaximumTokenSize {
		return nil, fmt.Errorf("jwt: a token of %d bytes; Options.MaximumTokenSize is %d", len(token), a.o.MaximumTokenSize)
	}
	claims := jwt.MapClaims{}
	if _, err := a.parser.ParseWithClaims(token, claims, a.keysFor); err != nil {
		return nil, reason(err)
	}
	f := new(findings)
	var ok bool
	if f.identity, ok = claims[a.o.Identity].(string); !ok || f.identity == "" {
		return nil, fmt.Errorf("jwt: the claim %q is no identity", a.o.Identity)
	}
	if a.o.ClientID != "" && claims[a.o.ClientID] != clientID {
		return nil, fmt.Errorf("jwt: the claim %q is not the client identifier", a.o.ClientID)
	}
	expires, err := claims.GetExpirationTime()
	switch {
	case err != nil, expires == nil && claims["exp"] != nil, expires != nil && expires.After(latest):
		return nil, errors.New("jwt: the claim exp is no date")
	case expires != nil:
		f.expires = expires.Add(a.o.Leeway)
	}
	if a.rights != nil {
		f.grants, err = a.rights.of(claims)
	}
	return f, err
}

// keysFor returns the keys that the token may be signed with: those for the
// algorithm of its header, which so cannot make a public key a secret.
func (a *Authenticator) keysFor(t *jwt.Token) (any, error) {
	if _, critical := t.Header["crit"]; critical {
		return nil, errCritical
	}
	kid, ok := t.Header["kid"].(string)
	if !ok && t.Header["kid"] != nil {
		return nil, errNoKey
	}
	var set jwt.VerificationKeySet
	if keys := a.o.Keys.CurrentKeys(); keys != nil {
		for _, k := range keys.find(Algorithm(t.Method.Alg()), kid) {
			set.Keys = append(set.Keys, material(k))
		}
	}
	if len(set.Keys) == 0 {
		return nil, errNoKey
	}
	return set, nil
}

var (
	errCritical = errors.New("jwt: the token has critical extensions, and none is known")
	errNoKey    = errors.New("jwt: there is no key for the token")
)

// reason says why a token is not valid, in words that do not depend on what is in it.
func reason(err error) error {
	for _, r := range []struct {
		is   error
		text string
	}{
		{errCritical, ""}, {errNoKey, ""},
		{jwt.ErrTokenMalformed, "jwt: it is no token"},
		{jwt.ErrTokenSignatureInvalid, "jwt: the signature is wrong, or its algorithm is not allowed"},
		{jwt.ErrTokenUnverifiable, "jwt: the algorithm of the token is not known"},
		{jwt.ErrTokenExpired, "jwt: the token has expired"},
		{jwt.ErrTokenNotValidYet, "jwt: the token is not valid yet"},
		{jwt.ErrTokenInvalidIssuer, "jwt: the token is of another issuer"},
		{jwt.ErrTokenInvalidAudience, "jwt: the token is for others"},
		{jwt.ErrTokenRequiredClaimMissing, "jwt: the token lacks a claim that it must have"},
	} {
		if errors.Is(err, r.is) {
			if r.text == "" {
				return r.is
			}
			return errors.New(r.text)
		}
	}
	return errors.New("jwt: the token is not valid")
}
