package httpauth_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/httpauth"
	"github.com/petrelmq/petrel/packets"
)

func TestCacheIsBounded(t *testing.T) {
	site := &site{decide: func(_ context.Context, q question) answer {
		if q["password"] == password {
			return allow
		}
		return deny
	}}
	s := newService(t, site, httpauth.Options{CacheEntries: 3, AllowFor: time.Hour, DenyFor: time.Hour})
	asks := func(r *petrel.ConnectRequest) bool {
		site.take()
		connects(s, r)
		return site.count() > 0
	}
	wrong := func(i int) *petrel.ConnectRequest {
		r := alice()
		r.Password = fmt.Append(nil, "guess ", i)
		return r
	}
	for i := range 3 {
		require.True(t, asks(user(i)))
	}
	for i := range 1000 {
		require.True(t, asks(wrong(i)))
	}
	for i := range 3 {
		require.False(t, asks(user(i)), "who guesses pushes out nobody who is right")
	}
	require.False(t, asks(user(0)))
	require.True(t, asks(user(3)))
	require.False(t, asks(user(0)), "what was used last is kept")
	require.True(t, asks(user(1)), "what was not is not")
	for i := 997; i < 1000; i++ {
		require.False(t, asks(wrong(i)))
	}
	require.True(t, asks(wrong(996)))
	require.LessOrEqual(t, s.Entries(), 6)
}

// Of what was asked and answered nothing stays that has a password in it.
func TestNoPasswordIsKept(t *testing.T) {
	site := &site{decide: func(_ context.Context, q question) answer {
		if q["userName"] == "user 1" {
			return deny
		}
		return says(`{"result":"allow","identity":"the identity","rights":{"publish":["a/%c"]}}`)
	}}
	s := newService(t, site, httpauth.Options{})
	for i := range 3 {
		connects(s, user(i))
	}
	site.take()
	seen := map[uintptr]bool{}
	found := map[string]bool{}
	var walk func(v reflect.Value)
	text := func(s string) {
		for _, secret := range []string{"sesame", "the identity"} {
			if strings.Contains(s, secret) {
				found[secret] = true
			}
		}
	}
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() && !seen[v.Pointer()] {
				seen[v.Pointer()] = true
				walk(v.Elem())
			}
		case reflect.Interface:
			walk(v.Elem())
		case reflect.Struct:
			for i := range v.NumField() {
				walk(v.Field(i))
			}
		case reflect.Map:
			for m := v.MapRange(); m.Next(); {
				walk(m.Key())
				walk(m.Value())
			}
		case reflect.Slice, reflect.Array:
			if v.Type().Elem().Kind() == reflect.Uint8 {
				b := make([]byte, v.Len())
				for i := range b {
					b[i] = byte(v.Index(i).Uint())
				}
				text(string(b))
				return
			}
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.String:
			text(v.String())
		}
	}
	walk(reflect.ValueOf(s))
	assert.True(t, found["the identity"], "the test looks at what is kept")
	assert.False(t, found["sesame"])
}

func TestServicePrintsNothing(t *testing.T) {
	s := newService(t, new(site), httpauth.Options{Token: petrel.Secret("token")})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		assert.Equal(t, "httpauth.Service", fmt.Sprintf(verb, s))
	}
}

func TestForget(t *testing.T) {
	site := &site{decide: func(_ context.Context, q question) answer {
		if q["userName"] == "bob" {
			return deny
		}
		if q["userName"] == "alias" {
			return says(`{"result":"allow","identity":"alice"}`)
		}
		return allow
	}}
	s := newService(t, site, httpauth.Options{AllowFor: time.Hour, DenyFor: time.Hour})
	names := []string{"alice", "alias", "bob", "carol", ""}
	asked := func() (list []string) {
		site.take()
		for _, name := range names {
			r := alice()
			r.UserName, r.HasUserName = name, name != ""
			connects(s, r)
		}
		for _, q := range site.take() {
			name, _ := q["userName"].(string)
			list = append(list, name)
		}
		return list
	}
	require.Equal(t, names, asked())
	require.Empty(t, asked())
	for _, tt := range []struct {
		forget string
		again  []string
	}{
		{"carol", []string{"carol"}},
		{"bob", []string{"bob"}},
		{"alice", []string{"alice", "alias"}},
		{"alias", []string{"alias"}},
		{"", []string{""}},
		{"nobody", nil},
	} {
		s.Forget(tt.forget)
		require.Equal(t, tt.again, asked(), tt.forget)
		require.Empty(t, asked(), "once")
	}
	s.ForgetAll()
	require.Equal(t, names, asked())
	require.Empty(t, asked())
}

// What is forgotten does not grow: with too much of it, all is.
func TestForgetManyIdentities(t *testing.T) {
	site := new(site)
	s := newService(t, site, httpauth.Options{AllowFor: time.Hour})
	connects(s, alice())
	site.take()
	for i := range 9_999 {
		s.Forget(fmt.Sprint("user ", i))
		s.Forget("one of them")
	}
	connects(s, alice())
	require.Zero(t, site.count(), "she is not forgotten")
	s.Forget("one too many")
	connects(s, alice())
	require.Equal(t, 1, site.count(), "all are")
	require.Zero(t, s.Forgotten())
	connects(s, alice())
	require.Zero(t, site.count())
}

// An answer that was on its way when it was forgotten decides nothing later.
func TestForgetWhatIsOnItsWay(t *testing.T) {
	for _, name := range []string{"alice", "device", "all"} { // the user name, and the identity that is not known yet
		t.Run(name, func(t *testing.T) {
			inBubble(t, httpauth.Options{}, func(t *testing.T, site *slow, s *httpauth.Service) {
				old := asking(t.Context(), s, alice())
				if name == "all" {
					s.ForgetAll()
				} else {
					s.Forget(name)
				}
				if name == "device" {
					site.answers <- says(`{"result":"allow","identity":"device"}`)
					require.NoError(t, <-old)
				}
				later := asking(t.Context(), s, alice())
				if name != "device" {
					require.EqualValues(t, 2, site.open.Load(), "who asks later does not wait for the old answer")
					site.answers <- allow
					require.NoError(t, <-old)
				}
				shares := asking(t.Context(), s, alice())
				require.EqualValues(t, 1, site.open.Load(), "but for the later one")
				site.answers <- deny
				require.Equal(t, packets.NotAuthorized, packets.ReasonOf(<-later))
				require.Equal(t, packets.NotAuthorized, packets.ReasonOf(<-shares))
				synctest.Wait()
				require.Equal(t, packets.NotAuthorized, connects(s, alice()), "the later answer is kept")
				require.Equal(t, 2, site.count())
			})
		})
	}
}

// Nor does it take the place of a later one when it comes last.
func TestForgottenAnswerComesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []chan answer{make(chan answer), make(chan answer)}
		var n atomic.Int64
		site := &site{decide: func(context.Context, question) answer {
			if i := n.Add(1) - 1; i < 2 {
				return <-answers[i]
			}
			return deny // nobody should ask again
		}}
		s := newService(t, site, httpauth.Options{})
		old := asking(t.Context(), s, alice())
		s.Forget("alice")
		later := asking(t.Context(), s, alice())
		answers[1] <- says(`{"result":"allow","identity":"new"}`)
		require.NoError(t, <-later)
		answers[0] <- says(`{"result":"allow","identity":"old"}`)
		require.NoError(t, <-old)
		r := alice()
		require.NoError(t, s.Authenticator().Authenticate(t.Context(), r))
		require.Equal(t, "new", r.Identity)
		require.Equal(t, 2, site.count())
	})
}

// What stands for a question is of no use to who does not know the process.
func TestKeysOfQuestions(t *testing.T) {
	a, b := newService(t, new(site), httpauth.Options{}), newService(t, new(site), httpauth.Options{})
	require.Equal(t, a.Key(alice()), a.Key(alice()))
	require.NotEqual(t, a.Key(alice()), a.Key(user(1)))
	require.NotEqual(t, a.Key(alice()), b.Key(alice()))
}
