package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/petrelmq/petrel"
)

var _ KeySource = (*JWKSFile)(nil)

// JWKSFile is a file with a JSON Web Key Set (RFC 7517), see [ParseJWKS].
type JWKSFile struct {
	path   string
	reload sync.Mutex // makes one step of reading and replacing
	keys   atomic.Pointer[Keys]
}

// NewJWKSFile reads the file at path.
func NewJWKSFile(path string) (*JWKSFile, error) {
	f := &JWKSFile{path: path}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Reload reads the file again. From its return on, its keys verify the tokens of
// each CONNECT; clients that are connected stay so until their token expires. If
// it fails, the keys stay as they were, and the error says why. It may be called
// at any time. Replace the file by renaming another to its name.
func (f *JWKSFile) Reload() error {
	f.reload.Lock()
	defer f.reload.Unlock()
	text, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("jwt: %w", err) // which names the path
	}
	keys, err := ParseJWKS(text)
	if err != nil {
		return fmt.Errorf("%w (in %s)", err, f.path)
	}
	f.keys.Store(keys)
	return nil
}

// CurrentKeys returns the keys that the last successful Reload read.
func (f *JWKSFile) CurrentKeys() *Keys { return f.keys.Load() }

// jwk is one key of a set, as far as it matters.
type jwk struct {
	Type       string   `json:"kty"`
	Use        string   `json:"use"`
	Operations []string `json:"key_ops"`
	Algorithm  string   `json:"alg"`
	ID         string   `json:"kid"`
	Curve      string   `json:"crv"`
	N          string   `json:"n"`
	E          string   `json:"e"`
	X          string   `json:"x"`
	Y          string   `json:"y"`
	K          string   `json:"k"`
	Private    string   `json:"d"`
}

// ParseJWKS reads a JSON Web Key Set. Keys of other types and algorithms, and
// those that are not for signatures, are passed over; a key without alg is for
// the one algorithm here that its type has. A set without any key that can be
// used is an error, and so is a broken key, or a private one, which has no
// business on a broker.
func ParseJWKS(text []byte) (*Keys, error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("jwt: key set: not JSON, or of another form") // the cause could quote a key
	}
	var keys []Key
	for i, j := range set.Keys {
		key, use, err := j.key()
		if err != nil {
			return nil, fmt.Errorf("jwt: key set: key %d (%q): %w", i, j.ID, err)
		}
		if use {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("jwt: key set: there is no key that can be used")
	}
	return NewKeys(keys...)
}

// key returns the key, unless it is of a kind that is passed over.
func (j *jwk) key() (k Key, use bool, err error) {
	algorithm := map[string]Algorithm{"oct": HS256, "RSA": RS256, "EC": ES256, "OKP": EdDSA}[j.Type]
	switch {
	case algorithm == "", j.Algorithm != "" && j.Algorithm != string(algorithm),
		j.Use != "" && j.Use != "sig", j.Operations != nil && !slices.Contains(j.Operations, "verify"),
		j.Type == "EC" && j.Curve != "P-256", j.Type == "OKP" && j.Curve != "Ed25519":
		return Key{}, false, nil
	case j.Private != "":
		return Key{}, false, errors.New("it is a private key")
	}
	k = Key{ID: j.ID, Algorithm: algorithm}
	k.Key, err = j.material()
	return k, true, err
}

func (j *jwk) material() (any, error) {
	switch j.Type {
	case "oct":
		secret, err := part("k", j.K)
		return petrel.Secret(secret), err
	case "RSA":
		n, errN := part("n", j.N)
		e, errE := part("e", j.E)
		exponent := new(big.Int).SetBytes(e)
		if err := errors.Join(errN, errE); err != nil || exponent.BitLen() > 31 {
			return nil, errors.Join(errors.New("n and e are no RSA key"), err)
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
	case "EC":
		x, errX := part("x", j.X)
		y, errY := part("y", j.Y)
		if err := errors.Join(errX, errY); err != nil || len(x) != 32 || len(y) != 32 {
			return nil, errors.Join(errors.New("x and y are no point of P-256"), err)
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	}
	x, err := part("x", j.X)
	return ed25519.PublicKey(x), err
}

func part(name, text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%s is not base64url, or empty", name)
	}
	return b, nil
}
