package auth

import (
	"fmt"
	"unicode/utf8"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
	"github.com/petrelmq/petrel/topics"
)

// Grants are what one client may do, as lists of topic filters: what a token
// says, or a row of a table. They mean what the pattern lines of an [ACLFile]
// mean: %c is the client identifier, %u the identity, and a filter does not apply
// to a client for which one of them is empty or contains '+', '#' or '/'. What is
// not granted is denied. Grants never change.
type Grants struct{ of acl }

// NewGrants compiles the filters of topics that may be published to, and of those
// that may be read.
func NewGrants(publish, subscribe []string) (*Grants, error) {
	g := new(Grants)
	for _, list := range []struct {
		what    access
		filters []string
	}{{write, publish}, {read, subscribe}} {
		for _, filter := range list.filters {
			if err := checkGrant(filter); err != nil {
				return nil, fmt.Errorf("auth: grant %q: %w", filter, err)
			}
			g.of.patterns.add(list.what, variable(filter))
		}
	}
	return g, nil
}

func checkGrant(filter string) error {
	if _, _, shared := topics.SplitShared(filter); shared {
		return errSharedRule
	}
	if !utf8.ValidString(filter) {
		return errNotUTF8
	}
	return topics.CheckFilter(filter, 0)
}

// Authorize is for a hook that has the grants of r.Client. It allows what they
// allow; where they cover only some of what a filter matches, each delivery is
// checked. With nil Grants nothing is allowed.
func (g *Grants) Authorize(r *petrel.AccessRequest) error {
	return g.decide(subject{id: r.Client.ID(), identity: r.Client.Identity()}, r)
}

func (g *Grants) decide(s subject, r *petrel.AccessRequest) error {
	if g == nil {
		return packets.NotAuthorized
	}
	return g.of.decide(s, r)
}
