//go:build race

package engine

// spoil overwrites a buffer that nobody holds any more, so that a test in which
// somebody still reads it fails.
func spoil(b []byte) {
	for i := range b {
		b[i] = 0xDB
	}
}
