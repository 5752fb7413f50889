package auth_test

import (
	"errors"
	"os"
	"os/user"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/packets"
)

func TestPeerUser(t *testing.T) {
	me, err := user.Current()
	require.NoError(t, err)
	mine := &petrel.Credentials{UID: uint32(os.Getuid())}
	for _, tc := range []struct {
		name string
		hook auth.PeerUser
		who  *petrel.Credentials
		want string // identity; empty means refused
	}{
		{"number", auth.PeerUser{}, &petrel.Credentials{UID: 1000}, "uid:1000"},
		{"root", auth.PeerUser{}, &petrel.Credentials{}, "uid:0"},
		{"name", auth.PeerUser{Name: auth.UserName}, mine, me.Username},
		{"number without a name", auth.PeerUser{Name: auth.UserName}, &petrel.Credentials{UID: 4_000_000_001}, ""},
		{"empty name", auth.PeerUser{Name: func(petrel.Credentials) (string, error) { return "", nil }}, mine, ""},
		{"name that errs", auth.PeerUser{Name: func(petrel.Credentials) (string, error) { return "x", errors.New("no") }}, mine, ""},
		{"a user whom the process cannot see", auth.PeerUser{}, &petrel.Credentials{UID: 65534}, ""},
		{"by TCP, or behind a proxy", auth.PeerUser{}, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := petrel.ConnectRequest{Peer: petrel.Peer{Credentials: tc.who}, HasUserName: true, UserName: "claimed", Identity: "claimed"}
			err := tc.hook.Authenticate(t.Context(), &r)
			if tc.want == "" {
				require.Equal(t, packets.NotAuthorized, packets.ReasonOf(err))
				require.Equal(t, "claimed", r.Identity)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, r.Identity)
		})
	}
}
