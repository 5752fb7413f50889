package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/scram"
)

// credential prints the line of a SCRAM file for a user, whose password is the
// first line of in.
func credential(user string, in io.Reader, w io.Writer) error {
	if user == "" || strings.ContainsAny(user, ":\n") || user[0] == '#' || user != strings.TrimSpace(user) {
		return fmt.Errorf("%q cannot stand in a file of credentials", user)
	}
	line, err := bufio.NewReader(in).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read a password: %w", err)
	}
	c, err := scram.NewCredential(petrel.Secret(strings.TrimRight(string(line), "\r\n")), 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s:%s\n", user, c.Text())
	return err
}
