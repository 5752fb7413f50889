//go:build amd64 || arm64

package engine

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// Every connection at rest has one of these. The next smaller size of the allocator
// is that of channels, of which a CONNECT leaves several: a socket between them
// would keep their memory.
func TestSizeOfASocketAtRest(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(socket{}), uintptr(128))
}
