package petrel_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What can be used from outside says what it is.
func TestEveryExportedNameIsDocumented(t *testing.T) {
	var missing []string
	checked := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path == "examples" || path == "interop" || path == "internal" || strings.HasPrefix(d.Name(), ".") && path != ".") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for name, documented := range exportedNames(file) {
			checked++
			if !documented {
				missing = append(missing, path+": "+name)
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, checked, 300, "the test looks at something")
	require.Empty(t, missing)
}

// exportedNames are the exported names that a file declares, methods of
// interfaces included, and whether they have a comment of their own or of their group.
func exportedNames(file *ast.File) map[string]bool {
	names := make(map[string]bool)
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if r := receiver(d); d.Name.IsExported() && (r == "" || ast.IsExported(r)) && !isText(d) {
				names[r+"."+d.Name.Name] = d.Doc != nil
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				exportedOf(spec, d.Doc != nil, names)
			}
		}
	}
	return names
}

// isText reports the methods whose meaning is their name.
func isText(d *ast.FuncDecl) bool {
	switch d.Name.Name {
	case "String", "GoString", "Error", "Unwrap", "LogValue":
		return d.Recv != nil
	}
	return false
}

func exportedOf(spec ast.Spec, group bool, names map[string]bool) {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() {
			names[s.Name.Name] = group || s.Doc != nil || s.Comment != nil
		}
	case *ast.ValueSpec:
		for _, n := range s.Names {
			if n.IsExported() {
				names[n.Name] = group || s.Doc != nil || s.Comment != nil
			}
		}
	}
}

// receiver is the name of the type that a method belongs to, empty for a function.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	x := d.Recv.List[0].Type
	for {
		switch y := x.(type) {
		case *ast.StarExpr:
			x = y.X
		case *ast.IndexExpr:
			x = y.X
		case *ast.Ident:
			return y.Name
		default:
			return ""
		}
	}
}
