package listeners_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/internal/certtest"
	"github.com/petrelmq/petrel/listeners"
	"github.com/petrelmq/petrel/packets"
)

// What a reload means for connections that are open.
func TestCertificatesCheck(t *testing.T) {
	ca, other := certtest.New(), certtest.New()
	middle := ca.Subordinate("middle", 3)
	direct, below := ca.Issue("direct", certtest.Serial(7)).Leaf, middle.Issue("below", certtest.Serial(9)).Leaf
	short := []*x509.Certificate{direct, ca.Certificate}
	long := []*x509.Certificate{below, middle.Certificate, ca.Certificate}
	ended := []*x509.Certificate{ca.Issue("ended", certtest.Until(time.Now().Add(-time.Minute))).Leaf, ca.Certificate}
	pinned := []*x509.Certificate{direct}
	none := [][]byte{ca.Revoke(soon()), middle.Revoke(soon())}
	list := func(of *certtest.Authority, serial int64) [][]byte {
		return append([][]byte{of.Revoke(soon(), serial)}, none...)
	}
	cas := func(all ...*certtest.Authority) (text []byte) {
		for _, a := range all {
			text = append(text, a.PEM()...)
		}
		return text
	}
	for _, tc := range []struct {
		name   string
		cas    []byte
		lists  [][]byte
		chains [][]*x509.Certificate
		want   string // part of the error
	}{
		{"nothing has changed", cas(ca), none, [][]*x509.Certificate{short}, ""},
		{"nothing has changed, below an intermediate", cas(ca), none, [][]*x509.Certificate{long}, ""},
		{"revoked", cas(ca), list(ca, 7), [][]*x509.Certificate{short}, "direct with serial 7 is revoked"},
		{"another is revoked", cas(ca), list(ca, 8), [][]*x509.Certificate{short}, ""},
		{"revoked by another of that name", cas(ca), list(other, 7)[1:], [][]*x509.Certificate{short}, ""},
		{"revoked below an intermediate", cas(ca), list(middle, 9), [][]*x509.Certificate{long}, "below with serial 9 is revoked"},
		{"the intermediate is revoked", cas(ca), list(ca, 3), [][]*x509.Certificate{long}, "middle with serial 3 is revoked"},
		{"one of two chains is revoked", cas(ca), list(ca, 3), [][]*x509.Certificate{long, short}, ""},
		{"both chains are revoked", cas(ca), [][]byte{ca.Revoke(soon(), 3, 7)}, [][]*x509.Certificate{long, short}, "revoked"},
		{"the authority is gone", cas(other), nil, [][]*x509.Certificate{short}, "does not chain to a client CA"},
		{"the authority of one of two chains is gone", cas(middle), nil, [][]*x509.Certificate{short, long}, ""},
		{"one more authority", cas(other, ca), nil, [][]*x509.Certificate{short}, ""},
		{"the authority has a new certificate", cas(ca.Again()), nil, [][]*x509.Certificate{short}, ""},
		{"the intermediate is the authority now", cas(middle), nil, [][]*x509.Certificate{long}, ""},
		{"the same, revoked by it", cas(middle), list(middle, 9), [][]*x509.Certificate{long}, "revoked"},
		{"no list any more", cas(ca), nil, [][]*x509.Certificate{short}, ""},
		{"its certificate has ended", cas(ca), none, [][]*x509.Certificate{ended}, ""},
		{"its own certificate was the authority", cas(ca), none, [][]*x509.Certificate{pinned}, "does not chain to a client CA"},
		{"no certificate", cas(other), nil, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := deploy(t, ca)
			d.write(d.files.ClientCA, tc.cas)
			if tc.lists != nil {
				d.crl(tc.lists...)
			}
			err := d.load().Check(&tls.ConnectionState{VerifiedChains: tc.chains})
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
		})
	}
	require.NoError(t, deploy(t, ca).load().Check(nil), "no TLS")
}

// A list that runs out keeps new clients away, and puts out nobody.
func TestCertificatesCheckDoesNotLookAtTheNextUpdate(t *testing.T) {
	ca := certtest.New()
	d := deploy(t, ca)
	d.crl(ca.Revoke(time.Now().Add(time.Minute), 8))
	now := time.Now()
	d.files.Base = &tls.Config{Time: func() time.Time { return now }}
	c := d.load()
	chain := func(serial int64) *tls.ConnectionState {
		return &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{ca.Issue("client", certtest.Serial(serial)).Leaf, ca.Certificate}}}
	}
	now = now.Add(time.Hour)
	require.NoError(t, c.Check(chain(7)))
	require.ErrorContains(t, c.Check(chain(8)), "revoked")
}

// trusting serves TLS or secure WebSocket to clients that have to be trusted for as
// long as they are connected.
func trusting(t *testing.T, d *deployment, version uint16, web bool) (*brokertest.Broker, *listeners.Certificates, func(tls.Certificate, *certtest.Authority) net.Conn) {
	c := d.load()
	plain, err := listeners.TCP("127.0.0.1:0")
	require.NoError(t, err)
	l := tls.NewListener(plain, c.Config())
	if web {
		l, err = listeners.NewWebSocketListener(plain, listeners.WebSocketOptions{TLSConfig: c.Config("http/1.1"), AllowAnyOrigin: true})
		require.NoError(t, err)
	}
	b := brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{auth.Certificate{}}})
	served := make(chan error, 1)
	go func() {
		served <- b.ServeListener(l, petrel.ListenerOptions{Admit: []petrel.ConnectionAuthorizer{auth.TrustedCertificate{Check: c.Check}}})
	}()
	t.Cleanup(func() {
		require.NoError(t, b.Close())
		require.ErrorIs(t, receive(t, served), petrel.ErrBrokerClosed)
	})
	return b, c, func(own tls.Certificate, ca *certtest.Authority) net.Conn {
		config := ca.Client()
		config.MaxVersion = version
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
		conn := net.Conn(closing(t, tls.Client(dialTCP(t, plain.Addr().String()), config)))
		if web {
			return brokertest.WebSocketOver(t, conn)
		}
		return conn
	}
}

// A reload that succeeds puts out who is not trusted any more, with the reason where
// the version has one, and nobody else; one that fails puts out nobody.
func TestReloadPutsOutWhoIsNotTrusted(t *testing.T) {
	for name, change := range map[string]func(d *deployment, ca, middle *certtest.Authority, bad tls.Certificate){
		"revoked": func(d *deployment, ca, middle *certtest.Authority, bad tls.Certificate) {
			d.crl(ca.Revoke(soon()), middle.Revoke(soon(), bad.Leaf.SerialNumber.Int64()))
		},
		"the authority is gone": func(d *deployment, ca, _ *certtest.Authority, _ tls.Certificate) {
			d.write(d.files.ClientCA, ca.PEM())
		},
	} {
		for _, v := range []packets.Version{packets.V311, packets.V5} {
			for transport, web := range map[string]bool{"TLS": false, "secure WebSocket": true} {
				t.Run(name+", "+v.String()+", "+transport, func(t *testing.T) {
					ca := certtest.New()
					middle := ca.Subordinate("middle", 3)
					good, bad := ca.Issue("good"), middle.Issue("bad")
					d := deploy(t, ca)
					d.write(d.files.ClientCA, append(ca.PEM(), middle.PEM()...))
					d.crl(ca.Revoke(soon()), middle.Revoke(soon()))
					b, c, dial := trusting(t, d, tls.VersionTLS13, web)
					join := func(id string, own tls.Certificate) *brokertest.Client {
						client := brokertest.NewClient(t, dial(own, ca), v)
						client.SendRaw(connectBytes(t, v, id))
						require.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](client).Reason)
						return client
					}
					stays, goes := join("good", good), join("bad", bad)
					stays.Subscribe(0, "a")
					reload := func() error {
						err := c.Reload()
						require.NoError(t, b.Reauthorize(t.Context(), petrel.Everybody()))
						return err
					}

					require.NoError(t, reload(), "nothing has changed")
					change(d, ca, middle, bad)
					d.write(d.files.Key, []byte("not yet"))
					require.Error(t, reload())
					goes.Publish("a", "before", packets.AtLeastOnce)
					stays.ExpectPublish("a", "before")

					d.serverOf(ca)
					require.NoError(t, reload())
					goes.Send(&packets.Pingreq{}) // who could stay is answered
					if v == packets.V5 {
						goes.ExpectDisconnect(packets.NotAuthorized)
					}
					goes.ExpectClosed()
					require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: "a", Payload: []byte("after")}))
					stays.ExpectPublish("a", "after")
				})
			}
		}
	}
}

// A client whose handshake was before the reload, and whose CONNECT comes after it,
// does not slip through.
func TestReloadReachesClientsThatHaveNotConnected(t *testing.T) {
	ca := certtest.New()
	late := ca.Issue("late")
	d := deploy(t, ca)
	d.crl(ca.Revoke(soon()))
	b, c, dial := trusting(t, d, tls.VersionTLS12, false)
	conn := dial(late, ca).(*tls.Conn)
	require.NoError(t, conn.Handshake()) // in TLS 1.2 the server is the last to speak
	client := brokertest.NewClient(t, conn, packets.V5)

	d.crl(ca.Revoke(soon(), late.Leaf.SerialNumber.Int64()))
	require.NoError(t, c.Reload())
	require.NoError(t, b.Reauthorize(t.Context(), petrel.Everybody()))
	client.SendRaw(connectBytes(t, packets.V5, "late"))
	require.Equal(t, packets.NotAuthorized, brokertest.Expect[*packets.Connack](client).Reason)
	client.ExpectClosed()
}
