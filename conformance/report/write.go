package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/petrelmq/petrel/conformance"
)

// write writes CONFORMANCE.md.
func write(standards []conformance.Standard, run *testRun) []byte {
	var b bytes.Buffer
	fmt.Fprint(&b, `# Conformance

Every numbered statement of MQTT 5.0 and 3.1.1, in words of our own, with the tests that hold petrel to it; then the
rules of the standards that have no number, the traps that brokers have fallen into, and what is different in MQTT 3.1.
The standards decide where the words differ.

This file is written by `+"`go run ./conformance/report`"+` from the results of `+"`go test ./conformance`"+`. A number
in brackets says how many tests a statement has. Where a test accepts several outcomes, the last column says which ones
petrel showed. [conformance/MOSQUITTO.md](conformance/MOSQUITTO.md) has the results of the same tests with another broker.

`)
	linked := make(map[string]bool)
	for _, standard := range standards {
		for _, s := range standard.Statements {
			for _, other := range s.See() {
				linked[other] = true
			}
		}
	}
	for _, standard := range standards {
		section(&b, standard, run, linked)
	}
	return b.Bytes()
}

// section writes the tables of one standard. linked are the statements that
// others refer to.
func section(b *bytes.Buffer, standard conformance.Standard, run *testRun, linked map[string]bool) {
	passed, testable, elsewhere := 0, 0, 0
	var rows, not bytes.Buffer
	for _, s := range standard.Statements {
		key := standard.Suite + "/" + s.ID
		o := run.results[key]
		tests, verdict, saw := o.name(key), o.verdict(), o.outcomes()
		switch {
		case s.See() != nil:
			elsewhere++
			tests, verdict = run.elsewhere(s.See())
		case s.CanBeTested():
			if testable++; verdict == pass {
				passed++
			}
		case o == nil:
			fmt.Fprintf(&not, "| %s | %s | %s | %s |\n", s.ID, s.Applies, cell(s.Requirement), cell(s.Condition()))
			continue
		}
		id := s.ID
		if linked[key] {
			id = fmt.Sprintf("<a id=%q></a>%s", anchor(key), id)
		}
		fmt.Fprintf(&rows, "| %s | %s | %s | %s | %s | %s |\n", id, s.Applies, cell(s.Requirement), tests, verdict, saw)
	}
	binds := "binds"
	if standard.Suite == "TestRules" {
		binds = "versions"
	}
	fmt.Fprintf(b, "## %s\n\n%d statements, %d that can be tested, %d of them tested and passing.", standard.Name, len(standard.Statements), testable, passed)
	if elsewhere > 0 {
		fmt.Fprintf(b, " %d more are held by the tests of other statements, which they name.", elsewhere)
	}
	fmt.Fprintf(b, "\n\n| statement | %s | what it demands | tests | result | seen |\n|---|---|---|---|---|---|\n%s\n", binds, &rows)
	if not.Len() > 0 {
		fmt.Fprintf(b, "### %s: what cannot be tested\n\n| statement | %s | what it demands | why not |\n|---|---|---|---|\n%s\n", standard.Name, binds, &not)
	}
}

// name says how the tests of a statement are run, and how many they are.
func (o *outcome) name(key string) string {
	switch {
	case o == nil:
		return ""
	case o.tests == 1:
		return "`" + key + "`"
	}
	return fmt.Sprintf("`%s` (%d)", key, o.tests)
}

// elsewhere links the statements whose tests hold another as well, and says
// whether all of them pass.
func (r *testRun) elsewhere(keys []string) (tests, verdict string) {
	verdict = pass
	var links []string
	for _, key := range keys {
		links = append(links, fmt.Sprintf("[%s](#%s)", key, anchor(key)))
		if v := r.results[key].verdict(); v != pass {
			verdict = v
		}
	}
	return strings.Join(links, ", "), verdict
}

// outcomes are what was seen, as the text of a cell.
func (o *outcome) outcomes() string {
	if o == nil {
		return ""
	}
	return cell(strings.Join(o.saw, "; "))
}

// anchor is the name of a statement in a link.
func anchor(key string) string { return strings.ReplaceAll(key, "/", "-") }

// cell makes text fit for a cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;", "*", "\\*", "$", "\\$").Replace(text)
}
