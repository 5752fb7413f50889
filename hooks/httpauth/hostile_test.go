package httpauth_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/hooks/httpauth"
	"github.com/petrelmq/petrel/packets"
)

// Whatever a server does, nobody is let in by it, and nothing of what it was told
// comes out again.
func TestHostileServers(t *testing.T) {
	const soon = 100 * time.Millisecond // for what never comes; what comes has longer
	for _, tt := range []struct {
		name    string
		timeout time.Duration
		serve   http.HandlerFunc
		reason  string // in the log
	}{
		{"never answers", soon, func(_ http.ResponseWriter, r *http.Request) { untilGone(r) }, "deadline exceeded"},
		{"never ends its answer", soon, func(w http.ResponseWriter, r *http.Request) {
			_ = begin(w, `{"result":"allow"`)
			untilGone(r)
		}, "deadline exceeded"},
		{"has an endless body", time.Minute, func(w http.ResponseWriter, _ *http.Request) {
			for begin(w, `{"result":"allow",`) == nil {
			}
		}, "MaximumAnswerSize"},
		{"has an endless body that denies", time.Minute, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			for begin(w, `{"result":"deny",`) == nil {
			}
		}, "status of the answer is 418"},
		{"announces more than it has", time.Minute, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_ = begin(w, `{"result":"allow"}`)
		}, "unexpected EOF"},
		{"closes the connection", time.Minute, raw(func(net.Conn, string) {}), "EOF"},
		{"closes it in the header", time.Minute, raw(func(c net.Conn, _ string) { fmt.Fprint(c, "HTTP/1.1 200 O") }), "EOF"},
		{"does not speak HTTP", time.Minute, raw(func(c net.Conn, _ string) { fmt.Fprint(c, "220 mail.example ESMTP\r\n") }), "does not speak HTTP"},
		{"says again what it hears", time.Minute, raw(func(c net.Conn, body string) { fmt.Fprint(c, body+"\r\n\r\n") }), "does not speak HTTP"},
		{"says it in a header", time.Minute, raw(func(c net.Conn, body string) { fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%s\r\n\r\n", body) }), "key or a value|does not speak HTTP|not application/json"},
		{"says it as its status", time.Minute, raw(func(c net.Conn, body string) { fmt.Fprintf(c, "HTTP/1.1 %s\r\n\r\n", body) }), "does not speak HTTP"},
		{"says it in JSON", time.Minute, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.Copy(w, r.Body)
		}, "key or a value"},
		{"has an endless header", time.Minute, raw(func(c net.Conn, _ string) {
			_, err := fmt.Fprint(c, "HTTP/1.1 200 OK\r\n")
			for i := 0; err == nil; i++ {
				_, err = fmt.Fprintf(c, "X-%d: %s\r\n", i, strings.Repeat("x", 1000))
			}
		}), "does not speak HTTP"},
		{"is a web page", time.Minute, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, `{"result":"allow"}`)
		}, "not application/json"},
		{"panics", time.Minute, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(tt.serve)
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.Start()
			defer server.Close()
			said := new(logged)
			s := newService(t, nil, httpauth.Options{URL: server.URL, Client: bounded(t), Timeout: tt.timeout, Logger: said.logger()})
			err := s.Authenticator().Authenticate(context.Background(), alice())
			require.Equal(t, packets.ServerUnavailable, packets.ReasonOf(err))
			for _, text := range []string{said.String(), err.Error()} {
				assert.Regexp(t, tt.reason, text)
				assert.NotContains(t, text, "sesame")
				assert.NotContains(t, text, server.URL)
			}
		})
	}
}

// untilGone waits until the client has closed the connection, which a server sees
// when it has read the request.
func untilGone(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// bounded is a client that takes little, as the default one does.
func bounded(t *testing.T) *http.Client {
	transport := &http.Transport{MaxResponseHeaderBytes: 64 << 10}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// begin writes some of a body.
func begin(w http.ResponseWriter, text string) error {
	w.Header().Set("Content-Type", "application/json")
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// raw is a server that speaks for itself, and then closes the connection.
func raw(say func(c net.Conn, body string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		say(c, string(body))
	}
}

// A redirect is not followed: what is asked goes to nobody else.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		_ = begin(w, `{"result":"allow"}`)
	}))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(other.URL, status))
		client := bounded(t)
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return nil } // the host's would
		s := newService(t, nil, httpauth.Options{URL: server.URL, Client: client, Token: []byte("the.token")})
		err := s.Authenticator().Authenticate(context.Background(), alice())
		assert.Equal(t, packets.ServerUnavailable, packets.ReasonOf(err))
		assert.ErrorContains(t, err, fmt.Sprintf("status of the answer is %d", status))
		assert.NotNil(t, client.CheckRedirect, "the client of the host is its own")
		assert.NoError(t, client.CheckRedirect(nil, nil))
		server.Close()
	}
	assert.Zero(t, elsewhere.Load())
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(&site{})
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()

	t.Run("that the client of the host trusts", func(t *testing.T) {
		defer server.Client().CloseIdleConnections()
		s := newService(t, nil, httpauth.Options{URL: server.URL, Client: server.Client()})
		require.Equal(t, packets.Success, connects(s, alice()))
	})
	t.Run("that nobody trusts", func(t *testing.T) {
		s := newService(t, nil, httpauth.Options{URL: server.URL})
		err := s.Authenticator().Authenticate(context.Background(), alice())
		require.Equal(t, packets.ServerUnavailable, packets.ReasonOf(err))
		require.ErrorContains(t, err, "failed to verify certificate")
	})
	t.Run("that is none", func(t *testing.T) {
		plain := httptest.NewServer(&site{})
		defer plain.Close()
		s := newService(t, nil, httpauth.Options{URL: strings.Replace(plain.URL, "http:", "https:", 1)})
		err := s.Authenticator().Authenticate(context.Background(), alice())
		require.Equal(t, packets.ServerUnavailable, packets.ReasonOf(err))
		require.ErrorContains(t, err, "HTTP response to HTTPS client")
	})
}

// nowhere is a URL at which nobody is.
func nowhere(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return "http://" + l.Addr().String()
}

func TestNobodyThere(t *testing.T) {
	s := newService(t, nil, httpauth.Options{URL: nowhere(t)})
	err := s.Authenticator().Authenticate(context.Background(), alice())
	require.Equal(t, packets.ServerUnavailable, packets.ReasonOf(err))
	require.ErrorContains(t, err, "connection refused")
}

// What a client of the host says of its failure is not believed to be no secret.
func TestClientThatFails(t *testing.T) {
	for name, transport := range map[string]http.RoundTripper{
		"an error": roundTripper(func(r *http.Request) (*http.Response, error) {
			body, _ := bufio.NewReader(r.Body).ReadString(0)
			return nil, errors.New("cannot send " + body)
		}),
		"a panic": roundTripper(func(*http.Request) (*http.Response, error) { panic(password) }),
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t, nil, httpauth.Options{Client: &http.Client{Transport: transport}, MaximumConcurrent: 1})
			for range 3 { // turns are given back
				var err error
				func() {
					defer func() {
						if recover() != nil {
							err = packets.ServerUnavailable
						}
					}()
					err = s.Authenticator().Authenticate(context.Background(), alice())
				}()
				require.Equal(t, packets.ServerUnavailable, packets.ReasonOf(err))
				require.NotContains(t, err.Error(), password)
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
