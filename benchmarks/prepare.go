//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/petrelmq/petrel/benchmarks/internal/process"
)

const (
	module         = "github.com/petrelmq/petrel"
	petrelBroker   = module + "/examples/broker"
	mochiBroker    = module + "/benchmarks/brokers/mochi"
	relayBroker    = module + "/benchmarks/brokers/relay"
	profiledBroker = module + "/benchmarks/brokers/profiled"
	embedding      = module + "/benchmarks/inprocess"
)

// prepare finds and builds the brokers of the command line.
func prepare(s settings, dir string) ([]process.Broker, error) {
	var brokers []process.Broker
	for name := range strings.SplitSeq(s.brokers, ",") {
		b, err := broker(name, s, dir)
		if err != nil {
			return nil, err
		}
		brokers = append(brokers, b)
	}
	return brokers, nil
}

func broker(name string, s settings, dir string) (b process.Broker, err error) {
	name, path, given := strings.Cut(name, "=")
	b = process.Broker{Name: name, Kind: name, Path: path}
	switch {
	case given:
		b.Kind = process.Petrel
	case name == process.Petrel && s.petrel != "":
		b.Path = s.petrel
	case name == process.Petrel:
		if b.Path, err = build(dir, petrelBroker); err == nil {
			b.Embedded, err = build(dir, embedding)
		}
	case name == process.Mochi:
		if b.Path, err = build(dir, mochiBroker); err == nil {
			b.Embedded, err = build(dir, embedding)
		}
	case name == process.Relay:
		b.Path, err = build(dir, relayBroker)
	case name == process.Mosquitto:
		b.Path, err = mosquitto()
	default:
		err = fmt.Errorf("-brokers: %q is not petrel, mochi, mosquitto, relay or NAME=FILE", name)
	}
	if b.Kind == process.Petrel {
		b.Args = strings.Fields(s.brokerArgs)
	}
	return b, err
}

// build compiles a program of this workspace.
func build(dir, pkg string) (string, error) {
	path := filepath.Join(dir, filepath.Base(pkg))
	if pkg == petrelBroker {
		path = filepath.Join(dir, "petrel")
	}
	out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build %s: %w: %s", pkg, err, out)
	}
	return path, nil
}

func mosquitto() (string, error) {
	if path, err := exec.LookPath("mosquitto"); err == nil {
		return path, nil
	}
	const sbin = "/usr/sbin/mosquitto" // where Debian has it, not always in PATH
	if _, err := os.Stat(sbin); err == nil {
		return sbin, nil
	}
	return "", errors.New("mosquitto is not installed: apt-get install mosquitto, or leave it out with -brokers")
}
