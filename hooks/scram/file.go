package scram

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

var _ Credentials = (*File)(nil)

// File is a file of credentials. Each line is a user name, a colon, and what
// [Credential.Text] writes; blank lines, and lines that begin with #, say nothing.
// Anything else is an error that names path, line and reason, and quotes nothing.
// All credentials should have the same iterations, those of [Options.Iterations]:
// others tell that their user exists.
type File struct {
	path   string
	reload sync.Mutex // makes one step of reading and replacing
	users  atomic.Pointer[map[string]Credential]
}

// NewFile reads the file at path. An empty file is no error, but admits nobody.
func NewFile(path string) (*File, error) {
	f := &File{path: path}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Reload reads the file again. From its return on, what it says now decides about
// each exchange that begins; clients that are connected stay so. If it fails,
// everything stays as it was. It may be called at any time. Replace the file by
// renaming another to its name.
func (f *File) Reload() error {
	f.reload.Lock()
	defer f.reload.Unlock()
	text, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("scram: %w", err) // which names the path
	}
	users := make(map[string]Credential)
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if err := parseLine(users, strings.TrimSpace(string(line))); err != nil {
			return fmt.Errorf("scram: %s:%d: %w", f.path, number, err)
		}
	}
	f.users.Store(&users)
	return nil
}

func parseLine(users map[string]Credential, line string) error {
	if line == "" || line[0] == '#' {
		return nil
	}
	name, text, ok := strings.Cut(line, ":")
	switch {
	case !utf8.ValidString(line):
		return errors.New("not valid UTF-8")
	case !ok || name == "":
		return errors.New("there is no user name with a ':' behind it")
	}
	if _, again := users[name]; again {
		return errors.New("the user is there twice")
	}
	c, err := ParseCredential(text)
	if err != nil {
		return err
	}
	users[name] = c
	return nil
}

// Users returns how many users the file has. With none, nobody is admitted.
func (f *File) Users() int { return len(*f.users.Load()) }

// Credential looks the user up.
func (f *File) Credential(_ context.Context, user string) (Credential, error) {
	c, ok := (*f.users.Load())[user]
	if !ok {
		return c, ErrUnknownUser
	}
	return c, nil
}
