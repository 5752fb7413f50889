//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"

	"github.com/petrelmq/petrel/benchmarks/internal/process"
)

// inProcess measures a host program that publishes to itself, see ./inprocess.
func inProcess(b *bench, broker *process.Broker) (s sample, err error) {
	if broker.Embedded == "" {
		return s, errors.New("only the library of this workspace can be linked")
	}
	cmd := exec.Command(broker.Embedded, "-broker", broker.Kind, "-seconds", fmt.Sprint(b.seconds))
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("%s: %w", cmd, err)
	}
	return s, json.Unmarshal(out, &s)
}
