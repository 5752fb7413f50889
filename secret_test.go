package petrel_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
)

func TestSecretPrintsAsStars(t *testing.T) {
	secret := petrel.Secret("pencil")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%#q", "%x", "% x", "%#x", "%X", "%d", "%b", "%o", "%c", "%U", "%20s", "%.2s"} {
		assert.Equal(t, "***", fmt.Sprintf(verb, secret), verb)
		assert.Equal(t, "***", fmt.Sprintf(verb, &secret), "a pointer with %s", verb)
	}
	assert.Equal(t, "***", fmt.Sprint(secret))
	assert.Equal(t, "***\n", fmt.Sprintln(secret))
	assert.Equal(t, "***", fmt.Sprint(petrel.Secret(nil)), "nor is there a difference when there is none")

	for _, inside := range []any{petrel.ConnectRequest{Password: secret}, &petrel.ConnectRequest{Password: secret}, []petrel.Secret{secret}, map[string]petrel.Secret{"k": secret}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			requireNoSecret(t, fmt.Sprintf(verb, inside))
		}
		text, err := json.Marshal(inside)
		require.NoError(t, err)
		requireNoSecret(t, string(text))
		assert.Contains(t, string(text), "***")
	}
	text, err := xml.Marshal(secret)
	require.NoError(t, err)
	assert.Equal(t, "<Secret>***</Secret>", string(text))
}

func TestSecretIsLoggedAsStars(t *testing.T) {
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		secret := petrel.Secret("pencil")
		slog.New(handler(&b)).Info("message", "bare", secret, "pointer", &secret, "inside", petrel.ConnectRequest{Password: secret}, slog.Group("g", "s", secret))
		requireNoSecret(t, b.String())
		assert.GreaterOrEqual(t, bytes.Count(b.Bytes(), []byte("***")), 4, name)
	}
}

// requireNoSecret checks that "pencil" is in text in none of the forms in which
// bytes are printed.
func requireNoSecret(t *testing.T, text string) {
	t.Helper()
	for _, form := range []string{"pencil", "70656e63696c", "70656E63696C", "70 65 6e", "112 101 110", "0x70", "cGVuY2ls"} {
		require.NotContains(t, text, form)
	}
}
