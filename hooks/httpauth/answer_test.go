package httpauth_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/httpauth"
	"github.com/petrelmq/petrel/packets"
)

func TestAnswersToConnect(t *testing.T) {
	const (
		bad  = packets.BadUserNameOrPassword
		no   = packets.NotAuthorized
		none = packets.ServerUnavailable // no decision
	)
	for _, tt := range []struct {
		name   string
		answer answer
		want   packets.ReasonCode
	}{
		{"allow", says(`{"result":"allow"}`), packets.Success},
		{"with a charset", answer{contentType: "Application/JSON; charset=utf-8"}, packets.Success},
		{"with everything", says(` {"result":"allow", "identity":"a", "expires":"2999-01-02T03:04:05+01:00", "superuser":false, "rights":{"publish":["a"],"subscribe":[]}} `), packets.Success},
		{"with nothing in it", says(`{"result":"allow", "identity":"", "expires":null, "rights":null}`), packets.Success},
		{"deny", says(`{"result":"deny"}`), no},
		{"deny with rights", says(`{"result":"deny", "superuser":true, "rights":{"publish":["#"]}}`), no},
		{"401", answer{status: 401}, bad},
		{"401 without JSON", answer{status: 401, contentType: "text/html", body: "<html>"}, bad},
		{"403", answer{status: 403}, no},

		{"no result", says(`{}`), none},
		{"another result", says(`{"result":"ok"}`), none},
		{"a result in other letters", says(`{"result":"Allow"}`), none},
		{"a result of another type", says(`{"result":true}`), none},
		{"null", says(`null`), none},
		{"a text", says(`"allow"`), none},
		{"a list", says(`[{"result":"allow"}]`), none},
		{"nothing", says(` `), none},
		{"half of it", says(`{"result":"allow"`), none},
		{"more than one", says(`{"result":"allow"}{"result":"allow"}`), none},
		{"an unknown key", says(`{"result":"allow","expire":"2999-01-02T03:04:05Z"}`), none},
		{"what is for a subscription", says(`{"result":"allow","check":true}`), none},
		{"an expiry that is no time", says(`{"result":"allow","expires":"tomorrow"}`), none},
		{"an expiry in seconds", says(`{"result":"allow","expires":32472144000}`), none},
		{"rights that are no filters", says(`{"result":"allow","rights":{"publish":["a#"]}}`), none},
		{"rights of a shared filter", says(`{"result":"allow","rights":{"subscribe":["$share/g/a"]}}`), none},
		{"rights of unknown kind", says(`{"result":"allow","rights":{"read":["a"]}}`), none},
		{"rights in a text", says(`{"result":"allow","rights":"#"}`), none},
		{"an identity of another type", says(`{"result":"allow","identity":7}`), none},
		{"another type", answer{contentType: "text/plain"}, none},
		{"a type that is longer", answer{contentType: "application/json-patch+json"}, none},
		{"a broken type", answer{contentType: "application/json;;"}, none},
		{"too large", says(`{"result":"allow"` + strings.Repeat(" ", 1000) + `}`), none},
		{"201", answer{status: 201}, none},
		{"204", answer{status: 204}, none},
		{"302", answer{status: 302}, none},
		{"404", answer{status: 404}, none},
		{"429", answer{status: 429}, none},
		{"500", answer{status: 500}, none},
		{"503", answer{status: 503}, none},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := new(logged)
			s := newService(t, &site{decide: by(map[string]answer{"connect": tt.answer})}, httpauth.Options{MaximumAnswerSize: 200, Logger: log.logger()})
			err := s.Authenticator().Authenticate(context.Background(), alice())
			assert.Equal(t, tt.want, packets.ReasonOf(err), "%v", err)
			failed := tt.want == none
			assert.Equal(t, failed, strings.Contains(log.String(), "the service does not answer"), "the log says so: %s", log)
			assert.Equal(t, failed, s.Stats().Failures == 1)
			for _, said := range []string{log.String(), fmtError(err)} {
				assert.NotContains(t, said, password)
				assert.NotContains(t, said, "users.example")
			}
		})
	}
}

func fmtError(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestIdentityAndExpiry(t *testing.T) {
	at := time.Date(2999, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name, body, identity string
		expires              time.Time
	}{
		{"neither", `{"result":"allow"}`, "alice", time.Time{}},
		{"an identity", `{"result":"allow","identity":"device 7"}`, "device 7", time.Time{}},
		{"an expiry", `{"result":"allow","expires":"2999-01-02T03:04:05Z"}`, "alice", at},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t, &site{decide: by(map[string]answer{"connect": says(tt.body)})}, httpauth.Options{})
			for range 2 { // also from the cache
				r := alice()
				require.NoError(t, s.Authenticator().Authenticate(context.Background(), r))
				assert.Equal(t, tt.identity, r.Identity)
				assert.True(t, tt.expires.Equal(r.Expires), r.Expires)
			}
		})
	}
}

func TestHowLongAnAnswerIsUsed(t *testing.T) {
	defaults := httpauth.Options{}
	for _, tt := range []struct {
		name    string
		options httpauth.Options
		answer  answer
		used    time.Duration // 0 means not again
	}{
		{"allow", defaults, allow, 30 * time.Second},
		{"deny", defaults, deny, 5 * time.Second},
		{"401", defaults, answer{status: 401}, 5 * time.Second},
		{"allow, as the options say", httpauth.Options{AllowFor: time.Hour}, allow, time.Hour},
		{"deny, as the options say", httpauth.Options{DenyFor: time.Hour}, deny, time.Hour},
		{"allow, not at all", httpauth.Options{AllowFor: -1}, allow, 0},
		{"deny, not at all", httpauth.Options{DenyFor: -1}, deny, 0},
		{"no cache at all", httpauth.Options{CacheEntries: -1}, allow, 0},
		{"max-age", defaults, answer{cacheControl: "private, max-age=7"}, 7 * time.Second},
		{"max-age of a denial", defaults, answer{cacheControl: "max-age=100", body: deny.body}, 100 * time.Second},
		{"max-age in other letters", defaults, answer{cacheControl: `MAX-AGE="7"`}, 7 * time.Second},
		{"max-age twice", defaults, answer{cacheControl: "max-age=7, max-age=9"}, 7 * time.Second},
		{"max-age above the maximum", defaults, answer{cacheControl: "max-age=86400"}, 5 * time.Minute},
		{"max-age above a maximum of its own", httpauth.Options{MaximumAge: time.Second}, answer{cacheControl: "max-age=7"}, time.Second},
		{"max-age without a maximum", httpauth.Options{MaximumAge: -1}, answer{cacheControl: "max-age=86400"}, 24 * time.Hour},
		{"max-age of zero", defaults, answer{cacheControl: "max-age=0"}, 0},
		{"max-age that is negative", defaults, answer{cacheControl: "max-age=-1"}, 0},
		{"max-age that is no number", defaults, answer{cacheControl: "max-age=long"}, 0},
		{"max-age that is too large for a number", defaults, answer{cacheControl: "max-age=99999999999999999999"}, 0},
		{"max-age of nothing", defaults, answer{cacheControl: "max-age"}, 0},
		{"no-store", defaults, answer{cacheControl: "max-age=7, no-store"}, 0},
		{"no-cache", defaults, answer{cacheControl: "no-cache"}, 0},
		{"something else", defaults, answer{cacheControl: "private, must-revalidate"}, 30 * time.Second},
		{"until the credentials end", defaults, says(`{"result":"allow","expires":"2000-01-01T00:00:10Z"}`), 10 * time.Second},
		{"a failure", defaults, answer{status: 500}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // begins with the year 2000
				site := &site{decide: by(map[string]answer{"connect": tt.answer})}
				s := newService(t, site, tt.options)
				first := connects(s, alice())
				if tt.used > 0 {
					time.Sleep(tt.used - time.Nanosecond)
					require.Equal(t, first, connects(s, alice()))
					require.Equal(t, 1, site.count(), "it is used again")
					time.Sleep(time.Nanosecond)
				}
				require.Equal(t, first, connects(s, alice()))
				require.Equal(t, map[bool]int{true: 1, false: 2}[tt.used > 0], site.count(), "and then asked again")
			})
		})
	}
}

// A denial never gives way to an answer that allows which was there before it.
func TestLatestAnswerDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := answer{cacheControl: "max-age=10"}
		site := &site{decide: func(context.Context, question) answer { return now }}
		s := newService(t, site, httpauth.Options{})
		require.Equal(t, packets.Success, connects(s, alice()))
		now = answer{cacheControl: "max-age=60", body: deny.body}
		time.Sleep(10 * time.Second)
		for range 2 {
			require.Equal(t, packets.NotAuthorized, connects(s, alice()))
			time.Sleep(time.Second)
		}
		require.Equal(t, 2, site.count())
		now = allow
		time.Sleep(time.Minute)
		require.Equal(t, packets.Success, connects(s, alice()))
	})
}

// What the cache of one client has said decides about no other.
func TestOtherQuestionsAreOthers(t *testing.T) {
	site := &site{decide: by(map[string]answer{"connect": allow})}
	s := newService(t, site, httpauth.Options{})
	require.Equal(t, packets.Success, connects(s, alice()))
	site.take()
	for name, change := range map[string]func(*petrel.ConnectRequest){
		"password":       func(r *petrel.ConnectRequest) { r.Password = petrel.Secret(password + "!") },
		"no password":    func(r *petrel.ConnectRequest) { r.HasPassword, r.Password = false, nil },
		"empty password": func(r *petrel.ConnectRequest) { r.Password = nil },
		"user":           func(r *petrel.ConnectRequest) { r.UserName = "bob" },
		"client":         func(r *petrel.ConnectRequest) { r.ClientID = "d" },
		"address":        func(r *petrel.ConnectRequest) { r.Peer.RemoteAddr = tcp("192.0.2.1:1") },
		"listener":       func(r *petrel.ConnectRequest) { r.Peer.Listener = "other" },
	} {
		r := alice()
		change(r)
		connects(s, r)
		require.Equal(t, 1, site.count(), name)
	}
	require.Equal(t, packets.Success, connects(s, alice()))
	require.Zero(t, site.count())
}
