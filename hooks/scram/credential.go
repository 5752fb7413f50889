package scram

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/petrelmq/petrel"
)

// How often a client hashes its password. RFC 7677 asks for 4,096 at least;
// above a million, small devices are busy for many seconds.
const (
	MinimumIterations = 4096
	DefaultIterations = 15_000
	MaximumIterations = 1_000_000
)

// saltSize is what NewCredential uses, and what unknown users seem to have.
const saltSize = 16

// Credential is what the broker knows of a user. It does not print its keys.
type Credential struct {
	Iterations int
	Salt       []byte
	StoredKey  [sha256.Size]byte
	ServerKey  [sha256.Size]byte
}

// NewCredential makes the credential of a password, which must be of printable
// ASCII, with a salt of its own. Zero iterations mean DefaultIterations.
func NewCredential(password petrel.Secret, iterations int) (Credential, error) {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	return derive(password, salt, iterations)
}

func derive(password petrel.Secret, salt []byte, iterations int) (Credential, error) {
	if iterations == 0 {
		iterations = DefaultIterations
	}
	if len(password) == 0 {
		return Credential{}, errors.New("scram: the password is empty")
	}
	for _, b := range password {
		if b < ' ' || b > '~' {
			return Credential{}, errors.New("scram: the password has characters that are not printable ASCII")
		}
	}
	c := Credential{Iterations: iterations, Salt: salt}
	if err := c.check(); err != nil {
		return Credential{}, err
	}
	salted, err := pbkdf2.Key(sha256.New, string(password), salt, iterations, sha256.Size)
	if err != nil {
		return Credential{}, fmt.Errorf("scram: hash a password: %w", err)
	}
	c.StoredKey = sha256.Sum256(mac(salted, "Client Key"))
	c.ServerKey = [sha256.Size]byte(mac(salted, "Server Key"))
	return c, nil
}

func (c *Credential) check() error {
	if c.Iterations < MinimumIterations || c.Iterations > MaximumIterations {
		return fmt.Errorf("scram: %d iterations; %d to %d are possible", c.Iterations, MinimumIterations, MaximumIterations)
	}
	if len(c.Salt) < 8 || len(c.Salt) > 64 {
		return fmt.Errorf("scram: a salt of %d bytes; 8 to 64 are possible", len(c.Salt))
	}
	return nil
}

// Format prints the iterations alone.
func (c Credential) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "%s$%d:***", method, c.Iterations)
}

// MarshalJSON refuses: a credential belongs into a file of credentials.
func (c Credential) MarshalJSON() ([]byte, error) {
	return nil, errors.New("scram: a credential is not for JSON; see Credential.Text")
}

// Text is the credential as [ParseCredential] reads it:
// SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY, in base64 where it is bytes.
// PostgreSQL has the same form. Who has it can pass as the broker.
func (c Credential) Text() string {
	b := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", method, c.Iterations, b(c.Salt), b(c.StoredKey[:]), b(c.ServerKey[:]))
}

// ParseCredential reads what Credential.Text writes. Its errors do not quote it.
func ParseCredential(text string) (Credential, error) {
	var c Credential
	fields := strings.FieldsFunc(text, func(r rune) bool { return r == '$' || r == ':' })
	if len(fields) != 5 || fields[0] != method || strings.Count(text, "$") != 2 || strings.Count(text, ":") != 2 {
		return c, errors.New("scram: the credential has not the form SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY")
	}
	var err error
	if c.Iterations, err = strconv.Atoi(fields[1]); err != nil {
		return c, errors.New("scram: the iterations are no number")
	}
	if c.Salt, err = base64.StdEncoding.DecodeString(fields[2]); err != nil {
		return c, errors.New("scram: the salt is not base64")
	}
	for i, key := range []*[sha256.Size]byte{&c.StoredKey, &c.ServerKey} {
		b, err := base64.StdEncoding.DecodeString(fields[3+i])
		if err != nil || len(b) != sha256.Size {
			return Credential{}, fmt.Errorf("scram: a key is not base64 of %d bytes", sha256.Size)
		}
		copy(key[:], b)
	}
	return c, c.check()
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	io.WriteString(h, text)
	return h.Sum(nil)
}
