package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// subscribeWith runs a client program until the test ends. parse understands
// its lines: a message, or that a SUBACK came, or something else. With again, a
// program that ends by itself is started again, as a supervisor would.
func subscribeWith(t *testing.T, again bool, parse func(line []byte) (m *message, subscribed bool), name string, args ...string) *subscriber {
	t.Helper()
	s := newSubscriber()
	var said transcript
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if err := listen(ctx, s, &said, parse, name, args...); err != nil {
				_, _ = fmt.Fprintln(&said, err)
			}
			if !again || ctx.Err() != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	s.cut = func() {
		cancel()
		<-ended
	}
	t.Cleanup(func() {
		s.cut()
		if t.Failed() {
			t.Logf("%s %s\n%s", name, strings.Join(args, " "), said.String())
		}
	})
	return s
}

// listen runs a client program until it ends or ctx does, when it is killed.
func listen(ctx context.Context, s *subscriber, said *transcript, parse func([]byte) (*message, bool), name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = said
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for lines := bufio.NewReader(stdout); err == nil; {
		var line []byte
		line, err = lines.ReadBytes('\n')
		_, _ = said.Write(line)
		switch m, subscribed := parse(bytes.TrimSpace(line)); {
		case m != nil:
			s.messages <- *m
		case subscribed:
			s.subscribed <- struct{}{}
		}
	}
	return cmd.Wait()
}

// publishWith runs a client program that publishes and ends.
func publishWith(t *testing.T, stdin string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewBufferString(stdin)
	tooLong := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer tooLong.Stop()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", cmd, out)
}

// scriptLine parses what the scripts in python and mqttjs print.
func scriptLine(line []byte) (*message, bool) {
	if string(line) == "SUBSCRIBED" {
		return nil, true
	}
	m := &message{}
	if len(line) == 0 || line[0] != '{' || json.Unmarshal(line, m) != nil {
		return nil, false
	}
	return m, false
}

// scriptFlags are understood by all those scripts.
func scriptFlags(o options) []string {
	args := []string{"--transport", o.transport.seen(), "--protocol", o.version}
	if o.transport.network() == "unix" {
		args = append(args, "--path", o.addr)
	} else {
		host, port, _ := net.SplitHostPort(o.addr)
		args = append(args, "--host", host, "--port", port)
	}
	if o.transport.secure {
		args = append(args, "--ca", caFile)
	}
	if o.transport.mutual {
		args = append(args, "--cert", certFile, "--key", keyFile)
	}
	if o.id != "" {
		args = append(args, "--id", o.id)
	}
	if w := o.will; w != nil {
		args = append(args, "--will-topic", w.Topic, "--will-payload", w.Payload, "--will-qos", strconv.Itoa(w.QoS))
	}
	return args
}

func publishFlags(m message) []string {
	args := []string{"--topic", m.Topic, "--qos", strconv.Itoa(m.QoS)}
	if m.Retain {
		args = append(args, "--retain")
	}
	return args
}

func subscribeFlags(filter string, qos int) []string {
	return []string{"--topic", filter, "--qos", strconv.Itoa(qos)}
}

// installed reports a program that is not to be found.
func installed(program, install string) error {
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("%s is not installed: %s", program, install)
	}
	return nil
}

// transcript is what a process said, from several goroutines.
type transcript struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

func TestScriptLine(t *testing.T) {
	m, subscribed := scriptLine([]byte("SUBSCRIBED"))
	assert.Nil(t, m)
	assert.True(t, subscribed)

	m, subscribed = scriptLine([]byte(`{"topic": "a", "payload": "b", "qos": 1, "retain": true}`))
	assert.Equal(t, &message{"a", "b", 1, true}, m)
	assert.False(t, subscribed)

	m, subscribed = scriptLine([]byte("{broken"))
	assert.Nil(t, m)
	assert.False(t, subscribed)
}
