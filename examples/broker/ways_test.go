//go:build unix

package main_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// whoami is an ACL file by which a client may publish to its own name alone.
const whoami = "pattern write %u\n"

// isKnownAs reports whether the broker takes the client for that identity.
func isKnownAs(c *brokertest.Client, identity string) bool {
	return c.PublishWith(packets.Publish{Topic: []byte(identity), QoS: 1}) != packets.NotAuthorized
}

func save(t *testing.T, dir, name, text string) {
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}

// Each listener says who gets in there, and how.
func TestWaysOfEachListener(t *testing.T) {
	dir := t.TempDir()
	save(t, dir, "passwords", passwordLine(t, "anna", "secret"))
	p := start(t, "-config", configured(t, dir, `{
		"listeners": {"ws": [], "tcp": [
			{"address": "127.0.0.1:0", "name": "usual"},
			{"address": "127.0.0.1:0", "name": "closed", "anonymous": "none"},
			{"address": "127.0.0.1:0", "name": "open", "anonymous": "any", "authenticateBy": []}
		]},
		"authentication": {"passwordFile": "passwords"}
	}`))
	for _, tc := range []struct{ listener, user, password, want string }{
		{"usual", "", "", "success"},
		{"usual", "anna", "secret", "success"},
		{"usual", "anna", "guess", "bad user name or password"},
		{"closed", "", "", "not authorized"},
		{"closed", "anna", "secret", "success"},
		{"open", "anna", "guess", "success"},
	} {
		_, code := login(t, dial(t, p.said(fmt.Sprintf(named, tc.listener))), tc.user, tc.password)
		assert.Equal(t, tc.want, code.String(), "%+v", tc)
	}
}

// A proxy that ends TLS says whose certificate it has verified (PROXY protocol,
// version 2, section 2.2.6).
func TestCertificatesThatAProxyHasVerified(t *testing.T) {
	dir := t.TempDir()
	save(t, dir, "acl", whoami)
	p := start(t, "-config", configured(t, dir, `{
		"listeners": {"ws": [], "tcp": [{"address": "127.0.0.1:0", "authenticateBy": ["certificate"], "anonymous": "none",
			"proxyProtocol": {"trusted": ["127.0.0.1/32"]}}]},
		"authentication": {"aclFile": "acl"}
	}`))
	addr := p.said(fmt.Sprintf(listening, "tcp"))
	through := func(verify byte) net.Conn {
		tls := "\x05\x00\x00\x00" + string(rune(verify)) + "\x21\x00\x07TLSv1.3" + "\x22\x00\x06pump-7"
		body := "\xC0\x00\x02\x01\xC6\x33\x64\x01\xDC\x04\x22\xB3" + "\x20\x00" + string(rune(len(tls))) + tls
		conn := dial(t, addr)
		_, err := io.WriteString(conn, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00"+string(rune(len(body)))+body)
		require.NoError(t, err)
		return conn
	}
	c, code := login(t, through(0), "", "")
	require.Equal(t, packets.Success, code)
	assert.True(t, isKnownAs(c, "pump-7"))
	_, code = login(t, through(1), "", "")
	assert.Equal(t, packets.NotAuthorized, code, "the proxy has not verified it")
}

// A user of this machine is known by its number, or by its name.
func TestUsersOfTheMachineAsIdentity(t *testing.T) {
	me, err := user.Current()
	require.NoError(t, err)
	for key, want := range map[string]string{"": "uid:" + me.Uid, `, "peerUserName": "uid"`: "uid:" + me.Uid, `, "peerUserName": "userName"`: me.Username} {
		dir := t.TempDir()
		save(t, dir, "acl", whoami)
		socket := filepath.Join(dir, "mqtt.sock")
		p := start(t, "-config", configured(t, dir, `{
			"listeners": {"tcp": [], "ws": [], "unix": [{"address": "`+socket+`", "authenticateBy": ["peerUser"], "anonymous": "none"}]},
			"authentication": {"aclFile": "acl"`+key+`}
		}`))
		p.said(fmt.Sprintf(listening, "unix"))
		conn, err := net.Dial("unix", socket)
		require.NoError(t, err)
		c, code := login(t, conn, "", "")
		require.Equal(t, packets.Success, code)
		assert.True(t, isKnownAs(c, want), key)
		assert.False(t, isKnownAs(c, "uid:12345"), key)
	}
}

// token makes a JSON Web Token that is signed with Ed25519.
func token(t *testing.T, key ed25519.PrivateKey, claims map[string]any) string {
	body, err := json.Marshal(claims)
	require.NoError(t, err)
	b := base64.RawURLEncoding.EncodeToString
	signed := b([]byte(`{"alg":"EdDSA","kid":"k"}`)) + "." + b(body)
	return signed + "." + b(ed25519.Sign(key, []byte(signed)))
}

// newIssuer makes a key that signs tokens, and saves its other half as keys.json.
func newIssuer(t *testing.T, dir string) ed25519.PrivateKey {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	save(t, dir, "keys.json", `{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "alg": "EdDSA", "x": "`+base64.RawURLEncoding.EncodeToString(public)+`"}]}`)
	return private
}

func TestTokensAsIdentity(t *testing.T) {
	dir := t.TempDir()
	private := newIssuer(t, dir)
	save(t, dir, "acl", whoami)
	p := start(t, "-config", configured(t, dir, `{
		"listeners": {"tcp": ["127.0.0.1:0"], "ws": []},
		"authentication": {"anonymous": "none", "aclFile": "acl", "jwt": {"keysFile": "keys.json", "issuer": "https://id.example"}}
	}`))
	addr := p.said(fmt.Sprintf(listening, "tcp"))
	claims := map[string]any{"sub": "anna", "iss": "https://id.example", "exp": time.Now().Add(time.Hour).Unix()}
	c, code := login(t, dial(t, addr), "somebody", token(t, private, claims))
	require.Equal(t, packets.Success, code)
	assert.True(t, isKnownAs(c, "anna"))
	assert.False(t, isKnownAs(c, "somebody"))
	claims["iss"] = "https://elsewhere.example"
	_, code = login(t, dial(t, addr), "anna", token(t, private, claims))
	assert.Equal(t, packets.BadUserNameOrPassword, code)
}

// Claims say what who came with a token may do, and the ACL file decides about the
// others.
func TestTokensAsRights(t *testing.T) {
	for name, acl := range map[string]string{"with an ACL file": `"aclFile": "acl", `, "without": ""} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			private := newIssuer(t, dir)
			save(t, dir, "acl", whoami)
			save(t, dir, "passwords", passwordLine(t, "otto", "secret"))
			p := start(t, "-config", configured(t, dir, `{
				"listeners": {"tcp": ["127.0.0.1:0"], "ws": []},
				"authentication": {"anonymous": "none", "passwordFile": "passwords", `+acl+`
					"jwt": {"keysFile": "keys.json", "publish": "pub", "subscribe": "sub_to"}}
			}`))
			addr := p.said(fmt.Sprintf(listening, "tcp"))
			claims := map[string]any{
				"sub": "anna", "exp": time.Now().Add(time.Hour).Unix(), "pub": []string{"out/%u", "shared"}, "sub_to": "in/#",
			}
			anna, code := login(t, dial(t, addr), "somebody", token(t, private, claims))
			require.Equal(t, packets.Success, code)
			otto, code := login(t, dial(t, addr), "otto", "secret")
			require.Equal(t, packets.Success, code)
			may := func(c *brokertest.Client, topic string) bool {
				return c.PublishWith(packets.Publish{Topic: []byte(topic), QoS: 1}) != packets.NotAuthorized
			}
			assert.True(t, may(anna, "out/anna"))
			assert.True(t, may(anna, "shared"))
			assert.False(t, may(anna, "anna"), "as the ACL file would")
			assert.False(t, may(anna, "in/1"))
			assert.True(t, may(otto, "otto"))
			assert.Equal(t, acl == "", may(otto, "shared"), "who comes otherwise")
			filters := packets.Subscriptions{}.Append(packets.Subscription{Filter: []byte("in/+")}).Append(packets.Subscription{Filter: []byte("out/#")})
			assert.Equal(t, []packets.ReasonCode{packets.GrantedQoS0, packets.NotAuthorized}, anna.SubscribeWith(packets.Subscribe{Subscriptions: filters}))
		})
	}
}

// The broker makes the line of a SCRAM file, asks by AUTH for the password, and
// lets nobody claim the user without it.
func TestSCRAM(t *testing.T) {
	dir := t.TempDir()
	credential := exec.Command(binary, "credential", "anna")
	credential.Stdin = strings.NewReader("secret\n")
	line, err := credential.Output()
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(line, []byte("anna:SCRAM-SHA-256$")), "%s", line)
	save(t, dir, "users.scram", string(line))
	p := start(t, "-config", configured(t, dir, `{
		"listeners": {"tcp": ["127.0.0.1:0"], "ws": []},
		"authentication": {"scram": {"file": "users.scram"}}
	}`))
	addr := p.said(fmt.Sprintf(listening, "tcp"))
	_, code := login(t, dial(t, addr), "anna", "secret")
	assert.Equal(t, packets.NotAuthorized, code, "by CONNECT alone")

	c := brokertest.NewClient(t, dial(t, addr), packets.V5)
	c.Send(&packets.Connect{
		Version: packets.V5, ClientID: []byte("c"), CleanStart: true,
		HasAuthenticationMethod: true, AuthenticationMethod: []byte("SCRAM-SHA-256"),
		HasAuthenticationData: true, AuthenticationData: []byte("n,,n=anna,r=ofTheClient"),
	})
	challenge := string(brokertest.Expect[*packets.Auth](c).AuthenticationData)
	c.Send(&packets.Auth{
		Reason: packets.ContinueAuthentication, HasAuthenticationMethod: true, AuthenticationMethod: []byte("SCRAM-SHA-256"),
		HasAuthenticationData: true, AuthenticationData: []byte(proof(t, "secret", "n=anna,r=ofTheClient", challenge)),
	})
	assert.Equal(t, packets.Success, brokertest.Expect[*packets.Connack](c).Reason)
}

// proof is the last message of a client of SCRAM-SHA-256 (RFC 5802, section 3).
func proof(t *testing.T, password, first, challenge string) string {
	m := regexp.MustCompile(`^(r=ofTheClient.+),s=(.+),i=(\d+)$`).FindStringSubmatch(challenge)
	require.NotNil(t, m, challenge)
	salt, err := base64.StdEncoding.DecodeString(m[2])
	require.NoError(t, err)
	iterations, err := strconv.Atoi(m[3])
	require.NoError(t, err)
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	require.NoError(t, err)
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		io.WriteString(h, text)
		return h.Sum(nil)
	}
	last := "c=biws," + m[1]
	key := mac(salted, "Client Key")
	stored := sha256.Sum256(key)
	subtle.XORBytes(key, key, mac(stored[:], first+","+challenge+","+last))
	return last + ",p=" + base64.StdEncoding.EncodeToString(key)
}

// A web service decides who gets in and what they may do; SIGHUP has it asked again.
func TestWebServiceDecides(t *testing.T) {
	var mayRead atomic.Bool
	mayRead.Store(true)
	var want atomic.Value
	want.Store("Bearer of-the-broker")
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Ask, UserName, Password, Identity, Topic, Filter string }
		assert.Equal(t, want.Load(), r.Header.Get("Authorization"))
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&q))
		w.Header().Set("Content-Type", "application/json")
		switch {
		case q.Ask == "connect" && q.Password == "secret", q.Ask == "publish" && q.Topic == q.Identity, q.Ask == "subscribe" && mayRead.Load():
			io.WriteString(w, `{"result": "allow"}`)
		default:
			io.WriteString(w, `{"result": "deny"}`)
		}
	}))
	defer service.Close()
	dir := t.TempDir()
	save(t, dir, "token", "of-the-broker\n")
	p := start(t, "-config", configured(t, dir, `{
		"listeners": {"tcp": ["127.0.0.1:0"], "ws": []},
		"authentication": {"anonymous": "none", "http": {"url": "`+service.URL+`", "tokenFile": "token", "rights": true}}
	}`))
	addr := p.said(fmt.Sprintf(listening, "tcp"))
	_, code := login(t, dial(t, addr), "anna", "guess")
	assert.Equal(t, packets.NotAuthorized, code)
	c, code := login(t, dial(t, addr), "anna", "secret")
	require.Equal(t, packets.Success, code)
	assert.True(t, isKnownAs(c, "anna"))
	assert.False(t, isKnownAs(c, "somebody"))
	subscribe := func() packets.ReasonCode {
		return c.SubscribeWith(packets.Subscribe{Subscriptions: packets.Subscriptions{}.Append(packets.Subscription{Filter: []byte("news")})})[0]
	}
	assert.Equal(t, packets.GrantedQoS0, subscribe())
	mayRead.Store(false)
	assert.Equal(t, packets.GrantedQoS0, subscribe(), "it is not asked again so soon")
	save(t, dir, "token", "another\n")
	want.Store("Bearer another")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	p.said("msg=reloaded")
	assert.Equal(t, packets.NotAuthorized, subscribe())

	save(t, dir, "token", "\n")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	p.said(`(there is no token in it)`)
	assert.Equal(t, packets.NotAuthorized, subscribe(), "asked with the token that was read before")
}
