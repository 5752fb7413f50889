// Package conformance tests a broker, statement by statement, against the
// numbered statements of MQTT 5.0 and 3.1.1, against the rules of the standards
// that have no number and the traps that brokers have fallen into, and against
// what is different in MQTT 3.1.
//
// The statements are data: mqtt5.tsv, mqtt311.tsv, rules.tsv and mqtt31.tsv have
// one row for each, in words of our own. The tests are named by them, such as
// TestMQTT5/MQTT-3.1.2-5 and TestRules/trap-qos-6, and are written from the
// table, not from a broker.
//
//	go test ./conformance                             # petrel, in the process of the test
//	go test ./conformance -target 127.0.0.1:1883      # any broker
//
// Where the standard leaves several outcomes a test accepts each of them, and
// says which one it saw. A test that needs a broker set up in a certain way is
// skipped with -target, and names the option of petrel that it needs. What lets
// time pass runs in fake time in the process, and in real time with -target.
//
// That the tests can fail is shown by MUTATIONS.md: many ways of being a broken
// broker, and for each the statements whose tests catch it.
package conformance

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed mqtt5.tsv mqtt311.tsv rules.tsv mqtt31.tsv
var tables embed.FS

// Statement is one statement of a standard, numbered there or by us.
type Statement struct {
	ID          string // such as "MQTT-3.1.2-5", or "trap-qos-6"
	Applies     string // whom it binds: "server", "client" or "both"; of a rule: the versions that have it
	Area        string
	Requirement string // what it demands, paraphrased
	Testable    string // "yes", "no" or "see", perhaps with a colon and a condition, a reason, or names of tests
}

// Standard is a table of statements and the name of the test that has theirs as
// subtests.
type Standard struct {
	Name, Suite string
	Statements  []Statement
}

// MQTT5 returns the 251 statements of MQTT 5.0, in the order of the standard.
func MQTT5() []Statement { return load("mqtt5.tsv") }

// MQTT311 returns the 141 statements of MQTT 3.1.1, in the order of the standard.
func MQTT311() []Statement { return load("mqtt311.tsv") }

// Standards returns all tables.
func Standards() []Standard {
	return []Standard{
		{"MQTT 5.0", "TestMQTT5", MQTT5()},
		{"MQTT 3.1.1", "TestMQTT311", MQTT311()},
		{"Rules and traps", "TestRules", load("rules.tsv")},
		{"MQTT 3.1", "TestMQTT31", load("mqtt31.tsv")},
	}
}

// CanBeTested reports whether the statement can be seen on the wire and has
// tests of its own.
func (s *Statement) CanBeTested() bool { return strings.HasPrefix(s.Testable, "yes") }

// Condition is what has to be observed in testing the statement, or why it
// cannot be tested; often empty.
func (s *Statement) Condition() string {
	_, condition, _ := strings.Cut(s.Testable, ": ")
	return condition
}

// See names the statements whose tests hold this one as well, such as
// "TestMQTT5/MQTT-3.1.2-5". A statement with tests of its own has none.
func (s *Statement) See() []string {
	names, ok := strings.CutPrefix(s.Testable, "see: ")
	if !ok {
		return nil
	}
	return strings.Fields(names)
}

func load(name string) (list []Statement) {
	data, err := tables.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		cells := strings.Split(line, "\t")
		if len(cells) != 5 {
			panic(fmt.Sprintf("conformance: %s:%d: %d cells; want 5", name, i+1, len(cells)))
		}
		if i > 0 {
			list = append(list, Statement{cells[0], cells[1], cells[2], cells[3], cells[4]})
		}
	}
	return list
}
