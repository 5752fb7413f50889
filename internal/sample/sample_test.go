package sample

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSamplerLetsAFewLinesASecondPass(t *testing.T) {
	for set, most := range map[int]int{0: Most, 1: 1} {
		synctest.Test(t, func(t *testing.T) {
			s := Sampler{Most: set}
			burst := func() (passed, leftOut int) {
				for range 1000 {
					if n, ok := s.Take(); ok {
						passed++
						leftOut += n
					}
				}
				return passed, leftOut
			}
			passed, leftOut := burst()
			require.Equal(t, most, passed)
			require.Zero(t, leftOut)
			passed, _ = burst()
			require.Zero(t, passed)
			time.Sleep(time.Second)
			passed, leftOut = burst()
			require.Equal(t, most, passed)
			require.Equal(t, 2000-most, leftOut, "the first line says how many were not written")
		})
	}
}
