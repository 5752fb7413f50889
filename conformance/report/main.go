// Report writes CONFORMANCE.md from the results of the conformance tests, run
// from the root of the module:
//
//	go run ./conformance/report          # write it
//	go run ./conformance/report -check   # fail if it is not what the tests say now
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/petrelmq/petrel/conformance"
)

const fileName = "CONFORMANCE.md"

func main() {
	log.SetFlags(0)
	check := flag.Bool("check", false, "compare with "+fileName+" instead of writing it")
	flag.Parse()
	results, err := runTests()
	if err != nil {
		log.Fatal("report: ", err)
	}
	report := write(results)
	if !*check {
		if err := os.WriteFile(fileName, report, 0o644); err != nil {
			log.Fatal("report: ", err)
		}
		return
	}
	old, err := os.ReadFile(fileName)
	if err != nil {
		log.Fatal("report: ", err)
	}
	if !bytes.Equal(old, report) {
		log.Fatalf("report: %s is stale: run go run ./conformance/report", fileName)
	}
}

// outcome is what the tests of one statement came to.
type outcome struct {
	tests   []string // what each looks at, in order; empty for all of the statement
	failed  int
	skipped int
}

// runTests runs the tests and returns the outcomes by suite and statement, such
// as "TestMQTT5/MQTT-3.1.2-5".
func runTests() (map[string]*outcome, error) {
	cmd := exec.Command("go", "test", "-count=1", "-json", "-skip=^TestMutation", "./conformance")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	results := make(map[string]*outcome)
	for events := json.NewDecoder(stdout); ; {
		var e struct{ Action, Test string }
		if err := events.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		results = count(results, e.Action, e.Test)
	}
	if err := cmd.Wait(); err != nil && len(results) == 0 {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, &stderr)
	}
	return results, nil
}

func count(results map[string]*outcome, action, test string) map[string]*outcome {
	parts := strings.SplitN(test, "/", 2)
	if len(parts) < 2 || !slices.Contains([]string{"pass", "fail", "skip"}, action) {
		return results
	}
	id, name, _ := strings.Cut(parts[1], "_")
	if before, number, ok := strings.Cut(id, "#"); ok { // the same name again
		id, name = before, "#"+number
	}
	key := parts[0] + "/" + id
	o := results[key]
	if o == nil {
		o = new(outcome)
		results[key] = o
	}
	o.tests = append(o.tests, name)
	switch action {
	case "fail":
		o.failed++
	case "skip":
		o.skipped++
	}
	return results
}

func write(results map[string]*outcome) []byte {
	var b bytes.Buffer
	fmt.Fprint(&b, `# Conformance

Every numbered statement of MQTT 5.0 and 3.1.1, in words of our own, with the tests that hold petrel to it. This file is
written by `+"`go run ./conformance/report`"+` from the results of `+"`go test ./conformance`"+`. The standards decide where the words differ.

`)
	for _, standard := range []struct {
		name, suite string
		statements  []conformance.Statement
	}{{"MQTT 5.0", "TestMQTT5", conformance.MQTT5()}, {"MQTT 3.1.1", "TestMQTT311", conformance.MQTT311()}} {
		section(&b, standard.name, standard.suite, standard.statements, results)
	}
	return b.Bytes()
}

func section(b *bytes.Buffer, name, suite string, statements []conformance.Statement, results map[string]*outcome) {
	passed, testable := 0, 0
	var rows, not bytes.Buffer
	for _, s := range statements {
		o := results[suite+"/"+s.ID]
		switch {
		case !s.CanBeTested() && o == nil:
			fmt.Fprintf(&not, "| %s | %s | %s | %s |\n", s.ID, s.Applies, cell(s.Requirement), cell(s.Condition()))
			continue
		case s.CanBeTested():
			testable++
		}
		verdict := o.verdict()
		if verdict == "pass" {
			passed++
		}
		fmt.Fprintf(&rows, "| %s | %s | %s | %s | %s |\n", s.ID, s.Applies, cell(s.Requirement), o.names(suite, s.ID), verdict)
	}
	fmt.Fprintf(b, "## %s\n\n%d statements, %d that can be tested, %d of them tested and passing.\n\n", name, len(statements), testable, passed)
	fmt.Fprintf(b, "| statement | binds | what it demands | tests | result |\n|---|---|---|---|---|\n%s\n", &rows)
	fmt.Fprintf(b, "### %s: what cannot be tested\n\n| statement | binds | what it demands | why not |\n|---|---|---|---|\n%s\n", name, &not)
}

func (o *outcome) verdict() string {
	switch {
	case o == nil:
		return "no test"
	case o.failed > 0:
		return fmt.Sprintf("%d of %d fail", o.failed, len(o.tests))
	case o.skipped > 0:
		return fmt.Sprintf("%d of %d skipped", o.skipped, len(o.tests))
	}
	return "pass"
}

// names says how the tests are run, and how many they are.
func (o *outcome) names(suite, id string) string {
	if o == nil {
		return ""
	}
	if len(o.tests) == 1 {
		return "`" + suite + "/" + id + "`"
	}
	return fmt.Sprintf("`%s/%s` (%d)", suite, id, len(o.tests))
}

// cell makes text fit for a cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;", "*", "\\*", "$", "\\$").Replace(text)
}
