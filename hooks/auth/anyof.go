package auth

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// AnyOf returns an authenticator that admits a client as soon as one of hooks
// does. They are asked in order, all within the one [petrel.Options.HookTimeout];
// each sees the request as it came, and only the one that admits may change it.
// When all refuse, the error is that of the first; with no hooks at all nobody
// is admitted.
//
// A panic in one of them is a refusal of that one, and is logged with
// [slog.Default]. AnyOf uses Authenticate alone: whatever else a hook can do
// goes unnoticed.
func AnyOf(hooks ...petrel.Authenticator) petrel.Authenticator {
	return anyOf(slices.Clone(hooks))
}

type anyOf []petrel.Authenticator

var _ petrel.PromptAuthenticator = anyOf(nil)

// DecidesPromptly tells whether all hooks do.
func (a anyOf) DecidesPromptly() bool {
	for _, h := range a {
		if p, ok := h.(petrel.PromptAuthenticator); !ok || !p.DecidesPromptly() {
			return false
		}
	}
	return true
}

func (a anyOf) Authenticate(ctx context.Context, r *petrel.ConnectRequest) error {
	var first error
	for _, h := range a {
		attempt := *r
		err := try(ctx, h, &attempt)
		if err == nil {
			*r = attempt
			return nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break // an answer would come too late
		}
	}
	if first == nil {
		first = packets.NotAuthorized
	}
	return first
}

func try(ctx context.Context, h petrel.Authenticator, r *petrel.ConnectRequest) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("auth: %T panicked: %v", h, v)
			slog.ErrorContext(ctx, "authenticator panicked", "hook", fmt.Sprintf("%T", h), "panic", v, "stack", string(debug.Stack()))
		}
	}()
	return h.Authenticate(ctx, r)
}
