// Report writes CONFORMANCE.md from the results of the conformance tests, run
// from the root of the module:
//
//	go run ./conformance/report          # write it
//	go run ./conformance/report -check   # fail if it is not what the tests say now
//
// It fails as well if a test fails or is skipped, if a statement that can be
// tested has no test, and if a test is of no statement.
//
// With -target it runs the tests against another broker and writes where that
// differs, and why, as far as the table of -causes knows:
//
//	go run ./conformance/report -target 127.0.0.1:1883 -causes causes.tsv -o OTHER.md
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"

	"github.com/petrelmq/petrel/conformance"
)

func main() {
	log.SetFlags(0)
	check := flag.Bool("check", false, "compare with the file instead of writing it")
	out := flag.String("o", "CONFORMANCE.md", "the `file` to write")
	target := flag.String("target", "", "`HOST:PORT` of another broker")
	ws := flag.String("ws", "", "`URL` of its WebSocket listener")
	causes := flag.String("causes", "", "table of the causes of its differences: a `file` with a statement and a cause in each line, separated by a tab")
	name := flag.String("name", "another broker", "what it is")
	flag.Parse()

	var report []byte
	var err error
	if *target == "" {
		report, err = own()
	} else {
		report, err = foreign(*name, *causes, *target, *ws)
	}
	if report == nil {
		log.Fatal("report: ", err)
	}
	if *check {
		err = errors.Join(err, compare(*out, report))
	} else {
		err = errors.Join(err, os.WriteFile(*out, report, 0o644))
	}
	if err != nil {
		log.Fatal("report: ", err)
	}
}

// own tests petrel.
func own() ([]byte, error) {
	run, err := runTests()
	if err != nil {
		return nil, err
	}
	standards := conformance.Standards()
	return write(standards, run), run.problems(standards)
}

// foreign tests another broker.
func foreign(name, causesFile, target, ws string) ([]byte, error) {
	causes, err := readCauses(causesFile)
	if err != nil {
		return nil, err
	}
	run, err := runTests("-target", target, "-ws", ws)
	if err != nil {
		return nil, err
	}
	return writeForeign(name, conformance.Standards(), run, causes)
}

// compare says whether the file has the report.
func compare(file string, report []byte) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !bytes.Equal(old, report) {
		return fmt.Errorf("%s is stale: run go run ./conformance/report", file)
	}
	return nil
}

// readCauses reads the causes of differences by statement, such as
// "TestMQTT5/MQTT-3.1.2-5".
func readCauses(file string) (map[string]string, error) {
	causes := make(map[string]string)
	if file == "" {
		return causes, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		ids, cause, ok := strings.Cut(line, "\t")
		if !ok {
			return nil, fmt.Errorf("%s:%d: no tab", file, i+1)
		}
		for id := range strings.FieldsSeq(ids) {
			causes[id] = cause
		}
	}
	return causes, nil
}

// problems are what keeps petrel from conforming, and the tests from proving it.
func (r *testRun) problems(standards []conformance.Standard) error {
	var errs []error
	known := make(map[string]bool)
	for _, standard := range standards {
		for _, s := range standard.Statements {
			key := standard.Suite + "/" + s.ID
			known[key] = true
			o := r.results[key]
			if s.CanBeTested() || o != nil {
				if v := o.verdict(); v != pass {
					errs = append(errs, fmt.Errorf("%s: %s", key, v))
				}
			}
		}
	}
	for _, key := range r.order {
		if !known[key] {
			errs = append(errs, fmt.Errorf("%s is a test of no statement", key))
		}
	}
	for _, test := range r.failed {
		errs = append(errs, errors.New(test))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}
