package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How this program keeps its heap, which is for a program to decide and not for a
// library. Go collects when the heap has doubled. Left to itself that is too often
// for a broker with few clients and much traffic, whose heap doubles sixty times a
// second, and too late for one with many clients that has come to rest: what was
// allocated for their CONNECTs would stay for hours.

// ballast is what the heap counts more than there is, in bytes: nothing is
// collected before there is twice as much. Its pages are never touched, so they
// take no memory.
const ballast = 16 << 20

// restStep is how long the broker has to be at rest until memory goes back to the
// system.
const restStep = 5 * time.Second

// keepHeap lets collections be rare while there is much to do, and gives memory back
// whenever the program comes to rest, until ctx ends. GOGC and GOMEMLIMIT in the
// environment have precedence.
func keepHeap(ctx context.Context) {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		b := make([]byte, ballast)
		defer runtime.KeepAlive(b)
	}
	returnMemory(ctx)
}

// returnMemory gives memory back whenever the program comes to rest, until ctx ends.
func returnMemory(ctx context.Context) {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(restStep)
	defer tick.Stop()
	var r rest
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		metrics.Read(s)
		if r.reached(s[0].Value.Uint64(), s[1].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	}
}

// rest tells when it is worth it. Both are bytes that were allocated since the
// program began.
type rest struct {
	seen     uint64 // until the last step
	returned uint64 // until memory was given back
}

// reached reports whether hardly anything was allocated in the last step, but much
// since memory was last given back, measured by what the last collection left.
func (r *rest) reached(allocated, live uint64) bool {
	calm := allocated-r.seen <= live/16
	r.seen = allocated
	if !calm || allocated-r.returned < max(live/4, 4<<20) {
		return false
	}
	r.returned = allocated
	return true
}
