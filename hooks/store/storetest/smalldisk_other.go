//go:build !linux

package storetest

import (
	"errors"
	"testing"
)

type smallDisk struct{}

func (*smallDisk) setUp(*testing.T) error     { return errors.ErrUnsupported }
func (*smallDisk) dir() string                { return "" }
func (*smallDisk) fill(*testing.T, *process)  {}
func (*smallDisk) widen(*testing.T, *process) {}
