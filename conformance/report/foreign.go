package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/petrelmq/petrel/conformance"
)

// writeForeign writes where another broker differs, why, and what was not
// tested. The error names the differences without a cause, and the causes
// without a difference.
func writeForeign(name string, standards []conformance.Standard, run *testRun, causes map[string]string) ([]byte, error) {
	var b, totals, differences bytes.Buffer
	var errs []error
	needs := make(map[string][]string) // statements by what their tests needed
	unused := maps.Clone(causes)
	for _, standard := range standards {
		var passed, differ, skipped int
		for _, s := range standard.Statements {
			key := standard.Suite + "/" + s.ID
			o := run.results[key]
			switch {
			case o == nil:
				continue
			case o.failed > 0:
				differ++
				if causes[key] == "" {
					errs = append(errs, fmt.Errorf("%s has no cause: %s", key, o.verdict()))
				}
				delete(unused, key)
				fmt.Fprintf(&differences, "| %s | %s | %d of %d | %s |\n", o.name(key), cell(s.Requirement), o.failed, o.tests, cell(causes[key]))
			case o.skipped == o.tests:
				skipped++
			default:
				passed++
			}
			for _, need := range o.needs {
				needs[need] = append(needs[need], key)
			}
		}
		fmt.Fprintf(&totals, "| %s | %d | %d | %d |\n", standard.Name, passed, differ, skipped)
	}
	for _, key := range slices.Sorted(maps.Keys(unused)) {
		if strings.HasPrefix(unused[key], byChance) {
			continue
		}
		errs = append(errs, fmt.Errorf("%s has a cause and no difference", key))
	}
	fmt.Fprintf(&b, "# The conformance tests with %s\n\n", name)
	b.WriteString(foreignIntroduction)
	fmt.Fprintf(&b, "| | statements that pass | differ | not tested |\n|---|---|---|---|\n%s\n", &totals)
	fmt.Fprintf(&b, "## Differences\n\n| tests | what is demanded | fail | cause |\n|---|---|---|---|\n%s\n", &differences)
	fmt.Fprint(&b, "## Not tested\n\nThese tests need a broker that is set up for them; the option is that of petrel.\n\n| need | tests |\n|---|---|\n")
	for _, need := range slices.Sorted(maps.Keys(needs)) {
		fmt.Fprintf(&b, "| %s | %s |\n", cell(need), strings.Join(needs[need], ", "))
	}
	return b.Bytes(), errors.Join(errs...)
}

// byChance begins the cause of a difference that not every run shows.
const byChance = "Not always: "

const foreignIntroduction = `The tests are of the standard, not of petrel: they run against any broker. This file is what they say of one that many
know. A statement counts as passing if none of its tests fails and at least one was not skipped. It is written by

    mosquitto -c conformance/mosquitto.conf &
    go run ./conformance/report -name "$(mosquitto -h | head -n 1)" -target 127.0.0.1:18831 -ws ws://127.0.0.1:18832/mqtt \
        -causes conformance/mosquitto.tsv -o conformance/MOSQUITTO.md

which fails if there is a difference whose cause is not in conformance/mosquitto.tsv. The causes there were found by
reading what the broker sent. Some are choices that have their reasons; where the standard leaves one to the broker, the
test accepts it.

`
