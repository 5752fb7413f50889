//go:build !race

package conformance_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var failedTest = regexp.MustCompile(`(?m)^ *--- FAIL: (TestMQTT\d+)/MQTT-([\d.]+-\d+)`)

// Each mutation makes the tests of its statements fail, and no others. The race
// detector would find nothing more in these.
func TestMutationsAreCaught(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestMQTT(5|311)$", "-mutation="+m.name)
			cmd.Env = append(os.Environ(), "GOMAXPROCS=1") // as several of them run at the same time
			said, err := cmd.CombinedOutput()
			if _, failed := err.(*exec.ExitError); err != nil && !failed {
				t.Fatal(err)
			}
			require.NotContains(t, string(said), "\npanic: ")
			want := append(withSuite("TestMQTT5", m.mqtt5), withSuite("TestMQTT311", m.mqtt311)...)
			var got []string
			for _, match := range failedTest.FindAllStringSubmatch(string(said), -1) {
				got = append(got, match[1]+"/MQTT-"+match[2])
			}
			slices.Sort(got)
			got = slices.Compact(got)
			if !slices.Equal(slices.Sorted(slices.Values(want)), got) {
				t.Fatalf("failing tests: got %v; want %v\n%s", got, want, said)
			}
		})
	}
}

func withSuite(suite, statements string) (list []string) {
	for _, s := range strings.Fields(statements) {
		list = append(list, suite+"/MQTT-"+s)
	}
	return list
}
