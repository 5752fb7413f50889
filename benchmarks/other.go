//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "benchmarks: the load generator needs Linux, for epoll and /proc")
	os.Exit(1)
}
