package auth

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

var _ petrel.Authorizer = (*ACLFile)(nil)

// ACLFile is an [petrel.Authorizer] that reads an acl_file of mosquitto:
//
//	# before the first user: clients without identity
//	topic read news/#
//
//	user alice
//	topic readwrite home/#
//	topic deny home/safe/#
//
//	# everybody, wherever it stands
//	pattern write sensor/%u/data
//	pattern read command/%c/+
//
// The access is read, write, readwrite or deny; without one it is readwrite.
// What no line allows is denied, and what a line denies is denied whatever
// others allow. Several sections of one user are one. Blank lines, and lines
// that begin with #, say nothing; anything else is an error that names path,
// line and reason.
//
// The user is the client's [petrel.Client.Identity], which is its user name
// unless an authenticator says otherwise; so is %u in a pattern. %c is
// [petrel.Client.ID], which a client chooses as it likes unless an authenticator
// looks at it. A pattern does not apply to a client for which one of its
// variables is empty or contains '+', '#' or '/'; this holds for deny too. Where a
// filter begins with a variable, that matches nothing that begins with '$', as
// a wildcard in its place would not: it takes a line with "$SYS/" to read there.
//
// A client may publish what it may write. It may subscribe to a filter if it
// may read some topic that the filter matches, unless one line denies them all.
// Where one line allows all of them and none denies some, deliveries cost nothing;
// otherwise each message is checked before it is delivered, also where only several
// lines together allow them all. mosquitto grants each SUBSCRIBE instead: see
// GrantSubscriptions.
type ACLFile struct {
	// CheckAll has every delivery checked, also where the client may read all
	// that its filter matches: a Reload then takes rights away from subscriptions
	// that exist by itself. Set it before the broker starts.
	CheckAll bool

	// GrantSubscriptions has every SUBSCRIBE granted, as mosquitto does: clients
	// that subscribe to more than they may read are not told so by their SUBACK, and
	// each message is checked before it is delivered. Without it, a filter that
	// matches nothing the client may read is refused with 0x87, or 0x80 before
	// MQTT 5.0. Set it before the broker starts.
	GrantSubscriptions bool

	path   string
	reload sync.Mutex // makes one step of reading and replacing
	acl    atomic.Pointer[acl]
}

// NewACLFile reads the file at path. A file without rules is no error, but
// allows nobody anything; see [ACLFile.Rules].
func NewACLFile(path string) (*ACLFile, error) {
	f := &ACLFile{path: path}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Reload reads the file again. From its return on, what the file says now
// decides about each PUBLISH, each SUBSCRIBE, and each delivery that is checked.
// Call [petrel.Broker.Reauthorize] after it: until then subscriptions whose
// deliveries are not checked keep their messages, unless CheckAll is set. If it fails, everything stays as it was. It may be called at
// any time.
//
// Replace the file by renaming another to its name: a file that is read while
// it is being written may lack rules, among them those that deny.
func (f *ACLFile) Reload() error {
	f.reload.Lock()
	defer f.reload.Unlock()
	text, err := readFile(f.path)
	if err != nil {
		return err
	}
	rules, err := parseACL(f.path, text)
	if err != nil {
		return err
	}
	f.acl.Store(rules)
	return nil
}

// Rules returns how many rules the file has: its topic and pattern lines. With
// none, nobody is allowed anything.
func (f *ACLFile) Rules() int {
	if rules := f.acl.Load(); rules != nil {
		return rules.rules
	}
	return 0
}

// Authorize allows what the file allows.
func (f *ACLFile) Authorize(_ context.Context, r *petrel.AccessRequest) error {
	return f.decide(subject{id: r.Client.ID(), identity: r.Client.Identity()}, r)
}

func (f *ACLFile) decide(s subject, r *petrel.AccessRequest) error {
	rules := f.acl.Load()
	if rules == nil {
		return packets.NotAuthorized
	}
	err := rules.decide(s, r)
	switch {
	case r.Action != petrel.Subscribe:
		return err
	case err != nil && !f.GrantSubscriptions:
		return err
	case err != nil || f.CheckAll:
		r.CheckDeliveries = true
	}
	return nil
}
