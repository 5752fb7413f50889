package auth_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/internal/certtest"
	"github.com/petrelmq/petrel/packets"
)

// verified is TLS in which the client has presented the certificate.
func verified(c *x509.Certificate) *tls.ConnectionState {
	return &tls.ConnectionState{
		HandshakeComplete: true, PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}},
	}
}

func TestCertificate(t *testing.T) {
	named := func(cn string) *x509.Certificate { return &x509.Certificate{Subject: pkix.Name{CommonName: cn}} }
	spiffe := &url.URL{Scheme: "spiffe", Host: "example.org", Path: "/pump/7"}
	full := &x509.Certificate{
		Subject: pkix.Name{CommonName: "pump"}, DNSNames: []string{"pump.example"},
		EmailAddresses: []string{"pump@example.org"}, URIs: []*url.URL{spiffe},
	}
	twice := &x509.Certificate{DNSNames: []string{"a.example", "b.example"}}
	unverified := verified(full)
	unverified.VerifiedChains = nil
	proxy := func(verified bool) *petrel.Proxy {
		return &petrel.Proxy{TLS: &petrel.ProxyTLS{Version: "TLSv1.3", CommonName: "pump", Verified: verified}}
	}
	for _, tc := range []struct {
		name string
		hook auth.Certificate
		peer petrel.Peer
		want string // identity; empty means refused
	}{
		{"common name", auth.Certificate{}, petrel.Peer{TLS: verified(full)}, "pump"},
		{"DNS name", auth.Certificate{Name: auth.DNSName}, petrel.Peer{TLS: verified(full)}, "pump.example"},
		{"mail address", auth.Certificate{Name: auth.EmailAddress}, petrel.Peer{TLS: verified(full)}, "pump@example.org"},
		{"URI", auth.Certificate{Name: auth.URI}, petrel.Peer{TLS: verified(full)}, "spiffe://example.org/pump/7"},
		{"no common name", auth.Certificate{}, petrel.Peer{TLS: verified(twice)}, ""},
		{"two DNS names", auth.Certificate{Name: auth.DNSName}, petrel.Peer{TLS: verified(twice)}, ""},
		{"no URI", auth.Certificate{Name: auth.URI}, petrel.Peer{TLS: verified(twice)}, ""},
		{"name that is not UTF-8", auth.Certificate{}, petrel.Peer{TLS: verified(named("a\xFF"))}, ""},
		{"name that errs", auth.Certificate{Name: func(*x509.Certificate) (string, error) { return "pump", errors.New("no") }},
			petrel.Peer{TLS: verified(full)}, ""},
		{"certificate that nobody has verified", auth.Certificate{}, petrel.Peer{TLS: unverified}, ""},
		{"TLS without a certificate", auth.Certificate{}, petrel.Peer{TLS: &tls.ConnectionState{}}, ""},
		{"no TLS", auth.Certificate{}, petrel.Peer{}, ""},
		{"what a proxy says", auth.Certificate{}, petrel.Peer{Proxy: proxy(true)}, ""},
		{"what a proxy that is believed says", auth.Certificate{BelieveProxy: true}, petrel.Peer{Proxy: proxy(true)}, "pump"},
		{"what the proxy has not verified", auth.Certificate{BelieveProxy: true}, petrel.Peer{Proxy: proxy(false)}, ""},
		{"what the client presents through the proxy", auth.Certificate{BelieveProxy: true},
			petrel.Peer{Proxy: proxy(true), TLS: verified(named("own"))}, "own"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := petrel.ConnectRequest{Peer: tc.peer, HasUserName: true, UserName: "claimed", Identity: "claimed"}
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

// The credentials of a client end with the certificates that vouch for it: those of
// the chain that lasts longest.
func TestCertificateEnds(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2030, 1, 1, hour, 0, 0, 0, time.UTC) }
	chain := func(hours ...int) (list []*x509.Certificate) {
		for _, h := range hours {
			list = append(list, &x509.Certificate{Subject: pkix.Name{CommonName: "pump"}, NotAfter: at(h)})
		}
		return list
	}
	for _, tc := range []struct {
		name   string
		hook   auth.Certificate
		chains [][]*x509.Certificate
		want   time.Time
	}{
		{"its own ends first", auth.Certificate{}, [][]*x509.Certificate{chain(1, 2, 3)}, at(1)},
		{"that of an authority ends first", auth.Certificate{}, [][]*x509.Certificate{chain(3, 1, 2)}, at(1)},
		{"two chains", auth.Certificate{}, [][]*x509.Certificate{chain(5, 1), chain(5, 4), chain(5, 2)}, at(4)},
		{"outlived", auth.Certificate{Outlive: true}, [][]*x509.Certificate{chain(1)}, time.Time{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			state := &tls.ConnectionState{PeerCertificates: tc.chains[0][:1], VerifiedChains: tc.chains}
			r := petrel.ConnectRequest{Peer: petrel.Peer{TLS: state}}
			require.NoError(t, tc.hook.Authenticate(t.Context(), &r))
			require.Equal(t, tc.want, r.Expires)
		})
	}
	believed := petrel.ConnectRequest{Peer: petrel.Peer{
		TLS: &tls.ConnectionState{}, Proxy: &petrel.Proxy{TLS: &petrel.ProxyTLS{CommonName: "pump", Verified: true}},
	}}
	require.NoError(t, auth.Certificate{BelieveProxy: true}.Authenticate(t.Context(), &believed))
	require.Zero(t, believed.Expires, "a proxy does not say when it ends")
}

// A client is put out when its certificate ends, with the reason where the version
// has one, and not if it may outlive it.
func TestCertificateThatEndsOnTheWire(t *testing.T) {
	brokertest.EachVersion(t, func(t *testing.T, v packets.Version) {
		for _, outlive := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				ca := certtest.New()
				roots := x509.NewCertPool()
				roots.AddCert(ca.Certificate)
				server := &tls.Config{Certificates: []tls.Certificate{ca.Issue("server")}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}
				b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{auth.Certificate{Outlive: outlive}}})
				near, far := net.Pipe()
				served := make(chan error, 1)
				go func() { served <- b.ServeConn(tls.Server(far, server)) }()
				own := ca.Issue("pump", certtest.Until(time.Now().Add(10*time.Minute)))
				c := brokertest.NewClient(t, tls.Client(near, ca.Client(own)), v)
				p := as(v, "c", "")
				c.Send(&p)
				require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](c).Reason)
				time.Sleep(9 * time.Minute)
				c.ExpectNothing()
				time.Sleep(2 * time.Minute)
				if outlive {
					c.Publish("a", "still here", packets.AtLeastOnce)
				} else {
					if v == packets.V5 {
						c.ExpectDisconnect(packets.MaximumConnectTime)
					}
					c.ExpectClosed()
				}
				require.NoError(t, b.Close())
				<-served
			})
		}
	})
}

func TestTrustedCertificate(t *testing.T) {
	asked := 0
	hook := auth.TrustedCertificate{Check: func(s *tls.ConnectionState) error {
		asked++
		if s.ServerName == "good" {
			return nil
		}
		return errors.New("revoked")
	}}
	for _, tc := range []struct {
		name    string
		request petrel.ConnectionRequest
		asks    int
		refuses bool
	}{
		{"handshake to come", petrel.ConnectionRequest{Stage: petrel.StageAccepted}, 0, false},
		{"handshake done", petrel.ConnectionRequest{Stage: petrel.StageSecured, Peer: petrel.Peer{TLS: &tls.ConnectionState{}}}, 0, false},
		{"good", petrel.ConnectionRequest{Connect: &petrel.ConnectRequest{}, Peer: petrel.Peer{TLS: &tls.ConnectionState{ServerName: "good"}}}, 1, false},
		{"not good", petrel.ConnectionRequest{Connect: &petrel.ConnectRequest{}, Peer: petrel.Peer{TLS: &tls.ConnectionState{}}}, 1, true},
		{"no TLS", petrel.ConnectionRequest{Connect: &petrel.ConnectRequest{}}, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked = 0
			err := hook.AuthorizeConnection(t.Context(), &tc.request)
			require.Equal(t, tc.asks, asked)
			if !tc.refuses {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "revoked")
			require.Equal(t, packets.NotAuthorized, packets.ReasonOf(err))
		})
	}
}
