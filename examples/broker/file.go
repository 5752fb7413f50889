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
	"time"
)

// keys are those that an object of the configuration file may have. The value
// of each is the keys of an object inside, or a pointer to decode into.
type keys map[string]any

// keys is the whole schema of the file. The limits are named as in petrel.Options.
func (c *config) keys() keys {
	l := &c.limits
	return keys{
		"listeners": keys{
			"tcp":  &c.tcp,
			"tls":  &c.tls,
			"ws":   &c.ws,
			"wss":  &c.wss,
			"unix": &c.unix,
		},
		"websocket": keys{
			"origins":        &c.web.Origins,
			"allowAnyOrigin": &c.web.AllowAnyOrigin,
			"trustedProxies": &c.web.TrustedProxies,
			"proxyHeader":    &c.web.ProxyHeader,
		},
		"tls": keys{
			"certificate": &c.tlsFiles.certificate,
			"key":         &c.tlsFiles.key,
			"clientCA":    &c.tlsFiles.clientCA,
			"crl":         &c.tlsFiles.crl,
		},
		"authentication": keys{
			"anonymous":    &c.anonymous,
			"passwordFile": &c.passwords,
			"aclFile":      &c.acl,
		},
		"data": keys{
			"directory": &c.data,
			"sync":      &c.sync,
		},
		"log": &c.log,
		"limits": keys{
			"connectTimeout":                (*duration)(&l.ConnectTimeout),
			"maximumPacketSize":             &l.MaximumPacketSize,
			"maximumConnectSize":            &l.MaximumConnectSize,
			"receiveMaximum":                &l.ReceiveMaximum,
			"maximumInflight":               &l.MaximumInflight,
			"topicAliasMaximum":             &l.TopicAliasMaximum,
			"maximumTopicLevels":            &l.MaximumTopicLevels,
			"maximumFilters":                &l.MaximumFilters,
			"maximumUserProperties":         &l.MaximumUserProperties,
			"queueMessages":                 &l.QueueMessages,
			"queueBytes":                    &l.QueueBytes,
			"outboundBytes":                 &l.OutboundBytes,
			"maximumConnections":            &l.MaximumConnections,
			"maximumSessions":               &l.MaximumSessions,
			"maximumRetained":               &l.MaximumRetained,
			"maximumRetainedBytes":          &l.MaximumRetainedBytes,
			"maximumConnectionsPerIdentity": &l.MaximumConnectionsPerIdentity,
			"maximumSessionsPerIdentity":    &l.MaximumSessionsPerIdentity,
			"maximumSubscriptions":          &l.MaximumSubscriptions,
			"messageRate":                   &l.MessageRate,
			"byteRate":                      &l.ByteRate,
			"memoryLimit":                   &l.MemoryLimit,
			"maximumSessionExpiry":          (*duration)(&l.MaximumSessionExpiry),
			"maximumKeepAlive":              (*duration)(&l.MaximumKeepAlive),
		},
	}
}

// duration is written as time.ParseDuration reads it: "90s", "1h30m".
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf(`%q is no duration such as "90s" or "1h30m"`, text)
	}
	*d = duration(v)
	return nil
}

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
	for _, path := range []*string{&c.tlsFiles.certificate, &c.tlsFiles.key, &c.tlsFiles.clientCA, &c.tlsFiles.crl, &c.passwords, &c.acl, &c.data} {
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
	if inside, ok := target.(keys); ok {
		return f.object(path+".", inside)
	}
	at := f.start()
	if err := f.dec.Decode(target); err != nil {
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
