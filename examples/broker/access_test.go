//go:build unix

package main_test

import (
	"crypto/pbkdf2"
	"crypto/sha512"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// passwordLine is what mosquitto_passwd writes for a user.
func passwordLine(t *testing.T, user, password string) string {
	salt := []byte("twelve bytes")
	key, err := pbkdf2.Key(sha512.New, password, salt, 101, 64)
	require.NoError(t, err)
	return fmt.Sprintf("%s:$7$101$%s$%s\n", user, base64.StdEncoding.EncodeToString(salt), base64.StdEncoding.EncodeToString(key))
}

// login connects with MQTT 5.0 and returns the client and the code of CONNACK.
func login(t *testing.T, conn net.Conn, user, password string) (*brokertest.Client, packets.ReasonCode) {
	c := brokertest.NewClient(t, conn, packets.V5)
	p := &packets.Connect{Version: packets.V5, ClientID: []byte("client of " + user), CleanStart: true}
	if user != "" {
		p.HasUserName, p.UserName, p.HasPassword, p.Password = true, []byte(user), true, []byte(password)
	}
	c.Send(p)
	return c, brokertest.Expect[*packets.Connack](c).Reason
}

// site is a configuration with everything that stands in files of its own.
func site(t *testing.T) (dir, config string) {
	dir = t.TempDir()
	save := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	save("passwords", passwordLine(t, "anna", "secret"))
	save("acl", "user anna\ntopic readwrite anna/#\n")
	return dir, save("petrel.json", `{
		"listeners": {"tcp": ["127.0.0.1:0"], "tls": ["127.0.0.1:0"], "ws": [], "wss": []},
		"tls": {"certificate": "server.crt", "key": "server.key"},
		"authentication": {"anonymous": "none", "passwordFile": "passwords", "aclFile": "acl"}
	}`)
}

func TestUsersRightsAndTLSFromFiles(t *testing.T) {
	dir, config := site(t)
	a := certify(t, dir)
	p := start(t, "-config", config)
	tcp := p.said(fmt.Sprintf(listening, "tcp"))
	secure := p.said(fmt.Sprintf(listening, "tls"))

	_, code := login(t, dial(t, tcp), "", "")
	assert.Equal(t, packets.NotAuthorized, code)
	_, code = login(t, dial(t, tcp), "anna", "guessed")
	assert.Equal(t, packets.BadUserNameOrPassword, code)
	conn, err := tls.Dial("tcp", secure, a.Client())
	require.NoError(t, err)
	anna, code := login(t, conn, "anna", "secret")
	require.Equal(t, packets.Success, code)
	anna.Subscribe(1, "anna/+")
	anna.Send(&packets.Publish{Topic: []byte("anna/lamp"), Payload: []byte("on")})
	anna.ExpectPublish("anna/lamp", "on")
	assert.Equal(t, packets.NotAuthorized, anna.PublishWith(packets.Publish{Topic: []byte("otto/lamp"), QoS: 1}))
}

func TestHangupReloadsTheFiles(t *testing.T) {
	dir, config := site(t)
	certify(t, dir)
	p := start(t, "-config", config)
	tcp := p.said(fmt.Sprintf(listening, "tcp"))
	secure := p.said(fmt.Sprintf(listening, "tls"))
	anna, code := login(t, dial(t, tcp), "anna", "secret")
	require.Equal(t, packets.Success, code)
	_, code = login(t, dial(t, tcp), "otto", "new")
	require.Equal(t, packets.BadUserNameOrPassword, code)

	passwords := filepath.Join(dir, "passwords")
	both := passwordLine(t, "anna", "secret") + passwordLine(t, "otto", "new")
	require.NoError(t, os.WriteFile(passwords, []byte(both), 0o600))
	a := certify(t, dir)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	p.said(`msg=(reloaded)`)
	_, code = login(t, dial(t, tcp), "otto", "new")
	assert.Equal(t, packets.Success, code)
	conn, err := tls.Dial("tcp", secure, a.Client())
	require.NoError(t, err, "the new certificate")
	conn.Close()

	require.NoError(t, os.WriteFile(passwords, []byte("no line of a password file"), 0o600))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	p.said(`(reload failed)`)
	_, code = login(t, dial(t, tcp), "otto", "new")
	assert.Equal(t, packets.Success, code, "what was read before stays")
	anna.ExpectNothing() // and nobody was disconnected
}

func TestEmptyFilesDenyAndSaySo(t *testing.T) {
	dir, config := site(t)
	certify(t, dir)
	for _, name := range []string{"passwords", "acl"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("# nothing yet\n"), 0o600))
	}
	p := start(t, "-config", config, "-anonymous", "local")
	p.said(`(the password file has no users)`)
	p.said(`(the ACL file has no rules)`)
	tcp := p.said(fmt.Sprintf(listening, "tcp"))
	_, code := login(t, dial(t, tcp), "anna", "secret")
	assert.Equal(t, packets.BadUserNameOrPassword, code)
	anonymous, code := login(t, dial(t, tcp), "", "")
	require.Equal(t, packets.Success, code)
	assert.Equal(t, packets.NotAuthorized, anonymous.PublishWith(packets.Publish{Topic: []byte("a"), QoS: 1}))
}

func TestGrantSubscriptions(t *testing.T) {
	for key, want := range map[string]packets.ReasonCode{"": packets.NotAuthorized, `, "grantSubscriptions": true`: packets.GrantedQoS0} {
		dir := t.TempDir()
		save(t, dir, "acl", "topic readwrite home/#\n")
		save(t, dir, "petrel.json", `{"listeners": {"tcp": ["127.0.0.1:0"], "ws": []}, "authentication": {"aclFile": "acl"`+key+`}}`)
		p := start(t, "-config", filepath.Join(dir, "petrel.json"))
		c, code := login(t, dial(t, p.said(fmt.Sprintf(listening, "tcp"))), "", "")
		require.Equal(t, packets.Success, code)
		filters := packets.Subscriptions{}.Append(packets.Subscription{Filter: []byte("home/+")}).Append(packets.Subscription{Filter: []byte("office/+")})
		assert.Equal(t, []packets.ReasonCode{packets.GrantedQoS0, want}, c.SubscribeWith(packets.Subscribe{Subscriptions: filters}), key)
		c.Send(&packets.Publish{Topic: []byte("home/light"), Payload: []byte("on")})
		c.ExpectPublish("home/light", "on")
	}
}

func TestCheckConfig(t *testing.T) {
	dir, config := site(t)
	check := func() (string, error) {
		out, err := exec.Command(binary, "-check-config", "-config", config).CombinedOutput()
		return string(out), err
	}
	out, err := check()
	require.Error(t, err, "the certificate is missing")
	assert.Contains(t, out, "server.crt")

	certify(t, dir)
	out, err = check()
	require.NoError(t, err, out)
	assert.Contains(t, out, "the configuration is right")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "acl"), []byte("user anna\n\ntopic sometimes anna/#\n"), 0o600))
	out, err = check()
	require.Error(t, err)
	assert.Contains(t, out, "acl:3:")
}
