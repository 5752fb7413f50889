package petrel

import (
	"cmp"
	"slices"
)

// flightState says what a message on its way to a client waits for.
type flightState byte

const (
	awaitAck  flightState = iota // PUBACK, or PUBREC for QoS 2
	awaitComp                    // PUBCOMP; the message itself has been let go
)

// flight is a message that was sent to a client and is not finished.
type flight struct {
	delivery
	seq     uint64 // order of the first transmissions
	id      uint16 // 0 means that the place is free
	state   flightState
	counted bool // takes one of the send quota of this connection
	unsent  bool // not sent on this connection yet
}

// inflight holds the messages on their way to one client by packet identifier.
// It is a ring in which an identifier has one possible place, so that finding
// one is an index and identifiers in use are never given again. Guarded by session.mu.
type inflight struct {
	ring []flight // a power of two long
	seq  uint64
	n    int32
	last uint16 // identifier given last
}

const maximumFlights = 1 << 16

// add gives d an identifier that is not in use. There must be less than 65,535 flights.
func (t *inflight) add(d delivery) *flight {
	if 4*int(t.n) >= 3*len(t.ring) && len(t.ring) < maximumFlights {
		t.grow()
	}
	for {
		t.last++
		if t.last == 0 {
			continue
		}
		if f := t.place(t.last); f.id == 0 {
			t.seq++
			t.n++
			*f = flight{delivery: d, seq: t.seq, id: t.last, counted: true}
			return f
		}
	}
}

// restore adds a flight as it was before the process began: its seq is above all others.
func (t *inflight) restore(f flight) {
	for 4*int(t.n) >= 3*len(t.ring) && len(t.ring) < maximumFlights || t.place(f.id).id != 0 {
		t.grow()
	}
	*t.place(f.id) = f
	t.n++
	t.seq, t.last = f.seq, f.id
}

func (t *inflight) place(id uint16) *flight { return &t.ring[int(id)&(len(t.ring)-1)] }

// get returns the flight with the identifier, nil if there is none.
func (t *inflight) get(id uint16) *flight {
	if t.n == 0 {
		return nil
	}
	if f := t.place(id); f.id == id && id != 0 {
		return f
	}
	return nil
}

func (t *inflight) remove(f *flight) {
	*f = flight{}
	t.n--
}

// ordered returns the flights in the order of their first transmission.
func (t *inflight) ordered() []*flight {
	all := make([]*flight, 0, t.n)
	for i := range t.ring {
		if t.ring[i].id != 0 {
			all = append(all, &t.ring[i])
		}
	}
	slices.SortFunc(all, func(a, b *flight) int { return cmp.Compare(a.seq, b.seq) })
	return all
}

func (t *inflight) grow() {
	old := t.ring
	t.ring = make([]flight, max(4, 2*len(old)))
	for _, f := range old {
		if f.id != 0 {
			*t.place(f.id) = f
		}
	}
}

// settle gives back what an empty table of an idle session does not need.
func (t *inflight) settle() {
	if t.n == 0 {
		t.ring = nil
	}
}
