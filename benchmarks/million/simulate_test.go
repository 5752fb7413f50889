//go:build linux

package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFleetOfAFewClients(t *testing.T) {
	text, err := simulate(500, 3)
	require.NoError(t, err)
	require.Contains(t, text, "500 clients in one process")
	require.Regexp(t, `\| goroutines +\|`, text)
}

func TestSlabIsRead(t *testing.T) {
	bytes, err := slab()
	require.NoError(t, err)
	require.Positive(t, bytes)
}
