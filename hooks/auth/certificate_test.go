package auth_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
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
