package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// readFile lays the configuration file of that name over c. An error names
// the file, the line and column, and the key. Files that it names are found
// from the directory that it is in.
func (c *config) readFile(name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	f := file{data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	err = f.object("", c.keys())
	if err == nil {
		at := f.start()
		if _, end := f.dec.Token(); !errors.Is(end, io.EOF) {
			err = f.errorf(at, "something follows the configuration")
		}
	}
	if err != nil {
		return fmt.Errorf("%s:%w", name, err)
	}
	for _, path := range c.files() {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(filepath.Dir(name), *path)
		}
	}
	return nil
}

// file is a configuration file that is being read.
type file struct {
	data []byte
	dec  *json.Decoder
}

// object reads the object that comes next, the value of the key path.
func (f *file) object(path string, allowed keys) error {
	at := f.start()
	if open, err := f.dec.Token(); err != nil {
		return f.wrap(at, path, err)
	} else if open != json.Delim('{') {
		return f.wrap(at, path, errors.New("expected an object in braces"))
	}
	seen := map[string]bool{}
	for f.dec.More() {
		at := f.start()
		token, err := f.dec.Token()
		if err != nil {
			return f.wrap(at, path, err)
		}
		key := token.(string) // the decoder takes nothing else before a colon
		inside := path + key
		switch target, ok := allowed[key]; {
		case !ok:
			return f.errorf(at, "unknown key %q", inside)
		case seen[key]:
			return f.errorf(at, "key %q is given twice", inside)
		default:
			seen[key] = true
			if err := f.value(inside, target); err != nil {
				return err
			}
		}
	}
	at = f.start()
	if _, err := f.dec.Token(); err != nil {
		return f.wrap(at, path, err)
	}
	return nil
}

func (f *file) value(path string, target any) error {
	switch target := target.(type) {
	case keys:
		return f.object(path+".", target)
	case func() keys:
		return f.object(path+".", target())
	case doorList:
		return f.doors(path, target)
	}
	at := f.start()
	if err := f.dec.Decode(target); err != nil {
		return f.wrap(at, path, err)
	}
	return nil
}

// doors reads a list of listeners: each is an address, or an object.
func (f *file) doors(path string, into doorList) error {
	at := f.start()
	if open, err := f.dec.Token(); err != nil {
		return f.wrap(at, path, err)
	} else if open != json.Delim('[') {
		return f.wrap(at, path, errors.New("expected a list in brackets"))
	}
	*into.list = []door{}
	for f.dec.More() {
		d := door{transport: into.transport, at: fmt.Sprintf("%s[%d]", path, len(*into.list))}
		var target any = &d.address
		if bytes.HasPrefix(f.data[f.start():], []byte("{")) {
			target = d.keys()
		}
		if err := f.value(d.at, target); err != nil {
			return err
		}
		if d.label == "" {
			d.label = d.systemd // so that its sockets have their limit together
		}
		*into.list = append(*into.list, d)
	}
	at = f.start()
	if _, err := f.dec.Token(); err != nil {
		return f.wrap(at, path, err)
	}
	return nil
}

// start is the offset of the token that comes next.
func (f *file) start() int64 {
	rest := f.data[f.dec.InputOffset():]
	return int64(len(f.data) - len(bytes.TrimLeft(rest, " \t\r\n:,")))
}

// wrap says about err, which came up at offset at, what a person can act on.
func (f *file) wrap(at int64, path string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return f.errorf(int64(len(f.data)), "the file ends too early")
	}
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		err = fmt.Errorf("%s is given, expected %s", mismatch.Value, wanted(mismatch.Type))
	}
	if path = strings.TrimSuffix(path, "."); path == "" {
		return f.errorf(at, "%w", err)
	}
	return f.errorf(at, "key %q: %w", path, err)
}

func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "a list of texts"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		if t.PkgPath() == "" {
			return "a whole number"
		}
	}
	return "a text"
}

func (f *file) errorf(at int64, format string, args ...any) error {
	before := f.data[:min(at, int64(len(f.data)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Errorf("%d:%d: %w", line, column, fmt.Errorf(format, args...))
}
