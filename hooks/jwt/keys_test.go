package jwt_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	golangjwt "github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/jwt"
	"github.com/petrelmq/petrel/packets"
)

type object map[string]any

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwks are the public keys of the issuer, each changed as given.
func (i *issuer) jwks(t testing.TB) []object {
	point, err := i.ecdsa.PublicKey.Bytes()
	require.NoError(t, err)
	return []object{
		{"kty": "oct", "kid": "h", "alg": "HS256", "k": b64(i.secret)},
		{"kty": "RSA", "kid": "r", "use": "sig", "n": b64(i.rsa.N.Bytes()), "e": b64(big.NewInt(int64(i.rsa.E)).Bytes())},
		{"kty": "EC", "kid": "e", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:]), "key_ops": []string{"verify"}},
		{"kty": "OKP", "kid": "d", "crv": "Ed25519", "x": b64(i.ed.Public().(ed25519.PublicKey))},
	}
}

func keySet(t testing.TB, keys ...object) []byte {
	text, err := json.Marshal(object{"keys": keys})
	require.NoError(t, err)
	return text
}

func TestKeySetHasEachAlgorithm(t *testing.T) {
	keys, err := jwt.ParseJWKS(keySet(t, is.jwks(t)...))
	require.NoError(t, err)
	require.Equal(t, 4, keys.Len())
	a, err := jwt.New(jwt.Options{Keys: keys})
	require.NoError(t, err)
	for _, s := range []string{
		is.hs256(t, valid()), token(t, golangjwt.SigningMethodRS256, is.rsa, "r", valid()),
		token(t, golangjwt.SigningMethodES256, is.ecdsa, "e", valid()), token(t, golangjwt.SigningMethodEdDSA, is.ed, "d", valid()),
	} {
		require.NoError(t, a.Authenticate(context.Background(), request(s)))
	}
}

func TestKeySetsThatAreBroken(t *testing.T) {
	all := is.jwks(t)
	change := func(i int, name string, value any) []byte {
		changed := object{}
		for k, v := range all[i] {
			changed[k] = v
		}
		if changed[name] = value; value == nil {
			delete(changed, name)
		}
		return keySet(t, all[(i+1)%4], changed)
	}
	for _, tt := range []struct {
		name string
		text []byte
		keys int // that can be used; 0 means an error
	}{
		{"no JSON", []byte("keys"), 0},
		{"a list", []byte("[]"), 0},
		{"nothing", []byte("{}"), 0},
		{"no key", keySet(t), 0},
		{"no key that can be used", keySet(t, object{"kty": "LWE"}), 0},
		{"a type that is not known", change(0, "kty", "LWE"), 1},
		{"another algorithm", change(1, "alg", "PS256"), 1},
		{"for encryption", change(1, "use", "enc"), 1},
		{"another operation", change(2, "key_ops", []string{"wrapKey"}), 1},
		{"another curve", change(2, "crv", "P-384"), 1},
		{"another curve of Edwards", change(3, "crv", "Ed448"), 1},
		{"an algorithm of another type", change(1, "alg", "HS256"), 1},
		{"a short secret", change(0, "k", b64(make([]byte, 31))), 0},
		{"no secret", change(0, "k", nil), 0},
		{"a secret in other base64", change(0, "k", "++//"), 0},
		{"a short RSA key", change(1, "n", b64(make([]byte, 128))), 0},
		{"no modulus", change(1, "n", nil), 0},
		{"an exponent of 1", change(1, "e", b64([]byte{1})), 0},
		{"a large exponent", change(1, "e", b64([]byte{1, 0, 0, 0, 1})), 0},
		{"no point of the curve", change(2, "x", b64(make([]byte, 32))), 0},
		{"a coordinate that is cut", change(2, "y", b64(make([]byte, 31))), 0},
		{"an Ed25519 key that is cut", change(3, "x", b64(make([]byte, 31))), 0},
		{"a private key", change(1, "d", "AAAA"), 0},
		{"the same kid twice", keySet(t, all[1], all[1]), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := jwt.ParseJWKS(tt.text)
			if tt.keys == 0 {
				require.Error(t, err)
				require.NotContains(t, err.Error(), b64(is.secret))
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.keys, keys.Len())
		})
	}
}

func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	all := is.jwks(t)
	write := func(text []byte) { require.NoError(t, os.WriteFile(path, text, 0o600)) }
	_, err := jwt.NewJWKSFile(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	write(keySet(t, all[0]))
	f, err := jwt.NewJWKSFile(path)
	require.NoError(t, err)
	a, err := jwt.New(jwt.Options{Keys: f})
	require.NoError(t, err)
	admits := func(hmac, ed bool) {
		t.Helper()
		assert.Equal(t, hmac, a.Authenticate(context.Background(), request(is.hs256(t, valid()))) == nil)
		assert.Equal(t, ed, a.Authenticate(context.Background(), request(token(t, golangjwt.SigningMethodEdDSA, is.ed, "d", valid()))) == nil)
	}
	admits(true, false)
	write(keySet(t, all[3]))
	admits(true, false)
	require.NoError(t, f.Reload())
	admits(false, true)
	for _, broken := range [][]byte{nil, []byte("{"), keySet(t), keySet(t, all[0], all[0])} {
		write(broken)
		require.ErrorContains(t, f.Reload(), path)
		admits(false, true)
	}
	require.NoError(t, os.Remove(path))
	require.ErrorContains(t, f.Reload(), path)
	admits(false, true)
}

func TestKeysFitTheirAlgorithm(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	material := map[jwt.Algorithm]any{
		jwt.HS256: petrel.Secret(is.secret), jwt.RS256: &is.rsa.PublicKey, jwt.ES256: &is.ecdsa.PublicKey, jwt.EdDSA: is.ed.Public().(ed25519.PublicKey),
	}
	for _, a := range []jwt.Algorithm{jwt.HS256, jwt.RS256, jwt.ES256, jwt.EdDSA, "none", "", "HS512"} {
		for b, key := range material {
			_, err := jwt.NewKeys(jwt.Key{Algorithm: a, Key: key})
			require.Equal(t, a == b, err == nil, "%s for %q", b, a)
		}
	}
	for _, k := range []jwt.Key{
		{Algorithm: jwt.HS256, Key: petrel.Secret("short")}, {Algorithm: jwt.HS256, Key: is.secret}, {Algorithm: jwt.HS256},
		{Algorithm: jwt.RS256, Key: (*rsa.PublicKey)(nil)}, {Algorithm: jwt.RS256, Key: is.rsa}, {Algorithm: jwt.RS256, Key: &rsa.PublicKey{}},
		{Algorithm: jwt.ES256, Key: (*ecdsa.PublicKey)(nil)}, {Algorithm: jwt.ES256, Key: &p384.PublicKey}, {Algorithm: jwt.EdDSA, Key: ed25519.PublicKey{}},
	} {
		_, err := jwt.NewKeys(k)
		require.Error(t, err, "%T for %s", k.Key, k.Algorithm)
		require.NotContains(t, err.Error(), string(is.secret))
	}
	_, err = jwt.NewKeys(make([]jwt.Key, 257)...)
	require.Error(t, err)
}

// Without kid each key of the algorithm is tried.
func TestKeysWithoutID(t *testing.T) {
	other := newSecret()
	keys, err := jwt.NewKeys(jwt.Key{Algorithm: jwt.HS256, Key: petrel.Secret(other)}, jwt.Key{Algorithm: jwt.HS256, Key: petrel.Secret(is.secret)})
	require.NoError(t, err)
	a, err := jwt.New(jwt.Options{Keys: keys})
	require.NoError(t, err)
	for _, secret := range [][]byte{other, is.secret} {
		require.NoError(t, a.Authenticate(context.Background(), request(token(t, golangjwt.SigningMethodHS256, secret, "", valid()))))
		err := a.Authenticate(context.Background(), request(token(t, golangjwt.SigningMethodHS256, secret, "h", valid())))
		require.ErrorIs(t, err, packets.BadUserNameOrPassword)
	}
	require.Error(t, a.Authenticate(context.Background(), request(token(t, golangjwt.SigningMethodHS256, newSecret(), "", valid()))))
}

func newSecret() []byte {
	b := make([]byte, 32)
	rand.Read(b)
	return b
}

func TestKeysDoNotPrint(t *testing.T) {
	keys := is.keys(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		require.Equal(t, "jwt.Keys(4)", fmt.Sprintf(verb, keys))
	}
}
