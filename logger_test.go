package petrel

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSamplerLetsAFewLinesASecondPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sampler
		burst := func() (passed, leftOut int) {
			for range 1000 {
				if n, ok := s.take(); ok {
					passed++
					leftOut += n
				}
			}
			return passed, leftOut
		}
		passed, leftOut := burst()
		require.Equal(t, linesPerSecond, passed)
		require.Zero(t, leftOut)
		passed, _ = burst()
		require.Zero(t, passed)
		time.Sleep(time.Second)
		passed, leftOut = burst()
		require.Equal(t, linesPerSecond, passed)
		require.Equal(t, 2000-linesPerSecond, leftOut, "the first line says how many were not written")
	})
}
