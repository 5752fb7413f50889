//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// directory is that of this module.
func directory() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module+"/benchmarks").Output()
	if err != nil {
		return "", fmt.Errorf("find the directory of the benchmarks: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// publish prints a generated part, or puts it into README.md.
func publish(s settings, name, text string) error {
	if !s.readme {
		fmt.Println(text)
		return nil
	}
	dir, err := directory()
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "README.md")
	old, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("update README.md: %w", err)
	}
	updated, err := replacePart(string(old), name, text)
	if err != nil {
		return fmt.Errorf("update README.md: %w", err)
	}
	return os.WriteFile(file, []byte(updated), 0o644)
}

// replacePart replaces what is between the two marks of a part.
func replacePart(document, name, text string) (string, error) {
	begin, end := "<!-- "+name+": begin, written by a command -->\n", "<!-- "+name+": end -->"
	before, rest, ok := strings.Cut(document, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("there are no marks for %q", name)
	}
	return before + begin + "\n" + strings.TrimSpace(text) + "\n\n" + end + after, nil
}
