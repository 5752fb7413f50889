package auth

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

var (
	_ petrel.Authenticator = AllowAll{}
	_ petrel.Authenticator = AllowLocal{}
	_ petrel.Authenticator = Anonymous{}

	_ petrel.PromptAuthenticator = AllowAll{}
	_ petrel.PromptAuthenticator = AllowLocal{}
	_ petrel.PromptAuthenticator = Anonymous{}
)

// AllowAll is an [petrel.Authenticator] that admits every client, whatever
// credentials it gives, and believes the user name that it claims. It is meant
// for networks where everybody is trusted, and for tests.
type AllowAll struct{}

// DecidesPromptly tells that it does.
func (AllowAll) DecidesPromptly() bool { return true }

// Authenticate admits the client.
func (AllowAll) Authenticate(context.Context, *petrel.ConnectRequest) error { return nil }

// AllowLocal is an [petrel.Authenticator] that admits the clients of this
// machine and refuses all others with [packets.NotAuthorized]. A client is local
// when it comes from a loopback address, over a Unix socket, or through a pipe
// in memory. Of the credentials it looks at none, as with [AllowAll].
//
// What counts is [petrel.Peer.RemoteAddr]. Behind a proxy on this machine that
// is the proxy's own address unless the listener recovers the client's, so
// everybody who reaches the proxy would be local. Where the listener does, the
// proxy has to be local as well: what is local to another machine is not here.
type AllowLocal struct{}

// DecidesPromptly tells that it does.
func (AllowLocal) DecidesPromptly() bool { return true }

// Authenticate admits the client if it is local.
func (AllowLocal) Authenticate(_ context.Context, r *petrel.ConnectRequest) error {
	if !isLocal(r.Peer.RemoteAddr) || r.Peer.Proxy != nil && !isLocal(r.Peer.Proxy.Addr) {
		return packets.NotAuthorized
	}
	return nil
}

// Anonymous is an [petrel.Authenticator] that admits the clients that claim
// nothing, with neither a user name nor a password, and refuses all others with
// [packets.BadUserNameOrPassword]. Beside another authenticator it lets in who
// gives no credentials, but nobody with wrong ones:
//
//	auth.AnyOf(users, auth.Anonymous{})
//
// The identity of these clients is empty, and so one for all of them.
type Anonymous struct{}

// DecidesPromptly tells that it does.
func (Anonymous) DecidesPromptly() bool { return true }

// Authenticate admits the client if it gives no credentials.
func (Anonymous) Authenticate(_ context.Context, r *petrel.ConnectRequest) error {
	if r.HasUserName || r.HasPassword {
		return packets.BadUserNameOrPassword
	}
	return nil
}

// isLocal trusts an address only as far as its network says how it came about:
// the text of some (the origin of a WebSocket, for one) is the client's choice.
func isLocal(addr net.Addr) bool {
	switch a := addr.(type) {
	case nil:
		return false
	case *net.TCPAddr:
		return a != nil && a.IP.IsLoopback()
	}
	switch network := addr.Network(); {
	case network == "pipe", network == "unix":
		return true
	case strings.HasPrefix(network, "tcp"):
		ap, err := netip.ParseAddrPort(addr.String())
		return err == nil && ap.Addr().Unmap().IsLoopback()
	}
	return false
}
