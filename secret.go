package petrel

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a password, a token or a key. It prints as stars: with every verb of
// package fmt (but %w, which is for errors, as vet says), in JSON and other texts,
// and in logs. Package fmt does not ask fields that are not exported how they
// print, so that a type which hides one has to mask itself.
type Secret []byte

const stars = "***"

func (Secret) String() string       { return stars }
func (Secret) GoString() string     { return stars }
func (Secret) LogValue() slog.Value { return slog.StringValue(stars) }

// Format prints stars for every verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, stars) }

// MarshalText returns stars.
func (Secret) MarshalText() ([]byte, error) { return []byte(stars), nil }
