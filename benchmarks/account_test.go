//go:build linux

package main

import (
	"testing"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"
)

func TestSharesAreOfTheInnermostFunctionWithAName(t *testing.T) {
	sample := func(value int64, stack ...string) *profile.Sample {
		s := &profile.Sample{Value: []int64{1, value}}
		for _, name := range stack {
			s.Location = append(s.Location, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: name}}}})
		}
		return s
	}
	const engine, core = "github.com/petrelmq/petrel/internal/engine.", "github.com/petrelmq/petrel."
	shares := sharesOf(&profile.Profile{Sample: []*profile.Sample{
		sample(5, "internal/runtime/syscall.Syscall6", engine+"write", engine+"writeSome", core+"(*outbound).flush"),
		sample(5, "internal/runtime/syscall.Syscall6", "syscall.RawSyscall6", engine+"send", engine+"write", core+"(*outbound).flush"),
		sample(5, "internal/runtime/syscall.Syscall6", "syscall.RawSyscall6", engine+"receive", engine+"readSome", engine+"(*socket).fill"),
		sample(5, "internal/runtime/syscall.Syscall6", "syscall.RawSyscall6", engine+"epollCtl", engine+"(*socket).watchLocked"),
		sample(20, "runtime.memmove", "runtime.growslice", "github.com/petrelmq/petrel/packets.(*Publish).AppendHead", core+"(*batch).head"),
		sample(30, "runtime.memmove", "github.com/petrelmq/petrel/packets.(*Publish).Decode", core+"(*Client).publish"),
		sample(20, core+"(*session).deliver", core+"(*Broker).route"),
		sample(10, "runtime.goexit"),
	}})
	require.Equal(t, map[string]float64{
		"write": 0.1, "read": 0.05, "open, close": 0.05, "memory": 0.2, "packets": 0.3, "sessions": 0.2, "other": 0.1,
	}, shares)
}
