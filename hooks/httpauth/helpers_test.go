package httpauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/httpauth"
	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// password is one that must be nowhere.
const password = "open sesame"

// question is what a site is asked, as JSON has it.
type question map[string]any

func (q question) ask() string { return q["ask"].(string) }

// answer is what a site says. Its zero value is an allowing one.
type answer struct {
	status       int    // 0 means 200
	contentType  string // empty means application/json
	cacheControl string
	body         string // empty means that it allows
}

var (
	allow = answer{}
	deny  = answer{body: `{"result":"deny"}`}
)

func says(body string) answer { return answer{body: body} }

// site is a web service in the process: what is asked runs on the goroutine that
// asks, so that it can be in a bubble of testing/synctest.
type site struct {
	decide func(ctx context.Context, q question) answer // nil allows everything

	mu    sync.Mutex
	asked []question
}

func (s *site) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q question
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "not as agreed", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.asked = append(s.asked, q)
	s.mu.Unlock()
	var a answer
	if s.decide != nil {
		a = s.decide(r.Context(), q)
	}
	if a.contentType == "" {
		a.contentType = "application/json"
	}
	w.Header().Set("Content-Type", a.contentType)
	if a.cacheControl != "" {
		w.Header().Set("Cache-Control", a.cacheControl)
	}
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	if a.body == "" {
		a.body = `{"result":"allow"}`
	}
	_, _ = w.Write([]byte(a.body))
}

// count returns how often the site was asked, and begins anew.
func (s *site) count() int { return len(s.take()) }

// take returns what the site was asked, and begins anew.
func (s *site) take() []question {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

// by takes answers from a table, by what is asked. What is not there is denied.
func by(answers map[string]answer) func(context.Context, question) answer {
	answers = maps.Clone(answers)
	return func(_ context.Context, q question) answer {
		if a, ok := answers[q.ask()]; ok {
			return a
		}
		return deny
	}
}

// logged is a log that must not have secrets in it.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) lines() []string { return strings.Split(strings.TrimSpace(l.String()), "\n") }

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// newService makes a service of a site, or of what the options name. What it logs is checked for secrets at the end.
func newService(t testing.TB, s *site, o httpauth.Options) *httpauth.Service {
	if o.Client == nil && s != nil {
		o.Client = &http.Client{Transport: s}
	}
	if o.URL == "" {
		o.URL = "https://users.example/mqtt"
	}
	if o.Logger == nil {
		log := new(logged)
		o.Logger = log.logger()
		t.Cleanup(func() { assert.NotContains(t, log.String(), password) })
	}
	service, err := httpauth.New(o)
	require.NoError(t, err)
	return service
}

// alice is the CONNECT of a user.
func alice() *petrel.ConnectRequest {
	return &petrel.ConnectRequest{ClientID: "c", HasUserName: true, UserName: "alice", Identity: "alice", HasPassword: true, Password: petrel.Secret(password)}
}

// connects asks about a CONNECT, and returns the reason code.
func connects(s *httpauth.Service, r *petrel.ConnectRequest) packets.ReasonCode {
	return packets.ReasonOf(s.Authenticator().Authenticate(context.Background(), r))
}

// guarded is a broker that asks the service about everything.
func guarded(t *testing.T, s *httpauth.Service) *brokertest.Broker {
	return brokertest.New(t, petrel.Options{Hooks: []petrel.Hook{s.Authenticator(), s.Authorizer()}})
}

// as is the CONNECT of a user with a password.
func as(v packets.Version, id, user string) packets.Connect {
	return packets.Connect{
		Version: v, ClientID: []byte(id), CleanStart: true,
		HasUserName: true, UserName: []byte(user), HasPassword: true, Password: []byte(password),
	}
}

// topicsOf are the topics and filters of questions, in order.
func topicsOf(asked []question, ask string) (list []string) {
	for _, q := range asked {
		if q.ask() == ask {
			for _, key := range []string{"topic", "filter"} {
				if text, ok := q[key].(string); ok {
					list = append(list, text)
				}
			}
		}
	}
	return slices.Clip(list)
}
