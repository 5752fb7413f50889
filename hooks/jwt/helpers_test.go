package jwt_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"testing"
	"time"

	golangjwt "github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/jwt"
	"github.com/petrelmq/petrel/packets"
)

// issuer has a private key for each algorithm.
type issuer struct {
	secret []byte
	rsa    *rsa.PrivateKey
	ecdsa  *ecdsa.PrivateKey
	ed     ed25519.PrivateKey
}

func newIssuer() *issuer {
	i := &issuer{secret: make([]byte, 32)}
	rand.Read(i.secret)
	var err error
	if i.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		panic(err)
	}
	if i.ecdsa, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		panic(err)
	}
	if _, i.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		panic(err)
	}
	return i
}

// is is the issuer of all tests, as RSA keys take their time.
var is = newIssuer()

func (i *issuer) keys(t testing.TB) *jwt.Keys {
	keys, err := jwt.NewKeys(
		jwt.Key{ID: "h", Algorithm: jwt.HS256, Key: petrel.Secret(i.secret)},
		jwt.Key{ID: "r", Algorithm: jwt.RS256, Key: &i.rsa.PublicKey},
		jwt.Key{ID: "e", Algorithm: jwt.ES256, Key: &i.ecdsa.PublicKey},
		jwt.Key{ID: "d", Algorithm: jwt.EdDSA, Key: i.ed.Public().(ed25519.PublicKey)},
	)
	require.NoError(t, err)
	return keys
}

type claims = golangjwt.MapClaims

// token signs claims; kid is left out of the header if it is empty.
func token(t testing.TB, method golangjwt.SigningMethod, key any, kid string, c claims) string {
	u := golangjwt.NewWithClaims(method, c)
	if kid != "" {
		u.Header["kid"] = kid
	}
	s, err := u.SignedString(key)
	require.NoError(t, err)
	return s
}

func (i *issuer) hs256(t testing.TB, c claims) string {
	return token(t, golangjwt.SigningMethodHS256, i.secret, "h", c)
}

func valid() claims {
	return claims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "iss": "them", "aud": "us"}
}

// with is valid claims, changed.
func with(changes claims) claims {
	c := valid()
	for k, v := range changes {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

// bearing is a CONNECT with a token as its password.
func bearing(v packets.Version, id, token string) packets.Connect {
	return packets.Connect{
		Version: v, ClientID: []byte(id), CleanStart: true, HasUserName: true, UserName: []byte("whoever"),
		HasPassword: true, Password: []byte(token),
	}
}

func request(token string) *petrel.ConnectRequest {
	return &petrel.ConnectRequest{
		ClientID: "c", HasUserName: true, UserName: "whoever", Identity: "whoever", HasPassword: true, Password: petrel.Secret(token),
	}
}
