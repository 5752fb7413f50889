//go:build !linux

package engine

import "net"

// HasLoops reports whether this system has loops.
const HasLoops = false

// There are no loops without epoll.
type loops struct{}

func newLoops(*Engine) *loops { return nil }

func (*loops) acceptor(net.Listener) Acceptor { return nil }
func (*loops) adopt(net.Conn) Conn            { return nil }
func (*loops) close()                         {}
