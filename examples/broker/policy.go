package main

import (
	"fmt"
	"log/slog"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
)

// policy says who is admitted without being asked for credentials.
type policy string

const (
	localOnly policy = "local"
	anybody   policy = "any"
	nobody    policy = "none"
)

func (p policy) MarshalText() ([]byte, error) { return []byte(p), nil }

func (p *policy) UnmarshalText(text []byte) error {
	switch v := policy(text); v {
	case localOnly, anybody, nobody:
		*p = v
		return nil
	}
	return fmt.Errorf("%q is none of local, any, none", text)
}

func (p policy) hook() petrel.Authenticator {
	switch p {
	case localOnly:
		return auth.AllowLocal{}
	case anybody:
		return auth.AllowAll{}
	}
	return auth.AnyOf() // of no authenticators: nobody
}

// describe says what the policy means to whoever reads the log, beside a way to
// prove who one is or without.
func (p policy) describe(proves bool) string {
	switch {
	case p == localOnly:
		return "anonymous clients are admitted from this machine only"
	case p == anybody:
		return "anonymous clients are admitted from everywhere"
	case proves:
		return "anonymous clients are refused"
	}
	return "anonymous clients are refused and no other authentication is configured: nobody can connect"
}

// level is that of the log line: what is seldom meant is a warning.
func (p policy) level(proves bool) slog.Level {
	if p == localOnly || p == nobody && proves {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}
