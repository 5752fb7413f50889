//go:build !linux

// Million needs Linux.
package main

import "log"

func main() { log.Fatal("million: the figures come from /proc, which only Linux has") }
