package conformance_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/conformance"
)

var writeFlag = flag.Bool("write", false, "write MUTATIONS.md instead of comparing it")

const mutationsFile = "MUTATIONS.md"

// MUTATIONS.md shows the mutations that there are.
func TestMutationTable(t *testing.T) {
	mqtt5, mqtt311 := caught(t, conformance.MQTT5(), mutation.in5), caught(t, conformance.MQTT311(), mutation.in311)
	table := mutationTable(mqtt5, mqtt311)
	if *writeFlag {
		require.NoError(t, os.WriteFile(mutationsFile, table, 0o600))
	}
	was, err := os.ReadFile(mutationsFile)
	require.NoError(t, err)
	was = bytes.ReplaceAll(was, []byte("\r\n"), []byte("\n"))
	require.Equal(t, string(table), string(was), "%s is stale: go test ./conformance -run TestMutationTable -write", mutationsFile)
}

func (m mutation) in5() []string   { return strings.Fields(m.mqtt5) }
func (m mutation) in311() []string { return strings.Fields(m.mqtt311) }

// coverage is which of the statements that can be tested catch a mutation.
type coverage struct {
	testable int
	caught   int
	without  []string
}

func caught(t *testing.T, statements []conformance.Statement, of func(mutation) []string) (c coverage) {
	by := map[string]bool{}
	for _, m := range mutations {
		for _, id := range of(m) {
			by["MQTT-"+id] = true
		}
	}
	for _, s := range statements {
		if s.CanBeTested() {
			c.testable++
			if !by[s.ID] {
				c.without = append(c.without, s.ID)
			}
		}
		delete(by, s.ID)
	}
	require.Empty(t, by, "there are no such statements")
	c.caught = c.testable - len(c.without)
	return c
}

func mutationTable(mqtt5, mqtt311 coverage) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `# Mutations

A test that cannot fail proves nothing. Each mutation below makes petrel a broken broker, by what stands between the
clients and the broker and changes packets on their way, or by other options than a test asked for. With it exactly the
tests of the statements in its row fail, and all the others pass; CI runs every one of them. Where a row has several
statements, they say the same, or one cannot be broken without the others.

    go test ./conformance -run TestMutationsAreCaught                                 # all of them
    go test ./conformance -run 'TestMQTT(5|311)$' -mutation no-local                  # one, and what fails
    go test ./conformance -run TestMutationTable -write                               # write this file

%d mutations; %d of the %d statements of MQTT 5.0 that can be tested catch at least one, and %d of the %d of MQTT 3.1.1.

| mutation | what is broken | MQTT 5.0 | MQTT 3.1.1 |
|---|---|---|---|
`, len(mutations)-1, mqtt5.caught, mqtt5.testable, mqtt311.caught, mqtt311.testable)
	for _, m := range mutations {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", m.name, m.broken, strings.Join(m.in5(), ", "), strings.Join(m.in311(), ", "))
	}
	fmt.Fprintf(&b, "\n## Statements whose tests no mutation has made fail\n\nMQTT 5.0: %s.\n\nMQTT 3.1.1: %s.\n",
		list(mqtt5.without), list(mqtt311.without))
	return b.Bytes()
}

func list(ids []string) string { return strings.ReplaceAll(strings.Join(ids, ", "), "MQTT-", "") }
