package main_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
)

// 127.0.0.2 is an address on Linux only.
func TestSeveralAddresses(t *testing.T) {
	p := start(t, "-tcp", "127.0.0.1:0,127.0.0.2:0", "-ws", "")
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
		assert.Equal(t, welcome, answer(t, dial(t, p.said(`address=(`+regexp.QuoteMeta(host)+`:\d+)`))))
	}
}
