package engine

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// someLoops are n loops that do not run.
func someLoops(n int) *loops {
	ls := &loops{table: new(table)}
	for range n {
		ls.all = append(ls.all, &loop{loops: ls})
	}
	return ls
}

// open gives the loops n more sockets, which are closed when the test has ended.
func open(t *testing.T, ls *loops, n int) (all []*socket) {
	for range n {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		s := ls.newSocket(fd, nil)
		t.Cleanup(func() { s.Close(0) })
		all = append(all, s)
	}
	return all
}

func (ls *loops) shares() (n []int64) {
	for _, l := range ls.all {
		n = append(n, l.sockets.Load())
	}
	return n
}

func TestLoopsHaveTheSameShareOfSockets(t *testing.T) {
	ls := someLoops(3)
	all := open(t, ls, 60)
	require.Equal(t, []int64{20, 20, 20}, ls.shares())
	for _, s := range all {
		if s.loop == ls.all[1] {
			s.Close(0)
			s.Close(0)
		}
	}
	require.Equal(t, []int64{20, 0, 20}, ls.shares())
	open(t, ls, 12)
	require.Equal(t, []int64{20, 12, 20}, ls.shares(), "who has room gets them")
	open(t, ls, 20)
	require.Equal(t, []int64{24, 24, 24}, ls.shares())
}

// One client that subscribes and one that publishes, and again: each loop has some of
// either. By chance alone that fails once in 2^62 runs.
func TestClientsThatComeInTurnAreSpreadOverTheLoops(t *testing.T) {
	ls := someLoops(2)
	publishers := map[*loop]int{}
	for range 63 {
		open(t, ls, 1)
		publishers[open(t, ls, 1)[0].loop]++
	}
	require.Len(t, publishers, 2)
	require.Equal(t, []int64{63, 63}, ls.shares())
}
