package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/conformance"
)

// ran is what go test says of tests, each "RESULT NAME" with the lines that the
// test logs behind it.
func ran(t *testing.T, tests ...[]string) *testRun {
	t.Helper()
	var b strings.Builder
	out := json.NewEncoder(&b)
	for _, test := range tests {
		action, name, _ := strings.Cut(test[0], " ")
		for _, line := range test[1:] {
			require.NoError(t, out.Encode(event{"output", name, "    some_test.go:7: " + line + "\n"}))
		}
		require.NoError(t, out.Encode(event{action, name, ""}))
	}
	run, err := read(strings.NewReader(b.String()))
	require.NoError(t, err)
	return run
}

var standards = []conformance.Standard{
	{Name: "MQTT 5.0", Suite: "TestMQTT5", Statements: []conformance.Statement{
		{ID: "A-1", Applies: "server", Requirement: "do | this", Testable: "yes"},
		{ID: "A-2", Applies: "client", Requirement: "do that", Testable: "no: it binds clients"},
	}},
	{Name: "Rules", Suite: "TestRules", Statements: []conformance.Statement{
		{ID: "rule-1", Applies: "5.0", Requirement: "the same", Testable: "see: TestMQTT5/A-1"},
	}},
}

func TestProblems(t *testing.T) {
	for _, test := range []struct {
		name  string
		tests [][]string
		want  []string
	}{
		{"all is well", [][]string{{"pass TestMQTT5/A-1_one"}, {"pass TestMQTT5/A-1_two"}, {"pass TestMQTT5"}, {"pass TestElse/x"}}, nil},
		{"no test", [][]string{{"pass TestMQTT5"}}, []string{"TestMQTT5/A-1: no test"}},
		{"a test of no statement", [][]string{{"pass TestMQTT5/A-1"}, {"pass TestMQTT5/A-9"}}, []string{"TestMQTT5/A-9 is a test of no statement"}},
		{"a failing test", [][]string{{"pass TestMQTT5/A-1"}, {"fail TestMQTT5/A-1#01"}, {"fail TestMQTT5"}}, []string{"TestMQTT5/A-1: 1 of 2 fail"}},
		{"a skipped test", [][]string{{"skip TestMQTT5/A-1"}}, []string{"TestMQTT5/A-1: 1 of 1 skipped"}},
		{"another failing test", [][]string{{"pass TestMQTT5/A-1"}, {"fail TestElse", "why"}}, []string{"TestElse fails:", "    some_test.go:7: why", ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := ran(t, test.tests...).problems(standards)
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, strings.Join(test.want, "\n"))
		})
	}
}

func TestReport(t *testing.T) {
	got := string(write(standards, ran(t, []string{"pass TestMQTT5/A-1_one", "saw b"}, []string{"pass TestMQTT5/A-1_two", "saw a", "saw b", "else"})))
	require.Contains(t, got, `| <a id="TestMQTT5-A-1"></a>A-1 | server | do \| this | `+"`TestMQTT5/A-1` (2) | pass | a; b |\n")
	require.Contains(t, got, "| A-2 | client | do that | it binds clients |\n")
	require.Contains(t, got, "| rule-1 | 5.0 | the same | [TestMQTT5/A-1](#TestMQTT5-A-1) | pass |  |\n")
	failed := string(write(standards, ran(t, []string{"fail TestMQTT5/A-1"})))
	require.Contains(t, failed, "| 1 of 1 fail |", "and what refers to it does not pass")
	require.NotContains(t, failed, "| pass |")
}

func TestStaleFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.md")
	require.ErrorIs(t, compare(file, nil), os.ErrNotExist)
	require.NoError(t, os.WriteFile(file, []byte("old"), 0o600))
	require.ErrorContains(t, compare(file, []byte("new")), "is stale")
	require.NoError(t, compare(file, []byte("old")))
}

func TestAnotherBroker(t *testing.T) {
	run := ran(t, []string{"fail TestMQTT5/A-1_one"}, []string{"skip TestMQTT5/A-1_two", "needs a broker with x"})
	got, err := writeForeign("it", standards, run, map[string]string{"TestMQTT5/A-1": "it is old"})
	require.NoError(t, err)
	require.Contains(t, string(got), "| `TestMQTT5/A-1` (2) | do \\| this | 1 of 2 | it is old |\n")
	require.Contains(t, string(got), "| a broker with x | TestMQTT5/A-1 |\n")
	_, err = writeForeign("it", standards, run, map[string]string{"TestMQTT5/A-2": "nobody knows"})
	require.EqualError(t, err, "TestMQTT5/A-1 has no cause: 1 of 2 fail\nTestMQTT5/A-2 has a cause and no difference")
}

func TestCauses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "causes.tsv")
	require.NoError(t, os.WriteFile(file, []byte("a b\tone\nc\ttwo\n"), 0o600))
	causes, err := readCauses(file)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "one", "b": "one", "c": "two"}, causes)
	require.NoError(t, os.WriteFile(file, []byte("a b\tone\nc two\n"), 0o600))
	_, err = readCauses(file)
	require.ErrorContains(t, err, "causes.tsv:2: no tab")
}
