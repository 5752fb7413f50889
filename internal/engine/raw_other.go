//go:build !unix

package engine

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
)

// Elsewhere descriptors are not read from directly: connections take the plain path.
const rawSupported = false

type waitReader struct{}

func (*waitReader) init(syscall.RawConn, *atomic.Uint32) {}

func (*waitReader) read(*input) (int, error) { return 0, errors.ErrUnsupported }

type tryWriter struct{}

func (*tryWriter) init(syscall.RawConn) {}

func (*tryWriter) write(net.Buffers) (int, error) { return 0, errors.ErrUnsupported }

func rawGone(syscall.RawConn) bool { return false }

func readable(int) bool { return false }
