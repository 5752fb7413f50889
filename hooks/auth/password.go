package auth

import (
	"crypto/pbkdf2"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
)

// maximumIterations bounds what one line can make every login of its user cost:
// a second or two.
const maximumIterations = 500_000

// passwords is what a password file says. It never changes.
type passwords struct {
	byUser map[string]*password
	list   []*password
}

// password is a hash that mosquitto_passwd made.
type password struct {
	iterations int // of PBKDF2; 0 is a single SHA-512
	salt, hash []byte
}

// is reports whether p was made of the given password.
func (p *password) is(given []byte) (bool, error) {
	var hash []byte
	if p.iterations == 0 {
		h := sha512.New()
		h.Write(given)
		h.Write(p.salt)
		hash = h.Sum(nil)
	} else {
		var err error
		if hash, err = pbkdf2.Key(sha512.New, string(given), p.salt, p.iterations, sha512.Size); err != nil {
			return false, err
		}
	}
	return subtle.ConstantTimeCompare(hash, p.hash) == 1, nil
}

// find returns the password of user. Of a user that is unknown it returns that
// of another one, always the same, so that it costs what a known one could
// cost. It returns nil if there are no users at all.
func (p *passwords) find(user string, seed maphash.Seed) (found *password, known bool) {
	if p == nil || len(p.list) == 0 {
		return nil, false
	}
	if found, known = p.byUser[user]; known {
		return found, true
	}
	return p.list[maphash.String(seed, user)%uint64(len(p.list))], false
}

func parsePasswords(path string, text []byte) (*passwords, error) {
	all := &passwords{byUser: make(map[string]*password)}
	lines := make(map[string]int)
	err := eachLine(path, text, func(number int, line string) error {
		user, rest, ok := strings.Cut(line, ":")
		if !ok {
			return errors.New("no ':' after a user name")
		}
		user = strings.Trim(user, blank)
		if user == "" {
			return errors.New("the user name is empty")
		}
		if first, again := lines[user]; again {
			return fmt.Errorf("the same user as in line %d", first)
		}
		p, err := parsePassword(strings.Trim(rest, blank))
		if err != nil {
			return err
		}
		lines[user], all.byUser[user], all.list = number, p, append(all.list, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func parsePassword(text string) (*password, error) {
	if text == "" {
		return nil, errors.New("the user has no password")
	}
	p := new(password)
	fields := strings.Split(text, "$")
	switch {
	case len(fields) == 5 && fields[0] == "" && fields[1] == "7":
		n, err := strconv.ParseUint(fields[2], 10, 32)
		switch {
		case err != nil || n == 0:
			return nil, errors.New("the number of iterations is not a number above 0")
		case n > maximumIterations:
			return nil, fmt.Errorf("too many iterations: %d; at most %d are allowed", n, maximumIterations)
		}
		p.iterations = int(n)
	case len(fields) == 4 && fields[0] == "" && fields[1] == "6":
	default:
		return nil, errors.New("the password is not hashed as $7$ITERATIONS$SALT$HASH or $6$SALT$HASH")
	}
	// The errors of base64 and strconv would quote the line.
	var err error
	if p.salt, err = base64.StdEncoding.DecodeString(fields[len(fields)-2]); err != nil || len(p.salt) == 0 {
		return nil, errors.New("the salt is not base64, or empty")
	}
	if p.hash, err = base64.StdEncoding.DecodeString(fields[len(fields)-1]); err != nil || len(p.hash) != sha512.Size {
		return nil, fmt.Errorf("the hash is not base64 of %d bytes", sha512.Size)
	}
	return p, nil
}
