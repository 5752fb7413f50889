package jwt_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	golangjwt "github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/jwt"
	"github.com/petrelmq/petrel/packets"
)

func TestEachAlgorithm(t *testing.T) {
	a, err := jwt.New(jwt.Options{Keys: is.keys(t)})
	require.NoError(t, err)
	for _, tt := range []struct {
		method golangjwt.SigningMethod
		key    any
		kid    string
	}{
		{golangjwt.SigningMethodHS256, is.secret, "h"}, {golangjwt.SigningMethodRS256, is.rsa, "r"},
		{golangjwt.SigningMethodES256, is.ecdsa, "e"}, {golangjwt.SigningMethodEdDSA, is.ed, "d"},
	} {
		for _, kid := range []string{tt.kid, ""} {
			r := request(token(t, tt.method, tt.key, kid, valid()))
			require.NoError(t, a.Authenticate(context.Background(), r), "%s, kid %q", tt.method.Alg(), kid)
			require.Equal(t, "alice", r.Identity)
			require.WithinDuration(t, time.Now().Add(time.Hour), r.Expires, 2*time.Second)
		}
		for _, kid := range []string{"other", "h", "r", "e", "d"} {
			if kid != tt.kid {
				err := a.Authenticate(context.Background(), request(token(t, tt.method, tt.key, kid, valid())))
				require.ErrorIs(t, err, packets.BadUserNameOrPassword, "%s with kid %q", tt.method.Alg(), kid)
			}
		}
	}
}

// None of these may get in, whatever the library makes of them.
func TestForgedTokens(t *testing.T) {
	a, err := jwt.New(jwt.Options{Keys: is.keys(t)})
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&is.rsa.PublicKey)
	require.NoError(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	good := is.hs256(t, valid())
	parts := strings.Split(good, ".")
	encode := base64.RawURLEncoding.EncodeToString
	critical := golangjwt.NewWithClaims(golangjwt.SigningMethodHS256, valid())
	critical.Header["crit"] = []string{"b64"}
	criticalToken, err := critical.SignedString(is.secret)
	require.NoError(t, err)
	for name, tok := range map[string]string{
		"algorithm none":                       token(t, golangjwt.SigningMethodNone, golangjwt.UnsafeAllowNoneSignatureType, "", valid()),
		"algorithm none with a kid":            token(t, golangjwt.SigningMethodNone, golangjwt.UnsafeAllowNoneSignatureType, "r", valid()),
		"none, written otherwise":              encode([]byte(`{"alg":"nOnE"}`)) + "." + parts[1] + ".",
		"without algorithm":                    encode([]byte(`{}`)) + "." + parts[1] + "." + parts[2],
		"the public RSA key, PEM, as a secret": token(t, golangjwt.SigningMethodHS256, public, "r", valid()),
		"the public RSA key, DER, as a secret": token(t, golangjwt.SigningMethodHS256, der, "", valid()),
		"the modulus as a secret":              token(t, golangjwt.SigningMethodHS256, is.rsa.N.Bytes(), "r", valid()),
		"HS512 with the secret":                token(t, golangjwt.SigningMethodHS512, is.secret, "h", valid()),
		"PS256 with the RSA key":               token(t, golangjwt.SigningMethodPS256, is.rsa, "r", valid()),
		"another key":                          token(t, golangjwt.SigningMethodES256, other, "e", valid()),
		"no signature":                         parts[0] + "." + parts[1] + ".",
		"a signature that is cut":              good[:len(good)-4],
		"another payload":                      parts[0] + "." + encode([]byte(`{"sub":"root","exp":9999999999}`)) + "." + parts[2],
		"a fourth part":                        good + ".x",
		"one part":                             "x",
		"dots":                                 "..",
		"many dots":                            strings.Repeat(".", 8000),
		"a kid that is no string":              encode([]byte(`{"alg":"HS256","kid":7}`)) + "." + parts[1] + "." + parts[2],
		"critical extensions":                  criticalToken,
		"a key that the token brings with it":  encode([]byte(`{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"}}`)) + "." + parts[1] + "." + parts[2],
		"a token of more than the maximum":     is.hs256(t, with(claims{"x": strings.Repeat("x", 8<<10)})),
	} {
		r := request(tok)
		err := a.Authenticate(context.Background(), r)
		assert.ErrorIs(t, err, packets.BadUserNameOrPassword, name)
		assert.Equal(t, []any{"whoever", time.Time{}}, []any{r.Identity, r.Expires}, name)
		if len(tok) > 20 && err != nil {
			assert.NotContains(t, err.Error(), tok[:20], name)
		}
	}
	require.NoError(t, a.Authenticate(context.Background(), request(good)))
}

func TestClaims(t *testing.T) {
	now := time.Now().Unix()
	strict := jwt.Options{Issuer: "them", Audience: "us"}
	for _, tt := range []struct {
		name  string
		o     jwt.Options
		c     claims
		valid bool
	}{
		{"all is well", strict, valid(), true},
		{"another issuer", strict, with(claims{"iss": "others"}), false},
		{"no issuer", strict, with(claims{"iss": nil}), false},
		{"another issuer, not looked at", jwt.Options{}, with(claims{"iss": "others"}), true},
		{"another audience", strict, with(claims{"aud": "others"}), false},
		{"no audience", strict, with(claims{"aud": nil}), false},
		{"one audience of several", strict, with(claims{"aud": []string{"others", "us"}}), true},
		{"expired", strict, with(claims{"exp": now - 2}), false},
		{"expired, within the leeway", jwt.Options{Leeway: time.Minute}, with(claims{"exp": now - 2}), true},
		{"expired, beyond the leeway", jwt.Options{Leeway: time.Minute}, with(claims{"exp": now - 62}), false},
		{"not valid yet", strict, with(claims{"nbf": now + 10}), false},
		{"not valid yet, within the leeway", jwt.Options{Leeway: time.Minute}, with(claims{"nbf": now + 10}), true},
		{"without exp", strict, with(claims{"exp": nil}), false},
		{"without exp, where that is allowed", jwt.Options{AllowEndless: true}, with(claims{"exp": nil}), true},
		{"exp 0, where none is allowed", jwt.Options{AllowEndless: true}, with(claims{"exp": 0}), false},
		{"exp null", strict, claims{"sub": "alice", "exp": nil}, false},
		{"exp that is a text", strict, with(claims{"exp": "tomorrow"}), false},
		{"exp beyond all dates", strict, with(claims{"exp": 1e300}), false},
		{"exp in many thousand years", strict, with(claims{"exp": 1e15}), false},
		{"exp below 0, where none is allowed", jwt.Options{AllowEndless: true}, with(claims{"exp": -1}), false},
		{"no subject", strict, with(claims{"sub": nil}), false},
		{"an empty subject", strict, with(claims{"sub": ""}), false},
		{"a subject that is a number", strict, with(claims{"sub": 7}), false},
		{"another claim is the identity", jwt.Options{Identity: "email"}, with(claims{"sub": nil, "email": "alice"}), true},
		{"another claim is the identity and not there", jwt.Options{Identity: "email"}, valid(), false},
		{"the client identifier", jwt.Options{ClientID: "cid"}, with(claims{"cid": "c"}), true},
		{"another client identifier", jwt.Options{ClientID: "cid"}, with(claims{"cid": "d"}), false},
		{"no client identifier", jwt.Options{ClientID: "cid"}, valid(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Keys = is.keys(t)
			a, err := jwt.New(tt.o)
			require.NoError(t, err)
			r := request(is.hs256(t, tt.c))
			err = a.Authenticate(context.Background(), r)
			if !tt.valid {
				require.ErrorIs(t, err, packets.BadUserNameOrPassword)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "alice", r.Identity)
			if exp, ok := tt.c["exp"].(int64); ok {
				require.Equal(t, exp, r.Expires.Add(-tt.o.Leeway).Unix())
			} else {
				require.Zero(t, r.Expires)
			}
		})
	}
}

func TestWhereTheTokenIs(t *testing.T) {
	good := is.hs256(t, valid())
	for _, tt := range []struct {
		name         string
		fromUserName bool
		r            petrel.ConnectRequest
		want         error
	}{
		{"in the password", false, petrel.ConnectRequest{HasUserName: true, UserName: "x", HasPassword: true, Password: petrel.Secret(good)}, nil},
		{"in the password, without a user name", false, petrel.ConnectRequest{HasPassword: true, Password: petrel.Secret(good)}, nil},
		{"in the user name instead", false, petrel.ConnectRequest{HasUserName: true, UserName: good}, packets.NotAuthorized},
		{"nowhere", false, petrel.ConnectRequest{}, packets.NotAuthorized},
		{"an empty password", false, petrel.ConnectRequest{HasUserName: true, UserName: "x", HasPassword: true}, packets.NotAuthorized},
		{"a password that is not there but has a value", false, petrel.ConnectRequest{HasUserName: true, Password: petrel.Secret(good)}, packets.NotAuthorized},
		{"by option in the user name", true, petrel.ConnectRequest{HasUserName: true, UserName: good}, nil},
		{"by option in the user name, but in the password", true, petrel.ConnectRequest{HasUserName: true, UserName: "x", HasPassword: true, Password: petrel.Secret(good)}, packets.BadUserNameOrPassword},
		{"by option nowhere", true, petrel.ConnectRequest{HasPassword: true, Password: petrel.Secret(good)}, packets.NotAuthorized},
	} {
		a, err := jwt.New(jwt.Options{Keys: is.keys(t), FromUserName: tt.fromUserName})
		require.NoError(t, err)
		err = a.Authenticate(context.Background(), &tt.r)
		if tt.want == nil {
			require.NoError(t, err, tt.name)
		} else {
			require.ErrorIs(t, err, tt.want, tt.name)
		}
	}
}

func TestOptionsThatCannotBeMeant(t *testing.T) {
	for name, o := range map[string]jwt.Options{
		"no keys": {}, "a leeway below 0": {Keys: is.keys(t), Leeway: -1}, "a leeway of hours": {Keys: is.keys(t), Leeway: time.Hour},
	} {
		_, err := jwt.New(o)
		require.Error(t, err, name)
	}
	_, err := jwt.NewGuard(jwt.Options{Keys: is.keys(t)}, jwt.Rights{})
	require.Error(t, err)
}

func FuzzToken(f *testing.F) {
	a, err := jwt.NewGuard(jwt.Options{Keys: is.keys(f)}, jwt.Rights{Publish: "p"})
	require.NoError(f, err)
	good := is.hs256(f, with(claims{"p": []string{"a/#"}}))
	f.Add([]byte(good))
	f.Add([]byte("a.b.c"))
	f.Fuzz(func(t *testing.T, token []byte) {
		if err := a.Authenticate(context.Background(), request(string(token))); err == nil && !bytes.Equal(token, []byte(good)) {
			t.Fatalf("%q is accepted", token)
		}
	})
}
