package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/packets"
	"github.com/stretchr/testify/assert"
)

type authenticator func(ctx context.Context, r *petrel.ConnectRequest) error

func (f authenticator) Authenticate(ctx context.Context, r *petrel.ConnectRequest) error {
	return f(ctx, r)
}

func refuse(err error) petrel.Authenticator {
	return authenticator(func(context.Context, *petrel.ConnectRequest) error { return err })
}

func quiet(t *testing.T) *strings.Builder {
	var log strings.Builder
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return &log
}

func TestAnyOf(t *testing.T) {
	var (
		first  = errors.New("first")
		second = errors.New("second")
		crash  = authenticator(func(context.Context, *petrel.ConnectRequest) error { panic("boom") })
	)
	quiet(t)
	for _, tc := range []struct {
		name  string
		hooks []petrel.Authenticator
		want  error
	}{
		{"one admits", []petrel.Authenticator{auth.AllowAll{}}, nil},
		{"the first admits", []petrel.Authenticator{auth.AllowAll{}, refuse(second)}, nil},
		{"the last admits", []petrel.Authenticator{refuse(first), refuse(second), auth.AllowAll{}}, nil},
		{"all refuse", []petrel.Authenticator{refuse(first), refuse(second)}, first},
		{"a panic, then one admits", []petrel.Authenticator{crash, auth.AllowAll{}}, nil},
		{"a nil hook, then one admits", []petrel.Authenticator{nil, auth.AllowAll{}}, nil},
		{"a refusal, then a panic", []petrel.Authenticator{refuse(first), crash}, first},
		{"a code is kept", []petrel.Authenticator{refuse(packets.Banned), refuse(second)}, packets.Banned},
		{"no hooks", nil, packets.NotAuthorized},
		{"nested", []petrel.Authenticator{auth.AnyOf(refuse(first)), auth.AnyOf(auth.AllowAll{})}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := auth.AnyOf(tc.hooks...).Authenticate(t.Context(), &petrel.ConnectRequest{})
			assert.ErrorIs(t, err, tc.want)
		})
	}
}

func TestAnyOfPanicIsLogged(t *testing.T) {
	log := quiet(t)
	crash := authenticator(func(context.Context, *petrel.ConnectRequest) error { panic("boom") })

	err := auth.AnyOf(crash).Authenticate(t.Context(), &petrel.ConnectRequest{})

	assert.EqualError(t, err, "auth: auth_test.authenticator panicked: boom")
	assert.Contains(t, log.String(), "panic=boom")
	assert.Contains(t, log.String(), "anyof_test.go")
}

func TestAnyOfKeepsChangesOnlyOfTheOneThatAdmits(t *testing.T) {
	claim := func(identity string, err error) petrel.Authenticator {
		return authenticator(func(_ context.Context, r *petrel.ConnectRequest) error {
			if r.Identity != "user" {
				return errors.New("sees a change of its predecessor")
			}
			r.Identity = identity
			return err
		})
	}
	r := &petrel.ConnectRequest{Identity: "user"}
	assert.Error(t, auth.AnyOf(claim("mallory", packets.NotAuthorized)).Authenticate(t.Context(), r))
	assert.Equal(t, "user", r.Identity)

	assert.NoError(t, auth.AnyOf(claim("mallory", packets.NotAuthorized), claim("alice", nil)).Authenticate(t.Context(), r))
	assert.Equal(t, "alice", r.Identity)
}

func TestAnyOfAsksNobodyAfterTheDeadline(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	late := authenticator(func(context.Context, *petrel.ConnectRequest) error {
		cancel()
		return ctx.Err()
	})
	err := auth.AnyOf(late, auth.AllowAll{}).Authenticate(ctx, &petrel.ConnectRequest{})
	assert.ErrorIs(t, err, context.Canceled)
}

func TestAnyOfCopiesItsHooks(t *testing.T) {
	hooks := []petrel.Authenticator{refuse(packets.NotAuthorized)}
	a := auth.AnyOf(hooks...)
	hooks[0] = auth.AllowAll{}
	assert.Error(t, a.Authenticate(t.Context(), &petrel.ConnectRequest{}))
}

// It is prompt if all of its hooks are.
func TestAnyOfDecidesPromptly(t *testing.T) {
	for _, tc := range []struct {
		name  string
		hooks []petrel.Authenticator
		want  bool
	}{
		{"no hooks", nil, true},
		{"all are", []petrel.Authenticator{auth.AllowAll{}, auth.AllowLocal{}, auth.Anonymous{}}, true},
		{"one does not say", []petrel.Authenticator{auth.AllowAll{}, refuse(nil)}, false},
		{"a nil hook", []petrel.Authenticator{nil, auth.AllowAll{}}, false},
		{"nested", []petrel.Authenticator{auth.AnyOf(auth.AllowAll{})}, true},
		{"nested, and one does not say", []petrel.Authenticator{auth.AnyOf(refuse(nil)), auth.AllowAll{}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, ok := auth.AnyOf(tc.hooks...).(petrel.PromptAuthenticator)
			assert.True(t, ok)
			assert.Equal(t, tc.want, p.DecidesPromptly())
		})
	}
}
