package auth_test

import (
	"context"
	"net"
	"testing"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/packets"
	"github.com/stretchr/testify/assert"
)

type addr struct{ network, text string }

func (a addr) Network() string { return a.network }
func (a addr) String() string  { return a.text }

func TestAllowAll(t *testing.T) {
	for name, r := range map[string]*petrel.ConnectRequest{
		"nothing known of the client": {},
		"a client from elsewhere":     {Peer: petrel.Peer{RemoteAddr: &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 40000}}},
		"wrong credentials":           {HasUserName: true, UserName: "x", HasPassword: true, Password: petrel.Secret("y")},
	} {
		t.Run(name, func(t *testing.T) {
			assert.NoError(t, auth.AllowAll{}.Authenticate(t.Context(), r))
		})
	}
}

func TestAnonymous(t *testing.T) {
	for _, tc := range []struct {
		name string
		r    petrel.ConnectRequest
		want error
	}{
		{"no credentials", petrel.ConnectRequest{ClientID: "c"}, nil},
		{"a user name", petrel.ConnectRequest{HasUserName: true, UserName: "x"}, packets.BadUserNameOrPassword},
		{"an empty user name", petrel.ConnectRequest{HasUserName: true}, packets.BadUserNameOrPassword},
		{"a password alone", petrel.ConnectRequest{HasPassword: true}, packets.BadUserNameOrPassword},
		{"both", petrel.ConnectRequest{HasUserName: true, UserName: "x", HasPassword: true}, packets.BadUserNameOrPassword},
	} {
		t.Run(tc.name, func(t *testing.T) {
			assert.Equal(t, tc.want, auth.Anonymous{}.Authenticate(t.Context(), &tc.r))
			refuses := authenticator(func(context.Context, *petrel.ConnectRequest) error { return packets.NotAuthorized })
			err := auth.AnyOf(refuses, auth.Anonymous{}).Authenticate(t.Context(), &tc.r)
			assert.Equal(t, tc.want == nil, err == nil, "beside one that refuses")
		})
	}
}

func TestAllowLocal(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()

	for _, tc := range []struct {
		name  string
		addr  net.Addr
		admit bool
	}{
		{"IPv4 loopback", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}, true},
		{"anywhere in 127/8", &net.TCPAddr{IP: net.IPv4(127, 8, 9, 10), Port: 40000}, true},
		{"IPv6 loopback", &net.TCPAddr{IP: net.IPv6loopback, Port: 40000}, true},
		{"Unix socket", &net.UnixAddr{Name: "/run/petrel.sock", Net: "unix"}, true},
		{"unnamed Unix socket", &net.UnixAddr{Net: "unix"}, true},
		{"net.Pipe", one.RemoteAddr(), true},
		{"another type of TCP address, loopback", addr{"tcp", "127.0.0.1:40000"}, true},
		{"another type of TCP address, mapped loopback", addr{"tcp6", "[::ffff:127.0.0.1]:40000"}, true},

		{"unknown", nil, false},
		{"nil *net.TCPAddr", (*net.TCPAddr)(nil), false},
		{"no IP", &net.TCPAddr{Port: 40000}, false},
		{"public IPv4", &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 40000}, false},
		{"private IPv4", &net.TCPAddr{IP: net.IPv4(192, 168, 1, 7), Port: 40000}, false},
		{"unspecified IPv4", &net.TCPAddr{IP: net.IPv4zero, Port: 40000}, false},
		{"public IPv6", &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 40000}, false},
		{"link-local IPv6", &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 40000}, false},
		{"another type of TCP address, public", addr{"tcp", "203.0.113.7:40000"}, false},
		{"another type of TCP address, not an address", addr{"tcp", "localhost"}, false},
		{"origin of a WebSocket, which the client chooses", addr{"websocket", "127.0.0.1:80"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := auth.AllowLocal{}.Authenticate(t.Context(), &petrel.ConnectRequest{Peer: petrel.Peer{RemoteAddr: tc.addr}})
			if tc.admit {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, packets.NotAuthorized)
			}
		})
	}
}

// What is local to the machine of a proxy is not local here.
func TestAllowLocalBehindAProxy(t *testing.T) {
	here, there := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}, &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 9}
	for _, tc := range []struct {
		name          string
		client, proxy net.Addr
		admit         bool
	}{
		{"both local", here, here, true},
		{"a local proxy of a client elsewhere", there, here, false},
		{"a client local to a proxy elsewhere", here, there, false},
		{"a proxy that is not known", here, addr{}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &petrel.ConnectRequest{Peer: petrel.Peer{RemoteAddr: tc.client, Proxy: &petrel.Proxy{Addr: tc.proxy}}}
			assert.Equal(t, tc.admit, auth.AllowLocal{}.Authenticate(t.Context(), r) == nil)
		})
	}
}
