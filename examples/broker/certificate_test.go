//go:build unix

package main_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/certtest"
	"github.com/petrelmq/petrel/packets"
)

// certify writes the files of a server whose clients have certificates: ca.crt,
// server.crt and server.key, and crl.pem, by which nobody is revoked.
func certify(t *testing.T, dir string) *certtest.Authority {
	a := certtest.New()
	certtest.Save(dir, "server", a.Issue("server"))
	save(t, dir, "ca.crt", string(a.PEM()))
	revoke(t, dir, a)
	return a
}

// revoke writes the list of the certificates that are revoked.
func revoke(t *testing.T, dir string, a *certtest.Authority, certificates ...tls.Certificate) {
	var serials []int64
	for _, c := range certificates {
		serials = append(serials, c.Leaf.SerialNumber.Int64())
	}
	save(t, dir, "crl.pem", string(a.Revoke(time.Now().Add(time.Hour), serials...)))
}

// mutual has a listener for clients with a certificate; %s is more about its files,
// and more about who gets in.
const mutual = `{
	"listeners": {"tcp": [], "ws": [], "tls": [{"address": "127.0.0.1:0", "authenticateBy": ["certificate"], "anonymous": "none"}]},
	"tls": {"certificate": "server.crt", "key": "server.key", "clientCA": "ca.crt", "crl": "crl.pem"%s},
	"authentication": {"aclFile": "acl"%s}
}`

// A client is whom its certificate names.
func TestCertificatesAsIdentity(t *testing.T) {
	dir := t.TempDir()
	a := certify(t, dir)
	save(t, dir, "acl", whoami)
	p := start(t, "-config", configured(t, dir, fmt.Sprintf(mutual, `, "optionalClientCertificate": true`, "")))
	addr := p.said(fmt.Sprintf(listening, "tls"))
	c, code := login(t, dialTLS(t, addr, a.Client(a.Issue("pump-7"))), "", "")
	require.Equal(t, packets.Success, code)
	assert.True(t, isKnownAs(c, "pump-7"))
	assert.False(t, isKnownAs(c, "pump-8"))
	_, code = login(t, dialTLS(t, addr, a.Client()), "", "")
	assert.Equal(t, packets.NotAuthorized, code)
}

// A reload puts out who has been revoked, if it is not told otherwise, and nobody
// else; one that fails puts out nobody.
func TestHangupReachesRevokedClients(t *testing.T) {
	for name, stay := range map[string]bool{"": false, `, "keepRevoked": true`: true} {
		t.Run(fmt.Sprintf("they stay: %v", stay), func(t *testing.T) {
			dir := t.TempDir()
			a := certify(t, dir)
			save(t, dir, "acl", whoami)
			p := start(t, "-config", configured(t, dir, fmt.Sprintf(mutual, name, "")))
			addr := p.said(fmt.Sprintf(listening, "tls"))
			pump, valve := a.Issue("pump"), a.Issue("valve")
			revoked, code := login(t, dialTLS(t, addr, a.Client(pump)), "pump", "")
			require.Equal(t, packets.Success, code)
			other, code := login(t, dialTLS(t, addr, a.Client(valve)), "valve", "")
			require.Equal(t, packets.Success, code)
			revoke(t, dir, a, pump)
			save(t, dir, "acl", "no line of an ACL file")
			save(t, dir, "ca.crt", "no certificate")
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
			p.said(`(reload failed)`)
			for _, c := range []interface{ ExpectNothing() }{revoked, other} {
				c.ExpectNothing()
			}

			save(t, dir, "acl", whoami)
			save(t, dir, "ca.crt", string(a.PEM()))
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
			p.said(`msg=(reloaded)`)
			if stay {
				assert.True(t, isKnownAs(revoked, "pump"))
			} else {
				revoked.ExpectDisconnect(packets.NotAuthorized)
			}
			assert.True(t, isKnownAs(other, "valve"))
			_, err := dialTLS(t, addr, a.Client(pump)).Read(make([]byte, 1)) // in TLS 1.3 the server refuses after the handshake
			assert.ErrorContains(t, err, "bad certificate")
		})
	}
}

// A client has to leave when its certificate ends, if its broker is not told otherwise.
func TestCertificatesThatEnd(t *testing.T) {
	dir := t.TempDir()
	a := certify(t, dir)
	save(t, dir, "acl", whoami)
	dialers := make([]func(tls.Certificate) net.Conn, 2)
	for i, key := range []string{"", `, "outliveCertificate": true`} {
		p := start(t, "-config", configured(t, dir, fmt.Sprintf(mutual, "", key)))
		addr := p.said(fmt.Sprintf(listening, "tls"))
		dialers[i] = func(c tls.Certificate) net.Conn { return dialTLS(t, addr, a.Client(c)) }
	}
	short := a.Issue("short", certtest.Until(time.Now().Add(5*time.Second)))
	leaves, code := login(t, dialers[0](short), "", "")
	require.Equal(t, packets.Success, code)
	stays, code := login(t, dialers[1](short), "", "")
	require.Equal(t, packets.Success, code)
	leaves.ExpectDisconnect(packets.MaximumConnectTime)
	assert.True(t, isKnownAs(stays, "short"))
}
