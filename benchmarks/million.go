//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
)

// million runs ./million, a process of its own with a million clients.
func million(s settings, dir string) error {
	path, err := build(dir, module+"/benchmarks/million")
	if err != nil {
		return err
	}
	cmd := exec.Command(path)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", cmd, err)
	}
	return publish(s, "million", string(out))
}
