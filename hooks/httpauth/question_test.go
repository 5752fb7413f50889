package httpauth_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/httpauth"
	"github.com/petrelmq/petrel/packets"
)

// tcp is the address of a client.
func tcp(text string) net.Addr {
	a, err := net.ResolveTCPAddr("tcp", text)
	if err != nil {
		panic(err)
	}
	return a
}

func TestQuestionAboutConnect(t *testing.T) {
	certified := func(verified bool) *tls.ConnectionState {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: "lamp"}}
		s := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
		if verified {
			s.VerifiedChains = [][]*x509.Certificate{{c}}
		}
		return s
	}
	proxied := func(verified bool) petrel.Peer {
		return petrel.Peer{Proxy: &petrel.Proxy{TLS: &petrel.ProxyTLS{CommonName: "lamp", Verified: verified}}}
	}
	for _, tt := range []struct {
		name string
		r    petrel.ConnectRequest
		want string
	}{
		{"nothing", petrel.ConnectRequest{ClientID: "c"}, `{"ask":"connect","clientId":"c"}`},
		{"an assigned identifier", petrel.ConnectRequest{ClientID: "x", AssignedID: true}, `{"ask":"connect"}`},
		{"credentials", *alice(), `{"ask":"connect","clientId":"c","userName":"alice","password":"open sesame"}`},
		{"a user without password", petrel.ConnectRequest{HasUserName: true, UserName: "alice"}, `{"ask":"connect","userName":"alice"}`},
		{"empty credentials", petrel.ConnectRequest{HasUserName: true, HasPassword: true}, `{"ask":"connect","userName":"","password":""}`},
		{"a password that is not UTF-8", petrel.ConnectRequest{HasPassword: true, Password: petrel.Secret("\xff\x00")}, `{"ask":"connect","passwordBase64":"/wA="}`},
		{"a password with quotes", petrel.ConnectRequest{HasPassword: true, Password: petrel.Secret(`","userName":"root`)}, `{"ask":"connect","password":"\",\"userName\":\"root"}`},
		{"an address", petrel.ConnectRequest{Peer: petrel.Peer{RemoteAddr: tcp("192.0.2.1:1883")}}, `{"ask":"connect","address":"192.0.2.1"}`},
		{"an address in IPv6", petrel.ConnectRequest{Peer: petrel.Peer{RemoteAddr: tcp("[2001:db8::1]:1883")}}, `{"ask":"connect","address":"2001:db8::1"}`},
		{"an address mapped to IPv6", petrel.ConnectRequest{Peer: petrel.Peer{RemoteAddr: tcp("[::ffff:192.0.2.1]:1883")}}, `{"ask":"connect","address":"192.0.2.1"}`},
		{"a Unix socket", petrel.ConnectRequest{Peer: petrel.Peer{RemoteAddr: &net.UnixAddr{Name: "192.0.2.1:1", Net: "unix"}}}, `{"ask":"connect"}`},
		{"a broken address", petrel.ConnectRequest{Peer: petrel.Peer{RemoteAddr: (*net.TCPAddr)(nil)}}, `{"ask":"connect"}`},
		{"a listener", petrel.ConnectRequest{Peer: petrel.Peer{Listener: "public"}}, `{"ask":"connect","listener":"public"}`},
		{"a certificate", petrel.ConnectRequest{Peer: petrel.Peer{TLS: certified(true)}}, `{"ask":"connect","commonName":"lamp"}`},
		{"a certificate that nobody verified", petrel.ConnectRequest{Peer: petrel.Peer{TLS: certified(false)}}, `{"ask":"connect"}`},
		{"a certificate told by a proxy", petrel.ConnectRequest{Peer: proxied(true)}, `{"ask":"connect","commonName":"lamp"}`},
		{"one that the proxy did not verify", petrel.ConnectRequest{Peer: proxied(false)}, `{"ask":"connect"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				assert.NoError(t, err)
				got = string(body)
				assert.Equal(t, "POST /mqtt?site=7", r.Method+" "+r.URL.String())
				assert.Equal(t, "application/json", r.Header.Get("Content-Type"))
				assert.Equal(t, "Bearer the.token", r.Header.Get("Authorization"))
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"result":"allow"}`)
			}))
			defer server.Close()
			defer server.Client().CloseIdleConnections()
			s := newService(t, nil, httpauth.Options{URL: server.URL + "/mqtt?site=7", Client: server.Client(), Token: petrel.Secret("the.token")})
			require.Equal(t, packets.Success, connects(s, &tt.r))
			require.Equal(t, tt.want, got)
		})
	}
}

// A token that is set later is sent from then on, unless it cannot be one.
func TestSetToken(t *testing.T) {
	var sent []string
	transport := roundTripper(func(r *http.Request) (*http.Response, error) {
		sent = append(sent, r.Header.Get("Authorization"))
		return (&site{}).RoundTrip(r)
	})
	token := petrel.Secret("first")
	s := newService(t, nil, httpauth.Options{Client: &http.Client{Transport: transport}, Token: token, AllowFor: -1})
	connects(s, alice())
	copy(token, "xxxxx")
	connects(s, alice())
	require.NoError(t, s.SetToken(petrel.Secret("second")))
	connects(s, alice())
	err := s.SetToken(petrel.Secret(password + "\n"))
	require.ErrorContains(t, err, "httpauth: set the token")
	require.NotContains(t, err.Error(), "sesame")
	connects(s, alice())
	require.NoError(t, s.SetToken(nil))
	connects(s, alice())
	require.Equal(t, []string{"Bearer first", "Bearer first", "Bearer second", "Bearer second", ""}, sent)
}

// The question does not change with the request that it is about.
func TestRequestIsLeftAlone(t *testing.T) {
	s := newService(t, &site{decide: by(map[string]answer{"connect": deny})}, httpauth.Options{})
	r := alice()
	r.Expires = r.Expires.AddDate(3000, 0, 0)
	before := *r
	require.Equal(t, packets.NotAuthorized, connects(s, r))
	require.Equal(t, before, *r)
}

func TestQuestionsAboutAccess(t *testing.T) {
	site := &site{decide: by(map[string]answer{"connect": says(`{"result":"allow","identity":"device"}`), "publish": allow, "subscribe": says(`{"result":"allow","check":true}`), "receive": allow})}
	b := guarded(t, newService(t, site, httpauth.Options{}))
	p := as(packets.V5, "c", "alice")
	p.HasWill, p.Will = true, packets.Will{Topic: []byte("will"), QoS: packets.AtLeastOnce, Retain: true}
	c := b.Connect(p)
	c.Subscribe(packets.AtLeastOnce, "a/+", "$share/g/b/#")
	b.Connect(as(packets.V5, "d", "bob")).Publish("a/1", "x", packets.AtLeastOnce)
	c.ExpectPublish("a/1", "x")
	asked := site.take()
	for i := range asked {
		delete(asked[i], "address") // of a socket, and not of a pipe
	}
	assert.Equal(t, []question{
		{"ask": "connect", "clientId": "c", "userName": "alice", "password": password},
		{"ask": "publish", "clientId": "c", "identity": "device", "topic": "will", "qos": 1., "retain": true},
		{"ask": "subscribe", "clientId": "c", "identity": "device", "filter": "a/+", "qos": 1.},
		{"ask": "subscribe", "clientId": "c", "identity": "device", "filter": "b/#", "share": "g", "qos": 1.},
		{"ask": "connect", "clientId": "d", "userName": "bob", "password": password},
		{"ask": "publish", "clientId": "d", "identity": "device", "topic": "a/1", "qos": 1., "retain": false},
		{"ask": "receive", "clientId": "c", "identity": "device", "topic": "a/1", "qos": 1., "retain": false},
	}, asked)
}

func TestOptionsThatCannotBeMeant(t *testing.T) {
	const good = "https://users.example/mqtt"
	for _, tt := range []struct {
		name string
		o    httpauth.Options
		says string // empty means that it is good
	}{
		{"good", httpauth.Options{URL: good}, ""},
		{"with a port and a query", httpauth.Options{URL: "https://users.example:8443/?site=7"}, ""},
		{"plain, to this machine", httpauth.Options{URL: "http://127.0.0.1:8080/"}, ""},
		{"plain, to this machine by IPv6", httpauth.Options{URL: "http://[::1]:8080/"}, ""},
		{"plain, to this machine by name", httpauth.Options{URL: "http://localhost:8080/"}, ""},
		{"plain", httpauth.Options{URL: "http://users.example/"}, "AllowPlainHTTP"},
		{"plain, and meant", httpauth.Options{URL: "http://users.example/", AllowPlainHTTP: true}, ""},
		{"no URL", httpauth.Options{}, "it is empty"},
		{"no scheme", httpauth.Options{URL: "users.example/mqtt"}, "scheme"},
		{"another scheme", httpauth.Options{URL: "file:///etc/passwd"}, "scheme"},
		{"no host", httpauth.Options{URL: "https:///mqtt"}, "no host"},
		{"no URL at all", httpauth.Options{URL: "https://a b%zz:" + password}, "no URL"},
		{"with credentials", httpauth.Options{URL: "https://alice:" + strings.ReplaceAll(password, " ", "%20") + "@users.example/"}, "user name or a password"},
		{"with a fragment", httpauth.Options{URL: good + "#x"}, "fragment"},
		{"a token with a line feed", httpauth.Options{URL: good, Token: petrel.Secret(password + "\r\n")}, "Token"},
		{"a token that is not ASCII", httpauth.Options{URL: good, Token: petrel.Secret("ä")}, "Token"},
		{"a negative pause", httpauth.Options{URL: good, PauseFor: -1}, "PauseFor"},
		{"a negative timeout", httpauth.Options{URL: good, Timeout: -1}, "Timeout"},
		{"no concurrency", httpauth.Options{URL: good, MaximumConcurrent: -1}, "MaximumConcurrent"},
		{"too much of it", httpauth.Options{URL: good, MaximumConcurrent: 1 << 20}, "MaximumConcurrent"},
		{"no waiting", httpauth.Options{URL: good, MaximumWaiting: -1}, "MaximumWaiting"},
		{"answers of any size", httpauth.Options{URL: good, MaximumAnswerSize: -1}, "MaximumAnswerSize"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := httpauth.New(tt.o)
			if tt.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.says)
			assert.True(t, strings.HasPrefix(err.Error(), "httpauth: Options."), err)
			assert.NotContains(t, err.Error(), "sesame")
		})
	}
}
