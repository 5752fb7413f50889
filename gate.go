package petrel

import (
	"github.com/petrelmq/petrel/packets"
)

// gate is what a client is to be sent after commits that are not safe yet, in order.
type gate struct{ stages []stage }

// stage is packets that must not leave before a commit is safe, and those that
// were pushed behind them.
type stage struct {
	after  *commit
	frames *frames
}

// stagedLocked returns where a packet belongs that must not leave before a commit
// is safe (nil if it need not wait), or nil if it may leave now.
func (o *outbound) stagedLocked(after *commit) *frames {
	var last *stage
	if o.gate != nil {
		last = &o.gate.stages[len(o.gate.stages)-1]
	}
	switch {
	case after == nil, last != nil && last.after == after, after.safe.Load(), !after.behind(o.client):
		if last == nil {
			return nil
		}
		return last.frames // behind what waits
	case last == nil:
		o.gate = new(gate)
	}
	f := framesPool.Get().(*frames)
	o.gate.stages = append(o.gate.stages, stage{after, f})
	return f
}

// open lets go what stands behind commits that are safe, and reports whether
// there is something to be flushed.
func (o *outbound) open() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gate == nil {
		return false
	}
	stages, opened := o.gate.stages, 0
	for opened < len(stages) && stages[opened].after.safe.Load() {
		o.pending = o.pending.append(stages[opened].frames)
		opened++
	}
	if opened == len(stages) {
		o.gate = nil
	} else {
		o.gate.stages = append(stages[:0], stages[opened:]...)
	}
	return opened > 0
}

// awaitsConnackLocked reports whether the first packet that waits is the CONNACK.
func (o *outbound) awaitsConnackLocked() bool {
	if o.gate == nil {
		return false
	}
	f := o.gate.stages[0].frames
	return f.total() > 0 && packets.Type(f.first()>>4) == packets.TypeConnack
}

// dropStagesLocked gives up what waits for commits: the connection ends.
func (o *outbound) dropStagesLocked() {
	if o.gate == nil {
		return
	}
	for _, s := range o.gate.stages {
		o.size.Add(-int64(s.frames.total()))
		s.frames.recycle()
	}
	o.gate = nil
}
