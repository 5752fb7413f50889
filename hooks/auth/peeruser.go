package auth

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

var _ petrel.Authenticator = PeerUser{}

// PeerUser is a [petrel.Authenticator] that admits the processes of this machine
// that come by a Unix socket, on Linux, and makes their user their identity. All
// others are refused with [packets.NotAuthorized], those behind a proxy too, since
// the user would be that of the proxy. A user name that the client claims, and a
// password, are not looked at. Who can reach the socket at all, its mode decides.
type PeerUser struct {
	// Name returns the identity of who is at the other end. Nil means "uid:" and
	// the number of the user; [UserName] is another.
	Name func(petrel.Credentials) (string, error)
}

// overflowUser stands for all users that the process's user namespace does not know.
const overflowUser = 65534

// Authenticate admits the client if the system says who it is.
func (u PeerUser) Authenticate(_ context.Context, r *petrel.ConnectRequest) error {
	name, err := u.nameOf(r.Peer.Credentials)
	if err == nil && name == "" {
		err = errors.New("auth: the user at the other end has no name")
	}
	if err != nil {
		return &packets.Error{Code: packets.NotAuthorized, Detail: "user of the machine", Err: err}
	}
	r.Identity = name
	return nil
}

func (u PeerUser) nameOf(c *petrel.Credentials) (string, error) {
	switch {
	case c == nil:
		return "", errors.New("auth: the system does not say who the client is")
	case c.UID == overflowUser:
		return "", fmt.Errorf("auth: user %d may be anybody whom this process cannot see", c.UID)
	case u.Name == nil:
		return "uid:" + strconv.FormatUint(uint64(c.UID), 10), nil
	}
	return u.Name(*c)
}

// UserName is the name that the system has for the user. It looks it up each time;
// a user without a name is an error.
func UserName(c petrel.Credentials) (string, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(c.UID), 10))
	if err != nil {
		return "", fmt.Errorf("auth: look up a user: %w", err)
	}
	return u.Username, nil
}
