package auth

import (
	"maps"
	"slices"

	"github.com/petrelmq/petrel"
)

// Inside and Overlap are the decisions about pairs of filters.
var (
	Inside  = inside
	Overlap = overlap
)

// ParsePasswordFile is NewPasswordFile for a text that is in no file.
func ParsePasswordFile(path string, text []byte) (*PasswordFile, error) {
	users, err := parsePasswords(path, text)
	if err != nil {
		return nil, err
	}
	f := newPasswordFile(path)
	f.users.Store(users)
	return f, nil
}

// UserNames returns the users of the file, sorted.
func (f *PasswordFile) UserNames() []string {
	return slices.Sorted(maps.Keys(f.users.Load().byUser))
}

// Turns returns how many hashes are computed at a time.
func (f *PasswordFile) Turns() int { return cap(f.turns) }

// TakeTurn takes the turn of one hash until it is given back.
func (f *PasswordFile) TakeTurn() (giveBack func()) {
	f.turns <- struct{}{}
	return func() { <-f.turns }
}

// ParseACLFile is NewACLFile for a text that is in no file.
func ParseACLFile(path string, text []byte) (*ACLFile, error) {
	rules, err := parseACL(path, text)
	if err != nil {
		return nil, err
	}
	f := &ACLFile{path: path}
	f.acl.Store(rules)
	return f, nil
}

// Decide is Authorize for a client that is made up.
func (f *ACLFile) Decide(id, identity string, r *petrel.AccessRequest) error {
	return f.decide(subject{id, identity}, r)
}

// Decide is Authorize for a client that is made up.
func (g *Grants) Decide(id, identity string, r *petrel.AccessRequest) error {
	return g.decide(subject{id, identity}, r)
}
