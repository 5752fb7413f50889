package listeners_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/certtest"
	"github.com/petrelmq/petrel/listeners"
)

func soon() time.Time { return time.Now().Add(time.Hour) }

// deployment is a directory with the files of a server.
type deployment struct {
	t     *testing.T
	files listeners.CertificateFiles
}

// deploy writes the files of a server of ca, which asks clients for certificates
// of the same.
func deploy(t *testing.T, ca *certtest.Authority) *deployment {
	dir := t.TempDir()
	d := &deployment{t, listeners.CertificateFiles{
		Certificate: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key"),
		ClientCA: filepath.Join(dir, "clients.crt"),
	}}
	d.serverOf(ca)
	d.write(d.files.ClientCA, ca.PEM())
	return d
}

func (d *deployment) serverOf(ca *certtest.Authority) {
	certtest.Save(filepath.Dir(d.files.Key), "server", ca.Issue("server"))
}

func (d *deployment) crl(list ...[]byte) {
	d.files.CRL = filepath.Join(filepath.Dir(d.files.Key), "crl")
	var all []byte
	for _, l := range list {
		all = append(all, l...)
	}
	d.write(d.files.CRL, all)
}

func (d *deployment) write(name string, content []byte) {
	require.NoError(d.t, os.WriteFile(name, content, 0o600))
}

func (d *deployment) load() *listeners.Certificates {
	d.t.Helper()
	c, err := listeners.LoadCertificates(d.files)
	require.NoError(d.t, err)
	return c
}

// visitor is a client that keeps its sessions.
type visitor struct {
	config *tls.Config
	certs  *[]tls.Certificate // the one it presents, whatever the server asks for
}

func visitorOf(a *certtest.Authority, version uint16, certs ...tls.Certificate) visitor {
	config := a.Client()
	config.MinVersion, config.MaxVersion = version, version
	config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if len(certs) == 0 {
			return new(tls.Certificate), nil
		}
		return &certs[0], nil
	}
	return visitor{config, &certs}
}

// visit makes a connection and has both ends speak, so that the client has got its
// ticket. It returns what the server thinks of it.
func (v visitor) visit(t *testing.T, config *tls.Config) (client, server *tls.Conn, err error) {
	t.Helper()
	l, err := listeners.TCP("127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	near := closing(t, dialTCP(t, l.Addr().String()))
	far, err := l.Accept()
	require.NoError(t, err)
	client, server = tls.Client(near, v.config), closing(t, tls.Server(far, config))
	bound(t, client)
	bound(t, server)
	heard := make(chan error, 1)
	go func() {
		_, err := client.Write([]byte{1})
		if err == nil {
			_, err = client.Read(make([]byte, 1))
		}
		heard <- err
	}()
	_, err = server.Read(make([]byte, 1))
	if err == nil {
		_, err = server.Write([]byte{2})
	}
	if err != nil {
		_ = far.Close()
	}
	if clientErr := receive(t, heard); err == nil {
		require.NoError(t, clientErr)
	}
	return client, server, err
}

func (v visitor) admitted(t *testing.T, config *tls.Config, resumed bool) *tls.Conn {
	t.Helper()
	client, server, err := v.visit(t, config)
	require.NoError(t, err)
	require.Equal(t, resumed, client.ConnectionState().DidResume, "is a session resumed?")
	require.Equal(t, resumed, server.ConnectionState().DidResume)
	require.NotEmpty(t, server.ConnectionState().VerifiedChains)
	return client
}

func eachTLS(t *testing.T, test func(t *testing.T, version uint16)) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) { test(t, version) })
	}
}

func TestCertificatesReload(t *testing.T) {
	before, after := certtest.New(), certtest.New()
	d := deploy(t, before)
	c := d.load()
	l, err := listeners.TLS("127.0.0.1:0", c.Config())
	require.NoError(t, err)
	closing(t, l)
	dial := func(ca *certtest.Authority) (client, server net.Conn, err error) {
		config := ca.Client()
		config.Certificates = []tls.Certificate{before.Issue("client")}
		conns, _ := accepting(l)
		client = tls.Client(closing(t, dialTCP(t, l.Addr().String())), config)
		server = closing(t, receive(t, conns))
		bound(t, client)
		bound(t, server)
		go func() { _ = server.(*tls.Conn).Handshake() }()
		return client, server, client.(*tls.Conn).Handshake()
	}
	client, server, err := dial(before)
	require.NoError(t, err)

	d.serverOf(after)
	_, _, err = dial(before)
	require.NoError(t, err, "nobody has asked to read the files again")
	require.NoError(t, c.Reload())
	_, _, err = dial(after)
	require.NoError(t, err)
	_, _, err = dial(before)
	require.ErrorAs(t, err, new(*tls.CertificateVerificationError))
	exchange(t, client, server)
	require.Zero(t, c.Failures())
}

func TestCertificatesReloadThatFails(t *testing.T) {
	ca := certtest.New()
	for _, tc := range []struct {
		name  string
		spoil func(d *deployment) (named string)
	}{
		{"no certificate file", func(d *deployment) string {
			require.NoError(t, os.Remove(d.files.Certificate))
			return d.files.Certificate
		}},
		{"no key file", func(d *deployment) string {
			require.NoError(t, os.Remove(d.files.Key))
			return d.files.Key
		}},
		{"the key of another certificate", func(d *deployment) string {
			_, key := certtest.Save(t.TempDir(), "other", ca.Issue("other"))
			other, err := os.ReadFile(key)
			require.NoError(t, err)
			d.write(d.files.Key, other)
			return d.files.Key
		}},
		{"no client CA in its file", func(d *deployment) string {
			d.write(d.files.ClientCA, []byte("nothing"))
			return d.files.ClientCA
		}},
		{"a client CA that is broken", func(d *deployment) string {
			d.write(d.files.ClientCA, append(ca.PEM(), certtest.PEM("CERTIFICATE", []byte{1})...))
			return d.files.ClientCA
		}},
		{"a list that is broken", func(d *deployment) string {
			d.write(d.files.CRL, certtest.PEM("X509 CRL", []byte{1}))
			return d.files.CRL
		}},
		{"an empty list file", func(d *deployment) string {
			d.write(d.files.CRL, nil)
			return d.files.CRL
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := deploy(t, ca)
			d.crl(ca.Revoke(soon(), 7))
			c := d.load()
			good, bad := visitorOf(ca, 0, ca.Issue("client")), visitorOf(ca, 0, ca.Issue("revoked", certtest.Serial(7)))
			named := tc.spoil(d)
			require.ErrorContains(t, c.Reload(), named)
			require.EqualValues(t, 1, c.Failures())
			good.admitted(t, c.Config(), false)
			_, _, err := bad.visit(t, c.Config())
			require.ErrorContains(t, err, "revoked")
			_, err = listeners.LoadCertificates(d.files)
			require.ErrorContains(t, err, named)
		})
	}
}

// A session of before is not resumed when who may come in has changed.
func TestCertificatesSessions(t *testing.T) {
	eachTLS(t, func(t *testing.T, version uint16) {
		ca, other := certtest.New(), certtest.New()
		d := deploy(t, ca)
		d.crl(ca.Revoke(soon()))
		c := d.load()
		config := c.Config()
		client := visitorOf(ca, version, ca.Issue("client", certtest.Serial(7)))
		client.admitted(t, config, false)
		client.admitted(t, config, true)

		d.serverOf(ca)
		require.NoError(t, c.Reload())
		client.admitted(t, config, true) // nothing has changed that is about clients

		d.crl(ca.Revoke(soon(), 7))
		require.NoError(t, c.Reload())
		_, _, err := client.visit(t, config)
		require.ErrorContains(t, err, "revoked")
		d.crl(ca.Revoke(soon()))
		require.NoError(t, c.Reload())
		client.admitted(t, config, false) // another list: it shows its certificate again
		d.crl(other.Revoke(soon()))
		d.write(d.files.ClientCA, other.PEM())
		require.NoError(t, c.Reload())
		_, _, err = client.visit(t, config)
		require.ErrorAs(t, err, new(*tls.CertificateVerificationError))

		// The client does not fail for ever with a session that is good no more.
		*client.certs = []tls.Certificate{other.Issue("client")}
		client.admitted(t, config, false)
	})
}

func TestCertificatesRevocation(t *testing.T) {
	ca, stranger := certtest.New(), certtest.New()
	middle := ca.Subordinate("middle", 3)
	leaf := middle.Issue("below the middle", certtest.Serial(9))
	leaf.Certificate = append(leaf.Certificate, middle.Certificate.Raw)
	direct := ca.Issue("direct", certtest.Serial(7))
	for _, tc := range []struct {
		name   string
		lists  [][]byte
		client *tls.Certificate
		want   string // part of the error
	}{
		{"not in the list", [][]byte{ca.Revoke(soon(), 8)}, &direct, ""},
		{"in the list", [][]byte{ca.Revoke(soon(), 8, 7)}, &direct, "revoked"},
		{"in the second list of the issuer", [][]byte{ca.Revoke(soon()), ca.Revoke(soon(), 7)}, &direct, "revoked"},
		{"in the list of another issuer of that name", [][]byte{ca.Revoke(soon()), middle.Revoke(soon(), 7)}, &direct, ""},
		{"no list of the issuer", [][]byte{middle.Revoke(soon())}, &direct, "no current revocation list"},
		{"below an intermediate", [][]byte{ca.Revoke(soon()), middle.Revoke(soon())}, &leaf, ""},
		{"below an intermediate, revoked", [][]byte{ca.Revoke(soon()), middle.Revoke(soon(), 9)}, &leaf, "revoked"},
		{"below an intermediate that is revoked", [][]byte{ca.Revoke(soon(), 3), middle.Revoke(soon())}, &leaf, "revoked"},
		{"no list of the intermediate", [][]byte{ca.Revoke(soon(), 9)}, &leaf, "no current revocation list"},
		{"no list of the root", [][]byte{middle.Revoke(soon())}, &leaf, "no current revocation list"},
		{"no certificate", [][]byte{ca.Revoke(soon())}, nil, "didn't provide a certificate"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := deploy(t, ca)
			d.crl(tc.lists...)
			var v visitor
			if v = visitorOf(ca, 0); tc.client != nil {
				v = visitorOf(ca, 0, *tc.client)
			}
			if tc.want == "" {
				v.admitted(t, d.load().Config(), false)
				return
			}
			_, _, err := v.visit(t, d.load().Config())
			require.ErrorContains(t, err, tc.want)
		})
	}

	t.Run("der", func(t *testing.T) {
		d := deploy(t, ca)
		block, _ := pem.Decode(ca.Revoke(soon(), 7))
		d.crl(block.Bytes)
		_, _, err := visitorOf(ca, 0, direct).visit(t, d.load().Config())
		require.ErrorContains(t, err, "revoked")
	})

	delta := pkix.Extension{Id: []int{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}
	critical := func(list, entry []pkix.Extension) []byte {
		return ca.List(&x509.RevocationList{
			Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: soon(), ExtraExtensions: list,
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(1), RevocationTime: time.Now(), ExtraExtensions: entry}},
		})
	}
	forged := *stranger
	forged.Certificate = &x509.Certificate{RawSubject: ca.Certificate.RawSubject, Subject: ca.Certificate.Subject, KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}
	for name, tc := range map[string]struct {
		list []byte
		want string
	}{
		"a delta list":                     {critical([]pkix.Extension{delta}, nil), "2.5.29.27"},
		"an entry of another issuer":       {critical(nil, []pkix.Extension{{Id: []int{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}), "2.5.29.29"},
		"a list that somebody else signed": {forged.Revoke(soon()), "not signed by"},
		"a list that is out of date":       {ca.Revoke(time.Now().Add(-time.Minute)), "should have been updated"},
	} {
		t.Run(name, func(t *testing.T) {
			d := deploy(t, ca)
			d.crl(tc.list)
			_, err := listeners.LoadCertificates(d.files)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, d.files.CRL)
		})
	}
}

func TestCertificatesListRunsOut(t *testing.T) {
	for _, tolerate := range []bool{false, true} {
		t.Run(map[bool]string{false: "refused", true: "tolerated"}[tolerate], func(t *testing.T) {
			ca := certtest.New()
			d := deploy(t, ca)
			d.crl(ca.Revoke(time.Now().Add(time.Minute), 8))
			now := time.Now()
			d.files.TolerateExpiredCRL = tolerate
			d.files.Base = &tls.Config{Time: func() time.Time { return now }}
			config := d.load().Config()
			client := visitorOf(ca, 0, ca.Issue("client", certtest.Serial(7)))
			client.admitted(t, config, false)
			now = now.Add(2 * time.Minute)
			if tolerate {
				client.admitted(t, config, true)
				_, _, err := visitorOf(ca, 0, ca.Issue("revoked", certtest.Serial(8))).visit(t, config)
				require.ErrorContains(t, err, "revoked")
				return
			}
			_, _, err := client.visit(t, config) // with the session of before
			require.ErrorContains(t, err, "no current revocation list")
		})
	}
}

func TestCertificatesOptional(t *testing.T) {
	ca := certtest.New()
	d := deploy(t, ca)
	d.crl(ca.Revoke(soon(), 7))
	d.files.OptionalClientCertificate = true
	config := d.load().Config()
	_, _, err := visitorOf(ca, 0).visit(t, config)
	require.NoError(t, err, "no certificate")
	visitorOf(ca, 0, ca.Issue("client")).admitted(t, config, false)
	_, _, err = visitorOf(ca, 0, ca.Issue("revoked", certtest.Serial(7))).visit(t, config)
	require.ErrorContains(t, err, "revoked")
	_, _, err = visitorOf(ca, 0, certtest.New().Issue("stranger")).visit(t, config)
	require.ErrorAs(t, err, new(*tls.CertificateVerificationError))
}

func TestCertificatesBase(t *testing.T) {
	ca := certtest.New()
	d := deploy(t, ca)
	refused := errors.New("refused by the host")
	asked := 0
	d.files.Base = &tls.Config{MinVersion: tls.VersionTLS13, VerifyConnection: func(tls.ConnectionState) error {
		asked++
		return refused
	}}
	d.crl(ca.Revoke(soon()))
	config := d.load().Config("http/1.1")
	client := visitorOf(ca, 0, ca.Issue("client"))
	client.config.NextProtos = []string{"mqtt"}
	_, _, err := client.visit(t, config)
	require.ErrorContains(t, err, "mqtt", "ALPN is what Config was asked for")
	client.config.NextProtos = []string{"http/1.1"}
	_, _, err = client.visit(t, config)
	require.ErrorIs(t, err, refused)
	require.Equal(t, 1, asked)
	old := visitorOf(ca, tls.VersionTLS12, ca.Issue("client"))
	_, _, err = old.visit(t, config)
	require.ErrorContains(t, err, "version")

	for name, spoil := range map[string]func(f *listeners.CertificateFiles){
		"a list without client CA":       func(f *listeners.CertificateFiles) { f.ClientCA = "" },
		"optional without client CA":     func(f *listeners.CertificateFiles) { f.ClientCA, f.CRL, f.OptionalClientCertificate = "", "", true },
		"a certificate in Base":          func(f *listeners.CertificateFiles) { f.Base.Certificates = make([]tls.Certificate, 1) },
		"a policy for clients in Base":   func(f *listeners.CertificateFiles) { f.Base.ClientAuth = tls.RequestClientCert },
		"another config for each client": func(f *listeners.CertificateFiles) { f.Base.GetConfigForClient = config.GetConfigForClient },
	} {
		t.Run(name, func(t *testing.T) {
			files := d.files
			files.Base = files.Base.Clone()
			spoil(&files)
			_, err := listeners.LoadCertificates(files)
			require.ErrorContains(t, err, "CertificateFiles")
		})
	}
}

func TestCertificatesWatch(t *testing.T) {
	ca := certtest.New()
	d := deploy(t, ca)
	c := d.load()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		reported := make(chan error, 1)
		next := func() (all []error) { // what is reported until the next look is over
			time.Sleep(time.Minute)
			synctest.Wait()
			for {
				select {
				case err := <-reported:
					all = append(all, err)
				default:
					return all
				}
			}
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.Watch(ctx, 0, func(err error) { reported <- err })
		}()
		synctest.Wait()
		require.Empty(t, next(), "nothing has changed")

		d.serverOf(ca)
		require.Equal(t, []error{nil}, next())
		require.Empty(t, next(), "nothing has changed again")

		key, err := os.ReadFile(d.files.Key)
		require.NoError(t, err)
		require.NoError(t, os.Remove(d.files.Key))
		failed := next()
		require.Len(t, failed, 1)
		require.ErrorIs(t, failed[0], fs.ErrNotExist)
		require.Empty(t, next(), "a failure is told once")
		require.EqualValues(t, 1, c.Failures())
		d.write(d.files.Key, key)
		require.Equal(t, []error{nil}, next(), "the key is back")

		d.serverOf(ca)
		require.NoError(t, c.Reload())
		require.Empty(t, next(), "the host has read them already")
		cancel()
		<-ended
		d.serverOf(ca)
		require.Empty(t, next(), "nobody watches")
	})
}

func TestCertificatesWatchNever(t *testing.T) {
	d := deploy(t, certtest.New())
	c := d.load()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		require.NoError(t, os.Remove(d.files.Key))
		c.Watch(ctx, -1, func(err error) { t.Errorf("reported %v", err) })
		require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
	})
}
