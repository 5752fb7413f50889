//go:build linux

// Million is a broker and its clients in one process, connected by pipes in
// memory: as many clients as there is memory for, without file descriptors. It
// prints what they cost, as Markdown.
package main

import (
	"flag"
	"fmt"
	"log"
	"runtime"
	"time"
)

func main() {
	n := flag.Int("clients", 1_000_000, "how many")
	timeout := flag.Duration("timeout", 10*time.Minute, "give up after as long")
	flag.Parse()
	time.AfterFunc(*timeout, func() { log.Fatalf("not done after %v", *timeout) })
	text, err := simulate(*n, 4*runtime.GOMAXPROCS(0))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(text)
}
