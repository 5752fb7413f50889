package auth_test

import (
	"context"
	"fmt"
	"net"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/packets"
)

func ExampleAnyOf() {
	withPassword := authenticator(func(_ context.Context, r *petrel.ConnectRequest) error {
		if r.HasPassword && string(r.Password) == "open sesame" {
			return nil
		}
		return packets.BadUserNameOrPassword
	})
	hook := auth.AnyOf(auth.AllowLocal{}, withPassword)

	for _, r := range []*petrel.ConnectRequest{
		{Peer: petrel.Peer{RemoteAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}},
		{Peer: petrel.Peer{RemoteAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}}, HasPassword: true, Password: petrel.Secret("open sesame")},
		{Peer: petrel.Peer{RemoteAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}}},
	} {
		fmt.Println(hook.Authenticate(context.Background(), r) == nil)
	}
	// Output:
	// true
	// true
	// false
}
