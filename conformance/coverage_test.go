package conformance_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/conformance"
	"github.com/petrelmq/petrel/packets"
)

// A test names a statement that exists, each statement that can be tested has a
// test, and one that refers to others refers to some that have.
func TestEveryTestIsOfAStatement(t *testing.T) {
	tests := map[string][]statementTest{
		"TestMQTT5": suite[packets.V5], "TestMQTT311": suite[packets.V311], "TestMQTT31": suite[packets.V31], "TestRules": rules,
	}
	tested := make(map[string]bool)
	for _, standard := range conformance.Standards() {
		known := make(map[string]bool)
		for _, s := range standard.Statements {
			require.False(t, known[s.ID], "%s has %s twice", standard.Name, s.ID)
			known[s.ID] = true
		}
		for _, s := range tests[standard.Suite] {
			require.True(t, known[s.id], "%s has no statement %s", standard.Name, s.id)
			tested[standard.Suite+"/"+s.id] = true
		}
	}
	var missing []string
	for _, standard := range conformance.Standards() {
		for _, s := range standard.Statements {
			switch name := standard.Suite + "/" + s.ID; {
			case s.CanBeTested() && !tested[name]:
				missing = append(missing, name)
			case strings.HasPrefix(s.Testable, "see"):
				require.NotEmpty(t, s.See(), name)
			}
			for _, other := range s.See() {
				require.True(t, tested[other], "%s refers to %s, which has no test", s.ID, other)
			}
		}
	}
	require.Empty(t, missing, "statements without a test")
}
