package auth_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"time"

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

func ExampleCertificate() {
	hook := auth.Certificate{Name: auth.DNSName} // instead of the common name

	device := &x509.Certificate{DNSNames: []string{"pump-7.example"}, NotAfter: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	verified := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{device}, VerifiedChains: [][]*x509.Certificate{{device}}}
	for _, state := range []*tls.ConnectionState{verified, nil} {
		r := &petrel.ConnectRequest{Peer: petrel.Peer{TLS: state}}
		err := hook.Authenticate(context.Background(), r)
		fmt.Printf("%q until %d, %v\n", r.Identity, r.Expires.Year(), packets.ReasonOf(err))
	}
	// Output:
	// "pump-7.example" until 2030, mqtt: success
	// "" until 1, mqtt: not authorized
}
