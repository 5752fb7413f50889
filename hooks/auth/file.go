package auth

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

// blank is what is trimmed from lines and separates words. Other space of
// Unicode may be part of a name.
const blank = " \t\r\v\f"

var errNotUTF8 = errors.New("not valid UTF-8")

func readFile(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err) // which names the path
	}
	return text, nil
}

// eachLine hands the lines of text that are neither blank nor comments to
// parse, until it fails; its error then says where. The error of parse must not
// quote the line: one file may have been given in place of the other, and then
// it would tell hashes.
func eachLine(path string, text []byte, parse func(number int, line string) error) error {
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(text, []byte("\ufeff"))) {
		number++
		s := strings.Trim(string(bytes.TrimSuffix(line, []byte("\n"))), blank)
		if s == "" || s[0] == '#' {
			continue
		}
		err := errNotUTF8
		if utf8.ValidString(s) {
			err = parse(number, s)
		}
		if err != nil {
			return fmt.Errorf("auth: %s:%d: %w", path, number, err)
		}
	}
	return nil
}
