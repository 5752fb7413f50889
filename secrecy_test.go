package petrel_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// secretNames are what secrets are called, and what is made of them to be compared.
var secretNames = regexp.MustCompile(`(?i)^(password|passwd|secret|token|proof|signature|hash|storedkey|serverkey|saltkey)$`)

// houseComparisons are the places that compare secrets; for a JSON Web Token that is
// the library.
var houseComparisons = map[string]string{
	"hooks/auth/password.go":      "subtle.ConstantTimeCompare(hash, p.hash) == 1",
	"hooks/scram/scram.go":        "hmac.Equal(stored[:], c.StoredKey[:])",
	"examples/customauth/main.go": "subtle.ConstantTimeCompare(hashOf(string(r.Password), u.salt), u.hash) == 1",
}

// How long the comparison of a secret takes says nothing about the secret.
func TestSecretsAreComparedInConstantTime(t *testing.T) {
	eachFile(t, func(name string) {
		dir, _, below := strings.Cut(name, "/")
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || below && dir != "hooks" && dir != "examples" {
			return
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.FromSlash(name), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if comparesSecrets(n) {
				t.Errorf("%s compares a secret in a time that tells of it", set.Position(n.Pos()))
			}
			return true
		})
	})
	for name, comparison := range houseComparisons {
		require.True(t, strings.Contains(readText(t, name), comparison), "%s has no %s", name, comparison)
	}
	library := strings.TrimSpace(string(goTool(t, "list", "-f", "{{.Dir}}", "github.com/golang-jwt/jwt/v5")))
	require.True(t, strings.Contains(readText(t, filepath.Join(library, "hmac.go")), "hmac.Equal(sig, "), "the library does not")
}

// comparesSecrets reports whether n finds out whether a secret is equal to something,
// other than nothing, and stops at the first difference.
func comparesSecrets(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		return (n.Op == token.EQL || n.Op == token.NEQ) && (isSecret(n.X) && !isNothing(n.Y) || isSecret(n.Y) && !isNothing(n.X))
	case *ast.SwitchStmt:
		return n.Tag != nil && isSecret(n.Tag)
	case *ast.IndexExpr: // of a map, by a secret that was made a string
		_, converted := n.Index.(*ast.CallExpr)
		return converted && isSecret(n.Index)
	case *ast.CallExpr:
		f, ok := n.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Equal", "EqualFold", "Compare", "DeepEqual"}, f.Sel.Name) {
			return false
		}
		of, _ := f.X.(*ast.Ident)
		return (of == nil || of.Name != "hmac") && (isSecret(f.X) || slices.ContainsFunc(n.Args, isSecret))
	}
	return false
}

// isSecret reports whether an expression is called like a secret, whatever it is
// converted to.
func isSecret(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return secretNames.MatchString(e.Name)
	case *ast.SelectorExpr:
		return secretNames.MatchString(e.Sel.Name)
	case *ast.SliceExpr:
		return isSecret(e.X)
	case *ast.StarExpr:
		return isSecret(e.X)
	case *ast.ParenExpr:
		return isSecret(e.X)
	case *ast.CallExpr:
		_, slice := e.Fun.(*ast.ArrayType)
		f, _ := e.Fun.(*ast.Ident)
		return (slice || f != nil && f.Name == "string") && len(e.Args) == 1 && isSecret(e.Args[0])
	}
	return false
}

func isNothing(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "nil"
	case *ast.BasicLit:
		return e.Value == `""`
	}
	return false
}
