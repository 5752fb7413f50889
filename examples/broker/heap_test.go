package main

import "testing"

func TestRestIsReachedOnce(t *testing.T) {
	const mb = 1 << 20
	var r rest
	for i, step := range []struct {
		what            string
		allocated, live uint64 // in all; left by the last collection
		want            bool
	}{
		{"a small program", 3 * mb, 2 * mb, false},
		{"and still", 3 * mb, 2 * mb, false},
		{"clients connect", 40 * mb, 10 * mb, false},
		{"more of them", 60 * mb, 20 * mb, false},
		{"calm", 61 * mb, 20 * mb, true},
		{"still calm: it was done", 61 * mb, 16 * mb, false},
		{"a message now and then", 62 * mb, 16 * mb, false},
		{"for hours", 63 * mb, 16 * mb, false},
		{"until it is a quarter of what lives", 65 * mb, 16 * mb, false},
		{"which is collected when it is calm again", 65 * mb, 16 * mb, true},
		{"traffic", 100 * mb, 16 * mb, false},
		{"as much again", 140 * mb, 16 * mb, false},
		{"its end", 140 * mb, 16 * mb, true},
	} {
		if got := r.reached(step.allocated, step.live); got != step.want {
			t.Errorf("step %d, %s: %v; want %v", i, step.what, got, step.want)
		}
	}
}
