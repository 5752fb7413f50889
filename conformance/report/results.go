package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"

	"github.com/petrelmq/petrel/conformance"
)

// testRun is what a run of the tests came to.
type testRun struct {
	suites  map[string]bool     // the tests whose subtests are named by statements
	results map[string]*outcome // by suite and statement, such as "TestMQTT5/MQTT-3.1.2-5"
	order   []string            // the keys of results, sorted
	failed  []string            // other tests that failed, and what they said
}

// outcome is what the tests of one statement came to.
type outcome struct {
	tests   int
	failed  int
	skipped int
	needs   []string // why tests were skipped
	saw     []string // the outcomes that were seen, where several are right
}

const pass = "pass"

func (o *outcome) verdict() string {
	switch {
	case o == nil:
		return "no test"
	case o.failed > 0:
		return fmt.Sprintf("%d of %d fail", o.failed, o.tests)
	case o.skipped > 0:
		return fmt.Sprintf("%d of %d skipped", o.skipped, o.tests)
	}
	return pass
}

// runTests runs the tests, with arguments for them.
func runTests(args ...string) (*testRun, error) {
	cmd := exec.Command("go", append([]string{"test", "-count=1", "-parallel=8", "-json", "-skip=^TestMutation", "./conformance"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	run, err := read(stdout)
	if err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil && !run.anyFailed() { // it did not get as far as the tests
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, &stderr)
	}
	return run, nil
}

func (r *testRun) anyFailed() bool {
	for _, o := range r.results {
		if o.failed > 0 {
			return true
		}
	}
	return len(r.failed) > 0
}

// event is a line of go test -json.
type event struct{ Action, Test, Output string }

// read collects the results from the output of go test -json.
func read(r io.Reader) (*testRun, error) {
	run := &testRun{suites: make(map[string]bool), results: make(map[string]*outcome)}
	for _, standard := range conformance.Standards() {
		run.suites[standard.Suite] = true
	}
	output := make(map[string]string) // of each test that has not ended
	for events := json.NewDecoder(r); ; {
		var e event
		if err := events.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read the output of go test: %w", err)
		}
		switch e.Action {
		case "output":
			output[e.Test] += e.Output
		case "pass", "fail", "skip":
			run.count(e.Action, e.Test, output[e.Test])
			delete(output, e.Test)
		}
	}
	for key, o := range run.results {
		o.saw, o.needs = unique(o.saw), unique(o.needs)
		run.order = append(run.order, key)
	}
	slices.Sort(run.order)
	return run, nil
}

func unique(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// count adds the result of one test.
func (r *testRun) count(action, test, output string) {
	suite, name, isSub := strings.Cut(test, "/")
	switch ofStatements := r.suites[suite]; {
	case !ofStatements && action == "fail" && test != "":
		r.failed = append(r.failed, test+" fails:\n"+output)
		return
	case !ofStatements || !isSub:
		return
	}
	id, _, _ := strings.Cut(name, "_")
	id, _, _ = strings.Cut(id, "#") // the same name again
	o := r.results[suite+"/"+id]
	if o == nil {
		o = new(outcome)
		r.results[suite+"/"+id] = o
	}
	o.tests++
	switch action {
	case "fail":
		o.failed++
	case "skip":
		o.skipped++
		o.needs = append(o.needs, said(output, "needs ")...)
	}
	o.saw = append(o.saw, said(output, "saw ")...)
}

// said finds what a test has logged that begins with a word.
func said(output, word string) (list []string) {
	for line := range strings.Lines(output) {
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			if _, text, ok = strings.Cut(text, ": "+word); ok {
				list = append(list, strings.TrimSpace(text))
			}
		}
	}
	return list
}
