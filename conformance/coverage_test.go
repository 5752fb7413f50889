package conformance_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/conformance"
	"github.com/petrelmq/petrel/packets"
)

// A test names a statement that exists, and each statement that can be tested
// has a test.
func TestEveryTestIsOfAStatement(t *testing.T) {
	for v, statements := range map[packets.Version][]conformance.Statement{
		packets.V5: conformance.MQTT5(), packets.V311: conformance.MQTT311(),
	} {
		known := make(map[string]bool)
		for _, s := range statements {
			known[s.ID] = true
		}
		tested := make(map[string]bool)
		for _, s := range suite[v] {
			require.True(t, known[s.id], "%v has no statement %s", v, s.id)
			tested[s.id] = true
		}
		var missing []string
		for _, s := range statements {
			if s.CanBeTested() && !tested[s.ID] {
				missing = append(missing, s.ID)
			}
		}
		require.Empty(t, missing, "%v", v)
	}
}
