package petrel_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
)

// The tests of this file hold the repository to its own rules: what may be
// required, who may import whom, and that README.md tells the truth.

const houseModule = "github.com/petrelmq/petrel"

func goTool(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	require.NoError(t, err, "%s\n%s", cmd, &said)
	return out
}

func TestDirectRequirementsAreThree(t *testing.T) {
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	require.NoError(t, json.Unmarshal(goTool(t, "mod", "edit", "-json"), &mod))
	var direct []string
	for _, r := range mod.Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	require.ElementsMatch(t, []string{"github.com/rs/xid", "github.com/stretchr/testify", "golang.org/x/net"}, direct)
}

// What a host program links is the standard library, xid and x/net.
func TestDependenciesOfTheCore(t *testing.T) {
	list := goTool(t, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./...")
	deps := strings.Fields(string(list))
	require.Contains(t, deps, houseModule)
	for _, dep := range deps {
		ours := dep == houseModule || strings.HasPrefix(dep, houseModule+"/")
		require.True(t, ours || dep == "github.com/rs/xid" || strings.HasPrefix(dep, "golang.org/x/net/"), dep)
	}
}

func TestEveryModuleIsInTheWorkspace(t *testing.T) {
	var work struct{ Use []struct{ DiskPath string } }
	require.NoError(t, json.Unmarshal(goTool(t, "work", "edit", "-json"), &work))
	var used []string
	for _, u := range work.Use {
		used = append(used, path.Clean(u.DiskPath))
	}
	var modules []string
	eachFile(t, func(name string) {
		if path.Base(name) == "go.mod" {
			modules = append(modules, path.Dir(name))
		}
	})
	require.ElementsMatch(t, modules, used)
}

// houseImports says what of the repository the packages of a directory, and of those
// below it, may import. The longest directory decides.
var houseImports = map[string][]string{
	".":                  {"internal/engine", "internal/sample", "packets", "topics"},
	"packets":            {},
	"topics":             {},
	"listeners":          {"internal/sample"},
	"internal/engine":    {},
	"internal/sample":    {},
	"hooks":              {".", "packets", "topics"},
	"hooks/httpauth":     {".", "hooks/auth", "internal/sample", "packets"},
	"conformance":        {},
	"conformance/report": {"conformance"},
	"hostile":            {},

	// For tests, of the repository and of hosts.
	"internal/brokertest":   {".", "packets", "topics"},
	"internal/certtest":     {},
	"petreltest":            {".", "hooks/auth", "listeners", "packets", "topics"},
	"hooks/store/storetest": {".", "hooks/auth", "internal/brokertest", "packets", "topics"},
}

func TestImportsPointOneWay(t *testing.T) {
	seen := map[string]bool{}
	eachFile(t, func(name string) {
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || !ofTheCore(name) {
			return
		}
		room := roomOf(path.Dir(name))
		require.NotEmpty(t, room, "%s is in a directory that has no rule", name)
		seen[room] = true
		for _, imported := range importsOf(t, name) {
			first, _, _ := strings.Cut(imported, "/")
			inside, ours := strings.CutPrefix(imported+"/", houseModule+"/")
			switch {
			case ours:
				if inside = path.Clean(inside); inside != path.Dir(name) {
					require.Contains(t, houseImports[room], inside, "%s imports %s", name, imported)
				}
			case strings.Contains(first, "."):
				allowed := imported == "github.com/rs/xid" || strings.HasPrefix(imported, "golang.org/x/net/")
				require.True(t, allowed, "%s imports %s", name, imported)
			}
		}
	})
	for _, room := range []string{".", "packets", "topics", "listeners", "internal/engine", "hooks"} {
		require.True(t, seen[room], "%s was not looked at", room)
	}
}

// roomOf returns the entry of houseImports for a directory; only the root itself
// stands for nothing below it.
func roomOf(dir string) string {
	for d := dir; d != "."; d = path.Dir(d) {
		if _, ok := houseImports[d]; ok {
			return d
		}
	}
	if dir == "." {
		return dir
	}
	return ""
}

// ofTheCore reports whether a file belongs to the module of the root.
func ofTheCore(name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, err := os.Stat(filepath.FromSlash(dir + "/go.mod")); err == nil {
			return false
		}
	}
	return true
}

func importsOf(t *testing.T, name string) []string {
	f, err := parser.ParseFile(token.NewFileSet(), filepath.FromSlash(name), nil, parser.ImportsOnly)
	require.NoError(t, err)
	var list []string
	for _, s := range f.Imports {
		imported, err := strconv.Unquote(s.Path.Value)
		require.NoError(t, err)
		list = append(list, imported)
	}
	return list
}

// eachFile calls each for every file of the repository, by its path with slashes.
func eachFile(t *testing.T, each func(name string)) {
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "node_modules", "__pycache__"}, d.Name()):
			return filepath.SkipDir
		case d.Type().IsRegular():
			each(filepath.ToSlash(name))
		}
		return nil
	})
	require.NoError(t, err)
}

func readText(t *testing.T, name string) string {
	b, err := os.ReadFile(filepath.FromSlash(name))
	require.NoError(t, err)
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

func TestReadmeShowsTheEmbedExample(t *testing.T) {
	_, program, ok := strings.Cut(readText(t, "examples/embed/main.go"), "\npackage main\n")
	require.True(t, ok)
	_, rest, ok := strings.Cut(readText(t, "README.md"), "```go\n")
	require.True(t, ok)
	block, _, ok := strings.Cut(rest, "```\n")
	require.True(t, ok)
	require.Equal(t, "package main\n"+program, block)
}

// The programs and pieces of programs in README.md compile.
func TestReadmeCompiles(t *testing.T) {
	const around = `package main

import (
	"context"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/packets"
)

var authenticator = auth.AllowLocal{}

func main() { _ = options }

`
	blocks := strings.Split(readText(t, "README.md"), "```go\n")[1:]
	require.Len(t, blocks, 2)
	dir := t.TempDir()
	for i, block := range blocks {
		block, _, _ = strings.Cut(block, "```\n")
		if !strings.HasPrefix(block, "package ") {
			block = around + block
		}
		// To the compiler the file is in a directory of the module that there is not.
		file, overlay := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json")
		require.NoError(t, os.WriteFile(file, []byte(block), 0o600))
		there, err := filepath.Abs("internal/readme/main.go")
		require.NoError(t, err)
		replace, err := json.Marshal(map[string]any{"Replace": map[string]string{there: file}})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(overlay, replace, 0o600))
		goTool(t, "build", "-overlay", overlay, "-o", filepath.Join(dir, strconv.Itoa(i)+".exe"), "./internal/readme")
	}
}

func TestReadmeNamesEveryLimit(t *testing.T) {
	readme := readText(t, "README.md")
	options := reflect.TypeFor[petrel.Options]()
	limits := 0
	for i := range options.NumField() {
		switch f := options.Field(i); f.Type {
		case reflect.TypeFor[int](), reflect.TypeFor[int64](), reflect.TypeFor[time.Duration]():
			limits++
			require.True(t, strings.Contains(readme, "| `"+f.Name+"` |"), "README.md has no limit %s", f.Name)
		}
	}
	require.Greater(t, limits, 20)
}

// README.md says of each limit what options.go says of it.
func TestReadmeHasTheDefaultsOfTheCode(t *testing.T) {
	_, readme, _ := strings.Cut(readText(t, "README.md"), "\n## Limits\n")
	readme, _, _ = strings.Cut(readme, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([^|]+) \\|").FindAllStringSubmatch(readme, -1)
	require.NotEmpty(t, rows)
	code := readText(t, "options.go")
	for _, row := range rows {
		name, byDefault := row[1], row[2]
		at := regexp.MustCompile(`(?m)^\t` + name + `( +|, .*)\S`).FindStringIndex(code)
		require.NotNil(t, at, "%s is no option", name)
		comment := code[:at[0]]
		comment = comment[strings.LastIndex(comment, "\n\n")+1:]
		comment = strings.Join(strings.Fields(strings.ReplaceAll(comment, "//", "")), " ")
		if byDefault == "none" {
			require.Regexp(t, "Zero and negative mean no (limit|cap)", comment, name)
			continue
		}
		require.Contains(t, comment, "Zero means "+byDefault, name)
	}
}

func TestReadmeNamesTheTopicsOfSys(t *testing.T) {
	_, table, found := strings.Cut(readText(t, "README.md"), "\n### `$SYS`\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n### ")
	var names []string
	for _, cell := range regexp.MustCompile("(?m)^\\| (`[^|]+) \\|").FindAllStringSubmatch(table, -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell[1], -1) {
			if load, average := strings.CutSuffix(name[1], "/+"); average {
				names = append(names, load+"/1min", load+"/5min", load+"/15min")
			} else {
				names = append(names, name[1])
			}
		}
	}
	require.ElementsMatch(t, sysNames(), names)
}

// Which client was run over which transport is said twice; the tests in interop
// hold their README.md to what they run.
func TestReadmeHasTheMatrixOfInterop(t *testing.T) {
	table := func(name string) string {
		_, rest, found := strings.Cut(readText(t, name), "\n| over |")
		require.True(t, found, "%s has no such table", name)
		rest, _, _ = strings.Cut(rest, "\n\n")
		return rest
	}
	require.Equal(t, table("interop/README.md"), table("README.md"))
}

// The suites that README.md counts are as large as it says; hostile counts its own.
func TestReadmeCountsTheSecuritySuites(t *testing.T) {
	count := func(pattern string, names ...string) (n int) {
		for _, name := range names {
			n += len(regexp.MustCompile(`(?m)^\s*`+pattern).FindAllString(readText(t, name), -1))
		}
		return n
	}
	var tests []string
	eachFile(t, func(name string) {
		if strings.HasSuffix(name, "_test.go") && ofTheCore(name) {
			tests = append(tests, name)
		}
	})
	statements := 0
	for _, m := range regexp.MustCompile(`(?m)^\d+ statements, (\d+) that can be tested`).FindAllStringSubmatch(readText(t, "CONFORMANCE.md"), 2) { // of 5.0 and 3.1.1
		n, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		statements += n
	}
	limits := count(`\{limit: petrel\.Limit`, "limits_test.go")
	readme := readText(t, "README.md")
	for _, row := range []string{
		fmt.Sprintf("| rights that change | %d scenes |", count(`onScene\(t, "`, "revocation_test.go")),
		fmt.Sprintf("| limits | %d cases | each of %d limits", 3*limits, limits),
		fmt.Sprintf("| web services that should decide | %d |", count(`\{"[^"]+", (soon|time\.Minute), `, "hooks/httpauth/hostile_test.go")),
		fmt.Sprintf("| behind proxies | %d tests |", count(`func Test`, "listeners/proxy_test.go", "listeners/proxy_header_test.go",
			"listeners/proxy_broker_test.go", "listeners/websocket_proxy_test.go")),
		fmt.Sprintf("| conformance | %d statements |", statements),
		fmt.Sprintf("| fuzz targets of the core | %d |", count(`func Fuzz`, tests...)),
	} {
		require.True(t, strings.Contains(readme, "\n"+row), "README.md has no row %q", row)
	}
}

// houseSkips says how often each file may skip a test: with CI in the environment
// that is a failure instead, or it is about a broker of somebody else, or about a benchmark.
var houseSkips = map[string]int{
	"bench_test.go": 1, "conformance/target_test.go": 2, "examples/browser/browser_test.go": 1,
	"hooks/store/storetest/full.go": 1, "interop/broker_test.go": 1, "interop/scenario_test.go": 1,
}

// Nor is one left out by a build constraint that no platform of CI meets.
func TestNoTestIsSkippedUnseen(t *testing.T) {
	skip, constraint := regexp.MustCompile(`[.]Skip(f|Now)?\b`), regexp.MustCompile(`(?m)^//go:build (.*)$`)
	skips := map[string]int{}
	eachFile(t, func(name string) {
		if !strings.HasSuffix(name, ".go") {
			return
		}
		text := readText(t, name)
		if n := len(skip.FindAllString(text, -1)); n > 0 {
			skips[name] = n
		}
		for _, c := range constraint.FindAllStringSubmatch(text, -1) {
			if strings.HasSuffix(name, "_test.go") {
				require.Subset(t, []string{"unix", "linux", "amd64", "arm64", "||", "!race"}, strings.Fields(c[1]), name)
			}
		}
	})
	require.Equal(t, houseSkips, skips)
}

// A path of somebody's machine in a file helps nobody else.
func TestNoPathsOfAMachine(t *testing.T) {
	machine := regexp.MustCompile(`(^|[^\w.\-/])/(work|root|home/\w+|Users/\w+)/`)
	eachFile(t, func(name string) {
		b, err := os.ReadFile(filepath.FromSlash(name))
		require.NoError(t, err)
		if bytes.IndexByte(b, 0) < 0 {
			require.NotRegexp(t, machine, string(b), name)
		}
	})
}
