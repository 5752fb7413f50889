//go:build linux

package main

import (
	"errors"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestUseCongestion(t *testing.T) {
	before := congestion()
	type outcome struct {
		err, listens error
		inside       string
	}
	moved := make(chan outcome)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		o := outcome{err: useCongestion("reno"), inside: congestion()}
		if o.err == nil {
			var l net.Listener
			if l, o.listens = net.Listen("tcp", "127.0.0.1:0"); o.listens == nil {
				o.listens = l.Close()
			}
		}
		moved <- o
	}()
	o := <-moved
	assert.Equal(t, before, congestion(), "the rest of the machine keeps its own")
	if errors.Is(o.err, unix.EPERM) {
		assert.ErrorContains(t, o.err, "root")
		assert.Equal(t, before, o.inside)
		return
	}
	require.NoError(t, o.err)
	require.NoError(t, o.listens)
	assert.Equal(t, "reno", o.inside)
}

func TestUseCongestionThatIsUnknown(t *testing.T) {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		failed <- useCongestion("nothing like it")
	}()
	assert.ErrorContains(t, <-failed, `-congestion nothing like it`)
}
