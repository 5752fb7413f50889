package topics

// Nodes returns the number of nodes below the root.
func (t *Tree[V]) Nodes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nodes
}

// Bare reports whether nothing at all hangs on the root.
func (t *Tree[V]) Bare() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.root.empty() && t.groups == nil && t.nodes == 0
}

// Slots returns how many places m has room for that still hold a pointer.
func (m *Matches[V]) Slots() int {
	held := 0
	for _, e := range m.Entries[:cap(m.Entries)] {
		if e != nil {
			held++
		}
	}
	for _, g := range m.Groups[:cap(m.Groups)] {
		if g != nil {
			held++
		}
	}
	for _, n := range append(m.front[:cap(m.front)], m.next[:cap(m.next)]...) {
		if n != nil {
			held++
		}
	}
	return held
}

// Compare is the order of the retained index.
func Compare(a, b string) int { return compare(a, b) }

// Chunks returns the number of chunks, and an error text if the index breaks
// one of its own rules.
func (r *Retained[V]) Chunks() (int, string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n, last := 0, ""
	for i, chunk := range r.chunks {
		if len(chunk) == 0 || len(chunk) > chunkSize {
			return len(r.chunks), "chunk is empty or too long"
		}
		for k, it := range chunk {
			if (i > 0 || k > 0) && compare(last, it.topic) >= 0 {
				return len(r.chunks), "topics out of order: " + last + ", " + it.topic
			}
			last = it.topic
		}
		n += len(chunk)
	}
	if n != r.len {
		return len(r.chunks), "length is wrong"
	}
	return len(r.chunks), ""
}

// StepsPerCall bounds the entries that one call of Next looks at.
const StepsPerCall = stepsPerCall
