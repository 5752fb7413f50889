//go:build amd64 || arm64

package engine

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// Every connection at rest has one of these.
func TestSizeOfASocketAtRest(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(socket{}), uintptr(112))
}
