//go:build amd64 || arm64

package petrel

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// What every client at rest costs is in these. The allocator rounds up to the
// next of its sizes, so that one field more can cost 32 bytes. Less is not always
// better: what a CONNECT leaves to the collector has 80, 112 and 256 bytes, and what
// lives among that keeps its pages.
func TestSizesOfAClientAtRest(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(session{}), uintptr(160))
	require.LessOrEqual(t, unsafe.Sizeof(Client{}), uintptr(288))
	require.LessOrEqual(t, unsafe.Sizeof(entry{}), uintptr(96))
}
